"""What all steps of one run share, and what one node may ask of it. Runs nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kineograph.graph_runtime.ahead import Coroutines
from kineograph.graph_runtime.errors import Cancelled, said
from kineograph.graph_runtime.events import Event, FileWritten, Listener, Metric, NodeNote, NodeProgress
from kineograph.graph_runtime.memory.keeper import Keeper
from kineograph.graph_runtime.paths import inside
from kineograph.graph_runtime.previews import Previews
from kineograph.graph_runtime.resume import KeepEvery
from kineograph.graph_runtime.steps import Step
from kineograph.graph_runtime.store import Store

SECONDS_BETWEEN_PROGRESS = 0.1


def ignore(event: Event) -> None:
    """Nobody listens."""


@dataclass(slots=True)
class Place:
    """Where a run is: the path of the node that runs, in a loop's body too. Other threads may read it."""

    path: str = ""


@dataclass
class RunState:
    """What all steps of one run share: who listens, whether to stop, where files go, what keeps results."""

    out: Path = field(default_factory=Path)
    describe: Callable[[], str] = lambda: "{}"
    listen: Listener = ignore
    cancel: threading.Event = field(default_factory=threading.Event)
    finish: threading.Event = field(default_factory=threading.Event)
    loops: int = 0  # that run now, one in the other
    cut: bool = False  # a loop was finished early: what is made from then on is not what its key says
    coroutines: Coroutines = field(default_factory=Coroutines)
    grad: GradMode = field(default_factory=lambda: GradMode())
    store: Store | None = None
    keep_every: KeepEvery = field(default_factory=KeepEvery)
    debts: dict[int, float] = field(default_factory=dict[int, float])
    ran: int = 0
    cached: int = 0
    told: dict[str, list[Metric]] = field(default_factory=dict[str, list[Metric]])
    at: Place = field(default_factory=Place)
    memory: Keeper | None = None
    let_go: Callable[[], None] = lambda: None
    previews: Previews = field(default_factory=Previews)

    @cached_property
    def provenance(self) -> str:
        """The workflow with the inputs of this run, as JSON; written out when the first effect asks."""
        return self.describe()

    def enter_loop(self) -> None:
        """A loop begins; what was wished of an earlier one is not meant for it."""
        if not self.loops:
            self.finish.clear()
        self.loops += 1

    def cuts(self) -> bool:
        """Whether the outermost loop ends here because somebody asked for it."""
        ends = self.loops == 1 and self.finish.is_set()
        self.cut = self.cut or ends
        return ends

    def check_cancelled(self, path: str) -> None:
        """Raise ``Cancelled`` where the caller asked to stop."""
        if self.cancel.is_set():
            raise Cancelled(path)


@dataclass(slots=True)
class NodeContext:
    """The ``RunContext`` of one node."""

    path: str
    state: RunState
    started: float
    reported: float = 0.0
    before: int = 0  # done by an earlier run

    @property
    def place(self) -> str:
        """Where the node stands in the workflow."""
        return self.path

    @property
    def provenance(self) -> str:
        """The workflow with the inputs of this run, as JSON."""
        return self.state.provenance

    def progress(self, done: int, total: int) -> None:
        """Report progress, at most ten times a second."""
        self.check_cancelled()
        now = time.perf_counter()
        if done >= total or now - self.reported >= SECONDS_BETWEEN_PROGRESS:
            self.reported = now
            left = (now - self.started) / max(done - self.before, 1) * (total - done)
            self.state.listen(NodeProgress(self.path, done, total, left))

    def metric(self, name: str, step: int, value: float) -> None:
        """Report a number to plot."""
        event = Metric(self.path, name, step, float(value))
        if self.state.store is not None and "/" not in self.path:
            self.state.told.setdefault(self.path, []).append(event)
        self.state.listen(event)

    def note(self, reason: str) -> None:
        """Tell people in a clause what they may not expect of the result."""
        self.state.listen(NodeNote(self.path, reason))

    def preview(self, value: Any, done: int = 0) -> None:
        """Show a value to whoever looks."""
        if self.state.previews.seconds:
            self.state.previews.show(self.path, "", value, self.state.listen, done)

    def check_cancelled(self) -> None:
        """Raise ``Cancelled`` where the run was stopped."""
        self.state.check_cancelled(self.path)

    def output_path(self, relative: str) -> Path:
        """A path below the output folder; its parent is made."""
        path = inside(self.state.out, relative)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"{relative!r} cannot be written, its folder cannot be made: {said(error)}") from error
        return path

    def wrote(self, path: Path) -> None:
        """Report a file that is now complete."""
        self.state.listen(FileWritten(self.path, str(path)))


class GradMode:
    """Autograd on for recorded steps and off for the rest; touches torch only where a plan moves tensors."""

    def __init__(self) -> None:
        self._set: Callable[[bool], Any] | None = None
        self._before = True

    def enter(self, steps: list[Step]) -> None:
        if any(map(_moves_tensors, steps)):
            import torch

            self._before = torch.is_grad_enabled()
            self._set = torch.set_grad_enabled

    def set(self, record: bool) -> None:
        if self._set is not None:
            self._set(record)

    def leave(self) -> None:
        if self._set is not None:
            self._set(self._before)


def _moves_tensors(step: Step) -> bool:
    if step.loop is not None:
        return any(map(_moves_tensors, step.loop.body.steps))
    return step.node is not None and step.node.moves_tensors
