"""Large frames cut into tiles that overlap by what a network looks around, and put together again. Knows no network.

A tile sees as many cells around its own as the network can see from any of them, so what it computes of its own cells
is what the whole would have: no seam, and nothing to blend. At the frame's edges it sees the edge itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor


@dataclass(frozen=True)
class Span:
    """A stretch of one side, in cells: its own are ``start`` to ``stop``, it sees ``first`` to ``last``."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Tile:
    """A rectangle of cells."""

    rows: Span
    columns: Span

    @property
    def cells(self) -> int:
        """How many it sees."""
        return (self.rows.last - self.rows.first) * (self.columns.last - self.columns.first)

    def seen(self, x: Tensor, unit: int = 1) -> Tensor:
        """What it sees of (..., H, W), where a cell has ``unit`` places along each side."""
        return _cut(x, self.rows.first, self.rows.last, self.columns.first, self.columns.last, unit)

    def own(self, part: Tensor, unit: int = 1) -> Tensor:
        """Its own places of what was computed of what it saw."""
        top, left = self.rows.first, self.columns.first
        rows, columns = self.rows, self.columns
        return _cut(part, rows.start - top, rows.stop - top, columns.start - left, columns.stop - left, unit)

    def place(self, whole: Tensor, unit: int = 1) -> Tensor:
        """Where its own places lie in the whole."""
        return _cut(whole, self.rows.start, self.rows.stop, self.columns.start, self.columns.stop, unit)


def tiles(height: int, width: int, size: int, around: int) -> list[Tile]:
    """The tiles of a frame, of about equal size.

    Args:
        height: cells down.
        width: cells across.
        size: most cells of a tile's own along each side; 0 is one tile of all.
        around: cells that it sees beside its own.
    """
    return [
        Tile(rows, columns)
        for rows in _spans(height, size or height, around)
        for columns in _spans(width, size or width, around)
    ]


def assembled(cut: Sequence[Tile], parts: Iterable[Iterable[Tensor]], height: int, width: int) -> Iterator[Tensor]:
    """Whole frames of what tiles give piece by piece, all in step.

    Args:
        cut: the tiles.
        parts: of each tile, pieces (B, C, T, H, W) of what it saw.
        height: places down of the whole; each cell has as many places as in the parts.
        width: places across.
    """
    if len(cut) == 1:
        yield from next(iter(parts))
        return
    unit = height // cut[-1].rows.stop
    waiting = [iter(pieces) for pieces in parts]
    for piece in waiting[0]:
        whole = piece.new_empty(*piece.shape[:3], height, width)
        cut[0].place(whole, unit).copy_(cut[0].own(piece, unit))
        del piece
        for tile, pieces in zip(cut[1:], waiting[1:], strict=True):
            tile.place(whole, unit).copy_(tile.own(next(pieces), unit))
        yield whole
        del whole  # before the next one is made


def _spans(side: int, size: int, around: int) -> list[Span]:
    count = -(-side // size)
    cuts = [number * side // count for number in range(count + 1)]
    return [Span(start, stop, max(0, start - around), min(side, stop + around)) for start, stop in pairwise(cuts)]


def _cut(x: Tensor, top: int, bottom: int, left: int, right: int, unit: int) -> Tensor:
    return x[..., top * unit : bottom * unit, left * unit : right * unit]
