"""``kineograph run --isolated``: nodes run in a process of their own, which may crash. Knows no node and no torch."""

from __future__ import annotations

import argparse
import json
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineograph.graph_runtime.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kineograph.graph_runtime.events import Listener
    from kineograph.graph_runtime.store import Store
    from kineograph.graph_runtime.workflow import Workflow

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
SECONDS_BETWEEN_LOOKS = 0.1


def add_arguments(run: argparse.ArgumentParser) -> None:
    """The arguments of ``run`` that say where nodes run, and for how long."""
    about = "run nodes in a process of their own: one that crashes, hangs or takes all memory ends only that process"
    run.add_argument("--isolated", action="store_true", help=about)
    add_limits(run, " (implies --isolated)")


def add_limits(command: argparse.ArgumentParser, more: str = "") -> None:
    """The arguments that say how long a run may take; ``more`` is what follows from them."""
    limit = f"stop a run that takes longer than 90s, 10m or 2h; what it reached is kept{more}"
    command.add_argument("--limit", type=_seconds, default=0.0, metavar="TIME", help=limit)
    limit = f"stop a run in which no node ends, and no loop gets on, for so long{more}"
    command.add_argument("--node-limit", type=_seconds, default=0.0, metavar="TIME", help=limit)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smh])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 90s, 10m or 2h")
    return int(found[1]) * SECONDS[found[2]]


def wanted(options: argparse.Namespace) -> bool:
    """Whether the arguments ask for a process of its own."""
    return bool(options.isolated or options.limit or options.node_limit)


def problems(options: argparse.Namespace, count: int) -> list[Problem]:
    """Why that cannot be: torchrun started so many processes, or a sweep is to keep models in memory."""
    if wanted(options) and options.sweep:
        return [Problem("--isolated", "The runs of a sweep share one process.", "Leave it out, or --sweep.")]
    if count == 1 or not wanted(options):
        return []
    return [Problem("--isolated", f"torchrun started {count} processes, each is one of its own.", "Leave it out.")]


def run(
    options: argparse.Namespace,
    workflow: Workflow,
    inputs: Mapping[str, Any],
    out: Path,
    store: Store | None,
    listen: Listener,
    asked: threading.Event,
    finish: threading.Event,
) -> None:
    """Run a workflow in a process of its own.

    Args:
        options: the command line's.
        workflow, inputs: what to run.
        out: the folder that effects write below.
        store: what both processes keep results in.
        listen: called with every event, on another thread.
        asked: set where the run shall stop.
        finish: set where the loop that runs shall end after its pass.

    Raises:
        NodeFailed: a node raised; ``WorkerDied`` where it ended its process.
        Cancelled: it was stopped.
    """
    from kineograph.graph_runtime.executors.units import WorkUnit
    from kineograph.graph_runtime.executors.worker import WorkerExecutor

    unit = WorkUnit(
        json.loads(workflow.to_json()),
        dict(inputs),
        outputs=None if options.only is None else tuple(options.only),
        out=str(out.absolute()),
        packs=tuple(map(str, options.packs)),
        store=str(store.folder.absolute()) if store is not None else "",
        store_bytes=options.store_limit,
        keep_every=options.keep_every,
        limit=options.limit,
        node_limit=options.node_limit,
        memory=options.memory or 0,
        deliver=False,
    )
    with WorkerExecutor(debug=options.debug) as executor:
        job = executor.submit(unit, listen)
        while not job.wait(SECONDS_BETWEEN_LOOKS):
            if asked.is_set() and not job.asked:
                job.cancel()
            if finish.is_set():
                finish.clear()
                job.finish()
        job.result()
