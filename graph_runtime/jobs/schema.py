"""The tables of the queue's database, as numbered steps from nothing to today's. Knows no job."""

from __future__ import annotations

import sqlite3

MIGRATIONS: tuple[str, ...] = (
    # 1: all there is
    """
    CREATE TABLE workflows (digest TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
        title TEXT NOT NULL,
        tags TEXT NOT NULL,
        starred INTEGER NOT NULL DEFAULT 0,
        priority INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        firm INTEGER NOT NULL,
        client TEXT NOT NULL,
        created REAL NOT NULL,
        started REAL,
        ended REAL,
        seconds REAL NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        max_attempts INTEGER NOT NULL,
        cancelling INTEGER NOT NULL DEFAULT 0,
        workflow TEXT NOT NULL REFERENCES workflows (digest),
        inputs TEXT NOT NULL,
        wanted TEXT NOT NULL,
        pack_folders TEXT NOT NULL,
        packs TEXT NOT NULL DEFAULT '[]',
        origin TEXT NOT NULL,
        version TEXT NOT NULL DEFAULT '',
        numerics TEXT NOT NULL DEFAULT '',
        deaths TEXT NOT NULL DEFAULT '[]',
        error TEXT NOT NULL DEFAULT 'null',
        "values" TEXT NOT NULL DEFAULT '{}',
        timings TEXT NOT NULL DEFAULT '{}',
        ran INTEGER NOT NULL DEFAULT 0,
        cached INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX jobs_queue ON jobs (state, priority DESC, rank, number);
    CREATE INDEX jobs_active ON jobs (priority DESC, rank, number) WHERE state IN ('queued', 'running');
    CREATE INDEX jobs_state ON jobs (state, number);
    CREATE INDEX jobs_longest ON jobs (seconds, number);
    CREATE INDEX jobs_workflow ON jobs (workflow);
    CREATE TABLE words (number INTEGER PRIMARY KEY REFERENCES jobs (number) ON DELETE CASCADE, text TEXT NOT NULL);
    CREATE TABLE tags (
        tag TEXT NOT NULL, number INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
        PRIMARY KEY (tag, number)) WITHOUT ROWID;
    CREATE INDEX tags_number ON tags (number);
    CREATE TABLE files (
        id TEXT PRIMARY KEY, number INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
        name TEXT NOT NULL, node TEXT NOT NULL, media_type TEXT NOT NULL,
        nbytes INTEGER NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE facts (id TEXT PRIMARY KEY REFERENCES files (id) ON DELETE CASCADE, json TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX files_number ON files (number, name);
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY, number INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
        at REAL NOT NULL, slot TEXT, event TEXT NOT NULL);
    CREATE INDEX events_number ON events (number, seq);
    CREATE UNIQUE INDEX events_slot ON events (number, slot) WHERE slot IS NOT NULL;
    CREATE TABLE metrics (
        number INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE, series TEXT NOT NULL, points TEXT NOT NULL,
        PRIMARY KEY (number, series)) WITHOUT ROWID;
    CREATE TABLE workers (lane INTEGER PRIMARY KEY, pid INTEGER NOT NULL, born TEXT NOT NULL);
    CREATE TABLE trash (folder TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO settings VALUES ('paused', 0), ('seq', 0);
    """,
)


def migrate(database: sqlite3.Connection) -> None:
    """Bring a database to today's tables, each step in a transaction of its own.

    Raises:
        ValueError: a newer version wrote it.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise ValueError(
            f"The queue was written by a newer version of Kineograph (format {version}, this one reads up to "
            f"{len(MIGRATIONS)}). Install that version, or begin with another folder."
        )
    for number, step in enumerate(MIGRATIONS[version:], version + 1):
        database.executescript(f"BEGIN IMMEDIATE; {step}; PRAGMA user_version = {number}; COMMIT;")
