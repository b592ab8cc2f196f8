"""Weights as safetensors files, in and out: trusts no file, knows no network's meaning.

The library refuses most lies, but took 44 s and 1.4 GB over a million empty tensors and accepts any name, so the header
is read and checked here first; the tensors' bytes are then mapped by the library.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

HEADER_BYTES = 16 * 2**20
TENSORS = 50_000
DIMENSIONS = 8
SHOWN = 8
"""Names that an error shows of each kind of fault."""
NAME = re.compile(r"[A-Za-z0-9_.:/\-]{1,512}")
DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


def save_weights(path: Path | str, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, whole or not at all: temporary file, fsync, rename, fsync of the folder.

    Args:
        path: the file; its folder is made.
        state: tensors by name; views are copied.
        metadata: strings by name, kept in the header.

    Raises:
        ValueError: a name, a dtype or a number of dimensions that :func:`load_weights` would refuse.
    """
    path = Path(path)
    tensors = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in state.items()}
    for name in tensors:
        _check_name(name, path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        try:
            save_file(tensors, temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:  # the system's words stand in it: a full disk, a quota
            raise OSError(f"{path.name} was not written: {error}. Nothing is left of it.") from error
        check_header(temporary)
        Path(temporary).chmod(0o644)  # temporary files are made for their owner alone, a model is to be read
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file after its header has been checked.

    Args:
        path: the file.

    Returns:
        Tensors by name, on the CPU, and the header's metadata.

    Raises:
        ValueError: no such file, or one that is not what it says.
    """
    metadata = check_header(path)
    return load_file(path), metadata


def check_header(path: Path | str) -> dict[str, str]:
    """Refuse a safetensors file that lies about itself or would exhaust the machine.

    Args:
        path: the file.

    Returns:
        Its metadata.

    Raises:
        ValueError: what is wrong with it, in a sentence.
    """
    return read_header(path).metadata


class Entry(NamedTuple):
    """Where a tensor stands in a file: its dtype by safetensors' name, its sides, and its first byte in the file.

    ``strides`` are those of a tensor of torch's archives that does not stand there row by row.
    """

    dtype: str
    shape: list[int]
    begin: int
    strides: tuple[int, ...] | None = None

    def reach(self) -> int:
        """Numbers from its first to its last, both included."""
        if self.strides is None or 0 in self.shape:
            return math.prod(self.shape)
        return 1 + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides, strict=True))


class Header(NamedTuple):
    """What a safetensors file says of itself."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]


def read_header(path: Path | str) -> Header:
    """The header of a safetensors file, checked as by :func:`check_header`; nothing else is read."""
    name = Path(path).name
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            length = int.from_bytes(start, "little") if len(start := file.read(8)) == 8 else -1
            if length < 2 or length > size - 8:
                raise _refused(name, f"it is no safetensors file, or it was cut short at {size} bytes")
            if length > HEADER_BYTES:
                raise _refused(name, f"its header of {length} bytes is above the limit of {HEADER_BYTES}")
            header = _parsed(file.read(length), name)
    except OSError as error:
        raise _refused(name, f"it cannot be read: {error.strerror}") from error
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _refused(name, "its metadata are not strings by name")
    _check_tensors(header, size - 8 - length, name)
    begin = 8 + length
    entries = {
        key: Entry(entry["dtype"], entry["shape"], begin + entry["data_offsets"][0]) for key, entry in header.items()
    }
    return Header(entries, metadata)


def tensor_shapes(path: Path | str) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's tensors by name; only the header is read.

    Raises:
        ValueError: as :func:`check_header`.
    """
    return {name: tuple(entry.shape) for name, entry in read_header(path).tensors.items()}


def fill(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a network, all or none; dtypes are converted to the network's.

    Args:
        module: the network.
        state: tensors by name.
        source: where they came from, for the error.

    Raises:
        ValueError: missing, unexpected and mis-shaped weights, the first of each kind and how many there are.
    """
    check_fit(module, state, source)
    module.load_state_dict(state)


def check_fit(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are not those of a network, which may be an outline on the meta device.

    Raises:
        ValueError: as :func:`fill`.
    """
    wanted = module.state_dict()
    wrong = {
        "missing": [f"{name}: missing" for name in wanted if name not in state],
        "unexpected": [f"{name}: unexpected" for name in state if name not in wanted],
        "of another shape": [
            f"{name}: {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    if count := sum(map(len, wrong.values())):
        raise ValueError(
            f"{source} does not fit a {type(module).__name__} of this configuration, {count} weights differ: "
            + "; ".join(listed(each, kind) for kind, each in wrong.items() if each)
        )


def listed(names: Sequence[str], kind: str, between: str = "; ") -> str:
    """The first of many names, and how many more there are of their kind."""
    more = [f"and {len(names) - SHOWN} more {kind}"] if len(names) > SHOWN else []
    return between.join([*names[:SHOWN], *more])


def _parsed(raw: bytes, file: str) -> dict[str, Any]:
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _refused(file, "its header is not JSON with unique names") from error
    if not isinstance(header, dict):
        raise _refused(file, "its header is no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("duplicate name")
    return made


def _check_tensors(header: dict[str, Any], available: int, file: str) -> None:
    if len(header) > TENSORS:
        raise _refused(file, f"it holds {len(header)} tensors, above the limit of {TENSORS}")
    spans = sorted(_check_tensor(name, entry, file) for name, entry in header.items())
    end = 0
    for begin, stop in spans:
        if begin != end:
            raise _refused(file, f"its tensors overlap or leave a hole at byte {min(begin, end)} of the data")
        end = stop
    if end != available:
        raise _refused(file, f"its tensors take {end} bytes, but {available} follow the header")


def _check_tensor(name: str, entry: object, file: str) -> tuple[int, int]:
    _check_name(name, file)
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _refused(file, f"the entry of {name!r} is not made of dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise _refused(file, f"{name!r} has the dtype {str(dtype)[:40]!r}; known are {', '.join(DTYPE_BYTES)}")
    if not _naturals(shape) or len(shape) > DIMENSIONS:
        raise _refused(file, f"the shape of {name!r} is not a list of at most {DIMENSIONS} sizes")
    if not _naturals(offsets) or len(offsets) != 2:
        raise _refused(file, f"the offsets of {name!r} are not a begin and an end")
    needed = math.prod(shape) * DTYPE_BYTES[dtype]
    if offsets[1] - offsets[0] != needed:
        raise _refused(file, f"{name!r} needs {needed} bytes for its shape, but has {offsets[1] - offsets[0]}")
    return offsets[0], offsets[1]


def _check_name(name: str, file: str) -> None:
    if not NAME.fullmatch(name) or ".." in name or name.startswith("/"):
        raise _refused(file, f"{name[:80]!r} is no name of a weight: letters, digits and _ . : / - up to 512, no '..'")


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 2**63 for each in value)


def _refused(file: str, why: str) -> ValueError:
    return ValueError(f"The weights file {file!r} is refused: {why}.")


def _fsync(path: Path | str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
