"""Outputs by key on disk, in two levels: key -> digest in an index, digest -> bytes in files. Knows no graph.

What was damaged is a miss, never a wrong value. A write that is cut off leaves nothing under a final name: temporary
file, fsync, rename, fsync of the folder, then the row. The cheapest to make again per byte go first, as in ``cache``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kineograph.graph_runtime.objects import Content, Damaged, all_files, fsync_folder, read

DEFAULT_BYTES = 20 * 10**9
MARK = "users.sqlite"
"""Stands in every store: nothing is swept in a folder without it. Its lock says whether somebody is there."""
SPARE_BYTES = 10**9
"""Left free on the disk."""
LEAST_SECONDS = 0.05
"""What was computed faster is not kept."""
BYTES_A_SECOND = 100e6
"""A careful guess of how fast a disk is: what takes longer to write than to compute is not kept."""
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
CREATE TABLE IF NOT EXISTS clock (now REAL NOT NULL);
"""


class StoreFault(Exception):
    """The store cannot do what it was asked; the message is a clause that says why."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of the index.

    Attributes:
        key: what the value is known by. nbytes: its size. seconds: what it took to compute.
        loop, done: the loop it is the state of, and after how many passes; empty and 0 for any other value.
        more: plain values that its writer added.
    """

    key: str
    nbytes: int
    seconds: float
    loop: str
    done: int
    more: dict[str, Any]


