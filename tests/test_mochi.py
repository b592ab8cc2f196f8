"""Mochi from a diffusers folder against diffusers' own pipeline, with tiny random weights in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families

from kineograph.nodes import edit, sample, schedules, text, video, video_models
from kineograph.nodes.sockets import Video

# the library turns its own rotary table off from autocast in a way that a CPU warns of
pytestmark = [pytest.mark.usefixtures("no_gradients"), pytest.mark.filterwarnings("ignore:In CPU autocast")]

WORDS, NOT = "a red circle", "blurred"
SIZE = {"frames": 13, "height": 32, "width": 48}
WORKFLOW = Path(__file__).parent.parent / "workflows" / "mochi_text_to_video.json"
STEPS, SCALE = 6, 4.5


@pytest.fixture(scope="module")
def pipeline():
    return tiny_families.mochi_pipeline(force_zeros_for_empty_prompt=True)


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory):
    return tiny_families.saved(pipeline, tmp_path_factory.mktemp("mochi") / "Mochi-tiny")


@pytest.fixture(scope="module")
def model(folder):
    return video_models.load_video_model(folder, dtype="float32")


@pytest.fixture
def noise(model):
    return sample.latent_noise(model.vae, **SIZE, fps=30.0, seed=3)


def sampled(model, latent, not_shown=NOT):
    shown, not_shown = (text.encode_text(model.text_encoder, words) for words in (WORDS, not_shown))
    for step in schedules.linear_quadratic_sigmas(STEPS):
        patches = sample.patchify(latent, 1, 2, 2)
        guided = sample.guided_velocity(model.dit, patches, shown, not_shown, step, SCALE)
        latent = sample.euler_step(latent, sample.unpatchify(guided), step)
    return latent


@pytest.mark.parametrize("not_shown", [NOT, ""])
def test_text_to_video_is_that_of_the_pipeline_with_its_own_schedule(pipeline, model, noise, not_shown):
    latent = sampled(model, noise, not_shown)
    given = {"height": 32, "width": 48, "num_frames": 13, "num_inference_steps": STEPS, "guidance_scale": SCALE}
    words = {"prompt": WORDS, "negative_prompt": not_shown}
    reference = pipeline(**words, **given, latents=noise.x.clone(), output_type="latent").frames
    assert (latent.x - reference).abs().max() < 1e-5
    pixels = pipeline(**words, **given, latents=noise.x.clone(), output_type="pt").frames
    assert (video.vae_decode(model.vae, latent).frames - pixels).abs().max() < 1e-5
    assert pixels.std() > 0.01


def test_the_vae_encodes_as_the_library_and_a_prefix_is_exact(pipeline, model):
    clip = Video(torch.rand(1, 13, 3, 32, 32, generator=torch.Generator().manual_seed(2)), 30.0)
    ours = video.vae_encode(model.vae, clip).x
    mean = pipeline.vae.encode(2 * clip.frames.transpose(1, 2) - 1).latent_dist.mean
    shift, scale = (
        torch.tensor(pipeline.vae.config[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std")
    )
    assert (ours - (mean - shift) / scale).abs().max() < 1e-5
    first = video.vae_encode(model.vae, Video(clip.frames[:, :7], 30.0)).x
    assert (ours[:, :, :2] - first).abs().max() < 1e-5


def test_the_vae_decodes_in_pieces_whose_memory_does_not_grow_with_the_clip(model):
    assert tiny_families.decoding_peak(model, 12) <= 1.15 * tiny_families.decoding_peak(model, 3)


def test_frames_cannot_be_given_to_a_model_that_knows_one_level(model, noise):
    picture = Video(torch.rand(1, 1, 3, 32, 48), 30.0)
    with pytest.raises(ValueError, match="one noise level for the whole clip"):
        sampled(model, edit.begin_sampling(edit.give_video(noise, model.vae, picture)))


def test_sizes_come_with_the_nearest(model):
    with pytest.raises(ValueError, match="1 \\+ a multiple of 6; the nearest is 13") as error:
        sample.latent_noise(model.vae, **SIZE | {"frames": 12, "height": 40})
    assert "height = 40 is not a multiple of 16; the nearest is 32" in str(error.value)


def test_the_workflow_file_runs_on_a_folder_and_judges_sizes_before(folder, tmp_path):
    tiny_families.runs_and_judges_sizes(WORKFLOW, (folder, "mochi-1"), tmp_path, frames=7, wrong=162, nearest=163)


@pytest.mark.parametrize("numbers", ["bfloat16", "float8_e4m3fn"])
def test_smaller_numbers_load_and_sample(folder, numbers):
    model = video_models.load_video_model(folder, dtype=numbers, vae_dtype="bfloat16")
    assert {each.dtype for each in model.dit.network.parameters()} == {torch.bfloat16, getattr(torch, numbers)}
    noise = sample.latent_noise(model.vae, 7, 32, 32)
    words = text.encode_text(model.text_encoder, WORDS)
    said = sample.unpatchify(sample.dit_velocity(model.dit, sample.patchify(noise, 1, 2, 2), words, 0.5))
    assert said.x.dtype is torch.float32
    assert video.vae_decode(model.vae, said).frames.isfinite().all()
