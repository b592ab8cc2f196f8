"""Captioned clips in tar shards and in tables of a stranger's, listed without decoding. Knows no video and no model.

A shard is indexed by the standard library, and a clip of it is a range of its bytes: random access, nothing unpacked
to disk, none of the decoders (one of them is pickle) that the library `webdataset` has for members.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from kineograph.nodes.clip_files import (
    CAPTION_BYTES,
    SUFFIXES,
    FileBytes,
    Found,
    Listed,
    as_sentence,
    caption_of,
    existing_folder,
    files_below,
    is_inside,
    one_line,
    shown,
    strict_json,
)
from kineograph.nodes.train.sockets import LeftOut

# Shards


def shard_clips(path: str) -> Listed:
    """Every sample of WebDataset shards that has a video or picture: the members of one key, told apart by suffix.

    Args:
        path: an uncompressed tar file, or a folder of some. A sample's caption is its ``.txt``, or ``text`` or
            ``caption`` in its ``.json``.

    Raises:
        ValueError: there is no such file.
    """
    candidates = [Path(path)] if Path(path).is_file() else files_below(existing_folder(path))
    shards = [each for each in candidates if each.suffix == ".tar"]
    if not shards:
        raise ValueError(
            f"There is no .tar file at {shown(path)!r}. Shards are read uncompressed: unpack a .tar.gz first."
        )
    for shard in shards:
        name = shown(shard.name)
        try:
            with tarfile.open(shard, "r:") as archive:
                for _, members in groupby(_members(archive), key=_sample_key):
                    yield from _sample(archive, shard, list(members))
        except (tarfile.TarError, OSError) as error:
            yield LeftOut(name, "damaged shard", f"Nothing is read of it after the damage: {error}.")


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
        yield member


def _sample_key(member: tarfile.TarInfo) -> str:
    """The name up to the first dot after the last slash."""
    folder, slash, base = member.name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _sample(archive: tarfile.TarFile, shard: Path, members: list[tarfile.TarInfo]) -> Listed:
    """The clips of one sample. Names of members are keys and suffixes, nothing else."""
    clips: list[tuple[FileBytes, str]] = []
    caption: str | None = None
    for member in members:
        name, suffix = f"{shown(shard.name)}: {shown(member.name)}", Path(member.name).suffix.lower()
        if not member.isreg() or member.issparse():
            if suffix in SUFFIXES:
                yield LeftOut(name, "no file of this shard", "It is a link, or no ordinary member.")
        elif suffix in SUFFIXES:
            clips.append((FileBytes(str(shard.resolve()), member.offset_data, member.size), name))
        elif suffix in (".txt", ".json"):
            content = archive.extractfile(member)
            assert content is not None
            try:
                data = content.read(CAPTION_BYTES + 1)
                caption = one_line(data) if suffix == ".txt" else caption or caption_of(strict_json(data))
            except (ValueError, RecursionError) as error:
                yield LeftOut(name, "unreadable caption", as_sentence(error))
    for source, name in clips:
        yield Found(source, name, caption)


# Tables


@dataclass(frozen=True, slots=True)
class TableCell:
    """A video in a row of a `datasets` table on disk: its bytes, or the path of its file.

    Attributes:
        folder: the table's.
        column, row: the cell.
        files: the folder that paths lie below.
    """

    folder: str
    column: str
    row: int
    files: str

    def open(self) -> BinaryIO:
        """Open it for reading."""
        cell = _table(self.folder).select_columns([self.column]).with_format("arrow")[self.row][self.column][0].as_py()
        if isinstance(cell, dict):  # as the library keeps media
            cell = cell.get("bytes") or cell.get("path")
        if isinstance(cell, bytes):
            return io.BytesIO(cell)
        root = Path(self.files)
        if not isinstance(cell, str) or not is_inside(root / cell, root):
            raise ValueError(f"Row {self.row} names no file below {shown(self.files)!r}.")
        return open(root / cell, "rb")


def table_clips(folder: str, video: str, caption: str, files: str) -> Listed:
    """Every row of a `datasets` table that was saved to disk.

    Args:
        folder: as ``save_to_disk`` wrote it.
        video: column of videos: bytes, paths, or both as `datasets` keeps them.
        caption: column of captions; empty where there is none.
        files: folder that paths lie below; empty is the table's own.

    Raises:
        ValueError: no such table or column, or `datasets` is not installed.
    """
    table = _table(folder)
    place, files = str(Path(folder).resolve()), str(Path(files or folder).resolve())
    missing = [column for column in (video, caption) if column and column not in table.column_names]
    if missing:
        raise ValueError(f"The table has no column {missing[0]!r}; it has {', '.join(map(repr, table.column_names))}.")
    captions = table.select_columns([caption]).with_format("arrow") if caption else None
    for row in range(len(table)):
        name = f"{shown(Path(folder).name)}, row {row}"
        text = captions[row][caption][0].as_py() if captions is not None else None
        if text is not None and not isinstance(text, str):
            yield LeftOut(name, "unreadable caption", f"It is a {type(text).__name__}, not a text.")
            continue
        try:
            written = None if text is None else one_line(text.encode("utf-8", "surrogatepass"))
            yield Found(TableCell(place, video, row, files), name, written)
        except ValueError as error:
            yield LeftOut(name, "unreadable caption", str(error))


def _table(folder: str) -> Any:
    """The table, mapped into memory; opened again where it was written anew."""
    state = existing_folder(folder) / "state.json"
    if not state.is_file():
        splits = ", ".join(sorted(each.parent.name for each in Path(folder).glob("*/state.json")))
        raise ValueError(
            f"{shown(folder)!r} is no table that `datasets` saved (it has no state.json)"
            + (f"; it holds the splits {splits}: name the folder of one." if splits else ".")
        )
    return _loaded(folder, state.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _loaded(folder: str, changed: int) -> Any:  # noqa: ARG001 - the time of change is there to be part of the key
    try:
        datasets = import_module("datasets")
    except ImportError:
        raise ValueError("A table is read by the library `datasets`: pip install 'kineograph[data]'.") from None
    return datasets.load_from_disk(folder)
