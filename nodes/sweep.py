"""Streams of typed-in values: what a loop tries one after another. Knows nothing of what they mean."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream

SIZE = re.compile(r"(\d{1,4})x(\d{1,4})x(\d{1,4})")


@node
def sweep(values: Annotated[list[float], Field(min_length=1)]) -> Stream[float]:
    """Numbers, one for each pass of a loop: noise levels, guidance scales, learning rates.

    Args:
        values: in their order.
    """
    return Stream.of(values)


@node
def sweep_texts(values: Annotated[list[str], Field(min_length=1)]) -> Stream[str]:
    """Texts, one for each pass of a loop: prompts, sizes, files.

    Args:
        values: in their order.
    """
    return Stream.of(values)


class Size(NamedTuple):
    """Frames and pixels of a video."""

    frames: int
    height: int
    width: int


@node
def read_size(size: str) -> Size:
    """The numbers of a size like 17x64x96.

    Args:
        size: frames x height x width.

    Raises:
        ValueError: it is none.
    """
    found = SIZE.fullmatch(size)
    if not found:
        raise ValueError(f"size = {size!r} is no frames x height x width, like 17x64x96.")
    return Size(*map(int, found.groups()))
