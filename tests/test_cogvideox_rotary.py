"""CogVideoX-5b and 1.5, whose places are rotary, against diffusers' own pipeline: tiny random weights in float32."""

from __future__ import annotations

import pytest

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families

from kineograph.nodes import sample, schedules, text, video, video_models

pytestmark = pytest.mark.usefixtures("no_gradients")
WORDS, NOT = "a red circle", "blurred"
STEPS, SCALE = 4, 6.0
ROTARY = {"use_rotary_positional_embeddings": True, "attention_head_dim": 16, "num_attention_heads": 2}


def opened(pipeline, folder):
    return video_models.load_video_model(tiny_families.saved(pipeline, folder), dtype="float32")


def sampled(model, latent, depth):
    shown, not_shown = (text.encode_text(model.text_encoder, words) for words in (WORDS, NOT))
    for step in schedules.ddim_sigmas(video_models.cogvideox_levels(1.0), STEPS):
        patches = sample.patchify(latent, depth, 2, 2)
        guided = sample.guided_velocity(model.dit, patches, shown, not_shown, step, SCALE)
        latent = sample.euler_step(latent, sample.unpatchify(guided), step)
    return latent


@pytest.mark.parametrize(("height", "width"), [(32, 48), (64, 32), (48, 32)])
def test_5b_is_that_of_the_pipeline_at_sizes_that_are_not_the_trained_one(height, width, tmp_path):
    pipeline = tiny_families.cogvideox_pipeline(1.0, **ROTARY, sample_height=12, sample_width=18)
    model = opened(pipeline, tmp_path / "CogVideoX-5b")
    noise = sample.latent_noise(model.vae, frames=9, height=height, width=width, fps=8.0, seed=3)
    latent = sampled(model, noise, 1)
    given = {"height": height, "width": width, "num_frames": 9, "num_inference_steps": STEPS, "guidance_scale": SCALE}
    given |= {"prompt": WORDS, "negative_prompt": NOT, "latents": noise.x.transpose(1, 2)}
    reference = pipeline(**given, output_type="latent").frames
    assert (latent.x.transpose(1, 2) - reference).abs().max() < 1e-5
    pixels = pipeline(**given, output_type="pt").frames
    assert (video.vae_decode(model.vae, latent).frames - pixels).abs().max() < 1e-5


def test_15_has_tokens_of_two_latent_frames_and_a_latent_frame_before_the_video(tmp_path):
    sizes = {"patch_size_t": 2, "patch_bias": False, "sample_height": 300, "sample_width": 300}
    pipeline = tiny_families.cogvideox_pipeline(1.0, **ROTARY | sizes)
    model = opened(pipeline, tmp_path / "CogVideoX-1.5")
    noise = sample.latent_noise(model.vae, frames=13, height=32, width=48, fps=16.0, seed=3)
    latent = video_models.leave_out_padding(sampled(model, noise, 2))
    given = {"height": 32, "width": 48, "num_frames": 9, "num_inference_steps": STEPS, "guidance_scale": SCALE}
    given |= {"prompt": WORDS, "negative_prompt": NOT, "latents": noise.x.transpose(1, 2)}
    pixels = pipeline(**given, output_type="pt").frames
    assert pixels.shape[1] == latent.frames == 9
    assert (video.vae_decode(model.vae, latent).frames - pixels).abs().max() < 1e-5
    with pytest.raises(ValueError, match="3 cannot be left out"):
        video_models.leave_out_padding(latent, 3)


def test_tables_that_nobody_published_are_refused(tmp_path):
    pipeline = tiny_families.cogvideox_pipeline(sample_height=2, sample_width=98)
    with pytest.raises(ValueError, match="table of places"):
        opened(pipeline, tmp_path / "wide")
