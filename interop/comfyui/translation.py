"""One ComfyUI graph on its way to one workflow of ours: names, inputs, what is said. Knows no class of ComfyUI's.

The classes are rules, each in a module of its own (``rules_*``): a function from a node to its outputs. An output is a
:class:`Wire` of ours, a plain value, or something that has no counterpart until it is used: an empty latent has a
VAE and noise only where it is sampled, a prompt a role only where it guides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from kineograph.graph_runtime.ports import NodeType
from kineograph.graph_runtime.registry import Registry
from kineograph.interop.comfyui.graph import MAX_TEXT, ComfyGraph, ComfyNode
from kineograph.interop.comfyui.pieces import Model, Wire, Words, as_wire, spec

PLACEHOLDER_PACK = "comfyui"
"""The pack of the nodes that stand for classes that nothing here knows."""


class CannotImport(ValueError):
    """A node that cannot be had; the sentence says why."""


Rule = Callable[["Translation", "At"], Sequence[Any]]
RULES: dict[str, Rule] = {}
SINKS: set[str] = set()
"""Classes that leave something behind: what they need is imported, nothing else is."""
_REQUIRED: Any = object()


def rule(*classes: str, sink: bool = False) -> Callable[[Rule], Rule]:
    """Register how nodes of some classes are translated."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(classes, function))
        SINKS.update(classes if sink else ())
        return function

    return register


