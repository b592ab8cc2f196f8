"""One value as one file: safetensors with the value's JSON as metadata, named by the digest of its bytes.

Where several processes hold the rows of a value's numbers, each writes those into a file of its own, a shard. The
value's file is then their index: it names all shards, and is written last. Knows no store.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, cached_property, partial
from io import BufferedReader
from mmap import mmap
from pathlib import Path
from typing import Any

from blake3 import blake3

from kineograph.graph_runtime.codecs import Buffer, decode, encode, rows_of

FORMAT = "kineograph-1"
DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
BLOCK_BYTES = 2**20


class Damaged(Exception):
    """A file's bytes are not those that its name promises."""


class Content:
    """The bytes that a value becomes.

    Args:
        value: of any kind that has a codec.
        shards: digests of the files with the rows of each process, where numbers are shared out.

    Raises:
        CannotKeep: a part of it has no codec.
    """

    def __init__(self, value: Any, shards: Sequence[str] = ()) -> None:
        text, buffers = encode(value)
        metadata = {"format": FORMAT, "value": text}
        shared = {at: [buffer.dtype, buffer.whole] for at, buffer in enumerate(buffers) if buffer.whole is not None}
        if shared:
            metadata["shards"] = json.dumps({"files": list(shards), "buffers": shared}, separators=(",", ":"))
        self._lay_out(metadata, {at: buffer for at, buffer in enumerate(buffers) if buffer.whole is None})

    def _lay_out(self, metadata: dict[str, str], buffers: dict[int, Buffer]) -> None:
        self._buffers = list(buffers.values())
        about: dict[str, Any] = {"__metadata__": metadata}
        end = 0
        for at, buffer in buffers.items():
            begin, end = end, end + buffer.data.nbytes
            about[str(at)] = {"dtype": buffer.dtype, "shape": list(buffer.shape), "data_offsets": [begin, end]}
        header = json.dumps(about, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        self._header = len(header).to_bytes(8, "little") + header
        self.nbytes = len(self._header) + end

    @cached_property
    def digest(self) -> str:
        """blake3 of the bytes."""
        found = blake3(self._header)
        for buffer in self._buffers:
            found.update(buffer.data)
        return found.hexdigest(20)

    def write(self, folder: Path) -> Path:
        """Write them into a temporary file of the folder and wait until the disk has them."""
        handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
        try:
            with open(handle, "wb") as file:
                file.write(self._header)
                file.writelines(buffer.data for buffer in self._buffers)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name)


class Shard(Content):
    """The bytes of this process's rows of a value's numbers; ``empty``, where no numbers are shared out.

    Args:
        value: of any kind that has a codec.

    Raises:
        CannotKeep: a part of it has no codec.
    """

    def __init__(self, value: Any) -> None:
        _, buffers = encode(value)
        shared = {at: buffer for at, buffer in enumerate(buffers) if buffer.whole is not None}
        self.empty = not shared
        self._lay_out({"format": FORMAT}, shared)


def read(find: Callable[[str], Path], digest: str, part: int = 0, parts: int = 1) -> Any:
    """The value of a file, whose bytes are checked first; of numbers in shards, the rows of one process alone.

    All processes together check all bytes of the shards, each those of some.

    Args:
        find: where the file of a digest lies.
        digest: of the value's file.
        part: which of the processes reads.
        parts: how many processes read; one has all rows.

    Raises:
        Damaged: bytes are others.
        Exception: it cannot be read, or a class has changed since.
    """
    _check(find(digest), digest)
    with ExitStack() as opened:

        @cache
        def file(digest: str) -> _File:
            return _File(opened.enter_context(open(find(digest), "rb")))

        index = file(digest)
        if index.metadata["format"] != FORMAT:
            raise ValueError("The file has another format.")
        shards = json.loads(index.metadata.get("shards", '{"files": [], "buffers": {}}'))
        for each in shards["files"][part::parts]:
            _check(find(each), each)
        files = [partial(file, each) for each in shards["files"]]
        names = map(str, range(len(index.about) + len(shards["buffers"])))
        buffers = (
            index.buffer(name) if name in index.about else _rows(files, name, shards["buffers"][name], part, parts)
            for name in names
        )
        return decode(index.metadata["value"], buffers)


def outline(path: Path) -> Any:
    """The value of a file but for its numbers, of which none is read: they lie in memory that nobody has touched.

    Raises:
        Exception: it cannot be read, or a class has changed since.
    """
    with open(path, "rb") as opened:
        index = _File(opened)
        shared = json.loads(index.metadata.get("shards", '{"buffers": {}}'))["buffers"]
        about = {name: (entry["dtype"], entry["shape"]) for name, entry in index.about.items()} | shared
        buffers = (_blank(*about[name]) for name in map(str, range(len(about))))
        return decode(index.metadata["value"], buffers)


def _blank(dtype: str, sides: Sequence[int]) -> Buffer:
    size = math.prod(sides) * DTYPE_BYTES[dtype]
    return Buffer(dtype, tuple(sides), memoryview(mmap(-1, max(size, 1)))[:size])


def _rows(
    files: Sequence[Callable[[], _File]], name: str, about: tuple[str, Sequence[int]], part: int, parts: int
) -> Buffer:
    """One part of the rows that lie in shards, each of which has a part of another cut."""
    dtype, sides = about
    begin, end = rows_of(sides[0], part, parts)
    stride = math.prod(sides[1:]) * DTYPE_BYTES[dtype]
    data = memoryview(bytearray((end - begin) * stride))
    for number, file in enumerate(files):
        first, last = rows_of(sides[0], number, len(files))
        low, high = max(begin, first), min(end, last)
        if low < high:
            file().read(name, data[(low - begin) * stride : (high - begin) * stride], (low - first) * stride)
    return Buffer(dtype, (end - begin, *sides[1:]), data, tuple(sides) if parts > 1 else None)


def _check(path: Path, digest: str) -> None:
    found, block = blake3(), bytearray(BLOCK_BYTES)
    with open(path, "rb") as file:
        while size := file.readinto(block):
            found.update(memoryview(block)[:size])
    if found.hexdigest(20) != digest:
        raise Damaged(path.name)


class _File:
    """An opened safetensors file: its metadata, and what it says about each entry."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        length = int.from_bytes(file.read(8), "little")
        self.about: dict[str, Any] = json.loads(file.read(length))
        self.metadata: dict[str, str] = self.about.pop("__metadata__")
        self._begin = 8 + length

    def buffer(self, name: str) -> Buffer:
        """All of an entry."""
        entry = self.about[name]
        data = memoryview(bytearray(math.prod(entry["shape"]) * DTYPE_BYTES[entry["dtype"]]))
        self.read(name, data)
        return Buffer(entry["dtype"], tuple(entry["shape"]), data)

    def read(self, name: str, into: memoryview, skip: int = 0) -> None:
        """Bytes of an entry, as many as there is room for.

        Args:
            name: of the entry.
            into: filled.
            skip: bytes of the entry before the first.
        """
        self._file.seek(self._begin + self.about[name]["data_offsets"][0] + skip)
        if self._file.readinto(into) != len(into):
            raise ValueError("The file is cut off.")


def all_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder."""
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name)
