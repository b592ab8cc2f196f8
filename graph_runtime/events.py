"""What a run tells its caller while it runs: frozen dataclasses, nothing else. Knows no listener."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_args


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins. ``total`` steps are planned, of which ``cached`` need not run."""

    total: int
    cached: int


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One of ``total`` runs of a workflow begins, with values of its own; it writes below a folder of its own."""

    number: int
    total: int
    values: dict[str, Any]
    folder: str


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A node begins. ``path`` is its place, ``node_type`` its id."""

    path: str
    node_type: str


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """A node or loop got on: ``done`` of ``total``, and the seconds left at this pace."""

    path: str
    done: int
    total: int
    seconds_left: float


@dataclass(frozen=True, slots=True)
class NodePreview:
    """How a value looks that a node made, or that a loop has after ``done`` passes: a PNG in base64."""

    path: str
    port: str
    done: int
    png: str


@dataclass(frozen=True, slots=True)
class NodeCached:
    """A node did not run: its outputs are still known under ``key``."""

    path: str
    node_type: str
    key: str


@dataclass(frozen=True, slots=True)
class NodeResumed:
    """A loop goes on from the state that an earlier run left after ``done`` of ``total`` passes."""

    path: str
    node_type: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class LoopCut:
    """A loop was asked to finish early, after ``done`` of ``total`` passes; what follows it runs with what it has."""

    path: str
    node_type: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class NotKept:
    """What a node made, or a loop's state, is not on disk. ``reason`` is a clause, with what follows from it."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class MemoryShort:
    """A node runs once more, or with its smaller setting. ``reason`` is a clause that says why and how."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunsAgain:
    """A node made what cannot be used, and runs once more in another way. ``reason`` is a clause: why, and how."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An output (``outputs.video``) or a node does not run. ``reason`` is a clause, with what is muted."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class BranchTaken:
    """A branch asks for its ``side``, ``then`` or ``else``; what that needs runs now."""

    path: str
    node_type: str
    side: str


@dataclass(frozen=True, slots=True)
class NodeFinished:
    """A node ended well after ``seconds``; its outputs hold ``nbytes``."""

    path: str
    node_type: str
    seconds: float
    nbytes: int


@dataclass(frozen=True, slots=True)
class Metric:
    """A number to plot: ``name`` at ``step``. ``path`` is the node that reported it."""

    path: str
    name: str
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class NodeNote:
    """A node tells people what they may not expect of its result. ``reason`` is a clause that says it."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class FileWritten:
    """An effect left a file."""

    path: str
    file: str


@dataclass(frozen=True, slots=True)
class EventsMissed:
    """Whoever reads was so slow that ``count`` events before the next one are gone; never the end of a run."""

    count: int


@dataclass(frozen=True, slots=True)
class NodeFailure:
    """A node raised; the run ends. ``message`` is the sentence a person reads, ``inputs`` what the node was given."""

    path: str
    node_type: str
    message: str
    inputs: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run ended well: how many nodes ran and were cached, its seconds, and the first outputs that are short."""

    ran: int
    cached: int
    seconds: float
    values: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class SweepFinished:
    """All ``total`` runs of a sweep ended, ``failed`` of them not well; ``file`` shows them beside each other."""

    total: int
    failed: int
    file: str


Event = (
    SweepRun
    | RunStarted
    | NodeStarted
    | NodeProgress
    | NodePreview
    | NodeCached
    | NodeResumed
    | LoopCut
    | NotKept
    | MemoryShort
    | RunsAgain
    | LeftOut
    | BranchTaken
    | NodeFinished
    | Metric
    | NodeNote
    | FileWritten
    | EventsMissed
    | NodeFailure
    | RunFinished
    | SweepFinished
)
Listener = Callable[[Event], None]
_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


def event_json(event: Event) -> dict[str, Any]:
    """An event as one JSON object: its fields, and its class as ``event``."""
    return {"event": type(event).__name__} | {field.name: getattr(event, field.name) for field in fields(event)}


def event_of(json: Mapping[str, Any]) -> Event:
    """The event that ``event_json`` wrote."""
    values = dict(json)
    return _KINDS[values.pop("event")](**values)
