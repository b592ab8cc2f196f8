"""What a run will read of which weights, step by step, as a trial found it; and whether that fits. Knows no torch."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from kineograph.graph_runtime.costs import Residence, kept_share
from kineograph.graph_runtime.memory.residency import Schedule, Timeline, Use, schedule

MOST_USES = 20_000
"""What is planned ahead; what comes later goes on from the beginning of its loop."""

Label = tuple[str, int, str]
"""A block: the step that made its network, which of the networks of that step it is, and the block's name in it."""


@dataclass(slots=True)
class Demand:
    """What one step reads.

    Attributes:
        path: the step's place.
        whole: blocks that must be there while it runs.
        inside: blocks that are read one after another, each while its module runs.
    """

    path: str
    whole: frozenset[Label]
    inside: tuple[Label, ...] = ()


@dataclass(slots=True)
class Demands:
    """What all steps of a run read, in order.

    Attributes:
        order: the steps; those of a loop's body once for each pass.
        sizes: bytes of each block.
        names: of what network a block is, for people.
        reserves: the most bytes that are in memory beside weights while a step runs, by its place.
        lent: steps whose results are nothing but weights that a file has: they need not run.
        smaller: steps that run with their smaller setting, as they would not fit otherwise.
        shrinkable: steps that have such a setting.
        unknown: steps of which nothing is known.
    """

    order: list[Demand] = field(default_factory=list[Demand])
    sizes: dict[Label, int] = field(default_factory=dict[Label, int])
    names: dict[Label, str] = field(default_factory=dict[Label, str])
    reserves: dict[str, int] = field(default_factory=dict[str, int])
    lent: set[str] = field(default_factory=set[str])
    smaller: set[str] = field(default_factory=set[str])
    shrinkable: set[str] = field(default_factory=set[str])
    unknown: list[str] = field(default_factory=list[str])

    def repeat(self, begin: int, times: int) -> None:
        """What was read since ``begin`` is read so many times in all."""
        piece = self.order[begin:]
        room = (MOST_USES - len(self.order)) // max(len(piece), 1)
        self.order += piece * max(0, min(times - 1, room))

    def pin(self, around: str, labels: frozenset[Label]) -> None:
        """What recorded steps of a graph read is read again when gradients are taken: it stays all the time.

        Args:
            around: the place of the loop whose body it is; empty for the workflow.
            labels: the blocks.
        """
        for demand in self.order:
            if demand.path.rpartition("/")[0] == around:
                demand.whole |= labels

    def timeline(self) -> tuple[Timeline, list[int]]:
        """All uses, and for each demand the first of its uses: that of what is read all the time."""
        uses: list[Use] = []
        begins: list[int] = []
        known: dict[int, list[Use]] = {}
        for demand in self.order:
            begins.append(len(uses))
            if id(demand) not in known:
                reserve = self.reserves.get(demand.path, 0)
                known[id(demand)] = [
                    Use(demand.whole, reserve),
                    *(Use(demand.whole | {label}, reserve) for label in demand.inside),
                ]
            uses += known[id(demand)]
        return Timeline(uses, self.sizes, lambda label: label[:2]), begins


def reside(demands: Demands, budget: int) -> Residence:
    """Whether a run fits a budget, and how many bytes are moved."""
    timeline, begins = demands.timeline()
    room = budget - kept_share(budget)
    largest = timeline.largest() if timeline.uses else -1
    needs = timeline.need(largest) if timeline.uses else 0
    path = demands.order[bisect_left(begins, largest + 1) - 1].path if timeline.uses else ""
    planned = schedule(timeline, room) if needs <= room else Schedule("", [], 0)
    read = {label for use in timeline.uses for label in use.blocks}
    return Residence(
        budget,
        kept_share(budget),
        timeline.bytes_of(read),
        planned.moved,
        planned.policy,
        path,
        needs,
        timeline.bytes_of(timeline.uses[largest].blocks) if timeline.uses else 0,
        tuple(sorted(demands.smaller)),
        tuple(demands.unknown),
    )


def too_large(demands: Demands, budget: int) -> list[str]:
    """The steps that do not fit a budget."""
    timeline, begins = demands.timeline()
    room = budget - kept_share(budget)
    over = (at for at in range(len(timeline.uses)) if timeline.need(at) > room)
    return list(dict.fromkeys(demands.order[bisect_left(begins, at + 1) - 1].path for at in over))
