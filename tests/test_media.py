"""Videos and pictures as files: what is written comes back, and what cannot be written ends in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kineograph.nodes import media
from kineograph.nodes.media.decode import read_video

WORKFLOW = '{"prompt": "赤い円が右へ動く — \\"a \\\\ red\\" circle; it\'s\\n = # 🎞", "seed": 0}'


def clip(frames: int = 9, height: int = 64, width: int = 64) -> Tensor:
    """(T, 3, H, W): saturated discs with hard edges on a dark ground, the hardest case for halved colour."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    video = torch.tensor([0.15, 0.17, 0.2]).view(1, 3, 1, 1).repeat(frames, 1, height, width)
    for t in range(frames):
        for i, colour in enumerate([(0.9, 0.1, 0.1), (0.1, 0.8, 0.2), (0.15, 0.25, 0.9), (0.98, 0.86, 0.1)]):
            inside = (rows - 9 - 14 * i) ** 2 + (columns - 8 - (3 * t + 13 * i) % 48) ** 2 < 49
            video[t, :, inside] = torch.tensor(colour).view(3, 1)
    return video


def noise(frames: int, side: int) -> Tensor:
    return torch.rand((frames, 3, side, side), generator=torch.Generator().manual_seed(0))


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


def smaller(video: Tensor, factor: int) -> Tensor:
    return torch.nn.functional.avg_pool2d(video, factor)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    media.write_video(path, clip(), 8, upscale=2, provenance=WORKFLOW)
    return path


# What is written comes back


# Measured: 28, 49 and 49 dB. At 1 the loss is yuv420p's shared colour, which no encoder can help; above, each shared
# colour belongs to one pixel of ours, and 45 dB is a mean error of 1.4 of 255 that no eye sees.
@pytest.mark.parametrize(("upscale", "least"), [(1, 26), (2, 45), (4, 45)])
def test_video_round_trip(tmp_path, upscale, least):
    path = tmp_path / "clip.mp4"
    media.write_video(path, clip(), 8, upscale=upscale)
    frames, fps = read_video(path)
    assert (fps, frames.shape, frames.dtype) == (8, (9, 3, 64 * upscale, 64 * upscale), torch.float32)
    assert frames.min() >= 0
    assert frames.max() <= 1
    assert psnr(smaller(frames, upscale), clip()) > least


