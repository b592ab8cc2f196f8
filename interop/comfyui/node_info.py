"""``/object_info``: our nodes, and those of packs, as ComfyUI's clients want them described."""

from __future__ import annotations

from typing import Any, cast

from kineograph.graph_runtime.describe import describe_node
from kineograph.graph_runtime.ports import NodeType
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.workflow import BRANCH, BRANCH_DOC, LOOP

WIDGETS = {"int": "INT", "float": "FLOAT", "str": "STRING", "bool": "BOOLEAN", "any": "*"}
_LOOP_DOC = (
    """Runs its body once for each item of each, and hands carries on: docs/comfyui.md shows how it is written."""
)


def object_info(registry: Registry) -> dict[str, Any]:
    """All nodes by what stands as their ``class_type``: our ids; of packs written for ComfyUI, their own names."""
    found = {class_type(kind): node_info(kind) for kind in registry}
    loop = {"each": ["*", {}], "body": ["KINEOGRAPH_BODY", {}]}
    found[LOOP] = _info(LOOP, "Loop", _LOOP_DOC, "control", "kineograph", {"required": loop})
    sides = {"when": ["BOOLEAN", {}], "then": ["*", {}], "else": ["*", {}]}
    branch = _info(BRANCH, "Branch", BRANCH_DOC, "control", "kineograph", {"required": sides})
    found[BRANCH] = branch | {"output": ["*"], "output_is_list": [False], "output_name": ["output"]}
    return found


def class_type(kind: NodeType) -> str:
    """What a node is called in a prompt."""
    return kind.name if hasattr(kind, "cls") else kind.id


def node_info(kind: NodeType) -> dict[str, Any]:
    """One node."""
    about = describe_node(kind)
    theirs = cast(Any, kind)
    if hasattr(kind, "cls"):
        said = theirs.cls.INPUT_TYPES()
        inputs = {
            group: {name: list(each) for name, each in dict(said.get(group) or {}).items()}
            for group in ("required", "optional")
        }
        category, module = str(getattr(theirs.cls, "CATEGORY", kind.pack)), f"custom_nodes.{kind.pack}"
        title = theirs.title
        types = [each if isinstance(each, str) else list(each) for each in theirs.cls.RETURN_TYPES]
        names = [port.doc for port in kind.outputs.values()]
        lists = list(theirs.ports.lists)
    else:
        inputs: dict[str, Any] = {"required": {}, "optional": {}}
        for port in about["inputs"]:
            inputs["required" if port["required"] else "optional"][port["name"]] = _input(port)
        category, module, title = about["category"], f"kineograph.{kind.pack or 'nodes'}", about["title"]
        types = [WIDGETS.get(port.type.name, port.type.name) for port in kind.outputs.values()]
        names, lists = list(kind.outputs), [False] * len(kind.outputs)
    info = _info(class_type(kind), title, kind.doc, category, module, inputs)
    return info | {"output": types, "output_is_list": lists, "output_name": names, "output_node": kind.effect}


def _info(name: str, title: str, doc: str, category: str, module: str, inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "input": inputs,
        "input_order": {group: list(each) for group, each in inputs.items()},
        "output": [],
        "output_is_list": [],
        "output_name": [],
        "name": name,
        "display_name": title,
        "description": doc,
        "python_module": module,
        "category": category,
        "output_node": False,
    }


def _input(port: dict[str, Any]) -> list[Any]:
    """An input of ours: its type or choices, and what its widget shows."""
    options: dict[str, Any] = {"tooltip": port["doc"]} if port["doc"] else {}
    if port["literal"] and port.get("default") is not None:
        options["default"] = port["default"]
    if "choices" in port:
        return [port["choices"], options]
    for ours, theirs in (
        ("minimum", "min"),
        ("exclusive_minimum", "min"),
        ("maximum", "max"),
        ("exclusive_maximum", "max"),
    ):
        if ours in port:
            options[theirs] = port[ours]
    if "step" in port:
        options["step"] = port["step"]
    if port["multiline"]:
        options["multiline"] = True
    return [WIDGETS.get(port["type"], port["type"]), options]
