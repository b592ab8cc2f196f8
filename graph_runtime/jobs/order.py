"""Where in the queue a job stands: first by priority, then by rank. Integers far apart leave room between two.

Jobs that run keep their place: they may come back.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

GAP = 1 << 20
QUEUE = "priority DESC, rank, number"
ACTIVE = "FROM jobs WHERE state IN ('queued', 'running')"


class PlaceInQueue(NamedTuple):
    """``firm``: somebody wished it there, so no other job overtakes it for having its models in memory."""

    priority: int
    rank: int
    firm: bool = False


def last(database: sqlite3.Connection, priority: int) -> PlaceInQueue:
    """Behind all others of that priority."""
    (rank,) = database.execute(f"SELECT max(rank) {ACTIVE} AND priority = ?", (priority,)).fetchone()
    return PlaceInQueue(priority, (rank or 0) + GAP)


def first(database: sqlite3.Connection, priority: int) -> PlaceInQueue:
    """Before all others, at their priority if that is higher."""
    ahead = database.execute(f"SELECT * {ACTIVE} ORDER BY {QUEUE} LIMIT 1").fetchone()
    if ahead is None or ahead["priority"] < priority:
        return PlaceInQueue(priority, GAP, firm=True)
    return PlaceInQueue(ahead["priority"], ahead["rank"] - GAP, firm=True)


def move(database: sqlite3.Connection, job: sqlite3.Row, before: sqlite3.Row | None) -> None:
    """Put a waiting job right before another one, or behind all."""
    if before is None:
        others = f"SELECT min(priority) {ACTIVE} AND number <> ?"
        (priority,) = database.execute(others, (job["number"],)).fetchone()
        place = last(database, job["priority"] if priority is None else priority)
    else:
        place = _between(database, job["number"], before)
    change = "UPDATE jobs SET priority = ?, rank = ?, firm = ? WHERE number = ?"
    database.execute(change, (*place, job["number"]))


def _between(database: sqlite3.Connection, job: int, before: sqlite3.Row) -> PlaceInQueue:
    """The place right before another job."""
    (ahead,) = database.execute(
        f"SELECT max(rank) {ACTIVE} AND priority = ? AND number <> ? AND (rank, number) < (?, ?)",
        (before["priority"], job, before["rank"], before["number"]),
    ).fetchone()
    if ahead is None:
        return PlaceInQueue(before["priority"], before["rank"] - GAP, firm=True)
    if before["rank"] - ahead >= 2:
        return PlaceInQueue(before["priority"], (before["rank"] + ahead) // 2, firm=True)
    _spread(database)
    moved = database.execute("SELECT * FROM jobs WHERE number = ?", (before["number"],)).fetchone()
    return _between(database, job, moved)


def _spread(database: sqlite3.Connection) -> None:
    """New ranks for all, far apart, in the same order."""
    waiting = database.execute(f"SELECT number {ACTIVE} ORDER BY {QUEUE}").fetchall()
    ranks = [(GAP * (at + 1), number) for at, (number,) in enumerate(waiting)]
    database.executemany("UPDATE jobs SET rank = ? WHERE number = ?", ranks)
