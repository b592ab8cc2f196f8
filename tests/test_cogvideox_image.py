"""CogVideoX's image to video, 5b and 1.5, and SDEdit against diffusers' pipelines: tiny random weights in float32."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXVideoToVideoPipeline
from diffusers.pipelines.cogvideo import pipeline_cogvideox_image2video, pipeline_cogvideox_video2video
from PIL import Image

from kineograph import default_runtime
from kineograph.nodes import edit, sample, schedules, shown, text, video, video_models
from kineograph.nodes.sockets import Video

pytestmark = pytest.mark.usefixtures("no_gradients")
WORKFLOWS = Path(__file__).parent.parent / "workflows"
WORDS, NOT = "a red circle", "blurred"
STEPS, SCALE = 4, 6.0
ROTARY = {"use_rotary_positional_embeddings": True, "attention_head_dim": 16, "num_attention_heads": 2}
SHOWN = ROTARY | {"in_channels": 8, "use_learned_positional_embeddings": True}
SHOWN_15 = ROTARY | {"in_channels": 8, "ofs_embed_dim": 2, "patch_size_t": 2, "patch_bias": False}
SHOWN_15 |= {"sample_height": 300, "sample_width": 300}


def mean_of(encoded, *_, **__):
    """What diffusers draws from the VAE's posterior, we take the mean of."""
    return encoded.latent_dist.mode()


class Tiny:
    """A pipeline of diffusers, and its folder loaded as ours."""

    def __init__(self, kind, folder, frames, depth, vae=None, **sizes) -> None:
        made = tiny_families.cogvideox_pipeline(1.0, **sizes)
        made.vae.register_to_config(scaling_factor=0.7, **vae or {})
        self.pipeline = tiny_families.quiet(kind(**made.components))
        self.folder = tiny_families.saved(self.pipeline, folder)
        self.model = video_models.load_video_model(self.folder, dtype="float32")
        self.noise = sample.latent_noise(self.model.vae, frames=frames, height=32, width=32, fps=8.0, seed=3)
        self.depth = depth

    def ours(self, latent, steps=None):
        shown, not_shown = (text.encode_text(self.model.text_encoder, words) for words in (WORDS, NOT))
        for step in steps or schedules.ddim_sigmas(video_models.cogvideox_levels(1.0), STEPS):
            patches = sample.patchify(latent, self.depth, 2, 2)
            guided = sample.guided_velocity(self.model.dit, patches, shown, not_shown, step, SCALE)
            latent = sample.euler_step(latent, sample.unpatchify(guided), step)
        return latent

    def theirs(self, output_type="latent", **given):
        given |= {"prompt": WORDS, "negative_prompt": NOT, "num_inference_steps": STEPS, "guidance_scale": SCALE}
        return self.pipeline(**given, height=32, width=32, output_type=output_type).frames


