"""What a class written for ComfyUI says of its inputs and outputs, as ports of ours. Of it, INPUT_TYPES is run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from kineograph.graph_runtime.ports import MISSING, ONLY_OUTPUT, Port
from kineograph.graph_runtime.sockets import stream_of
from kineograph.interop.comfyui.values import Kind, kind_of

HIDDEN = {"UNIQUE_ID", "PROMPT", "EXTRA_PNGINFO"}
"""What a node may ask of its run beside its inputs."""
_BOUNDED = {"INT": int, "FLOAT": float}


class Refused(ValueError):
    """A class that cannot be had as a node; the sentence says why."""


@dataclass(frozen=True)
class Input:
    """One input of a class.

    Attributes:
        name: as the class calls it. port: as our workflows do. kind: its type.
        choices: ours -> theirs, where it is one of a list. lazy: whether it is computed only when the class asks.
        options: all that the class says of it.
    """

    name: str
    port: Port
    kind: Kind
    type: Any
    required: bool
    choices: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lazy: bool = False
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Ports:
    """The inputs and outputs of a class.

    Attributes:
        inputs: by our name. hidden: the class's name -> which of ``HIDDEN``.
        outputs: of ours, in order. kinds: of the outputs. lists: which outputs are lists.
    """

    inputs: Mapping[str, Input]
    hidden: Mapping[str, str]
    outputs: Mapping[str, Port]
    kinds: Sequence[Kind]
    lists: Sequence[bool]


def read_ports(cls: type, checked_by_class: Sequence[str] | None) -> Ports:
    """Read ``INPUT_TYPES`` and ``RETURN_TYPES`` of a class.

    Args:
        cls: the class.
        checked_by_class: the inputs that its VALIDATE_INPUTS judges, so that their bounds and choices do not; None is
            all of them.

    Raises:
        Refused: what it says is not what can be had.
    """
    said = cast(Any, cls).INPUT_TYPES()
    if not isinstance(said, dict):
        raise Refused("Its INPUT_TYPES gives no dict.")
    inputs: dict[str, Input] = {}
    takes_list = bool(getattr(cls, "INPUT_IS_LIST", False))
    for group in ("required", "optional"):
        for name, about in dict(cast(dict[str, Any], said).get(group) or {}).items():
            port_name = _port_name(str(name), inputs)
            judged = checked_by_class is None or str(name) in checked_by_class
            inputs[port_name] = _input(str(name), port_name, about, group == "required", takes_list, judged)
    hidden = {
        str(name): str(_first(what)) for name, what in dict(cast(dict[str, Any], said).get("hidden") or {}).items()
    }
    for name, what in hidden.items():
        if what not in HIDDEN:
            raise Refused(f"Its hidden input {name} is {what}, which only ComfyUI's own runtime has.")
    returned = getattr(cls, "RETURN_TYPES", ())
    if not isinstance(returned, (tuple, list)):
        raise Refused("Its RETURN_TYPES is no tuple.")
    types = list(cast(Sequence[Any], returned))
    lists = [*map(bool, getattr(cls, "OUTPUT_IS_LIST", None) or ())]
    lists += [False] * (len(types) - len(lists))
    names = [*map(str, getattr(cls, "RETURN_NAMES", None) or ())]
    kinds = [kind_of(each) for each in types]
    outputs: dict[str, Port] = {}
    for at, (type_, kind, many) in enumerate(zip(types, kinds, lists, strict=False)):
        shown = names[at] if at < len(names) and names[at] else type_ if isinstance(type_, str) else "choice"
        name = ONLY_OUTPUT if len(types) == 1 else _port_name(shown.lower(), outputs)
        outputs[name] = Port(name, stream_of(kind.socket) if many else kind.socket, kind.socket.python, doc=shown)
    return Ports(inputs, hidden, outputs, kinds, lists[: len(types)])


def _input(name: str, port_name: str, about: Any, required: bool, takes_list: bool, judged: bool) -> Input:
    parts = cast(Sequence[Any], about) if isinstance(about, (tuple, list)) and about else ("*",)
    type_ = parts[0]
    options = cast(dict[str, Any], parts[1]) if len(parts) > 1 and isinstance(parts[1], dict) else {}
    listed = type_ if isinstance(type_, (list, tuple)) else options.get("options") if type_ == "COMBO" else None
    choices = {str(each): each for each in cast(Sequence[Any], listed)} if isinstance(listed, (list, tuple)) else {}
    kind = kind_of(type_)
    annotation: Any = kind.socket.python
    if choices and not judged:
        annotation = cast(Any, Literal)[tuple(choices)]
    elif type_ in _BOUNDED and not judged:
        annotation = _bounded(type_, options)
    socket = kind.socket
    if takes_list and not socket.is_literal:
        socket = stream_of(socket)
    default = MISSING
    if socket.is_literal and "default" in options and not options.get("forceInput"):
        default = _default(type_, options["default"], choices)
    elif choices:
        default = next(iter(choices))
    elif not required:
        default = None
    doc = str(options.get("tooltip", ""))
    port = Port(port_name, socket, annotation, default, doc)
    return Input(name, port, kind, type_, required, choices, bool(options.get("lazy")), options)


def _default(type_: Any, value: Any, choices: Mapping[str, Any]) -> Any:
    if choices:
        return str(value) if str(value) in choices else next(iter(choices))
    make = {"INT": int, "FLOAT": float, "BOOLEAN": bool, "STRING": str}.get(cast(str, type_), str)
    return make(value)


def _bounded(type_: str, options: Mapping[str, Any]) -> Any:
    """A number with its bounds; the step of its field is no bound there."""
    limits = {"ge": options.get("min"), "le": options.get("max")}
    make = _BOUNDED[type_]
    found = {name: make(value) for name, value in limits.items() if isinstance(value, (int, float))}
    inside = {name: value for name, value in found.items() if make is float or -(2**63) <= value < 2**63}
    return Annotated[make, Field(**cast(Any, inside))] if inside else make


def _port_name(name: str, taken: Any) -> str:
    """A name that a workflow can hold, from any that a class has."""
    clean = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "value"
    clean = clean if clean[0].isalpha() or clean[0] == "_" else f"in_{clean}"
    found, number = clean, 2
    while found in taken:
        found, number = f"{clean}_{number}", number + 1
    return found


def _first(what: Any) -> Any:
    return cast(Sequence[Any], what)[0] if isinstance(what, (tuple, list)) and what else what
