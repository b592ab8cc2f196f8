"""One value as one file: safetensors with the value's JSON as metadata, named by the digest of its bytes."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any

from blake3 import blake3

from kineograph.graph_runtime.codecs import Buffer, decode, encode

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

    Raises:
        CannotKeep: a part of it has no codec.
    """

    def __init__(self, value: Any) -> None:
        text, self._buffers = encode(value)
        about: dict[str, Any] = {"__metadata__": {"format": FORMAT, "value": text}}
        end = 0
        for at, buffer in enumerate(self._buffers):
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


def read(path: Path, digest: str) -> Any:
    """The value of a file, whose bytes are checked first.

    Raises:
        Damaged: its bytes are others.
        Exception: it cannot be read, or a class has changed since.
    """
    with open(path, "rb") as file:
        found, block = blake3(), bytearray(BLOCK_BYTES)
        while size := file.readinto(block):
            found.update(memoryview(block)[:size])
        if found.hexdigest(20) != digest:
            raise Damaged(path.name)
        file.seek(0)
        about = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        metadata = about.pop("__metadata__")
        if metadata["format"] != FORMAT:
            raise ValueError("The file has another format.")
        return decode(metadata["value"], _buffers(about, file))


def _buffers(about: dict[str, Any], file: BufferedReader) -> Iterator[Buffer]:
    for at in range(len(about)):
        entry = about[str(at)]
        data = bytearray(math.prod(entry["shape"]) * DTYPE_BYTES[entry["dtype"]])
        if file.readinto(data) != len(data):
            raise ValueError("The file is cut off.")
        yield Buffer(entry["dtype"], tuple(entry["shape"]), memoryview(data))


def all_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder."""
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name)


def fsync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's names."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
