"""A person's own files as nodes: the right frames of honest ones, a sentence for hostile ones, before anything runs."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kineograph import default_runtime
from kineograph.graph_runtime.events import NodeStarted
from kineograph.graph_runtime.node import node_type
from kineograph.graph_runtime.paths import open_input
from kineograph.nodes import load
from kineograph.nodes.load import load_image
from kineograph.nodes.media import write_image, write_video

NOTES: list[str] = []
QUIET = SimpleNamespace(note=NOTES.append)


def load_video(path: str, **asked):
    """The node, with a run that remembers what it was told."""
    NOTES.clear()
    return load.load_video(path, QUIET, **asked)


RAMP = torch.linspace(0.1, 0.9, 48).expand(3, 32, 48)


def levels(count: int = 17) -> torch.Tensor:
    """(T, 3, 32, 48): frame i is gray of level 0.1 + i / 20."""
    return (0.1 + torch.arange(count) / 20).clamp(max=1).view(-1, 1, 1, 1).expand(-1, 3, 32, 48)


def seen(video) -> list[int]:
    """The numbers of the frames of ``levels`` that a video holds."""
    return ((video.frames.mean((0, 2, 3, 4)) - 0.1) * 20).round().int().tolist()


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("load") / "clip.mp4"
    write_video(path, levels(), 8)
    return str(path)


def workflow(node: str, path: str, **params) -> dict:
    nodes = {"file": {"type": node, "params": {"path": path} | params}}
    return {"format": 1, "nodes": nodes, "outputs": {"video": "file"}}


def encode(path: Path, frames: list, codec: str, pix_fmt: str, times: list[int] | None = None, **settings) -> None:
    """Write frames (H, W, 3 or 4) in any pixel format with any codec; times are in 1/1000 s."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.time_base = pix_fmt, Fraction(1, 1000)
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgba" if frame.shape[2] == 4 else "rgb24")
            picture.pts, picture.time_base = (times or range(0, 40 * len(frames), 40))[index], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


# Honest files


def test_a_video_is_read_whole_or_in_part_at_its_rate_or_another(clip: str) -> None:
    whole = load_video(clip)
    assert (whole.frames.shape, whole.fps) == ((1, 17, 3, 32, 48), 8.0)
    assert seen(whole) == list(range(17))
    assert seen(load_video(clip, start=1.0)) == list(range(8, 17))
    assert seen(load_video(clip, start=0.5, frames=3)) == [4, 5, 6]
    assert seen(load_video(clip, fps=4.0)) == list(range(0, 17, 2))
    assert seen(load_video(clip, fps=16.0, frames=4)) == [0, 0, 1, 1]
    small = load_video(clip, height=16)
    assert small.frames.shape == (1, 17, 3, 16, 24)
    assert load_video(clip, width=24).frames.shape == (1, 17, 3, 16, 24)
    assert load_video(clip, height=16, width=16).frames.shape == (1, 17, 3, 16, 16)


def test_what_is_made_of_a_clip_is_told_where_it_is_not_what_the_file_holds(clip: str) -> None:
    for same in ({}, {"fps": 8.0}, {"height": 32, "width": 48}, {"frames": 3, "start": 0.5}):
        load_video(clip, **same)
        assert NOTES == []
    load_video(clip, fps=4.0, height=16, width=16)
    (told,) = NOTES
    whole = "clip.mp4 is 48 x 32 pixels at 8 frames per second; read are 9 frames of 16 x 16 at 4"
    assert told == f"{whole}, and what does not fit is cut off"
    load_video(clip, height=16)
    assert NOTES == ["clip.mp4 is 48 x 32 pixels at 8 frames per second; read are 17 frames of 24 x 16 at 8"]


def test_more_than_a_video_holds_is_a_sentence_with_what_it_holds(clip: str) -> None:
    with pytest.raises(ValueError, match=r"'clip\.mp4' has 9 frames from second 1 at 8 per second; 10 are asked for"):
        load_video(clip, start=1.0, frames=10)
    with pytest.raises(ValueError, match=r"lasts 2\.12 seconds; nothing begins at second 3"):
        load_video(clip, start=3.0)
    with pytest.raises(ValueError, match=r"has 1 frame from second 2 .* Set frames to 1, or make it longer"):
        load_video(clip, start=2.0, frames=2)
    with pytest.raises(ValueError, match=r"needs 18\.2 GiB, and at most 4 GiB are lent. Set height to 3746 or less"):
        load_video(clip, height=8000)
    assert 12 * 17 * 3746 * round(48 / 32 * 3746) <= 4 << 30


