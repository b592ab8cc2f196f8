"""Several processes as the command line sees them: torchrun's environment, who is seen and who writes. Knows no node.

Every process runs the whole graph, because some of its nodes work together. The first one is seen, and its files are
kept; what the others write goes into a folder that is thrown away.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kineograph.console import Watch
from kineograph.graph_runtime.codecs import CannotKeep, encode
from kineograph.graph_runtime.store import Kept, Store, StoreFault

if TYPE_CHECKING:
    from kineograph.graph_runtime.events import Event

T = TypeVar("T")
LOST = "It cannot go on, because another process of this run ended. Run the same line again."


class Processes(NamedTuple):
    """Which of how many processes this is."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that is seen."""
        return self.rank == 0

    def __str__(self) -> str:
        """As it stands before a sentence; nothing, where there is one process."""
        return f"Process {self.rank} of {self.count}: " if self.count > 1 else ""


def started() -> Processes:
    """What torchrun says in the environment; one process, where it says nothing."""
    numbers = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE")]
    if not all(number.isdecimal() for number in numbers) or "MASTER_ADDR" not in os.environ:
        return Processes()
    return Processes(*map(int, numbers))


@contextmanager
def together(processes: Processes) -> Iterator[None]:
    """Work with the other processes, until all are done."""
    if processes.count == 1:
        yield
        return
    from kineograph.nodes.networks.ranks import process_group

    with process_group():
        yield


@contextmanager
def own_folder(processes: Processes, out: Path) -> Iterator[Path]:
    """The folder to write below: the one that was named, or one that is thrown away."""
    if processes.first:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="kineograph-") as folder:
        yield Path(folder)


class _Unseen:
    """Shows nothing."""

    def show(self, event: Event) -> None:
        """Show nothing."""


@contextmanager
def unseen(cancel: threading.Event) -> Iterator[Watch]:
    """A listener that shows nothing; standard output is the first process's."""
    with redirect_stdout(sys.stderr):
        yield Watch(_Unseen(), cancel)


class SharedStore(Store):
    """The store of several processes: keeps trainings alone, whole, whatever the number of processes.

    Other values may differ from process to process. The first one writes and says what there is; all read it, so the
    folder is one that all see. A signal that reached any process stops all of them after the same pass.
    """

    def __init__(
        self, store: Store | None, here: Processes, signalled: threading.Event, cancel: threading.Event
    ) -> None:
        """Wrap a store.

        Args:
            store: what the first process writes to and all read from; None keeps nothing.
            here: which process this is.
            signalled: set where this process was asked to stop.
            cancel: set where all stop.
        """
        self.store = store
        self.here = here
        self.signalled = signalled
        self.cancel = cancel
        self.keeps = _word_of_first(store is not None)

    def close(self) -> None:
        """Nothing: who opened the store closes it."""

    def get(self, key: str) -> tuple[tuple[Any, ...], Kept] | None:
        """A training that every process can read; else None."""
        from kineograph.nodes.networks.ranks import any_of_ranks

        found = None if self.store is None else self.store.get(key)
        missing = found is None or not _trains(found[0])
        return None if any_of_ranks([missing])[0] else found

    def passes(self, loop: str, most: int) -> list[Kept]:
        """The kept states of a loop that the first process knows."""
        return _word_of_first([] if self.store is None else self.store.passes(loop, most))

    def worth(self, seconds: float) -> bool:  # noqa: ARG002  clocks differ
        """Always: a training is."""
        return True

    def agreed(self, due: bool) -> bool:
        """What the first process says; and all stop where one was asked to."""
        from kineograph.nodes.networks.ranks import any_of_ranks

        due, stop = any_of_ranks([due and self.here.first, self.signalled.is_set()])
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
        if self.here.first and self.store is not None:
            try:
                nbytes = self.store.put(key, outputs, seconds, loop=loop, **more)
            except StoreFault as refused:
                fault = str(refused)
        elif self.keeps:
            encode(outputs)  # what is gathered takes all of them
        nbytes, fault = _word_of_first((nbytes, fault))
        if fault:
            raise StoreFault(fault)
        return nbytes

    def forget(self, loop: str, below: int) -> None:
        """Let go of states, in the first process."""
        if self.here.first and self.store is not None:
            self.store.forget(loop, below)


def _word_of_first(said: T) -> T:
    from kineograph.nodes.networks.ranks import word_of_first

    return word_of_first(said)


def _trains(outputs: tuple[Any, ...]) -> bool:
    from kineograph.nodes.sockets import TrainState

    return any(isinstance(value, TrainState) for value in outputs)


def sentence(said: object, cause: BaseException | None) -> str:
    """What a process says that failed: which one it is, and not the words of a connection where another one is gone.

    Args:
        said: the sentence of one process.
        cause: the error behind it.
    """
    here = started()
    return f"{here}{LOST if here.count > 1 and _lost_another(cause) else said}"


def _lost_another(error: BaseException | None) -> bool:
    """Torch's errors have a class, those of gloo within them have none."""
    if not isinstance(error, RuntimeError):
        return False
    from torch.distributed import DistError

    return isinstance(error, DistError) or "gloo" in str(error)
