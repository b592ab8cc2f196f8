"""Outputs by key on disk, in two levels: key -> digest in an index, digest -> bytes in files. Knows no graph.

What was damaged is a miss, never a wrong value. A write that is cut off leaves nothing under a final name: temporary
file, fsync, rename, fsync of the folder, then the row. The cheapest to make again per byte go first, as in ``cache``.
A value may have shards, files that several processes wrote before its own: they stay and go with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kineograph.files import sync_folder
from kineograph.graph_runtime.index import enter, open_index, stay
from kineograph.graph_runtime.objects import Content, Damaged, Shard, all_files, outline, read

DEFAULT_BYTES = 20 * 10**9
MARK = "users.sqlite"
"""Stands in every store: nothing is swept in a folder without it. Its lock says whether somebody is there."""
SPARE_BYTES = 10**9
"""Left free on the disk."""
LEAST_SECONDS = 0.05
"""What was computed faster is not kept."""
BYTES_A_SECOND = 100e6
"""A careful guess of how fast a disk is: what takes longer to write than to compute is not kept."""


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
            alone, self._presence = enter(self.folder / MARK)
            self._objects.mkdir(exist_ok=True, mode=0o700)
            self._index = open_index(self.folder / "index.sqlite", alone)
            if alone:
                self._sweep()
            stay(self._presence)
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
        return self.get_part(key, 0, 1)

    def get_part(self, key: str, part: int, parts: int) -> tuple[tuple[Any, ...], Kept] | None:
        """What ``get`` gives, but of numbers in shards the rows of one of several processes.

        Args:
            key: what the outputs are known by.
            part: which process reads.
            parts: how many read.
        """
        with self._lock, contextlib.suppress(sqlite3.Error):
            rows = self._rows("WHERE key = ?", key)
            if not rows:
                return None
            digest, kept = rows[0]
            try:
                outputs = read(self._path, digest, part, parts)
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

    def outline(self, key: str) -> tuple[Any, ...] | None:
        """The outputs of a key but for the numbers in them, of which none is read; None as for ``get``."""
        with self._lock, contextlib.suppress(Exception):
            rows = self._rows("WHERE key = ?", key)
            return outline(self._path(rows[0][0])) if rows else None
        return None

    def passes(self, loop: str, most: int) -> list[Kept]:
        """The kept states of a loop after at most so many passes, the newest first."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            return [kept for _, kept in self._rows("WHERE loop = ? AND done <= ? ORDER BY done DESC", loop, most)]
        return []

    def newest(self, path: str) -> Kept | None:
        """The row that was written last of the results of a node with this path, whatever their keys."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            where = "WHERE loop = '' AND json_extract(more, '$.path') = ? ORDER BY rowid DESC LIMIT 1"
            return next((kept for _, kept in self._rows(where, path)), None)
        return None

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
        shards: Sequence[tuple[str, int]] = (),
    ) -> int:
        """Keep outputs; others go where the bytes do not suffice.

        Args:
            key: what they are known by.
            outputs: of one step.
            seconds: what they took to compute.
            loop, done, more: see :class:`Kept`.
            always: keep also what takes longer to write than to compute.
            shards: what ``shard`` gave each process.

        Returns:
            Their bytes on the disk; 0 where they are not kept.

        Raises:
            CannotKeep: a value has no codec.
            StoreFault: there is no room, or the disk refuses.
        """
        content = Content(outputs, [digest for digest, _ in shards])
        nbytes = content.nbytes + sum(dict(shards).values())
        if not always and seconds < nbytes / BYTES_A_SECOND:
            return 0
        row = (key, content.digest, nbytes, seconds, loop, done, json.dumps(more or {}))
        with self._refusals(), self._lock:
            self._put(row, content, shards)
        return nbytes

    @contextlib.contextmanager
    def shard(self, outputs: tuple[Any, ...]) -> Generator[tuple[str, int] | None]:
        """Write this process's rows of the numbers that several processes share out, so that one of them can ``put``.

        Until then nothing goes for it: the state before stays. Without a ``put`` it goes again.

        Args:
            outputs: of one step.

        Returns:
            Digest and bytes of the file, as ``put`` wants them; None where no numbers are shared out.

        Raises:
            CannotKeep: a value has no codec.
            StoreFault: there is no room, or the disk refuses.
        """
        shard = Shard(outputs)
        if shard.empty:
            yield None
            return
        with self._refusals(), self._lock:
            temporary = self._new(shard)
            if temporary is not None:
                self._rename(temporary, shard.digest)
        try:
            yield shard.digest, shard.nbytes
        finally:
            with self._lock, contextlib.suppress(sqlite3.Error, OSError), self._writing():
                self._drop_unnamed(shard.digest)

    def _put(self, row: tuple[Any, ...], content: Content, shards: Sequence[tuple[str, int]]) -> None:
        _, digest, nbytes, seconds, *_ = row
        sizes = dict(shards)
        files = {digest: content.nbytes, **sizes}
        here = sum(sizes.values())
        self._check_room(content.nbytes + here, here)
        temporary = self._new(content)
        try:
            with self._writing():
                self._make_room(files, here)
                if temporary is not None:
                    self._rename(temporary, digest)
                if not all(self._path(each).is_file() for each in files):
                    raise StoreFault("another process removed it in the same moment")
                self._index.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?)", files.items())
                self._index.executemany(
                    "INSERT OR IGNORE INTO shards VALUES (?, ?)", [(digest, shard) for shard in sizes]
                )
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

    def _new(self, content: Content) -> Path | None:
        """A temporary file of the bytes; None where they lie here already."""
        path = self._path(content.digest)
        if path.is_file() and path.stat().st_size == content.nbytes:
            return None
        self._check_room(content.nbytes)
        return content.write(self._objects)

    def _rename(self, temporary: Path, digest: str) -> None:
        path = self._path(digest)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        os.replace(temporary, path)
        sync_folder(path.parent)

    def _check_room(self, nbytes: int, here: int = 0) -> None:
        limit = self._limit(here)
        if nbytes > limit:
            short = "" if limit == self.max_bytes else f", so that {SPARE_BYTES / 1e6:,.0f} MB of the disk stay free"
            has, room = (f"{size / 1e6:,.1f} MB" for size in (nbytes, limit))
            raise StoreFault(f"it has {has}, the store has room for {room}{short}")

    @contextlib.contextmanager
    def _refusals(self) -> Generator[None]:
        """What the disk and the index refuse, as a sentence."""
        try:
            yield
        except OSError as error:
            raise StoreFault(f"{self.folder} cannot be written ({error.strerror})") from None
        except sqlite3.Error as error:
            raise StoreFault(f"the index in {self.folder} cannot be written ({error})") from None

    def _limit(self, here: int) -> int:
        """The bytes that all values may have: so many that the disk keeps some to spare.

        Args:
            here: bytes on the disk that are in no row yet.
        """
        return max(0, min(self.max_bytes, self.used() + here + shutil.disk_usage(self.folder).free - SPARE_BYTES))

    def _make_room(self, files: dict[str, int], here: int) -> None:
        """Let values go until new files fit; sizes by digest."""
        new = sum(nbytes for digest, nbytes in files.items() if not self._known(digest))
        self.prune(max(0, self._limit(here) - new))

    def _known(self, digest: str) -> int:
        """The bytes of a file that the index knows, else 0."""
        found = self._index.execute("SELECT nbytes FROM objects WHERE digest = ?", (digest,)).fetchone()
        return int(found[0]) if found else 0

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
        """Remove a file that neither key nor value leads to any more, and its shards; returns their bytes."""
        named = "SELECT 1 FROM results WHERE digest = ? UNION SELECT 1 FROM shards WHERE shard = ?"
        if self._index.execute(named, (digest, digest)).fetchone():
            return 0
        nbytes = self._known(digest)
        shards = self._index.execute("SELECT shard FROM shards WHERE digest = ?", (digest,)).fetchall()
        self._index.execute("DELETE FROM shards WHERE digest = ?", (digest,))
        self._index.execute("DELETE FROM objects WHERE digest = ?", (digest,))
        self._path(digest).unlink(missing_ok=True)
        return nbytes + sum(self._drop_unnamed(shard) for (shard,) in shards)

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
                values = self._index.execute("SELECT digest FROM shards WHERE shard = ?", (digest,)).fetchall()
                for value in {digest, *(value for (value,) in values)}:
                    self._index.execute("DELETE FROM results WHERE digest = ?", (value,))
                    self._drop_unnamed(value)
