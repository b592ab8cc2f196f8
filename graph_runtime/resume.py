"""The state of a loop after a pass, kept in the store: checkpointing is caching. Knows no values and runs no node.

A state's key is made of the body, the wiring, the stream (but not of its length, where its node says that this decides
nothing else) and the number of passes. What a loop collects is kept in pieces, each naming the one before.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from kineograph.graph_runtime.codecs import CannotKeep
from kineograph.graph_runtime.keys import digest
from kineograph.graph_runtime.steps import Step
from kineograph.graph_runtime.store import Store, StoreFault

SHARE = 0.05
"""Of a loop's time at most so much goes into keeping its states, unless passes are counted."""


@dataclass(frozen=True, slots=True)
class KeepEvery:
    """When a loop's state is kept: every so many passes, or (0 passes) every so many seconds."""

    passes: int = 0
    seconds: float = 60.0

    @classmethod
    def parse(cls, text: str) -> KeepEvery:
        """Read ``500`` (passes), ``60s``, ``10m`` or ``1h``.

        Raises:
            ValueError: it is none of these.
        """
        found = re.fullmatch(r"([1-9][0-9]{0,8})([smh]?)", text)
        if found is None:
            raise ValueError(f"{text!r} is neither a number of passes like 500 nor a time like 60s, 10m or 1h")
        number, unit = int(found[1]), found[2]
        return cls(seconds=number * {"s": 1.0, "m": 60.0, "h": 3600.0}[unit]) if unit else cls(passes=number)


class State(NamedTuple):
    """Where a loop stands: after how many passes, what it carries, what it collected, whether ``until`` ended it."""

    done: int
    carry: tuple[Any, ...]
    collected: dict[str, list[Any]]
    ended: bool = False


@dataclass(slots=True)
class Passes:
    """The kept states of one loop in one run.

    Attributes:
        store: where they lie.
        step: the loop.
        every: when to keep one.
        complain: told why one could not be kept.
        last: where the loop stands; set at the end of every pass.
    """

    store: Store
    step: Step
    every: KeepEvery
    complain: Callable[[str], None]
    last: State | None = None
    _started: float = field(default_factory=lambda: time.perf_counter())
    _before: float = 0.0
    _kept: int = 0
    _kept_at: float = field(default_factory=lambda: time.perf_counter())
    _cost: float = 0.0
    _pieces: list[int] = field(default_factory=lambda: [0])
    _never: bool = False

    @property
    def seconds(self) -> float:
        """What the loop took so far, also in earlier runs."""
        return self._before + time.perf_counter() - self._started

    def newest(self, most: int) -> State | None:
        """The state after the most passes, but no more than there are; None where none can be read."""
        known = self.store.passes(self.step.passes, most)
        for kept in known:
            found = self.store.get(kept.key)
            collected = self._collected(kept.more["pieces"]) if found is not None else None
            if found is not None and collected is not None:
                self._kept, self._before, self._pieces = kept.done, kept.seconds, kept.more["pieces"]
                return State(kept.done, found[0], collected, kept.more["ended"])
        if known:
            self.complain(f"its state after {known[0].done:,} passes cannot be read; it begins again")
        return None

    def after(self, state: State) -> None:
        """A pass is done: keep its state if it is time to."""
        self.last = state
        if self.every.passes:
            due = state.done - self._kept >= self.every.passes
        else:
            due = time.perf_counter() - self._kept_at >= max(self.every.seconds, self._cost / SHARE)
        if self.store.agreed(due):
            self.keep()

    def keep(self) -> None:
        """Keep the last state and let go of those before; what cannot be kept never stops the loop."""
        state = self.last
        if state is None or self._never or state.done == self._kept:
            return
        begun = time.perf_counter()
        try:
            pieces = self._keep_piece(state)
            more = {"path": self.step.path, "pieces": pieces, "ended": state.ended}
            key, loop = self._key("state", state.done), self.step.passes
            self.store.put(key, state.carry, self.seconds, loop=loop, done=state.done, more=more, always=True)
            self.store.forget(loop, below=state.done)
            self._kept, self._pieces = state.done, pieces
        except CannotKeep as cannot:
            self._never = True
            self.complain(f"its state cannot be kept, {cannot}; a run that is cut off begins again")
        except StoreFault as fault:
            self.complain(f"its state is not kept, {fault}; a run that is cut off begins again")
        self._kept_at = time.perf_counter()
        self._cost = self._kept_at - begun

    def stopped(self) -> None:
        """The run ends early, between two passes: what was done is worth keeping."""
        if self.store.worth(self.seconds):
            self.keep()

    def finished(self, kept: bool) -> None:
        """The loop is done; its outputs are ``kept``. States stay only where a longer stream can go on from them."""
        if self.step.stored and self.step.extends and self.store.worth(self.seconds):
            self.keep()
        elif self._kept and (kept or not self.step.stored):
            self.store.forget(self.step.passes, below=self._kept + 1)
            self.store.forget(self._pieces_loop, below=self._kept + 1)

    @property
    def _pieces_loop(self) -> str:
        return f"{self.step.passes}/pieces"

    def _key(self, *parts: str | int) -> str:
        return digest("passes", self.step.passes, *map(str, parts))

    def _keep_piece(self, state: State) -> list[int]:
        """Keep what was collected since the last kept state; returns where the pieces end."""
        if not state.collected:
            return []
        begin, end = self._pieces[-1], state.done
        piece = tuple(state.collected[name][begin:] for name in sorted(state.collected))
        key = self._key("piece", begin, end)
        more = {"path": self.step.path}
        self.store.put(key, piece, self.seconds, loop=self._pieces_loop, done=end, more=more, always=True)
        return [*self._pieces, end]

    def _collected(self, ends: list[int]) -> dict[str, list[Any]] | None:
        """What was collected until the last of these passes; None where a piece is missing."""
        loop = self.step.loop
        assert loop is not None
        names = sorted(loop.collect)
        together: dict[str, list[Any]] = {name: [] for name in names}
        for begin, end in pairwise(ends):
            found = self.store.get(self._key("piece", begin, end))
            if found is None:
                return None
            for name, piece in zip(names, found[0], strict=True):
                together[name] += piece
        return together
