"""Blocks of a network that a trial has seen at work are not walked again. Knows torch, but no graph and no network.

A video model asks many equal blocks, and its autoencoder asks the same ones for every tile and every frame. A block
whose structure, weights' shapes and arguments are those of one that was walked makes the same tensors, of the same
shapes over the same storages, in as many operations and bytes. So they are made at once, without the operations
between. Where that cannot be shown, the block is walked: an argument or a part of the block of an unknown kind, known
numbers that were changed, state that the block kept, gradients that are recorded.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import module as hooked
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from kineograph.trial import Ledger, Trial

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.layout)
FIXED = (FunctionType, BuiltinFunctionType, type)
"""What is like nothing but itself, and does not change."""
OUTSIDE = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
"""What of a block happens before it is asked and after."""
USUAL = frozenset(vars(nn.Module()))
"""Attributes of all modules."""
ENTER, LEAVE, READ = "enter", "leave", "read"
Likeness = Any
"""What can be compared: equal where a trial cannot tell two things apart."""


class _Unlike(Exception):
    """There is no telling what something is like."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A tensor that a block made: a view of a storage, of one of its arguments' or of its own."""

    of: int
    """Number of the argument; of a storage of its own, -1 - its number."""
    nbytes: int
    sides: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class _Walk:
    """What a block did.

    Attributes:
        grown: bytes at its peak beside those that were live before.
        flops: as in the ledger.
        heard: what modules and weights in it were asked, in order: a mark and a name.
        made: its new tensors.
        out: how its result is put together.
        left: the same of its arguments' lists and dicts that it changed, by their numbers.
    """

    grown: int
    flops: int
    heard: tuple[tuple[str, str], ...]
    made: tuple[_Made, ...]
    out: Any
    left: dict[int, Any]