@dataclass
class Translation:
    """What a workflow of ours holds so far.

    Attributes:
        graph: what is translated. registry: the node types there are. model: a name that overrides the file's.
        fps: the rate that the graph's videos are written at.
        wanted: nodes that are translated in place of those that leave something behind.
        inputs, nodes, outputs, positions: of the workflow, as JSON.
        remarks: what will be other than in ComfyUI. problems: what cannot be had.
        owners: of each node of ours, the id of the one that it was made for.
        made: the outputs of the nodes so far. shared: what several rules use together.
    """

    graph: ComfyGraph
    registry: Registry | None = None
    model: str | None = None
    fps: float = 8.0
    wanted: Sequence[str] = ()
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    outputs: dict[str, str] = field(default_factory=dict[str, str])
    positions: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    remarks: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    owners: dict[str, str] = field(default_factory=dict[str, str])
    made: dict[str, Sequence[Any]] = field(default_factory=dict[str, Sequence[Any]])
    shared: dict[Any, Any] = field(default_factory=dict[Any, Any])

    def run(self) -> None:
        """Translate what the graph's files and previews need."""
        from kineograph.interop.comfyui import (  # noqa: F401  they register
            rules_frames,
            rules_ltx,
            rules_models,
            rules_sampling,
            rules_wan,
        )

        self.problems += self.graph.problems
        self.remarks += self.graph.remarks
        for node in self.order():
            before = set(self.nodes)
            try:
                self.made[node.id] = self.translated(node)
            except CannotImport as reason:
                self.problems.append((node.place, str(reason)))
                self.made[node.id] = self.stand_in(node)
            for name in self.nodes.keys() - before:
                self.owners.setdefault(name, node.id)

    def translated(self, node: ComfyNode) -> Sequence[Any]:
        """The outputs of one node."""
        from kineograph.interop.comfyui import own_nodes

        kind = self.kind_of(node.type)
        if kind is not None:
            return own_nodes.registered(self, At(self, node), kind)
        function = own_nodes.CONTROL.get(node.type) or RULES.get(node.type)
        if function is not None:
            return function(self, At(self, node))
        reason = "No node of ours does what this class does"
        self.problems.append((node.place, f"{reason}; a pack that has it can be loaded with --comfy-packs."))
        return self.stand_in(node)

    def kind_of(self, name: str) -> NodeType | None:
        """The node type of an id of ours, or of a class in a pack, by its name."""
        if self.registry is None:
            return None
        return self.registry.get(name) or self.classes.get(name)

    @cached_property
    def classes(self) -> dict[str, NodeType]:
        """The classes of packs that were written for ComfyUI, by name."""
        return {kind.name: kind for kind in self.registry or () if kind.pack and hasattr(kind, "cls")}

    @cached_property
    def readers(self) -> dict[str, list[str]]:
        """Which nodes read something of each node."""
        found: dict[str, list[str]] = {}
        for node in self.graph.nodes.values():
            for source in node.links.values():
                found.setdefault(source.node, []).append(node.id)
        return found

    def ends(self) -> list[str]:
        """The nodes that leave something behind, and unknown ones that nothing reads: these may too."""
        found: list[str] = []
        for name, node in self.graph.nodes.items():
            kind = self.kind_of(node.type)
            unknown = kind is None and node.type not in RULES and name not in self.readers
            if unknown or node.type in SINKS or (kind is not None and kind.effect):
                found.append(name)
        return found

    def order(self) -> list[ComfyNode]:
        """The nodes that files and previews need, each after those it needs."""
        nodes = self.graph.nodes
        waiting = [*(self.wanted or self.ends())]
        needed: dict[str, set[str]] = {}
        while waiting:
            name = waiting.pop()
            if name not in needed:
                sources = {at.node for at in nodes[name].links.values() if not at.node.startswith("$")}
                needed[name] = sources | self.vaes_behind(nodes[name])
                waiting += needed[name]
        for name, node in nodes.items():
            if name not in needed:
                self.remarks.append((node.place, "Nothing that is saved or shown needs it, so it is left out."))
        rank = {name: number for number, name in enumerate(nodes)}
        wanted = sorted(needed, key=rank.__getitem__)
        sorter = TopologicalSorter(dict.fromkeys(wanted, ()))  # what is ready at once comes in the order of the file
        for name in wanted:
            sorter.add(name, *needed[name])
        try:
            return [nodes[name] for name in sorter.static_order()]
        except CycleError as cycle:
            walk = " -> ".join(reversed(cycle.args[1]))
            self.problems.append((nodes[cycle.args[1][0]].place, f"Its links go round in a circle: {walk}."))
            return []

    def vaes_behind(self, node: ComfyNode) -> set[str]:
        """Where the VAE comes from that decodes what a sampler makes: noise has its size, so it must be known first."""
        if "latent_image" not in node.links:
            return set()
        found = self.decoder_of(node.id)
        return {found[0]} if found else set()

    def decoder_of(self, name: str) -> tuple[str, int] | None:
        """The VAE (node, output) of the decoder that a node's latent reaches, else the only VAE that is used."""
        behind, waiting = {name}, [name]
        nodes = self.graph.nodes
        while waiting:
            for other in self.readers.get(waiting.pop(), ()):
                if "vae" in nodes[other].links and "samples" in nodes[other].links:
                    return nodes[other].links["vae"]
                if other not in behind:
                    behind.add(other)
                    waiting.append(other)
        return next((node.links["vae"] for node in nodes.values() if "vae" in node.links), None)

    def stand_in(self, node: ComfyNode) -> Sequence[Any]:
        """A node of an unknown type that keeps what was typed in and wired, for a person to replace."""
        at = At(self, node)
        given = {port: at.plain(port) for port in [*node.values, *node.links]}
        name = self.add(f"{PLACEHOLDER_PACK}/{node.type[:MAX_TEXT]}@1", node.type, node, **given)
        slots = {
            source.slot
            for each in self.graph.nodes.values()
            for source in each.links.values()
            if source.node == node.id
        }
        names = [
            *node.output_names,
            *(f"output_{slot}" for slot in range(len(node.output_names), max(slots, default=0) + 1)),
        ]
        return [Wire(f"{name}.{_identifier(port)}" if len(names) > 1 else name) for port in names]

    def remark(self, at: At, sentence: str) -> None:
        """Say what will be other than in ComfyUI."""
        if (at.node.place, sentence) not in self.remarks:
            self.remarks.append((at.node.place, sentence))

    def add(self, kind: str, wish: str, node: ComfyNode | None = None, /, **given: Any) -> str:
        """A new node of ours; its name. Given values are typed in, wires are linked; None is left at its default."""
        name = self.free(wish, self.nodes)
        self.nodes[name] = spec(kind, **given)
        if node is not None:
            self.owners[name] = node.id
            if node.title and node.title != node.type:
                self.nodes[name]["title"] = node.title[:MAX_TEXT]
            if node.position is not None:
                self.positions[name] = list(node.position)
        return name

    def wired(self, kind: str, wish: str, node: ComfyNode | None = None, /, **given: Any) -> Wire:
        """A new node of ours with one output."""
        return Wire(self.add(kind, wish, node, **given))

    def setting(self, wish: str, value: Any, about: str = "") -> Any:
        """A value as an input of the workflow, to be changed with ``--set``; what is wired stays a wire."""
        if not isinstance(value, (str, int, float)):
            return value
        kind = type(value).__name__
        name = self.free(wish, self.inputs)
        self.inputs[name] = {"type": kind, "default": value} | ({"about": about} if about else {})
        return Wire(f"${name}")

    def free_path(self, wish: str, ending: str) -> str:
        """A file's name that nothing else writes."""
        taken = {node.get("params", {}).get("path") for node in self.nodes.values()}
        path, number = f"{wish}{ending}", 2
        while path in taken:
            path, number = f"{wish}_{number}{ending}", number + 1
        return path

    @staticmethod
    def free(wish: str, taken: Any) -> str:
        """A name that nothing has yet."""
        wish = _identifier(wish)
        name, number = wish, 2
        while name in taken:
            name, number = f"{wish}_{number}", number + 1
        return name


