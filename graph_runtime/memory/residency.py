"""Which blocks of weights are on a device at which time: planned from all that will be read. Knows no torch, no graph.

A *use* is a moment: blocks that must be there together, and bytes to compute with. Uses are known beforehand, so whose
next use lies farthest ahead can go (Belady 1966). Eviction costs nothing, as a host copy stays; uploads cost their
bytes.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Block = Any
"""Whatever names a block; it is hashable."""
NEVER = math.inf
TRIED_SETS = 4096
"""Ways to share an eviction out among sizes that are compared."""


@dataclass(frozen=True, slots=True)
class Use:
    """Blocks that are read together, and the bytes that are needed beside them."""

    blocks: frozenset[Block]
    reserve: int = 0


class Timeline:
    """Uses in order, and when each block is next read.

    Args:
        uses: in the order in which they come.
        sizes: bytes of each block.
        network: what a block is part of.
    """

    def __init__(
        self, uses: Sequence[Use], sizes: Mapping[Block, int], network: Callable[[Block], Any] = lambda _: None
    ) -> None:
        self.uses = list(uses)
        self.sizes = sizes
        self.network = network
        self._times: dict[Block, list[int]] = {}
        for at, use in enumerate(uses):
            for block in use.blocks:
                self._times.setdefault(block, []).append(at)

    def next_use(self, block: Block, at: int) -> float:
        """The first use of a block after one; ``NEVER`` where there is none."""
        times = self._times.get(block, [])
        found = bisect_right(times, at)
        return times[found] if found < len(times) else NEVER

    def need(self, at: int) -> int:
        """Bytes without which a use cannot be."""
        return self.bytes_of(self.uses[at].blocks) + self.uses[at].reserve

    def bytes_of(self, blocks: Iterable[Block]) -> int:
        """Bytes of blocks together."""
        return sum(self.sizes[block] for block in blocks)

    def largest(self) -> int:
        """The use that needs most; the first of several."""
        return max(range(len(self.uses)), key=self.need)


@dataclass(frozen=True, slots=True)
class Turn:
    """What happens before a use.

    Attributes:
        evict: what goes, first. upload: what comes, and must be there. ahead: what comes too, for the next use.
        pinned: what must not go meanwhile.
    """

    evict: tuple[Block, ...] = ()
    upload: tuple[Block, ...] = ()
    ahead: tuple[Block, ...] = ()
    pinned: frozenset[Block] = frozenset()


@dataclass(frozen=True, slots=True)
class Schedule:
    """A turn for each use, by which policy it was made, and the bytes that it uploads."""

    policy: str
    turns: list[Turn]
    moved: int


Victims = Callable[[int, Sequence[Block], int], Iterable[Block]]
"""From a use, the blocks that may go (the one that was used longest ago first) and the bytes to free: those that go."""
Policy = Callable[[Timeline, int], Victims]
"""From all uses and a capacity to the choice of victims."""


@dataclass(slots=True)
class Residency:
    """What is on a device, use by use.

    Attributes:
        timeline: all uses.
        capacity: bytes of the device.
        victims: who goes.
        resident: what is there; what was used longest ago comes first.
    """

    timeline: Timeline
    capacity: int
    victims: Victims
    resident: dict[Block, None] = field(default_factory=dict[Block, None])

    def turn(self, at: int, use: Use, also: Collection[Block] = ()) -> Turn:
        """Make room for a use, bring what it reads, and what else is asked for.

        Args:
            at: where in the timeline it is.
            use: what is read; mostly what the timeline says.
            also: what is brought ahead.
        """
        wanted = use.blocks.union(also)
        missing = [block for block in _in_order(wanted) if block not in self.resident]
        over = self.timeline.bytes_of([*self.resident, *missing]) + use.reserve - self.capacity
        gone: tuple[Block, ...] = ()
        if over > 0:
            droppable = [block for block in self.resident if block not in wanted]
            suffice = self.timeline.bytes_of(droppable) > over
            gone = tuple(self.victims(at, droppable, over) if suffice else droppable)
        for block in gone:
            del self.resident[block]
        for block in _in_order(wanted):
            self.resident.pop(block, None)
            self.resident[block] = None
        now = tuple(block for block in missing if block in use.blocks)
        return Turn(gone, now, tuple(block for block in missing if block not in use.blocks), wanted)


def _in_order(blocks: Iterable[Block]) -> list[Block]:
    """Blocks in an order that is the same in every process."""
    return sorted(blocks, key=repr)


def play(timeline: Timeline, capacity: int, policy: Policy, *, prefetch: bool = False) -> list[Turn]:
    """The turns of all uses under a policy.

    Args:
        timeline: the uses; none needs more than the capacity.
        capacity: bytes of the device.
        policy: who goes.
        prefetch: bring what the next use reads during this one, where both fit: copies then run beside computing, for
            somewhat more bytes.
    """
    residency = Residency(timeline, capacity, policy(timeline, capacity))
    return [
        residency.turn(at, use, ahead(timeline, capacity, at) if prefetch else ())
        for at, use in enumerate(timeline.uses)
    ]


def ahead(timeline: Timeline, capacity: int, at: int) -> frozenset[Block]:
    """What can be brought for the next use while one runs: all that it reads, if both fit."""
    if at + 1 >= len(timeline.uses):
        return frozenset()
    use, following = timeline.uses[at], timeline.uses[at + 1]
    together = timeline.bytes_of(use.blocks | following.blocks) + use.reserve
    return following.blocks if together <= capacity else frozenset()


def moved(timeline: Timeline, turns: Iterable[Turn]) -> int:
    """Bytes that turns upload."""
    return sum(timeline.bytes_of((*turn.upload, *turn.ahead)) for turn in turns)


def schedule(timeline: Timeline, capacity: int, *, prefetch: bool = False) -> Schedule:
    """The schedule that moves fewest bytes of those that the policies give: never more than the least recently used.

    Args:
        timeline, capacity, prefetch: as for ``play``.
    """
    once = timeline.bytes_of({block for use in timeline.uses for block in use.blocks})
    found: list[Schedule] = []
    for name, policy in POLICIES.items():
        turns = play(timeline, capacity, policy, prefetch=prefetch)
        found.append(Schedule(name, turns, moved(timeline, turns)))
        if found[-1].moved == once:
            break
    return min(found, key=lambda schedule: schedule.moved)


# --- policies


def least_recent(timeline: Timeline, capacity: int) -> Victims:  # noqa: ARG001
    """What was used longest ago (LRU): all that can be done where the future is unknown."""

    def victims(at: int, droppable: Sequence[Block], over: int) -> Iterator[Block]:  # noqa: ARG001
        return _enough(timeline, droppable, over)

    return victims


def watermark(timeline: Timeline, capacity: int) -> Victims:  # noqa: ARG001
    """Of the network that runs, a prefix stays and the tail is streamed; others go first, the least recent before."""
    first = dict.fromkeys(block for use in timeline.uses for block in _in_order(use.blocks))
    place = {block: number for number, block in enumerate(first)}

    def victims(at: int, droppable: Sequence[Block], over: int) -> Iterator[Block]:
        running = {timeline.network(block) for block in timeline.uses[at].blocks}
        others = [block for block in droppable if timeline.network(block) not in running]
        own = [block for block in droppable if timeline.network(block) in running]
        tail = sorted(own, key=lambda block: -place.get(block, 0))
        return _enough(timeline, [*others, *tail], over)

    return victims


def farthest(timeline: Timeline, capacity: int) -> Victims:  # noqa: ARG001
    """Whose next use lies farthest ahead (Belady 1966): fewest uploads where all blocks are of one size."""

    def victims(at: int, droppable: Sequence[Block], over: int) -> Iterator[Block]:
        return _enough(timeline, sorted(droppable, key=lambda block: -timeline.next_use(block, at)), over)

    return victims


def farthest_by_size(timeline: Timeline, capacity: int) -> Victims:  # noqa: ARG001
    """Among the sets that free enough, that of the least sum of bytes over the distance to the next use.

    With blocks of one size it is Belady's. Of each size, whose next use lies farthest ahead go first, so that a set is
    a number for each size.
    """

    def victims(at: int, droppable: Sequence[Block], over: int) -> Iterable[Block]:
        dead = [block for block in droppable if timeline.next_use(block, at) == NEVER]
        freed = timeline.bytes_of(dead)
        if freed >= over:
            return _enough(timeline, dead, over)
        alive = [block for block in droppable if timeline.next_use(block, at) < NEVER]
        return [*dead, *_cheapest(timeline, at, alive, over - freed)]

    return victims


def _cheapest(timeline: Timeline, at: int, droppable: Sequence[Block], over: int) -> list[Block]:
    classes: dict[int, list[Block]] = {}
    for block in sorted(droppable, key=lambda block: -timeline.next_use(block, at)):
        classes.setdefault(timeline.sizes[block], []).append(block)
    sizes = sorted(classes, key=lambda size: len(classes[size]))
    counts = [range(min(len(classes[size]), -(-over // max(size, 1))) + 1) for size in sizes[:-1]]
    if math.prod(map(len, counts)) > TRIED_SETS:
        return list(_enough(timeline, sorted(droppable, key=lambda block: -timeline.next_use(block, at)), over))
    costs = {
        size: [0.0, *itertools.accumulate(size / (timeline.next_use(block, at) - at) for block in members)]
        for size, members in classes.items()
    }
    best: tuple[float, tuple[int, ...]] | None = None
    for some in itertools.product(*counts):  # the number of the last size follows from the others
        left = over - sum(size * count for size, count in zip(sizes, some, strict=False))
        last = max(0, -(-left // max(sizes[-1], 1)))
        if last > len(classes[sizes[-1]]):
            continue
        numbers = (*some, last)
        cost = sum(costs[size][count] for size, count in zip(sizes, numbers, strict=True))
        if best is None or cost < best[0]:
            best = cost, numbers
    assert best is not None, "all that may go do not free enough"
    return [block for size, count in zip(sizes, best[1], strict=True) for block in classes[size][:count]]


def _enough(timeline: Timeline, order: Iterable[Block], over: int) -> Iterator[Block]:
    """The first blocks of an order that free enough."""
    for block in order:
        if over <= 0:
            return
        over -= timeline.sizes[block]
        yield block


POLICIES: dict[str, Policy] = {
    "size-aware Belady": farthest_by_size,
    "Belady": farthest,
    "watermark": watermark,
    "LRU": least_recent,
}
