"""What happens to jobs, numbered: told to listeners at once, kept with the job in a bounded form. Knows no queue.

Of the progress of a node only the newest is kept, numbers to plot are thinned out evenly, and of the rest the newest
``EVENTS_KEPT`` of each job. What listeners missed they find among the last ``RECENT`` events of all jobs.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from kineograph.graph_runtime.jobs.database import Database
from kineograph.graph_runtime.jobs.records import Logged
from kineograph.graph_runtime.jobs.series import Point, Series

EVENTS_KEPT = 10_000
"""Of each job."""
RECENT = 20_000
"""Of all jobs together, in memory."""
SERIES_KEPT = 256
"""Names of numbers to plot, of each job."""
SECONDS_TO_DISK = 0.1
SECONDS_TO_DISK_METRICS = 2.0
SEQ_GAP = 1_000_000
"""Left out after a restart: more than can have been told and not written down when the process was killed."""
SILENT = frozenset({"NodePreview"})
"""Told to who listens, and kept nowhere."""


@dataclass(slots=True)
class Running:
    """What is known of a job while it runs."""

    number: int
    progress: dict[str, Any] | None = None
    timings: dict[str, Any] = field(default_factory=dict[str, Any])
    nodes: dict[str, str] = field(default_factory=dict[str, str])
    series: dict[str, Series] = field(default_factory=dict[str, Series])
    changed: set[str] = field(default_factory=set[str])


class EventLog:
    """The events of all jobs.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.RLock()
        self._seq = database.write(_begin_numbers)
        self._recent: deque[Logged] = deque(maxlen=RECENT)
        self._listeners: list[Callable[[Logged], None]] = []
        self._pending: list[tuple[int, Logged]] = []
        self._running: dict[str, Running] = {}
        self._flush_due = self._metrics_due = False

    # --- for who listens

    def subscribe(self, listener: Callable[[Logged], None]) -> Callable[[], None]:
        """Call a listener with every event from now on, in order; it must not wait. Returns what ends that."""
        with self._lock:
            self._listeners.append(listener)

        def leave() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return leave

    def since(self, after: int, jobs: Collection[str] | None, limit: int) -> list[Logged]:
        """The events with a higher number, the oldest first, as far as they are still in memory."""
        with self._lock:
            found = [each for each in self._recent if each.seq > after and (jobs is None or each.job in jobs)]
        return found[:limit]

    @property
    def last(self) -> int:
        """The number of the newest event, or one that is below that of the next."""
        return self._seq

    @property
    def oldest(self) -> int:
        """The lowest number that ``since`` still knows; the next one, where it knows none."""
        with self._lock:
            return self._recent[0].seq if self._recent else self._seq + 1

    # --- for the queue and the dispatcher

    def tell(self, job: str, number: int, event: dict[str, Any]) -> None:
        """Number an event, keep it and pass it on. ``number`` is the job's; 0 keeps nothing on disk."""
        event = _finite(event)
        with self._lock:
            self._seq += 1
            logged = Logged(self._seq, job, time.time(), event)
            kind = event["event"]
            running = self._running.get(job)
            if running is not None:
                _follow(running, event)
            if kind not in SILENT:
                self._recent.append(logged)
                if number and kind != "Metric":
                    self._pending.append((number, logged))
                self._schedule(metrics=kind == "Metric")
            for listener in list(self._listeners):
                self._call(listener, logged)

    def _call(self, listener: Callable[[Logged], None], logged: Logged) -> None:
        """Pass an event on; one who raises is not asked again, and hurts neither jobs nor other listeners."""
        try:
            listener(logged)
        except Exception:  # noqa: BLE001
            self._listeners.remove(listener)
            traceback.print_exc()

    def begin(self, job: str, number: int) -> None:
        """A job is about to run: follow it, from the numbers that an earlier attempt left."""
        with self._database.reading() as reader:
            rows = reader.execute("SELECT series, points FROM metrics WHERE number = ?", (number,)).fetchall()
            files = reader.execute("SELECT name, node FROM files WHERE number = ?", (number,)).fetchall()
        series = {name: Series.of_json(points, resumed=True) for name, points in rows}
        with self._lock:
            self._running[job] = Running(number, nodes=dict(files), series=series)

    def end(self, job: str) -> None:
        """A job runs no more, and what was told of it is on disk."""
        with self._lock:
            self._running.pop(job, None)

    def running(self, job: str) -> Running | None:
        """What is known of a job that runs."""
        return self._running.get(job)

    def nodes(self, job: str) -> dict[str, str]:
        """By name of a file that a job wrote, which runs: the node that did it."""
        running = self._running.get(job)
        return dict(running.nodes) if running is not None else {}

    def timings(self, job: str) -> dict[str, Any]:
        """By place of a node of a job that runs: seconds, bytes, and whether it was cached."""
        running = self._running.get(job)
        return dict(running.timings) if running is not None else {}

    def metrics(self, job: str, number: int, reader: sqlite3.Connection) -> dict[str, list[Point]]:
        """A job's numbers to plot."""
        with self._lock:
            running = self._running.get(job)
            if running is not None:
                return {name: series.points() for name, series in running.series.items()}
        rows = reader.execute("SELECT series, points FROM metrics WHERE number = ? ORDER BY series", (number,))
        return {name: Series.of_json(points).points() for name, points in rows}

    def flush_all(self, database: sqlite3.Connection) -> None:
        """Write all that was told and is not on disk yet; on the writer's thread."""
        self.flush(database)
        self.flush_metrics(database)

    def flush(self, database: sqlite3.Connection) -> None:
        """Write the events that are not on disk yet; on the writer's thread."""
        with self._lock:
            pending, self._pending = self._pending, []
            self._flush_due = False
            seq = self._seq
        database.execute("UPDATE settings SET value = ? WHERE name = 'seq'", (seq,))
        rows = [
            (logged.seq, number, logged.at, _slot(logged.event), json.dumps(logged.event, ensure_ascii=False), number)
            for number, logged in pending
        ]
        kept = "SELECT ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM jobs WHERE number = ?)"  # it may be deleted by now
        database.executemany(f"INSERT OR REPLACE INTO events {kept}", rows)
        written = [
            (event["id"], number, event["file"], event["path"], event["media_type"], event["nbytes"], number)
            for number, event in ((number, logged.event) for number, logged in pending)
            if "id" in event and event["event"] == "FileWritten"
        ]
        kept = "SELECT ?, ?, ?, ?, ?, ?, '' WHERE EXISTS (SELECT 1 FROM jobs WHERE number = ?)"
        database.executemany(f"INSERT OR REPLACE INTO files {kept}", written)
        for number in {number for number, _ in pending}:
            _shorten(database, number)

    def flush_metrics(self, database: sqlite3.Connection) -> None:
        """Write the numbers to plot that changed; on the writer's thread."""
        with self._lock:
            self._metrics_due = False
            rows = [
                (running.number, name, running.series[name].to_json())
                for running in self._running.values()
                for name in running.changed
            ]
            for running in self._running.values():
                running.changed.clear()
        database.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?)", rows)

    def _schedule(self, *, metrics: bool) -> None:
        if metrics and not self._metrics_due:
            self._metrics_due = True
            self._database.later(self.flush_metrics, SECONDS_TO_DISK_METRICS)
        elif not metrics and not self._flush_due:
            self._flush_due = True
            self._database.later(self.flush, SECONDS_TO_DISK)


