"""Pictures and clips given to LTX-Video, against diffusers' pipelines, with tiny random weights in float32."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import ltx_names
import tiny_families
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline, LTXImageToVideoPipeline
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition

from kineograph.nodes import edit, sample, schedules, text, video, video_models
from kineograph.nodes.sockets import Video

pytestmark = pytest.mark.usefixtures("no_gradients")
WORDS, NOT = "a red circle", "blurred"
STEPS, SCALE, SEED = 4, 3.0, 7


def certain(vae):
    """An encoder without doubt: diffusers draws from its posterior, we take the mean."""
    vae.encoder.conv_out.conv.weight[-1] = 0.0
    vae.encoder.conv_out.conv.bias[-1] = -1e4
    return vae


def clip(frames: int, size: int = 64) -> Video:
    return Video(torch.rand(1, frames, 3, size, size, generator=torch.Generator().manual_seed(frames)), 25.0)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """LTX-Video before 0.9.5."""
    parts = tiny_families.ltx_pipeline().components
    certain(parts["vae"])
    pipeline = tiny_families.quiet(LTXImageToVideoPipeline(**parts))
    folder = tiny_families.saved(pipeline, tmp_path_factory.mktemp("ltx") / "LTX-tiny")
    return pipeline, video_models.load_video_model(folder, dtype="float32")


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    """LTX-Video since 0.9.5."""
    vae = certain(ltx_names.vae("0.9.5"))
    parts = (tiny_families.text_encoder("T5"), tiny_families.tokenizer(), ltx_names.transformer())
    pipeline = tiny_families.quiet(LTXConditionPipeline(FlowMatchEulerDiscreteScheduler(), vae, *parts))
    folder = tiny_families.saved(pipeline, tmp_path_factory.mktemp("ltx") / "LTX-0.9.5-tiny")
    return pipeline, video_models.load_video_model(folder, dtype="float32")


def sampled(model, latent, sigmas):
    shown, not_shown = (text.encode_text(model.text_encoder, words) for words in (WORDS, NOT))
    latent = edit.begin_sampling(latent)
    for step in sigmas:
        guided = sample.guided_velocity(model.dit, sample.patchify(latent), shown, not_shown, step, SCALE)
        latent = sample.euler_step(latent, sample.unpatchify(guided), step)
    return latent


def noise_of(model, frames: int, size: int):
    """The noise that a pipeline draws of its generator."""
    latent = sample.latent_noise(model.vae, frames=frames, height=size, width=size, fps=25.0, seed=0)
    return replace(latent, x=torch.randn(latent.x.shape, generator=torch.Generator().manual_seed(SEED)))


def given(frames: int, size: int) -> dict:
    return {
        "prompt": WORDS, "negative_prompt": NOT, "guidance_scale": SCALE, "height": size, "width": size,
        "num_frames": frames, "frame_rate": 25, "num_inference_steps": STEPS, "output_type": "latent",
        "generator": torch.Generator().manual_seed(SEED),
    }  # fmt: skip


def pictures(shot: Video) -> list:
    return [frame * 2 - 1 for frame in shot.frames[0]]  # what its processor makes of a picture


def test_image_to_video_is_that_of_the_pipeline(first):
    pipeline, model = first
    picture = clip(1, 32)
    begun = edit.give_video(noise_of(model, 9, 32), model.vae, picture)
    shift = schedules.token_shift(begun)
    ours = sampled(model, begun, schedules.stretch_sigmas(sample.shifted_sigmas(STEPS, shift)))
    packed = pipeline._pack_latents(torch.where(begun.mask == 0, begun.clean, begun.x))
    reference = pipeline(**given(9, 32), latents=packed).frames
    assert (pipeline._pack_latents(ours.x) - reference).abs().max() < 1e-5
    assert torch.equal(ours.x[:, :, :1], video.vae_encode(model.vae, picture).x)


CASES = {
    "nothing": [],
    "a picture first": [(1, 0)],
    "a clip first": [(9, 0)],
    "a picture later": [(1, 13)],
    "pictures at both ends": [(1, 0), (1, 24)],
    "the beginning of a clip later": [(9, 8)],
    "a clip last, and a picture": [(17, 8), (1, 3)],
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # the pipeline's schedule
@pytest.mark.parametrize("case", CASES)
def test_given_frames_are_those_of_the_condition_pipeline(later, case):
    pipeline, model = later
    latent, conditions = noise_of(model, 25, 64), []
    for frames, at in CASES[case]:
        latent = edit.give_video(latent, model.vae, clip(frames), at=at)
        shots = torch.stack(pictures(clip(frames)))
        conditions.append(LTXVideoCondition(video=shots[None], frame_index=at))
    ours = sampled(model, latent, schedules.linear_quadratic_sigmas(STEPS))
    pipeline.video_processor.preprocess_video = lambda shots, *_: shots.transpose(1, 2)
    told = {"image_cond_noise_scale": 0.0, "conditions": conditions or None}
    reference = pipeline(**given(25, 64), **told).frames
    assert (ours.x - reference).abs().max() < 1e-5
    assert ours.x.shape == (1, 8, 4, 2, 2)


def test_what_cannot_be_given_is_told_with_the_way_out(first, later):
    latent = noise_of(later[1], 25, 64)
    with pytest.raises(ValueError, match="trim_video to 9 frames"):
        edit.give_video(latent, later[1].vae, clip(12), at=4)
    with pytest.raises(ValueError, match="at a multiple of 8 frames with this model, and here 5 are before it: 0 or 8"):
        edit.give_video(latent, later[1].vae, clip(17), at=5)
    latent = noise_of(first[1], 9, 32)
    with pytest.raises(ValueError, match="VAE is causal"):
        edit.give_video(latent, first[1].vae, clip(1, 32), at=4)
