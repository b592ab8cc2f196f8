"""What the dispatcher does with jobs: begins one that waits, ends it, or puts it back. Runs nothing.

A job is begun and ended in one transaction each, which only one of all who ask can have: what ended is not begun again.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from kineograph.graph_runtime.jobs import search
from kineograph.graph_runtime.jobs.database import Database
from kineograph.graph_runtime.jobs.files import Found, file_id
from kineograph.graph_runtime.jobs.log import EventLog
from kineograph.graph_runtime.jobs.order import QUEUE
from kineograph.graph_runtime.jobs.records import State, failure
from kineograph.graph_runtime.jobs.rows import row_of, workflow_of


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that may be begun next. ``what`` is the digest of its workflow and the JSON of its inputs."""

    job: str
    priority: int
    firm: bool
    what: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A job that was begun, and how often. ``what`` is the digest of its workflow and the JSON of its inputs."""

    job: str
    number: int
    attempt: int
    what: tuple[str, str]
    workflow: dict[str, Any]
    inputs: dict[str, Any]
    wanted: tuple[str, ...] | None
    packs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job ended, and what came of it."""

    state: State
    error: dict[str, Any] | None = None
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    files: Sequence[Found] = ()
    ran: int = 0
    cached: int = 0


class Attempts:
    """Begins and ends jobs.

    Args:
        database, log: those of the queue.
        tell: says what happened to a job.
    """

    def __init__(self, database: Database, log: EventLog, tell: Callable[..., None]) -> None:
        self._database = database
        self._log = log
        self._tell = tell
        self.accepting = Lock()

    def recover(self) -> None:
        """What ran when the process was killed waits again, at its old place; it fails where it was begun too often."""

        def again(database: sqlite3.Connection) -> list[sqlite3.Row]:
            rows = database.execute("SELECT * FROM jobs WHERE state = 'running'").fetchall()
            return [_again(database, row, INTERRUPTED) for row in rows]

        for row in self._database.write(again, durable=True):
            self._told(row, INTERRUPTED)

    def waiting(self, most: int) -> list[Waiting]:
        """The jobs that come next, in order; none while the queue is paused."""
        with self._database.reading() as reader:
            rows = reader.execute(
                "SELECT id, priority, firm, workflow, inputs FROM jobs WHERE state = 'queued' "
                f"AND NOT (SELECT value FROM settings WHERE name = 'paused') ORDER BY {QUEUE} LIMIT ?",
                (most,),
            ).fetchall()
        return [
            Waiting(job, priority, bool(firm), (workflow, inputs)) for job, priority, firm, workflow, inputs in rows
        ]

    def workflow(self, digest: str) -> dict[str, Any]:
        """A workflow's JSON."""
        with self._database.reading() as reader:
            return workflow_of(reader, digest)

    def begin(self, job: str) -> Attempt | None:
        """Begin a job; None where it does not wait any more."""

        def start(database: sqlite3.Connection) -> Attempt | None:
            changed = database.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = ? "
                "WHERE id = ? AND state = 'queued' AND NOT (SELECT value FROM settings WHERE name = 'paused')",
                (time.time(), job),
            )
            return _attempt(database, row_of(database, job)) if changed.rowcount else None

        attempt = self._database.write(start)
        if attempt is not None:
            with self.accepting:  # that it waits is told before it begins
                self._log.begin(job, attempt.number)
            self._tell(job, attempt.number, "JobStarted", attempt=attempt.attempt)
        return attempt

    def note_versions(self, attempt: Attempt, version: str, numerics: str, packs: Sequence[Mapping[str, str]]) -> None:
        """Write down what a job runs with."""
        change = "UPDATE jobs SET version = ?, numerics = ?, packs = ? WHERE number = ?"
        values = (version, numerics, json.dumps(packs), attempt.number)
        self._database.later(lambda database: database.execute(change, values) and None, 0.0)

    def end(self, attempt: Attempt, ending: Ending) -> None:
        """Write down how a job ended; when this returns, it is not run again."""
        timings = self._log.timings(attempt.job)

        def finish(database: sqlite3.Connection) -> None:
            self._log.flush_all(database)
            row = row_of(database, attempt.job)
            end_row(database, row, ending.state, ending.error)
            database.execute(
                'UPDATE jobs SET "values" = ?, timings = ?, ran = ?, cached = ? WHERE number = ?',
                (json.dumps(ending.values), json.dumps(timings), ending.ran, ending.cached, attempt.number),
            )
            database.execute("DELETE FROM files WHERE number = ?", (attempt.number,))
            database.executemany(
                "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (file_id(attempt.job, file.name), attempt.number, file.name, file.node, file.media_type,
                     file.nbytes, file.digest)
                    for file in ending.files
                ],
            )  # fmt: skip

        self._database.write(finish, durable=True)
        self._log.end(attempt.job)
        self._tell(attempt.job, attempt.number, "JobEnded", state=ending.state, error=ending.error)

    def again(self, attempt: Attempt, died: str) -> None:
        """Its process died, in words: it waits again, or fails where it was begun too often."""

        def back(database: sqlite3.Connection) -> sqlite3.Row:
            self._log.flush_all(database)
            return _again(database, row_of(database, attempt.job), died)

        row = self._database.write(back, durable=True)
        self._log.end(attempt.job)
        self._told(row, died)

    def give_back(self, attempt: Attempt) -> None:
        """The dispatcher ends: the job waits again, as if it had not been begun this time.

        Where somebody asked it to stop meanwhile, that is its end.
        """

        def undo(database: sqlite3.Connection) -> sqlite3.Row:
            self._log.flush_all(database)
            row = row_of(database, attempt.job)
            if row["cancelling"]:
                end_row(database, row, "cancelled")
                return row_of(database, attempt.job)
            back = "UPDATE jobs SET state = 'queued', attempts = attempts - 1 WHERE number = ?"
            database.execute(back, (attempt.number,))
            return row_of(database, attempt.job)

        row = self._database.write(undo, durable=True)
        self._log.end(attempt.job)
        self._told(row)

    def cancelling(self, job: str) -> bool:
        """Whether somebody asked the job to stop."""
        with self._database.reading() as reader:
            return bool(row_of(reader, job)["cancelling"])

    def note_worker(self, lane: int, pid: int, born: str) -> None:
        """Write down which process works, so that a later life of the server can wait for its end."""
        note = "INSERT OR REPLACE INTO workers VALUES (?, ?, ?)"
        self._database.write(lambda database: database.execute(note, (lane, pid, born)) and None)

    def workers(self) -> list[tuple[int, str]]:
        """Number and birth of the processes that were noted."""
        with self._database.reading() as reader:
            return [(pid, born) for pid, born in reader.execute("SELECT pid, born FROM workers")]

    def forget_workers(self) -> None:
        """They are all gone."""
        self._database.write(lambda database: database.execute("DELETE FROM workers") and None)

    def _told(self, row: sqlite3.Row, died: str = "") -> None:
        """Tell where a job is now that runs no more, and, where its process died, in which words."""
        if row["state"] == "queued":
            reason = {"reason": died} if died else {}
            self._tell(row["id"], row["number"], "JobQueued", number=row["number"], **reason)
        else:
            error = json.loads(row["error"])
            self._tell(row["id"], row["number"], "JobEnded", state=row["state"], error=error)


