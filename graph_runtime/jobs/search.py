"""Finds jobs by words: every word of a search stands somewhere in a job's title, tags, inputs or error. Knows no job.

Words are parts of words, in small or capital letters, in any script. Where SQLite has FTS5, an index of trigrams
finds those of three letters and more; what it finds is what reading every text (``LIKE``) finds.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, cast

LONGEST = 20_000
"""Letters of a job that are searched."""
WORDS = 32
"""Words of a search that are looked at: SQLite has a limit of its own, and no sentence for it."""


def prepare(database: sqlite3.Connection) -> None:
    """Make the index where this SQLite can."""
    made = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'trigrams'").fetchone()
    if made is None and has_fts5(database):
        options = "tokenize = 'trigram', content = 'words', content_rowid = 'number'"
        database.execute(f"CREATE VIRTUAL TABLE trigrams USING fts5 (text, {options})")
        database.execute("INSERT INTO trigrams (trigrams) VALUES ('rebuild')")


def has_fts5(database: sqlite3.Connection) -> bool:
    """Whether this SQLite was built with FTS5 and its trigrams."""
    options = {name for (name,) in database.execute("PRAGMA compile_options")}
    return "ENABLE_FTS5" in options and sqlite3.sqlite_version_info >= (3, 34)


def index_job(database: sqlite3.Connection, row: sqlite3.Row) -> None:
    """Let a job be found by what its row says now."""
    number, error = row["number"], json.loads(row["error"])
    said = [row["title"], *(json.loads(row[name]) for name in ("tags", "inputs")), error and error["message"]]
    text = " ".join(_texts(said)).casefold()[:LONGEST]
    forget(database, number)
    database.execute("INSERT INTO words VALUES (?, ?)", (number, text))
    if has_fts5(database):
        database.execute("INSERT INTO trigrams (rowid, text) VALUES (?, ?)", (number, text))


def forget(database: sqlite3.Connection, number: int) -> None:
    """Let a job be found by nothing."""
    before = database.execute("SELECT text FROM words WHERE number = ?", (number,)).fetchone()
    if before is None:
        return
    if has_fts5(database):
        removed = "INSERT INTO trigrams (trigrams, rowid, text) VALUES ('delete', ?, ?)"
        database.execute(removed, (number, before[0]))
    database.execute("DELETE FROM words WHERE number = ?", (number,))


def condition(database: sqlite3.Connection, search: str) -> tuple[str, list[str]]:
    """What is true of the jobs that a search finds, as SQL with its values."""
    sides: list[str] = []
    values: list[str] = []
    for word in search.replace("\0", " ").casefold().split()[:WORDS]:
        if len(word) >= 3 and has_fts5(database):
            sides.append("number IN (SELECT rowid FROM trigrams WHERE text MATCH ?)")
            values.append('"' + word.replace('"', '""') + '"')
        else:
            sides.append("number IN (SELECT number FROM words WHERE instr(text, ?))")
            values.append(word)
    return " AND ".join(sides) or "1", values


def _texts(value: Any) -> Iterator[str]:
    """The texts and numbers that stand in a value of JSON."""
    if isinstance(value, dict):
        value = list(cast(dict[Any, Any], value).values())
    if isinstance(value, (list, tuple)):
        for each in cast(Iterable[Any], value):
            yield from _texts(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
