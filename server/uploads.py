"""The folder of files that people sent: names, sizes, what is in them. Knows no route.

What a browser sends is a stranger's file: its first bytes say what it is, a process that may be killed looks at it, and
only then does it get its name.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3
from starlette.concurrency import run_in_threadpool

from kineograph.graph_runtime.paths import check_name
from kineograph.server.errors import Refused
from kineograph.server.media_types import HEAD, UPLOADS, media_type, sniffed
from kineograph.server.settings import Limits

_ENDINGS = {
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/webp": (".webp",),
    "video/mp4": (".mp4", ".mov", ".m4v"),
    "video/webm": (".webm", ".mkv"),
    "video/x-matroska": (".mkv",),
}
_PART = ".part"
LONGEST = 200
"""Bytes of a name; a number and an ending may come to it, and file systems take 255."""


@dataclass(frozen=True)
class Named:
    """A file that may be asked for by an id: an upload, or an example."""

    id: str
    path: Path
    shown: str
    """What a workflow calls it."""
    media_type: str
    nbytes: int

    def to_json(self) -> dict[str, Any]:
        """As the API shows it."""
        return {"id": self.id, "path": self.shown, "media_type": self.media_type, "nbytes": self.nbytes}


class Uploads:
    """The files below some folders, by opaque ids.

    Args:
        data: where paths begin.
        folders: names of the folders below it: the first takes uploads, the others are only read.
    """

    def __init__(self, data: Path, folders: tuple[str, ...], limits: Limits) -> None:
        self.data = data
        self.folders = folders
        self.limits = limits
        self.folder = data / folders[0]
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in self.folder.glob(f"*{_PART}"):  # of a server that was killed
            part.unlink(missing_ok=True)

    def all(self) -> Iterator[Named]:
        """All files that are there, newest first in each folder."""
        for name in self.folders:
            root = (self.data / name).resolve()
            found = [(path, _status(path)) for path in root.iterdir()] if root.is_dir() else []
            there = [(path, status) for path, status in found if status is not None and stat.S_ISREG(status.st_mode)]
            for path, _ in sorted(there, key=lambda each: -each[1].st_mtime):
                named = None
                if not path.name.startswith(".") and path.resolve().is_relative_to(root):
                    with suppress(FileNotFoundError):  # somebody deletes it
                        named = self._named(path, f"{name}/{path.name}")
                if named is not None:
                    yield named

    def get(self, file_id: str) -> Named | None:
        """The file of an id."""
        return next((named for named in self.all() if named.id == file_id), None)

    def _named(self, path: Path, shown: str) -> Named:
        return Named(_id(shown), path, shown, media_type(path), path.stat().st_size)

    async def take(self, name: str, content: AsyncIterator[bytes]) -> Path:
        """Write what comes to a file that has no name yet, and refuse it at once where it cannot be a picture or video.

        Returns:
            The file; ``keep`` gives it its name, ``forget`` deletes it.
        """
        clean_name(name)
        part = self.folder / f".{secrets.token_hex(8)}{_PART}"
        room = self.limits.uploads_bytes - sum(_size(path) for path in self.folder.iterdir())
        head, size = b"", 0
        try:
            with part.open("xb") as file:
                async for piece in content:
                    size += len(piece)
                    if size > room:
                        raise Refused(413, f"The uploads would hold more than {self.limits.uploads_bytes:,} bytes.")
                    if len(head) < HEAD:
                        head += piece[: HEAD - len(head)]
                        if len(head) >= 16 and sniffed(head) not in UPLOADS:
                            raise _no_media(name)
                    await run_in_threadpool(file.write, piece)
                if sniffed(head) not in UPLOADS:
                    raise _no_media(name)
                await run_in_threadpool(_to_disk, file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return part

    def keep(self, part: Path, name: str) -> Named:
        """Give a file its name; one of the same bytes that is there already serves as well."""
        name = clean_name(name)
        kind = media_type(part)
        stem, ending = Path(name).stem, Path(name).suffix
        if ending.lower() not in _ENDINGS[kind]:
            stem, ending = name, _ENDINGS[kind][0]
        digest = _digest(part)
        for number in range(1, 10_000):
            target = self.folder / (f"{stem}{ending}" if number == 1 else f"{stem}-{number}{ending}")
            try:
                target.open("xb").close()  # the name is ours, or taken
                os.replace(part, target)
            except FileExistsError:
                if _digest(target) != digest:
                    continue
                part.unlink()
            return self._named(target, f"{self.folders[0]}/{target.name}")
        raise Refused(409, f"There are too many files called {name}.")

    def delete(self, named: Named) -> None:
        """Delete an upload."""
        if not named.shown.startswith(f"{self.folders[0]}/"):
            raise Refused(403, "Only uploads can be deleted.")
        named.path.unlink(missing_ok=True)


def clean_name(name: str) -> str:
    """The name itself, if a file may have it on every system.

    Raises:
        Refused: it is a path, or a name that some system cannot hold.
    """
    try:
        check_name(name)
    except ValueError:
        raise Refused(422, "That is no name of a file: give one without folders, like clip.mp4.") from None
    if "/" in name or len(name.encode()) > LONGEST or not re.fullmatch(r"[^\s.~][^<>\"|?*]*[^\s.]", name):
        raise Refused(422, "That is no name of a file: give one without folders, like clip.mp4.")
    return name


def _status(path: Path) -> os.stat_result | None:
    """What the system says of a file, if it is still there."""
    with suppress(OSError):
        return path.stat()
    return None


def _size(path: Path) -> int:
    status = _status(path)
    return status.st_size if status is not None else 0


def _id(shown: str) -> str:
    return f"u{blake3(shown.encode()).hexdigest(10)}"


def _digest(path: Path) -> str:
    digest = blake3()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _no_media(name: str) -> Refused:
    kinds = "PNG, JPEG, WebP, MP4, MOV, MKV or WebM"
    return Refused(415, f"{name} is no {kinds}, by its first bytes.", code="wrong_content_type")
