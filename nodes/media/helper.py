"""Looks at strangers' videos and pictures for a server, as a process of its own that may be killed. Knows no server.

It reads one JSON object per line and writes one per line: ``{"do": "probe", "path": ...}`` gives what ``probe``
returns, or ``{"refused": sentence}``. A damaged file can crash, hang or fill only this process.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from kineograph.nodes.media.decode import Limits, probe, read_frames
from kineograph.nodes.media.provenance import ProvenanceError, may_carry, read_provenance

if TYPE_CHECKING:
    from torch import Tensor

LIMITS = Limits(seconds=30.0)
MOST_PIXELS = 8192 * 1024
"""Of a picture that is made here."""


def main(requests: TextIO, replies: TextIO) -> None:
    """Answer until the requests end."""
    for line in requests:
        replies.write(json.dumps(_answer(json.loads(line))) + "\n")
        replies.flush()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    answers: dict[str, Callable[..., dict[str, Any]]] = {"probe": look, "strip": strip, "frame": frame}
    try:
        return answers[request.pop("do")](**request)
    except ValueError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "The file needs more memory than is lent for looking at it."}


def look(path: str, name: str) -> dict[str, Any]:
    """What a file holds, and the workflow that it carries."""
    with open(path, "rb") as file:
        found = asdict(probe(file, name, LIMITS))
    return found | {"carries": carried(path)}


def carried(path: str) -> str:
    """The text that a file carries about its making, or nothing."""
    try:
        return read_provenance(path) if may_carry(path) else ""
    except ProvenanceError:
        return ""


def strip(path: str, name: str, count: int, height: int) -> dict[str, Any]:
    """Frames of a file side by side, evenly chosen from first to last, as one PNG.

    Args:
        path: the file.
        name: what messages call it.
        count: the most frames.
        height: pixels of each.
    """
    with open(path, "rb") as file:
        found = probe(file, name, LIMITS)
        count = min(count, found.frames)
        width = max(1, round(found.width * height / found.height))
        if count * width * height > MOST_PIXELS:
            raise ValueError(f"{count} frames of {width} x {height} pixels are too large a strip; ask for fewer.")
        places = [round(number * (found.frames - 1) / max(count - 1, 1)) for number in range(count)]
        frames_TCHW = read_frames(file, name, [place / found.fps for place in places], height, width, LIMITS)
    return _png(frames_TCHW.permute(1, 2, 0, 3).flatten(2)) | {"count": count, "frames": found.frames}


def frame(path: str, name: str, n: int) -> dict[str, Any]:
    """One frame as a PNG.

    Args:
        path: the file.
        name: what messages call it.
        n: number of the frame, from 0; a negative one counts from the end.
    """
    with open(path, "rb") as file:
        found = probe(file, name, LIMITS)
        place = n + found.frames if n < 0 else n
        if not 0 <= place < found.frames:
            raise ValueError(f"{name} has no frame {n}: it has {found.frames}.")
        return _png(read_frames(file, name, [place / found.fps], found.height, found.width, LIMITS)[0])


def _png(frame_CHW: Tensor) -> dict[str, Any]:
    from kineograph.nodes.media.write import image_bytes

    return {"png": base64.b64encode(image_bytes(frame_CHW)).decode("ascii")}
