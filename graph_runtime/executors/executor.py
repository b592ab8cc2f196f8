"""What all executors share: a bounded queue of runs, threads that follow them, a memory of those that do harm."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from typing import Protocol, Self

from kineograph.graph_runtime.errors import Busy, Cancelled, Poisoned, WorkerDied
from kineograph.graph_runtime.events import Listener
from kineograph.graph_runtime.executors.follow import Following, NotBegun, Said
from kineograph.graph_runtime.executors.job import Job
from kineograph.graph_runtime.executors.units import Result, WorkUnit

WAITING = 16
"""Runs that may wait for each worker."""
GRACE = 30.0
"""Seconds in which a run that was asked to stop must do so."""
TRIES = 3
"""A run that ended so many processes is not tried again."""
REMEMBERED = 1000


class Link(Protocol):
    """The way to where runs run: a process, or a thread of this one."""

    def fits(self, unit: WorkUnit) -> bool:
        """Whether this unit can run there too."""
        ...

    def start(self, number: int, unit: WorkUnit) -> None:
        """Begin a run, while no other is there."""
        ...

    def cancel(self, number: int) -> None:
        """Ask the run to stop between steps or passes."""
        ...

    def finish(self, number: int) -> None:
        """Ask the loop that runs to end after its pass."""
        ...

    def hear(self, seconds: float) -> Said | None:
        """What it says next; None where it says nothing for so long.

        Raises:
            Ended: the process is no more.
        """
        ...

    def kill(self) -> None:
        """End the process at once, where there is one of its own."""
        ...

    def close(self) -> None:
        """Let it end by itself."""
        ...


class Executor(ABC):
    """Runs units, as many at a time as it has workers, in the order they were submitted.

    Nothing is tried again behind the caller's back, so an effect happens once for each ``submit``. Close it, or use it
    in a ``with``.

    Args:
        workers: how many run at a time.
        waiting: how many more may wait for each of them.
        grace: seconds in which a run that was asked to stop must do so.
        tries: a run that ended so many processes is not tried again.
    """

    def __init__(self, workers: int = 1, *, waiting: int = WAITING, grace: float = GRACE, tries: int = TRIES) -> None:
        self._room = waiting * workers
        self._grace = grace
        self._tries = tries
        self._change = threading.Condition()
        self._pending: deque[Job] = deque()
        self._running: dict[int, Job] = {}
        self._closed = False
        self._deaths: OrderedDict[str, list[str]] = OrderedDict()
        name = type(self).__name__
        self._threads = [
            threading.Thread(target=self._work, args=(at,), name=f"{name}-{at}", daemon=True) for at in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @abstractmethod
    def connect(self, worker: int, unit: WorkUnit) -> Link:
        """A new place for a worker's runs."""

    def submit(self, unit: WorkUnit, listen: Listener | None = None) -> Job:
        """Run a unit, as soon as a worker is free.

        Args:
            unit: what to run.
            listen: called with every event, in order, on a thread of the executor's; the run waits for it. Without
                it, read ``job.events()``, for which no run waits.

        Raises:
            Busy: too many wait already.
            Poisoned: it ended its process too often.
            ValueError: it is not JSON.
        """
        unit.to_json()
        with self._change:
            history = self._deaths.get(unit.content(), [])
            if len(history) >= self._tries:
                raise Poisoned(history)
            if self._closed:
                raise Busy("The executor is closed.")
            if len(self._pending) >= self._room + len(self._threads) - len(self._running):
                raise Busy(f"{len(self._pending)} runs wait already; try again when one has ended.")
            job = Job(unit, listen, self._withdraw)
            self._pending.append(job)
            self._change.notify()
        return job

    def close(self, *, at_once: bool = False) -> None:
        """Stop what runs, let go of what waits, end the workers.

        Args:
            at_once: do not wait for a step or pass to end.
        """
        with self._change:
            self._closed = True
            jobs = [*self._pending, *self._running.values()]
            self._change.notify_all()
        for job in jobs:
            job.cancel()
            if at_once:
                job.cancel()
        until = time.monotonic() + self._grace + 1.0
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def __enter__(self) -> Self:
        """Close it at the end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close it; at once where something unexpected happened."""
        self.close(at_once=kind is not None)

    def _withdraw(self, job: Job) -> None:
        """End a run that still waits."""
        with self._change:
            if job not in self._pending:
                return
            self._pending.remove(job)
        job.end(Cancelled("the start"))

    # --- a worker's thread

    def _work(self, worker: int) -> None:
        link: Link | None = None
        number = 0
        while (job := self._take(worker)) is not None:
            number += 1
            try:
                try:
                    link, end = self._run(worker, job, link, number)
                except NotBegun:
                    link, end = self._run(worker, job, None, number)
            except Exception as error:  # noqa: BLE001  no process can be started: this run's error
                link, end = None, error
            self._remember(job.unit, end)
            with self._change:
                del self._running[worker]
            job.end(end)
        if link is not None:
            link.close()

    def _run(self, worker: int, job: Job, kept: Link | None, number: int) -> tuple[Link | None, Result | BaseException]:
        """Run a job where the last one ran, if it fits there; returns where the next one may run, and its end."""
        if kept is not None and not kept.fits(job.unit):
            kept.close()
            kept = None
        link = kept or self.connect(worker, job.unit)
        following = Following(job, link, number, self._grace, kept=kept is not None)
        try:
            end = following.to_its_end()
        except BaseException:
            link.close()
            raise
        if following.alive:
            return link, end
        link.close()
        return None, end

    def _take(self, worker: int) -> Job | None:
        """The next run; None where the executor is closed."""
        with self._change:
            while not self._pending and not self._closed:
                self._change.wait()
            if self._closed:
                return None
            self._running[worker] = job = self._pending.popleft()
            return job

    def _remember(self, unit: WorkUnit, end: object) -> None:
        """Count the processes that a run ended; one that ends well is forgiven."""
        content = unit.content()
        with self._change:
            if isinstance(end, WorkerDied):
                self._deaths.setdefault(content, []).append(end.what)
                self._deaths.move_to_end(content)
                if len(self._deaths) > REMEMBERED:
                    self._deaths.popitem(last=False)
            elif not isinstance(end, BaseException):
                self._deaths.pop(content, None)
