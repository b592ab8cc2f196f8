"""Nodes of ours, and of packs, in ComfyUI's shape: their id as ``class_type``, outputs by number, lists by item."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from kineograph.graph_runtime.ports import NodeType
from kineograph.graph_runtime.workflow import BRANCH, LOOP
from kineograph.interop.comfyui.graph import link_of, read_api_graph
from kineograph.interop.comfyui.pieces import Wire, spec
from kineograph.interop.comfyui.translation import At, CannotImport, Rule, Translation

HELPERS = "comfyui/{}@1"


def registered(t: Translation, at: At, kind: NodeType) -> Sequence[Wire]:
    """A node that there is; where it is given lists and takes single items, a loop over them."""
    names = theirs_to_ours(kind)
    given: dict[str, Any] = {}
    for name in [*at.node.values, *at.node.links]:
        if name not in names:
            raise CannotImport(f"There is no input {name!r}; it has {', '.join(names) or 'none'}.")
        given[names[name]] = at.plain(name)
    takes_list = getattr(getattr(kind, "cls", None), "INPUT_IS_LIST", False)
    lists = {port: value for port, value in given.items() if isinstance(value, Wire) and value.many and not takes_list}
    if takes_list:
        given = {port: _as_list(t, kind, port, value) for port, value in given.items()}
    many = getattr(getattr(kind, "ports", None), "lists", [False] * len(kind.outputs))
    if lists:
        return _each(t, at, kind, given, lists)
    name = t.add(kind.id, kind.name, at.node, **given)
    return [
        Wire(f"{name}.{port}" if kind.several_outputs else name, each)
        for port, each in zip(kind.outputs, many, strict=True)
    ]


def theirs_to_ours(kind: NodeType) -> dict[str, str]:
    """A node's inputs as a class of ComfyUI's calls them, and as we do."""
    ports = getattr(kind, "ports", None)
    return {each.name: port for port, each in ports.inputs.items()} if ports else {port: port for port in kind.inputs}


def _as_list(t: Translation, kind: NodeType, port: str, value: Any) -> Any:
    if not isinstance(value, Wire) or value.many or kind.inputs[port].type.item is None:
        return value
    return t.wired(HELPERS.format("as_list"), "as_list", value=value)


def _each(t: Translation, at: At, kind: NodeType, given: dict[str, Any], lists: dict[str, Wire]) -> Sequence[Wire]:
    """A loop in which a node runs once for each item; where lists differ in length, the shorter repeat their last."""

    def longer(one: Wire, other: Wire) -> Wire:
        return t.wired(HELPERS.format("longest"), "longest", first=one, second=other)

    each = reduce(longer, lists.values())
    links = {port: value.link for port, value in given.items() if isinstance(value, Wire)}
    inside = {port: Wire(f"${port}") if port in links else value for port, value in given.items()}
    nodes: dict[str, Any] = {}
    if len(lists) == 1:
        (port,) = lists
        del links[port]
        inside[port] = Wire("$item")
    else:
        for port in lists:
            nodes[f"one_{port}"] = spec(HELPERS.format("list_item"), items=Wire(f"${port}"), index=Wire("$index"))
            inside[port] = Wire(f"one_{port}")
    nodes["each_one"] = spec(kind.id, **inside)
    outputs = {port: f"each_one.{port}" if kind.several_outputs else "each_one" for port in kind.outputs}
    name = t.free(kind.name, t.nodes)
    body = {"nodes": nodes, "outputs": outputs}
    t.nodes[name] = {"type": LOOP, "each": each.link, "links": links, "collect": [*outputs], "body": body}
    if at.node.position is not None:
        t.positions[name] = list(at.node.position)
    return [Wire(f"{name}.{port}" if len(outputs) > 1 else name, many=True) for port in outputs]


def _loop(t: Translation, at: At) -> Sequence[Wire]:
    """A loop of ours: ``each``, ``carry``, ``links``, ``collect``, ``until``, and ``body`` with nodes and outputs."""
    body = at.get("body")
    if (
        not isinstance(body, dict)
        or not isinstance(body.get("nodes"), dict)
        or not isinstance(body.get("outputs"), dict)
    ):
        raise CannotImport("Its body is an object with nodes, as in a prompt, and outputs: name -> link.")
    names = {port.partition(".")[::2]: at.wire(port) for port in at.node.links if "." in port}
    inner = Translation(read_api_graph(body["nodes"]), t.registry, wanted=list(body["nodes"]))
    inner.run()
    t.problems += [(f"{at.node.id}/{place}", sentence) for place, sentence in inner.problems]
    collect = at.get("collect", [])
    carry = {name: wire.link for (group, name), wire in names.items() if group == "carry"}
    loop: dict[str, Any] = {"type": LOOP, "each": at.wire("each").link, "carry": carry, "collect": collect}
    loop["links"] = {name: wire.link for (group, name), wire in names.items() if group == "links"}
    outputs = {name: _inner_link(inner, link) for name, link in body["outputs"].items()}
    loop["body"] = {"nodes": inner.nodes, "outputs": outputs}
    if (until := at.get("until", None)) is not None:
        loop["until"] = until
    name = t.free("loop", t.nodes)
    t.nodes[name] = loop
    t.owners.update({f"{name}/{inside}": f"{at.node.id}/{owner}" for inside, owner in inner.owners.items()})
    leaving = [*carry, *(collect if isinstance(collect, list) else ())]
    return [Wire(f"{name}.{port}" if len(leaving) > 1 else name) for port in leaving]


def _inner_link(inner: Translation, value: Any) -> str:
    source = link_of(value)
    if source is None:
        raise CannotImport('An output of its body is a link, like ["step", 0].')
    if source.node.startswith("$"):
        return source.node
    made = inner.made.get(source.node, ())
    if source.slot >= len(made) or not isinstance(made[source.slot], Wire):
        raise CannotImport(
            f"An output of its body is linked to output {source.slot} of {source.node!r}, there is none."
        )
    return made[source.slot].link


def _branch(t: Translation, at: At) -> Sequence[Wire]:
    """A branch of ours: ``when``, ``then``, ``else``."""
    given = {port: at.plain(port) for port in [*at.node.values, *at.node.links]}
    return [t.wired(BRANCH, "branch", at.node, **given)]


CONTROL: dict[str, Rule] = {LOOP: _loop, BRANCH: _branch}
"""What is part of our file's format, and no node type."""
