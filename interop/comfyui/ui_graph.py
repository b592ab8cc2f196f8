"""UI JSON, as ComfyUI's page saves it, becomes the graph that would run. Knows no node of ours.

What only the page knows is resolved here: reroutes, Set and Get, primitives, notes, bypassed and muted nodes, and
subgraphs, whose nodes are written out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from kineograph.graph_runtime.workflow import MAX_DEPTH, MAX_NODES
from kineograph.interop.comfyui.graph import MAX_TEXT, ComfyGraph, ComfyNode, Source, too_many
from kineograph.interop.comfyui.widgets import widget_values

MUTED, BYPASSED = 2, 4
_NOTES = ("Note", "MarkdownNote")
_ONLY_ON_THE_PAGE = ("Reroute", "PrimitiveNode", "SetNode", "GetNode")
_INSIDE, _OUTSIDE = -10, -20
"""Numbers of the two nodes that stand for a subgraph's inputs and outputs."""
_MUTED = "muted"


def read_ui_graph(raw: Mapping[str, Any]) -> ComfyGraph:
    """The graph of UI JSON.

    Raises:
        InvalidWorkflow: more nodes than are read.
    """
    reader = _Reader(raw)
    reader.read("", raw, 0)
    return reader.graph()


class _Reader:
    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.subgraphs = {str(each.get("id")): each for each in _dicts(_dict(raw.get("definitions")).get("subgraphs"))}
        self.nodes: dict[str, dict[str, Any]] = {}
        self.sources: dict[tuple[str, int], Source] = {}
        """(node, number of its input) -> what is linked there. A subgraph's own outputs are inputs of ``id>``."""
        self.setters: dict[tuple[str, str], str] = {}
        self.found = ComfyGraph()

    def read(self, prefix: str, raw: Mapping[str, Any], depth: int) -> None:
        """Take the nodes and links of one graph, and of the subgraphs in it."""
        outer = prefix.rstrip(":")
        for origin, slot, target, at in _links(raw.get("links")):
            begin = f"{outer}<" if origin == str(_INSIDE) else prefix + origin
            end = f"{outer}>" if target == str(_OUTSIDE) else prefix + target
            self.sources[end, at] = Source(begin, slot)
        for node in _dicts(raw.get("nodes")):
            name = f"{prefix}{node.get('id')}"
            self.nodes[name] = node
            if len(self.nodes) > MAX_NODES:
                raise too_many()
            kind = str(node.get("type"))
            if kind == "SetNode":
                self.setters[prefix, str(_first_value(node))] = name
            if kind in self.subgraphs and depth < MAX_DEPTH:
                self.read(f"{name}:", self.subgraphs[kind], depth + 1)
            elif kind in self.subgraphs:
                self.say(name, f"Subgraphs are nested more than {MAX_DEPTH} deep.")

    def say(self, name: str, sentence: str) -> None:
        self.found.problems.append((self.place(name), sentence))

    def place(self, name: str) -> str:
        return self.made(name).place

    def made(self, name: str) -> ComfyNode:
        node = self.nodes[name]
        where = node.get("pos")
        numbers = list(where.values()) if isinstance(where, dict) else where if isinstance(where, list) else []
        at = [float(each) for each in cast(list[Any], numbers)[:2] if type(each) in (int, float)]
        position = (at[0], at[1]) if len(at) == 2 else None
        outputs = tuple(str(each.get("name", ""))[:MAX_TEXT] for each in _dicts(node.get("outputs")))
        title = node.get("title")
        kind = str(node.get("type"))
        if kind in self.subgraphs:
            kind = str(self.subgraphs[kind].get("name") or kind)
        return ComfyNode(name, kind, title if isinstance(title, str) else "", {}, {}, outputs, position)

    def graph(self) -> ComfyGraph:
        """Write out the nodes that run, each linked to others that run."""
        for name, node in self.nodes.items():
            kind, mode = str(node.get("type")), node.get("mode", 0)
            if kind in (*_NOTES, *_ONLY_ON_THE_PAGE) or kind in self.subgraphs or mode == BYPASSED:
                continue
            if self.is_muted(name):
                self.found.remarks.append((self.place(name), "It is muted, so it and what needs it are left out."))
                continue
            if kind.startswith(("workflow/", "workflow>")):
                self.say(name, "It is a group node of an old page: open the file in ComfyUI, make it a subgraph, save.")
            made = self.made(name)
            made.values = self.overridden(name, widget_values(kind, node))
            missing = self.link_inputs(made, node)
            if missing:
                self.found.remarks.append((made.place, f"Its input {missing} comes from a muted node: it is left out."))
            else:
                self.found.nodes[name] = made
        self.drop_what_needs_the_dropped()
        return self.found

    def is_muted(self, name: str) -> bool:
        """Whether a node is muted, or stands in a subgraph that does not run."""
        parts = name.split(":")
        around = [self.nodes.get(":".join(parts[:at]), {}).get("mode") for at in range(1, len(parts))]
        return self.nodes[name].get("mode") == MUTED or any(mode in (MUTED, BYPASSED) for mode in around)

    def link_inputs(self, made: ComfyNode, node: Mapping[str, Any]) -> str:
        """Fill in a node's links; the name of an input that a muted node would feed, if there is one."""
        for number, port in enumerate(_dicts(node.get("inputs"))):
            port_name = str(port.get("name"))
            found = self.resolve(self.sources.get((made.id, number)), set())
            if found == _MUTED:
                return port_name
            if isinstance(found, Source):
                made.links[port_name] = found
                made.values.pop(port_name, None)
            elif found is not None:
                made.values[port_name] = found[0]
        return ""

    def drop_what_needs_the_dropped(self) -> None:
        nodes = self.found.nodes
        while lost := {
            name: port for name, node in nodes.items() for port, at in node.links.items() if at.node not in nodes
        }:
            for name, port in lost.items():
                self.found.remarks.append(
                    (nodes[name].place, f"What its input {port} needs is left out, so it is too.")
                )
                del nodes[name]

    def resolve(self, source: Source | None, seen: set[Source]) -> Source | tuple[Any] | str | None:
        """What a link leads to in the end: an output of a node that runs, a typed-in value, a muted node, nothing."""
        while source is not None:
            if source in seen:
                return None
            seen.add(source)
            name, slot = source
            if name.endswith("<"):  # an input of the subgraph around: what is linked to it from outside
                source = self.sources.get((name[:-1], self.outer_input(name[:-1], slot)))
                continue
            node = self.nodes.get(name)
            if node is None:
                return None
            kind = str(node.get("type"))
            if self.is_muted(name):
                return _MUTED
            if kind == "PrimitiveNode":
                return (_first_value(node),)
            if kind == "GetNode":
                prefix = name[: name.rfind(":") + 1]
                setter = self.setters.get((prefix, str(_first_value(node))))
                source = self.sources.get((setter, 0)) if setter else None
            elif kind in ("Reroute", "SetNode"):
                source = self.sources.get((name, 0))
            elif node.get("mode") == BYPASSED:
                source = self.sources.get((name, _passed(node, slot)))
            elif kind in self.subgraphs:
                source = self.sources.get((f"{name}>", slot))
            else:
                return source
        return None

    def outer_input(self, name: str, slot: int) -> int:
        """The number that an input of a subgraph has at the node that stands for it: found by its name."""
        node = self.nodes[name]
        inputs = _dicts(self.subgraphs[str(node.get("type"))].get("inputs"))
        wanted = inputs[slot].get("name") if slot < len(inputs) else None
        numbers = [number for number, port in enumerate(_dicts(node.get("inputs"))) if port.get("name") == wanted]
        return numbers[0] if numbers else -1

    def overridden(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """A node's values, with those that are typed in at the subgraph around it in their place."""
        outer, _, inner = name.rpartition(":")
        node = self.nodes.get(outer)
        if node is None:
            return values
        given = widget_values(str(node.get("type")), node)
        proxies = _dict(node.get("properties")).get("proxyWidgets")
        listed = node.get("widgets_values")
        if isinstance(proxies, list) and isinstance(listed, list) and len(listed) == len(cast(list[Any], proxies)):
            pairs = zip(cast(list[Any], proxies), cast(list[Any], listed), strict=True)
            own = {str(pair[1]): value for pair, value in pairs if isinstance(pair, list) and str(pair[0]) == inner}
            return values | {port: value for port, value in own.items() if value is not None}
        for number, port in enumerate(_dicts(self.nodes[name].get("inputs"))):
            source = self.sources.get((name, number))
            if source is not None and source.node == f"{outer}<":
                inputs = _dicts(self.subgraphs[str(node.get("type"))].get("inputs"))
                label = str(inputs[source.slot].get("name")) if source.slot < len(inputs) else ""
                if label in given:
                    values = values | {str(port.get("name")): given[label]}
        return values


def _passed(node: Mapping[str, Any], slot: int) -> int:
    """The input that stands for an output of a bypassed node: of the same number, or the first, of the same type."""
    outputs, inputs = _dicts(node.get("outputs")), _dicts(node.get("inputs"))
    kind = outputs[slot].get("type") if slot < len(outputs) else None
    order = [slot, *range(len(inputs))]
    linked = [
        at for at in order if at < len(inputs) and inputs[at].get("type") == kind and inputs[at].get("link") is not None
    ]
    return linked[0] if linked else -1


def _first_value(node: Mapping[str, Any]) -> Any:
    values = node.get("widgets_values")
    if isinstance(values, dict):
        return next(iter(cast(dict[str, Any], values).values()), None)
    return cast(list[Any], values)[0] if isinstance(values, list) and values else None


def _links(raw: Any) -> Iterator[tuple[str, int, str, int]]:
    """(origin, its output's number, target, its input's number) of each link, in either form of the file."""
    for link in cast(list[Any], raw) if isinstance(raw, list) else []:
        if isinstance(link, list) and len(cast(list[Any], link)) >= 5:
            _, origin, slot, target, at = cast(list[Any], link)[:5]
        elif isinstance(link, dict):
            keys = ("origin_id", "origin_slot", "target_id", "target_slot")
            origin, slot, target, at = (cast(dict[str, Any], link).get(key) for key in keys)
        else:
            continue
        if type(slot) is int and type(at) is int:
            yield str(origin), slot, str(target), at


def _dict(raw: Any) -> dict[str, Any]:
    return cast(dict[str, Any], raw) if isinstance(raw, dict) else {}


def _dicts(raw: Any) -> list[dict[str, Any]]:
    return [each for each in cast(list[Any], raw) if isinstance(each, dict)] if isinstance(raw, list) else []
