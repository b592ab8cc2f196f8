"""Animations, pictures and sheets as people post them: the right frames for the right time, for ever, and small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from kineograph.nodes import save
from kineograph.nodes.media import animation
from kineograph.nodes.media.provenance import read_provenance
from kineograph.nodes.sockets import Video
from kineograph.nodes.world import world_clips


class Run:
    """A run that writes into a folder."""

    provenance = '{"a": "workflow"}'

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, []

    def output_path(self, relative: str) -> Path:
        return self.folder / relative

    def wrote(self, path: Path) -> None:
        self.files.append(path.name)


def world(frames: int = 9, side: int = 64) -> torch.Tensor:
    """(T, 3, H, W)."""
    return world_clips(batches=1, formats=[f"{frames}x{side}x{side}:1"], seed=2)[0].video.frames[0]


def shown(path: Path) -> tuple[torch.Tensor, list[int], int]:
    """What another program shows: frames (T, 3, H, W), milliseconds of each, and how often they come (0: for ever)."""
    with Image.open(path) as picture:
        frames, times = [], []
        for frame in ImageSequence.Iterator(picture):
            frames.append(torch.from_numpy(np.array(frame.convert("RGB"))))
            times.append(frame.info["duration"])
        return torch.stack(frames).permute(0, 3, 1, 2) / 255, times, picture.info["loop"]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


@pytest.mark.parametrize(("quality", "least"), [(100, 59), (90, 31), (10, 25)])
def test_a_webp_shows_its_frames_for_ever(tmp_path: Path, quality: int, least: int) -> None:
    animation.write_webp(tmp_path / "x.webp", world(), 8, quality=quality)
    frames, times, loop = shown(tmp_path / "x.webp")
    assert (times, loop) == ([125] * 9, 0)
    assert psnr(frames, world()) > least


def test_a_gif_shows_its_frames_for_ever_in_colours_of_its_own(tmp_path: Path) -> None:
    animation.write_gif(tmp_path / "x.gif", world(), 8)
    frames, times, loop = shown(tmp_path / "x.gif")
    assert (times, loop) == ([130, 120, 130, 120, 130, 120, 130, 120, 130], 0)  # hundredths of a second
    assert psnr(frames, world()) > 37
    colours = torch.rand(200, 3, generator=torch.Generator().manual_seed(0))
    flat = (colours * 255).round()[:, :, None, None].expand(-1, -1, 8, 8) / 255
    animation.write_gif(tmp_path / "x.gif", flat[:50].flatten(2).repeat(1, 1, 4).view(50, 3, 16, 16), 10)
    assert psnr(shown(tmp_path / "x.gif")[0][:, :, 0, 0], flat[:50, :, 0, 0]) > 50  # 50 colours of 255


@pytest.mark.parametrize("name", ["x.webp", "x.gif"])
def test_same_frames_same_bytes_and_any_size_and_length(tmp_path: Path, name: str) -> None:
    made = torch.Generator().manual_seed(3)
    write = animation.write_webp if name == "x.webp" else animation.write_gif
    for frames, height, width in ((1, 1, 1), (1, 33, 47), (4, 33, 47)):
        noise = torch.rand(frames, 3, height, width, generator=made)
        kinds = set()
        for _ in range(3):
            write(tmp_path / name, noise, 12.5)
            kinds.add((tmp_path / name).read_bytes())
        assert len(kinds) == 1
        with Image.open(tmp_path / name) as picture:
            assert (picture.size, getattr(picture, "n_frames", 1)) == ((width, height), frames)
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_rates_and_frames_that_no_file_can_hold(tmp_path: Path) -> None:
    for fps in (51, 0, float("nan")):
        with pytest.raises(ValueError, match=r"GIF shows more than 0 and at most 50\. .*resample_video, with fps 50"):
            animation.write_gif(tmp_path / "x.gif", world(), fps)
    with pytest.raises(ValueError, match="WebP shows more than 0 and at most 1000"):
        animation.write_webp(tmp_path / "x.webp", world(), 1001)
    with pytest.raises(ValueError, match=r"16384 x 1 pixels are no video; .*resize_video"):
        animation.write_webp(tmp_path / "x.webp", torch.zeros(1, 3, 1, 16384), 8)
    with pytest.raises(ValueError, match="no numbers"):
        animation.write_gif(tmp_path / "x.gif", torch.full((2, 3, 8, 8), torch.nan), 8)
    assert not list(tmp_path.iterdir())


def test_nodes_write_clips_beside_each_other_large_enough_to_see(tmp_path: Path) -> None:
    run, video = Run(tmp_path), Video(torch.stack([world(5), world(5).flip(0)]), 8.0)
    save.save_animation(video, run, "x.webp", quality=100)
    frames, _, _ = shown(tmp_path / "x.webp")
    assert frames.shape == (5, 3, 256, 512)
    assert torch.allclose(frames[:, :, ::4, ::4], torch.cat([world(5), world(5).flip(0)], 3), atol=0.5 / 255 + 1e-6)
    save.save_animation(video, run, "x.gif", upscale=1)
    assert shown(tmp_path / "x.gif")[0].shape == (5, 3, 64, 128)
    save.save_image(video, run, "first.png")
    save.save_image(video, run, "last.png", frame=-1, upscale=2)
    with Image.open(tmp_path / "last.png") as picture:
        last = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    assert torch.allclose(last[:, ::2, ::2], torch.cat([world(5)[4], world(5)[0]], 2), atol=0.5 / 255 + 1e-6)
    save.save_contact_sheet(video, run)
    assert run.files == ["x.webp", "x.gif", "first.png", "last.png", "sheet.png"]
    for name in ("x.webp", "first.png", "last.png", "sheet.png"):
        assert read_provenance(tmp_path / name) == run.provenance
    with pytest.raises(ValueError, match="has 5 frames, numbered 0 to 4"):
        save.save_image(video, run, frame=5)
