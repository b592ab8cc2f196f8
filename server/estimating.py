"""Estimates for a server, in a process of its own: packs may do anything while they are tried. Knows no node."""

from __future__ import annotations

import json
import pkgutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from kineograph.graph_runtime.costs import as_json
from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.runtime import Runtime
from kineograph.graph_runtime.store import MARK, Store, StoreFault


def main(requests: TextIO, replies: TextIO, factory: str, packs: Sequence[str], store: str) -> None:
    """Answer until the requests end.

    Args:
        requests: a workflow, its inputs and outputs on each line.
        replies: for each an estimate, or why there is none.
        factory: what makes the runtime, as ``module:function``.
        packs: folders of packs.
        store: the folder of results; empty for none.
    """
    with redirect_stdout(sys.stderr):
        runtime: Runtime = pkgutil.resolve_name(factory)(packs)
    for line in requests:
        with redirect_stdout(sys.stderr):  # nodes may print
            answer = _answer(runtime, store, json.loads(line))
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


def _answer(runtime: Runtime, store: str, request: dict[str, Any]) -> dict[str, Any]:
    try:
        runtime.store = Store(store) if store and (Path(store) / MARK).exists() else None
    except StoreFault:
        runtime.store = None
    try:
        found = runtime.estimate(request["workflow"], request["inputs"], outputs=request["outputs"])
    except InvalidWorkflow as invalid:
        return {"problems": [[found.place, found.message, found.hint] for found in invalid.problems]}
    except Exception as error:  # noqa: BLE001  a pack's code may raise anything
        return {"refused": f"It cannot be estimated: {type(error).__name__}."}
    finally:
        if runtime.store is not None:
            runtime.store.close()
    return {"estimate": as_json(found)}
