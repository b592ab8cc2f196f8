"""What people and editors are told of nodes and types, as plain JSON, for the command line and for the server."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable
from typing import Any

from kineograph.graph_runtime.node import split_docstring
from kineograph.graph_runtime.ports import NodeType, Port
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.sockets import ANY, BOOL, SHAPES, SocketType, drawn_family, misfit
from kineograph.graph_runtime.workflow import BRANCH, BRANCH_DOC, LOOP, LoopSpec

Described = dict[str, Any]

LONG_TEXTS = ("prompt", "text", "instruction", "about")
"""A text of such a name is written in a field of several lines."""
SPELT = {
    "adamw": "AdamW", "apg": "APG", "cogvideox": "CogVideoX", "ddim": "DDIM", "ddpm": "DDPM", "dit": "DiT",
    "dpmpp": "DPM++", "edm": "EDM", "fps": "FPS", "gan": "GAN", "hunyuan": "HunyuanVideo",
    "id": "ID", "json": "JSON", "lora": "LoRA",
    "ltx": "LTX", "sde": "SDE", "sdedit": "SDEdit", "unipc": "UniPC", "vae": "VAE",
}  # fmt: skip
"""Words of names that people write in their own way."""

_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusive_minimum",
    "le": "maximum",
    "lt": "exclusive_maximum",
    "multiple_of": "step",
}


def describe(registry: Registry) -> Described:
    """All nodes, all types, and which output fits which input.

    Returns:
        ``nodes``: see ``describe_node``. ``types``: name, family, shape, list, doc. ``fits``: of each type, those of
        inputs that it may be wired to.
    """
    nodes = [*map(describe_node, registry), *describe_control()]
    kinds = _kinds(registry)
    fits = {name: [to for to, into in kinds.items() if misfit(kind, into) is None] for name, kind in kinds.items()}
    return {"nodes": nodes, "types": [_describe_type(kind) for kind in kinds.values()], "fits": fits}


def describe_node(kind: NodeType) -> Described:
    """All that is known of a node, fit for JSON."""
    return {
        "id": kind.id,
        "name": kind.name,
        "version": kind.version,
        "title": title(kind.name),
        "doc": kind.doc,
        "summary": _summary(kind.doc),
        "category": kind.pack or _category(kind.function.__module__),
        "pack": kind.pack,
        "effect": kind.effect,
        "control": "",
        "inputs": [describe_port(port) for port in kind.inputs.values()],
        "outputs": [{"name": port.name, "type": port.type.name, "doc": port.doc} for port in kind.outputs.values()],
    }


def describe_port(port: Port) -> Described:
    """An input: its type, default and bounds, and what an editor needs to draw a field for it."""
    choices = list(typing.get_args(port.annotation)) if typing.get_origin(port.annotation) is typing.Literal else []
    item = port.type.name.removeprefix("list[").removesuffix("]") if port.type.python is list else ""
    default = {} if port.required else {"default": port.default}
    named = bool(port.file_endings or port.output_endings or choices)
    return {
        "name": port.name,
        "title": title(port.name),
        "type": port.type.name,
        "required": port.required,
        "bounds": port.bounds,
        **default,
        "doc": port.doc,
        **_limits(port),
        **({"choices": choices} if choices else {}),
        "multiline": port.type.name == "str" and not named and port.name in LONG_TEXTS,
        "file_endings": list(port.file_endings),
        "output_endings": list(port.output_endings),
        "literal": port.type.is_literal,
        "list_of": item,
    }


def describe_control() -> list[Described]:
    """The loop and the branch are part of the file's format, but people look for them among the nodes."""
    branch_doc, docs = split_docstring(BRANCH_DOC.replace("\nInputs:\n", "\nArgs:\n"))
    sides = {"when": BOOL, "then": ANY, "else": ANY}
    inputs = [
        describe_port(Port(name, kind, kind.python, doc=docs[name])) | {"literal": True} for name, kind in sides.items()
    ]
    outputs = [{"name": "output", "type": ANY.name, "doc": ""}]
    return [
        _control(LOOP, "loop", inspect.getdoc(LoopSpec) or "", [], []),
        _control(BRANCH, "branch", branch_doc, inputs, outputs),
    ]


def _control(type_id: str, control: str, doc: str, inputs: list[Described], outputs: list[Described]) -> Described:
    name, _, version = type_id.partition("@")
    return {
        "id": type_id,
        "name": name,
        "version": int(version),
        "title": title(name),
        "doc": doc,
        "summary": _summary(doc),
        "category": "control",
        "pack": "",
        "effect": False,
        "control": control,
        "inputs": inputs,
        "outputs": outputs,
    }


def _kinds(registry: Registry) -> dict[str, SocketType]:
    """The types of all ports, and those that a workflow's inputs may have."""
    ports: Iterable[Port] = (port for kind in registry for port in (*kind.inputs.values(), *kind.outputs.values()))
    found = {port.type.name: port.type for port in ports}
    named = {name: kind for name in registry.sockets() if (kind := registry.socket(name)) is not None}
    return dict(sorted({**found, **named}.items()))


def _describe_type(kind: SocketType) -> Described:
    one = kind.item or kind
    family = drawn_family(kind.family)
    doc = "" if one.is_literal or one == ANY else _summary(inspect.getdoc(one.python) or "")
    shape = SHAPES.get(family, "circle")
    several = kind.item is not None or kind.python is list
    return {"name": kind.name, "family": family, "shape": shape, "list": several, "doc": doc}


def _limits(port: Port) -> dict[str, float]:
    """The bounds of a number, by the names that JSON Schema has for them."""
    found: dict[str, float] = {}
    for extra in getattr(port.annotation, "__metadata__", ()):
        for constraint in getattr(extra, "metadata", ()):
            found |= {said: getattr(constraint, name) for name, said in _BOUNDS.items() if hasattr(constraint, name)}
    return found | ({"step": 1} if port.type.name == "int" and "step" not in found else {})


def title(name: str) -> str:
    """A name as people read it: ``vae_decode`` is VAE decode."""
    words = [SPELT.get(word, word) for word in name.replace("_", " ").split()]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]]) if words else ""


def _category(module: str) -> str:
    """The module below its room: ``kineograph.nodes.train.loss`` is ``train/loss``."""
    return "/".join(module.split(".")[2:])


def _summary(doc: str) -> str:
    """The first paragraph on one line."""
    return " ".join(doc.partition("\n\n")[0].split())
