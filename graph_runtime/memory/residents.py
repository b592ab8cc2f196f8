"""Networks in a value whose weights can leave the device and come back. Knows them by an attribute, not by torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kineograph.graph_runtime.cache import parts


def residents(value: Any) -> Iterator[Any]:
    """The networks in a value that have blocks which can come and go, each once, in an order of their own."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if part is None or isinstance(part, (str, bytes, int, float, type)) or id(part) in seen:
            continue
        seen.add(id(part))
        if getattr(part, "resident", None) is not None:
            yield part
        elif not hasattr(part, "untyped_storage"):
            waiting += parts(part)
