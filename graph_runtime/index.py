"""The SQLite files of a store: what lies there, opened or begun anew, and who is there. Knows no values."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

WAIT_SECONDS = 10.0
"""How long another process's transaction is waited for."""
NOT_THE_FILE = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
}  # fmt: skip
"""Errors that another file in its place would meet too."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, digest TEXT NOT NULL, nbytes INTEGER NOT NULL, seconds REAL NOT NULL, priority REAL NOT NULL,
    loop TEXT NOT NULL, done INTEGER NOT NULL, more TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_digest ON results (digest);
CREATE INDEX IF NOT EXISTS by_priority ON results (priority);
CREATE INDEX IF NOT EXISTS by_loop ON results (loop, done);
CREATE TABLE IF NOT EXISTS objects (digest TEXT PRIMARY KEY, nbytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS shards (digest TEXT NOT NULL, shard TEXT NOT NULL, PRIMARY KEY (digest, shard));
CREATE INDEX IF NOT EXISTS by_shard ON shards (shard);
CREATE TABLE IF NOT EXISTS clock (now REAL NOT NULL);
"""


def open_index(path: Path, alone: bool) -> sqlite3.Connection:
    """The index; one that is no index any more is begun anew where nobody else uses it."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if not alone or error.sqlite_errorcode & 0xFF in NOT_THE_FILE:
            raise
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    """The index, opened; to change its journal SQLite does not wait for others who do the same, so we do."""
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return _opened(path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.02)


def _opened(path: Path) -> sqlite3.Connection:
    index = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        index.execute("PRAGMA journal_mode = WAL")
        index.execute("PRAGMA synchronous = NORMAL")
        index.executescript(SCHEMA)
        index.execute("INSERT INTO clock SELECT 0.0 WHERE NOT EXISTS (SELECT 1 FROM clock)")
        index.execute("SELECT count(*) FROM results JOIN objects USING (digest)").fetchone()
    except BaseException:
        index.close()
        raise
    return index


def enter(path: Path) -> tuple[bool, sqlite3.Connection]:
    """Whether no other process is in the store. SQLite's lock on a file says so: it ends with the process."""
    presence = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
    try:
        presence.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        return False, presence
    return True, presence


def stay(presence: sqlite3.Connection) -> None:
    """Hold a shared lock, so that nobody sweeps while this process is in the store."""
    if presence.in_transaction:
        presence.execute("COMMIT")
    presence.execute(f"PRAGMA busy_timeout = {WAIT_SECONDS * 1000:.0f}")
    presence.execute("BEGIN")
    presence.execute("SELECT count(*) FROM sqlite_master").fetchone()
