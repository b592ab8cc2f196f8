"""Kineograph: video generation as graphs of typed nodes. Importing it loads nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kineograph.graph_runtime.runtime import Runtime
    from kineograph.graph_runtime.store import Store

__version__ = "0.1.0"
COMFYUI = "comfyui:"
"""What marks a folder of packs that were written for ComfyUI."""
INTEROP = "kineograph.interop.comfyui"
"""By name: the server stands on this module, and knows no node."""


def default_runtime(packs: Sequence[str | Path] = (), store: Store | None = None, *, installed: bool = True) -> Runtime:
    """A runtime with the built-in nodes, the packs that are installed and those in folders.

    Args:
        packs: folders of packs; their code is executed. Those written for ComfyUI are marked: ``comfyui:FOLDER``.
        store: keeps results on disk, so that other processes and later runs go on from them.
        installed: whether packs that are installed are loaded too.

    Raises:
        InvalidWorkflow: packs do not load, or name a node that is there already; all of them are listed.
    """
    from importlib import import_module

    from kineograph.graph_runtime.errors import InvalidWorkflow, Problem
    from kineograph.graph_runtime.registry import Registry
    from kineograph.graph_runtime.runtime import Runtime

    registry = Registry()
    registry.add_builtin("kineograph.nodes")
    registry.add_builtin(INTEROP, pack="comfyui")
    problems: list[Problem] = []
    for source in (*([None] if installed else []), *packs):
        try:
            if source is None:
                registry.add_installed()
            elif (kind := str(source).partition(COMFYUI))[1] and not kind[0]:
                import_module(f"{INTEROP}.packs").add_packs(registry, kind[2])
            else:
                registry.add_folder(source)
        except InvalidWorkflow as invalid:
            problems += invalid.problems
        except (Exception, SystemExit) as error:  # noqa: BLE001  a pack is a stranger's code
            place = "installed packs" if source is None else f"packs in {source}"
            problems.append(Problem(place, f"They do not load: {type(error).__name__}: {error}"))
    if problems:
        raise InvalidWorkflow(problems)
    return Runtime(registry, store=store)


def safe_runtime(_: Sequence[str | Path] = ()) -> Runtime:
    """A runtime with the built-in nodes alone, whatever packs there are."""
    return default_runtime(installed=False)
