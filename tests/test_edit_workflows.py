"""The workflow files of the edits, run small on the embedded model: what is given stays, and sizes are as said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kineograph import default_runtime
from kineograph.graph_runtime.errors import NodeFailed
from kineograph.nodes.load import load_image, load_video

WORKFLOWS = Path(__file__).parent.parent / "workflows"
CLIPS = WORKFLOWS / "clips"
SMALL = {"steps": 2, "height": 32, "width": 32}


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files name their example clips from the repository's root."""
    monkeypatch.chdir(WORKFLOWS.parent)


@pytest.fixture(scope="module")
def runtime():
    return default_runtime()


def clip(name: str) -> torch.Tensor:
    return load_video(str(CLIPS / name), SimpleNamespace(note=str), fps=8.0, height=32, width=32).frames


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("image_to_video", 17), ("extend_forward", 25), ("extend_backward", 25), ("loop", 16), ("loop_by_turning", 16),
        ("connect", 42), ("morph", 17), ("sdedit", 17), ("sdedit_frames", 17), ("flow_edit", 17), ("keyframes", 17),
        ("long_video", 65), ("text_to_image", 1),
    ],
)  # fmt: skip
def test_an_edit_runs_as_it_is(name: str, frames: int, runtime, tmp_path: Path) -> None:
    ran = runtime.run(WORKFLOWS / f"{name}.json", SMALL, out=tmp_path)
    assert ran.outputs["video"].frames.shape == (1, frames, 3, 32, 32)
    assert ran.outputs["video"].frames.isfinite().all()
    assert any(tmp_path.iterdir())


def video(runtime, name: str, **inputs) -> torch.Tensor:
    return runtime.run(WORKFLOWS / f"{name}.json", SMALL | inputs, outputs=["video"]).outputs["video"].frames


def test_given_frames_are_in_the_result_as_they_were(runtime) -> None:
    red = clip("red_circle.mp4")
    picture = load_image(str(CLIPS / "blue_square.png"), height=32, width=32).frames
    assert torch.equal(video(runtime, "image_to_video")[:, :1], picture)
    assert torch.equal(video(runtime, "extend_forward")[:, :17], red)
    assert torch.equal(video(runtime, "extend_backward")[:, -17:], clip("red_circle_later.mp4"))
    connected = video(runtime, "connect")
    assert torch.equal(connected[:, :17], red) and torch.equal(connected[:, -17:], clip("red_circle_down.mp4"))


def test_sdedit_at_0_gives_the_clip_as_the_vae_has_it(runtime) -> None:
    plain = video(runtime, "sdedit", level=0.0, seed=1)
    assert torch.equal(plain, video(runtime, "sdedit", level=0.0, seed=2))
    assert (plain - clip("red_circle.mp4")).abs().mean() < 0.05
    assert not torch.equal(video(runtime, "sdedit", level=0.5, seed=1), video(runtime, "sdedit", level=0.5, seed=2))


def test_a_clip_that_does_not_fit_says_which_node_fits_it(runtime) -> None:
    with pytest.raises(NodeFailed, match="make the video longer"):
        video(runtime, "extend_forward", frames=13)