def test_grey_and_primaries_keep_their_values(tmp_path):
    colours = torch.tensor([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    frames = colours.view(6, 3, 1, 1).expand(6, 3, 32, 32)
    media.write_video(tmp_path / "flat.mp4", frames, 24)
    back, _ = read_video(tmp_path / "flat.mp4")
    assert (back - frames).abs().max() < 4 / 255  # 8-bit limited range has steps of up to 2, in luma and colour


@pytest.mark.parametrize("fps", [0.5, 8, 23.976, 24, 30000 / 1001, 60])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_frame_rate_and_number_survive(tmp_path, fps, count):
    media.write_video(tmp_path / "clip.mp4", clip(count, 16, 32), fps)
    frames, back = read_video(tmp_path / "clip.mp4")
    assert frames.shape == (count, 3, 16, 32)
    assert back == pytest.approx(fps, rel=1e-4)


def test_bytes_and_floats_are_the_same_video(tmp_path):
    as_bytes = (clip() * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    media.write_video(tmp_path / "a.mp4", clip(), 8)
    media.write_video(tmp_path / "b.mp4", as_bytes, 8)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("side", [32, 64, 96, 136])
def test_same_frames_same_bytes(tmp_path, side):
    """Many times over, with used memory in between: x264 has been seen to read it (`media.write._encode` says when)."""
    path, kinds = tmp_path / "clip.mp4", set()
    for times in range(12):
        media.write_video(path, (clip(9, side, side) + 0.1 * noise(9, side)).clamp(0, 1), 8, provenance=WORKFLOW)
        kinds.add(path.read_bytes())
        torch.rand(1000 + 4099 * times)
    assert len(kinds) == 1


def test_bytes_do_not_depend_on_torch_threads(tmp_path):
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            media.write_video(tmp_path / str(threads), clip(5, 128, 128), 8)
    finally:
        torch.set_num_threads(before)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes()


def test_first_reads_no_further(written):
    frames, _ = read_video(written, first=2)
    assert torch.equal(frames, read_video(written)[0][:2])
    with pytest.raises(ValueError, match="at least one frame"):
        read_video(written, first=0)


def test_a_turned_phone_video_is_upright(tmp_path):
    path = tmp_path / "phone.mp4"
    media.write_video(path, clip(2, 32, 64), 8)
    upright, _ = read_video(path)
    quarter = [
        0,
        1 << 16,
        0,
        -(1 << 16),
        0,
        0,
        32 << 16,
        0,
        1 << 30,
    ]  # shown a quarter clockwise (ISO/IEC 14496-12, tkhd)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in quarter)
    path.write_bytes(data)
    turned, _ = read_video(path)
    assert torch.equal(turned, upright.rot90(-1, (2, 3)))


def test_image_is_lossless(tmp_path):
    import av

    picture = (noise(1, 33)[0] * 255).round() / 255
    media.write_image(tmp_path / "x.png", picture)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG\r\n")
    with av.open(str(tmp_path / "x.png")) as container:
        frame = next(container.decode(video=0))
    assert torch.equal(torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1) / 255, picture)


def test_contact_sheet_has_a_row_per_clip():
    ramp = torch.linspace(0, 1, 5).view(5, 1, 1, 1).expand(5, 3, 4, 6)
    sheet = media.contact_sheet([ramp, ramp[:2, :, :3]], columns=3, gap=1, background=1.0)
    assert sheet.shape == (3, 2 * 4 + 1, 3 * 6 + 2)
    assert [sheet[0, 0, 7 * column].item() for column in range(3)] == [0, 0.5, 1]
    assert [sheet[0, 5, 7 * column].item() for column in range(3)] == [0, 0.25, 1]
    assert (sheet[:, 8] == 1).all()  # below the second, smaller clip


# What cannot be written


@pytest.mark.parametrize(
    ("frames", "arguments", "sentence"),
    [
        (torch.zeros(2, 3, 17, 33), {}, r"33 x 17 pixels .* to 34 x 18 with resize_video, or set upscale to 2"),
        (torch.zeros(2, 16, 16, 3), {}, r"not \(2, 16, 16, 3\) float32"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), {}, r"not \(2, 3, 16, 16\) uint8"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.int64), {}, "int64"),
        (torch.zeros(0, 3, 16, 16), {}, "0 frames of 16 x 16"),
        (torch.full((2, 3, 16, 16), torch.nan), {}, "Frame 0 holds values that are no numbers"),
        (torch.zeros(2, 3, 16, 16), {"fps": 0}, "fps is 0"),
        (torch.zeros(2, 3, 16, 16), {"fps": torch.nan}, "fps is nan"),
        (torch.zeros(2, 3, 16, 16), {"upscale": 0}, "upscale is 0"),
    ],
)
def test_frames_that_no_file_can_hold(tmp_path, frames, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        media.write_video(tmp_path / "x.mp4", frames, **{"fps": 8, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_missing_folder(tmp_path):
    for write in (lambda path: media.write_video(path, clip(1), 8), lambda path: media.write_image(path, clip(1)[0])):
        with pytest.raises(ValueError, match=r"x\.out cannot be written: its folder .*none does not exist"):
            write(tmp_path / "none" / "x.out")
    with pytest.raises(ValueError, match="is a folder"):
        media.write_video(tmp_path, clip(1), 8)


def test_a_file_in_the_way_is_replaced_only_by_a_whole_one(tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match="Frame 1"):
        media.write_video(path, torch.cat([clip(1), torch.full((1, 3, 64, 64), torch.nan)]), 8)
    assert path.read_bytes() == b"before"
    media.write_video(path, clip(1), 8)
    assert len(read_video(path)[0]) == 1
    assert list(tmp_path.iterdir()) == [path]


WRITE_TOO_MUCH = """
import sys, torch
from kineograph.nodes import media
if sys.argv[2] != "0":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
frames = torch.rand((9, 3, 128, 128), generator=torch.Generator().manual_seed(0))
try:
    media.write_video(sys.argv[1], frames, 8, provenance="x" * 50_000)
except OSError as error:
    print(error)
"""


def write_too_much(folder: Path, limit: int) -> str:
    command = [sys.executable, "-c", WRITE_TOO_MUCH, folder / "big.mp4", str(limit)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(os.name != "posix", reason="limits of file sizes are POSIX's")
def test_a_file_that_may_not_grow_leaves_nothing(tmp_path):
    said = write_too_much(tmp_path, 65536)
    assert said.startswith("big.mp4 was not written: it is too large here. Free ")
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path):
    mounted = sys.platform == "linux" and os.geteuid() == 0
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if not (mounted and subprocess.run(command, check=False, capture_output=True).returncode == 0):
        pytest.skip("a disk of 64 KB needs Linux and the right to mount one; the test above limits the file instead")
    try:
        said = write_too_much(tmp_path, 0)
        left = list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert said.startswith("big.mp4 was not written: the disk is full. Free ")
    assert left == []
