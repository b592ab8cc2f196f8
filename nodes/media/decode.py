"""A stranger's videos and pictures, decoded through FFmpeg (`av`) within limits: knows no graph, network or caption.

What is read is an open file and never a name: FFmpeg opens nothing by itself, and a part of an archive reads like any
file. Times are seconds since the first frame.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kineograph.nodes.media.pixels import covering, covering_size, upright_size

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CODECS = frozenset({"h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mjpeg", "prores", "ffv1", "png", "webp"})
"""The decoders that a stranger's file may reach."""


@dataclass(frozen=True)
class Kind:
    """How a kind of file begins, which names it has, and the FFmpeg demuxer that may read it."""

    name: str
    place: int
    mark: bytes
    demuxer: str
    endings: tuple[str, ...]


VIDEOS = (
    Kind("MP4 or MOV", 4, b"ftyp", "mov", (".mp4", ".mov", ".m4v")),
    Kind("MKV or WebM", 0, b"\x1a\x45\xdf\xa3", "matroska", (".mkv", ".webm")),
)
PICTURES = (
    Kind("PNG", 0, b"\x89PNG\r\n\x1a\n", "png_pipe", (".png",)),
    Kind("JPEG", 0, b"\xff\xd8\xff", "jpeg_pipe", (".jpg", ".jpeg")),
    Kind("WebP", 8, b"WEBP", "webp_pipe", (".webp",)),
)


@dataclass(frozen=True)
class Limits:
    """How much of a stranger's video is decoded before it is refused; a file of 100 KB can hold 15 GB of frames.

    Attributes:
        frames: most frames of the clip.
        pixels: most pixels of a video's frame, width times height.
        pictures: most pixels of a picture; telephones make them of 100 million.
        bytes: most bytes of all frames as returned, 12 per pixel.
        seconds: longest time that decoding may take.
    """

    frames: int = 2048
    pixels: int = 4096 * 2304
    pictures: int = 120_000_000
    bytes: int = 4 << 30
    seconds: float = 120.0


@dataclass(frozen=True)
class Format:
    """What a file holds, upright and with square pixels. A picture has one frame.

    Attributes:
        frames: as many as its rate gives in its time.
        fps: frames per second, the average where it varies; 1 for a picture.
        height, width: pixels.
    """

    frames: int
    fps: float
    height: int
    width: int


def read_video(
    path: str | os.PathLike[str], *, first: int | None = None, limits: Limits = Limits()
) -> tuple[Tensor, float]:
    """Decode a stranger's MP4, MOV, MKV or WebM within limits. No playlist, no network, no other file is opened.

    Args:
        path: the file.
        first: stop after this many frames; None decodes all.
        limits: what is refused.

    Returns:
        (T, 3, H, W) float32 in [0, 1], upright, and frames per second (the average, where it varies).

    Raises:
        ValueError: no video, or more than the limits allow.
    """
    import torch

    if first is not None and first < 1:
        raise ValueError(f"first is {first}; at least one frame must be read.")
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path.name} is no file.")
    with open(path, "rb") as file, _opened(file, path.name, limits, VIDEOS) as (container, stream):
        fps = _frame_rate(path.name, stream)
        frames = list(_decoded(path.name, container, stream, first, limits))
    if not frames:
        raise ValueError(f"{path.name} holds no frame that can be decoded; it may be cut off. Export it again.")
    return torch.stack(frames).permute(0, 3, 1, 2).to(torch.float32).div_(255), fps


def probe(file: BinaryIO, name: str, limits: Limits = Limits(), kinds: Sequence[Kind] = VIDEOS + PICTURES) -> Format:
    """What a stranger's video or picture holds: its first frame is decoded, the others are not.

    Args:
        file: open for reading.
        name: what messages call it.
        limits: what is refused.
        kinds: of files that are taken.

    Raises:
        ValueError: it is of no such kind, or its end is missing.
    """
    with _opened(file, name, limits, kinds) as (container, stream):
        frame = next(_frames(name, container, stream, limits), None)
        if frame is None:
            raise ValueError(f"{name} holds no frame that can be decoded; it may be cut off. Export it again.")
        height, width = upright_size(frame, _aspect(stream))
        if _is_picture(container):
            return Format(1, 1.0, height, width)
        fps = _frame_rate(name, stream)
        seconds = _seconds(name, container, stream, 1 / fps, limits)
    return Format(max(1, round(seconds * fps)), fps, height, width)