class Repeats:
    """Remembers what blocks did in one trial."""

    def __init__(self, trial: Trial, ledger: Ledger) -> None:
        """Of a trial, whose bytes and FLOPs a ledger counts."""
        self._trial, self._ledger = trial, ledger
        self._deep = 0
        self._heard: list[tuple[str, Any]] = []
        ledger.on_read = self._read
        self._walks: dict[Likeness, _Walk] = {}
        self._kinds: dict[type, type] = {}
        self._numbers: dict[Likeness, int] = {}
        self._likenesses: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self._digests: dict[Any, tuple[weakref.ref[Any], bytes]] = {}

    def watch(self, network: nn.Module) -> None:
        """Let what is in a network's lists of modules, and what holds such lists, ask here before it is walked."""
        for module in list(network.modules()):
            lists = [child for child in module.children() if isinstance(child, nn.ModuleList)]
            for block in [module, *(item for each in lists for item in each if item is not None)] if lists else []:
                if not isinstance(block, (nn.ModuleList, *self._kinds.values())):
                    block.__class__ = self._asking(type(block))

    def begin(self) -> None:
        """Another node begins: between two, networks may be changed."""
        self._likenesses.clear()

    def _read(self, storage: int) -> None:
        if self._deep:
            self._heard.append((READ, storage))

    def _asking(self, kind: type) -> type:
        """A class like another one, whose forward asks first. A class, as copies of a block keep theirs."""
        if kind in self._kinds:
            return self._kinds[kind]

        @functools.wraps(kind.forward)
        def forward(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return self._forward(block, functools.partial(kind.forward, block), args, kwargs)

        told = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
        made = type(kind.__name__, (kind,), told | {"forward": forward})
        self._kinds[kind] = self._kinds[made] = made
        return made

    def _forward(self, block: nn.Module, walk: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._heard.append((ENTER, block))
        self._deep += 1
        try:
            if torch.is_grad_enabled():  # what a backward pass would need is kept on the way
                return walk(*args, **kwargs)
            given = _Given()
            try:
                like = self._like_call(block, given, (args, kwargs))
            except _Unlike:
                return walk(*args, **kwargs)
            if like in self._walks:
                return self._again(self._walks[like], block, given)
            return self._first(like, block, lambda: walk(*args, **kwargs), given)
        finally:
            self._heard.append((LEAVE, block))
            self._deep -= 1
            if not self._deep:
                self._heard.clear()

    def _like_call(self, block: nn.Module, given: _Given, arguments: Any) -> Likeness:
        """What a block and its arguments are like.

        Raises:
            _Unlike: there is no telling.
        """
        told = given.layout(arguments, new=True), given.storages(), given.holders()
        state = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        return self._like_block(block), told, tuple(map(self._like_tensor, given.tensors)), state

    def _first(self, like: Likeness, block: nn.Module, walk: Callable[[], Any], given: _Given) -> Any:
        """Walk a block, and remember what it did where an equal one would do the same."""
        ledger = self._ledger
        known = self._versions(given.tensors)
        live, peak, flops, heard = ledger.live, ledger.peak, ledger.flops, len(self._heard)
        ledger.peak = live
        given.let_go()
        try:
            out = walk()
        finally:
            grown = ledger.peak - live
            ledger.peak = max(peak, ledger.peak)
        self._likenesses.pop(block, None)
        try:
            left, told, made = given.afterwards(out)
            same = self._like_block(block) == like[0] and known == self._versions(given.tensors[: len(known)])
            named = tuple(_named(block, self._heard[heard:]))
        except _Unlike:
            return out
        if same:
            self._walks[like] = _Walk(grown, ledger.flops - flops, named, made, told, left)
        return out

    def _again(self, walk: _Walk, block: nn.Module, given: _Given) -> Any:
        """What a block makes that does what an equal one did."""
        ledger = self._ledger
        self._tell(walk, block)
        ledger.peak = max(ledger.peak, ledger.live + walk.grown)
        ledger.flops += walk.flops
        made = self._made(walk.made, given.tensors)
        given.tensors += made
        for at, told in walk.left.items():
            given.refill(at, told)
        out = given.build(walk.out)
        given.tensors.clear()  # what the block lets go of is gone before what it made counts
        ledger.hold(made)
        return out

    def _tell(self, walk: _Walk, block: nn.Module) -> None:
        """Let those who listen to all modules and to weights hear what a walk of the block would tell them."""
        modules, weights = dict(block.named_modules()), dict(_weights(block))
        for mark, name in walk.heard:
            if mark is READ:
                self._ledger.hold([weights[name]])
                continue
            self._heard.append((mark, modules[name]))
            hooks = hooked._global_forward_pre_hooks if mark is ENTER else hooked._global_forward_hooks
            for hook in hooks.values():
                hook(modules[name], (), *[None] * (mark is LEAVE))

    def _versions(self, tensors: list[Tensor | None]) -> list[int | None]:
        """How often tensors whose numbers are known were written to; no number for those that are gone."""
        unknown = self._trial.is_unknown
        return [None if tensor is None or unknown(tensor) else tensor._version for tensor in tensors]

    def _made(self, told: tuple[_Made, ...], given: list[Tensor]) -> list[Tensor]:
        """New tensors, in storages of their own or of what was given."""
        made: list[Tensor] = []
        own: dict[int, Tensor] = {}
        for each in told:
            place = each.sides, each.strides, each.offset
            if each.of >= 0:
                made.append(given[each.of].as_strided(*place))
                continue
            with _disable_current_modes(), self._trial.fakes:
                if each.of not in own:
                    own[each.of] = torch.empty(each.nbytes // each.dtype.itemsize, dtype=each.dtype)
                made.append(own[each.of].as_strided(*place))
        return made

    def _like_tensor(self, tensor: Tensor) -> Likeness:
        """A tensor's layout; of one whose numbers are known, also these."""
        if self._trial.is_unknown(tensor):
            numbers = None
        else:
            numbers = self._digest(tensor)
        sides, strides = tuple(tensor.shape), tensor.stride()
        kind = type(tensor), tensor.dtype, tensor.device, tensor.requires_grad
        return kind, sides, strides, tensor.storage_offset(), tensor.untyped_storage().nbytes(), numbers

    def _digest(self, tensor: Tensor) -> bytes:
        storage = tensor.untyped_storage()
        place = storage._cdata, tensor._version, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
        if place not in self._digests:
            with _disable_current_modes():
                numbers = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
                made = hashlib.blake2b(numbers, digest_size=16).digest()
            forget = functools.partial(self._digests.pop, place, None)
            self._digests[place] = weakref.ref(storage, lambda _: forget()), made
        return self._digests[place][1]

    def _like_block(self, block: nn.Module) -> int:
        """The same number for blocks that are alike."""
        if block not in self._likenesses:
            parts = {name: part for name, part in vars(block).items() if name not in OUTSIDE}
            like = type(block), self._like(_without_none(parts), {id(block): 0})
            self._likenesses[block] = self._numbers.setdefault(like, len(self._numbers))
        return self._likenesses[block]

    def _like(self, value: Any, seen: dict[int, int]) -> Likeness:
        """What a block is like, or a part of it: what it is made of, down to plain values."""
        if isinstance(value, PLAIN):
            return type(value), value
        if isinstance(value, FIXED):
            return value
        if id(value) in seen:
            return "seen", seen[id(value)]
        seen[id(value)] = len(seen)
        if isinstance(value, Tensor):
            return self._like_tensor(value)
        if isinstance(value, (tuple, list)):
            return type(value), tuple(self._like(part, seen) for part in value)
        if isinstance(value, dict):
            return type(value), tuple((self._like(key, seen), self._like(part, seen)) for key, part in value.items())
        if isinstance(value, (set, frozenset)) and all(isinstance(part, PLAIN) for part in value):
            return type(value), frozenset(value)
        if isinstance(value, MethodType):
            return MethodType, value.__func__, self._like(value.__self__, seen)
        if isinstance(value, functools.partial):
            return functools.partial, self._like((value.func, value.args, value.keywords), seen)
        if isinstance(value, nn.Module) and (value._forward_hooks or value._forward_pre_hooks):
            raise _Unlike  # somebody listens
        if isinstance(value, nn.Module):
            return type(value), self._like(_without_none(vars(value)), seen)
        if hasattr(value, "__dict__") and not hasattr(type(value), "__slots__"):
            return type(value), self._like(vars(value), seen)
        raise _Unlike


class _Given:
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
            _Unlike: it holds something else.
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
            raise _Unlike
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

    def afterwards(self, out: Any) -> tuple[dict[int, Any], Any, tuple[_Made, ...]]:
        """What a block left in lists and dicts, by their numbers, what it gave back, and the tensors that it made.

        Raises:
            _Unlike: there is no telling how to do that again.
        """
        self.tensors = [tensor() for tensor in self.tensors]
        count = len(self.tensors)
        self._numbers = {id(each): at for at, each in enumerate(self.containers)}
        self._numbers |= {id(tensor): at for at, tensor in enumerate(self.tensors) if tensor is not None}
        now = [self._parts(each, new=False, inside=True) for each in self.containers]
        left = {at: each for at, each in enumerate(now) if each != self._told[at]}
        return left, self.layout(out), tuple(_describe(self.tensors[count:], self.tensors[:count]))

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


def _describe(made: list[Tensor], given: list[Tensor | None]) -> Iterator[_Made]:
    """What a block made, in words that can be followed again.

    Raises:
        _Unlike: numbers that are known, or an argument's seen as another dtype.
    """
    places = {each.untyped_storage()._cdata: at for at, each in enumerate(given) if each is not None}
    own: dict[int, tuple[int, torch.dtype]] = {}
    for tensor in made:
        storage = tensor.untyped_storage()
        place = places.get(storage._cdata)
        if place is None:
            number, dtype = own.setdefault(storage._cdata, (-1 - len(own), tensor.dtype))
        else:
            number, dtype = place, given[place].dtype  # type: ignore[union-attr]
        known = place is None and not isinstance(tensor, FakeTensor)
        if known or dtype is not tensor.dtype or tensor.requires_grad or storage.nbytes() % dtype.itemsize:
            raise _Unlike
        yield _Made(number, storage.nbytes(), tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), dtype)


def _without_none(parts: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a module but those that torch gives to all and that are empty here."""
    return {name: part for name, part in parts.items() if part or name not in USUAL}


def _named(block: nn.Module, heard: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """What was heard while a block was walked, by names in it.

    Raises:
        _Unlike: it asked something else.
    """
    modules = {id(module): name for name, module in block.named_modules()}
    weights = {weight.untyped_storage()._cdata: name for name, weight in _weights(block)}
    last = None
    for mark, what in heard:
        name = weights.get(what) if mark is READ else modules.get(id(what))
        if name is None:
            raise _Unlike
        if (mark, name) != last:
            yield mark, name
        last = mark, name


def _weights(block: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from block.named_parameters()
    yield from block.named_buffers()
