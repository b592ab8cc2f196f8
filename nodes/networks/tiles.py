"""Large frames cut into tiles that overlap by what a network looks around, and put together again. Knows no network.

A tile sees as many cells around its own as the network can see from any of them, so what it computes of its own cells
is what the whole would have: no seam, and nothing to blend. At the frame's edges it sees the edge itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
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

    def unit(self, part: Tensor) -> int:
        """Places of a cell along each side, in what was computed of what it saw."""
        return part.shape[-2] // (self.rows.last - self.rows.first)

    def place(self, whole: Tensor, unit: int = 1) -> Tensor:
        """Where its own places lie in the whole."""
        return _cut(whole, self.rows.start, self.rows.stop, self.columns.start, self.columns.stop, unit)


class Blended(Tile):
    """A tile of a network that looks at the whole frame: where two tiles see the same, one passes into the other.

    Its own places are then all that it saw, in shares that add up to 1 over all tiles.
    """

    def own(self, part: Tensor, unit: int = 1) -> Tensor:
        """All places of what was computed, in its shares of them."""
        down, across = (_shares(span, unit).to(part) for span in (self.rows, self.columns))
        return part * down[:, None] * across

    def place(self, whole: Tensor, unit: int = 1) -> Tensor:
        """Where what it saw lies in the whole."""
        return self.seen(whole, unit)


def blended(height: int, width: int, size: int, around: int) -> list[Tile]:
    """The tiles of :func:`tiles`, blended over what they see beside their own.

    Args:
        height: cells down.
        width: cells across.
        size: most cells of a tile's own along each side.
        around: cells that it sees beside its own; at most half of what it has of its own.
    """
    return [Blended(each.rows, each.columns) for each in tiles(height, width, size, around)]


def tiles(height: int, width: int, size: int = 0, around: int = 0) -> list[Tile]:
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


Parts = Sequence[tuple[Tile, Iterator[Tensor]]]
"""Tiles, and of each the pieces in order, (B, C, n, H, W), that were computed of what it saw."""


def filled(parts: Parts, height: int, width: int, frames: int) -> Tensor:
    """The whole clip, tile after tile: beside it, only a piece of one tile is there.

    Args:
        parts: of frames of height x width cells.
        height: cells down.
        width: cells across.
        frames: of the clip, or latent frames.

    Returns:
        (B, T, C, H, W).
    """
    whole: Tensor | None = None
    for tile, pieces in parts:
        at = 0
        for piece in pieces:
            unit = tile.unit(piece)
            if whole is None:
                whole = piece.new_zeros(len(piece), frames, piece.shape[1], height * unit, width * unit)
            tile.place(whole, unit)[:, at : at + piece.shape[2]] += tile.own(piece, unit).transpose(1, 2)
            at += piece.shape[2]
            del piece  # before the next one is made
    assert whole is not None
    return whole


class Faded:
    """Lets the beginning of a tile come out of the end of the one before it, in even steps from 0.

    These are the numbers of diffusers' ``blend_v`` and ``blend_h``, which take a line after another, to the bit.
    """

    def __init__(self, axis: int) -> None:
        """Of tiles that follow each other along an axis."""
        self.axis = axis
        self._shares: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(self, before: Tensor, tile: Tensor, extent: int) -> Tensor:
        """The tile, which is changed.

        Args:
            before: (B, C, T, H, W).
            tile: (B, C, T, H, W), of the same sides but along the axis.
            extent: lines that pass, where both have as many.
        """
        extent = min(before.shape[self.axis], tile.shape[self.axis], extent)
        rising, falling = self._steps(extent, tile)
        leaving = before.narrow(self.axis, before.shape[self.axis] - extent, extent) * falling
        tile.narrow(self.axis, 0, extent).mul_(rising).add_(leaving.to(tile.dtype))
        return tile

    def _steps(self, extent: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Shares of a tile and of the one before it."""
        if (extent, like.device) not in self._shares:
            sides = [extent if at == self.axis else 1 for at in range(like.ndim)]
            rising = (torch.arange(extent, dtype=torch.float64, device=like.device) / extent).view(sides)
            self._shares[extent, like.device] = rising.float(), (1 - rising).float()
        return self._shares[extent, like.device]


def _spans(side: int, size: int, around: int) -> list[Span]:
    count = -(-side // size)
    cuts = [number * side // count for number in range(count + 1)]
    return [Span(start, stop, max(0, start - around), min(side, stop + around)) for start, stop in pairwise(cuts)]


def _shares(span: Span, unit: int) -> Tensor:
    """What a tile has of each place that it sees along a side: it rises from 0 to 1 over what another sees too."""
    places = (torch.arange((span.last - span.first) * unit, dtype=torch.float32) + 0.5) / unit + span.first
    before, behind = span.start - span.first, span.last - span.stop  # 0 at the frame's edges
    rising = (places - span.first) / (2 * before) if before else torch.ones_like(places)
    falling = (span.last - places) / (2 * behind) if behind else torch.ones_like(places)
    return torch.minimum(rising, falling).clamp(max=1)


def _cut(x: Tensor, top: int, bottom: int, left: int, right: int, unit: int) -> Tensor:
    return x[..., top * unit : bottom * unit, left * unit : right * unit]
