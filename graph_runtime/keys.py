"""Digests of texts, and one text for each literal: what keys are made of. Knows no node."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from blake3 import blake3


def digest(*parts: str) -> str:
    """blake3 of the parts, each with its length, so that no two lists of parts read alike."""
    return blake3("".join(f"{len(part)}:{part}" for part in parts).encode("utf-8", "surrogatepass")).hexdigest(20)


def canonical(value: Any) -> str:
    """One text for each literal: floats as hex, strings quoted, keys sorted."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, str):
        return json.dumps(value)
    if value is None or isinstance(value, (bool, int)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(canonical, cast(Sequence[Any], value)))}]"
    if isinstance(value, dict):
        pairs = sorted((json.dumps(str(key)), canonical(item)) for key, item in cast(dict[Any, Any], value).items())
        return "{" + ",".join(f"{key}:{item}" for key, item in pairs) + "}"
    raise TypeError(f"{value!r} cannot stand in a workflow.")
