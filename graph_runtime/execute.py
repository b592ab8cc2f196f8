"""One step after another: cached values first, loops as scans, cancellation between steps. Knows no workflow file."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from kineograph.graph_runtime.cache import MemoryCache, nbytes
from kineograph.graph_runtime.codecs import CannotKeep
from kineograph.graph_runtime.errors import Cancelled, NodeFailed
from kineograph.graph_runtime.events import (
    BranchTaken,
    LeftOut,
    Metric,
    NodeCached,
    NodeFailure,
    NodeFinished,
    NodeResumed,
    NodeStarted,
    NotKept,
    RunFinished,
    RunStarted,
)
from kineograph.graph_runtime.node import ONLY_OUTPUT, Port
from kineograph.graph_runtime.resume import Passes, State
from kineograph.graph_runtime.run_state import NodeContext, RunState, ignore
from kineograph.graph_runtime.sockets import Stream
from kineograph.graph_runtime.steps import BranchPlan, LoopPlan, Plan, Step
from kineograph.graph_runtime.store import BYTES_A_SECOND, Store, StoreFault

ABSENT: Any = object()
"""Stands in a slot whose value is not made yet, or is gone."""
Hit = tuple[Step, tuple[Any, ...], list[Any]]
"""A step that need not run, its outputs, and the (name, step, value) of the numbers that it reported."""


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
    todo, hits = _split(plan, cache, state.store)
    state.listen(RunStarted(len(todo) + len(hits), len(hits)))
    for what, needs in plan.left_out.items():
        state.listen(LeftOut(what, f"it needs {needs}"))
    values = _fresh(plan)
    _use(hits, values, state)
    state.grad.enter(plan.steps if plan.makers else todo)
    try:
        for step in todo:
            state.check_cancelled(step.path)
            _run_and_keep(step, values, cache, state)
    except NodeFailed as failure:
        failure.part_of(plan.definition_around(failure.path))
        state.listen(NodeFailure(failure.path, failure.node_type, str(failure)))
        raise
    finally:
        state.grad.leave()
    seconds = time.perf_counter() - started
    state.listen(RunFinished(state.ran, state.cached, seconds))
    outputs = {name: values[slot] for name, slot in plan.outputs.items()}
    return Outcome(outputs, state.ran, state.cached, seconds)


def _split(plan: Plan, cache: MemoryCache, store: Store | None) -> tuple[list[Step], list[Hit]]:
    """Walk back from the outputs and effects: the steps to run, in order, and the known ones that they stop at.

    What only a branch may ask for is not among them.
    """
    needed = set(plan.outputs.values())
    todo: list[Step] = []
    hits: list[Hit] = []
    for step in reversed(plan.steps):
        if (not step.effect or step.lazy) and not any(slot in needed for _, slot in step.outputs):
            continue
        hit = _known(step, cache, store)
        if hit is not None:
            hits.append(hit)
        else:
            todo.append(step)
            needed.update(_needs(step))
    return todo[::-1], hits[::-1]


def _needs(step: Step) -> Iterable[int]:
    """The slots that must be filled before a step runs; a branch asks for its side itself."""
    return [slot for _, slot in step.arguments] if step.branch is None else (step.branch.when,)


def _use(hits: Iterable[Hit], values: list[Any], state: RunState) -> None:
    for step, outputs, metrics in hits:
        for (_, slot), value in zip(step.outputs, outputs, strict=True):
            values[slot] = value
        state.cached += 1
        state.listen(NodeCached(step.path, step.type_id, step.key))
        for metric in metrics:
            state.listen(Metric(step.path, *metric))


def _known(step: Step, cache: MemoryCache, store: Store | None) -> Hit | None:
    """A step's outputs from memory, else, with the numbers that it reported, from the store."""
    entry = cache.get(step.key) if step.cacheable else None
    if entry is not None:
        return step, entry.outputs, []
    found = store.get(step.key) if store is not None and step.stored else None
    if found is None:
        return None
    outputs, kept = found
    if step.cacheable:
        cache.put(step.key, outputs, nbytes(outputs), kept.seconds)
    return step, outputs, kept.more["metrics"]


def _fresh(plan: Plan) -> list[Any]:
    values: list[Any] = [ABSENT] * len(plan.keys)
    for slot, value in plan.preset.items():
        values[slot] = value
    return values


def _run_and_keep(step: Step, values: list[Any], cache: MemoryCache, state: RunState) -> None:
    silent = state.listen is ignore
    if not silent:
        state.listen(NodeStarted(step.path, step.type_id))
    started = time.perf_counter()
    passes = _passes(step, state)
    _run(step, values, state, started, passes, cache)
    state.ran += 1
    seconds = passes.seconds if passes is not None else time.perf_counter() - started
    outputs = tuple([values[slot] for _, slot in step.outputs])
    size = nbytes(outputs[0] if len(outputs) == 1 else outputs) if outputs else 0
    if step.cacheable and step.branch is None:  # a branch has nothing of its own, its side is kept
        cache.put(step.key, outputs, size, seconds)
    kept = state.store is not None and _store(step, outputs, seconds, state.store, state)
    if passes is not None:
        passes.finished(kept)
    if not silent:
        state.listen(NodeFinished(step.path, step.type_id, time.perf_counter() - started, size))
    for slot in step.frees:
        values[slot] = ABSENT


def _passes(step: Step, state: RunState) -> Passes | None:
    """What keeps the states of a loop; a recorded one has a history that serves only once."""
    if state.store is None or step.loop is None or step.record:
        return None

    def complain(reason: str) -> None:
        state.listen(NotKept(step.path, reason))

    return Passes(state.store, step, state.keep_every, complain)