def read_frames(
    file: BinaryIO,
    name: str,
    times: Sequence[float],
    height: int,
    width: int,
    limits: Limits = Limits(),
    background: float = 0.0,
) -> Tensor:
    """The frames nearest to some times, scaled to cover height x width and cut to its middle.

    Args:
        file: a video or picture, open for reading.
        name: what messages call it.
        times: seconds since the first frame, rising.
        height, width: pixels.
        limits: what is refused.
        background: the grey in [0, 1] that shows where a picture is transparent.

    Returns:
        (T, 3, H, W) float32 in [0, 1], upright.

    Raises:
        ValueError: it cannot be decoded, breaks off earlier, or is more than the limits allow.
    """
    import torch
    from av.video.reformatter import VideoReformatter

    size = 12 * len(times) * height * width
    if len(times) > limits.frames or size > limits.bytes:
        raise ValueError(
            f"{name} as {len(times)} frames of {width} x {height} pixels needs {size:,} bytes; at most {limits.frames} "
            f"frames and {limits.bytes:,} bytes are read. Cut it into shorter clips, or make them smaller."
        )
    with _opened(file, name, limits, VIDEOS + PICTURES) as (container, stream):
        if times[0] > 0 and not _is_picture(container):
            _seek(name, container, stream, times[0])
        shots = _nearest(name, stream, _frames(name, container, stream, limits), times)
        scaler, aspect, frames = VideoReformatter(), _aspect(stream), []
        for frame in shots:
            _check_thin(name, covering_size(frame, height, width, aspect), frame, limits)
            frames.append(covering(frame, height, width, aspect, scaler, background))
    return torch.stack(frames).permute(0, 3, 1, 2).to(torch.float32).div_(255)


def _seek(name: str, container: Any, stream: Any, second: float) -> None:
    """Go to the last whole frame before a time."""
    from av.error import FFmpegError

    try:
        container.seek(_origin(stream) + int(second / stream.time_base), stream=stream)
    except FFmpegError as failure:
        raise ValueError(f"{name} cannot be entered at second {second:.3g}: {_reason(failure)}.") from failure


def _nearest(name: str, stream: Any, frames: Iterator[Any], times: Sequence[float]) -> Iterator[Any]:
    """The frame nearest to each time, the earlier of two that are as near; the last one stands while it is shown."""
    before, at_before, count = None, -math.inf, 0
    for frame in frames:
        at = float((frame.pts - _origin(stream)) * stream.time_base) if frame.pts is not None else at_before
        while at >= times[count]:
            yield _whole(name, before if times[count] - at_before <= at - times[count] else frame, at)
            count += 1
            if count == len(times):
                return
        before, at_before = frame, at
    per_frame = 1 / _frame_rate(name, stream)
    shown = max(per_frame, float((before.duration or 0) * stream.time_base)) if before is not None else 0.0
    while count < len(times) and times[count] < at_before + shown + per_frame / 2:
        yield _whole(name, before, at_before)
        count += 1
    if count < len(times):
        raise ValueError(f"{name} breaks off before second {times[count]:.3g}. Export it again.")


def _whole(name: str, frame: Any, second: float) -> Any:
    """The frame, unless its decoder made part of it up."""
    if frame.is_corrupt:
        raise ValueError(f"{name} is damaged near second {second:.3g}. Export it again.")
    return frame


def _check_thin(name: str, size: tuple[int, int], frame: Any, limits: Limits) -> None:
    if size[0] * size[1] > max(limits.pixels, frame.height * frame.width):
        raise ValueError(f"{name} is too long and thin: scaled, it has {size[1]} x {size[0]} pixels. Crop it first.")


def _aspect(stream: Any) -> float:
    """How much wider than high a pixel is."""
    return float(stream.sample_aspect_ratio or 1)


def _seconds(name: str, container: Any, stream: Any, per_frame: float, limits: Limits) -> float:
    """How long a video lasts, by its last packets: headers lie, and of a file that is cut off the last are missing."""
    from av.error import FFmpegError

    said = float(stream.duration * stream.time_base) if stream.duration else None
    end, deadline = 0, time.monotonic() + limits.seconds
    try:
        if container.duration:
            with suppress(FFmpegError):  # some MKV cannot be sought in: then all of it is read
                container.seek(container.duration)
        for packet in container.demux(stream):
            _check_time(name, deadline, limits)
            if packet.pts is not None and not packet.is_corrupt:
                end = max(end, packet.pts + (packet.duration or 0))
    except FFmpegError as failure:
        raise ValueError(f"{name} breaks off: {_reason(failure)}. Export it again.") from failure
    found = float((end - _origin(stream)) * stream.time_base)
    if said is not None and found < said - 1.5 * per_frame:
        raise ValueError(f"{name} breaks off after {max(found, 0.0):.3g} of {said:.3g} seconds. Export it again.")
    return found


def _is_picture(container: Any) -> bool:
    return container.format.name in {kind.demuxer for kind in PICTURES}


def _origin(stream: Any) -> int:
    """Where its times begin."""
    return stream.start_time or 0


