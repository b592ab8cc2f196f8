"""One SQLite file: a thread that writes, many that read. Knows no table.

What is written together is committed together, so a burst of submissions shares one fsync. A commit that somebody
relies on (``durable``) waits for the disk (synchronous = FULL); progress does not: it survives a kill of the process,
not a power cut.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kineograph.graph_runtime.index import WAIT_SECONDS

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


@dataclass(frozen=True, slots=True)
class _Item:
    work: Work[Any]
    durable: bool
    future: Future[Any] | None
    due: float = 0.0


class Database:
    """The file, open until ``close``.

    Args:
        path: the file; its folder is there.
        prepare: called with the connection first of all, to make tables.
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._writer = _open(path)
        try:
            self._writer.execute("PRAGMA journal_mode = WAL")
            prepare(self._writer)
            self._reader = _open(path)
            self._reader.execute("PRAGMA query_only = ON")
        except BaseException:
            self._writer.close()
            raise
        self._reading = threading.Lock()
        self._thread = threading.Thread(target=self._write, name="kineograph-jobs-writer", daemon=True)
        self._thread.start()

    def write(self, work: Work[T], *, durable: bool = False) -> T:
        """Do work in a transaction and return what it returns, committed.

        Raises:
            Exception: whatever the work raised, and then nothing of it is written.
        """
        future: Future[T] = Future()
        self._items.put(_Item(work, durable, future))
        return future.result()

    def later(self, work: Work[None], seconds: float) -> None:
        """Do work after so many seconds; nobody waits for it, and what it raises is lost."""
        self._items.put(_Item(work, durable=False, future=None, due=time.monotonic() + seconds))

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """The reader's connection, for one thread at a time; all it reads is of one moment."""
        with self._reading:
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("COMMIT")

    def close(self) -> None:
        """Write what is due, now or later, and close the file."""
        self._items.put(None)
        self._thread.join()
        with self._reading:
            self._reader.close()
        self._writer.close()

    # --- the writer's thread

    def _write(self) -> None:
        delayed: list[_Item] = []
        closing = False
        while not closing:
            batch: list[_Item] = []
            for item in self._waited(min((each.due for each in delayed), default=None)):
                closing = closing or item is None
                if item is not None:
                    (delayed if item.due else batch).append(item)
            now = time.monotonic()
            due = [item for item in delayed if closing or item.due <= now]
            delayed = [item for item in delayed if item not in due]
            self._commit(batch + due)

    def _waited(self, until: float | None) -> Iterator[_Item | None]:
        """All that came, after waiting for the first."""
        with suppress(queue.Empty):
            yield self._items.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            while True:
                yield self._items.get_nowait()

    def _commit(self, batch: list[_Item]) -> None:
        """Do all of it in one transaction; each that raises is undone alone."""
        if not batch:
            return
        ends: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            durable = any(item.durable for item in batch)
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._writer.execute("BEGIN IMMEDIATE")
            for item in batch:
                value, error = self._apart(item.work)
                if item.future is not None:
                    ends.append((item.future, value, error))
            self._writer.execute("COMMIT")
        except sqlite3.Error as fault:  # the disk is full, or gone: nothing of this is written
            with suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            ends = [(item.future, None, fault) for item in batch if item.future is not None]
        for future, value, error in ends:
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

    def _apart(self, work: Work[T]) -> tuple[T | None, BaseException | None]:
        self._writer.execute("SAVEPOINT one")
        try:
            value, error = work(self._writer), None
        except Exception as raised:  # noqa: BLE001  its caller's, and raised again there
            self._writer.execute("ROLLBACK TO one")
            value, error = None, raised
        self._writer.execute("RELEASE one")
        return value, error


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