@pytest.fixture(scope="module")
def shown_5b(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cog") / "CogVideoX-5b-I2V"
    return Tiny(CogVideoXImageToVideoPipeline, folder, 9, 1, **SHOWN)


@pytest.fixture(scope="module")
def shown_15(tmp_path_factory):
    folder, wrong = tmp_path_factory.mktemp("cog") / "CogVideoX1.5-5B-I2V", {"invert_scale_latents": True}
    return Tiny(CogVideoXImageToVideoPipeline, folder, 13, 2, wrong, **SHOWN_15)


@pytest.fixture(autouse=True)
def the_mean(monkeypatch):
    for each in (pipeline_cogvideox_image2video, pipeline_cogvideox_video2video):
        monkeypatch.setattr(each, "retrieve_latents", mean_of)


def whole_pixels(frames: int = 1) -> Video:
    made = torch.Generator().manual_seed(1)
    return Video(torch.randint(0, 256, (1, frames, 3, 32, 32), generator=made) / 255, 8.0)


def as_images(clip: Video) -> list[Image.Image]:
    return [Image.fromarray((each.permute(1, 2, 0) * 255).round().byte().numpy()) for each in clip.frames[0]]


@pytest.mark.parametrize("kind", ["shown_5b", "shown_15"])
def test_image_to_video_is_that_of_the_pipeline(kind, request):
    tiny, picture = request.getfixturevalue(kind), whole_pixels()
    vae = tiny.model.vae
    latent = tiny.ours(edit.begin_sampling(edit.give_video(tiny.noise, vae, picture)))
    given = {"image": as_images(picture)[0], "num_frames": 9, "latents": tiny.noise.x.transpose(1, 2)}
    assert (latent.x.transpose(1, 2) - tiny.theirs(**given)).abs().max() < 1e-5
    if tiny.depth == 2:
        latent = video_models.leave_out_padding(latent)
    pixels = tiny.theirs("pt", **given)
    assert (video.vae_decode(vae, latent).frames - pixels).abs().max() < 1e-5


@pytest.fixture(scope="module")
def words_5b(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cog") / "CogVideoX-5b"
    return Tiny(CogVideoXVideoToVideoPipeline, folder, 9, 1, **ROTARY)


def test_sdedit_is_that_of_the_pipeline_from_video_to_video(words_5b):
    """Its noise is drawn with frames before channels, its strength is a share of the steps."""
    tiny, clip, strength = words_5b, whole_pixels(9), 0.5
    drawn = torch.randn(tiny.noise.x.transpose(1, 2).shape, generator=torch.Generator().manual_seed(4))
    noise = replace(tiny.noise, x=drawn.transpose(1, 2))
    sigmas = schedules.ddim_sigmas(video_models.cogvideox_levels(1.0), STEPS)
    level = schedules.strength_sigma(sigmas, strength)
    noisy = edit.begin_sampling(edit.sdedit(noise, video.vae_encode(tiny.model.vae, clip), level))
    latent = tiny.ours(noisy, schedules.sigmas_from(sigmas, level))
    given = {"video": as_images(clip), "strength": strength, "generator": torch.Generator().manual_seed(4)}
    assert (latent.x.transpose(1, 2) - tiny.theirs(**given)).abs().max() < 1e-5


def on_cogvideox(name: str, tiny: Tiny) -> dict:
    """A workflow file of the embedded model with CogVideoX in its place; 1.5 leaves out what fills up its tokens."""
    raw = json.loads((WORKFLOWS / f"{name}.json").read_text())
    raw["inputs"]["model"]["default"] = tiny.folder
    if tiny.depth == 2:
        raw["nodes"]["whole"] = {"type": "leave_out_padding@1", "links": {"latent": "denoise.latent"}}
        raw["nodes"]["decoded"]["links"]["latent"] = "whole"
    return raw


@pytest.mark.parametrize(("kind", "frames"), [("shown_5b", 9), ("shown_15", 13)])
def test_the_embedded_models_own_file_of_image_to_video_runs(kind, frames, request, tmp_path):
    raw = on_cogvideox("image_to_video", request.getfixturevalue(kind))
    given = {"steps": 2, "height": 32, "width": 32, "frames": frames}
    ran = default_runtime().run(raw, given, out=tmp_path)
    assert ran.outputs["video"].frames.shape == (1, 9, 3, 32, 32)


def test_the_embedded_models_own_file_of_sdedit_runs(words_5b, tmp_path):
    raw = on_cogvideox("sdedit", words_5b)
    given = {"steps": 2, "height": 32, "width": 32, "frames": 9}
    ran = default_runtime().run(raw, given, out=tmp_path)
    assert ran.outputs["video"].frames.shape == (1, 9, 3, 32, 32)


def test_what_these_models_cannot_have_is_told_with_the_way_out(shown_5b):
    vae, picture = shown_5b.model.vae, whole_pixels()
    with pytest.raises(ValueError, match="trim_video to one frame, and give it at 0"):
        edit.give_video(shown_5b.noise, vae, whole_pixels(5))
    with pytest.raises(ValueError, match="1 from frame 8 on are given"):
        edit.give_video(shown_5b.noise, vae, picture, from_end=True)
    with pytest.raises(ValueError, match="it is shown none: put give_video"):
        shown_5b.ours(shown_5b.noise)
    alone = shown.show_given_frames(video_models.load_video_vae(shown_5b.folder), kind="first")
    wide = edit.give_video(sample.latent_noise(alone, 9, 32, 48), alone, Video(torch.zeros(1, 1, 3, 32, 48), 8.0))
    with pytest.raises(ValueError, match="knows the places of 4 x 4 latent cells alone, and the video has 4 x 6"):
        shown_5b.ours(wide)


def test_offspring_with_other_channels_are_refused(tmp_path):
    """CogVideoX-Fun has a mask among them."""
    folder = tiny_families.saved(tiny_families.cogvideox_pipeline(1.0, **ROTARY, in_channels=9), tmp_path / "Fun")
    with pytest.raises(ValueError, match="9 channels in and 4 out are those of CogVideoX-Fun"):
        video_models.load_video_dit(folder)


def test_sizes_are_judged_when_the_workflow_is_checked(shown_5b, shown_15):
    """Tokens of two latent frames need an even number of them; a learned table of places knows one size."""

    def problems(tiny, **given):
        return " ".join(map(str, default_runtime().problems(on_cogvideox("image_to_video", tiny), given)))

    fits = {"height": 32, "width": 32, "frames": 9}
    assert not problems(shown_5b, **fits)
    assert not problems(shown_15, **fits | {"frames": 13})
    told = problems(shown_15, **fits)
    assert "tokens hold 2 latent frames each: sample 13, of which leave_out_padding" in told
    assert "width = 48, and this model takes 32 alone" in problems(shown_5b, **fits | {"width": 48})
