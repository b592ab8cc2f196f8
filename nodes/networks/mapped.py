"""Weights where they stand in files: found by name, mapped into memory when they are read. Trusts no file.

Weights are safetensors whose headers were checked, or torch's own archives (.pth), read with ``weights_only``: the
unpickler then knows tensors and containers and runs nothing else.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from kineograph.nodes.networks.weights import Entry, check_fit, read_header

ARCHIVE = b"PK\x03\x04"
"""How torch's archives begin; its older files are bare pickles, which are not read."""
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


WRAPPERS = ("module", "state_dict")
"""Under which training frameworks put a network's weights into an archive."""


class Placed(NamedTuple):
    """A weight: its file, where it stands there, and what it is to be multiplied by (scaled fp8 files).

    Where ``turned``, the second half of its rows stands first in the file. The rows of those ``behind`` follow its own.
    """

    path: Path
    entry: Entry
    scale: Tensor | None = None
    turned: bool = False
    behind: tuple[Placed, ...] = ()

    @property
    def shape(self) -> list[int]:
        """Of the whole, with what follows."""
        if not self.behind:
            return self.entry.shape
        return [self.entry.shape[0] + sum(each.shape[0] for each in self.behind), *self.entry.shape[1:]]

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers in the file."""
        return DTYPES[self.entry.dtype]

    def rows(self, part: int, parts: int) -> Placed:
        """One of the equal parts of a weight along its first axis."""
        count = self.entry.shape[0] // parts if self.entry.shape else 0
        return self.span(part * count, (part + 1) * count)

    def span(self, start: int, end: int) -> Placed:
        """Some of the rows of a weight.

        Raises:
            ValueError: it has none, or not so many.
        """
        first, *rest = self.entry.shape or [0]
        if not 0 <= start < end <= first:
            raise ValueError(f"A weight of {self.path.name} has {first} rows, and {start} to {end} are asked for.")
        stride = math.prod(rest) if self.entry.strides is None else self.entry.strides[0]
        begin = self.entry.begin + start * stride * self.dtype.itemsize
        return self._replace(entry=self.entry._replace(shape=[end - start, *rest], begin=begin))

    def without_last(self, axes: int) -> Placed:
        """A weight without its last axes, which have one place each."""
        strides = self.entry.strides and self.entry.strides[:-axes]
        return self._replace(entry=self.entry._replace(shape=self.entry.shape[:-axes], strides=strides))

    def without(self, axes: int) -> Placed:
        """A weight without its first axes, which have one place each."""
        strides = self.entry.strides and self.entry.strides[axes:]
        return self._replace(entry=self.entry._replace(shape=self.entry.shape[axes:], strides=strides))


def joined(first: Placed, *behind: Placed) -> Placed:
    """One weight of the rows of several, which are alike but for their number."""
    return first._replace(behind=behind)


class Stored:
    """Weights of files that must stay what they were. What is read is mapped, and only as long as that is needed.

    (The library maps all of a file, privately, which a system may refuse where it is larger than its memory.)
    """

    def __init__(self, network: nn.Module, placed: Mapping[str, Placed], source: str) -> None:
        """Say where the weights of a network stand.

        Args:
            network: an outline on the meta device.
            placed: its weights by name.
            source: where they are, for errors.

        Raises:
            ValueError: as :func:`weights.check_fit`.
        """
        shapes = {name: torch.empty(each.shape, device="meta") for name, each in placed.items()}
        check_fit(network, shapes, source)
        self._placed = dict(placed)
        self._stats = {path: _stat(path) for path in {each.path for each in placed.values()}}

    def read(self, outlines: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Weights by name, in mapped memory where they need not be computed.

        Args:
            outlines: by name, what they are read for. Where that is fp8, weights come without their factors.
        """
        for path, stat in self._stats.items():
            if _stat(path) != stat:
                raise ValueError(f"{path.name} was changed while a run reads from it. Run again.")
        for name, outline in outlines.items():
            placed = self._placed[name]
            weight = mapped(placed)
            if outline.dtype in FP8:
                _check_range(name, placed, weight)
            elif placed.scale is not None:
                weight = (weight.float() * placed.scale).to(outline.dtype)
            yield name, weight


def placed_in(files: Iterable[Path], before: Callable[[Collection[str]], str] = lambda _: "") -> dict[str, Placed]:
    """Where the tensors of files stand; no numbers are read.

    Args:
        files: of one network.
        before: from the names in a file to what stands before them in the whole.

    Raises:
        ValueError: a file that lies about itself, or a name that stands in two of them.
    """
    found: dict[str, Placed] = {}
    for path in files:
        entries = _archived(path) if is_archive(path) else read_header(path).tensors
        start = before(entries)
        entries = {start + name: entry for name, entry in entries.items()}
        if twice := sorted(found.keys() & entries.keys()):
            raise ValueError(f"{twice[0]} stands in {path.name} and in a file before it: which one is meant?")
        found |= {name: Placed(path, entry) for name, entry in entries.items()}
    return found


