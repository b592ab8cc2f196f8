"""Rows of the queue's tables as records, and the SQL that finds them. Changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kineograph.graph_runtime.jobs.log import EventLog, Running
from kineograph.graph_runtime.jobs.records import JobInfo, Order, OutputFile, Page, UnknownJob

ORDERS: Mapping[Order, tuple[str, ...]] = {
    "newest": ("number DESC",),
    "oldest": ("number",),
    "longest": ("seconds DESC", "number DESC"),
    "queue": ("priority DESC", "rank", "number"),
}

FEW = 4
"""For so many jobs each one's place is counted alone, which takes a quarter of the time of placing all."""
FILES = (
    "SELECT files.*, jobs.id AS job, facts.json AS facts FROM files JOIN jobs USING (number) "
    "LEFT JOIN facts ON facts.id = files.id"
)


def row_of(database: sqlite3.Connection, job: str) -> sqlite3.Row:
    """A job's row.

    Raises:
        UnknownJob: there is none with this id.
    """
    row = database.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
    if row is None:
        raise UnknownJob(f"There is no job {job}.")
    return row


def workflow_of(database: sqlite3.Connection, digest: str) -> dict[str, Any]:
    """A workflow's JSON."""
    return json.loads(database.execute("SELECT json FROM workflows WHERE digest = ?", (digest,)).fetchone()[0])


class Reading:
    """Makes records of rows.

    Args:
        outputs: the folder with a folder for each job.
        log: knows where jobs stand that run.
    """

    def __init__(self, outputs: Path, log: EventLog) -> None:
        self._outputs = outputs
        self._log = log

    def one(self, database: sqlite3.Connection, job: str) -> JobInfo:
        """All that is known of a job.

        Raises:
            UnknownJob: there is none with this id.
        """
        row = row_of(database, job)
        return self._infos(database, [row], workflow_of(database, row["workflow"]))[0]

    def page(
        self, database: sqlite3.Connection, where: str, values: Sequence[Any], order: Order, limit: int, cursor: str
    ) -> Page:
        """The jobs that fit, so many of them from a cursor on, and how many there are.

        Raises:
            ValueError: the cursor is none of this order.
        """
        (total,) = database.execute(f"SELECT count(*) FROM jobs WHERE {where}", values).fetchone()
        after, from_there = _after(order, cursor)
        rows = database.execute(
            f"SELECT * FROM jobs WHERE ({where}) AND {after} ORDER BY {', '.join(ORDERS[order])} LIMIT ?",
            [*values, *from_there, limit + 1],
        ).fetchall()
        more = len(rows) > limit
        rows = rows[:limit]
        return Page(self._infos(database, rows, None), _cursor(order, rows[-1]) if more and rows else "", total)

    def file(self, database: sqlite3.Connection, file_id: str) -> OutputFile:
        """A file that a job left.

        Raises:
            UnknownJob: there is none with this id.
        """
        row = database.execute(f"{FILES} WHERE files.id = ?", (file_id,)).fetchone()
        if row is None:
            raise UnknownJob(f"There is no file {file_id}.")
        return self._file(row)

    def _file(self, row: sqlite3.Row) -> OutputFile:
        return OutputFile(
            row["id"], row["job"], row["name"], row["node"], self._outputs / row["job"] / row["name"],
            row["media_type"], row["nbytes"], row["digest"], json.loads(row["facts"] or "{}"),
        )  # fmt: skip

    def _infos(
        self, database: sqlite3.Connection, rows: Sequence[sqlite3.Row], workflow: dict[str, Any] | None
    ) -> list[JobInfo]:
        numbers = [row["number"] for row in rows]
        files: dict[int, list[OutputFile]] = {number: [] for number in numbers}
        for file in database.execute(f"{FILES} WHERE number IN ({_marks(numbers)}) ORDER BY number, name", numbers):
            files[file["number"]].append(self._file(file))
        positions = _positions(database, [row for row in rows if row["state"] == "queued"])
        return [
            _info(row, workflow, files[row["number"]], positions.get(row["number"]), self._log.running(row["id"]))
            for row in rows
        ]