def test_a_video_of_varying_rate_is_read_at_regular_times(tmp_path: Path) -> None:
    times = [0, 100, 200, 1000, 1100, 1900, 2000]
    frames = [np.full((32, 48, 3), 16 + 30 * n, np.uint8) for n in range(7)]
    encode(tmp_path / "screen.mkv", frames, "ffv1", "bgr0", times)
    read = load_video(str(tmp_path / "screen.mkv"), fps=10.0)
    shown = ((read.frames.mean((0, 2, 3, 4)) * 255 - 16) / 30).round().int().tolist()
    assert shown == [min(range(7), key=lambda n: (abs(times[n] - 100 * at), n)) for at in range(21)]


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    write_image(tmp_path / "ramp.png", RAMP)
    picture = load_image(str(tmp_path / "ramp.png"), fps=24.0)
    assert (picture.frames.shape, picture.fps) == ((1, 1, 3, 32, 48), 24.0)
    assert torch.allclose(picture.frames[0, 0], RAMP, atol=0.5 / 255 + 1e-6)
    assert load_image(str(tmp_path / "ramp.png"), width=24).frames.shape == (1, 1, 3, 16, 24)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "I;16", "1", "CMYK"])
def test_pictures_of_every_kind_show_what_other_programs_show(tmp_path: Path, mode: str) -> None:
    from PIL import Image

    grey = (RAMP[0] * 255).round().byte().numpy()
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert("RGB")
    image = image.convert(mode)
    image.save(path)
    wanted = grey[..., None] if mode == "I;16" else np.array(image.convert("RGB"))
    shown = load_image(str(path)).frames[0, 0].permute(1, 2, 0) * 255
    assert (shown - torch.from_numpy(wanted)).abs().max() < (16 if mode == "CMYK" else 1.1)


@pytest.mark.parametrize(("background", "grey"), [("black", 0.0), ("grey", 0.5), ("white", 1.0)])
def test_what_is_transparent_shows_the_background_and_never_a_hidden_colour(tmp_path: Path, background, grey) -> None:
    from PIL import Image

    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:, :8] = (255, 0, 0, 255)
    rgba[:, 8:] = (0, 255, 0, 0)  # green that nobody sees
    Image.fromarray(rgba).save(tmp_path / "x.png")
    Image.fromarray(rgba).quantize(4).save(tmp_path / "palette.png")
    for name in ("x.png", "palette.png"):
        shown = load_image(str(tmp_path / name), height=8, background=background).frames[0, 0]
        assert torch.allclose(shown[:, :, :4], torch.tensor([1.0, 0, 0]).view(3, 1, 1), atol=0.01)
        assert torch.allclose(shown[:, :, 4:], torch.tensor(grey), atol=0.01)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_photograph_is_upright(tmp_path: Path, ending: str, orientation: int) -> None:
    from PIL import Image, ImageOps

    exif = Image.Exif()
    exif[0x112] = orientation
    path = tmp_path / f"x{ending}"
    pixels = torch.cat([RAMP, RAMP.flip(2) * 0.5], 1).permute(1, 2, 0).mul(255).byte().numpy()
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    upright = torch.from_numpy(np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))) / 255
    assert (load_image(str(path)).frames[0, 0] - upright.permute(2, 0, 1)).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "channels"),
    [
        ("libx264", "yuv420p10le", 3),
        ("libx264", "gray", 3),
        ("prores_ks", "yuva444p10le", 4),
        ("libx265", "yuv422p", 3),
    ],
)
def test_videos_of_ten_bits_grey_or_alpha_are_read(tmp_path: Path, codec: str, pix_fmt: str, channels: int) -> None:
    path = tmp_path / "x.mov"
    frames = [np.full((64, 64, channels), 100, np.uint8) for _ in range(3)]
    if channels == 4:
        frames = [np.concatenate([each[..., :3], np.full((64, 64, 1), 255, np.uint8)], 2) for each in frames]
    encode(path, frames, codec, pix_fmt)
    assert (load_video(str(path)).frames - 100 / 255).abs().max() < 3 / 255


def test_pixels_that_are_no_squares_become_squares(tmp_path: Path) -> None:
    path = tmp_path / "dv.mp4"
    encode(path, [np.full((32, 48, 3), 90, np.uint8)] * 3, "libx264", "yuv420p", sample_aspect_ratio=Fraction(4, 3))
    assert load_video(str(path)).frames.shape == (1, 3, 3, 32, 64)


def test_an_edited_file_invalidates_what_hangs_on_it_and_a_touched_one_does_not(tmp_path: Path) -> None:
    runtime, path = default_runtime(), tmp_path / "clip.mp4"

    def started() -> int:
        events: list = []
        runtime.run(workflow("load_video@1", str(path)), listen=events.append)
        return sum(isinstance(event, NodeStarted) for event in events)

    write_video(path, levels(), 8)
    assert (started(), started()) == (1, 0)
    os.utime(path, (1e9, 1e9))
    assert started() == 0
    write_video(path, levels(9), 8)
    assert started() == 1


