"""Which job a free worker takes: the next in line, or one further back whose models it has in memory. Runs nothing.

What is warm is measured, not declared: the nodes that a worker ran lately, each with the seconds that it took. A node
is known by its type, what is typed in, and what hangs before it, so a loader of 14 GB counts and a schedule does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kineograph.graph_runtime.jobs.attempts import Waiting
from kineograph.graph_runtime.keys import digest
from kineograph.graph_runtime.workflow import reference

REMEMBERED = 1000
"""Nodes of each worker."""
WORTH = 0.5
"""Seconds that must be saved for a job to overtake others."""


@dataclass(frozen=True, slots=True)
class LookAhead:
    """How far a warm job may overtake others: it is among the first ``window`` that wait, and each of the others was
    overtaken fewer than ``times``, the first time less than ``seconds`` ago.
    """

    window: int = 16
    times: int = 4
    seconds: float = 60.0


class Warm:
    """What one worker has in memory, as far as its runs told."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def gain(self, labels: Iterable[str]) -> float:
        """The seconds that these nodes need not take here."""
        return sum(self._seconds.get(label, 0.0) for label in labels)

    def ran(self, labels: Mapping[str, str], timings: Mapping[str, Mapping[str, Any]]) -> None:
        """A run ended: what it computed is warm now. What should have been and was not shows that memory was short.

        Args:
            labels: of its nodes, by name.
            timings: of the run, by place: seconds, and whether it was cached.
        """
        took: dict[str, float] = {}
        for place, timing in timings.items():
            name = place.partition("/")[0]
            if name in labels and not timing["cached"]:
                took[labels[name]] = took.get(labels[name], 0.0) + timing["seconds"]
        if self._seconds.keys() & took.keys():
            self._seconds = {label: seconds for label, seconds in self._seconds.items() if label in labels.values()}
        self._seconds = dict([*self._seconds.items(), *took.items()][-REMEMBERED:])

    def forget(self) -> None:
        """The worker's process is no more."""
        self._seconds.clear()


class Line:
    """The order in which jobs that wait are taken.

    Args:
        ahead: how far one may overtake.
    """

    def __init__(self, ahead: LookAhead) -> None:
        self.ahead = ahead
        self._overtaken: dict[str, tuple[int, float]] = {}

    def choose(self, waiting: Sequence[Waiting], gains: Sequence[float], now: float) -> int:
        """Which of the jobs that wait, in order, a worker takes that saves so many seconds on each; some wait."""
        best = 0
        for at in range(1, len(waiting)):
            if not self._may_be_overtaken(waiting[at - 1], waiting[at], now):
                break
            if gains[at] > max(gains[best], gains[0] + WORTH):
                best = at
        return best

    def taken(self, waiting: Sequence[Waiting], chosen: int, now: float) -> None:
        """Remember whom a job overtook that was begun."""
        still = {each.job for each in waiting}
        self._overtaken = {job: passed for job, passed in self._overtaken.items() if job in still}
        self._overtaken.pop(waiting[chosen].job, None)
        for each in waiting[:chosen]:
            times, since = self._overtaken.get(each.job, (0, now))
            self._overtaken[each.job] = times + 1, since

    def _may_be_overtaken(self, ahead: Waiting, by: Waiting, now: float) -> bool:
        times, since = self._overtaken.get(ahead.job, (0, now))
        same = ahead.priority == by.priority and not ahead.firm
        return same and times < self.ahead.times and now - since < self.ahead.seconds


class Labels:
    """The labels of jobs, remembered for as long as they wait in front.

    Args:
        workflow: the JSON of a workflow, by its digest.
    """

    def __init__(self, workflow: Callable[[str], Mapping[str, Any]]) -> None:
        self._workflow = workflow
        self._of = lru_cache(maxsize=64)(self._made)

    def of(self, workflow: str, inputs: str) -> Mapping[str, str]:
        """Those of a workflow's digest and the JSON of its inputs; none where it is no workflow: its run says so."""
        return self._of(workflow, inputs)

    def _made(self, workflow: str, inputs: str) -> Mapping[str, str]:
        try:
            return labels(self._workflow(workflow), json.loads(inputs))
        except (AttributeError, KeyError, TypeError):
            return {}


def labels(workflow: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, str]:
    """For each node of a workflow a digest of all that decides what it computes, short of code and files."""
    defaults = {name: spec.get("default") for name, spec in workflow.get("inputs", {}).items()}
    given = {  # many nodes may be linked to one long text
        f"${name}": digest(json.dumps(value, sort_keys=True)) for name, value in (defaults | dict(inputs)).items()
    }
    nodes: Mapping[str, Any] = workflow["nodes"]
    shared = digest(json.dumps(workflow.get("definitions", {}), sort_keys=True))
    found: dict[str, str] = {}
    seen: set[str] = set()
    todo = [*nodes]
    while todo:  # depth first, without recursion: a chain may be long
        name = todo[-1]
        missing = [source for source in _sources(nodes[name]) if source in nodes and source not in seen]
        if name not in seen and missing:
            seen.add(name)
            todo += missing
            continue
        seen.add(todo.pop())
        if name not in found:
            found[name] = _label(nodes[name], given, found, shared)
    return found


def _links(spec: Mapping[str, Any]) -> dict[str, str]:
    each = {"each": spec["each"]} if "each" in spec else {}
    return each | spec.get("carry", {}) | spec.get("links", {})


def _sources(spec: Mapping[str, Any]) -> list[str]:
    return [reference(link).node for link in _links(spec).values()]


def _label(spec: Mapping[str, Any], given: Mapping[str, Any], found: Mapping[str, str], shared: str) -> str:
    wired = {
        port: given.get(link) if link.startswith("$") else [found.get(reference(link).node), reference(link).port]
        for port, link in _links(spec).items()
    }
    own = {name: part for name, part in spec.items() if name not in ("title", "links", "carry", "each")}
    return digest(shared if spec["type"].startswith("#") else "", json.dumps([own, wired], sort_keys=True))
