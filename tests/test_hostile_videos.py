"""Files that are no videos, or too much of one: nothing else is opened, and the reader gets a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kineograph.nodes.media import decode, write_video
from kineograph.nodes.media.decode import Limits, read_video
from kineograph.nodes.media.provenance import ProvenanceError, read_provenance


def clip(frames: int = 9) -> Tensor:
    """(T, 3, 64, 64): noise."""
    return torch.rand((frames, 3, 64, 64), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    write_video(path, clip(), 8, upscale=2)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile {clip}\n",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(100),
    ],
    ids=["empty", "text", "playlist", "concat list", "picture", "archive"],
)
def test_not_a_video(written, tmp_path, content):
    path = tmp_path / "trap.mp4"
    path.write_bytes(content.replace(b"{clip}", os.fsencode(written)))
    with pytest.raises(ValueError, match=r"trap\.mp4 is no MP4 or MOV and no MKV or WebM"):
        read_video(path)
    with pytest.raises(ProvenanceError, match=r"trap\.mp4 is (no MP4|cut off)"):
        read_provenance(path)


def test_a_playlist_is_refused_by_ffmpeg_too(written, tmp_path, monkeypatch):
    playlist = tmp_path / "trap.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{written}\n#EXT-X-ENDLIST\n")
    monkeypatch.setattr(decode, "check_kind", lambda file, name, kinds: kinds[0])
    with pytest.raises(ValueError, match=r"trap\.mp4 is no video that can be read"):
        read_video(playlist)


def test_a_name_is_never_a_protocol(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (f"concat:{written.name}", "http:x.mp4", "subfile,,start,0,end,9,,:x"):
        Path(name).write_bytes(written.read_bytes())
        assert len(read_video(name)[0]) == 9
    with pytest.raises(ValueError, match="is no file"):
        read_video(f"concat:{written}")


def test_truncated_videos_are_sentences_or_shorter(written, tmp_path):
    data = written.read_bytes()
    cut = tmp_path / "cut.mp4"
    for length in (20, 500, data.index(b"mdat") + 4, data.index(b"mdat") + 300, len(data) - 200):
        cut.write_bytes(data[:length])
        try:
            frames, _ = read_video(cut)
        except ValueError as error:
            assert str(error).startswith("cut.mp4")  # noqa: PT017 - a late cut leaves whole frames
        else:
            assert 0 < len(frames) <= 9
    cut.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(ValueError, match=r"cut\.mp4"):
        read_video(cut)


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Limits(frames=8), "more than 8 frames"),
        (Limits(pixels=128 * 128 - 1), r"128 x 128 pixels; at most 16,383"),
        (Limits(bytes=9 * 128 * 128 * 12 - 1), r"more than 1,769,471 bytes"),
        (Limits(seconds=1e-9), "more than 1e-09 seconds|no video that can be read"),
    ],
    ids=["frames", "pixels", "bytes", "seconds"],
)
def test_limits(written, limits, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_video(written, limits=limits)
    exact = Limits(frames=9, pixels=128 * 128, bytes=9 * 128 * 128 * 12)
    assert len(read_video(written, limits=exact)[0]) == 9


def test_an_unlisted_codec_is_refused(tmp_path):
    import av

    with av.open(str(tmp_path / "old.mkv"), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match=r"old\.mkv is coded as mpeg2video; known are av1, "):
        read_video(tmp_path / "old.mkv")
