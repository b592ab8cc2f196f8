"""A person's own video or picture becomes a Video. Knows which part of a file is asked for, not how it is decoded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.paths import input_file, open_input
from kineograph.nodes.media.decode import PICTURES, VIDEOS
from kineograph.nodes.sockets import Video

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kineograph.nodes.media.decode import Format, Kind

Side = Annotated[int, Field(ge=0, le=16384)]
NEAR = 0.02
"""A rate or an aspect that is off by so little is not told: rates are averages, sides are whole pixels."""
GREYS = {"black": 0.0, "grey": 0.5, "white": 1.0}


def video_digest(path: str) -> str:
    """The digest of a video's bytes; refuses what begins like no video."""
    return _digest(path, VIDEOS)


def image_digest(path: str) -> str:
    """The digest of a picture's bytes; refuses what begins like no picture."""
    return _digest(path, PICTURES)


def outlined_video(path: str, start: float, frames: int, fps: float, height: int, width: int) -> Video:
    """What ``load_video`` reads, without its frames."""
    import torch

    with open_input(path) as file:
        _, rate, times, high, wide = _asked(file, path, start, frames, fps, height, width)
    return Video(torch.empty(1, len(times), 3, high, wide, device="meta"), rate)


def outlined_image(path: str, height: int, width: int, fps: float, **_: str) -> Video:
    """What ``load_image`` reads, without its pixels."""
    import torch

    from kineograph.nodes.media.decode import probe

    with open_input(path) as file:
        high, wide = _size(probe(file, repr(Path(path).name), kinds=PICTURES), height, width)
    return Video(torch.empty(1, 1, 3, high, wide, device="meta"), fps)


@node(fingerprint=video_digest, estimate=outlined_video)
def load_video(
    path: Annotated[
        str, input_file(*(end for kind in VIDEOS for end in kind.endings), instead="load_image@1 reads pictures")
    ],
    run: RunContext,
    start: Annotated[float, Field(ge=0)] = 0.0,
    frames: Annotated[int, Field(ge=0, le=2048)] = 0,
    fps: Annotated[float, Field(ge=0, le=1000)] = 0.0,
    height: Side = 0,
    width: Side = 0,
) -> Video:
    """Read an MP4, MOV, MKV or WebM: upright, without its sound, at regular times also where its rate varies.

    Where its size or rate is not the file's, the run says so.

    Args:
        path: from the current folder, or absolute.
        start: seconds from its beginning.
        frames: how many are read; 0 is all from there.
        fps: frames per second they are read at, of those in between the nearest; 0 is the file's (its average).
        height: pixels; scaled while it is decoded. 0 follows the width, or is the file's.
        width: pixels; with a height, what does not fit is cut off evenly. 0 follows the height, or is the file's.

    Raises:
        ValueError: it is no such video, is damaged, ends before that, or needs more memory than is lent.
    """
    from kineograph.nodes.media.decode import read_frames

    with open_input(path) as file:
        found, rate, times, high, wide = _asked(file, path, start, frames, fps, height, width)
        if fitted := _fitted(found, rate, len(times), high, wide):
            run.note(f"{Path(path).name} {fitted}")
        return Video(read_frames(file, repr(Path(path).name), times, high, wide)[None], rate)


@node(fingerprint=image_digest, estimate=outlined_image)
def load_image(
    path: Annotated[
        str, input_file(*(end for kind in PICTURES for end in kind.endings), instead="load_video@1 reads videos")
    ],
    height: Side = 0,
    width: Side = 0,
    fps: Annotated[float, Field(gt=0, le=1000)] = 8.0,
    background: Literal["black", "grey", "white"] = "black",
) -> Video:
    """Read a PNG, JPEG or WebP, upright, as a video of one frame.

    Args:
        path: from the current folder, or absolute.
        height: pixels; scaled while it is decoded. 0 follows the width, or is the file's.
        width: pixels; with a height, what does not fit is cut off evenly. 0 follows the height, or is the file's.
        fps: frames per second of the video that it shall be part of.
        background: what shows where the picture is transparent.

    Raises:
        ValueError: it is no such picture, is damaged, or is too large.
    """
    from kineograph.nodes.media.decode import probe, read_frames

    name = repr(Path(path).name)
    with open_input(path) as file:
        high, wide = _size(probe(file, name, kinds=PICTURES), height, width)
        return Video(read_frames(file, name, [0.0], high, wide, background=GREYS[background])[None], fps)