def _begin_numbers(database: sqlite3.Connection) -> int:
    """The number before the first that this process gives; the next process begins higher, however this one ends."""
    database.execute("UPDATE settings SET value = value + ? WHERE name = 'seq'", (SEQ_GAP,))
    return int(database.execute("SELECT value FROM settings WHERE name = 'seq'").fetchone()[0])


def _follow(running: Running, event: dict[str, Any]) -> None:
    """Remember of an event what the job's record shows."""
    kind, path = event["event"], event.get("path", "")
    if kind == "NodeProgress":
        running.progress = {name: event[name] for name in ("path", "done", "total", "seconds_left")}
    elif kind == "NodeStarted":
        running.progress = {"path": path, "done": 0, "total": 0, "seconds_left": None}
    elif kind == "NodeFinished":
        timing = {"seconds": event["seconds"], "nbytes": event["nbytes"], "cached": False}
        running.timings[path] = running.timings.get(path, {}) | timing
    elif kind == "LoopCut":  # told before the loop is finished
        running.timings[path] = {"seconds": 0.0, "nbytes": 0, "cached": False, "cut": event["done"]}
    elif kind == "NodeCached":
        running.timings[path] = {"seconds": 0.0, "nbytes": 0, "cached": True}
    elif kind == "FileWritten":
        running.nodes[event["file"]] = path
    elif kind == "Metric":
        name = f"{path} {event['name']}"
        if name in running.series or len(running.series) < SERIES_KEPT:
            running.series.setdefault(name, Series()).add(event["step"], event["value"])
            running.changed.add(name)


def _slot(event: dict[str, Any]) -> str | None:
    """Of the events of a job with the same slot only the newest is kept."""
    return f"progress {event['path']}" if event["event"] == "NodeProgress" else None


def _shorten(database: sqlite3.Connection, number: int) -> None:
    """Let go of a job's oldest events where there are too many, and write in their place how many went."""
    (count,) = database.execute("SELECT count(*) FROM events WHERE number = ?", (number,)).fetchone()
    if count <= EVENTS_KEPT:
        return
    slot = (number, "missed")
    before = database.execute("SELECT event FROM events WHERE number = ? AND slot = ?", slot).fetchone()
    gone = json.loads(before[0])["count"] if before is not None else 0
    excess = count - EVENTS_KEPT + EVENTS_KEPT // 10
    oldest = database.execute(
        "SELECT seq, at FROM events WHERE number = ? AND slot IS NOT 'missed' ORDER BY seq LIMIT ?", (number, excess)
    ).fetchall()
    last, at = oldest[-1]
    database.execute("DELETE FROM events WHERE number = ? AND seq <= ?", (number, last))
    missed = json.dumps({"event": "EventsMissed", "count": gone + len(oldest)})
    database.execute("INSERT INTO events VALUES (?, ?, ?, 'missed', ?)", (last, number, at, missed))


def _finite(event: dict[str, Any]) -> dict[str, Any]:
    """The event as JSON can hold it: null where a number is none."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in event.items()
    }
