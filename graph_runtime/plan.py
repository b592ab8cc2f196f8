"""A valid workflow becomes steps: their order, keys, lifetimes, overwrites and recorded history. Runs nothing.

Slots are numbered places for values. A step reads slots and writes slots; a loop's body is a plan of its own whose
enclosing inputs (``$item``, ``$index``, carries, links) are its first slots.

Keys are Merkle digests (blake3): node id, code digest, literals, the files they name, numerics, and the key of every
input. Positions, titles, names of nodes and order in the file are part of none. Only this module makes keys.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kineograph.graph_runtime.errors import InvalidWorkflow, Problem, said
from kineograph.graph_runtime.expand import FlatBody, expand
from kineograph.graph_runtime.goals import Goals
from kineograph.graph_runtime.keys import canonical, digest
from kineograph.graph_runtime.lazy import has_branches, lazy_lifetimes, mark_lazy
from kineograph.graph_runtime.order import Nodes, dependency_order
from kineograph.graph_runtime.overwrites import loop_hazards, loop_views, order_overwrites, overwritten_slots
from kineograph.graph_runtime.ports import ONLY_OUTPUT, NodeType, Port
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.steps import BranchPlan, LoopPlan, NamedFiles, Plan, Step
from kineograph.graph_runtime.workflow import BRANCH, LOOP, LoopSpec, NodeSpec, Workflow, reference, wires

SCHEMA = "kineograph-key-1"
MAX_LETTERS = 1 << 28
"""Of what is typed in, counted at each node that reads it: so much goes into keys, and is kept beside them."""


def make_plan(
    workflow: Workflow, registry: Registry, inputs: Mapping[str, Any], goals: Goals, *, numerics: str = ""
) -> Plan:
    """Plan a workflow that ``validate`` found no fault with.

    Args:
        workflow: the workflow.
        registry: where its node types stand.
        inputs: the value of every input.
        goals: what is wanted of it.
        numerics: what besides the graph decides the numbers: dtype, attention family.

    Raises:
        InvalidWorkflow: values are read after they were overwritten, a file that a node names cannot be read, or what
            is wanted is muted.
    """
    planner = _Planner(registry, numerics)
    flat = expand(workflow, registry, goals.links, inputs)
    effects = [name for name, spec in flat.nodes.items() if goals.has_effect(name) and planner.has_effect(spec)]
    planner.problems += goals.unreachable(flat, effects)
    plan = planner.graph(flat.nodes, flat.outputs, {**inputs, **flat.constants}, {}, "", effects)
    plan.definitions = flat.definitions
    if planner.problems:
        raise InvalidWorkflow([_named(problem, plan) for problem in planner.problems])
    plan.files = planner.files
    plan.left_out = flat.left_out
    return plan


class _Planner:
    def __init__(self, registry: Registry, numerics: str) -> None:
        self.registry = registry
        self.numerics = numerics
        self.problems: list[Problem] = []
        self.files: list[NamedFiles] = []
        self.letters = 0

    def graph(
        self,
        nodes: Nodes,
        wanted: Mapping[str, str],
        constants: Mapping[str, Any],
        entering: Mapping[str, str],
        place: str,
        effects: Iterable[str],
    ) -> Plan:
        """Plan one graph.

        Args:
            nodes: written out flat.
            wanted: the links of its outputs.
            constants: inputs of known value. entering: the keys of the others.
            place: of the loop around it.
            effects: the nodes that run whether an output needs them or not.
        """
        plan = Plan()
        plan.inputs = {name: plan.slot(key) for name, key in entering.items()}
        slots: dict[str, int] = {}

        def read(link: str) -> int:
            if link in slots:
                return slots[link]
            name = link[1:]
            if name in plan.inputs:
                return plan.inputs[name]
            slots[link] = slot = plan.slot(digest("constant", canonical(constants[name])))
            plan.preset[slot] = constants[name]
            return slot

        goals = [source.node for link in wanted.values() if (source := reference(link)).node]
        order, _ = dependency_order(nodes, [*goals, *effects])
        for name in order:
            spec = nodes[name]
            if isinstance(spec, LoopSpec):
                step = self.loop(plan, spec, place + name, constants, read)
            elif spec.type == BRANCH:
                step = _branch(plan, spec, place + name, read)
            else:
                step = self.node(plan, spec, place + name, constants, read)
            plan.steps.append(step)
            slots.update({f"{name}.{port}": slot for port, slot in step.outputs})
            if len(step.outputs) == 1:
                slots[name] = step.outputs[0][1]
        plan.outputs = {name: read(link) for name, link in wanted.items()}
        order_overwrites(plan, self.problems)
        _record_history(plan)
        _merge_twins(plan)
        mark_lazy(plan)
        _lifetimes(plan)
        return plan

    def has_effect(self, spec: NodeSpec | LoopSpec) -> bool:
        """Whether a node changes the world, itself or in its body."""
        if isinstance(spec, LoopSpec):
            return any(map(self.has_effect, spec.body.nodes.values()))
        kind = self.registry.get(spec.type)
        return kind is not None and kind.effect

    def node(
        self, plan: Plan, spec: NodeSpec, path: str, constants: Mapping[str, Any], read: Callable[[str], int]
    ) -> Step:
        kind = self.registry.get(spec.type)
        assert kind is not None
        literals = {name: kind.inputs[name].literal(value) for name, value in spec.params.items()}
        linked: dict[str, int] = {}
        for name, link in spec.links.items():
            if link[0] == "$" and link[1:] in constants:
                literals[name] = self.constant(f"{path}.{name}", kind.inputs[name], constants[link[1:]])
            else:
                linked[name] = read(link)
        head = [SCHEMA, kind.id, kind.code_digest, self.numerics if kind.moves_tensors else ""]
        ports: dict[str, str] = {}
        for name, port in kind.inputs.items():
            if name in linked:
                ports[name] = f"{name}@{plan.keys[linked[name]]}"
            else:
                ports[name] = f"{name}={canonical(literals.setdefault(name, port.default))}"
        self.letters += sum(map(len, ports.values()))
        if self.letters > MAX_LETTERS:
            message = f"The nodes read more than {MAX_LETTERS:,} letters that are typed in."
            raise InvalidWorkflow([Problem(path, message, "Let fewer nodes read the longest texts.")])
        if kind.digest_files is not None:
            try:
                head.append(files_digest(kind.digest_files, literals, path))
                self.files.append(NamedFiles(kind.digest_files, literals, head[-1]))
            except InvalidWorkflow as invalid:
                self.problems += invalid.problems
        key = digest(*head, *ports.values())
        outputs = tuple([(name, plan.slot(f"{key}.{name}")) for name in kind.outputs])
        if kind.counts:
            endless = digest("endless", *head, *_without_counts(ports, kind, linked, plan))
            plan.endless.update((slot, f"{endless}.{name}") for name, slot in outputs)
        return Step(
            path,
            kind.id,
            key,
            kind,
            None,
            literals,
            tuple(linked.items()),
            outputs,
            effect=kind.effect,
            donates=kind.donates,
            views=tuple([(port, output) for port in kind.views for output in kind.outputs]) if kind.views else (),
            cacheable=not kind.effect,
            stored=not kind.effect and kind.fingerprint is None,
            checked=tuple([name for name in linked if name in kind.bounded]) if kind.bounded else (),
            parts=(head, ports),
        )

    def constant(self, place: str, port: Port, value: Any) -> Any:
        """A known value as a port takes it."""
        try:
            return port.literal(value) if port.type.is_literal else value
        except ValueError as error:  # it came by a way that was not judged: past a bypassed node, out of a definition
            self.problems.append(Problem(place, f"{error}."))
            return value

    def loop(
        self, plan: Plan, spec: LoopSpec, path: str, constants: Mapping[str, Any], read: Callable[[str], int]
    ) -> Step:
        known = {
            name: constants[link[1:]] for name, link in spec.links.items() if link[0] == "$" and link[1:] in constants
        }
        arguments = tuple((port, read(link)) for port, link in wires(spec) if port not in known)
        links = tuple(name for name in spec.links if name not in known)
        entering = {name: f"${name}" for name in ("item", "index", *spec.carry, *links)}
        inside = known | spec.body.constants if isinstance(spec.body, FlatBody) else known
        effects = [name for name, inner in spec.body.nodes.items() if self.has_effect(inner)]
        body = self.graph(spec.body.nodes, spec.body.outputs, inside, entering, f"{path}/", effects)
        loop = LoopPlan(tuple(spec.carry), links, tuple(spec.collect), spec.until, body)
        gone = overwritten_slots(loop)
        self.problems += loop_hazards(loop, gone, path)
        _mark_invariant(body, {body.inputs[name] for name in ("item", "index", *spec.carry)}, gone)
        parts = [SCHEMA, LOOP, ",".join(sorted(spec.carry)), ",".join(sorted(spec.collect)), spec.until or ""]
        parts += sorted(f"{port}={plan.keys[slot]}" for port, slot in arguments)
        parts += sorted(f"{name}:{body.keys[slot]}" for name, slot in body.outputs.items())
        parts += sorted(step.key for step in body.steps if step.effect)
        key = digest(*parts)
        effect = any(step.effect for step in body.steps)
        each = plan.endless.get(dict(arguments)["each"])
        return Step(
            path,
            LOOP,
            key,
            None,
            loop,
            {},
            arguments,
            tuple((name, plan.slot(f"{key}.{name}")) for name in [*spec.carry, *spec.collect]),
            effect=effect,
            donates=tuple(name for name in spec.carry if body.inputs[name] in gone),
            views=loop_views(loop, gone),
            cacheable=not effect,
            stored=bool(spec.carry) or not effect,
            passes=_passes_key(spec, plan, arguments, body),
            parts=(
                (SCHEMA, digest(*parts[2:5], *(body.keys[slot] for slot in body.outputs.values()))),
                {port: f"{port}@{plan.keys[slot]}" for port, slot in arguments},
            ),
            extends=each is not None,
        )


def _branch(plan: Plan, spec: NodeSpec, path: str, read: Callable[[str], int]) -> Step:
    """A branch whose condition is computed: its output is one of its sides."""
    slots: dict[str, int] = {}
    for name in ("when", "then", "else"):
        if name in spec.links:
            slots[name] = read(spec.links[name])
        else:
            slots[name] = plan.slot(digest("constant", canonical(spec.params[name])))
            plan.preset[slots[name]] = spec.params[name]
    key = digest(SCHEMA, BRANCH, *(plan.keys[slot] for slot in slots.values()))
    return Step(
        path,
        BRANCH,
        key,
        None,
        None,
        {},
        tuple(slots.items()),
        ((ONLY_OUTPUT, plan.slot(key)),),
        views=(("then", ONLY_OUTPUT), ("else", ONLY_OUTPUT)),
        stored=False,
        branch=BranchPlan(slots["when"], (slots["then"], slots["else"]), plan),
    )


def _named(problem: Problem, plan: Plan) -> Problem:
    """A problem that says which definition its place is part of, if it is."""
    around = plan.definition_around(problem.place)
    if not around:
        return problem
    return Problem(problem.place, f"{problem.message.rstrip('.')}.", f"{problem.hint} It is part of {around}.".strip())


def _without_counts(ports: Mapping[str, str], kind: NodeType, linked: Mapping[str, int], plan: Plan) -> list[str]:
    """What a stream's first items depend on: all ports but its counts, and other streams without their lengths."""
    kept = dict(ports)
    for name in kind.counts:
        if kind.inputs[name].type.item is None:
            del kept[name]
        elif name in linked:
            kept[name] = f"{name}@{plan.endless.get(linked[name], plan.keys[linked[name]])}"
    return list(kept.values())


