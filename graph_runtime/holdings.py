"""What a value holds: tensors, their bytes and shapes. Knows tensors and networks by what they can, not by torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, cast

from kineograph.graph_runtime.cache import parts
from kineograph.graph_runtime.sockets import Stream


def tensors(value: Any) -> Iterator[Any]:
    """The tensors that a value holds, each once."""
    seen: dict[int, Any] = {}  # it holds what it has seen: of what is gone, another may have the place
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, (str, bytes, int, float, type)) or part is None or id(part) in seen:
            continue
        seen[id(part)] = part
        if hasattr(part, "untyped_storage"):
            yield part
        else:
            waiting += parts(part)


def _storages(value: Any) -> dict[int, int]:
    """The bytes of each storage that a value holds."""
    found = (tensor.untyped_storage() for tensor in tensors(value))
    return {storage._cdata: storage.nbytes() for storage in found}


def held_bytes(value: Any, without: Any = None) -> int:
    """The bytes of the storages that a value holds, but another does not."""
    others = _storages(without)
    return sum(size for key, size in _storages(value).items() if key not in others)


def likeness(value: Any) -> Any:
    """What two values have in common that lead to the same shapes: all but numbers in tensors, and floats."""
    if hasattr(value, "untyped_storage"):
        return tuple(value.shape), str(value.dtype)
    if isinstance(value, (int, str)) or value is None:
        return value
    if isinstance(value, (tuple, list)):
        return tuple(map(likeness, cast(tuple[Any, ...], value)))
    if isinstance(value, dict):
        return tuple((key, likeness(part)) for key, part in cast(dict[Any, Any], value).items())
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), tuple(likeness(getattr(value, part.name)) for part in fields(value))
    if isinstance(value, Stream):
        return Stream, len(cast(Stream[Any], value)), likeness(cast(Stream[Any], value).items)
    return type(value), tuple(map(likeness, parts(value)))


def shapes(name: str, value: Any) -> Iterator[tuple[str, tuple[int, ...] | str]]:
    """What a row tells of a value: the sides of its tensors, the weights of its networks, the items of its streams."""
    if hasattr(value, "untyped_storage"):
        yield name, tuple(value.shape)
    elif hasattr(value, "parameters") and callable(value.parameters):
        weights: Any = value.parameters()
        yield name, f"{sum(weight.numel() for weight in weights):,} weights"
    elif isinstance(value, Stream):
        yield name, f"{len(cast(Stream[Any], value)):,} items"
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            yield from shapes(f"{name}.{part.name}" if name else part.name, getattr(value, part.name))
