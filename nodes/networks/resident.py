"""Weights that can leave memory and come back, block by block, from the file that they stand in. Knows no budget.

A network that :func:`attach` was called for has an attribute ``resident``. Where it was copied, the copy has weights of
its own, and ``resident`` is None.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kineograph.nodes.networks.mapped import Stored, placed_in

Read = Callable[[Mapping[str, Tensor]], Iterable[tuple[str, Tensor]]]
"""From outlines of weights by name to the weights, on the CPU: in a mapped file, maybe, and of another dtype."""

ALIGNED = 64
"""Bytes: torch's memory on a CPU begins at multiples of it, what stands in a file does not."""
Place = tuple[weakref.ref[nn.Module], str]
"""A module, which may be no more, and the name of a weight in it."""


class Part:
    """A block of a network: weights that come and go together.

    Attributes:
        network: the network's name, for people. name: the block's in it; empty is what no block has.
        names, nbytes: of its weights.
    """

    def __init__(self, resident: Resident, name: str, weights: Mapping[str, Tensor]) -> None:
        self.network = resident.name
        self.name = name
        self.names = tuple(weights)
        self.nbytes = sum(weight.nbytes + resident.spare for weight in weights.values())
        self._resident = resident
        self._outlines = dict(weights)

    def modules(self) -> list[nn.Module]:
        """Whose forward passes alone read it, where that is how networks work; none for what no block has."""
        return self._resident.modules_of(self.name) if self.name else []

    def bring(self, device: str) -> None:
        """Read its weights from the file, into memory of their own."""
        for name, weight in self._resident.read(self._outlines):
            outline = self._outlines[name]
            own = self._resident.room(outline, weight, device)
            if own.is_cuda:  # only what is pinned is copied beside what is computed
                weight = weight.to(own.dtype).pin_memory()
            self._resident.put(name, own.copy_(weight, non_blocking=own.is_cuda))

    def fill(self) -> None:
        """Read its weights for good: those of the right dtype stay in the file's mapped memory."""
        for name, weight in self._resident.read(self._outlines):
            self._resident.put(name, weight.to(self._outlines[name].dtype))

    def drop(self) -> None:
        """Let go of its weights; what reads them now fails, as they have a shape but no numbers."""
        for name, outline in self._outlines.items():
            self._resident.put(name, outline)


class Resident:
    """The blocks of one network: each module of its lists of modules, and the rest as one.

    Attributes:
        name: for people. parts: its blocks. read: where weights come from.
        spare: bytes beside each weight, so that it can begin where it begins in the file.
    """

    def __init__(self, network: nn.Module, name: str, read: Read, *, as_in_file: bool = False) -> None:
        """Take a network apart.

        Args:
            network: an outline on the meta device, to which ``resident`` is set by the caller.
            name: for people.
            read: where weights come from.
            as_in_file: whether the same numbers shall come of it as of weights that :meth:`fill` left in their file.
        """
        self.name = name
        self.read = read
        self.spare = ALIGNED if as_in_file else 0
        self._networks = [weakref.ref(network)]  # none is held, so that one goes when nobody has it
        names = _names(network)
        weights = {name: each for name, each in network.state_dict(keep_vars=True).items() if names[id(each)] == name}
        self._places = {name: list[Place]() for name in weights}
        self._find_places(network, names)
        self.parts: list[Part] = []
        for block in _listed(network, ""):
            own = {key: weights.pop(key) for key in list(weights) if key.startswith(f"{block}.")}
            self.parts.append(Part(self, block, own))
        self.parts.append(Part(self, "", weights))

    def room(self, outline: Tensor, weight: Tensor, device: str) -> Tensor:
        """Memory for a weight that was read.

        Sums on a CPU depend on how far behind a multiple of 64 bytes their numbers begin: where :meth:`fill` would
        leave a weight in the file, its copy begins as far behind one.
        """
        if not self.spare or weight.dtype != outline.dtype:
            return torch.empty_strided(outline.shape, outline.stride(), dtype=outline.dtype, device=device)
        begin = weight.data_ptr() % ALIGNED // outline.itemsize
        numbers = torch.empty(outline.numel() + ALIGNED // outline.itemsize, dtype=outline.dtype, device=device)
        return numbers[begin : begin + outline.numel()].view(outline.shape)

    def put(self, name: str, weight: Tensor) -> None:
        """Put a weight into its place, or its places where it is tied or shared."""
        parameter = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
        for owner, leaf in self._places[name]:
            module = owner()
            if module is not None and leaf in module._parameters:
                module._parameters[leaf] = parameter
            elif module is not None:
                module._buffers[leaf] = weight

    def share(self, network: nn.Module) -> None:
        """Let another network, in which the same tensors stand, have the same weights.

        Args:
            network: with blocks of the same names, maybe with more in them.
        """
        self._networks.append(weakref.ref(network))
        held = {id(tensor): name for name in self._places if (tensor := self._held(name)) is not None}
        self._find_places(network, held)
        network.resident = self  # type: ignore[assignment]

    def modules_of(self, block: str) -> list[nn.Module]:
        """The modules of a block, in all networks that share it."""
        return [network.get_submodule(block) for each in self._networks if (network := each()) is not None]

    def fill(self) -> None:
        """Give the network all of its weights for good."""
        for part in self.parts:
            part.fill()
        for each in self._networks:
            if (network := each()) is not None:
                network.resident = None  # type: ignore[assignment]
                every = [*network.named_parameters(), *network.named_buffers()]
                left = [name for name, found in every if found.is_meta]
                assert not left, f"{left[0]} has no numbers"

    def _held(self, name: str) -> Tensor | None:
        """A weight as it is now; None where no network is left."""
        for owner, leaf in self._places[name]:
            if (module := owner()) is not None:
                return module._parameters.get(leaf, module._buffers.get(leaf))
        return None

    def _find_places(self, network: nn.Module, names: Mapping[int, str]) -> None:
        for module in network.modules():
            for leaf, weight in [*module._parameters.items(), *module._buffers.items()]:
                if id(weight) in names:
                    self._places[names[id(weight)]].append((weakref.ref(module), leaf))

    def __deepcopy__(self, memo: Any) -> None:
        """A copy of a network has weights of its own, which no file has."""


def attach(network: nn.Module, path: Path) -> None:
    """Let the weights of a network come from a safetensors file.

    Args:
        network: an outline on the meta device.
        path: the file, whose names are the network's.

    Raises:
        ValueError: the file lies, or its weights are not the network's.
    """
    network.resident = Resident(network, path.stem, Stored(network, placed_in([path]), path.name).read)  # type: ignore[assignment]


def _names(network: nn.Module) -> dict[int, str]:
    """The name of each weight by its identity; of those of one that is tied, the first."""
    return {id(weight): name for name, weight in reversed(network.state_dict(keep_vars=True).items())}


def _listed(module: nn.Module, path: str) -> Iterator[str]:
    """The names of modules that stand in lists; not those within them."""
    for name, child in module.named_children():
        place = f"{path}.{name}" if path else name
        if isinstance(module, nn.ModuleList):
            yield place
        else:
            yield from _listed(child, place)
