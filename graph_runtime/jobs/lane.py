"""One worker's place: its process, what runs there, what it has in memory. Knows no queue."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from kineograph.graph_runtime.events import Listener
from kineograph.graph_runtime.executors.job import Job
from kineograph.graph_runtime.executors.units import WorkUnit
from kineograph.graph_runtime.executors.worker import ProcessLink, WorkerExecutor
from kineograph.graph_runtime.jobs.attempts import Attempt, Attempts
from kineograph.graph_runtime.jobs.processes import birth
from kineograph.graph_runtime.jobs.warm import Warm


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker: its device, its process (0 before the first run), the memory of that in bytes, and its job's id."""

    device: str
    pid: int
    nbytes: int
    job: str


class Lane(WorkerExecutor):
    """The worker of one device.

    Args:
        attempts: told which process works.
        number, device: which lane this is, and what it sees.
        factory: what makes its runtime.
    """

    def __init__(self, attempts: Attempts, number: int, device: str, factory: str) -> None:
        self.device = device
        self._attempts = attempts
        self._number = number
        self._link: ProcessLink | None = None
        self._job = ""
        self.warm = Warm()
        super().__init__([device], factory=factory, tries=sys.maxsize)  # the queue counts the tries, on disk

    def connect(self, worker: int, unit: WorkUnit) -> ProcessLink:
        """A new process, written down."""
        self.warm.forget()
        self._link = link = super().connect(worker, unit)
        self._attempts.note_worker(self._number, link.pid, birth(link.pid))
        return link

    def begin(self, attempt: Attempt, unit: WorkUnit, listen: Listener) -> Job:
        """Run a unit for a job."""
        self._job = attempt.job
        return self.submit(unit, listen)

    def ended(self) -> None:
        """The job runs no more."""
        self._job = ""

    @property
    def info(self) -> WorkerInfo:
        """What there is to know."""
        link = self._link
        return WorkerInfo(self.device, link.pid if link else 0, link.nbytes if link else 0, self._job)
