"""What a block of a network is given and makes: how it is put together of tensors, told so that it can be made again.

Knows torch, and no network.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from kineograph.trial.likeness import PLAIN, Unlike


@dataclass(frozen=True, slots=True)
class Made:
    """A tensor that a block made: a view of a storage, of one of its arguments' or of its own."""

    of: int
    """Number of the argument, behind whose beginning it begins; of a storage of its own, -1 - its number."""
    nbytes: int
    sides: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype


class Given:
    """The tensors, lists and dicts in a block's arguments, by number; then also those of what it made."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.containers: list[Any] = []
        self._told: list[Any] = []
        self._inside: set[int] = set()
        self._numbers: dict[int, int] = {}

    def storages(self) -> tuple[int, ...]:
        """Of each tensor, the number of the first one that lies in the same storage."""
        first: dict[int, int] = {}
        return tuple(first.setdefault(each.untyped_storage()._cdata, at) for at, each in enumerate(self.tensors))

    def holders(self) -> tuple[tuple[int, int], ...]:
        """Of the tensors in lists and dicts, which a block may let go of, how many others hold them too."""
        return tuple(
            (sys.getrefcount(self.tensors[at]), torch._C._storage_Use_Count(self.tensors[at].untyped_storage()._cdata))
            for at in sorted(self._inside)
        )

    def layout(self, value: Any, *, new: bool = False, inside: bool = False) -> Any:
        """How a value is put together of tensors, lists and dicts by number, and plain values.

        Args:
            value: an argument, or a result.
            new: number its lists and dicts too.
            inside: what is in a list or dict, which has a number.

        Raises:
            Unlike: it holds something else.
        """
        if isinstance(value, PLAIN):
            return type(value), value
        if isinstance(value, Tensor):
            if id(value) not in self._numbers:
                self._numbers[id(value)] = len(self.tensors)
                self.tensors.append(value)
            if new and inside:
                self._inside.add(self._numbers[id(value)])
            return Tensor, self._numbers[id(value)]
        if id(value) in self._numbers:
            return "given", self._numbers[id(value)]
        if type(value) not in (list, dict) and not isinstance(value, tuple):
            raise Unlike
        if new and not isinstance(value, tuple):
            self._numbers[id(value)] = len(self.containers)
            self.containers.append(value)
            self._told.append(told := self._parts(value, new=True, inside=True))
            return told
        return self._parts(value, new=new, inside=inside)

    def _parts(self, value: Any, *, new: bool, inside: bool) -> Any:
        if isinstance(value, dict):
            parts = ((key, self.layout(part, new=new, inside=inside)) for key, part in value.items())
        else:
            parts = (self.layout(part, new=new, inside=inside) for part in value)
        return type(value), tuple(parts)

    def let_go(self) -> None:
        """Hold nothing of what was given, as the block may be the last that does."""
        self.tensors = [weakref.ref(tensor) for tensor in self.tensors]

    def afterwards(self, out: Any) -> tuple[dict[int, Any], Any, tuple[Made, ...]]:
        """What a block left in lists and dicts, by their numbers, what it gave back, and the tensors that it made.

        Raises:
            Unlike: there is no telling how to do that again.
        """
        self.tensors = [tensor() for tensor in self.tensors]
        count = len(self.tensors)
        self._numbers = {id(each): at for at, each in enumerate(self.containers)}
        self._numbers |= {id(tensor): at for at, tensor in enumerate(self.tensors) if tensor is not None}
        now = [self._parts(each, new=False, inside=True) for each in self.containers]
        left = {at: each for at, each in enumerate(now) if each != self._told[at]}
        return left, self.layout(out), tuple(described(self.tensors[count:], self.tensors[:count]))

    def build(self, told: Any) -> Any:
        """The value that is put together so."""
        kind, parts = told
        if kind is Tensor:
            return self.tensors[parts]
        if kind == "given":
            return self.containers[parts]
        if kind is dict:
            return {key: self.build(part) for key, part in parts}
        if not issubclass(kind, (list, tuple)) or kind is torch.Size:
            return parts
        made = [self.build(part) for part in parts]
        return kind(*made) if hasattr(kind, "_fields") else kind(made)

    def refill(self, number: int, told: Any) -> None:
        """Let a list or dict hold what is told."""
        container, now = self.containers[number], self.build(told)
        container.clear()
        container.update(now) if isinstance(container, dict) else container.extend(now)


def described(made: list[Tensor], given: list[Tensor | None]) -> Iterator[Made]:
    """What a block made, in words that can be followed again.

    Raises:
        Unlike: numbers that are known, or an argument's seen as another dtype.
    """
    places = {each.untyped_storage()._cdata: at for at, each in enumerate(given) if each is not None}
    own: dict[int, tuple[int, torch.dtype]] = {}
    for tensor in made:
        storage = tensor.untyped_storage()
        place = places.get(storage._cdata)
        offset = int(tensor.storage_offset())
        if place is None:
            number, dtype = own.setdefault(storage._cdata, (-1 - len(own), tensor.dtype))
        else:
            number, like = place, given[place]
            assert like is not None
            dtype, offset = like.dtype, offset - int(like.storage_offset())
        known = place is None and not isinstance(tensor, FakeTensor)
        if known or dtype is not tensor.dtype or tensor.requires_grad or storage.nbytes() % dtype.itemsize:
            raise Unlike
        yield Made(number, storage.nbytes(), tuple(tensor.shape), tensor.stride(), offset, dtype)
