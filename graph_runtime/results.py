"""What a node leaves behind: outputs of the classes that it declares, and its inputs as they were. Knows no graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, cast

from kineograph.graph_runtime.ports import NodeType
from kineograph.graph_runtime.sockets import SocketType

LOOKED_AT = 256
"""Items of a list that are looked at: that of a dataset may have a hundred thousand, and no tensor."""


def several(kind: NodeType, result: Any) -> Sequence[Any]:
    """The outputs of a node that has several, in their order.

    Raises:
        ValueError: they are not what it declares.
    """
    declared = f"declares {len(kind.outputs)} outputs: {', '.join(kind.outputs)}"
    if not isinstance(result, (tuple, list)):
        raise ValueError(f"it returned {_one(result)}, and {declared}.")
    values = cast(Sequence[Any], result)
    if len(values) != len(kind.outputs):
        raise ValueError(f"it returned {len(values)} {'value' if len(values) == 1 else 'values'}, and {declared}.")
    for name, value, classes in zip(kind.outputs, values, kind.returns, strict=True):
        if not isinstance(value, classes):
            raise ValueError(f"its output {name} is {misfit(kind.outputs[name].type, value)}")
    return values


def misfit(declared: SocketType, value: Any) -> str:
    """What a value is, and what it should have been, as the end of a sentence."""
    way_out = {"Stream": "; Stream.of(values) makes one", "list": "; list(values) makes one"}
    needed = declared.python.__name__
    return f"{_one(value)}, and it declares {declared.one}{way_out.get(needed, '')}."


def _one(value: Any) -> str:
    """``a Tensor``, ``an int``, ``None``."""
    name = type(value).__name__
    return "None" if value is None else f"an {name}" if name[0] in "aeiouAEIO" else f"a {name}"


# What it was given


def versions(kind: NodeType, arguments: Mapping[str, Any]) -> list[tuple[str, Any, int]]:
    """The tensors in a node's inputs that it may not overwrite: each with its port, and how often it was so far.

    torch counts that (``Tensor._version``). Weights of networks, items of streams and what a numpy array overwrites are
    not looked at.
    """
    return [
        (port, tensor, tensor._version)
        for port, value in arguments.items()
        if port not in kind.donates and port in kind.inputs and not kind.inputs[port].type.is_literal
        for tensor in _tensors(value)
    ]


def _tensors(value: Any) -> Iterator[Any]:
    if hasattr(value, "untyped_storage"):
        if not value.is_inference():  # of those nobody counts
            yield value
    elif is_dataclass(value):
        for name in value.__dataclass_fields__:
            yield from _tensors(getattr(value, name))
    elif isinstance(value, (list, tuple)):
        for part in cast(Sequence[Any], value)[:LOOKED_AT]:
            yield from _tensors(part)
    elif isinstance(value, dict):
        for part in cast(dict[Any, Any], value).values():
            yield from _tensors(part)


class Overwrote(ValueError):
    """A node changed what it was given. What is in memory cannot be trusted any more."""


def check_versions(before: list[tuple[str, Any, int]]) -> None:
    """See that tensors are as they were.

    Raises:
        Overwrote: one is not.
    """
    for port, tensor, version in before:
        if tensor._version != version:
            raise Overwrote(
                f"it changed its input {port} in place, which other nodes and later runs read too. "
                f'Let it change a copy (.clone(), or x * 0.5 for x.mul_(0.5)), or declare @node(donates=("{port}",)).'
            )
