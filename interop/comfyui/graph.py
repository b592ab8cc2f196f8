"""ComfyUI's workflow JSON of either kind as one small graph: nodes with values and links. Knows no node of ours.

What its page sends to ``/prompt`` (API JSON) names every value. What its page saves (UI JSON) lists values by position;
``ui_graph`` reads that. Both are strangers' files: read strictly, within limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from kineograph.graph_runtime.errors import InvalidWorkflow, Problem
from kineograph.graph_runtime.workflow import LOOP, MAX_NODES

MAX_TEXT = 200
"""Letters of a stranger's title or name that are shown."""


class Source(NamedTuple):
    """Where a link comes from: a node and the number of its output."""

    node: str
    slot: int


@dataclass
class ComfyNode:
    """One node of a ComfyUI graph.

    Attributes:
        id: its number, as text; of one inside a subgraph, those of the nodes around it before it: ``12:3``.
        type: its ``class_type``.
        title: what a person called it; may be empty.
        values: what is typed in, by input. links: what is wired, by input.
        output_names: as its page shows them, where the file says so.
        position: where it stands on the page.
    """

    id: str
    type: str
    title: str = ""
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    links: dict[str, Source] = field(default_factory=dict[str, Source])
    output_names: tuple[str, ...] = ()
    position: tuple[float, float] | None = None

    @property
    def place(self) -> str:
        """How a person finds it: its id and its title, or its type."""
        title = f" {self.title[:MAX_TEXT]!r}" if self.title and self.title != self.type else ""
        return f"{self.id} {self.type[:MAX_TEXT]}{title}"


@dataclass
class ComfyGraph:
    """The nodes that would run, and what was said of those that would not.

    Attributes:
        nodes: by id.
        remarks: (place, sentence) of what is left out of the graph.
        problems: (place, sentence) of what cannot be read.
    """

    nodes: dict[str, ComfyNode] = field(default_factory=dict[str, ComfyNode])
    remarks: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def is_ui_json(raw: Any) -> bool:
    """Whether JSON is what ComfyUI's page saves."""
    return isinstance(raw, dict) and isinstance(cast(dict[str, Any], raw).get("nodes"), list)


def is_api_json(raw: Any) -> bool:
    """Whether JSON is what ComfyUI's page sends: an object of nodes with a ``class_type``."""
    if not isinstance(raw, dict) or not raw:
        return False
    return all(isinstance(each, dict) and "class_type" in each for each in cast(dict[str, Any], raw).values())


def read_graph(raw: Any) -> ComfyGraph:
    """The graph of ComfyUI's JSON of either kind, also where it stands in ``{"prompt": ...}``.

    Raises:
        InvalidWorkflow: it is neither, or has more nodes than are read.
    """
    if isinstance(raw, dict) and not is_ui_json(raw) and not is_api_json(raw):
        envelope = cast(dict[str, Any], raw)
        raw = next((envelope[key] for key in ("workflow", "prompt") if _is_graph(envelope.get(key))), raw)
    if is_ui_json(raw):
        from kineograph.interop.comfyui.ui_graph import read_ui_graph

        return read_ui_graph(raw)
    if is_api_json(raw):
        return read_api_graph(raw)
    message = (
        "This is no workflow of ComfyUI: neither an object of nodes with class_type, nor one with a list of nodes."
    )
    raise InvalidWorkflow([Problem("", message)])


def too_many() -> InvalidWorkflow:
    """What is said of a graph with more nodes than are read."""
    return InvalidWorkflow([Problem("", f"More than {MAX_NODES:,} nodes; a workflow has at most so many.")])


def _is_graph(raw: Any) -> bool:
    return is_ui_json(raw) or is_api_json(raw)


def read_api_graph(raw: Mapping[str, Any]) -> ComfyGraph:
    """The graph of API JSON: an object of nodes with a ``class_type``.

    Raises:
        InvalidWorkflow: more nodes than are read.
    """
    if len(raw) > MAX_NODES:
        raise too_many()
    graph = ComfyGraph()
    for name, each in raw.items():
        inputs, meta = each.get("inputs", {}), each.get("_meta", {})
        title = meta.get("title", "") if isinstance(meta, dict) else ""
        node = ComfyNode(name, str(each["class_type"]), title if isinstance(title, str) else "")
        graph.nodes[name] = node
        if not isinstance(inputs, dict):
            graph.problems.append((node.place, "Its inputs are no JSON object."))
            continue
        for port, value in _flat(node.type, cast(dict[str, Any], inputs)):
            source = link_of(value)
            if source is None:
                node.values[port] = value["__value__"] if isinstance(value, dict) and "__value__" in value else value
            else:
                node.links[port] = source
    for node in graph.nodes.values():
        for port, source in list(node.links.items()):
            if source.node not in graph.nodes and not source.node.startswith("$"):
                graph.problems.append(
                    (node.place, f"Its input {port} is linked to node {source.node!r}, there is none.")
                )
                del node.links[port]
    return graph


def _flat(kind: str, inputs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The inputs of a node; the carries and links of a loop of ours each by itself, as ``carry.latent``."""
    for name, value in inputs.items():
        if kind == LOOP and name in ("carry", "links") and isinstance(value, dict):
            for inner, link in cast(dict[str, Any], value).items():
                yield f"{name}.{inner}", link
        else:
            yield name, value


def link_of(value: Any) -> Source | None:
    """A link is ``["4", 0]``; any other value is typed in."""
    if not isinstance(value, list) or len(cast(list[Any], value)) != 2:
        return None
    name, slot = cast(list[Any], value)
    return Source(name, slot) if isinstance(name, str) and type(slot) is int and slot >= 0 else None
