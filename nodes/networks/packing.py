"""Clips of several sizes as one sequence of tokens: knows lengths and budgets, not what a token or a clip is.

Patch n' Pack (Dehghani et al. 2023, NaViT): no token is padding, whatever is done per token is done once for all of
them, and whatever belongs to a clip is done on its own stretch of the sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Runs:
    """How a sequence is cut into runs of neighbours that share something: a clip, or a noise level.

    Attributes:
        shapes: (count, length) of neighbouring runs of equal length, in order: such runs are computed as one batch.
    """

    shapes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, parts: Sequence[Tensor], dim: int = 0) -> Runs:
        """The runs that :meth:`cut` would give these parts of: ``dim`` is the count, ``dim + 1`` the length."""
        return cls(tuple((part.shape[dim], part.shape[dim + 1]) for part in parts))

    def cut(self, x: Tensor, dim: int = 0) -> list[Tensor]:
        """The runs of a sequence, as views: for each shape, ``dim`` becomes (count, length).

        Args:
            x: ``dim`` is as long as all runs together.
            dim: the sequence's axis.
        """
        parts = x.split([count * length for count, length in self.shapes], dim)
        return [part.unflatten(dim, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The inverse of :meth:`cut`; where one stands for all runs of a shape, it is repeated."""
        return join([part.expand(*shape, -1) for part, shape in zip(parts, self.shapes, strict=True)])

    def rows(self, table: Tensor) -> list[Tensor]:
        """A table with a row for each run, cut at the same places: (count, ...) for each shape."""
        return list(table.split([count for count, _ in self.shapes]))

    def spread(self, table: Tensor) -> Tensor:
        """A table with a row for each run, with each row repeated for all members of its run."""
        parts = zip(self.rows(table), self.shapes, strict=True)
        return join([rows[:, None].expand(-1, length, *rows.shape[1:]) for rows, (_, length) in parts])


def join(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Batches of runs behind each other in one sequence: the inverse of :meth:`Runs.cut`.

    Args:
        parts: ``dim`` is the count, ``dim + 1`` the length.
        dim: where the sequence's axis shall be.
    """
    flat = [part.flatten(dim, dim + 1) for part in parts]
    return flat[0] if len(flat) == 1 else torch.cat(flat, dim)


def compute(tokens: int, knee: float) -> float:
    """What a clip costs, in tokens of very short clips: n + n² / knee.

    The first term is what is done per token, the second attention, where every token of a clip meets every other.

    Args:
        tokens: n.
        knee: length at which attention costs as much as all the rest. Counting operations, a transformer of width D
            with a feed-forward layer of 4 D has it at 6 D: 24 D² n for the layers, 4 D n² for attention.
    """
    return tokens + tokens * tokens / knee


def balance(costs: Sequence[float], bins: int, budget: float) -> list[list[int]]:
    """Share items out among bins so that all cost nearly the same: the dearest first, each to the cheapest bin.

    That is longest-processing-time-first (Graham 1969). Best-fit-decreasing would need fewer bins, but fills each with
    items of one size. Equal items keep their order: the result is a function of the costs alone.

    Args:
        costs: of each item.
        bins: how many.
        budget: the most a bin may cost.

    Returns:
        Places in ``costs`` for each bin, the dearest first. Items that fit nowhere are in none.
    """
    filled: list[list[int]] = [[] for _ in range(bins)]
    cheapest = [(0.0, number) for number in range(bins)]  # a heap
    for item in sorted(range(len(costs)), key=lambda place: -costs[place]):
        load, number = cheapest[0]
        if load + costs[item] <= budget:
            heapreplace(cheapest, (load + costs[item], number))
            filled[number].append(item)
    return filled
