"""One step after another: cached values first, loops as scans, cancellation between steps. Knows no workflow file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from kineograph.graph_runtime.cache import Entry, MemoryCache, nbytes
from kineograph.graph_runtime.errors import Cancelled, NodeFailed, said
from kineograph.graph_runtime.events import (
    Event,
    FileWritten,
    Listener,
    Metric,
    NodeCached,
    NodeFailure,
    NodeFinished,
    NodeProgress,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from kineograph.graph_runtime.node import ONLY_OUTPUT, Port
from kineograph.graph_runtime.paths import inside
from kineograph.graph_runtime.sockets import Stream
from kineograph.graph_runtime.steps import Plan, Step

SECONDS_BETWEEN_PROGRESS = 0.1


def _ignore(event: Event) -> None:
    """Nobody listens."""


@dataclass
class RunState:
    """What all steps of one run share: who listens, whether to stop, where files go."""

    out: Path = field(default_factory=Path)
    describe: Callable[[], str] = lambda: "{}"
    listen: Listener = _ignore
    cancel: threading.Event = field(default_factory=threading.Event)
    grad: _GradMode = field(default_factory=lambda: _GradMode())

    @cached_property
    def provenance(self) -> str:
        """The workflow with the inputs of this run, as JSON; written out when the first effect asks."""
        return self.describe()

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
            left = (now - self.started) / max(done, 1) * (total - done)
            self.state.listen(NodeProgress(self.path, done, total, left))

    def metric(self, name: str, step: int, value: float) -> None:
        """Report a number to plot."""
        self.state.listen(Metric(self.path, name, step, float(value)))

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


@dataclass(frozen=True)
class Outcome:
    """What a run gave: outputs by name, and how many steps ran and were cached."""

    outputs: dict[str, Any]
    ran: int
    cached: int
    seconds: float


def execute(plan: Plan, cache: MemoryCache, state: RunState) -> Outcome:
    """Run a plan; whatever the cache holds is not run again, nor is what only that needed.

    Raises:
        NodeFailed: a node raised; what ran before stays cached.
        Cancelled: the caller asked to stop.
    """
    started = time.perf_counter()
    todo, hits = _split(plan, cache)
    state.listen(RunStarted(len(todo) + len(hits), len(hits)))
    values = _fresh(plan)
    for step, entry in hits:
        for (_, slot), value in zip(step.outputs, entry.outputs, strict=True):
            values[slot] = value
        state.listen(NodeCached(step.path, step.type_id, step.key))
    state.grad.enter(todo)
    try:
        for step in todo:
            state.check_cancelled(step.path)
            _run_and_keep(step, values, cache, state)
    except NodeFailed as failure:
        state.listen(NodeFailure(failure.path, failure.node_type, str(failure)))
        raise
    finally:
        state.grad.leave()
    seconds = time.perf_counter() - started
    state.listen(RunFinished(len(todo), len(hits), seconds))
    outputs = {name: values[slot] for name, slot in plan.outputs.items()}
    return Outcome(outputs, len(todo), len(hits), seconds)


def _split(plan: Plan, cache: MemoryCache) -> tuple[list[Step], list[tuple[Step, Entry]]]:
    """Walk back from the outputs and effects: the steps to run, in order, and the cached ones that they stop at."""
    needed = set(plan.outputs.values())
    todo: list[Step] = []
    hits: list[tuple[Step, Entry]] = []
    for step in reversed(plan.steps):
        if not step.effect and not any(slot in needed for _, slot in step.outputs):
            continue
        entry = cache.get(step.key) if step.cacheable else None
        if entry is not None:
            hits.append((step, entry))
        else:
            todo.append(step)
            needed.update(slot for _, slot in step.arguments)
    return todo[::-1], hits[::-1]


def _fresh(plan: Plan) -> list[Any]:
    values: list[Any] = [None] * len(plan.keys)
    for slot, value in plan.preset.items():
        values[slot] = value
    return values


def _run_and_keep(step: Step, values: list[Any], cache: MemoryCache, state: RunState) -> None:
    silent = state.listen is _ignore
    if not silent:
        state.listen(NodeStarted(step.path, step.type_id))
    started = time.perf_counter()
    _run(step, values, state, started)
    seconds = time.perf_counter() - started
    outputs = tuple([values[slot] for _, slot in step.outputs])
    size = nbytes(outputs[0] if len(outputs) == 1 else outputs) if outputs else 0
    if step.cacheable:
        cache.put(step.key, outputs, size, seconds)
    if not silent:
        state.listen(NodeFinished(step.path, step.type_id, seconds, size))
    for slot in step.frees:
        values[slot] = None


def _run(step: Step, values: list[Any], state: RunState, now: float) -> None:
    """Run one step: read its slots, write its slots."""
    if step.loop is not None:
        _run_loop(step, values, state)
        return
    kind = step.node
    assert kind is not None
    arguments = step.constants.copy()
    for port, slot in step.arguments:
        arguments[port] = values[slot]
    if kind.run_parameter is not None:
        arguments[kind.run_parameter] = NodeContext(step.path, state, now)
    state.grad.set(step.record)
    try:
        for port in step.checked:
            arguments[port] = _checked(kind.inputs[port], arguments[port])
        result = kind.function(**arguments)
        if len(step.outputs) == 1 and step.outputs[0][0] == ONLY_OUTPUT:
            values[step.outputs[0][1]] = result
        elif step.outputs:
            for (_, slot), value in zip(step.outputs, result, strict=True):
                values[slot] = value
    except (NodeFailed, Cancelled):
        raise
    except (Exception, SystemExit) as error:
        raise NodeFailed(step.path, step.type_id, error) from error


def _checked(port: Port, value: Any) -> Any:
    try:
        return port.literal(value)
    except ValueError as error:
        raise ValueError(f"{port.name}: {error}") from None


def _run_loop(step: Step, values: list[Any], state: RunState) -> None:
    loop = step.loop
    assert loop is not None
    body = loop.body
    given = {port: values[slot] for port, slot in step.arguments}
    stream = given.pop("each")
    if not isinstance(stream, Stream):
        fault = ValueError(f"a loop runs over a Stream, each is a {type(stream).__name__}.")
        raise NodeFailed(step.path, step.type_id, fault) from fault
    stream = cast(Stream[Any], stream)
    inner = _fresh(body)
    for name in (*loop.carry, *loop.links):
        inner[body.inputs[name]] = given[name]
    collected: dict[str, list[Any]] = {name: [] for name in loop.collect}
    varying = [inner_step for inner_step in body.steps if not inner_step.invariant]
    context = NodeContext(step.path, state, time.perf_counter())
    total = len(stream)
    for index in range(total):
        state.check_cancelled(step.path)
        state.grad.set(step.record)
        try:
            inner[body.inputs["item"]] = stream[index]
        except (Exception, SystemExit) as error:
            raise NodeFailed(f"{step.path}.each[{index}]", step.type_id, error) from error
        inner[body.inputs["index"]] = index
        for inner_step in body.steps if index == 0 else varying:
            _run(inner_step, inner, state, 0.0)
            for slot in inner_step.frees:
                inner[slot] = None
        for name, gathered in collected.items():
            gathered.append(inner[body.outputs[name]])
        for name, value in [(name, inner[body.outputs[name]]) for name in loop.carry]:
            inner[body.inputs[name]] = value
        context.progress(index + 1, total)
        if loop.until is not None and inner[body.outputs[loop.until]]:
            break
    outputs = dict(step.outputs)
    for name in loop.carry:
        values[outputs[name]] = inner[body.inputs[name]]
    for name, gathered in collected.items():
        values[outputs[name]] = Stream[Any].of(gathered)


class _GradMode:
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
    assert step.node is not None
    return step.node.moves_tensors
