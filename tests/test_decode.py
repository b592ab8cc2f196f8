"""Parts of strangers' videos: the right frames at the right times and sizes, and damage that ends in a sentence."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
import torch

from kineograph.nodes.media import write_image, write_video
from kineograph.nodes.media.decode import Format, Limits, probe, read_frames


def write_levels(path: Path, count: int, fps: int, gop: int = 12, options: dict | None = None) -> None:
    """A video whose frame i is gray of level 16 + 5 i, in groups of ``gop`` frames, some of them bidirectional."""
    import av
    import numpy as np

    with av.open(str(path), "w", container_options=options or {}) as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "5", "g": str(gop), "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for level in range(count):
            gray = np.full((32, 32, 3), 16 + 5 * level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")))
        container.mux(stream.encode(None))


def seen(path: Path, times: list[float]) -> list[int]:
    """The numbers of the frames that are read at these times."""
    with open(path, "rb") as file:
        frames = read_frames(file, path.name, times, 8, 8)
    return [round((float(level) * 255 - 16) / 5) for level in frames.mean((1, 2, 3))]


def probed(path: Path, **limits) -> Format:
    with open(path, "rb") as file:
        return probe(file, path.name, Limits(**limits))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("levels")
    for kind in ("mp4", "mkv", "mov"):
        write_levels(folder / f"levels.{kind}", 40, 24)
    write_levels(folder / "live.mkv", 40, 24, options={"live": "1"})  # as a browser records: no duration, no index
    return folder


@pytest.mark.parametrize("name", ["levels.mp4", "levels.mkv", "levels.mov", "live.mkv"])
def test_each_time_gets_the_nearest_frame(folder: Path, name: str) -> None:
    path = folder / name
    assert probed(path) == Format(40, 24, 32, 32)
    assert seen(path, [n / 24 for n in range(40)]) == list(range(40))
    assert seen(path, [n / 8 for n in range(13)]) == list(range(0, 39, 3))
    assert seen(path, [1 + n / 8 for n in range(5)]) == [24, 27, 30, 33, 36]  # sought, between two whole frames
    assert seen(path, [30 / 24 + 0.3 / 24, 30 / 24 + 0.7 / 24]) == [30, 31]
    assert seen(path, [0, 0.2 / 24, 0.4 / 24, 0.6 / 24]) == [0, 0, 0, 1]
    with pytest.raises(ValueError, match=rf"{name} breaks off before second 1.7"):
        seen(path, [39 / 24, 41 / 24])


def test_a_frame_is_scaled_until_it_covers_the_size_and_its_middle_is_kept(tmp_path: Path) -> None:
    picture = torch.zeros(3, 32, 128)
    picture[0, :, :32], picture[1, :, 32:96], picture[2, :, 96:] = 1, 1, 1
    write_image(tmp_path / "wide.png", picture)
    with open(tmp_path / "wide.png", "rb") as file:
        middle = read_frames(file, "wide.png", [0.0], 16, 16)[0]
        small = read_frames(file, "wide.png", [0.0], 8, 32)[0]
        large = read_frames(file, "wide.png", [0.0], 64, 256)[0]
    assert torch.equal(middle, torch.tensor([0.0, 1, 0]).view(3, 1, 1).expand(3, 16, 16))
    assert torch.equal(small, torch.nn.functional.avg_pool2d(picture, 4))
    assert torch.allclose(large.unflatten(1, (32, 2)).unflatten(3, (128, 2)).mean((2, 4)), picture, atol=0.3)


def test_a_picture_of_one_line_is_refused_before_it_is_blown_up(tmp_path: Path) -> None:
    write_image(tmp_path / "line.png", torch.zeros(3, 1, 8000))
    with open(tmp_path / "line.png", "rb") as file, pytest.raises(ValueError, match=r"line\.png is too long and thin"):
        read_frames(file, "line.png", [0.0], 64, 64)


def test_a_turned_phone_video_is_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    ramp = torch.linspace(0.2, 0.8, 64).expand(2, 3, 32, 64)
    write_video(path, ramp, 8)
    data = bytearray(path.read_bytes())
    quarter = (0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30)  # a quarter clockwise (ISO/IEC 14496-12, tkhd)
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in quarter)
    path.write_bytes(data)
    assert probed(path) == Format(2, 8, 64, 32)
    with open(path, "rb") as file:
        turned = read_frames(file, path.name, [0.0], 64, 32)[0]
    assert torch.allclose(turned, ramp[0].rot90(-1, (1, 2)), atol=0.03)


def test_a_video_that_is_cut_off_is_noticed_without_decoding_it(folder: Path, tmp_path: Path) -> None:
    data = (folder / "levels.mkv").read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 2 // 3])
    assert 5 < probed(cut).frames < 40  # Matroska is made to be read as far as it goes
    write_levels(tmp_path / "whole.mp4", 40, 24, options={"movflags": "faststart"})
    data = (tmp_path / "whole.mp4").read_bytes()
    assert probed(tmp_path / "whole.mp4").frames == 40
    cut = tmp_path / "cut.mp4"
    for length in (0, 20, 300, data.index(b"mdat") + 8, (data.index(b"mdat") + len(data)) // 2, len(data) - 40):
        cut.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"^cut\.mp4 "):
            probed(cut)


def test_damage_in_the_middle_ends_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    data = bytearray((folder / "levels.mp4").read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov")
    size = (end - start) // 6
    data[start + 4 * size : start + 5 * size] = bytes(size)
    (tmp_path / "x.mp4").write_bytes(data)
    assert probed(tmp_path / "x.mp4").frames == 40
    with pytest.raises(ValueError, match=r"^x\.mp4 "):
        seen(tmp_path / "x.mp4", [n / 24 for n in range(40)])


@pytest.mark.parametrize("name", ["levels.mp4", "levels.mkv"])
def test_damage_anywhere_ends_in_a_sentence_or_does_no_harm(folder: Path, tmp_path: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    generator = torch.Generator().manual_seed(2)
    path, sentences = tmp_path / name, 0
    for _ in range(150):
        damaged = bytearray(data)
        places = torch.randint(0, len(data), (12,), generator=generator).tolist()
        for place, value in zip(places, torch.randint(0, 256, (12,), generator=generator).tolist(), strict=True):
            damaged[place] = value
        path.write_bytes(damaged)
        try:
            assert probed(path, seconds=5.0).frames > 0
            seen(path, [0.5, 1.0])
        except ValueError as error:
            sentences += 1
            assert str(error).startswith(name)  # noqa: PT017 - some damage does no harm
    assert sentences > 10


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no MP4 or MOV and no MKV or WebM and no PNG"),
        (b"hello", "it begins with b'hello'"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "is no MP4"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "is damaged"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "can be read|can be decoded|breaks off|is damaged"),
        (png(12_000, 12_000), "more than 120,000,000 pixels"),
        (png(60_000, 60_000), "more than 120,000,000 pixels"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(200), "can be read"),
    ],
    ids=["empty", "text", "playlist", "webp", "jpeg", "large", "huge", "no movie"],
)
def test_what_is_no_clip_is_a_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "trap.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=rf"trap\.mp4 .*({sentence})"):
        probed(tmp_path / "trap.mp4")


def test_more_than_the_limits_is_refused_before_it_is_decoded(folder: Path) -> None:
    with open(folder / "levels.mp4", "rb") as file:
        with pytest.raises(ValueError, match=r"3 frames of 8 x 8 pixels needs 2,304 bytes; at most 2 frames"):
            read_frames(file, "levels.mp4", [0.0, 0.1, 0.2], 8, 8, Limits(frames=2))
        with pytest.raises(ValueError, match="at most 1,023 are read"):
            read_frames(file, "levels.mp4", [0.0], 8, 8, Limits(pixels=1023))
