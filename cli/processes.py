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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kineograph.cli.console import Watch

if TYPE_CHECKING:
    from kineograph.graph_runtime.events import Event
    from kineograph.graph_runtime.store import Store

LOST = "It cannot go on, because another process of this run ended. Run the same line again."


@dataclass(frozen=True)
class Processes:
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


def shared(store: Store | None, here: Processes, asked: threading.Event, cancel: threading.Event) -> Store | None:
    """The store as all processes use it.

    Args:
        store: of this process.
        here: which it is.
        asked: set where this process was asked to stop.
        cancel: set where all stop.
    """
    if here.count == 1:
        return store
    from kineograph.cli.shared_store import SharedStore

    return SharedStore(store, asked, cancel)


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