def _digest(path: str, kinds: Sequence[Kind]) -> str:
    from kineograph.digests import file_digest
    from kineograph.nodes.media.decode import check_kind

    with open_input(path) as file:
        check_kind(file, repr(Path(path).name), kinds)
    return file_digest(Path(path).expanduser())


def _asked(
    file: BinaryIO, path: str, start: float, frames: int, fps: float, height: int, width: int
) -> tuple[Format, float, list[float], int, int]:
    """The file, and what is read of it: the rate, the second of each frame, height and width."""
    from kineograph.nodes.media.decode import probe

    name = repr(Path(path).name)
    found = probe(file, name, kinds=VIDEOS)
    rate = fps or found.fps
    count = _count(name, found, start, rate, frames)
    high, wide = _size(found, height, width)
    _check_room(name, count, high, wide)
    return found, rate, [start + number / rate for number in range(count)], high, wide


def _fitted(found: Format, rate: float, count: int, height: int, width: int) -> str:
    """What is made of a file, where size or rate are others; else nothing."""
    if (height, width) == (found.height, found.width) and abs(rate / found.fps - 1) < NEAR:
        return ""
    cut = max(height / found.height, width / found.width) / min(height / found.height, width / found.width) > 1 + NEAR
    return (
        f"is {found.width} x {found.height} pixels at {found.fps:.4g} frames per second; read are {count} frames of "
        f"{width} x {height} at {rate:.4g}{', and what does not fit is cut off' if cut else ''}"
    )


def _count(name: str, found: Format, start: float, rate: float, asked: int) -> int:
    """How many frames are read: those that are asked for, or all from a time to the file's last frame."""
    seconds = found.frames / found.fps
    if start >= seconds:
        raise ValueError(f"{name} lasts {seconds:.3g} seconds; nothing begins at second {start:g}.")
    there = 1 + max(0, math.floor((seconds - 1 / found.fps - start) * rate + 0.01))  # rates are rounded: 29.97
    if asked > there:
        frames, most = ("1 frame", "1") if there == 1 else (f"{there} frames", f"{there} or less")
        raise ValueError(
            f"{name} has {frames} from second {start:g} at {rate:g} per second; {asked} are asked for. "
            f"Set frames to {most}, or make it longer with repeat_video."
        )
    return asked or there


def _size(found: Format, height: int, width: int) -> tuple[int, int]:
    """Height and width, those that are 0 from the file."""
    if not height and not width:
        return found.height, found.width
    scale = height / found.height if height else width / found.width
    return height or max(1, round(found.height * scale)), width or max(1, round(found.width * scale))


def _check_room(name: str, frames: int, height: int, width: int) -> None:
    from kineograph.nodes.media.decode import Limits

    limits = Limits()
    if frames > limits.frames:
        raise ValueError(
            f"{name} would be {frames:,} frames; at most {limits.frames:,} are read. Set frames, or a lower fps."
        )
    if (size := 12 * frames * height * width) > limits.bytes:
        fits = math.floor(height * math.sqrt(limits.bytes / size))
        raise ValueError(
            f"{name} as {frames} frames of {width} x {height} pixels needs {size / 2**30:.3g} GiB, and at most "
            f"{limits.bytes / 2**30:g} GiB are lent. Set height to {fits} or less, or read fewer frames."
        )