def _passes_key(spec: LoopSpec, plan: Plan, arguments: tuple[tuple[str, int], ...], body: Plan) -> str:
    """What the states of a loop between passes depend on: as its key, but not the number of passes, nor effects."""
    parts = [f"{port}={plan.keys[slot]}" for port, slot in arguments if port != "each"]
    each = dict(arguments)["each"]
    parts.append(f"each={plan.endless.get(each, plan.keys[each])}")
    parts += [f"{name}:{body.keys[slot]}" for name, slot in body.outputs.items()]
    return digest(
        SCHEMA, "passes", ",".join(sorted(spec.carry)), ",".join(sorted(spec.collect)), spec.until or "", *sorted(parts)
    )


def files_digest(fingerprint: Callable[..., str], literals: Mapping[str, Any], path: str) -> str:
    """The digest of the files that a node's literals name. What is linked is left at the function's default, if any.

    Raises:
        InvalidWorkflow: a name is not known before the run, or no such file can be read.
    """
    names = inspect.signature(fingerprint).parameters
    linked = [name for name, each in names.items() if name not in literals and each.default is each.empty]
    if linked:
        message = "It names a file, so its value must be known before the run."
        raise InvalidWorkflow([Problem(f"{path}.{linked[0]}", message, "Type it in.")])
    try:
        return fingerprint(**{name: literals[name] for name in names if name in literals})
    except (OSError, ValueError) as error:
        raise InvalidWorkflow([Problem(path, said(error))]) from None


