"""Batches cut along their first axis: knows dataclasses, tuples and tensors, not what they mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


def part_of(batch: T, part: int, parts: int) -> T:
    """One of the equal parts of a batch; its tensors share memory with the whole.

    Args:
        batch: a dataclass of tensors (B, ...), of tuples of B texts, of dicts and dataclasses of such; what is none of
            those stays.
        part: which, from 0 to parts - 1.
        parts: how many.

    Raises:
        ValueError: there is no such part, or the batch cannot be cut evenly.
    """
    if not 0 <= part < parts:
        raise ValueError(f"part = {part} is not among the {parts} parts 0 to {parts - 1}.")
    sizes = set(_sizes(batch))
    if len(sizes) != 1:
        raise ValueError(f"A {type(batch).__name__} is no batch that can be cut: it has {sorted(sizes)} places.")
    (size,) = sizes
    if size % parts:
        raise ValueError(f"{size} clips cannot be cut into {parts} equal parts; make it a multiple of {parts}.")
    places = slice(part * size // parts, (part + 1) * size // parts)
    return mapped(batch, lambda value: value[places])


def mapped(batch: Any, change: Callable[[Any], Any]) -> Any:
    """A batch in which every tensor (B, ...) and every tuple of B texts is replaced.

    Args:
        batch: see :func:`part_of`.
        change: gives what stands in the new batch.
    """
    if _has_places(batch):
        return change(batch)
    parts = {name: mapped(part, change) for name, part in _parts(batch).items()}
    return replace(batch, **parts) if is_dataclass(batch) and not isinstance(batch, type) else parts or batch


def _sizes(value: Any) -> list[int]:
    if _has_places(value):
        return [len(value)]
    return [size for part in _parts(value).values() for size in _sizes(part)]


def _has_places(value: Any) -> bool:
    """Whether it has a place for each clip: a tensor with axes, a tuple of texts."""
    if isinstance(value, Tensor):
        return value.ndim > 0
    return isinstance(value, tuple) and bool(value) and all(isinstance(each, str) for each in value)


def _parts(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {each.name: getattr(value, each.name) for each in fields(value)} if is_dataclass(value) else {}
