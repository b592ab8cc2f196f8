"""A workflow written out flat: definitions, modes and decided branches become plain nodes and links. Knows no keys.

A definition's nodes are called like places, ``sampler/step``. A bypassed node, and a branch whose condition is known
before the run, leave nothing but a link. What is muted, and what needs it, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from kineograph.graph_runtime.definitions import Definitions, definition_kinds, given_values
from kineograph.graph_runtime.order import Nodes, dependency_order
from kineograph.graph_runtime.ports import ONLY_OUTPUT, NodeType
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.workflow import BRANCH, Body, LoopSpec, NodeSpec, Workflow, reference, wires


@dataclass
class Flat:
    """A graph written out.

    Attributes:
        nodes: by place, in no order; no type of them is a definition.
        outputs: name -> link.
        constants: what is typed in where a link is needed, by a name with a stroke in it, which no input has.
        left_out: what an output (``outputs.video``), a loop or a node that changes the world would need, by place.
        definitions: the type of every node that was written out, by place.
    """

    nodes: dict[str, NodeSpec | LoopSpec]
    outputs: dict[str, str]
    constants: dict[str, Any] = field(default_factory=dict[str, Any])
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    definitions: dict[str, str] = field(default_factory=dict[str, str])


class FlatBody(Body):
    """A loop's body, written out. ``constants`` as in :class:`Flat`."""

    constants: dict[str, JsonValue] = {}  # noqa: RUF012  pydantic copies it


def expand(workflow: Workflow, registry: Registry, outputs: Mapping[str, str], values: Mapping[str, Any]) -> Flat:
    """Write a workflow out that ``validate`` found no fault with.

    Args:
        workflow: the workflow.
        registry: where its node types stand.
        outputs: the links that are wanted, by name; into a definition's node too, as ``sampler/step``.
        values: the inputs of the workflow.
    """
    if not any(map(_is_special, workflow.nodes.values())):
        return Flat(dict(workflow.nodes), dict(outputs))
    kinds, _ = definition_kinds(workflow.definitions, registry)
    flat = Flat({}, {})
    return _Level(workflow.definitions, kinds, registry, flat, "", dict(values), {}).written_out(
        workflow.nodes, outputs
    )


def passed_on(spec: NodeSpec | LoopSpec, kind: NodeType | None) -> dict[str, str]:
    """Output -> the input that stands for it while the node is bypassed: the first of the same type that is given.

    A bypassed loop makes no pass: what it carries stays as it came.
    """
    if isinstance(spec, LoopSpec):
        return {name: name for name in spec.carry}
    if spec.type == BRANCH:
        return {ONLY_OUTPUT: "then"}
    assert kind is not None
    given = [port for name, port in kind.inputs.items() if name in spec.links or name in spec.params]
    passed: dict[str, str] = {}
    for name, output in kind.outputs.items():
        fitting = [port.name for port in given if port.type == output.type]
        passed |= {name: fitting[0]} if fitting else {}
    return passed


def _is_special(spec: NodeSpec | LoopSpec) -> bool:
    if spec.mode is not None or spec.type[0] == "#" or spec.type == BRANCH:
        return True
    return isinstance(spec, LoopSpec) and any(map(_is_special, spec.body.nodes.values()))


