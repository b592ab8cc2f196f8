"""Named graphs of a file as node types: their ports, their size, and whether one contains itself. Knows no values.

A definition ``name@1`` is used as the type ``#name@1``. It hides nothing: keys, order and lifetimes are those of its
nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from kineograph.graph_runtime.errors import Problem, nearest
from kineograph.graph_runtime.order import Nodes
from kineograph.graph_runtime.ports import MISSING, NodeType, Port
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.sockets import ANY
from kineograph.graph_runtime.workflow import MAX_DEPTH, MAX_INPUTS, MAX_NODES, Definition, LoopSpec

Definitions = Mapping[str, Definition]


def definition_kinds(definitions: Definitions, registry: Registry) -> tuple[dict[str, NodeType], list[Problem]]:
    """What a node of each definition looks like from outside, by its type, and what is wrong with the ports."""
    kinds: dict[str, NodeType] = {}
    problems: list[Problem] = []

    def port(place: str, name: str, socket: str, about: str = "") -> Port:
        kind = registry.socket(socket)
        if kind is None:
            problems.append(Problem(place, f"There is no type {socket!r}.", nearest(socket, registry.sockets())))
            kind = ANY
        return Port(name, kind, kind.python, doc=about)

    for name, definition in definitions.items():
        inputs: dict[str, Port] = {}
        for input_name, spec in definition.inputs.items():
            place = f"#{name}/inputs.{input_name}"
            inputs[input_name] = found = port(place, input_name, spec.type, spec.about)
            if spec.default is not None:
                try:
                    inputs[input_name] = replace(found, default=as_typed(found, spec.default))
                except ValueError as error:
                    problems.append(Problem(place, f"{error}."))
        outputs = {
            output: port(f"#{name}/outputs.{output}", output, spec.type) for output, spec in definition.outputs.items()
        }
        short, _, version = name.rpartition("@")
        kinds[f"#{name}"] = NodeType(f"#{short}", int(version), _stands_for_others, inputs, outputs, definition.about)
    return kinds, problems


def as_typed(port: Port, value: Any) -> Any:
    """The value of a port as it would be typed in, a whole number for a float as a float.

    Raises:
        ValueError: it does not fit; a sentence without its full stop.
    """
    value = port.literal(value)
    return float(value) if port.type.python is float else value


def given_values(kind: NodeType, params: Mapping[str, Any], links: Mapping[str, str]) -> dict[str, Any]:
    """The inputs of a definition's node that are typed in or left at their default, where they fit."""
    values: dict[str, Any] = {}
    for name, port in kind.inputs.items():
        value = params.get(name, port.default)
        if name not in links and value is not MISSING:
            try:
                values[name] = as_typed(port, value)
            except ValueError:  # said where the value stands
                continue
    return values


def build_order(definitions: Definitions, nodes: Nodes) -> tuple[list[str], list[Problem]]:
    """The definitions so that each stands after those it uses, and why they cannot be written out.

    One contains itself, they are nested too deep, or they stand for too many nodes.
    """
    uses = {f"#{name}": [spec for spec, _ in _inside(definition.nodes)] for name, definition in definitions.items()}
    try:
        order = list(TopologicalSorter({name: set(uses[name]) & set(uses) for name in uses}).static_order())
    except CycleError as cycle:
        walk = cycle.args[1]
        message = f"A definition cannot contain itself: {' -> '.join(reversed(walk))}."
        return [], [Problem(walk[0], message, "To repeat something, use a loop@1.")]
    sizes: dict[str, int] = {}
    widths: dict[str, int] = {f"#{name}": len(definition.inputs) for name, definition in definitions.items()}
    depths: dict[str, int] = {}
    for name in [*order, ""]:
        kinds = Counter(_inside(definitions[name[1:]].nodes if name else nodes))
        sizes[name] = sum(sizes.get(kind, 1) * count for (kind, _), count in kinds.items())
        widths[name] = widths.get(name, 0) + sum(widths.get(kind, 0) * count for (kind, _), count in kinds.items())
        depths[name] = 1 + max((level + depths.get(kind, 0) for kind, level in kinds), default=0)
    problems: list[Problem] = []
    if sizes[""] > MAX_NODES:
        problems.append(Problem("", f"{sizes['']:,} nodes, a workflow has at most {MAX_NODES:,}."))
    elif widths[""] > MAX_INPUTS:
        message = f"Its definitions, written out, have {widths['']:,} inputs, at most {MAX_INPUTS:,} are read."
        problems.append(Problem("", message))
    if max(depths.values()) > MAX_DEPTH:
        problems.append(
            Problem("", f"Its graphs are nested {max(depths.values())} deep, at most {MAX_DEPTH} are read.")
        )
    return order, problems


def _inside(nodes: Nodes, level: int = 0) -> Iterator[tuple[str, int]]:
    """(type, how many loops it stands in) of every node of a graph."""
    yield from [(spec.type, level) for spec in nodes.values()]
    for spec in nodes.values():
        if isinstance(spec, LoopSpec):
            yield from _inside(spec.body.nodes, level + 1)


def _stands_for_others() -> None:
    """What a definition's node would run, if it were not its own nodes that do."""
