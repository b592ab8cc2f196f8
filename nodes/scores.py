"""What a judge says: numbers with their intervals, beside those of real and of broken clips. Knows no measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kineograph.graph_runtime.node import RunContext
from kineograph.graph_runtime.sockets import socket
from kineograph.nodes.sockets import Video

if TYPE_CHECKING:
    from kineograph.nodes.networks.intervals import Estimate

Name = Annotated[str, Field(min_length=1)]


def teller(run: RunContext, name: str, step: int) -> Callable[[str, float], None]:
    """What reports a number as a metric whose name begins with a judge's."""
    return lambda key, value: run.metric(f"{name}_{key}", step, value)


@dataclass(frozen=True)
class Score:
    """One number, and what it must be compared with.

    Attributes:
        name: what was measured, in a few words.
        about: what the number means, and which is best.
        value: what was measured; nan where no clip could be measured.
        low: lower end of the 95 % interval.
        high: upper end.
        count: clips that were measured.
        real: what real clips give, where there were some; the floor.
        broken: what clips give that were broken on purpose; the ceiling.
        how: what broke them.
    """

    name: str
    about: str
    value: float
    low: float
    high: float
    count: int
    real: float | None = None
    broken: float | None = None
    how: str = ""


@socket(family="scores")
@dataclass(frozen=True)
class Scores:
    """What one judge says of some clips.

    Attributes:
        rows: the numbers.
    """

    rows: tuple[Score, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """What was measured, in the order of the rows."""
        return tuple(row.value for row in self.rows)


@dataclass(frozen=True)
class Question:
    """What a judge asks of clips.

    Attributes:
        key: the name of the number among those that the judge measures.
        name: as people read it.
        about: what the number means, and which is best.
        how: what is done to real clips to break them.
        spoil: the doing, from (B, T, 3, H, W) to the same.
    """

    key: str
    name: str
    about: str
    how: str
    spoil: Callable[..., object]


def answer(
    questions: Sequence[Question],
    measure: Callable[[Video], Mapping[str, Estimate]],
    video: Video,
    real: Video | None,
    tell: Callable[[str, float], None],
) -> Scores:
    """Measure clips, and the real ones as they are and broken in each way that is asked for.

    Args:
        questions: in the order of the rows.
        measure: a number for each question's key; called with ``video``, with ``real``, and with broken clips.
        video: what is judged.
        real: of the same size; None where there is nothing to compare with.
        tell: what reports a number that was measured, by its key.
    """
    found = measure(video)
    floor, ceilings = {}, {}
    if real is not None:
        floor = measure(real)
        for how, spoil in {question.how: question.spoil for question in questions}.items():
            ceilings[how] = measure(replace(real, frames=spoil(real.frames)))
    rows = []
    for question in questions:
        estimate = found[question.key]
        if estimate.known:
            tell(question.key, estimate.value)
        ceiling = ceilings.get(question.how, {})
        rows.append(
            Score(
                question.name,
                question.about,
                *estimate,
                real=_known(floor.get(question.key)),
                broken=_known(ceiling.get(question.key)),
                how=question.how,
            )
        )
    return Scores(tuple(rows))


def _known(estimate: Estimate | None) -> float | None:
    return estimate.value if estimate is not None and math.isfinite(estimate.value) else None
