"""Numbers to plot over steps, thinned out evenly: a long run takes no more room than a short one. Knows no job."""

from __future__ import annotations

import json
from collections.abc import Sequence

POINTS = 1000
Point = tuple[int, float | None]


class Series:
    """Points in the order they came; every ``stride``-th is kept, and always the last.

    When there are ``POINTS``, every other one goes and the stride doubles.

    Args:
        points: those of an earlier attempt at the same job.
        stride: how they were thinned out.
        resumed: the next point takes the place of those from its step on, for the run goes on from there.
    """

    def __init__(self, points: Sequence[Point] = (), stride: int = 1, *, resumed: bool = False) -> None:
        self._kept = list(points)
        self._stride = stride
        self._since = stride - 1  # points that came since the last that was kept
        self._last: Point | None = None
        self._resumed = resumed

    def add(self, step: int, value: float | None) -> None:
        """Add a point; null where it is no number."""
        if self._resumed:
            self._kept = [point for point in self._kept if point[0] < step]
            self._resumed = False
        self._last = (step, value)
        self._since += 1
        if self._since >= self._stride:
            self._kept.append(self._last)
            self._since, self._last = 0, None
        if len(self._kept) >= POINTS:
            if self._last is None and len(self._kept) % 2 == 0:  # the newest is among those that go
                self._last, self._since = self._kept[-1], self._stride
            self._kept = self._kept[::2]
            self._stride *= 2

    def points(self) -> list[Point]:
        """What is kept, at most ``POINTS``."""
        return [*self._kept, *([self._last] if self._last is not None else [])]

    def to_json(self) -> str:
        """The text that ``of_json`` reads."""
        return json.dumps([self._stride, self.points()])

    @classmethod
    def of_json(cls, text: str, *, resumed: bool = False) -> Series:
        """The series again."""
        stride, points = json.loads(text)
        return cls([(step, value) for step, value in points], stride, resumed=resumed)