INTERRUPTED = "The server ended while the job ran."


def end_row(database: sqlite3.Connection, row: sqlite3.Row, state: State, error: dict[str, Any] | None = None) -> None:
    """Write down that a job ended, now."""
    now = time.time()
    seconds = now - row["started"] if row["started"] is not None else 0.0
    database.execute(
        "UPDATE jobs SET state = ?, ended = ?, seconds = ?, error = ?, cancelling = 0 WHERE number = ?",
        (state, now, seconds, json.dumps(error), row["number"]),
    )
    if error is not None:
        search.index_job(database, row_of(database, row["id"]))


def _again(database: sqlite3.Connection, row: sqlite3.Row, died: str) -> sqlite3.Row:
    """Put a job back that ran, or end it; returns its new row."""
    deaths = [*json.loads(row["deaths"]), died]
    database.execute("UPDATE jobs SET deaths = ? WHERE number = ?", (json.dumps(deaths), row["number"]))
    if row["cancelling"]:
        end_row(database, row, "cancelled")
    elif row["attempts"] >= row["max_attempts"]:
        end_row(database, row, "failed", failure(_died(deaths), hint="Retry it if the reason is gone."))
    else:
        database.execute("UPDATE jobs SET state = 'queued' WHERE number = ?", (row["number"],))
    return row_of(database, row["id"])


def _died(deaths: Sequence[str]) -> str:
    """Why a job is not tried again, with each of its ends."""
    if len(deaths) == 1:
        return f"{deaths[0]} It was begun once, which is the limit."
    times = " ".join(f"{number}. {sentence}" for number, sentence in enumerate(deaths, 1))
    return f"It was begun {len(deaths)} times, which is the limit, and never came to its end. {times}"


def _attempt(database: sqlite3.Connection, row: sqlite3.Row) -> Attempt:
    wanted = json.loads(row["wanted"])
    return Attempt(
        row["id"],
        row["number"],
        row["attempts"],
        (row["workflow"], row["inputs"]),
        workflow_of(database, row["workflow"]),
        json.loads(row["inputs"]),
        None if wanted is None else tuple(wanted),
        tuple(json.loads(row["pack_folders"])),
    )