class Store:
    """A folder of outputs, safe to share among threads and processes.

    Args:
        folder: made where it is missing, for its owner alone.
        max_bytes: of all values together; less where the disk has not so much to spare.
        least_seconds: what took less to compute is not kept.

    Raises:
        StoreFault: the folder cannot be used.
    """

    def __init__(
        self, folder: Path | str, max_bytes: int = DEFAULT_BYTES, *, least_seconds: float = LEAST_SECONDS
    ) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self.least_seconds = least_seconds
        self._lock = threading.RLock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if any(self.folder.iterdir()) and not (self.folder / MARK).exists():
                raise StoreFault(f"the folder {self.folder} holds other things")
            alone, self._presence = _enter(self.folder / MARK)
            self._objects.mkdir(exist_ok=True, mode=0o700)
            self._index = _open_index(self.folder / "index.sqlite", alone)
            if alone:
                self._sweep()
            _stay(self._presence)
        except OSError as error:
            raise StoreFault(f"the folder {self.folder} cannot be used ({error.strerror})") from None
        except sqlite3.Error as error:
            raise StoreFault(f"the index in {self.folder} cannot be used ({error})") from None

    @property
    def _objects(self) -> Path:
        return self.folder / "objects"

    def _path(self, digest: str) -> Path:
        return self._objects / digest[:2] / f"{digest}.safetensors"

    def close(self) -> None:
        """Let go of the index; the last to leave lets the next sweep."""
        with self._lock:
            self._index.close()
            self._presence.close()

    # --- reading

    def get(self, key: str) -> tuple[tuple[Any, ...], Kept] | None:
        """The outputs of a key and its row; None where there are none, or where what lies there is damaged."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            rows = self._rows("WHERE key = ?", key)
            if not rows:
                return None
            digest, kept = rows[0]
            try:
                outputs = read(self._path(digest), digest)
            except (Damaged, FileNotFoundError):
                self._forget_object(digest)
                return None
            except Exception:  # noqa: BLE001  a changed class, a class that is not loaded, no memory: good for another
                return None
            with contextlib.suppress(sqlite3.Error), self._writing():
                self._index.execute(
                    "UPDATE results SET priority = ? + seconds / max(nbytes, 1) WHERE key = ?", (self._now(), key)
                )
            return outputs, kept
        return None

    def passes(self, loop: str, most: int) -> list[Kept]:
        """The kept states of a loop after at most so many passes, the newest first."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            return [kept for _, kept in self._rows("WHERE loop = ? AND done <= ? ORDER BY done DESC", loop, most)]
        return []

    def rows(self) -> list[Kept]:
        """All that is kept, what would go first standing first."""
        with self._lock:
            return [kept for _, kept in self._rows("ORDER BY priority")]

    def used(self) -> int:
        """The bytes of all values together."""
        with self._lock:
            return int(self._index.execute("SELECT coalesce(sum(nbytes), 0) FROM objects").fetchone()[0])

    def _rows(self, where: str, *values: Any) -> list[tuple[str, Kept]]:
        columns = "digest, key, nbytes, seconds, loop, done, more"
        rows = self._index.execute(f"SELECT {columns} FROM results {where}", values).fetchall()  # noqa: S608  constants
        return [(digest, Kept(*rest, more=json.loads(more))) for digest, *rest, more in rows]

    # --- writing

    def worth(self, seconds: float) -> bool:
        """Whether what took so long to compute may be kept at all."""
        return seconds >= self.least_seconds

    def agreed(self, due: bool) -> bool:
        """Whether it is time to keep a state; where several processes share the store, all hear the same."""
        return due

    def put(
        self,
        key: str,
        outputs: tuple[Any, ...],
        seconds: float,
        *,
        loop: str = "",
        done: int = 0,
        more: dict[str, Any] | None = None,
        always: bool = False,
    ) -> int:
        """Keep outputs; others go where the bytes do not suffice.

        Args:
            key: what they are known by.
            outputs: of one step.
            seconds: what they took to compute.
            loop, done, more: see :class:`Kept`.
            always: keep also what takes longer to write than to compute.

        Returns:
            Their bytes on the disk; 0 where they are not kept.

        Raises:
            CannotKeep: a value has no codec.
            StoreFault: there is no room, or the disk refuses.
        """
        content = Content(outputs)
        if not always and seconds < content.nbytes / BYTES_A_SECOND:
            return 0
        row = (key, content.digest, content.nbytes, seconds, loop, done, json.dumps(more or {}))
        try:
            with self._lock:
                self._put(row, content)
        except OSError as error:
            raise StoreFault(f"{self.folder} cannot be written ({error.strerror})") from None
        except sqlite3.Error as error:
            raise StoreFault(f"the index in {self.folder} cannot be written ({error})") from None
        return content.nbytes

    def _put(self, row: tuple[Any, ...], content: Content) -> None:
        _, digest, nbytes, seconds, *_ = row
        path = self._path(digest)
        there = path.is_file() and path.stat().st_size == nbytes
        temporary = None if there else self._write(content)
        try:
            with self._writing():
                self._make_room(nbytes, digest)
                if temporary is not None:
                    path.parent.mkdir(mode=0o700, exist_ok=True)
                    os.replace(temporary, path)
                    fsync_folder(path.parent)
                elif not path.is_file():
                    raise StoreFault("another process removed it in the same moment")
                self._index.execute("INSERT OR REPLACE INTO objects VALUES (?, ?)", (digest, nbytes))
                before = self._index.execute("SELECT digest FROM results WHERE key = ?", row[:1]).fetchone()
                priority = self._now() + seconds / max(nbytes, 1)
                self._index.execute(
                    "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row[:4], priority, *row[4:])
                )
                if before is not None and before[0] != digest:
                    self._drop_unnamed(before[0])
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def _write(self, content: Content) -> Path:
        limit = self._limit()
        if content.nbytes > limit:
            short = "" if limit == self.max_bytes else f", so that {SPARE_BYTES / 1e6:,.0f} MB of the disk stay free"
            has, room = (f"{nbytes / 1e6:,.1f} MB" for nbytes in (content.nbytes, limit))
            raise StoreFault(f"it has {has}, the store has room for {room}{short}")
        return content.write(self._objects)

    def _limit(self) -> int:
        """The bytes that all values may have: so many that the disk keeps some to spare."""
        return max(0, min(self.max_bytes, self.used() + shutil.disk_usage(self.folder).free - SPARE_BYTES))

    def _make_room(self, nbytes: int, digest: str) -> None:
        known = self._index.execute("SELECT nbytes FROM objects WHERE digest = ?", (digest,)).fetchone()
        self.prune(max(0, self._limit() - (0 if known else nbytes)))

    def prune(self, max_bytes: int) -> int:
        """Let values go until at most so many bytes are left; returns how many went."""
        gone = 0
        with self._lock, self._writing():
            used = self.used()
            while used > max_bytes:
                first = self._index.execute("SELECT key, digest, priority FROM results ORDER BY priority").fetchone()
                if first is None:
                    break
                key, digest, priority = first
                self._index.execute("DELETE FROM results WHERE key = ?", (key,))
                self._index.execute("UPDATE clock SET now = max(now, ?)", (priority,))
                used -= self._drop_unnamed(digest)
                gone += 1
        return gone

    def forget(self, loop: str, below: int) -> None:
        """Let go of the states of a loop after fewer than so many passes."""
        with self._lock, contextlib.suppress(sqlite3.Error, OSError), self._writing():
            rows = self._index.execute("SELECT key, digest FROM results WHERE loop = ? AND done < ?", (loop, below))
            for key, digest in rows.fetchall():
                self._index.execute("DELETE FROM results WHERE key = ?", (key,))
                self._drop_unnamed(digest)

    def _forget_object(self, digest: str) -> None:
        with contextlib.suppress(sqlite3.Error, OSError), self._writing():
            self._index.execute("DELETE FROM results WHERE digest = ?", (digest,))
            self._drop_unnamed(digest)

    def _drop_unnamed(self, digest: str) -> int:
        """Remove the bytes that no key leads to any more; returns how many they were."""
        if self._index.execute("SELECT 1 FROM results WHERE digest = ?", (digest,)).fetchone():
            return 0
        found = self._index.execute("SELECT nbytes FROM objects WHERE digest = ?", (digest,)).fetchone()
        self._index.execute("DELETE FROM objects WHERE digest = ?", (digest,))
        self._path(digest).unlink(missing_ok=True)
        return int(found[0]) if found else 0

    def _now(self) -> float:
        """The clock of GreedyDual-Size: the priority of the last that went."""
        return float(self._index.execute("SELECT now FROM clock").fetchone()[0])

    @contextlib.contextmanager
    def _writing(self) -> Generator[None]:
        """A transaction that no other process interleaves with; within one, part of it."""
        if self._index.in_transaction:
            yield
            return
        self._index.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._index.execute("ROLLBACK")
            raise
        self._index.execute("COMMIT")

    def _sweep(self) -> None:
        """Remove what a killed process left: temporary files, bytes without rows, rows without bytes."""
        with self._writing():
            known = dict(self._index.execute("SELECT digest, nbytes FROM objects").fetchall())
            found: set[str] = set()
            for path in all_files(self._objects):
                digest = path.stem
                if path == self._path(digest) and known.get(digest) == path.stat().st_size:
                    found.add(digest)
                elif path.suffix in (".tmp", ".safetensors"):
                    path.unlink(missing_ok=True)
            for digest in set(known) - found:
                self._index.execute("DELETE FROM objects WHERE digest = ?", (digest,))
                self._index.execute("DELETE FROM results WHERE digest = ?", (digest,))


# --- the index


def _open_index(path: Path, alone: bool) -> sqlite3.Connection:
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


def _enter(path: Path) -> tuple[bool, sqlite3.Connection]:
    """Whether no other process is in the store. SQLite's lock on a file says so: it ends with the process."""
    presence = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
    try:
        presence.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        return False, presence
    return True, presence


def _stay(presence: sqlite3.Connection) -> None:
    """Hold a shared lock, so that nobody sweeps while this process is in the store."""
    if presence.in_transaction:
        presence.execute("COMMIT")
    presence.execute(f"PRAGMA busy_timeout = {WAIT_SECONDS * 1000:.0f}")
    presence.execute("BEGIN")
    presence.execute("SELECT count(*) FROM sqlite_master").fetchone()