class At:
    """A node as its rule sees it: its inputs by name, each a value, a wire, or what a rule before it left."""

    def __init__(self, translation: Translation, node: ComfyNode) -> None:
        self.translation = translation
        self.node = node

    def has(self, port: str) -> bool:
        """Whether an input is given."""
        return port in self.node.values or port in self.node.links

    def get(self, port: str, default: Any = _REQUIRED) -> Any:
        """What an input is.

        Raises:
            CannotImport: it is not given, and there is no default.
        """
        if port in self.node.links:
            source = self.node.links[port]
            if source.node.startswith("$"):
                return Wire(source.node)
            made = self.translation.made.get(source.node, ())
            if source.slot >= len(made):
                known = self.translation.graph.nodes[source.node].place
                raise CannotImport(
                    f"Its input {port} is linked to output {source.slot} of {known}, which has {len(made)}."
                )
            return made[source.slot]
        if port in self.node.values:
            return self.node.values[port]
        if default is _REQUIRED:
            raise CannotImport(f"Its input {port} is not given.")
        return default

    def number(self, port: str, default: Any = _REQUIRED, kind: type = int) -> Any:
        """A number, or the wire that it comes by.

        Raises:
            CannotImport: it is neither.
        """
        value = self.get(port, default)
        if isinstance(value, Wire):
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or kind(value) != value:
            raise CannotImport(f"Its {port} = {str(value)[:60]!r} is no {'whole ' if kind is int else ''}number.")
        return kind(value)

    def text(self, port: str, default: Any = _REQUIRED) -> Any:
        """A text, or the wire that it comes by.

        Raises:
            CannotImport: it is neither.
        """
        value = self.get(port, default)
        if not isinstance(value, (str, Wire)):
            raise CannotImport(f"Its {port} is no text.")
        return value

    def wire(self, port: str) -> Wire:
        """What comes by a link, as one wire of ours.

        Raises:
            CannotImport: it is typed in, or cannot go over a wire by itself.
        """
        value = as_wire(self.get(port))
        if value is None:
            raise CannotImport(f"What its input {port} is given cannot be wired to it here.")
        return value

    def model(self, port: str = "model") -> Model:
        """A model."""
        value = self.get(port)
        return value if isinstance(value, Model) else Model(self.wire(port))

    def plain(self, port: str) -> Any:
        """What an input is, for a node that nothing here knows; what only a sampler understands is left out."""
        try:
            value = self.get(port)
        except CannotImport:
            return None
        if isinstance(value, (str, int, float, bool, list)):
            return value
        if isinstance(value, Words):
            from kineograph.interop.comfyui.rules_sampling import embedding

            return embedding(self.translation, value, "text")
        return as_wire(value)


def _identifier(text: str) -> str:
    """A name for a node, from any text."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text[:MAX_TEXT])
    found = re.sub(r"[^a-z0-9]+", "_", snake.lower()).strip("_")[:60]
    return found if found[:1].isalpha() else f"node_{found}".rstrip("_")