def _store(step: Step, outputs: tuple[Any, ...], seconds: float, store: Store, state: RunState) -> bool:
    """Keep what a step made, if it is worth it; whether it is kept.

    A slot's debt is what it would take to have it again: a decoder may be fast, but its weights must be loaded first.
    """
    debt = seconds + sum(state.debts.get(slot, 0.0) for _, slot in step.arguments)
    kept = 0
    try:
        if step.stored and outputs and store.worth(debt):
            metrics = [(metric.name, metric.step, metric.value) for metric in state.told.get(step.path, ())]
            kept = store.put(step.key, outputs, debt, more={"path": step.path, "metrics": metrics})
    except CannotKeep:  # a stream that is made again, a class of a pack that says nothing
        pass
    except StoreFault as fault:
        state.listen(NotKept(step.path, f"{fault}; the next run computes it again"))
    state.debts.update((slot, kept / BYTES_A_SECOND if kept else debt) for _, slot in step.outputs)
    return kept > 0


def _run(
    step: Step,
    values: list[Any],
    state: RunState,
    now: float,
    passes: Passes | None = None,
    cache: MemoryCache | None = None,
) -> None:
    """Run one step: read its slots, write its slots."""
    kind = step.node
    if kind is None:
        if step.loop is not None:
            _run_loop(step, step.loop, values, state, passes)
        else:
            assert step.branch is not None
            _run_branch(step, step.branch, values, state, cache)
        return
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


def _run_branch(step: Step, branch: BranchPlan, values: list[Any], state: RunState, cache: MemoryCache | None) -> None:
    """Choose a side, and run what it needs and nobody has asked for yet; in a loop's body there is no cache."""
    taken = bool(values[branch.when])
    side = branch.sides[not taken]
    plan = branch.plan
    if cache is not None:
        state.listen(BranchTaken(step.path, step.type_id, "then" if taken else "else"))
    todo: set[int] = set()
    waiting = [side]
    while waiting:
        slot = waiting.pop()
        at = plan.makers.get(slot, -1)
        if values[slot] is not ABSENT or at in todo:
            continue
        needed = plan.steps[at]
        hit = _known(needed, cache, state.store) if cache is not None else None
        if hit is not None:
            _use([hit], values, state)
        else:
            todo.add(at)
            waiting += _needs(needed)
    for at in sorted(todo):
        needed = plan.steps[at]
        state.check_cancelled(needed.path)
        if cache is not None:
            _run_and_keep(needed, values, cache, state)
        else:
            _run_inside(needed, values, state)
    output = step.outputs[0][1]
    values[output] = values[side]
    state.debts[output] = state.debts.get(side, 0.0) + state.debts.get(branch.when, 0.0)


def _run_loop(step: Step, loop: LoopPlan, values: list[Any], state: RunState, passes: Passes | None) -> None:
    given = {port: values[slot] for port, slot in step.arguments}
    stream = given.pop("each")
    if not isinstance(stream, Stream):
        fault = ValueError(f"a loop runs over a Stream, each is a {type(stream).__name__}.")
        raise NodeFailed(step.path, step.type_id, fault) from fault
    stream = cast(Stream[Any], stream)
    at = State(0, tuple([given[name] for name in loop.carry]), {name: [] for name in loop.collect})
    context = NodeContext(step.path, state, time.perf_counter())
    total = len(stream)
    if passes is not None and (found := passes.newest(total)) is not None:
        at, context.before = found, found.done
        state.listen(NodeResumed(step.path, step.type_id, at.done, total))
    inner = _fresh(loop.body)
    for name in loop.links:
        inner[loop.body.inputs[name]] = given[name]
    steps = [inner_step for inner_step in loop.body.steps if not inner_step.lazy]
    varying = [inner_step for inner_step in steps if not inner_step.invariant]
    try:
        while at.done < total and not at.ended:
            context.check_cancelled()
            if passes is not None:  # a pass that is cut off may leave half of what it overwrites
                passes.last = None if step.donates else at
            at, steps = _run_pass(step, loop, steps, stream, inner, at, state), varying
            if passes is not None:
                passes.after(at)
            context.progress(at.done, total)
    except (Cancelled, NodeFailed):
        if passes is not None:
            passes.stopped()
        raise
    outputs = dict(step.outputs)
    for name, value in zip(loop.carry, at.carry, strict=True):
        values[outputs[name]] = value
    for name, gathered in at.collected.items():
        values[outputs[name]] = Stream[Any].of(gathered)


def _run_pass(
    step: Step, loop: LoopPlan, steps: list[Step], stream: Stream[Any], inner: list[Any], at: State, state: RunState
) -> State:
    """One pass of a loop: from one state to the next."""
    body = loop.body
    state.grad.set(step.record)
    try:
        inner[body.inputs["item"]] = stream[at.done]
    except (Exception, SystemExit) as error:
        raise NodeFailed(f"{step.path}.each[{at.done}]", step.type_id, error) from error
    inner[body.inputs["index"]] = at.done
    for name, value in zip(loop.carry, at.carry, strict=True):
        inner[body.inputs[name]] = value
    for inner_step in body.steps if body.makers else ():  # of the pass before
        if inner_step.lazy and not inner_step.invariant:
            for _, slot in inner_step.outputs:
                inner[slot] = ABSENT
    for inner_step in steps:
        _run_inside(inner_step, inner, state)
    for name, gathered in at.collected.items():
        gathered.append(inner[body.outputs[name]])
    ended = loop.until is not None and bool(inner[body.outputs[loop.until]])
    return State(at.done + 1, tuple([inner[body.outputs[name]] for name in loop.carry]), at.collected, ended)


def _run_inside(step: Step, inner: list[Any], state: RunState) -> None:
    """Run one step of a body."""
    _run(step, inner, state, 0.0)
    for slot in step.frees:
        inner[slot] = ABSENT
