"""Values in a few words, for messages: types, shapes and short literals. Knows no graph and loads nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast

from kineograph.graph_runtime.sockets import Stream

LETTERS, LETTERS_SAID = 120, 2000
"""Of a value in a message, and of a text that is said whole."""
MOST_SAID = 8
"""Values in an event, whose size has a bound however many outputs a graph has."""


def outline(value: object) -> str:
    """A value as ``Video(frames=float32 (1, 17, 3, 64, 64), fps=8.0, loop=False)``, cut off after 120 letters."""
    text = _outline(value)
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def outlines(values: Mapping[str, object]) -> dict[str, str]:
    """Each value in a few words."""
    return {name: outline(value) for name, value in values.items()}


def shorts(values: Mapping[str, object]) -> dict[str, Any]:
    """The first that an event can say whole: truths, numbers, short texts; a number that JSON cannot hold as a text."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if len(found) == MOST_SAID:
            break
        if isinstance(value, float) and not math.isfinite(value):
            found[name] = str(value)
        elif isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= LETTERS_SAID):
            found[name] = value
    return found


def _outline(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, Stream):
        return f"a stream of {len(cast(Stream[Any], value))}"
    if is_dataclass(value):
        return f"{kind}({', '.join(f'{item.name}={_outline(getattr(value, item.name))}' for item in fields(value))})"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, (str, list, tuple)):
        return repr(cast(Sequence[Any], value)[:LETTERS])
    return repr(value) if isinstance(value, (int, float)) or value is None else kind