def _info(
    row: sqlite3.Row,
    workflow: dict[str, Any] | None,
    files: Sequence[OutputFile],
    position: int | None,
    running: Running | None,
) -> JobInfo:
    same = ("id", "number", "state", "title", "priority", "client", "created", "started", "ended",
            "attempts", "max_attempts", "ran", "cached", "version", "numerics")  # fmt: skip
    texts = ("inputs", "values", "error", "origin")
    timings = {} if workflow is None else json.loads(row["timings"]) if running is None else dict(running.timings)
    wanted = json.loads(row["wanted"])
    return JobInfo(
        **{name: row[name] for name in same},
        **{name: json.loads(row[name]) for name in texts},
        tags=tuple(json.loads(row["tags"])),
        starred=bool(row["starred"]),
        seconds=None if row["ended"] is None or row["started"] is None else row["seconds"],
        cancelling=bool(row["cancelling"]),
        wanted=None if wanted is None else tuple(wanted),
        workflow=workflow,
        outputs=tuple(files),
        timings=timings,
        progress=running.progress if running is not None else None,
        position=position,
        pack_folders=tuple(json.loads(row["pack_folders"])),
        packs=tuple(json.loads(row["packs"])),
    )


def _positions(database: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> dict[int, int]:
    """How many jobs are before each of these in the queue."""
    if len(rows) < FEW:
        return {row["number"]: _ahead(database, row) for row in rows}
    placed = (
        "SELECT number, row_number() OVER (ORDER BY priority DESC, rank, number) - 1 AS position "
        "FROM jobs WHERE state = 'queued'"
    )
    numbers = [row["number"] for row in rows]
    found = database.execute(f"SELECT number, position FROM ({placed}) WHERE number IN ({_marks(numbers)})", numbers)
    return dict(found.fetchall())


def _ahead(database: sqlite3.Connection, row: sqlite3.Row) -> int:
    waiting = "SELECT count(*) FROM jobs WHERE state = 'queued'"
    (more,) = database.execute(f"{waiting} AND priority > ?", (row["priority"],)).fetchone()
    same = (row["priority"], row["rank"], row["number"])
    return more + database.execute(f"{waiting} AND priority = ? AND (rank, number) < (?, ?)", same).fetchone()[0]


def _marks(values: Iterable[Any]) -> str:
    return ", ".join("?" for _ in values)


def _cursor(order: Order, row: sqlite3.Row) -> str:
    return json.dumps([row[column.partition(" ")[0]] for column in ORDERS[order]], separators=(",", ":"))


def _is_number(value: object) -> bool:
    """Whether SQLite can hold it: its integers have 64 bits."""
    return isinstance(value, (int, float)) and -(2.0**63) <= value < 2.0**63


def _after(order: Order, cursor: str) -> tuple[str, list[Any]]:
    """What is true of the rows behind a cursor, as SQL with its values."""
    if not cursor:
        return "1", []
    names = [column.partition(" ")[0] for column in ORDERS[order]]
    try:
        values: list[Any] = json.loads(cursor)
        if len(values) != len(names) or not all(map(_is_number, values)):
            raise ValueError
    except (ValueError, TypeError):
        raise ValueError(f"{cursor[:60]!r} is no cursor of the order {order!r}.") from None
    sides: list[str] = []
    given: list[Any] = []
    for at, column in enumerate(ORDERS[order]):
        sign = "<" if column.endswith(" DESC") else ">"
        sides.append("(" + " AND ".join([*(f"{name} = ?" for name in names[:at]), f"{names[at]} {sign} ?"]) + ")")
        given += [*values[:at], values[at]]
    return f"({' OR '.join(sides)})", given
