"""A valid workflow becomes steps: their order, keys, lifetimes, overwrites and recorded history. Runs nothing.

Slots are numbered places for values. A step reads slots and writes slots; a loop's body is a plan of its own whose
enclosing inputs (``$item``, ``$index``, carries, links) are its first slots.

Keys are Merkle digests (blake3): node id, code digest, literals, the files they name, numerics, and the key of every
input. Positions, titles, names of nodes and order in the file are part of none. Only this module makes keys.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import networkx as nx
from blake3 import blake3

from kineograph.graph_runtime.errors import InvalidWorkflow, Problem
from kineograph.graph_runtime.node import ONLY_OUTPUT, NodeType
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.workflow import LOOP, LoopSpec, NodeSpec, Reference, Workflow, reference, wires

Nodes = Mapping[str, NodeSpec | LoopSpec]
SCHEMA = "kineograph-key-1"


@dataclass(slots=True)
class Step:
    """One node or loop of a plan.

    Attributes:
        path: its place in the workflow. type_id: its node's id. key: what its outputs are known by.
        node, loop: what runs; one of the two.
        constants: literals by port. arguments: (port, slot) of what is read. outputs: (port, slot) of what is written.
        donates: ports whose value it overwrites.
        cacheable: nobody overwrites its outputs and it has no effect.
        record: autograd records it, because somebody differentiates what it led to.
        invariant: inside a body: the same in every pass, so it runs once.
        frees: slots that nobody reads after it.
        checked: literal ports with bounds that arrive by a link, so are checked when the value is there.
    """

    path: str
    type_id: str
    key: str
    node: NodeType | None
    loop: LoopPlan | None
    constants: dict[str, Any]
    arguments: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    donates: tuple[str, ...] = ()
    cacheable: bool = True
    record: bool = False
    invariant: bool = False
    frees: tuple[int, ...] = ()
    checked: tuple[str, ...] = ()

    @property
    def effect(self) -> bool:
        """Whether it changes the world, itself or in its body."""
        if self.node is not None:
            return self.node.effect
        assert self.loop is not None
        return any(step.effect for step in self.loop.body.steps)


@dataclass(slots=True)
class LoopPlan:
    """A loop's own wiring: names of carries and links, and the body."""

    carry: tuple[str, ...]
    links: tuple[str, ...]
    collect: tuple[str, ...]
    until: str | None
    body: Plan


@dataclass(slots=True)
class Plan:
    """Steps in order; where inputs enter and outputs leave; values known beforehand."""

    steps: list[Step] = field(default_factory=list[Step])
    inputs: dict[str, int] = field(default_factory=dict[str, int])
    outputs: dict[str, int] = field(default_factory=dict[str, int])
    preset: dict[int, Any] = field(default_factory=dict[int, Any])
    keys: list[str] = field(default_factory=list[str])

    def slot(self, key: str) -> int:
        """A new slot for a value known by ``key``."""
        self.keys.append(key)
        return len(self.keys) - 1


def make_plan(
    workflow: Workflow,
    registry: Registry,
    inputs: Mapping[str, Any],
    *,
    outputs: Iterable[str] | None = None,
    numerics: str = "",
) -> Plan:
    """Plan a workflow that ``validate`` found no fault with.

    Args:
        workflow: the workflow.
        registry: where its node types stand.
        inputs: the value of every input.
        outputs: names of the outputs to compute; all, and all effects, by default.
        numerics: what besides the graph decides the numbers: dtype, attention family.

    Raises:
        InvalidWorkflow: values are read after they were overwritten, or a file that a node names cannot be read.
    """
    planner = _Planner(registry, numerics)
    constants = dict(inputs)
    wanted = {name: link for name, link in workflow.outputs.items() if outputs is None or name in outputs}
    plan = planner.graph(workflow.nodes, wanted, constants, {}, "", effects=outputs is None)
    if planner.problems:
        raise InvalidWorkflow(planner.problems)
    return plan


def dependency_order(nodes: Nodes) -> tuple[list[str], list[list[str]]]:
    """Nodes so that each stands after what it reads, and the groups of nodes that wait for each other."""
    graph = _dependencies(nodes)
    try:
        return list(nx.topological_sort(graph)), []
    except nx.NetworkXUnfeasible:
        groups = [sorted(group) for group in nx.strongly_connected_components(graph)]
        cycles = [group for group in groups if len(group) > 1 or graph.has_edge(group[0], group[0])]
        return [name for group in reversed(groups) for name in group], sorted(cycles)


