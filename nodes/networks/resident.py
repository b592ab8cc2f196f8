"""Weights that can leave memory and come back, block by block, from the file that they stand in. Knows no budget.

A network that :func:`attach` was called for has an attribute ``resident``. Where it was copied, the copy has weights of
its own, and ``resident`` is None.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from kineograph.nodes.networks.weights import Entry, check_fit, read_header

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip

Read = Callable[[Iterable[str]], Iterable[tuple[str, Tensor]]]
"""From names of weights to the weights, on the CPU; they may lie in a mapped file, and be of another dtype."""


class Part:
    """A block of a network: weights that come and go together.

    Attributes:
        network: the network's name, for people. name: the block's in it; empty is what no block has.
        module: whose forward pass alone reads it, where that is how the network works; None for what no block has.
        names, nbytes: of its weights.
    """

    def __init__(self, resident: Resident, name: str, module: nn.Module | None, weights: Mapping[str, Tensor]) -> None:
        self.network = resident.name
        self.name = name
        self.module = module
        self.names = tuple(weights)
        self.nbytes = sum(weight.nbytes for weight in weights.values())
        self._resident = resident
        self._outlines = dict(weights)

    def bring(self, device: str) -> None:
        """Read its weights from the file, into memory of their own."""
        for name, weight in self._resident.read(self._outlines):
            outline = self._outlines[name]
            own = torch.empty_strided(outline.shape, outline.stride(), dtype=outline.dtype, device=device)
            if own.is_cuda:  # only what is pinned is copied beside what is computed
                weight = weight.to(own.dtype).pin_memory()
            self._resident.put(name, own.copy_(weight, non_blocking=own.is_cuda))

    def drop(self) -> None:
        """Let go of its weights; what reads them now fails, as they have a shape but no numbers."""
        for name, outline in self._outlines.items():
            self._resident.put(name, outline)


class Resident:
    """The blocks of one network: each module of its lists of modules, and the rest as one.

    Attributes:
        name: for people. parts: its blocks. read: where weights come from.
    """

    def __init__(self, network: nn.Module, name: str, read: Read) -> None:
        self.name = name
        self.read = read
        self._network = network
        weights = dict(network.state_dict(keep_vars=True))
        self.parts: list[Part] = []
        for block, module in _listed(network, ""):
            own = {key: weights.pop(key) for key in list(weights) if key.startswith(f"{block}.")}
            self.parts.append(Part(self, block, module, own))
        self.parts.append(Part(self, "", None, weights))

    def put(self, name: str, weight: Tensor) -> None:
        """Put a weight into its place."""
        path, _, leaf = name.rpartition(".")
        module = self._network.get_submodule(path)
        if leaf in module._parameters:
            parameter = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
            module._parameters[leaf] = parameter
        else:
            module._buffers[leaf] = weight

    def __deepcopy__(self, memo: Any) -> None:
        """A copy of a network has weights of its own, which no file has."""


def attach(network: nn.Module, path: Path) -> None:
    """Let the weights of a network come from a safetensors file.

    Args:
        network: an outline on the meta device.
        path: the file, whose names are the network's.

    Raises:
        ValueError: the file lies. That its weights are not the network's is said when the first of them is read.
    """
    network.resident = Resident(network, path.stem, _File(path, network).read)  # type: ignore[assignment]


class _File:
    """A safetensors file that must stay what it was. Of it is mapped what is read, and only as long as that takes.

    (The library maps all of it, privately, which a system may refuse where the file is larger than its memory.)
    """

    def __init__(self, path: Path, network: nn.Module) -> None:
        self._entries = read_header(path).tensors
        self._path = path
        self._stat = self._now()
        self._network: nn.Module | None = network

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Weights by name, in mapped memory."""
        if self._now() != self._stat:
            raise ValueError(f"{self._path.name} was changed while a run reads from it. Run again.")
        if self._network is not None:
            outlines = {name: torch.empty(entry.shape, device="meta") for name, entry in self._entries.items()}
            check_fit(self._network, outlines, self._path.name)
            self._network = None
        with open(self._path, "rb") as file:
            for name in names:
                yield name, _mapped(file, self._entries[name])

    def _now(self) -> tuple[int, ...]:
        stat = self._path.stat()
        return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _mapped(file: IO[bytes], entry: Entry) -> Tensor:
    """A tensor of a file; the map ends with it."""
    dtype = DTYPES[entry.dtype]
    count = math.prod(entry.shape)
    if not count:
        return torch.empty(entry.shape, dtype=dtype)
    before = entry.begin % mmap.ALLOCATIONGRANULARITY
    length = before + count * dtype.itemsize
    pages = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY, offset=entry.begin - before)
    return torch.frombuffer(pages, dtype=dtype, count=count, offset=before).view(entry.shape)


def _listed(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules that stand in lists, by name; not those within them."""
    for name, child in module.named_children():
        place = f"{path}.{name}" if path else name
        if isinstance(module, nn.ModuleList):
            yield place, child
        else:
            yield from _listed(child, place)
