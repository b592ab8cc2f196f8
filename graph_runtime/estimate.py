"""What a plan would cost, node by node: its steps are walked on tensors that are not computed. Runs no effect.

It goes the way of ``execute``: values live in the same slots as long as there, a loop's passes follow each other, and
what the cache in memory would keep is kept. Passes that are like the one before are counted and not walked. What a
trial cannot know (a file without ``estimate=``, a number that only a real run has) is unknown, and so is what needs it.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from kineograph.graph_runtime.ahead import finished
from kineograph.graph_runtime.cache import MemoryCache
from kineograph.graph_runtime.costs import EFFECT, Estimate, NodeEstimate
from kineograph.graph_runtime.errors import said
from kineograph.graph_runtime.holdings import held_bytes, likeness, shapes, tensors
from kineograph.graph_runtime.kept import ABSENT
from kineograph.graph_runtime.keys import first_difference, named_parts
from kineograph.graph_runtime.machine import spare_memory
from kineograph.graph_runtime.ports import ONLY_OUTPUT, NodeType
from kineograph.graph_runtime.run_state import NodeContext, RunState
from kineograph.graph_runtime.sockets import Stream
from kineograph.graph_runtime.steps import BranchPlan, LoopPlan, Plan, Step

if TYPE_CHECKING:
    from kineograph.graph_runtime.memory.reads import Reads
    from kineograph.graph_runtime.store import Store
    from kineograph.trial import Ledger, Trial
    from kineograph.trial.repeats import Repeats

WALKED = 32
"""Passes of a loop that are walked one by one where they are not alike."""
READ = 2**24
"""Bytes of a kept result that a trial reads."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Stands where a value would be; ``why`` is a clause."""

    why: str


def estimate(
    plan: Plan, store: Store | None = None, memory_bytes: int | None = None, reads: Reads | None = None
) -> Estimate:
    """What running a plan would cost.

    Args:
        plan: as for ``execute``.
        store: whose kept results need not run again; nothing is read of them but what they are.
        memory_bytes: of the cache in memory that the run will have; its default, where none is given.
        reads: told which weights are read when; those that can come and go are then not counted as memory.
    """
    import torch

    from kineograph.trial import trial
    from kineograph.trial.repeats import Repeats

    before = torch.is_grad_enabled()
    try:
        with trial() as (tried, ledger), nullcontext() if reads is None else reads.of(ledger):
            cache = MemoryCache() if memory_bytes is None else MemoryCache(memory_bytes)
            return _Walk(tried, ledger, Repeats(tried, ledger), cache, store, reads).whole(plan)
    finally:
        torch.set_grad_enabled(before)