def test_a_path_may_begin_in_the_current_folder_or_at_home(clip: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine.mp4").write_bytes(Path(clip).read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert seen(load_video("mine.mp4", frames=1)) == seen(load_video("~/mine.mp4", frames=1)) == [0]


def test_an_editor_learns_which_files_fit(cli) -> None:
    assert node_type(load_image).inputs["path"].file_endings == (".png", ".jpg", ".jpeg", ".webp")
    assert "path: str, naming a .mp4 or .mov or .m4v or .mkv or .webm file, required" in cli("nodes", "load_video@1")[1]
    described = json.loads(cli("nodes", "load_image@1", "--json")[1])
    assert described["inputs"][0]["file_endings"] == [".png", ".jpg", ".jpeg", ".webp"]


# Hostile ones


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


TRAPS = {
    "missing": (lambda folder: folder / "none.mp4", "is not there; a path begins in the current folder"),
    "below a file": (lambda folder: put(folder, "a.mp4", b"x") / "b.mp4", "is not there"),
    "another kind": (lambda folder: put(folder, "x.avi", b"RIFF"), "does not end in .mp4, .mov"),
    "picture": (lambda folder: put(folder, "x.png", b"x"), "load_image@1 reads pictures"),
    "folder": (lambda folder: (folder / "folder.mp4", (folder / "folder.mp4").mkdir())[0], "is a folder, not a file"),
    "pipe": (lambda folder: (folder / "pipe.mp4", os.mkfifo(folder / "pipe.mp4"))[0], "is a pipe or a device"),
    "device": (lambda folder: link(folder / "zero.mp4", "/dev/zero"), "is a pipe or a device"),
    "circle": (lambda folder: link(folder / "round.mp4", folder / "round.mp4"), "cannot be read: too many levels"),
    "long name": (lambda folder: folder / ("x" * 5000 + ".mp4"), "cannot be read: file name too long"),
    "nothing": (lambda folder: put(folder, "x.mp4", b""), "'x.mp4' is no MP4 or MOV and no MKV or WebM: it is empty"),
    "text": (lambda folder: put(folder, "x.mp4", b"hello"), "it begins with b'hello'. Convert it to MP4 first"),
    "playlist": (lambda folder: put(folder, "x.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"), "is no MP4 or MOV"),
    "two lines": (lambda folder: put(folder, "two\nlines\x1b[31m.mp4", b"x"), r"'two\\nlines\\x1b[31m.mp4' is no MP4"),
    "zero byte": (lambda folder: "a\0b.mp4", "is no name of a file"),
    "nobody's home": (lambda folder: "~nobody-at-all/x.mp4", "cannot be read: "),
}


def link(path: Path, target: str | Path) -> Path:
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("trap", TRAPS)
def test_check_finds_what_cannot_be_read(trap: str, tmp_path: Path, cli) -> None:
    make, sentence = TRAPS[trap]
    path = str(make(tmp_path))
    file = tmp_path / "flow.json"
    file.write_text(json.dumps(workflow("load_video@1", path)))
    code, out, err = cli("check", file)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(("file.path: ", "file: "))
    assert sentence.replace("\\\\", "\\") in err
    through_input = workflow("load_video@1", path) | {"inputs": {"mine": {"type": "str"}}}
    through_input["nodes"]["file"] = {"type": "load_video@1", "links": {"path": "$mine"}}
    (problem,) = default_runtime().problems(through_input, {"mine": path})
    assert sentence.replace("\\\\", "\\") in str(problem)


def test_a_node_that_is_called_opens_no_trap_either(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", tmp_path, Path("/dev/zero"), tmp_path / "none"):
        with pytest.raises(ValueError, match=r"is a pipe or a device|is a folder|is not there"):
            open_input(str(path))


def test_a_file_without_the_right_to_read_it_is_refused(clip: str, tmp_path: Path) -> None:
    if os.name != "posix" or os.geteuid() == 0:
        pytest.skip("whoever may do anything may read it")
    path = put(tmp_path, "mine.mp4", Path(clip).read_bytes())
    path.chmod(0)
    with pytest.raises(ValueError, match="cannot be read: permission denied"):
        open_input(str(path))


def test_a_truncated_video_and_a_picture_bomb_are_sentences_of_the_node(clip: str, tmp_path: Path, cli) -> None:
    data = Path(clip).read_bytes()
    for node, name, content in (
        ("load_video@1", "cut.mp4", data[: len(data) // 2]),
        ("load_image@1", "bomb.png", bomb(20_000)),
        ("load_image@1", "cut.png", bomb(64)),
        ("load_image@1", "line.webp", b"RIFF\xff\xff\xff\xffWEBPVP8 "),
    ):
        (tmp_path / "flow.json").write_text(json.dumps(workflow(node, str(put(tmp_path, name, content)))))
        assert cli("check", tmp_path / "flow.json")[0] == 0  # its first bytes are right
        code, _, err = cli("run", tmp_path / "flow.json", "--out", tmp_path)
        assert (code, err.splitlines()[-1].startswith(f"file ({node}) failed: '{name}' ")) == (1, True)


def bomb(side: int) -> bytes:
    """A PNG that promises side x side pixels and holds a few."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))


def test_what_we_write_comes_back_with_its_colours(tmp_path: Path) -> None:
    """Colours lie in the middle of 2 x 2 pixels, and the file says so: else they come back half a pixel aside."""
    checks = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)).repeat_interleave(4, 2)
    checks = checks.repeat_interleave(4, 3)
    write_video(tmp_path / "x.mp4", checks, 8, upscale=2)
    back = load_video(str(tmp_path / "x.mp4"), height=32)
    assert float(-10 * torch.log10((back.frames[0] - checks).square().mean())) > 45
