"""The store as several processes of one run share it, and agree on when to keep and when to stop. Knows no graph.

Of a training whose weights are sharded, each process writes and reads its own rows; none holds all of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from kineograph.graph_runtime.codecs import CannotKeep
from kineograph.graph_runtime.store import Kept, Store, StoreFault
from kineograph.nodes.networks.ranks import any_of_ranks, count, rank, word_of_first, words_of_ranks
from kineograph.nodes.train.sockets import TrainState

T = TypeVar("T")


class SharedStore(Store):
    """The store of several processes: keeps trainings alone, to be read by any number of processes.

    Other values may differ from process to process. All write their shards into a folder that all see; the first one
    says what there is. A signal that reached any process stops all of them after the same pass.
    """

    def __init__(self, store: Store | None, asked: threading.Event, cancel: threading.Event) -> None:
        """Wrap a store.

        Args:
            store: in this process; where one process has none, nothing is kept.
            asked: set where this process was asked to stop.
            cancel: set where all stop.
        """
        self.store = None if any_of_ranks([store is None])[0] else store
        self.first = rank() == 0
        self.asked = asked
        self.cancel = cancel

    def close(self) -> None:
        """Nothing: who opened the store closes it."""

    def get(self, key: str) -> tuple[tuple[Any, ...], Kept] | None:
        """A training that every process can read; else None."""
        found = None if self.store is None else self.store.get_part(key, rank(), count())
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
        """Keep a training: each process writes its shard, then the first one all else.

        Raises:
            CannotKeep: the state of a loop that is no training.
            StoreFault: as one of the processes found.
        """
        if not _trains(outputs):
            if loop:
                raise CannotKeep("where several processes work together, trainings that collect nothing are kept alone")
            return 0
        store = self.store
        if store is None:
            return 0
        with ExitStack() as held:
            shards = _all(lambda: held.enter_context(store.shard(outputs)))
            more["shards"] = [shard for shard in shards if shard is not None]
            return max(_all(lambda: store.put(key, outputs, seconds, loop=loop, **more) if self.first else 0))

    def forget(self, loop: str, below: int) -> None:
        """Let go of states, in the first process."""
        if self.first and self.store is not None:
            self.store.forget(loop, below)


def _all(work: Callable[[], T]) -> list[T]:
    """What each process's part of some work gives, in all of them.

    Raises:
        StoreFault: as the first of them found that failed.
    """
    found, refused = None, ""
    try:
        found = work()
    except StoreFault as fault:
        refused = str(fault)
    said: list[tuple[Any, str]] = words_of_ranks((found, refused))
    for _, fault in said:
        if fault:
            raise StoreFault(fault)
    return [found for found, _ in said]


def _trains(outputs: tuple[Any, ...]) -> bool:
    return any(isinstance(value, TrainState) for value in outputs)
