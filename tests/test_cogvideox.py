"""CogVideoX-2b from a diffusers folder against diffusers' own pipeline, with tiny random weights in float32."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families

from kineograph.nodes import edit, sample, schedules, text, video, video_models
from kineograph.nodes.sockets import Video

pytestmark = pytest.mark.usefixtures("no_gradients")
WORDS, NOT = "a red circle", "blurred"
STEPS, SCALE = 5, 6.0


@pytest.fixture(scope="module")
def pipeline():
    return tiny_families.cogvideox_pipeline()


@pytest.fixture(scope="module")
def model(pipeline, tmp_path_factory):
    folder = tiny_families.saved(pipeline, tmp_path_factory.mktemp("cog") / "CogVideoX-tiny")
    return video_models.load_video_model(folder, dtype="float32")


@pytest.fixture
def noise(model):
    return sample.latent_noise(model.vae, frames=9, height=32, width=32, fps=8.0, seed=3)


def sampled(model, latent):
    shown, not_shown = (text.encode_text(model.text_encoder, words) for words in (WORDS, NOT))
    for step in schedules.ddim_sigmas(video_models.cogvideox_levels(), STEPS):
        patches = sample.patchify(latent, 1, 2, 2)
        guided = sample.guided_velocity(model.dit, patches, shown, not_shown, step, SCALE)
        latent = sample.euler_step(latent, sample.unpatchify(guided), step)
    return latent


def test_text_to_video_is_that_of_the_pipeline_with_its_own_schedule(pipeline, model, noise):
    latent = sampled(model, noise)
    given = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": STEPS, "guidance_scale": SCALE}
    words = {"prompt": WORDS, "negative_prompt": NOT}
    start = noise.x.transpose(1, 2).clone()
    reference = pipeline(**words, **given, latents=start, output_type="latent").frames
    assert (latent.x.transpose(1, 2) - reference).abs().max() < 1e-5
    pixels = pipeline(**words, **given, latents=start, output_type="pt").frames
    assert (video.vae_decode(model.vae, latent).frames - pixels).abs().max() < 1e-5


def test_the_vae_encodes_as_the_library(pipeline, model):
    clip = Video(torch.rand(1, 9, 3, 32, 32, generator=torch.Generator().manual_seed(2)), 8.0)
    mean = pipeline.vae.encode(2 * clip.frames.transpose(1, 2) - 1).latent_dist.mean
    ours = video.vae_encode(model.vae, clip).x
    assert (ours - mean * pipeline.vae.config.scaling_factor).abs().max() < 1e-5


def test_frames_cannot_be_given_to_a_model_that_knows_one_level(model, noise):
    picture = Video(torch.rand(1, 1, 3, 32, 32), 8.0)
    with pytest.raises(ValueError, match="one noise level for the whole clip"):
        sampled(model, edit.begin_sampling(edit.give_video(noise, model.vae, picture)))


@pytest.mark.parametrize("frames", [1, 3, 7])
def test_the_vae_decodes_in_pieces_as_the_library(pipeline, model, frames):
    x = torch.randn(1, 4, frames, 4, 4, generator=torch.Generator().manual_seed(5))
    raw = x * torch.tensor(1 / pipeline.vae.config.scaling_factor)
    assert torch.equal(model.vae.network.decode(x), (pipeline.vae.decode(raw).sample / 2 + 0.5).clamp(0, 1))


def test_the_vae_makes_pairs_behind_one_frame_and_says_so(model):
    """Of an even number of latent frames the library makes three frames more than they stand for."""
    with pytest.raises(ValueError, match=r"here are 4\. Give latent_noise 1 \+ a multiple of 8 frames"):
        model.vae.network.decode(torch.zeros(1, 4, 4, 4, 4))
    with pytest.raises(ValueError, match=r"frames = 15 is not 1 \+ a multiple of 8; the nearest is 17"):
        sample.latent_noise(model.vae, frames=15, height=32, width=32)


def test_the_vae_decodes_in_memory_that_does_not_grow_with_the_clip(model):
    assert tiny_families.decoding_peak(model, 21) <= 1.15 * tiny_families.decoding_peak(model, 5)
