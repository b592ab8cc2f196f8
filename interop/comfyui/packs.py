"""Folders of node packs written for ComfyUI. One that needs ComfyUI's own code is refused, with its lines that do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from kineograph.graph_runtime.errors import InvalidWorkflow, Problem
from kineograph.graph_runtime.registry import Registry, import_file, not_loaded
from kineograph.interop.comfyui.pack_inputs import Refused
from kineograph.interop.comfyui.pack_nodes import comfy_node

INTERNALS = {
    *("app", "api_server", "comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution", "comfy_extras"),
    *("comfyui_version", "cuda_malloc", "execution", "folder_paths", "latent_preview", "node_helpers", "nodes"),
    "server",
}
"""Modules of ComfyUI itself: none of them is here, and none is imitated."""
_PACKAGE = "kineograph_comfyui_packs"


def add_packs(registry: Registry, folder: str | Path) -> None:
    """Add every pack of a folder: ``name.py``, or ``name/__init__.py``. Single classes that cannot be had are left out,
    and ``registry.refused`` says why.

    Raises:
        InvalidWorkflow: the folder is missing, or packs do not load; all of them are listed.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InvalidWorkflow([Problem("--comfy-packs", f"There is no folder {root}.")])
    problems: list[Problem] = []
    for path in sorted([*root.glob("*.py"), *root.glob("*/__init__.py")]):
        pack = path.parent.name if path.name == "__init__.py" else path.stem
        if pack.startswith(("_", ".", "test_")) or pack == "conftest":
            continue
        try:
            _add(registry, pack, path)
        except InvalidWorkflow as invalid:
            problems += invalid.problems
        except (Exception, SystemExit) as error:  # noqa: BLE001  a pack's code may raise anything
            problems.append(not_loaded(pack, str(path), error, (_PACKAGE,)))
    if problems:
        raise InvalidWorkflow(problems)


def _add(registry: Registry, pack: str, path: Path) -> None:
    needs = list(_internal_imports(path.parent if path.name == "__init__.py" else path))
    if needs:
        shown = ", ".join(needs[:4]) + (f" and {len(needs) - 4} more" if len(needs) > 4 else "")
        message = f"It imports parts of ComfyUI itself, which are not here: {shown}."
        raise InvalidWorkflow([Problem(f"pack {pack}", message, "Packs that stand on their own can be loaded.")])
    module = import_file(path, pack, _PACKAGE)
    classes = getattr(module, "NODE_CLASS_MAPPINGS", None)
    if not isinstance(classes, dict):
        raise InvalidWorkflow([Problem(f"pack {pack}", f"{path} has no NODE_CLASS_MAPPINGS.")])
    titles = cast(dict[str, Any], getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {})
    for name, cls in cast(dict[str, Any], classes).items():
        try:
            registry.add(comfy_node(str(name), cls, pack, str(titles.get(name, "")), registry))
        except Refused as reason:
            registry.refused[f"{pack}/{name}@1"] = str(reason)


def _internal_imports(path: Path) -> Iterator[str]:
    """``file:line module`` of every import of ComfyUI's own modules that is not tried with a way out."""
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):  # importing it says so, if it is imported
            continue
        tried = {
            id(inner)
            for item in ast.walk(tree)
            if isinstance(item, ast.Try) and item.handlers
            for statement in item.body
            for inner in ast.walk(statement)
        }
        for item in ast.walk(tree):
            if id(item) in tried:
                continue
            names = [alias.name for alias in item.names] if isinstance(item, ast.Import) else []
            if isinstance(item, ast.ImportFrom) and not item.level and item.module:
                names = [item.module]
            for name in names:
                if name.partition(".")[0] in INTERNALS and not _own(path, name):
                    yield f"{file.name}:{cast(Any, item).lineno} {name}"


def _own(path: Path, name: str) -> bool:
    """Whether a pack has a module of that name itself."""
    first = name.partition(".")[0]
    return path.is_dir() and ((path / f"{first}.py").is_file() or (path / first).is_dir())
