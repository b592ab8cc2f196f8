"""What a job ran with, by version: Kineograph, torch, packs. Loads none of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from blake3 import blake3

import kineograph

GROUP = "kineograph.nodes"


def versions(packs: Sequence[str]) -> tuple[str, str, list[dict[str, str]]]:
    """The versions of Kineograph and torch, and name and version of each pack; of a folder, the digest of its code."""
    folders = [{"name": folder, "version": _code(Path(folder.removeprefix(kineograph.COMFYUI)))} for folder in packs]
    return kineograph.__version__, _torch(), [*map(dict, _installed()), *folders]


@cache
def _torch() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


@cache
def _installed() -> tuple[tuple[tuple[str, str], ...], ...]:
    found = {(point.dist.name, point.dist.version) for point in entry_points(group=GROUP) if point.dist is not None}
    return tuple((("name", name), ("version", number)) for name, number in sorted(found))


def _code(folder: Path) -> str:
    content = blake3()
    for path in sorted(folder.rglob("*.py")):
        content.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return content.hexdigest(8)
