"""What code a node runs, as a digest: its module and the modules of ours that this one imports. Runs and imports none.

A helper or a network that changed must change the keys of what it computed, and networks are imported inside functions,
long after keys are made. So modules are read as code objects (from Python's own cache of them, 0.3 ms each), without
names of files, lines and docstrings; every dotted name in them that lies in a package of ours is followed.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, cast

from kineograph.graph_runtime.keys import digest

FOLLOWED = "kineograph.nodes"
"""Imports of modules in this package are followed; a pack's folder counts as a whole."""
_STARTED = time.time()


def code_digest(function: Callable[..., Any]) -> str:
    """The digest of all code of ours that a node's function may run."""
    code = function.__code__
    module = sys.modules.get(function.__module__)
    if module is None or not Path(code.co_filename).is_file():  # typed into an interpreter
        return digest("\n".join(_lines(code)))
    files = {code.co_filename, *_folder(module)}
    waiting = list(files)
    while waiting:
        found = set(_imported(_read(waiting.pop())[1])) - files
        files |= found
        waiting += found
    return digest(code.co_qualname, *sorted(_read(path)[0] for path in files))


def _folder(module: types.ModuleType) -> list[str]:
    """The files beside and below a module of a pack that is a folder; none for ours, whose imports are followed."""
    package = module.__name__ if hasattr(module, "__path__") else module.__package__ or ""
    if not package or f"{package}.".startswith(f"{FOLLOWED}."):
        return []
    folders = getattr(sys.modules.get(package), "__path__", [])  # a pack that is a file has none
    return [str(path) for folder in folders for path in Path(folder).rglob("*.py")]


def _imported(names: frozenset[str]) -> Iterator[str]:
    """The files of the modules that are followed, among the names of a code: only imports have dots in theirs."""
    root = sys.modules.get(FOLLOWED)
    for name in names:
        if root is None or not f"{name}.".startswith(f"{FOLLOWED}."):
            continue
        path = Path(root.__path__[0], *name.split(".")[FOLLOWED.count(".") + 1 :])
        if path.is_dir():  # from package import module: the module is a name of its own
            yield from (str(file) for file in path.glob("*.py") if file.stem in names)
            path /= "__init__"
        if path.with_suffix(".py").is_file():
            yield str(path.with_suffix(".py"))


def _read(path: str) -> tuple[str, frozenset[str]]:
    """The digest of a file's code, and the names in it."""
    return _read_version(path, Path(path).stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _read_version(path: str, changed_ns: int) -> tuple[str, frozenset[str]]:
    # a file that changed since may not be what this process runs: its keys are then nobody else's
    version = f"{os.getpid()} {_STARTED}" if changed_ns > _STARTED * 1e9 else ""
    try:
        code = SourceFileLoader("node", path).get_code("node")
    except (SyntaxError, ValueError):  # no Python: the node that runs it says so
        return digest(version, Path(path).read_bytes().hex()), frozenset()
    assert code is not None
    return digest(version, *_lines(code)), frozenset(_names(code))


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _lines(code: types.CodeType) -> list[str]:
    lines = [code.co_code.hex(), repr(code.co_names), repr(code.co_varnames)]
    for constant in code.co_consts[1:] if _has_docstring(code) else code.co_consts:
        if isinstance(constant, types.CodeType):
            lines += _lines(constant)
        elif isinstance(constant, frozenset):
            lines.append(repr(sorted(cast(frozenset[Any], constant), key=repr)))
        else:
            lines.append(repr(constant))
    return lines


def _has_docstring(code: types.CodeType) -> bool:
    """Whether the first constant is a docstring or, before Python 3.14, the None that stands for none."""
    if code.co_name == "<module>":
        return "__doc__" in code.co_names
    if sys.version_info >= (3, 14):
        return bool(code.co_flags & inspect.CO_HAS_DOCSTRING)
    return not code.co_name.startswith("<")  # a comprehension begins with a constant of its own
