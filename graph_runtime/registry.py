"""Which node types there are: built-ins, installed packs, folders of packs. Never overwrites. Runs nothing."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

from kineograph.graph_runtime.errors import InvalidWorkflow, Problem, nearest, place_in
from kineograph.graph_runtime.node import node_type
from kineograph.graph_runtime.ports import NodeType
from kineograph.graph_runtime.sockets import ANY, LITERALS, SocketType, stream_of
from kineograph.graph_runtime.workflow import BRANCH, LOOP

ENTRY_POINTS = "kineograph.nodes"
PACKS = "kineograph_packs"
"""The package that folders' packs are modules of."""


class Registry:
    """Node types by id. A taken id is an error, never an overwrite."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeType] = {}
        self._sockets: dict[str, SocketType] = {**LITERALS, ANY.name: ANY}
        self.refused: dict[str, str] = {}
        """Nodes of packs that could not be had: id -> why, a sentence."""
        self.remarks: list[str] = []
        """What else is to be said of packs, sentences."""

    def __iter__(self) -> Iterator[NodeType]:
        return iter(sorted(self._nodes.values(), key=lambda kind: (kind.pack, kind.name, kind.version)))

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, type_id: str) -> NodeType | None:
        """The node type of an id, or None."""
        return self._nodes.get(type_id)

    def socket(self, name: str) -> SocketType | None:
        """The socket type of a name such as ``int``, ``any``, ``Video`` or ``Stream[Video]``, or None."""
        if name.startswith("Stream[") and name.endswith("]"):
            item = self._sockets.get(name[len("Stream[") : -1])
            return None if item is None else stream_of(item)
        return self._sockets.get(name)

    def sockets(self) -> list[str]:
        """The names of all types that there are streams of."""
        return sorted(self._sockets)

    def unknown(self, type_id: str) -> str:
        """A sentence of advice for an id that is not there."""
        if type_id in self.refused:
            return f"It could not be loaded: {self.refused[type_id]}"
        name, _, version = type_id.partition("@")
        versions = [kind.id for kind in self._nodes.values() if kind.id.partition("@")[0] == name]
        if versions and not version:
            return f"A type is written with its version: {versions[-1]}."
        if versions:
            return f"This installation has {', '.join(versions)}."
        pack, slash, _ = name.partition("/")
        if not slash:
            return nearest(type_id, [*self._nodes, LOOP, BRANCH])
        if pack == "comfyui":
            return "It is a node of a pack for ComfyUI: give its folder with --comfy-packs DIR; a server, at its start."
        own = [kind.id for kind in self._nodes.values() if kind.pack == pack]
        if not own:
            theirs = "--comfy-packs DIR for one of ComfyUI's"
            return (
                f"Its pack {pack!r} is not loaded: give its folder with --packs DIR ({theirs}); a server, at its start."
            )
        return nearest(type_id, own)

    def add(self, kind: NodeType) -> None:
        """Add one node type.

        Raises:
            ValueError: its declaration is at fault, its id is taken, or its socket is another class already.
        """
        if kind.faults:
            raise ValueError(" ".join(kind.faults))
        if kind.id in self._nodes or kind.id in (LOOP, BRANCH):
            raise ValueError(f"The node {kind.id} is there already; a pack cannot replace a node.")
        for port in (*kind.inputs.values(), *kind.outputs.values()):
            kind_of_port = port.type.item or port.type
            known = self._sockets.setdefault(kind_of_port.name, kind_of_port)
            if known.python is not kind_of_port.python:
                raise ValueError(f"{kind.id}: the socket {known.name} is another class already ({known.python}).")
        self._nodes[kind.id] = kind

    def add_module(self, module: ModuleType, pack: str = "") -> int:
        """Add every node that a module, or a module below it, defines, under the name of its pack; how many there are.

        Raises:
            ValueError: nodes are at fault; all of them are listed.
        """
        faults: list[str] = []
        found = {id(value): kind for value in vars(module).values() if (kind := node_type(value)) is not None}
        for kind in found.values():
            if f"{kind.function.__module__}.".startswith(f"{module.__name__}."):
                try:
                    self.add(replace(kind, pack=pack))
                except ValueError as error:
                    faults.append(str(error))
        if faults:
            raise ValueError(" ".join(faults))
        return len(found)

    def add_builtin(self, package: str, pack: str = "") -> None:
        """Add the modules that a package lists in its ``MODULES``."""
        for name in importlib.import_module(package).MODULES:
            self.add_module(importlib.import_module(f"{package}.{name}"), pack)

    def add_installed(self) -> None:
        """Add the packs that installed distributions offer under the entry point group ``kineograph.nodes``.

        Raises:
            InvalidWorkflow: packs do not load; all of them are listed.
        """
        from importlib.metadata import entry_points

        points = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
        self._add_packs({name: (point.value, point.load) for name, point in points.items()})

    def add_folder(self, folder: str | Path) -> None:
        """Add a folder of packs: every ``name.py`` and every ``name/__init__.py`` in it is the pack ``name``.

        Raises:
            InvalidWorkflow: the folder is missing, or packs do not load; all of them are listed.
        """
        root = Path(folder)
        if not root.is_dir():
            hint = f"Give the folder that it lies in: {root.parent}." if root.is_file() else ""
            raise InvalidWorkflow([Problem("--packs", f"There is no folder {root}.", hint)])
        packs: dict[str, tuple[str, Callable[[], ModuleType]]] = {}
        for path in sorted([*root.glob("*.py"), *root.glob("*/__init__.py")]):
            pack = path.parent.name if path.name == "__init__.py" else path.stem
            if not pack.startswith(("_", "test_")) and pack != "conftest":
                packs[pack] = (str(path), partial(import_file, path, pack))
        self._add_packs(packs)

    def _add_packs(self, packs: Mapping[str, tuple[str, Callable[[], ModuleType]]]) -> None:
        """Add packs, each given as where it lies and what imports it; a broken one hides no problem of the others."""
        problems: list[Problem] = []
        for pack, (place, load) in packs.items():
            try:
                module = load()
            except (Exception, SystemExit) as error:  # noqa: BLE001  a pack's code may raise anything
                problems.append(not_loaded(pack, place, error, (PACKS, place.partition(".")[0])))
                continue
            try:
                if not self.add_module(module, pack=pack):
                    self.remarks.append(f"The pack {pack} ({place}) has no node: mark a function with @node.")
            except ValueError as error:
                problems.append(Problem(f"pack {pack}", f"{place}: {error}"))
        if problems:
            raise InvalidWorkflow(problems)


def not_loaded(pack: str, place: str, error: BaseException, packages: Collection[str]) -> Problem:
    """That a pack's module raised while it was imported, and in which line of these packages."""
    line = place_in(error, packages)
    why = f"{type(error).__name__}: {error}" + (f" ({line})" if line else "")
    return Problem(f"pack {pack}", f"{place} does not load: {why}")


def import_file(path: Path, pack: str, package: str = PACKS) -> ModuleType:
    """Import a pack from where it lies, as a module of a package that is made for it.

    Args:
        path: ``name.py``, or ``name/__init__.py``.
        pack: its name.
        package: keeps packs of one kind apart from those of another.
    """
    sys.modules.setdefault(package, ModuleType(package))  # `from . import x` asks for it
    name = f"{package}.{pack}"
    search = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=search)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
