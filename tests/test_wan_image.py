"""Wan's own image to video: pictures in channels beside the noise, against diffusers' pipeline, tiny and in float32."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families
from test_wan import NOT, SCALE, SHIFT, STEPS, WORDS, GivenLevels, sampled

from kineograph import default_runtime
from kineograph.nodes import edit, sample, video, video_models
from kineograph.nodes.sockets import Video

WORKFLOWS = Path(__file__).parent.parent / "workflows"
SIZE = {"frames": 9, "height": 32, "width": 32}


@pytest.fixture(scope="module", autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def whole_pixels(seed: int, frames: int = 1) -> Video:
    """Of bytes: the image processor of CLIP sees no others."""
    made = torch.Generator().manual_seed(seed)
    return Video(torch.randint(0, 256, (1, frames, 3, 32, 32), generator=made) / 255, 16.0)


FIRST, LAST = whole_pixels(1), whole_pixels(2)


class Tiny:
    """A pipeline of diffusers, and its folder loaded as ours."""

    def __init__(self, folder, **kind) -> None:
        self.pipeline = tiny_families.wan_image_pipeline(**kind)
        self.pipeline.set_progress_bar_config(disable=True)
        self.folder = tiny_families.saved(self.pipeline, folder)
        self.model = video_models.load_video_model(self.folder, dtype="float32")
        self.noise = sample.latent_noise(self.model.vae, **SIZE, fps=16.0, seed=3)

    def theirs(self, last: Video | None = None, output_type: str = "latent") -> torch.Tensor:
        self.pipeline.scheduler = GivenLevels()
        shown, not_shown = tiny_families.embedded(self.pipeline, WORDS, NOT)
        words = {"prompt_embeds": shown, "negative_prompt_embeds": not_shown, "guidance_scale": SCALE}
        size = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": STEPS}
        pictures = {"image": as_image(FIRST), "last_image": last and as_image(last)}
        given = {"latents": self.noise.x.clone(), "output_type": output_type}
        return self.pipeline(**pictures, **words, **size, **given).frames

    def ours(self, latent):
        return sampled(self.model, edit.begin_sampling(latent), sample.shifted_sigmas(STEPS, SHIFT))


def as_image(picture: Video):
    from PIL import Image

    return Image.fromarray((picture.frames[0, 0].permute(1, 2, 0) * 255).round().byte().numpy())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("i2v") / "Wan2.2-tiny", looks=False)


@pytest.fixture(scope="module")
def looking(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("i2v") / "Wan2.1-tiny")


@pytest.fixture(scope="module")
def between(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("i2v") / "Wan2.1-FLF-tiny", pictures=2)


@pytest.mark.parametrize("kind", ["plain", "looking"])
def test_image_to_video_is_that_of_the_pipeline(kind, request):
    tiny = request.getfixturevalue(kind)
    given = edit.give_video(tiny.noise, tiny.model.vae, FIRST)
    latent = tiny.ours(given)
    assert (latent.x - tiny.theirs()).abs().max() < 1e-5
    pixels = tiny.theirs(output_type="pt")
    assert (video.vae_decode(tiny.model.vae, latent).frames - pixels).abs().max() < 1e-5
    other = tiny.ours(edit.give_video(tiny.noise, tiny.model.vae, LAST))
    assert (latent.x - other.x).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["plain", "between"])
def test_first_and_last_frame_are_that_of_the_pipeline(kind, request):
    tiny = request.getfixturevalue(kind)
    first = edit.give_video(tiny.noise, tiny.model.vae, FIRST)
    both = edit.give_video(first, tiny.model.vae, LAST, from_end=True)
    assert (tiny.ours(both).x - tiny.theirs(LAST)).abs().max() < 1e-5


def on_wan(name: str, folder: str) -> dict:
    """A workflow file of the embedded model with Wan in its place: another loader, another patch."""
    raw = json.loads((WORKFLOWS / f"{name}.json").read_text())
    del raw["inputs"]["model"]
    raw["nodes"]["model"] = {"type": "load_video_model@1", "params": {"path": folder, "dtype": "float32"}}
    raw["nodes"]["denoise"]["body"]["nodes"]["patches"]["params"] = {"height": 2, "width": 2}
    return raw


@pytest.mark.parametrize(
    ("name", "frames"),
    [("image_to_video", 9), ("extend_forward", 13), ("extend_backward", 13), ("connect", 17), ("keyframes", 9)],
)
def test_edits_run_with_the_embedded_models_own_files(name, frames, looking, tmp_path):
    given = {"steps": 2, "height": 32, "width": 32, "frames": frames}
    ran = default_runtime().run(on_wan(name, looking.folder), given, out=tmp_path)
    assert next(iter(ran.outputs.values())).frames.shape == (1, frames, 3, 32, 32)