def cycle_problems(cycles: Sequence[Sequence[str]], place: str) -> list[Problem]:
    """A problem for each group of nodes that wait for each other."""
    return [
        Problem(
            place + cycle[0],
            f"A cycle: {' -> '.join([*cycle, cycle[0]])} wait for each other.",
            "To repeat something, use a loop@1 and carry the value.",
        )
        for cycle in cycles
    ]


def _dependencies(nodes: Nodes) -> nx.DiGraph[str]:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(
        (source, name)
        for name, spec in nodes.items()
        for _, link in wires(spec)
        if (source := reference(link).node) in nodes
    )
    return graph


class _Planner:
    def __init__(self, registry: Registry, numerics: str) -> None:
        self.registry = registry
        self.numerics = numerics
        self.problems: list[Problem] = []

    def graph(
        self,
        nodes: Nodes,
        wanted: Mapping[str, str],
        constants: Mapping[str, Any],
        entering: Mapping[str, str],
        place: str,
        *,
        effects: bool = True,
    ) -> Plan:
        """Plan one graph. ``constants`` are inputs of known value, ``entering`` maps the others to their keys."""
        plan = Plan()
        plan.inputs = {name: plan.slot(key) for name, key in entering.items()}
        graph = _dependencies(nodes)
        slots: dict[tuple[str, str], int] = {}
        steps: dict[str, Step] = {}

        def read(link: str) -> int:
            source = reference(link)
            if source.node:
                step = steps[source.node]
                port = source.port if (source.node, source.port) in slots else step.outputs[0][0]
                return slots[source.node, port]
            if source.port in plan.inputs:
                return plan.inputs[source.port]
            slot = plan.slot(digest("constant", canonical(constants[source.port])))
            plan.preset[slot] = constants[source.port]
            return slot

        for name in nx.topological_sort(graph):
            spec = nodes[name]
            if isinstance(spec, LoopSpec):
                step = self.loop(plan, spec, place + name, constants, read)
            else:
                step = self.node(plan, spec, place + name, constants, read)
            steps[name] = step
            slots.update({(name, port): slot for port, slot in step.outputs})
        plan.outputs = {name: read(link) for name, link in wanted.items()}
        goals = {source.node for link in wanted.values() if (source := reference(link)).node}
        goals |= {name for name, step in steps.items() if effects and step.effect}
        needed = goals.union(*(nx.ancestors(graph, goal) for goal in goals)) if len(goals) < 8 else _above(graph, goals)
        steps = {name: step for name, step in steps.items() if name in needed}
        plan.steps = order_overwrites(plan, list(steps.values()), self.problems)
        _record_history(plan)
        _lifetimes(plan)
        return plan

    def node(
        self, plan: Plan, spec: NodeSpec, path: str, constants: Mapping[str, Any], read: Callable[[str], int]
    ) -> Step:
        kind = self.registry.get(spec.type)
        assert kind is not None
        literals = {name: kind.inputs[name].literal(value) for name, value in spec.params.items()}
        arguments: list[tuple[str, int]] = []
        for port, link in spec.links.items():
            if link[0] == "$" and link[1:] in constants:
                value = constants[link[1:]]
                literals[port] = kind.inputs[port].literal(value) if kind.inputs[port].type.is_literal else value
            else:
                arguments.append((port, read(link)))
        linked = dict(arguments)
        for name, port in kind.inputs.items():
            if name not in literals and name not in linked:
                literals[name] = port.default
        parts = [SCHEMA, kind.id, kind.code_digest, self.numerics if kind.moves_tensors else "", self.files(kind, literals, path)]
        parts += [
            f"{name}={plan.keys[linked[name]] if name in linked else canonical(literals[name])}"
            for name in sorted(kind.inputs)
        ]
        key = digest(*parts)
        outputs = tuple((name, plan.slot(f"{key}.{name}")) for name in kind.outputs)
        checked = tuple(name for name, _ in arguments if kind.inputs[name].type.is_literal and kind.inputs[name].bounds)
        return Step(
            path, kind.id, key, kind, None, literals, tuple(arguments), outputs, donates=kind.donates, checked=checked
        )

    def files(self, kind: NodeType, literals: Mapping[str, Any], path: str) -> str:
        """The digest of the files that a node's literals name."""
        if kind.fingerprint is None:
            return ""
        names = inspect.signature(kind.fingerprint).parameters
        linked = [name for name in names if name not in literals]
        if linked:
            self.problems.append(
                Problem(f"{path}.{linked[0]}", "It names a file, so its value must be known before the run.", "Type it in.")
            )
            return ""
        try:
            return kind.fingerprint(**{name: literals[name] for name in names})
        except (OSError, ValueError) as error:
            self.problems.append(Problem(path, str(error)))
            return ""

    def loop(
        self, plan: Plan, spec: LoopSpec, path: str, constants: Mapping[str, Any], read: Callable[[str], int]
    ) -> Step:
        known = {name: constants[link[1:]] for name, link in spec.links.items() if link[0] == "$" and link[1:] in constants}
        arguments = tuple((port, read(link)) for port, link in wires(spec) if port not in known)
        links = tuple(name for name in spec.links if name not in known)
        entering = {name: f"${name}" for name in ("item", "index", *spec.carry, *links)}
        body = self.graph(spec.body.nodes, spec.body.outputs, known, entering, f"{path}/")
        _mark_invariant(body, {body.inputs[name] for name in ("item", "index", *spec.carry)})
        self.check_donated_inputs(body, spec, path)
        parts = [SCHEMA, LOOP, ",".join(sorted(spec.carry)), ",".join(spec.collect), spec.until or ""]
        parts += sorted(f"{port}={plan.keys[slot]}" for port, slot in arguments)
        parts += sorted(f"{name}:{body.keys[slot]}" for name, slot in body.outputs.items())
        parts += sorted(step.key for step in body.steps if step.effect)
        key = digest(*parts)
        outputs = tuple((name, plan.slot(f"{key}.{name}")) for name in [*spec.carry, *spec.collect])
        donated = _donated(body)
        donates = tuple(name for name in spec.carry if body.inputs[name] in donated)
        loop = LoopPlan(tuple(spec.carry), links, tuple(spec.collect), spec.until, body)
        return Step(path, LOOP, key, None, loop, {}, arguments, outputs, donates=donates)

    def check_donated_inputs(self, body: Plan, spec: LoopSpec, path: str) -> None:
        donated = _donated(body)
        for name, slot in body.inputs.items():
            if slot in donated and name not in spec.carry:
                self.problems.append(
                    Problem(f"{path}.{name}", f"${name} is overwritten in the body, but the next pass reads it again.",
                            "Make it a carry.")
                )  # fmt: skip


