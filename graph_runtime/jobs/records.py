"""What people are told of jobs: plain records, each with its JSON. Knows no SQL and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from kineograph.graph_runtime.errors import WorkflowError

State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = ("queued", "running", "done", "failed", "cancelled")
Order = Literal["newest", "oldest", "longest", "queue"]


class UnknownJob(WorkflowError, KeyError):
    """There is no such job, or no such file of one."""

    def __str__(self) -> str:
        return str(self.args[0])


class JobConflict(WorkflowError):
    """What was asked for cannot be done to a job in this state."""


@dataclass(frozen=True, slots=True)
class Logged:
    """Something that happened to a job: an event of its run as ``event_json`` writes it, or of the queue.

    Attributes:
        seq: rises by one or more from each to the next, over all jobs and restarts.
        job: its id; empty for what concerns the queue as a whole.
        at: Unix seconds.
    """

    seq: int
    job: str
    at: float
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that an effect of a job left, whole.

    Attributes:
        id: what the API calls it. name: below the job's folder. node: the place of the node that wrote it.
        digest: blake3 of its bytes. facts: width, height, frames, fps, seconds, where somebody looked.
    """

    id: str
    job: str
    name: str
    node: str
    path: Path
    media_type: str
    nbytes: int
    digest: str
    facts: dict[str, float | None] = field(default_factory=dict[str, float | None])

    def to_json(self) -> dict[str, Any]:
        """As the API shows it."""
        facts = dict.fromkeys(("width", "height", "frames", "fps", "seconds")) | self.facts
        same = {name: getattr(self, name) for name in ("id", "name", "node", "media_type", "nbytes", "digest")}
        return same | facts


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """A job: what was asked for, where it stands, what came of it. Times are Unix seconds.

    Attributes:
        workflow: its JSON; None where many jobs are listed. wanted: the outputs that were asked for; None is all.
        attempts: how often it was begun. cancelling: somebody asked it to stop.
        values: small outputs by name. timings: by place of the node: seconds, nbytes, cached, and the pass
            after which a loop was cut; only in ``get``.
        error: path, node_type, message, hint, traceback, input, inputs. progress: path, done, total, seconds_left.
        position: how many jobs are before it in the queue.
        pack_folders: what it runs with. packs: name and version of these, as they were when it began.
        version, numerics: of Kineograph and torch, when it began.
    """

    id: str
    number: int
    state: State
    title: str
    tags: tuple[str, ...]
    starred: bool
    priority: int
    client: str
    created: float
    started: float | None
    ended: float | None
    seconds: float | None
    attempts: int
    max_attempts: int
    cancelling: bool
    inputs: dict[str, Any]
    wanted: tuple[str, ...] | None
    workflow: dict[str, Any] | None
    outputs: tuple[OutputFile, ...]
    values: dict[str, Any]
    error: dict[str, Any] | None
    timings: dict[str, Any]
    ran: int
    cached: int
    progress: dict[str, Any] | None
    position: int | None
    pack_folders: tuple[str, ...]
    packs: tuple[dict[str, str], ...]
    origin: dict[str, Any] | None
    version: str
    numerics: str

    def to_json(self) -> dict[str, Any]:
        """As the API shows it; without the workflow where there is none."""
        shown = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "pack_folders"}
        shown["outputs"] = [output.to_json() for output in self.outputs]
        if self.workflow is None:
            del shown["workflow"]
        return shown


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs of many. ``next`` is the cursor of the next page, empty on the last; ``total`` counts all that fit."""

    jobs: Sequence[JobInfo]
    next: str
    total: int


def failure(
    message: str,
    *,
    path: str = "",
    node_type: str = "",
    hint: str = "",
    traceback: str = "",
    wrong: str = "",
    inputs: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The ``error`` of a job.

    Args:
        message: the sentence that a person reads. hint: the way out.
        path, node_type, traceback: which node failed, and where in it.
        wrong: the input that is to blame, where one is. inputs: what the node was given, in a few words for each.
    """
    where = {"path": path, "node_type": node_type, "message": message, "hint": hint, "traceback": traceback}
    return where | {"input": wrong, "inputs": dict(inputs or {})}
