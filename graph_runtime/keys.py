"""Digests of texts, and one text for each literal: what keys are made of. Knows no node."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from blake3 import blake3

SHOWN = 60
"""Letters of a part of a key that are kept to be shown; of a longer one, its digest is."""


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


PARTS = ("schema", "node", "code", "numerics", "files")
"""The parts of a node's key before its inputs; of a loop, the second is its body."""
CHANGED = {"code": "its code", "numerics": "the version of torch, or --attention,", "files": "the file that it reads"}


def named_parts(head: Sequence[str], inputs: Mapping[str, str]) -> dict[str, str]:
    """The parts of a key by name, as they are kept beside a result: of a long one, the digest."""
    named = dict(zip(PARTS, head, strict=False)) | dict(inputs)
    return {name: text if len(text) <= SHOWN else f"#{digest(text)}" for name, text in named.items()}


def first_difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What of a key is another than it was, as a clause; both as :func:`named_parts` gives them."""
    name = next((name for name in now if before.get(name) != now[name]), None)
    if name is None:
        return "it is the same, but no longer there"
    if name in PARTS:
        return f"{CHANGED.get(name, 'its body')} changed since it was kept"
    old, new = before.get(name, ""), now[name]
    if old.startswith(f"{name}=") and new.startswith(f"{name}="):
        return f"{name} was {_shown(old)}, is {_shown(new)}"
    return f"its input {name} is another than the one kept"


def _shown(part: str) -> str:
    """A literal in a part of a key, as people write it."""
    text = part.partition("=")[2]
    return f"{float.fromhex(text):g}" if text.lstrip("-").startswith("0x") else text
