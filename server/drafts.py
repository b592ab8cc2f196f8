"""Graphs that are being edited, with their last revisions, in one SQLite file. Knows no route and no workflow.

A draft may be anything: half a graph is one. Who writes says which revision it began from; if that is not the newest,
another tab was faster, and nothing is written.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from kineograph.server.errors import Refused
from kineograph.server.settings import Limits

_TABLES = """
CREATE TABLE IF NOT EXISTS drafts (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, revision INTEGER NOT NULL, modified REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revisions (
    draft TEXT NOT NULL REFERENCES drafts ON DELETE CASCADE, revision INTEGER NOT NULL, at REAL NOT NULL,
    title TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (draft, revision)
) WITHOUT ROWID;
"""


class Drafts:
    """All drafts.

    Args:
        path: the file.
        limits: how many drafts and revisions are kept.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON;" + _TABLES)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def list(self) -> list[dict[str, Any]]:
        """All drafts, the newest first, without what is in them."""
        with self._lock:
            rows = self._database.execute("SELECT id, title, revision, modified FROM drafts ORDER BY modified DESC")
            return [dict(zip(("id", "title", "revision", "modified"), row, strict=True)) for row in rows]

    def get(self, draft: str, revision: int | None = None) -> dict[str, Any]:
        """A draft's newest revision, or that of a number.

        Raises:
            Refused: there is none.
        """
        with self._lock:
            return self._get(draft, revision)

    def _get(self, draft: str, revision: int | None = None) -> dict[str, Any]:
        newest = "SELECT revision, at, title, document FROM revisions WHERE draft = ? AND revision = ifnull(?, ({}))"
        query = newest.format("SELECT revision FROM drafts WHERE id = draft")
        row = self._database.execute(query, (draft, revision)).fetchone()
        if row is None:
            raise Refused(404, "There is no such draft, or no such revision of it.")
        return {"id": draft, "revision": row[0], "modified": row[1], "title": row[2], "document": json.loads(row[3])}

    def revisions(self, draft: str) -> list[dict[str, Any]]:
        """The revisions of a draft that are kept, the newest first."""
        query = "SELECT revision, at, title, length(document) FROM revisions WHERE draft = ? ORDER BY revision DESC"
        with self._lock:
            rows = self._database.execute(query, (draft,)).fetchall()
        return [dict(zip(("revision", "modified", "title", "nbytes"), row, strict=True)) for row in rows]

    def put(self, draft: str, title: str, document: Any, base: int | None) -> int:
        """Write a new revision and return its number.

        Args:
            draft: its id; a new one makes a new draft.
            title: what people call it.
            document: any JSON.
            base: the revision that it began from; None for a new draft.

        Raises:
            Refused: with the newest revision, where that is another one; or it is too large, or there are too many.
        """
        text = json.dumps(document, ensure_ascii=False)
        if len(text.encode()) > self._limits.draft_bytes:
            raise Refused(413, f"A draft has at most {self._limits.draft_bytes:,} bytes.")
        with self._lock, self._database:
            row = self._database.execute("SELECT revision FROM drafts WHERE id = ?", (draft,)).fetchone()
            newest = row[0] if row is not None else None
            if newest != base:
                more = self._get(draft) if newest is not None else {"revision": None, "document": None}
                message = "Another tab has changed this draft." if newest is not None else "The draft was deleted."
                raise Refused(409, message, more={name: more[name] for name in ("revision", "document")})
            if newest is None and self._count() >= self._limits.drafts:
                raise Refused(422, f"There are {self._limits.drafts} drafts; delete one first.")
            revision, now = (newest or 0) + 1, time.time()
            upsert = "INSERT INTO drafts VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            upsert += "title = excluded.title, revision = excluded.revision, modified = excluded.modified"
            self._database.execute(upsert, (draft, title, revision, now))
            self._database.execute("INSERT INTO revisions VALUES (?, ?, ?, ?, ?)", (draft, revision, now, title, text))
            old = (draft, revision - self._limits.revisions)
            self._database.execute("DELETE FROM revisions WHERE draft = ? AND revision <= ?", old)
        return revision

    def delete(self, draft: str) -> None:
        """Delete a draft and its revisions.

        Raises:
            Refused: there is none.
        """
        with self._lock, self._database:
            if not self._database.execute("DELETE FROM drafts WHERE id = ?", (draft,)).rowcount:
                raise Refused(404, "There is no such draft.")

    def _count(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM drafts").fetchone()[0])
