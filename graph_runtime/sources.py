"""What a function's result depends on besides its own code: the source files that its module imports. Runs nothing.

A node is a doorway to plain functions elsewhere. Results outlive a process, so an edit of those functions must change
the node's key. Followed are imports within the module's own package and within ``kineograph.nodes``; the runtime and
libraries are not.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from pathlib import Path

from kineograph.graph_runtime.keys import digest

FOLLOWED = "kineograph.nodes"
FROM = re.compile(r"^[ \t]*from[ \t]+([.\w]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)", re.MULTILINE)
IMPORT = re.compile(r"^[ \t]*import[ \t]+([^\n#]+)", re.MULTILINE)
ONLY_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)*", re.MULTILINE)


@lru_cache(maxsize=1024)
def source_digest(module: str) -> str:
    """The digest of a module's source and of all that it imports of its own package; empty where it has no file."""
    found = closure(module)
    return digest(*(part for name in sorted(found) for part in (name, found[name]))) if found else ""


def closure(module: str) -> dict[str, str]:
    """The source of a module and of all that it imports, and that imports, of its own package and of our nodes."""
    roots = (FOLLOWED, _root(module))
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = None if name in found else _file(name)
        if path is not None:
            found[name] = _text(path)
            waiting += [
                each for each in _imports(path, name) if any(f"{each}.".startswith(f"{root}.") for root in roots)
            ]
    return found


@lru_cache(maxsize=1024)
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _root(module: str) -> str:
    """The package whose modules are a node's own: ``my_pack`` of ``my_pack.nodes``, itself for a module in a folder."""
    parts = module.split(".")
    while len(parts) > 1 and getattr(sys.modules.get(".".join(parts[:-1])), "__file__", None):
        parts.pop()
    root = ".".join(parts)
    return FOLLOWED if root == FOLLOWED.partition(".")[0] else root


@lru_cache(maxsize=4096)
def _file(name: str) -> Path | None:
    """Where the source of a module lies, or None; nothing is imported."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is not None:
        path = Path(file)
        return path if path.suffix == ".py" and path.is_file() else None
    parent, _, last = name.rpartition(".")
    around = _file(parent) if parent else None
    if around is None or around.name != "__init__.py":
        return None
    candidates = (around.parent / f"{last}.py", around.parent / last / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


@lru_cache(maxsize=1024)
def _imports(path: Path, name: str) -> frozenset[str]:
    """The full names of all that a source may import."""
    text = ONLY_TYPES.sub("", _text(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = {part.split()[0] for line in IMPORT.findall(text) for part in line.split(",") if part.strip()}
    for source, names in FROM.findall(text):
        dots = len(source) - len(source.lstrip("."))
        base = source[dots:]
        if dots:
            around = package.split(".")
            base = ".".join(filter(None, [*around[: len(around) - dots + 1], base]))
        found.add(base)
        found |= {f"{base}.{each.split()[0]}" for each in names.strip("()").split(",") if each.strip()}
    return frozenset(found)