class _Walk:
    def __init__(
        self,
        tried: Trial,
        ledger: Ledger,
        repeats: Repeats,
        cache: MemoryCache,
        store: Store | None,
        reads: Reads | None,
    ) -> None:
        self.tried, self.ledger, self.cache, self.store, self.reads = tried, ledger, cache, store, reads
        self.repeats = repeats
        self.rows: dict[str, NodeEstimate] = {}
        self.state = RunState()
        self.times: int = 1
        self.around: str = ""
        self.peak, self.peak_path = 0, ""

    def whole(self, plan: Plan) -> Estimate:
        """Walk a plan as ``execute`` runs it."""
        todo, kept = self.split(plan)
        values = _fresh(plan)
        for step in plan.steps:
            if step.path in kept:
                self.take(step, values, kept[step.path])
        for step in todo:
            self.step(step, values)
            self.keep(step, values)
            for slot in step.frees:
                values[slot] = ABSENT
        rows = list(self.rows.values())
        flops = sum(row.flops for row in rows if not row.around)
        return Estimate(rows, flops, self.peak, self.peak_path, spare_memory())

    def split(self, plan: Plan) -> tuple[list[Step], dict[str, Any]]:
        """The steps that would run, and what is kept of others, by path."""
        needed = set(plan.outputs.values())
        todo: list[Step] = []
        kept: dict[str, Any] = {}
        for step in reversed(plan.steps):
            if (not step.effect or step.lazy) and not any(slot in needed for _, slot in step.outputs):
                continue
            found = self.outline(step)
            if found is not None:
                kept[step.path] = found
                continue
            todo.append(step)
            needed.update(_needs(step))
        return todo[::-1], kept

    def outline(self, step: Step) -> tuple[Any, ...] | None:
        """What is kept of a step's outputs, without numbers."""
        return self.store.outline(step.key) if self.store is not None and step.stored else None

    def why(self, step: Step) -> str:
        """Why a step's result is not kept, as a clause; empty where nothing of the node is."""
        before = self.store.newest(step.path) if self.store is not None and step.stored else None
        parts: dict[str, str] = before.more.get("parts", {}) if before is not None else {}
        now = named_parts(*step.parts)
        same = parts and (step.loop is not None or parts.get("node") == now["node"])
        return first_difference(parts, now) if same else ""

    def take(self, step: Step, values: list[Any], found: tuple[Any, ...]) -> None:
        """A step that need not run: its outputs are read; small ones here too, as masks say what comes after."""
        kept = self.store.get(step.key) if self.store is not None and held_bytes(found) <= READ else None
        outputs = self.tried.settle(found) if kept is None else kept[0]
        if kept is None:
            self.tried.forget(tensors(outputs))
        self.ledger.hold(tensors(outputs))
        for (_, slot), value in zip(step.outputs, outputs, strict=True):
            values[slot] = value
        row = self.row(step)
        row.cached = True
        self.describe(row, step, values)

    def keep(self, step: Step, values: list[Any]) -> None:
        """What the run's cache in memory keeps, stays in memory; why the store has nothing, is told."""
        outputs = tuple(values[slot] for _, slot in step.outputs)
        row = self.rows[step.path]
        row.changed = self.why(step)
        if step.cacheable and step.branch is None and not row.unknown:
            self.cache.put(step.key, outputs, row.output_bytes, float(row.flops))

    def row(self, step: Step) -> NodeEstimate:
        """The row of a step; a new one if it has none."""
        return self.rows.setdefault(step.path, NodeEstimate(step.path, step.type_id, self.around))

    def step(self, step: Step, values: list[Any]) -> None:
        """Walk one step: read its slots, write its slots."""
        row = self.row(step)
        row.passes += self.times
        around, self.ledger.peak = self.ledger.peak, self.ledger.live
        before = self.ledger.flops
        if self.reads is not None:
            self.reads.begin()
        made = self.made(step, values, row)
        if self.reads is not None:
            self.reads.end(step, self.ledger.peak, unknown=isinstance(made, Unknown))
        if isinstance(made, Unknown):
            row.unknown = row.unknown or made.why  # in a loop, the first pass tells the cause
            made = tuple(Unknown(f"it needs {step.path}") for _ in step.outputs)
        for (_, slot), value in zip(step.outputs, made, strict=True):
            values[slot] = value
        if step.node is not None:  # what a branch or a loop asks for has rows of its own
            row.flops += (self.ledger.flops - before) * self.times
        row.peak_bytes = max(row.peak_bytes, self.ledger.peak)
        if self.ledger.peak > self.peak:
            self.peak, self.peak_path = self.ledger.peak, step.path
        self.ledger.peak = max(around, self.ledger.peak)
        self.describe(row, step, values)

    def made(self, step: Step, values: list[Any], row: NodeEstimate) -> tuple[Any, ...] | Unknown:
        """The outputs of a step, or why they are unknown."""
        if step.loop is not None:
            return self.loop(step, step.loop, values, row)
        if step.branch is not None:
            return self.branch(step.branch, values, row)
        if step.within is not None:
            for slot in step.asked:  # for which of these it asks, only a real run knows
                self.lazily(slot, step.within, values)
        return self.node(step, values)

    def branch(self, branch: BranchPlan, values: list[Any], row: NodeEstimate) -> tuple[Any, ...] | Unknown:
        """The side that is taken; both are walked where only a real run knows which."""
        when = values[branch.when]
        sides = branch.sides if isinstance(when, Unknown) else (branch.sides[not when],)
        if len(sides) > 1:
            row.note = "both sides are counted: only a real run knows which it takes"
        for side in sides:
            self.lazily(side, branch.plan, values)
        known = [values[side] for side in sides if not isinstance(values[side], Unknown)]
        return (known[0],) if known else Unknown("what it gives on is unknown")

    def lazily(self, slot: int, plan: Plan, values: list[Any]) -> None:
        """Walk what a slot needs and nobody has asked for yet."""
        if values[slot] is not ABSENT:
            return
        step = plan.steps[plan.makers[slot]]
        found = None if self.around else self.outline(step)
        if found is not None:
            self.take(step, values, found)
            return
        for needed in _needs(step):
            self.lazily(needed, plan, values)
        times, self.times = self.times, 1 if step.invariant else self.times
        self.step(step, values)
        self.times = times
        if not self.around:
            self.keep(step, values)

    def node(self, step: Step, values: list[Any]) -> tuple[Any, ...] | Unknown:
        """The outputs of a node, or why they are unknown."""
        import torch

        kind = step.node
        assert kind is not None
        arguments = step.constants.copy()
        for port, slot in step.arguments:
            arguments[port] = values[slot]
            if isinstance(values[slot], Unknown):
                return cast(Unknown, values[slot])
        if kind.estimate is None and (kind.effect or _names_files(kind)):
            return Unknown(EFFECT if kind.effect else "it reads files")
        if self.reads is not None:
            arguments |= self.reads.instead(step)
        if kind.run_parameter is not None:
            arguments[kind.run_parameter] = NodeContext(step.path, self.state, 0.0)
        self.repeats.begin()
        torch.set_grad_enabled(step.record)
        try:
            for port in step.checked:
                arguments[port] = kind.inputs[port].literal(arguments[port])
            if kind.estimate is not None:
                arguments.pop(kind.run_parameter or "", None)
                result = self.tried.settle(kind.estimate(**arguments), self.repeats.watch)
                if self.reads is not None:
                    self.reads.adopt(step.path, result)
                self.ledger.hold(tensors(result))
            else:
                result = kind.function(**arguments)
                result = finished(result) if kind.is_async else result
        except Exception as error:  # noqa: BLE001  a real run has numbers where this one has none
            return Unknown(_reason(error))
        if len(step.outputs) == 1 and step.outputs[0][0] == ONLY_OUTPUT:
            return (result,)
        return tuple(result) if step.outputs else ()

    def loop(self, step: Step, loop: LoopPlan, values: list[Any], row: NodeEstimate) -> tuple[Any, ...] | Unknown:
        """The outputs of a loop whose passes are walked until they are alike."""
        given = {port: values[slot] for port, slot in step.arguments}
        stream = given.pop("each")
        if not isinstance(stream, Stream):
            return stream if isinstance(stream, Unknown) else Unknown("it runs over no stream")
        stream = cast(Stream[Any], stream)
        inner = _fresh(loop.body)
        for name in loop.links:
            inner[loop.body.inputs[name]] = given[name]
        passes = _Passes(step, loop, stream, inner, tuple(given[name] for name in loop.carry))
        row.loops = passes.total
        times, around, flops = self.times, self.around, self.flops_in(step)
        self.around = step.path
        while passes.done < passes.total:
            stands_for = passes.alike()
            self.times = times * stands_for
            begin = len(self.reads.demands.order) if self.reads is not None else 0
            self.one_pass(passes)
            if self.reads is not None:
                self.reads.demands.repeat(begin, stands_for)
            passes.skip(stands_for - 1)
            row.note = passes.note
        self.times, self.around = times, around
        row.flops += self.flops_in(step) - flops
        return passes.outputs()

    def flops_in(self, loop: Step) -> int:
        """Of the nodes of a loop's body, so far."""
        return sum(row.flops for row in self.rows.values() if row.around == loop.path)

    def one_pass(self, passes: _Passes) -> None:
        """Walk one pass: from one state to the next."""
        passes.enter()
        for step in passes.loop.body.steps:
            if step.lazy and not step.invariant:  # of the pass before
                for _, slot in step.outputs:
                    passes.inner[slot] = ABSENT
        times = self.times
        for step in passes.loop.body.steps:
            if step.lazy or (step.invariant and passes.walked):
                continue
            self.times = 1 if step.invariant else times
            self.step(step, passes.inner)
            for slot in step.frees:
                passes.inner[slot] = ABSENT
        self.times = times
        passes.leave()

    def describe(self, row: NodeEstimate, step: Step, values: list[Any]) -> None:
        """What a step made, as a row tells it."""
        row.shapes, row.tokens = {}, 0
        outputs = [(port, values[slot]) for port, slot in step.outputs]
        for port, value in outputs:
            row.shapes[port] = dict(shapes("", value))
            row.tokens = max(row.tokens, getattr(value, "token_count", 0))
        row.output_bytes = held_bytes([value for _, value in outputs])


