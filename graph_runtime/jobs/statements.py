"""The SQL that writes jobs down and picks them out. Decides nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kineograph.graph_runtime.jobs import search
from kineograph.graph_runtime.jobs.records import STATES, JobConflict, State


def as_json(value: Any) -> str:
    """The text of a value.

    Raises:
        ValueError: JSON cannot hold it.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"A job is JSON, this one is not: {error}") from None


def each_once(tags: Sequence[str]) -> list[str]:
    """Each once, in the order given."""
    return list(dict.fromkeys(filter(None, map(str.strip, tags))))


def insert(database: sqlite3.Connection, values: Mapping[str, Any]) -> int:
    """A new job; returns its number."""
    names, marks = ", ".join(values), ", ".join("?" for _ in values)
    cursor = database.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", list(values.values()))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def update(database: sqlite3.Connection, number: int, **values: Any) -> None:
    """New values in a job's row."""
    if values:
        changes = ", ".join(f"{name} = ?" for name in values)
        database.execute(f"UPDATE jobs SET {changes} WHERE number = ?", (*values.values(), number))


def set_tags(database: sqlite3.Connection, number: int, tags: Sequence[str]) -> None:
    """The tags that a job is found by."""
    database.execute("DELETE FROM tags WHERE number = ?", (number,))
    database.executemany("INSERT INTO tags VALUES (?, ?)", [(tag, number) for tag in each_once(tags)])


def still_waiting(row: sqlite3.Row) -> sqlite3.Row:
    """The row itself.

    Raises:
        JobConflict: its job does not wait.
    """
    if row["state"] != "queued":
        raise JobConflict(f"Job {row['number']} does not wait in the queue, it is {row['state']}.")
    return row


def counted(database: sqlite3.Connection) -> dict[str, int]:
    """How many jobs are in each state."""
    counted = dict(database.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())
    return {state: counted.get(state, 0) for state in STATES}


def condition(
    database: sqlite3.Connection, states: Collection[State], words: str, tag: str, starred: bool | None
) -> tuple[str, list[Any]]:
    """What is true of the jobs that fit, as SQL with its values."""
    found, values = search.condition(database, words)
    sides: list[str] = [found]
    given: list[Any] = [*values]
    if states:
        sides.append(f"state IN ({', '.join('?' for _ in states)})")
        given += list(states)
    if tag:
        sides.append("number IN (SELECT number FROM tags WHERE tag = ?)")
        given.append(tag)
    if starred is not None:
        sides.append("starred = ?")
        given.append(starred)
    return " AND ".join(sides), given
