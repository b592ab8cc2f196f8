"""Captioned clips in a folder of a stranger's, listed without decoding. Knows no video and no model.

Names are compared and shown, and opened only where they stay below the folder that was given.
"""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from kineograph.nodes.media.decode import PICTURES, VIDEOS
from kineograph.nodes.train.sockets import LeftOut

SUFFIXES = frozenset(ending for kind in VIDEOS + PICTURES for ending in kind.endings)
"""What is taken for a clip; its first bytes must agree."""
UNKNOWN_SUFFIXES = frozenset({".avi", ".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".gif", ".bmp", ".tif", ".tiff", ".heic"})
"""What people may expect to be taken: it is reported."""
METADATA = "metadata.jsonl"
CAPTION_BYTES = 1 << 16
"""Longest caption or line of metadata that is read."""


class Source(Protocol):
    """Where a clip's bytes lie: small, frozen, and opened anew each time."""

    def open(self) -> BinaryIO:
        """Open it for reading; the caller closes it.

        Raises:
            ValueError: it is gone, or may not be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class FileBytes:
    """A file, or a range of its bytes: a member of a tar shard.

    Attributes:
        path: the file.
        start: first byte.
        size: bytes from there; None is all.
    """

    path: str
    start: int = 0
    size: int | None = None

    def open(self) -> BinaryIO:
        """Open it for reading."""
        try:
            file = open(self.path, "rb")  # noqa: SIM115 - the caller closes it
        except OSError as failure:
            raise ValueError(f"{shown(Path(self.path).name)} cannot be read: {failure.strerror}.") from failure
        return file if self.size is None else io.BufferedReader(_Range(file, self.start, self.size))


@dataclass(frozen=True, slots=True)
class Found:
    """A file that may be a clip; ``caption`` is None where none was written for it."""

    source: Source
    name: str
    caption: str | None


class _Range(io.RawIOBase):
    """A range of a file's bytes as a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._place = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._place)
        data = self._file.read(max(0, min(len(buffer), self._size - self._place)))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


Listed = Iterator[Found | LeftOut]


def shown(name: str) -> str:
    """A file's name as it can be printed: no control characters, no bytes that are no UTF-8."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def tree_digest(folder: str) -> str:
    """A digest of all files below a folder, by name, size and time of change, and of the metadata by content.

    Raises:
        ValueError: there is no such folder.
    """
    from blake3 import blake3

    digest = blake3()
    for path in [Path(folder)] if Path(folder).is_file() else files_below(existing_folder(folder)):
        try:
            status = path.stat()
        except OSError:  # a link to nowhere
            status = path.lstat()
        digest.update(os.fsencode(path) + f"\0{status.st_size} {status.st_mtime_ns}\n".encode())
        if path.name == METADATA and stat.S_ISREG(status.st_mode):
            digest.update(path.read_bytes())
    return digest.hexdigest(20)


# Folders


def folder_clips(folder: str) -> Listed:
    """Every video and picture below a folder, with its caption.

    Args:
        folder: captions stand in ``metadata.jsonl`` (lines of ``file_name`` and ``text`` or ``caption``), beside the
            files or above them, or else as ``name.txt`` beside ``name.mp4``.

    Raises:
        ValueError: there is no such folder.
    """
    root = existing_folder(folder).resolve()
    captions: dict[str, str] = {}
    paths = list(files_below(root))
    for path in paths:
        if path.name == METADATA and is_inside(path, root):
            yield from _read_metadata(path, root, captions)
    for path in paths:
        name = shown(os.fspath(path.relative_to(root)))
        suffix = path.suffix.lower()
        if path.name.startswith(".") or suffix not in SUFFIXES | UNKNOWN_SUFFIXES:
            continue
        if not is_inside(path, root):
            yield LeftOut(name, "no file of this folder", "It is a link that leads out of it, or no ordinary file.")
        elif suffix in UNKNOWN_SUFFIXES:
            yield LeftOut(name, "another kind of file", f"{suffix} is not read; convert it to MP4 or PNG.")
        else:
            known = captions.get(os.fspath(path))
            try:
                caption = _caption_beside(path, root) if known is None else known
                yield Found(FileBytes(os.fspath(path)), name, caption)
            except ValueError as error:
                yield LeftOut(name, "unreadable caption", str(error))


def existing_folder(folder: str) -> Path:
    """The folder, if there is one."""
    path = Path(folder)
    if "\0" in folder or not path.is_dir():
        raise ValueError(f"There is no folder {shown(folder)!r}; give the one that holds your clips.")
    return path


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder in the order of names; links to folders are not followed, so none goes in circles."""
    for place, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names))


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path is an ordinary file that lies below the folder, also where it is a link."""
    try:
        real = path.resolve(strict=True)
        return stat.S_ISREG(real.stat().st_mode) and real.is_relative_to(root)
    except (OSError, RuntimeError, ValueError):  # gone; links in a circle; a zero byte
        return False


def _caption_beside(path: Path, root: Path) -> str | None:
    beside = path.with_suffix(".txt")
    if not is_inside(beside, root):
        return None
    with open(beside, "rb") as file:
        return one_line(file.read(CAPTION_BYTES + 1))


def one_line(data: bytes) -> str:
    """A caption as one line."""
    if len(data) > CAPTION_BYTES:
        raise ValueError(f"Its caption has more than {CAPTION_BYTES:,} bytes.")
    try:
        return " ".join(data.decode("utf-8-sig").split())
    except UnicodeDecodeError:
        raise ValueError("Its caption is no UTF-8.") from None


def _read_metadata(path: Path, root: Path, captions: dict[str, str]) -> Listed:
    """Fill in the captions of a ``metadata.jsonl``; give what could not be used of it."""
    place = shown(os.fspath(path.relative_to(root)))
    with open(path, "rb") as file:
        for number, line in enumerate(_lines(file), start=1):
            if not line.strip():
                continue
            try:
                name, caption = _metadata_line(line)
                target = Path(os.path.normpath(path.parent / name))
                if not target.is_relative_to(root):
                    raise ValueError(f"{shown(name)!r} leads out of the folder.")
                if not is_inside(target, root):
                    raise ValueError(f"There is no file {shown(name)!r}.")
                if os.fspath(target) in captions:
                    raise ValueError(f"{shown(name)!r} was named before; its first caption counts.")
                captions[os.fspath(target)] = caption
            except (ValueError, RecursionError) as error:
                yield LeftOut(f"{place}, line {number}", "unusable metadata", as_sentence(error))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, those that are too long cut off."""
    while line := file.readline(CAPTION_BYTES):
        rest = line
        while len(rest) == CAPTION_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(CAPTION_BYTES)
        yield line


def as_sentence(error: Exception) -> str:
    """What a person reads of a text that could not be parsed."""
    if isinstance(error, RecursionError):
        return "It is nested too deep."
    return "It is no UTF-8." if isinstance(error, UnicodeDecodeError) else str(error)


def _metadata_line(line: bytes) -> tuple[str, str]:
    """The name and caption of a line."""
    row = strict_json(line)
    name = row.get("file_name")
    if not isinstance(name, str) or not name:
        raise ValueError("It has no file_name.")
    return name, caption_of(row)


def strict_json(data: bytes) -> dict[str, Any]:
    """A JSON object, without NaN and infinities."""

    def refuse(constant: str) -> None:
        raise ValueError(f"It holds {constant}, which is no JSON.")

    row = json.loads(data.decode("utf-8-sig"), parse_constant=refuse)
    if not isinstance(row, dict):
        raise ValueError("It is no JSON object.")
    return row


def caption_of(row: dict[str, Any]) -> str:
    """What an object of metadata says its clip shows."""
    caption = row.get("text", row.get("caption", ""))
    if not isinstance(caption, str):
        raise ValueError("Its caption is no text.")
    return one_line(caption.encode("utf-8", "surrogatepass"))