def _above(graph: nx.DiGraph[str], goals: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(goals)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(graph.predecessors(name))
    return found


def order_overwrites(plan: Plan, steps: list[Step], problems: list[Problem]) -> list[Step]:
    """Order steps so that whatever shares memory with a donated value is read before it is overwritten.

    Steps that cannot be so ordered, and outputs that would leave overwritten, become problems.
    """
    donors = [(step, port) for step in steps for port in step.donates]
    if not donors:
        return steps
    alias = _aliases(plan, steps)
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(len(steps)))
    writer = {slot: at for at, step in enumerate(steps) for _, slot in step.outputs}
    graph.add_edges_from(
        (writer[slot], at) for at, step in enumerate(steps) for _, slot in step.arguments if slot in writer
    )
    flow = graph.copy()
    for donor, port in donors:
        at, shared = steps.index(donor), alias(dict(donor.arguments)[port])
        for step in steps:
            if any(alias(slot) == shared for _, slot in step.outputs):
                step.cacheable = False
        for name, slot in plan.outputs.items():
            if alias(slot) == shared:
                problems.append(
                    Problem(donor.path, f"It overwrites {port}, which is also the output {name!r} of the graph.",
                            f"Take {name!r} from {donor.path.rpartition('/')[2]} itself.")
                )  # fmt: skip
        for other, step in enumerate(steps):
            if other != at and any(alias(slot) == shared for _, slot in step.arguments):
                if nx.has_path(flow, at, other) or (step.donates and other > at and _donates(step, alias, shared)):
                    problems.append(
                        Problem(step.path, f"It reads a value that {donor.path} has overwritten (its input {port}).",
                                f"Read the output of {donor.path.rpartition('/')[2]} instead.")
                    )  # fmt: skip
                else:
                    graph.add_edge(other, at)
    try:
        return [steps[at] for at in nx.lexicographical_topological_sort(graph)]
    except nx.NetworkXUnfeasible:
        if not problems:
            names = ", ".join(donor.path for donor, _ in donors)
            problems.append(Problem(donors[0][0].path, f"No order lets everyone read before {names} overwrite."))
        return steps


