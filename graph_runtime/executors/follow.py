"""Follows one run from its start to its end: passes events on, stops it, and says why its process ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kineograph.graph_runtime.errors import Cancelled, Halted, WorkerDied
from kineograph.graph_runtime.events import Event, NodeFailure, NodeFinished, NodeProgress, NodeStarted
from kineograph.graph_runtime.executors.units import Result

if TYPE_CHECKING:
    from kineograph.graph_runtime.executors.executor import Link
    from kineograph.graph_runtime.executors.job import Job

SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life: which node runs, in a loop's body too, and the bytes of memory that the process has."""

    at: str
    nbytes: int


class NotBegun(Exception):
    """The process that was kept from earlier runs ended before the run began: another one can have it."""


Said = Event | Beat | Result | BaseException
"""What comes from a run; a result or an error is its end."""


class Ended(Exception):
    """The process of a run is no more.

    Attributes:
        clause: how it ended, as people say it. advice: what may help, as sentences. last_words: what it wrote last.
    """

    def __init__(self, clause: str, advice: str = "", last_words: str = "") -> None:
        super().__init__(clause)
        self.clause = clause
        self.advice = advice
        self.last_words = last_words


class Following:
    """One run on a link.

    Args:
        job, link, number: what runs, where, and its number there.
        grace: seconds in which it must stop when it was asked to.
        kept: whether the link had other runs before.

    Attributes:
        alive: whether the link is good for another run.
    """

    def __init__(self, job: Job, link: Link, number: int, grace: float, *, kept: bool = False) -> None:
        self.job = job
        self.link = link
        self.number = number
        self.grace = grace
        self.kept = kept
        self.alive = True
        self._started = self._heard = time.monotonic()
        self._stopping: float | None = None
        self._late = ""
        self._silent = True
        self._killed = False
        self._node: NodeStarted | None = None
        self._progress: NodeProgress | None = None
        self._beat = Beat("", 0)

    def to_its_end(self) -> Result | BaseException:
        """Start the run and follow it.

        Raises:
            NotBegun: the process ended before the run told of anything.
        """
        self.link.start(self.number, self.job.unit)
        while True:
            try:
                said = self.link.hear(SECONDS_BETWEEN_LOOKS)
            except Ended as ended:
                self.alive = False
                if self.kept and self._silent:
                    raise NotBegun from None
                return self._died(ended)
            self._silent = self._silent and said is None
            if isinstance(said, (Result, BaseException)):
                return self._late_or(said)
            if isinstance(said, Beat):
                self._beat = said
            elif said is not None:
                self._pass_on(said)
            self._look(time.monotonic())

    def _pass_on(self, event: Event) -> None:
        self._heard = time.monotonic()
        if isinstance(event, NodeStarted):
            self._node, self._progress = event, None
        elif isinstance(event, NodeProgress) and self._node is not None and event.path == self._node.path:
            self._progress = event
        elif isinstance(event, NodeFinished):
            self._node = self._progress = None
        self.job.tell(event)

    def _look(self, now: float) -> None:
        """Stop what was asked to stop or takes too long; end the process of what does not listen."""
        unit = self.job.unit
        if self.job.finishing:
            self.job.finishing = False
            self.link.finish(self.number)
        if self._stopping is None:
            if unit.limit and now - self._started > unit.limit:
                self._late = f"it took longer than the {_time(unit.limit)} that the run may take"
                self.grace = min(self.grace, unit.limit)
            elif unit.node_limit and self._node is not None and now - self._heard > unit.node_limit:
                self._late = f"it did not get on for {_time(unit.node_limit)}, which is the limit"
                self.grace = min(self.grace, unit.node_limit)
            if self._late or self.job.asked:
                self._stopping = now
                self.link.cancel(self.number)
        elif not self._killed and (self.job.asked > 1 or now - self._stopping > self.grace):
            self._killed = True
            self.link.kill()

    def _late_or(self, said: Result | BaseException) -> Result | BaseException:
        """The end of a run that ended by itself, in time or not."""
        if not (self._late and isinstance(said, Cancelled)):
            return said
        self._beat = Beat(said.path, 0)
        return self._told(Halted(self._path, self._type, self._what(self._late), self._again))

    def _died(self, ended: Ended) -> BaseException:
        """The end of a run whose process is no more."""
        if self.job.asked and not self._late:  # a second cancel, or a signal that reached both processes
            return Cancelled(self._path or "the start")
        clause = f"its process {ended.clause}"
        if self._late:
            clause = f"{self._late}, and did not stop when it was asked to, so its process was ended"
        advice = " ".join(filter(None, ("" if self._late else ended.advice, self._again)))
        died = WorkerDied(self._path, self._type, self._what(clause), advice)
        died.last_words, died.late = ended.last_words, bool(self._late)
        return self._told(died)

    def _told(self, halted: Halted) -> Halted:
        self.job.tell(NodeFailure(halted.path, halted.node_type, str(halted)))
        return halted

    @property
    def _path(self) -> str:
        return self._node.path if self._node is not None else ""

    @property
    def _type(self) -> str:
        return self._node.node_type if self._node is not None else ""

    def _what(self, clause: str) -> str:
        """Which node failed, in a loop which one of its body and after how many passes, and how."""
        if self._node is None:
            return f"The run failed: {clause}."
        inner = f" in {self._beat.at}" if self._beat.at.startswith(f"{self._path}/") else ""
        done = self._progress  # told ten times a second at most, so there may have been more
        after = f" after at least {done.done:,} of {done.total:,}" if done is not None else ""
        return f"{self._path} ({self._type}) failed{inner}{after}: {clause}."

    @property
    def _again(self) -> str:
        if self.job.unit.store:
            return "Run it again: it goes on from what the store kept."
        return "Nothing was kept of it: a run with a store goes on where it ended."


def _time(seconds: float) -> str:
    """A limit as people write it."""
    for unit, name in ((3600, "h"), (60, "m")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:g}{name}"
    return f"{seconds:g}s"
