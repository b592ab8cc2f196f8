"""The queue of jobs and their history, on disk: what ``submit`` accepted is there after a kill. Runs nothing.

A job waits, runs and ends: ``queued``, ``running``, then ``done``, ``failed`` or ``cancelled``. What runs it is in
``dispatch``. One process at a time has the folder.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kineograph.graph_runtime.errors import WorkflowError
from kineograph.graph_runtime.index import enter
from kineograph.graph_runtime.jobs import order, search
from kineograph.graph_runtime.jobs.attempts import Attempts, end_row
from kineograph.graph_runtime.jobs.database import Database
from kineograph.graph_runtime.jobs.log import EventLog
from kineograph.graph_runtime.jobs.records import (
    JobConflict,
    JobInfo,
    Logged,
    Order,
    OutputFile,
    Page,
    State,
    UnknownJob,
)
from kineograph.graph_runtime.jobs.rows import Reading, row_of
from kineograph.graph_runtime.jobs.schema import migrate
from kineograph.graph_runtime.jobs.series import Point
from kineograph.graph_runtime.jobs.statements import (
    as_json,
    condition,
    counted,
    each_once,
    insert,
    set_tags,
    still_waiting,
    update,
)
from kineograph.graph_runtime.keys import digest

SECONDS_TO_COUNT = 0.1


class FolderInUse(WorkflowError):
    """Another process has the queue of this folder."""


class Jobs:
    """The queue and the history of a folder; safe to use from any thread.

    Args:
        folder: ``jobs.sqlite`` lies there, and in ``outputs/<id>/`` what the effects of a job write.

    Raises:
        FolderInUse: another process has it.
        ValueError: a newer version of Kineograph wrote it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.outputs = folder / "outputs"
        alone, self._presence = enter(folder / "jobs.lock")
        if not alone:
            self._presence.close()
            raise FolderInUse(f"Another server has the queue in {folder}. End it, or name another folder.")
        try:
            self._database = Database(folder / "jobs.sqlite", _prepare)
        except BaseException:
            self._presence.close()
            raise
        self.event_log = EventLog(self._database)
        self._reading = Reading(self.outputs, self.event_log)
        self._counting = False
        self.attempts = Attempts(self._database, self.event_log, self._tell)
        self.attempts.recover()
        self._empty_trash()

    def close(self) -> None:
        """Write what is not on disk yet, and let another process have the folder."""
        self._database.close()
        self._presence.close()

    # --- what a person does

    def submit(
        self,
        workflow: dict[str, Any],
        inputs: dict[str, Any],
        *,
        outputs: Sequence[str] | None = None,
        priority: int = 0,
        front: bool = False,
        title: str = "",
        tags: Sequence[str] = (),
        client: str = "",
        packs: Sequence[str] = (),
        max_attempts: int = 3,
        origin: dict[str, Any] | None = None,
    ) -> JobInfo:
        """Put a job into the queue; when this returns, a power cut cannot take it away.

        Args:
            workflow, inputs: what to run, checked by the caller. outputs: which outputs to compute; all by default.
            priority: the higher goes first. front: before all that wait, whatever their priority.
            title, tags, client: what people find it by, and who asked.
            packs: folders of packs of nodes. max_attempts: how often it may be begun where its process dies.
            origin: what the caller wants to know of it later.

        Raises:
            ValueError: it is not JSON, or may not be begun at all.
        """
        if max_attempts < 1:
            raise ValueError(f"A job must be begun at least once; max_attempts is {max_attempts}.")
        job, text = secrets.token_hex(8), as_json(workflow)
        values = {
            "id": job, "state": "queued", "title": title, "tags": as_json(each_once(tags)), "client": client,
            "created": time.time(), "max_attempts": max_attempts, "workflow": digest(text), "inputs": as_json(inputs),
            "wanted": as_json(outputs), "pack_folders": as_json(list(packs)), "origin": as_json(origin),
        }  # fmt: skip

        def accept(database: sqlite3.Connection) -> int:
            place = order.last(database, priority) if not front else order.first(database, priority)
            database.execute("INSERT OR IGNORE INTO workflows VALUES (?, ?)", (values["workflow"], text))
            number = insert(database, values | place._asdict())
            set_tags(database, number, tags)
            search.index_job(database, row_of(database, job))
            return number

        with self.attempts.accepting:
            number = self._database.write(accept, durable=True)
            self._tell(job, number, "JobQueued", number=number, title=title)
        return self.get(job)

    def cancel(self, job: str) -> JobInfo:
        """Stop a job: one that waits at once, one that runs as soon as it can. One that ended stays as it is."""

        def stop(database: sqlite3.Connection) -> tuple[int, str]:
            row = row_of(database, job)
            if row["state"] == "queued":
                end_row(database, row, "cancelled")
            elif row["state"] == "running":
                database.execute("UPDATE jobs SET cancelling = 1 WHERE id = ?", (job,))
            return row["number"], row["state"]

        number, state = self._database.write(stop, durable=True)
        if state == "queued":
            self._tell(job, number, "JobEnded", state="cancelled", error=None)
        elif state == "running":
            self._tell(job, number, "JobChanged", cancelling=True)
        return self.get(job)

    def retry(self, job: str) -> JobInfo:
        """A new job that asks for the same as this one.

        Raises:
            UnknownJob: there is none.
        """
        same = self.get(job)
        assert same.workflow is not None
        return self.submit(
            same.workflow,
            same.inputs,
            outputs=same.wanted,
            priority=same.priority,
            title=same.title,
            tags=same.tags,
            client=same.client,
            packs=same.pack_folders,
            max_attempts=same.max_attempts,
            origin=(same.origin or {}) | {"retry_of": same.id},
        )

    def move(self, job: str, before: str | None) -> JobInfo:
        """Let a waiting job run before another one, with that one's priority; behind all others without one.

        Raises:
            JobConflict: one of them does not wait.
        """

        def place(database: sqlite3.Connection) -> int:
            row = still_waiting(row_of(database, job))
            if before is not None and before != job:
                order.move(database, row, still_waiting(row_of(database, before)))
            elif before is None:
                order.move(database, row, None)
            return row["number"]

        number = self._database.write(place, durable=True)
        self._tell(job, number, "JobChanged", moved=True)
        return self.get(job)

    def change(
        self,
        job: str,
        *,
        title: str | None = None,
        tags: Sequence[str] | None = None,
        starred: bool | None = None,
        priority: int | None = None,
    ) -> JobInfo:
        """Change what is given, and nothing else.

        Raises:
            JobConflict: a new priority for a job that does not wait.
        """

        def write(database: sqlite3.Connection) -> int:
            row = row_of(database, job)
            if priority is not None and priority != row["priority"]:
                place = order.last(database, priority)
                update(database, still_waiting(row)["number"], **place._asdict())
            new = {
                "title": title,
                "starred": starred,
                "tags": None if tags is None else as_json(each_once(tags)),
            }
            update(database, row["number"], **{name: value for name, value in new.items() if value is not None})
            if tags is not None:
                set_tags(database, row["number"], tags)
            search.index_job(database, row_of(database, job))
            return row["number"]

        number = self._database.write(write, durable=True)
        given = {"title": title, "tags": tags, "starred": starred, "priority": priority}
        self._tell(job, number, "JobChanged", **{name: value for name, value in given.items() if value is not None})
        return self.get(job)

    def delete(self, job: str) -> None:
        """Forget a job and the files that it wrote.

        Raises:
            JobConflict: it runs.
        """

        def remove(database: sqlite3.Connection) -> None:
            row = row_of(database, job)
            if row["state"] == "running":
                raise JobConflict(f"Job {row['number']} runs. Cancel it first.")
            search.forget(database, row["number"])
            database.execute("DELETE FROM jobs WHERE number = ?", (row["number"],))
            unused = (
                "DELETE FROM workflows WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE workflow = digest)"
            )
            database.execute(unused, (row["workflow"],))
            database.execute("INSERT OR IGNORE INTO trash VALUES (?)", (job,))

        self._database.write(remove, durable=True)
        self._empty_trash()
        self._tell(job, 0, "JobDeleted")

    @property
    def paused(self) -> bool:
        """Whether no job is begun; one that runs goes on."""
        with self._database.reading() as reader:
            return bool(reader.execute("SELECT value FROM settings WHERE name = 'paused'").fetchone()[0])

    def pause(self) -> None:
        """Begin no more jobs, also after a restart."""
        self._set_paused(True)

    def resume(self) -> None:
        """Begin jobs again."""
        self._set_paused(False)

    def _set_paused(self, paused: bool) -> None:
        change = "UPDATE settings SET value = ? WHERE name = 'paused'"
        self._database.write(lambda database: database.execute(change, (paused,)) and None, durable=True)
        self._tell_counts()

    # --- what a person reads

    def get(self, job: str) -> JobInfo:
        """All that is known of a job.

        Raises:
            UnknownJob: there is none.
        """
        with self._database.reading() as reader:
            return self._reading.one(reader, job)

    def list(
        self,
        *,
        states: Collection[State] = (),
        search: str = "",
        tag: str = "",
        starred: bool | None = None,
        order: Order = "newest",
        limit: int = 50,
        cursor: str = "",
    ) -> Page:
        """Some of the jobs that fit, without their workflows and timings.

        Args:
            states: all by default. search: words that stand in title, tags, inputs or error. tag: one they have.
            starred: those that are, or are not.
            order: the order ``queue`` is that in which jobs that wait will run.
            limit, cursor: how many, and ``next`` of the page before.

        Raises:
            ValueError: the cursor is none of this order.
        """
        with self._database.reading() as reader:
            where, values = condition(reader, states, search, tag, starred)
            return self._reading.page(reader, where, values, order, limit, cursor)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._database.reading() as reader:
            return counted(reader)

    def file(self, file_id: str) -> OutputFile:
        """A file that a job left.

        Raises:
            UnknownJob: there is none.
        """
        with self._database.reading() as reader:
            return self._reading.file(reader, file_id)

    def note_facts(self, file_id: str, facts: Mapping[str, float | None]) -> None:
        """Write down what somebody saw in a file: width, height, frames, fps, seconds."""
        values = (file_id, as_json(dict(facts)), file_id)
        change = "INSERT OR REPLACE INTO facts SELECT ?, ? WHERE EXISTS (SELECT 1 FROM files WHERE id = ?)"
        self._database.write(lambda database: database.execute(change, values) and None)
        with contextlib.suppress(UnknownJob):
            self._tell(self.file(file_id).job, 0, "JobChanged", outputs=True)

    def events(self, job: str, after: int = 0, limit: int = 1000) -> list[Logged]:
        """What happened to a job, the oldest first: of the progress of each node the newest.

        Raises:
            UnknownJob: there is none.
        """
        self._database.write(self.event_log.flush)
        with self._database.reading() as reader:
            rows = reader.execute(
                "SELECT seq, at, event FROM events WHERE number = ? AND seq > ? ORDER BY seq LIMIT ?",
                (row_of(reader, job)["number"], after, limit),
            )
            return [Logged(seq, job, at, json.loads(event)) for seq, at, event in rows]

    def log(self, after: int, jobs: Collection[str] | None = None, limit: int = 1000) -> list[Logged]:
        """What happened after an event, the oldest first, to these jobs or to all, as far as it is still in memory.

        Where ``after`` is below ``oldest_seq() - 1``, some of it is gone: read the jobs anew.
        """
        return self.event_log.since(after, jobs, limit)

    def oldest_seq(self) -> int:
        """The number of the oldest event that ``log`` still knows."""
        return self.event_log.oldest

    def last_seq(self) -> int:
        """The number of the newest event."""
        return self.event_log.last

    def metrics(self, job: str) -> dict[str, list[Point]]:
        """The numbers that a job plotted: ``path name`` -> [step, value], evenly thinned out.

        Raises:
            UnknownJob: there is none.
        """
        with self._database.reading() as reader:
            return self.event_log.metrics(job, row_of(reader, job)["number"], reader)

    # --- telling, and cleaning up

    def _tell(self, job: str, number: int, event: str, /, **more: Any) -> None:
        self.event_log.tell(job, number, {"event": event} | more)
        if not self._counting:
            self._counting = True
            self._database.later(lambda _: self._tell_counts(), SECONDS_TO_COUNT)

    def _tell_counts(self) -> None:
        self._counting = False
        self.event_log.tell("", 0, {"event": "QueueChanged", "counts": self.counts(), "paused": self.paused})

    def _empty_trash(self) -> None:
        """Remove the folders of deleted jobs, also what an earlier process did not get to."""
        with self._database.reading() as reader:
            names = [name for (name,) in reader.execute("SELECT folder FROM trash")]
        for name in names:
            shutil.rmtree(self.outputs / name, ignore_errors=True)
        removed = [(name,) for name in names]
        self._database.write(
            lambda database: database.executemany("DELETE FROM trash WHERE folder = ?", removed) and None
        )


def _prepare(database: sqlite3.Connection) -> None:
    migrate(database)
    search.prepare(database)
