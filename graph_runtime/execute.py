"""One step after another: cached values first, loops as scans, cancellation between steps. Knows no workflow file."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from kineograph.graph_runtime.ahead import Ended
from kineograph.graph_runtime.cache import MemoryCache
from kineograph.graph_runtime.errors import Cancelled, NodeFailed, said
from kineograph.graph_runtime.events import (
    BranchTaken,
    LeftOut,
    LoopCut,
    Metric,
    NodeCached,
    NodeFailure,
    NodeResumed,
    NodeStarted,
    RunFinished,
    RunsAgain,
    RunStarted,
)
from kineograph.graph_runtime.kept import ABSENT, Hit, keep, known, states_of
from kineograph.graph_runtime.memory.rescue import invoke, is_out_of_memory, may_run_again, run_again
from kineograph.graph_runtime.outline import outlines, shorts
from kineograph.graph_runtime.ports import MISSING, ONLY_OUTPUT, NodeType, Port
from kineograph.graph_runtime.results import Overwrote, misfit, several
from kineograph.graph_runtime.resume import Passes, State
from kineograph.graph_runtime.run_state import NodeContext, RunState, ignore
from kineograph.graph_runtime.sockets import Stream
from kineograph.graph_runtime.steps import BranchPlan, LoopPlan, Plan, Step
from kineograph.graph_runtime.store import Store


@dataclass(frozen=True)
class Outcome:
    """What a run gave: outputs by name, and how many steps ran and were cached."""

    outputs: dict[str, Any]
    ran: int
    cached: int
    seconds: float

    def __repr__(self) -> str:
        """With outputs in a few words: a video has millions of numbers."""
        outputs = ", ".join(f"{name}: {text}" for name, text in outlines(self.outputs).items())
        return f"Outcome(outputs={{{outputs}}}, ran={self.ran}, cached={self.cached}, seconds={self.seconds:.3f})"


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
    state.let_go = cache.clear
    try:
        with nullcontext() if state.memory is None else state.memory.running():
            _run_all(todo, values, cache, state)
    except NodeFailed as failure:
        failure.part_of(plan.definition_around(failure.path))
        state.listen(NodeFailure(failure.path, failure.node_type, str(failure), failure.inputs))
        raise
    finally:
        state.coroutines.close()
        state.grad.leave()
    seconds = time.perf_counter() - started
    outputs = {name: values[slot] for name, slot in plan.outputs.items()}
    state.listen(RunFinished(state.ran, state.cached, seconds, shorts(outputs)))
    if state.memory is not None:
        state.memory.give_back(outputs)
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
        hit = known(step, cache, store)
        if hit is not None:
            hits.append(hit)
        else:
            todo.append(step)
            needed.update(_needs(step))
    return todo[::-1], hits[::-1]


def _needs(step: Step) -> Iterable[int]:
    """The slots that must be filled before a step runs; a branch asks for its side itself."""
    return step.needs


def _use(hits: Iterable[Hit], values: list[Any], state: RunState) -> None:
    for step, outputs, metrics in hits:
        for (_, slot), value in zip(step.outputs, outputs, strict=True):
            values[slot] = value
        if state.memory is not None:
            state.memory.adopt(step.path, outputs)
        state.cached += 1
        state.listen(NodeCached(step.path, step.type_id, step.key))
        _preview(step, values, state)
        for metric in metrics:
            state.listen(Metric(step.path, *metric))


def _fresh(plan: Plan) -> list[Any]:
    values: list[Any] = [ABSENT] * len(plan.keys)
    for slot, value in plan.preset.items():
        values[slot] = value
    return values


def _run_all(todo: list[Step], values: list[Any], cache: MemoryCache, state: RunState) -> None:
    if state.memory is None and any(step.node is not None and step.node.is_async for step in todo):
        _run_beside(todo, values, cache, state)
        return
    for step in todo:
        state.check_cancelled(step.path)
        _run_and_keep(step, values, cache, state)


def _run_beside(todo: list[Step], values: list[Any], cache: MemoryCache, state: RunState) -> None:
    """Run steps of which some are coroutines: those begin as soon as they can, and are waited for when they must.

    One that changes the world, overwrites or is recorded runs in its turn like any other step.
    """
    ahead = [step for step in todo if _may_run_beside(step)]
    begun: dict[str, tuple[Step, Future[Ended]]] = {}

    def finish(path: str) -> None:
        step, future = begun.pop(path)
        ended = _wait(step, future, state)
        _assign_ended(step, values, ended)
        keep(step, values, cache, state, ended.seconds, time.perf_counter() - ended.seconds)
        _preview(step, values, state)

    def begin() -> None:
        for step in [step for step in ahead if all(values[slot] is not ABSENT for slot in _needs(step))]:
            ahead.remove(step)
            state.listen(NodeStarted(step.path, step.type_id))
            begun[step.path] = step, _begin(step, values, state)

    makers = {slot: step.path for step in ahead for _, slot in step.outputs}
    for step in todo:
        state.check_cancelled(step.path)
        state.coroutines.tell(state.listen)
        begin()
        if step.path in begun:
            continue
        everything = step.branch is not None or step.within is not None or step.donates
        wanted = list(begun) if everything else [makers.get(slot, "") for slot in _needs(step)]
        for path in wanted:
            if path in begun:
                finish(path)
        begin()
        if step.path not in begun and not _may_run_beside(step):
            _run_and_keep(step, values, cache, state)
    for path in list(begun):
        finish(path)


def _may_run_beside(step: Step) -> bool:
    alone = step.effect or step.donates or step.record or step.within is not None
    return step.node is not None and step.node.is_async and not alone


def _run_and_keep(step: Step, values: list[Any], cache: MemoryCache, state: RunState) -> None:
    if state.listen is not ignore:
        state.listen(NodeStarted(step.path, step.type_id))
    started = time.perf_counter()
    passes = states_of(step, state)
    _run(step, values, state, started, passes, cache)
    seconds = passes.seconds if passes is not None else time.perf_counter() - started
    keep(step, values, cache, state, seconds, started, passes)
    _preview(step, values, state)


def _preview(step: Step, values: list[Any], state: RunState) -> None:
    if state.previews.seconds:
        for port, slot in step.outputs:
            state.previews.show(step.path, port, values[slot], state.listen)


def _run(
    step: Step,
    values: list[Any],
    state: RunState,
    now: float,
    passes: Passes | None = None,
    cache: MemoryCache | None = None,
) -> None:
    """Run one step: read its slots, write its slots."""
    state.at.path = step.path
    kind = step.node
    if kind is None:
        if step.loop is not None:
            _run_loop(step, step.loop, values, state, passes)
        else:
            assert step.branch is not None
            _run_branch(step, step.branch, values, state, cache)
        return
    if step.within is not None:
        _ask(step, kind, step.within, values, state, cache)
        state.at.path = step.path
    state.grad.set(step.record)
    if kind.is_async and not step.record and state.memory is None:
        _assign_ended(step, values, _wait(step, _begin(step, values, state), state))
        return
    arguments: dict[str, Any] = {}
    try:
        arguments = _arguments(step, kind, values, state, now)
        _assign(step, kind, values, _call(step, arguments, state))
    except (NodeFailed, Cancelled):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, Overwrote):
            state.let_go()
        given = outlines({port: value for port, value in arguments.items() if port in kind.inputs})
        raise NodeFailed(step.path, step.type_id, error, given, kind.packages) from error


def _call(step: Step, arguments: dict[str, Any], state: RunState) -> Any:
    """What a node returns; where memory runs out, or its error knows a remedy, what it returns the second time."""
    memory = state.memory
    try:
        return invoke(step, arguments) if memory is None else memory.call(step, arguments)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or not may_run_again(step):
            raise
    except ArithmeticError as error:
        remedy = getattr(error, "remedy", None)
        if remedy is None or not may_run_again(step):
            raise
        state.listen(RunsAgain(step.path, said(error)))
        with remedy():
            return invoke(step, arguments) if memory is None else memory.call(step, arguments)
    if memory is None:
        return run_again(step, arguments, partial(invoke, step), (state.let_go,), state.listen)
    frees = (state.let_go, memory.let_go)
    return run_again(step, arguments, partial(memory.call, step), frees, state.listen, memory.report)


def _arguments(step: Step, kind: NodeType, values: list[Any], state: RunState, now: float) -> dict[str, Any]:
    arguments = step.constants.copy()
    for port, slot in step.arguments:
        arguments[port] = values[slot]
    unasked = [port for port in kind.lazy if arguments.get(port) is ABSENT]
    if unasked:
        defaults = {port: kind.inputs[port].default for port in unasked}
        arguments.update({port: None if default is MISSING else default for port, default in defaults.items()})
    if kind.run_parameter is not None:
        arguments[kind.run_parameter] = NodeContext(step.path, state, now)
    for port in [port for port in step.checked if port not in unasked]:
        arguments[port] = _checked(kind.inputs[port], arguments[port])
    return arguments


def _assign(step: Step, kind: NodeType, values: list[Any], result: Any) -> None:
    """Put what a node returned into its slots.

    Raises:
        ValueError: it is not what the node declares.
    """
    if len(step.outputs) == 1 and step.outputs[0][0] == ONLY_OUTPUT:
        if not isinstance(result, kind.returns[0]):
            raise ValueError(f"it returned {misfit(kind.outputs[ONLY_OUTPUT].type, result)}")
        values[step.outputs[0][1]] = result
    elif step.outputs:
        for (_, slot), value in zip(step.outputs, several(kind, result), strict=True):
            values[slot] = value


def _assign_ended(step: Step, values: list[Any], ended: Ended) -> None:
    assert step.node is not None
    try:
        _assign(step, step.node, values, ended.result)
    except ValueError as error:
        raise NodeFailed(step.path, step.type_id, error) from error


def _begin(step: Step, values: list[Any], state: RunState) -> Future[Ended]:
    """Let a coroutine run; what it tells waits for this thread."""
    assert step.node is not None
    seen = replace(state, listen=state.coroutines.heard.put)
    try:
        return state.coroutines.start(
            step.node.function(**_arguments(step, step.node, values, seen, time.perf_counter()))
        )
    except ValueError as error:  # an input is out of bounds
        raise NodeFailed(step.path, step.type_id, error) from error


def _wait(step: Step, future: Future[Ended], state: RunState) -> Ended:
    state.at.path = step.path
    ended = state.coroutines.wait(future, state.listen, lambda: state.check_cancelled(step.path))
    if isinstance(ended.error, Cancelled):
        raise ended.error
    if ended.error is not None:
        packages = step.node.packages if step.node is not None else ()
        raise NodeFailed(step.path, step.type_id, ended.error, packages=packages) from ended.error
    return ended


def _checked(port: Port, value: Any) -> Any:
    try:
        return port.literal(value)
    except ValueError as error:
        raise ValueError(f"{port.name}: {error}") from None


def _run_branch(step: Step, branch: BranchPlan, values: list[Any], state: RunState, cache: MemoryCache | None) -> None:
    """Choose a side, and run what it needs."""
    taken = bool(values[branch.when])
    side = branch.sides[not taken]
    if cache is not None:
        state.listen(BranchTaken(step.path, step.type_id, "then" if taken else "else"))
    _fill([side], branch.plan, values, state, cache)
    output = step.outputs[0][1]
    values[output] = values[side]
    state.debts[output] = state.debts.get(side, 0.0) + state.debts.get(branch.when, 0.0)


def _ask(step: Step, kind: NodeType, plan: Plan, values: list[Any], state: RunState, cache: MemoryCache | None) -> None:
    """Compute the lazy inputs that a node asks for, until it asks for none that is not there."""
    linked = dict(step.arguments)
    while True:
        known = step.constants | {port: values[slot] for port, slot in linked.items() if values[slot] is not ABSENT}
        try:
            names = list(kind.asks(**known)) if kind.asks is not None else list(kind.lazy)
        except (Exception, SystemExit) as error:
            raise NodeFailed(step.path, step.type_id, error) from error
        slots = [linked[name] for name in names if name in linked and values[linked[name]] is ABSENT]
        if not slots:
            return
        _fill(slots, plan, values, state, cache)


def _fill(slots: list[int], plan: Plan, values: list[Any], state: RunState, cache: MemoryCache | None) -> None:
    """Run what slots need and nobody has asked for yet; in a loop's body there is no cache."""
    todo: set[int] = set()
    waiting = [*slots]
    while waiting:
        slot = waiting.pop()
        at = plan.makers.get(slot, -1)
        if values[slot] is not ABSENT or at in todo:
            continue
        needed = plan.steps[at]
        hit = known(needed, cache, state.store) if cache is not None and not state.cut else None
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
    state.enter_loop()
    try:
        while at.done < total and not at.ended:
            context.check_cancelled()
            if passes is not None:  # a pass that is cut off may leave half of what it overwrites
                passes.last = None if step.donates else at
            at, steps = _run_pass(step, loop, steps, stream, inner, at, state), varying
            if passes is not None:
                passes.after(at)
            context.progress(at.done, total)
            if state.previews.seconds:
                for name, value in zip(loop.carry, at.carry, strict=True):
                    state.previews.show(step.path, name, value, state.listen, at.done)
            if at.done < total and state.cuts():
                state.listen(LoopCut(step.path, step.type_id, at.done, total))
                break
    except (Cancelled, NodeFailed):
        if passes is not None:
            passes.stopped()
        raise
    finally:
        state.loops -= 1
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
