"""LTX-Video from a diffusers folder against diffusers' own pipeline, with tiny random weights in float32."""

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
SIZE = {"frames": 9, "height": 32, "width": 32}
STEPS, SCALE = 5, 3.0


@pytest.fixture(scope="module")
def pipeline():
    return tiny_families.ltx_pipeline()


@pytest.fixture(scope="module")
def model(pipeline, tmp_path_factory):
    folder = tiny_families.saved(pipeline, tmp_path_factory.mktemp("ltx") / "LTX-tiny")
    return video_models.load_video_model(folder, dtype="float32")


@pytest.fixture
def noise(model):
    return sample.latent_noise(model.vae, **SIZE, fps=25.0, seed=3)


def sampled(model, latent):
    shown, not_shown = (text.encode_text(model.text_encoder, words) for words in (WORDS, NOT))
    shift = schedules.token_shift(latent)
    for step in schedules.stretch_sigmas(sample.shifted_sigmas(STEPS, shift)):
        guided = sample.guided_velocity(model.dit, sample.patchify(latent), shown, not_shown, step, SCALE)
        latent = sample.euler_step(latent, sample.unpatchify(guided), step)
    return latent


def test_text_to_video_is_that_of_the_pipeline_with_its_own_schedule(pipeline, model, noise):
    latent = sampled(model, noise)
    given = {"height": 32, "width": 32, "num_frames": 9, "frame_rate": 25, "num_inference_steps": STEPS}
    words = {"prompt": WORDS, "negative_prompt": NOT, "guidance_scale": SCALE}
    packed = pipeline._pack_latents(noise.x)
    reference = pipeline(**words, **given, latents=packed.clone(), output_type="latent").frames
    assert (pipeline._pack_latents(latent.x) - reference).abs().max() < 1e-5
    pixels = pipeline(**words, **given, latents=packed.clone(), output_type="pt").frames
    assert (video.vae_decode(model.vae, latent).frames - pixels).abs().max() < 1e-5


def test_the_vae_encodes_as_the_library_and_a_prefix_is_exact(pipeline, model):
    clip = Video(torch.rand(1, 9, 3, 32, 32, generator=torch.Generator().manual_seed(2)), 25.0)
    ours = video.vae_encode(model.vae, clip).x
    mean = pipeline.vae.encode(2 * clip.frames.transpose(1, 2) - 1).latent_dist.mean
    theirs = pipeline._normalize_latents(mean, pipeline.vae.latents_mean, pipeline.vae.latents_std)
    assert (ours - theirs).abs().max() < 1e-5
    first = video.vae_encode(model.vae, Video(clip.frames[:, :5], 25.0)).x
    assert (ours[:, :, :2] - first).abs().max() < 1e-5


def test_a_picture_is_given_as_the_first_frame(model, noise):
    picture = Video(torch.rand(1, 1, 3, 32, 32, generator=torch.Generator().manual_seed(6)), 25.0)
    latent = sampled(model, edit.begin_sampling(edit.give_video(noise, model.vae, picture)))
    assert torch.equal(latent.x[:, :, :1], video.vae_encode(model.vae, picture).x)


def test_sizes_come_with_the_nearest(model):
    with pytest.raises(ValueError, match="1 \\+ a multiple of 4; the nearest is 9"):
        sample.latent_noise(model.vae, **SIZE | {"frames": 8})
