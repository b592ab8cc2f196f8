"""Runs units in this process, on a thread. A node that ends its process ends this one: see ``worker``."""

from __future__ import annotations

import queue
import threading

from kineograph.graph_runtime.events import Event
from kineograph.graph_runtime.executors.bench import Bench, MakeRuntime, Wishes
from kineograph.graph_runtime.executors.executor import GRACE, TRIES, WAITING, Executor
from kineograph.graph_runtime.executors.follow import Said
from kineograph.graph_runtime.executors.units import Result, WorkUnit
from kineograph.graph_runtime.run_state import Place

UNREAD = 256
"""What a run says before it waits for whoever listens."""


class LocalExecutor(Executor):
    """Runs one unit after another in this process. Limits and cancelling work between steps and passes.

    Args:
        make: makes a runtime over folders of packs.
        waiting, grace, tries: see ``Executor``.
    """

    def __init__(self, make: MakeRuntime, *, waiting: int = WAITING, grace: float = GRACE, tries: int = TRIES) -> None:
        self._make = make
        super().__init__(waiting=waiting, grace=grace, tries=tries)

    def connect(self, worker: int, unit: WorkUnit) -> ThreadLink:  # noqa: ARG002
        """A thread of this process."""
        return ThreadLink(Bench(self._make))


class ThreadLink:
    """A bench on threads of this process."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._said: queue.Queue[Said] = queue.Queue(UNREAD)
        self._wishes = Wishes()

    def fits(self, unit: WorkUnit) -> bool:  # noqa: ARG002
        """Always: a bench changes its packs and store."""
        return True

    def start(self, number: int, unit: WorkUnit) -> None:  # noqa: ARG002
        """Begin a run."""
        self._wishes = Wishes()
        threading.Thread(target=self._run, args=(unit, self._wishes), name="kineograph-run", daemon=True).start()

    def _run(self, unit: WorkUnit, wishes: Wishes) -> None:
        def listen(event: Event) -> None:
            self._said.put(event)

        try:
            outcome, keys = self._bench.run(unit, listen, wishes, Place())
            if unit.deliver and unit.store:
                self._bench.deliver(outcome, keys, small_only=unit.small_only)
            end = Result(outcome.outputs, keys, outcome.ran, outcome.cached, outcome.seconds)
        except Exception as error:  # noqa: BLE001  raised again where the caller waits
            end = error
        self._said.put(end)

    def cancel(self, number: int) -> None:  # noqa: ARG002
        """Ask the run to stop."""
        self._wishes.cancel.set()

    def finish(self, number: int) -> None:  # noqa: ARG002
        """Ask the loop that runs to end after its pass."""
        self._wishes.finish.set()

    def hear(self, seconds: float) -> Said | None:
        """What the run says next."""
        try:
            return self._said.get(timeout=seconds)
        except queue.Empty:
            return None

    def kill(self) -> None:
        """Nothing: a thread cannot be ended."""

    def close(self) -> None:
        """Let go of the store."""
        self._bench.close()
