"""How long nodes took on this machine: written down at the end of a run, read to tell the next. Knows no value.

A record is a run's workflow and the seconds of its nodes. What a node had to do (FLOPs, or bytes where it has none)
is found later, by estimating the recorded workflow: a run pays for one small file and nothing else.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from kineograph.files import write_whole
from kineograph.graph_runtime.events import Event, Listener, NodeFinished, NodeProgress, NodeResumed

FILE = "timings.json"
RUNS = 8
"""Workflows whose seconds are kept, those that ran last."""
LOOKED_AT = 2
"""Of these so many are estimated to tell what a run will take."""


class Took(NamedTuple):
    """What a node took: its type, seconds, and the passes of a loop that it took them for."""

    type_id: str
    seconds: float
    passes: int


class Record(NamedTuple):
    """A run: its workflow with its inputs, and what each node took."""

    workflow: str
    nodes: Mapping[str, Took]


class Work(NamedTuple):
    """What a node has to do. ``kind`` is what nodes share that do it equally fast."""

    kind: str
    amount: float
    passes: int


class Timings:
    """A listener that remembers what nodes took, and hands every event on."""

    def __init__(self, listen: Listener) -> None:
        self.listen = listen
        self.nodes: dict[str, Took] = {}
        self._begun: dict[str, int] = {}
        self._done: dict[str, int] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, NodeResumed):
            self._begun[event.path] = event.done
        elif isinstance(event, NodeProgress):
            self._done[event.path] = event.done
        elif isinstance(event, NodeFinished):
            passes = self._done.get(event.path, 0) - self._begun.get(event.path, 0)
            self.nodes[event.path] = Took(event.node_type, event.seconds, passes)
        self.listen(event)

    def keep(self, folder: Path, workflow: str) -> None:
        """Write the record of this run; where that cannot be, nothing is lost but a forecast."""
        if not self.nodes:
            return
        records = {record.workflow: record for record in recorded(folder)}
        before = records.pop(workflow, Record(workflow, {}))
        newest = Record(workflow, {**before.nodes, **self.nodes})
        with contextlib.suppress(OSError, ValueError):
            write_whole(folder / FILE, json.dumps([newest, *records.values()][:RUNS]).encode())


def recorded(folder: Path) -> list[Record]:
    """The records that a folder keeps, the newest first; a damaged file has none."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        raw = cast(list[Any], json.loads((folder / FILE).read_bytes()))
        return [Record(str(workflow), {path: Took(*took) for path, took in nodes.items()}) for workflow, nodes in raw]
    return []


def expected(
    work: Mapping[str, Work], records: Sequence[Record], worked: Callable[[str], Mapping[str, Work]]
) -> dict[str, float]:
    """The seconds that nodes will take, by path; those of a kind that no record has are left out.

    Args:
        work: what each node has to do.
        records: of earlier runs, the newest first.
        worked: from a recorded workflow to what each of its nodes had to do; empty where it cannot be told any more.
    """
    rates: dict[str, float] = {}
    missing = {each.kind for each in work.values()}
    looked: list[Record] = []
    for record in records:
        types = {took.type_id for took in record.nodes.values()}
        if len(looked) == LOOKED_AT or not any(kind.partition(" ")[0] in types for kind in missing):
            continue
        looked.append(record)
        for path, (kind, amount, passes) in worked(record.workflow).items():
            took = record.nodes.get(path)
            if took is not None and kind in missing:
                share = took.passes / passes if took.passes and passes > 1 else 1.0
                rates[kind] = took.seconds / max(amount * share, 1.0)
        missing -= set(rates)
    return {path: each.amount * rates[each.kind] for path, each in work.items() if each.kind in rates}