class _Passes:
    """Where a loop stands, and which of its passes are like the one before."""

    def __init__(
        self, step: Step, loop: LoopPlan, stream: Stream[Any], inner: list[Any], carry: tuple[Any, ...]
    ) -> None:
        self.step, self.loop, self.stream, self.inner, self.carry = step, loop, stream, inner, carry
        self.total, self.done, self.walked = len(stream), 0, 0
        self.collected: dict[str, list[Any]] = {name: [] for name in loop.collect}
        self.ballast: list[Any] = []
        self.item: Any = None
        self.last: Any = None
        self.note = ""
        read = {slot for inner_step in loop.body.steps for _, slot in inner_step.arguments}
        self.read = {name for name in ("item", "index") if loop.body.inputs[name] in read}

    def alike(self) -> int:
        """How many passes the next one stands for."""
        try:
            self.item = self.stream[self.done]
        except Exception as error:  # noqa: BLE001  it reads files, or needs numbers
            self.item = Unknown(_reason(error))
        told = {"item": self.item, "index": self.done}
        kind = (likeness({name: told[name] for name in self.read}), likeness(self.carry))
        same, self.last = kind == self.last, kind
        left = self.total - self.done
        if left < 2 or not self.walked:
            return 1
        if not same and self.total <= WALKED:
            return 1
        if not same:
            self.note = f"from 3 of {self.total:,} passes, which are not alike"
        return left - 1 if self.collected or not same else left

    def enter(self) -> None:
        """Give the body what the pass reads."""
        body = self.loop.body
        self.inner[body.inputs["item"]], self.item = self.item, None
        self.inner[body.inputs["index"]] = self.done
        for name, value in zip(self.loop.carry, self.carry, strict=True):
            self.inner[body.inputs[name]] = value

    def leave(self) -> None:
        """Take what the pass made."""
        body = self.loop.body
        for name, gathered in self.collected.items():
            gathered.append(self.inner[body.outputs[name]])
        self.carry = tuple(self.inner[body.outputs[name]] for name in self.loop.carry)
        self.done += 1
        self.walked += 1
        if self.loop.until is not None and self.total > 1:
            self.note = "at most: it may end early"

    def skip(self, passes: int) -> None:
        """Passes like the last one are done: what each collected is in memory."""
        self.done += passes
        for gathered in self.collected.values() if passes else ():
            self.ballast.append(_memory(passes * held_bytes(gathered[-1], without=gathered[-2])))
            gathered += [gathered[-1]] * passes

    def outputs(self) -> tuple[Any, ...]:
        """What the loop leaves, in the order of its outputs."""
        streams = {name: Stream[Any].of(gathered) for name, gathered in self.collected.items()}
        for stream in streams.values():
            stream.held = (stream.items, self.ballast)
        made = dict(zip(self.loop.carry, self.carry, strict=True)) | streams
        return tuple(made[name] for name, _ in self.step.outputs)


def _fresh(plan: Plan) -> list[Any]:
    values: list[Any] = [ABSENT] * len(plan.keys)
    for slot, value in plan.preset.items():
        values[slot] = value
    return values


def _names_files(kind: NodeType) -> bool:
    """Whether a node reads files, and not only says that its results are not to be kept."""
    return kind.fingerprint is not None and bool(inspect.signature(kind.fingerprint).parameters)


def _needs(step: Step) -> list[int]:
    """The slots that must be filled before a step runs; a branch asks for its side itself."""
    return step.needs


def _reason(error: Exception) -> str:
    """Why a node could not be tried, as a clause."""
    name = type(error).__name__
    if name in ("DataDependentOutputException", "DynamicOutputShapeException") or "FakeTensor" in str(error):
        return "what it does depends on numbers that only a real run has"
    return said(error)


def _memory(nbytes: int) -> Any:
    """Something that takes so many bytes."""
    import torch

    return torch.empty(nbytes, dtype=torch.uint8)