def files_changed(plan: Plan) -> bool:
    """Whether files that a plan's literals name are no longer what they were."""
    try:
        return any(files_digest(files.fingerprint, files.literals, "") != files.digest for files in plan.files)
    except InvalidWorkflow:
        return True


def _record_history(plan: Plan) -> None:
    """Mark the ancestors of whatever is differentiated; all else runs without autograd.

    History ends where a pass of a loop begins: what a body differentiates is recorded within the pass.
    """
    recorded: set[int] = set()
    for step in reversed(plan.steps):
        if step.node is not None and step.node.differentiates:
            recorded.update(slot for port, slot in step.arguments if port in step.node.differentiates)
        if recorded and any(slot in recorded for _, slot in step.outputs):
            _record(step)
            condition = step.branch.when if step.branch is not None else -1
            recorded.update(slot for _, slot in step.arguments if slot != condition)


def _record(step: Step) -> None:
    """Record a step and all of its body. A history serves once, so what carries one is not kept between runs."""
    step.record = True
    step.cacheable = step.stored = False
    if step.loop is not None:
        for inner in step.loop.body.steps:
            inner.invariant = False
            _record(inner)


def _merge_twins(plan: Plan) -> None:
    """Keep one of the steps that have the same key, unless somebody overwrites or differentiates what they make."""
    first: dict[str, Step] = {}
    instead: dict[int, int] = {}
    kept: list[Step] = []
    apart = has_branches(plan)  # then one of two that overwrite may have readers that the other has not
    for step in plan.steps:
        if instead:
            step.arguments = tuple((port, instead.get(slot, slot)) for port, slot in step.arguments)
            if step.branch is not None:
                slots = dict(step.arguments)
                step.branch.when, step.branch.sides = slots["when"], (slots["then"], slots["else"])
        twin = step if not step.cacheable or (apart and step.donates) else first.setdefault(step.key, step)
        if twin is step:
            kept.append(step)
        else:
            there = dict(twin.outputs)
            instead.update({slot: there[port] for port, slot in step.outputs})
    plan.steps = kept
    plan.outputs = {name: instead.get(slot, slot) for name, slot in plan.outputs.items()}


def _mark_invariant(body: Plan, varying: set[int], overwritten: set[int]) -> None:
    """Mark the steps of a body that are the same in every pass: they run once and their values stay."""
    for step in body.steps:
        step.invariant = not (
            step.effect
            or step.record
            or step.donates
            or any(slot in varying for _, slot in step.arguments)
            or any(slot in overwritten for _, slot in step.outputs)
        )
        if not step.invariant:
            varying.update(slot for _, slot in step.outputs)
    once = {slot for step in body.steps if step.invariant for _, slot in step.outputs}
    for step in body.steps:
        step.frees = () if step.invariant else tuple(slot for slot in step.frees if slot not in once)


def _lifetimes(plan: Plan) -> None:
    """Tell each step which values nobody reads after it."""
    kept = {*plan.outputs.values(), *plan.inputs.values(), *plan.preset}
    held = lazy_lifetimes(plan, kept)
    for at in reversed(range(len(plan.steps))):
        step = plan.steps[at]
        if not step.lazy:
            read = {slot for _, slot in (*step.arguments, *step.outputs)}.union(held.get(at, ())) - kept
            step.frees = tuple(read)
            kept |= read