class _Level:
    """One graph that is written out: the workflow's, or a loop's body.

    Attributes:
        flat: what was made of it; what is left out and which definitions there were is told for all levels.
        place: of the loop, with a stroke behind it.
        known: the inputs of known value. dead: why a node, a port or an input ($x) has no value.
    """

    def __init__(
        self,
        definitions: Definitions,
        kinds: Mapping[str, NodeType],
        registry: Registry,
        flat: Flat,
        place: str,
        known: dict[str, Any],
        dead: dict[str, str],
    ) -> None:
        self.definitions = definitions
        self.kinds = kinds
        self.registry = registry
        self.flat = flat
        self.place = place
        self.known = known
        self.dead = dead
        self.raw: dict[str, NodeSpec | LoopSpec] = {}
        self.instead: dict[str, str] = {}

    def written_out(self, nodes: Nodes, outputs: Mapping[str, str]) -> Flat:
        """The graph as plain nodes."""
        self.gather(nodes, "", {})
        raw = {name: self.relinked(spec) for name, spec in self.raw.items()}
        for name in dependency_order(raw)[0]:
            self.settle(name, self.relinked(raw[name]))
        for name, link in outputs.items():
            link = self.resolved(link)
            if reason := self.reason(link):
                self.flat.left_out[f"{self.place}outputs.{name}"] = reason
            else:
                self.flat.outputs[name] = link
        return self.flat

    def gather(self, nodes: Nodes, prefix: str, given: Mapping[str, str]) -> None:
        """Collect the nodes of a graph and of its definitions, with links as they stand in the whole.

        Args:
            nodes: the graph.
            prefix: the place of the definition's node that they belong to, with a stroke behind it.
            given: what is linked to its inputs.
        """
        for short, spec in nodes.items():
            name = prefix + short
            links = {port: _inward(link, prefix, given) for port, link in wires(spec)} if prefix else dict(wires(spec))
            kind = self.kinds.get(spec.type) or self.registry.get(spec.type)
            if spec.mode == "mute":
                self.dead[name] = f"{self.place}{name}, which is muted"
            elif spec.mode == "bypass":
                self.alias(
                    name, {port: self.source(name, spec, links, at) for port, at in passed_on(spec, kind).items()}
                )
            elif spec.type in self.kinds:
                assert kind is not None and isinstance(spec, NodeSpec)
                self.definition(name, spec, kind, links)
            else:
                self.raw[name] = _linked(spec, links) if prefix else spec

    def definition(self, name: str, spec: NodeSpec, kind: NodeType, links: dict[str, str]) -> None:
        """Collect what one node of a definition's type stands for."""
        definition = self.definitions[spec.type[1:]]
        given = dict(links)
        for port, value in given_values(kind, spec.params, spec.links).items():
            given[port] = self.constant(name, port, value)
        self.flat.definitions[self.place + name] = spec.type
        self.gather(definition.nodes, f"{name}/", given)
        self.alias(name, {port: _inward(out.link, f"{name}/", given) for port, out in definition.outputs.items()})

    def alias(self, name: str, outputs: Mapping[str, str]) -> None:
        """Let links to a node lead to where its outputs come from."""
        for port, link in outputs.items():
            self.instead[f"{name}.{port}"] = link
            if len(outputs) == 1:
                self.instead[name] = link

    def source(self, name: str, spec: NodeSpec | LoopSpec, links: Mapping[str, str], port: str) -> str:
        """The link behind an input; one to a constant where it is typed in."""
        if port in links or isinstance(spec, LoopSpec):
            return links[port]
        return self.constant(name, port, spec.params[port])

    def constant(self, name: str, port: str, value: Any) -> str:
        self.flat.constants[f"{name}/{port}"] = value
        self.known[f"{name}/{port}"] = value
        return f"${name}/{port}"

    def resolved(self, link: str) -> str:
        """Where a link leads in the end."""
        at = link
        while at in self.instead:
            at = self.instead[at]
        if at != link:
            self.instead[link] = at
        return at

    def relinked(self, spec: NodeSpec | LoopSpec) -> NodeSpec | LoopSpec:
        links = wires(spec)
        if not any(link in self.instead for _, link in links):
            return spec
        return _linked(spec, {port: self.resolved(link) for port, link in links})

    def reason(self, link: str) -> str:
        """Why a link has no value; empty where it has one."""
        if link in self.dead:
            return self.dead[link]
        node = reference(link).node
        while node:  # a node inside one that is muted
            if node in self.dead:
                return self.dead[node]
            node = node.rpartition("/")[0]
        return ""

    def settle(self, name: str, spec: NodeSpec | LoopSpec) -> None:
        """Keep a node, decide a branch, or leave out what needs a muted one. Its links are settled."""
        if spec.type == BRANCH and self.decided(name, spec):
            return
        needed = [spec.each, *spec.carry.values()] if isinstance(spec, LoopSpec) else [*spec.links.values()]
        reason = next((why for link in needed if (why := self.reason(link))), "")
        if not reason and isinstance(spec, LoopSpec):
            spec, reason = self.loop(name, spec)
        if not reason:
            self.flat.nodes[name] = spec
            return
        self.dead[name] = reason
        kind = self.registry.get(spec.type)
        if isinstance(spec, LoopSpec) or (kind is not None and kind.effect):
            self.flat.left_out[self.place + name] = reason

    def decided(self, name: str, spec: NodeSpec | LoopSpec) -> bool:
        """Whether a branch's condition is known before the run; then the branch is its side."""
        assert isinstance(spec, NodeSpec)
        when = self.source(name, spec, spec.links, "when")
        if when[0] != "$" or when[1:] not in self.known:
            return False
        value = self.known[when[1:]]
        self.alias(name, {ONLY_OUTPUT: self.source(name, spec, spec.links, "then" if value else "else")})
        return True

    def loop(self, name: str, spec: LoopSpec) -> tuple[LoopSpec, str]:
        """A loop with its body written out; why it cannot run, if that is so."""
        dead = {f"${port}": why for port, link in spec.links.items() if (why := self.reason(link))}
        links = {port: link for port, link in spec.links.items() if f"${port}" not in dead}
        known = {
            port: self.known[link[1:]] for port, link in links.items() if link[0] == "$" and link[1:] in self.known
        }
        inner = Flat({}, {}, left_out=self.flat.left_out, definitions=self.flat.definitions)
        place = f"{self.place}{name}/"
        level = _Level(self.definitions, self.kinds, self.registry, inner, place, known, dead)
        level.written_out(spec.body.nodes, spec.body.outputs)
        missing = {port: why for port in spec.body.outputs if (why := inner.left_out.pop(f"{place}outputs.{port}", ""))}
        for port in [*spec.carry, *([spec.until] if spec.until else [])]:
            if port in missing:
                return spec, missing[port]
        for port in spec.collect:
            if port in missing:
                self.dead[f"{name}.{port}"] = missing[port]
                if len(spec.carry) + len(spec.collect) == 1:
                    self.dead[name + f".{ONLY_OUTPUT}"] = self.dead[name] = missing[port]
        body = FlatBody.model_construct(nodes=inner.nodes, outputs=inner.outputs, constants=inner.constants)
        collect = [port for port in spec.collect if port not in missing]
        return spec.model_copy(update={"links": links, "collect": collect, "body": body}), ""


def _inward(link: str, prefix: str, given: Mapping[str, str]) -> str:
    """A link of a definition's graph as it stands in the graph around it."""
    return given.get(link[1:], link) if link[0] == "$" else prefix + link


def _linked(spec: NodeSpec | LoopSpec, links: Mapping[str, str]) -> NodeSpec | LoopSpec:
    """The node with other links."""
    if not isinstance(spec, LoopSpec):
        return spec.model_copy(update={"links": dict(links)})
    carry = {name: links[name] for name in spec.carry}
    update = {"each": links["each"], "carry": carry, "links": {name: links[name] for name in spec.links}}
    return spec.model_copy(update=update)