def shapes_in(
    files: Iterable[Path], before: Callable[[Collection[str]], str] = lambda _: ""
) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of files; no numbers are read.

    Args:
        files: as for :func:`placed_in`.
        before: as for :func:`placed_in`.

    Raises:
        ValueError: as :func:`placed_in`.
    """
    return {name: tuple(placed.entry.shape) for name, placed in placed_in(files, before).items()}


def with_factors(placed: Mapping[str, Placed]) -> dict[str, Placed]:
    """Weights with the factors that ComfyUI's scaled fp8 files hold beside them: of x.weight, x.scale_weight."""
    marks = {name for name in placed if name.split(".")[-1] in ("scale_weight", "scale_input", "scaled_fp8")}
    plain = {name: each for name, each in placed.items() if name not in marks}
    for name in marks:
        owner = name.removesuffix("scale_weight") + "weight"
        if name.endswith("scale_weight") and owner in plain:
            plain[owner] = plain[owner]._replace(scale=mapped(placed[name]).float().clone())
    return plain


def converted(state: Mapping[str, Tensor], dtype: torch.dtype, kept: Collection[str] = ()) -> dict[str, Tensor]:
    """Weights with numbers of a dtype, but float32 where a part of the name is among ``kept``."""
    parts = set(kept)
    return {
        name: tensor.to(dtype if parts.isdisjoint(name.split(".")) else torch.float32) for name, tensor in state.items()
    }


def is_archive(path: Path) -> bool:
    """Whether a file is one of torch's archives, by content."""
    with path.open("rb") as file:
        return file.read(len(ARCHIVE)) == ARCHIVE


def mapped(placed: Placed) -> Tensor:
    """A tensor of a file; the map ends with it. One that stands there turned, or in pieces, is copied."""
    if placed.behind:
        return torch.cat([mapped(each) for each in (placed._replace(behind=()), *placed.behind)])
    path, entry, turned = placed.path, placed.entry, placed.turned
    count = entry.reach()
    if not count:
        return torch.empty(entry.shape, dtype=placed.dtype)
    before = entry.begin % mmap.ALLOCATIONGRANULARITY
    length = before + count * placed.dtype.itemsize
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY, offset=entry.begin - before)
    if before % placed.dtype.itemsize:  # as a writer may leave it that puts numbers of 4 bytes behind those of 1
        found = torch.frombuffer(pages, dtype=torch.uint8, offset=before).clone().view(placed.dtype)
    else:
        found = torch.frombuffer(pages, dtype=placed.dtype, count=count, offset=before)
    found = found.view(entry.shape) if entry.strides is None else found.as_strided(entry.shape, entry.strides)
    return found.roll(entry.shape[0] // 2, 0) if turned else found


def _archived(path: Path) -> dict[str, Entry]:
    try:
        with _disable_current_modes(), FakeTensorMode():  # which knows places and reads no numbers
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  the unpickler raises whatever a file makes it
        told = " ".join(str(error).split())[:200]
        raise ValueError(f"{path.name} is no archive of weights alone, and nothing else is read: {told}") from None
    if isinstance(found, dict):
        found = next((found[each] for each in WRAPPERS if isinstance(found.get(each), dict)), found)
    if not isinstance(found, dict) or not all(isinstance(each, Tensor) for each in found.values()):
        raise ValueError(f"{path.name} holds something else than tensors by name.")
    return {str(name): _entry(tensor, path) for name, tensor in found.items()}


def _entry(tensor: Tensor, path: Path) -> Entry:
    """Where a tensor of an archive stands, which torch notes where it reads none."""
    storage: Any = tensor.untyped_storage()
    begin = int(storage._checkpoint_offset + tensor.storage_offset() * tensor.itemsize)
    if tensor.dtype not in NAMES:
        raise ValueError(f"{path.name} holds numbers of {tensor.dtype}, which no weights are.")
    entry = Entry(NAMES[tensor.dtype], list(tensor.shape), begin, None if tensor.is_contiguous() else tensor.stride())
    if begin + entry.reach() * tensor.itemsize > path.stat().st_size:
        raise ValueError(f"{path.name} ends before the tensors that it names.")
    return entry


def _check_range(name: str, placed: Placed, weight: Tensor) -> None:
    if weight.dtype not in FP8 and not weight.abs().max() <= (most := torch.finfo(torch.float8_e4m3fn).max):
        raise ValueError(f"{name} of {placed.path.name} has numbers beyond {most:g}, the most that float8_e4m3fn has.")


def _stat(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