def _donates(step: Step, alias: Callable[[int], int], shared: int) -> bool:
    arguments = dict(step.arguments)
    return any(alias(arguments[port]) == shared for port in step.donates if port in arguments)


def _aliases(plan: Plan, steps: Iterable[Step]) -> Callable[[int], int]:
    """A function from a slot to the one that stands for all slots it may share memory with (union-find)."""
    parent = list(range(len(plan.keys)))

    def find(slot: int) -> int:
        while parent[slot] != slot:
            slot = parent[slot]
        return slot

    for step in steps:
        for port, slot in step.arguments:
            if step.node is not None and port in step.node.views:
                for _, output in step.outputs:
                    parent[find(output)] = find(slot)
    return find


def _donated(plan: Plan) -> set[int]:
    """The slots of a plan that are overwritten, themselves or through a view."""
    alias = _aliases(plan, plan.steps)
    gone = {alias(dict(step.arguments)[port]) for step in plan.steps for port in step.donates if port in dict(step.arguments)}
    return {slot for slot in range(len(plan.keys)) if alias(slot) in gone}


def _record_history(plan: Plan) -> None:
    """Mark the ancestors of whatever is differentiated; all else runs without autograd."""
    recorded: set[int] = set()
    for step in reversed(plan.steps):
        if step.node is not None:
            recorded.update(slot for port, slot in step.arguments if port in step.node.differentiates)
        if any(slot in recorded for _, slot in step.outputs):
            record(step)
            recorded.update(slot for _, slot in step.arguments)


def record(step: Step) -> None:
    """Mark a step, and all of its body, as recorded by autograd."""
    step.record = True
    if step.loop is not None:
        for inner in step.loop.body.steps:
            inner.invariant = False
            record(inner)


def _mark_invariant(body: Plan, varying: set[int]) -> None:
    """Mark the steps of a body that are the same in every pass."""
    varying = set(varying)
    for step in body.steps:
        changes = step.effect or step.record or step.donates or any(slot in varying for _, slot in step.arguments)
        step.invariant = not changes
        if changes:
            varying.update(slot for _, slot in step.outputs)
        if step.effect or step.donates:
            varying.update(slot for _, slot in step.arguments)
    once = {slot for step in body.steps if step.invariant for _, slot in step.outputs}
    for step in body.steps:
        step.frees = tuple(slot for slot in step.frees if slot not in once) if not step.invariant else ()


def _lifetimes(plan: Plan) -> None:
    """Tell each step which values nobody reads after it."""
    kept = {*plan.outputs.values(), *plan.inputs.values(), *plan.preset}
    for step in reversed(plan.steps):
        read = {slot for _, slot in (*step.arguments, *step.outputs)}
        step.frees = tuple(read - kept)
        kept |= read


def digest(*parts: str) -> str:
    """blake3 of the parts, each with its length, so that no two lists of parts read alike."""
    return blake3("".join(f"{len(part)}:{part}" for part in parts).encode("utf-8", "surrogatepass")).hexdigest(20)


def canonical(value: Any) -> str:
    """One text for each literal: floats as hex, strings quoted, keys sorted."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, str):
        return json.dumps(value)
    if value is None or isinstance(value, (bool, int)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(canonical, cast(Sequence[Any], value)))}]"
    if isinstance(value, dict):
        pairs = sorted((json.dumps(str(key)), canonical(item)) for key, item in cast(dict[Any, Any], value).items())
        return "{" + ",".join(f"{key}:{item}" for key, item in pairs) + "}"
    raise TypeError(f"{value!r} cannot stand in a workflow.")