def check_kind(file: BinaryIO, name: str, kinds: Sequence[Kind]) -> Kind:
    """The kind of a file by its first bytes: playlists, above all, which name other files, are none.

    Raises:
        ValueError: it is of none of these kinds.
    """
    file.seek(0)
    head = file.read(16)
    file.seek(0)
    for kind in kinds:
        if head[kind.place :].startswith(kind.mark):
            return kind
    listed = " and no ".join(kind.name for kind in kinds)
    if not head:
        raise ValueError(f"{name} is no {listed}: it is empty.")
    better = "PNG" if kinds == PICTURES else "MP4"
    raise ValueError(f"{name} is no {listed}: it begins with {head[:8]!r}. Convert it to {better} first.")


@contextmanager
def _opened(file: BinaryIO, name: str, limits: Limits, kinds: Sequence[Kind]) -> Iterator[tuple[Any, Any]]:
    import av
    from av.error import FFmpegError

    kind = check_kind(file, name, kinds)
    most = limits.pictures if kind in PICTURES else limits.pixels
    options = {"format_whitelist": kind.demuxer, "protocol_whitelist": "none", "max_streams": "16"}
    codec_options = {"max_pixels": str(most)}  # also where the size changes in the middle
    patience: Any = (limits.seconds, limits.seconds)  # to open, to read
    try:
        container = av.open(
            file, options=codec_options, container_options=options, timeout=patience, metadata_errors="replace"
        )
    except (FFmpegError, OSError) as failure:
        raise ValueError(f"{name} is no video that can be read: {_reason(failure)}. Export it again.") from failure
    with container:
        if not container.streams.video:
            raise ValueError(f"{name} holds no video stream.")
        stream = container.streams.video[0]
        context = stream.codec_context
        if context is None or context.name not in CODECS:
            coded = "of an unknown kind" if context is None else context.name
            raise ValueError(f"{name} is coded as {coded}; known are {', '.join(sorted(CODECS))}.")
        _check_size(name, context.width, context.height, most)
        context.options = codec_options
        yield container, stream


def _frames(name: str, container: Any, stream: Any, limits: Limits) -> Iterator[Any]:
    """Each frame as FFmpeg has it, within the limits of its size and of time."""
    from av.error import FFmpegError

    deadline, count, most = time.monotonic() + limits.seconds, 0, _most_pixels(container, limits)
    try:
        for frame in container.decode(stream):
            _check_size(name, frame.width, frame.height, most)
            _check_time(name, deadline, limits)
            count += 1
            yield frame
    except FFmpegError as failure:
        raise ValueError(f"{name} breaks off after {count} frames: {_reason(failure)}. Export it again.") from failure


def _decoded(name: str, container: Any, stream: Any, first: int | None, limits: Limits) -> Iterator[Tensor]:
    """Each frame as (H, W, 3) uint8, upright; counts what it hands out, because headers lie."""
    import torch

    size = 0
    shape: torch.Size | None = None
    for count, frame in enumerate(_frames(name, container, stream, limits), start=1):
        rgb_HWC = torch.from_numpy(frame.to_ndarray(format="rgb24"))
        rgb_HWC = rgb_HWC.rot90(round(frame.rotation / 90) % 4)
        shape = shape or rgb_HWC.shape
        size += 4 * rgb_HWC.numel()
        if rgb_HWC.shape != shape:
            raise ValueError(f"{name} changes its size at frame {count - 1}. Export it with one size.")
        if count > limits.frames:
            raise ValueError(f"{name} has more than {limits.frames} frames. Cut it, or read only the first.")
        if size > limits.bytes:
            raise ValueError(f"{name} needs more than {limits.bytes:,} bytes of memory. Cut it, or make it smaller.")
        yield rgb_HWC
        if count == first:
            return


def _most_pixels(container: Any, limits: Limits) -> int:
    return limits.pictures if _is_picture(container) else limits.pixels


def _check_size(name: str, width: int, height: int, most: int) -> None:
    if not width * height:
        raise ValueError(f"{name} is damaged, or has more than {most:,} pixels, the most that are read.")
    if width * height > most:
        raise ValueError(f"{name} has frames of {width} x {height} pixels; at most {most:,} are read.")


def _check_time(name: str, deadline: float, limits: Limits) -> None:
    if time.monotonic() > deadline:
        raise ValueError(f"{name} takes more than {limits.seconds:g} seconds to read. Cut it, or make it smaller.")


def _frame_rate(name: str, stream: Any) -> float:
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    if not (math.isfinite(rate) and 0 < rate <= 1000):
        raise ValueError(f"{name} says it has {rate:g} frames per second; between 0 and 1000 can be read.")
    return rate


def _reason(failure: BaseException) -> str:
    """FFmpeg's sentence without its number and without the path."""
    return str(getattr(failure, "strerror", None) or type(failure).__name__).rstrip(".").lower()
