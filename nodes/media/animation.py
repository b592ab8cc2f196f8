"""Pictures that move and begin again for ever, written through FFmpeg (`av`): animated WebP and GIF. Knows no graph.

Measured on 17 frames of 256 x 256 pixels, saturated discs with each pixel of 64 x 64 drawn 4 x 4: WebP of quality 90 is
20 KB and 35 dB, lossless 4 KB; a GIF with a palette of its own 23 KB, with FFmpeg's 8-bit colours 373 KB and 20 dB.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineograph.files import write_whole
from kineograph.nodes.media.chunks import with_webp_text
from kineograph.nodes.media.write import as_bytes, check_frames

if TYPE_CHECKING:
    from av import VideoFrame
    from torch import Tensor

GIF_RATE = 50
"""Frames per second from which on browsers show a GIF at 10: it counts in hundredths of a second."""


def write_webp(
    path: str | os.PathLike[str], frames: Tensor, fps: float, *, quality: int = 90, provenance: str | None = None
) -> None:
    """Write an animated WebP that repeats for ever. The same frames give the same bytes.

    Args:
        path: the file; its folder must exist.
        frames: (T, 3, H, W) float in [0, 1], or (T, H, W, 3) uint8.
        fps: frames per second, above 0 and at most 1000.
        quality: 0 to 99 of what eyes notice; 100 is lossless.
        provenance: text to keep in the file, such as the workflow that made it; at most 16 MB as UTF-8.

    Raises:
        ValueError: frames or fps that no WebP can hold.
        OSError: the file could not be written.
    """
    _check(frames, fps, 1000, "WebP")
    options = {"lossless": "1"} if quality == 100 else {"quality": str(quality)}
    webp = _encode(_pictures(frames, fps), "libwebp_anim", "webp", "bgra", fps, options)
    write_whole(Path(path), webp if provenance is None else with_webp_text(webp, provenance))


def write_gif(path: str | os.PathLike[str], frames: Tensor, fps: float) -> None:
    """Write a GIF that repeats for ever, in the 255 colours that suit its frames best.

    Args:
        path: the file; its folder must exist.
        frames: (T, 3, H, W) float in [0, 1], or (T, H, W, 3) uint8.
        fps: frames per second, above 0 and at most 50.

    Raises:
        ValueError: frames or fps that no GIF can hold.
        OSError: the file could not be written.
    """
    _check(frames, fps, GIF_RATE, "GIF")
    write_whole(Path(path), _encode(_with_palette(_pictures(frames, fps)), "gif", "gif", "pal8", fps, {}))


def _check(frames: Tensor, fps: float, most: int, kind: str) -> None:
    check_frames(frames)
    if not (0 < fps <= most):
        raise ValueError(
            f"The video has {fps:g} frames per second; a {kind} shows more than 0 and at most {most}. "
            f"Give it to resample_video, with fps {most}."
        )


def _pictures(frames: Tensor, fps: float) -> Iterator[VideoFrame]:
    import av

    for index, rgb_HWC in enumerate(as_bytes(frames)):
        picture = av.VideoFrame.from_ndarray(rgb_HWC.contiguous().numpy(), format="rgb24")
        picture.pts, picture.time_base, picture.duration = index, 1 / _rate(fps), 1
        yield picture


def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)


def _encode(
    pictures: Iterable[VideoFrame], codec: str, container_format: str, pix_fmt: str, fps: float, options: dict[str, str]
) -> bytes:
    """The file as bytes; ``loop`` 0 is for ever."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container_format, container_options={"loop": "0"}) as container:
        stream: Any = container.add_stream(codec, rate=_rate(fps), options=options)
        stream.codec_context.thread_count = 1
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width, stream.pix_fmt = picture.height, picture.width, pix_fmt
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _with_palette(pictures: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """The pictures in 255 colours that are chosen from all of them; what lies between two is scattered."""
    from av.error import BlockingIOError as NothingYet
    from av.error import EOFError as EndOfFrames
    from av.filter import Graph

    first = next(pictures)
    graph = Graph()
    source = graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=first.time_base)
    split, palette = graph.add("split"), graph.add("palettegen")
    use, sink = graph.add("paletteuse", "dither=floyd_steinberg:diff_mode=rectangle"), graph.add("buffersink")
    for one, port, other, into in (
        (source, 0, split, 0), (split, 0, use, 0), (split, 1, palette, 0), (palette, 0, use, 1), (use, 0, sink, 0)
    ):  # fmt: skip
        one.link_to(other, port, into)
    graph.configure()
    for picture in (first, *pictures, None):
        graph.push(picture)
    while True:
        try:
            yield graph.vpull()
        except (EndOfFrames, NothingYet):
            return
