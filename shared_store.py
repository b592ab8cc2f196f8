"""The store as several processes of one run share it, and agree on when to keep and when to stop. Knows no graph."""

from __future__ import annotations

import threading
from typing import Any

from kineograph.graph_runtime.codecs import CannotKeep, encode
from kineograph.graph_runtime.store import Kept, Store, StoreFault
from kineograph.nodes.networks.ranks import any_of_ranks, word_of_first
from kineograph.nodes.sockets import TrainState


class SharedStore(Store):
    """The store of several processes: keeps trainings alone, whole, whatever the number of processes.

    Other values may differ from process to process. The first one writes and says what there is; all read it, so the
    folder is one that all see. A signal that reached any process stops all of them after the same pass.
    """

    def __init__(self, store: Store | None, first: bool, asked: threading.Event, cancel: threading.Event) -> None:
        """Wrap a store.

        Args:
            store: what the first process writes to and all read from; None keeps nothing.
            first: whether this is the process that writes.
            asked: set where this process was asked to stop.
            cancel: set where all stop.
        """
        self.store = store
        self.first = first
        self.asked = asked
        self.cancel = cancel
        self.keeps = word_of_first(store is not None)

    def close(self) -> None:
        """Nothing: who opened the store closes it."""

    def get(self, key: str) -> tuple[tuple[Any, ...], Kept] | None:
        """A training that every process can read; else None."""
        found = None if self.store is None else self.store.get(key)
        missing = found is None or not _trains(found[0])
        return None if any_of_ranks([missing])[0] else found

    def passes(self, loop: str, most: int) -> list[Kept]:
        """The kept states of a loop that the first process knows."""
        return word_of_first([] if self.store is None else self.store.passes(loop, most))

    def worth(self, seconds: float) -> bool:  # noqa: ARG002  clocks differ
        """Always: a training is."""
        return True

    def agreed(self, due: bool) -> bool:
        """What the first process says; and all stop where one was asked to."""
        due, stop = any_of_ranks([due and self.first, self.asked.is_set()])
        if stop:
            self.cancel.set()
        return due

    def put(self, key: str, outputs: tuple[Any, ...], seconds: float, *, loop: str = "", **more: Any) -> int:
        """Keep a training; its parts are gathered from all processes, and the first one writes.

        Raises:
            CannotKeep: the state of a loop that is no training.
            StoreFault: as the first process found.
        """
        if not _trains(outputs):
            if loop:
                raise CannotKeep("where several processes work together, trainings that collect nothing are kept alone")
            return 0
        nbytes, fault = 0, ""
        if self.first and self.store is not None:
            try:
                nbytes = self.store.put(key, outputs, seconds, loop=loop, **more)
            except StoreFault as refused:
                fault = str(refused)
        elif self.keeps:
            encode(outputs)  # what is gathered takes all of them
        nbytes, fault = word_of_first((nbytes, fault))
        if fault:
            raise StoreFault(fault)
        return nbytes

    def forget(self, loop: str, below: int) -> None:
        """Let go of states, in the first process."""
        if self.first and self.store is not None:
            self.store.forget(loop, below)


def _trains(outputs: tuple[Any, ...]) -> bool:
    return any(isinstance(value, TrainState) for value in outputs)
