"""Blocks of a network that a trial has seen at work are not walked again. Knows torch, but no graph and no network.

A video model asks many equal blocks, and its autoencoder asks the same ones for every tile and every frame. A block
whose structure, weights' shapes and arguments are those of one that was walked makes the same tensors, of the same
shapes over the same storages, in as many operations and bytes. So they are made at once, without the operations
between. Where that cannot be shown, the block is walked: an argument or a part of the block of an unknown kind, known
numbers that were changed, state that the block kept, gradients that are recorded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooked
from torch.utils._python_dispatch import _disable_current_modes

from kineograph.trial.given import Given, Made
from kineograph.trial.likeness import Likeness, Likenesses, Unlike

if TYPE_CHECKING:
    from kineograph.trial import Ledger, Trial

ENTER, LEAVE, READ = "enter", "leave", "read"


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
    made: tuple[Made, ...]
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
        self._likenesses = Likenesses(trial)
        self._walks: dict[Likeness, _Walk] = {}
        self._kinds: dict[type, type] = {}

    def watch(self, network: nn.Module) -> None:
        """Let what is in a network's lists of modules, and what holds such lists, ask here before it is walked."""
        for module in list(network.modules()):
            lists = [child for child in module.children() if isinstance(child, nn.ModuleList)]
            for block in [module, *(item for each in lists for item in each if item is not None)] if lists else []:
                if not isinstance(block, (nn.ModuleList, *self._kinds.values())):
                    block.__class__ = self._asking(type(block))

    def begin(self) -> None:
        """Another node begins: between two, networks may be changed."""
        self._likenesses.forget()

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
            given = Given()
            try:
                like = self._like_call(block, given, (args, kwargs))
            except Unlike:
                return walk(*args, **kwargs)
            if like in self._walks:
                return self._again(self._walks[like], block, given)
            return self._first(like, block, lambda: walk(*args, **kwargs), given)
        finally:
            self._heard.append((LEAVE, block))
            self._deep -= 1
            if not self._deep:
                self._heard.clear()

    def _like_call(self, block: nn.Module, given: Given, arguments: Any) -> Likeness:
        """What a block and its arguments are like.

        Raises:
            Unlike: there is no telling.
        """
        told = given.layout(arguments, new=True), given.storages(), given.holders()
        state = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        return self._likenesses.of_block(block), told, tuple(map(self._likenesses.of_tensor, given.tensors)), state

    def _first(self, like: Likeness, block: nn.Module, walk: Callable[[], Any], given: Given) -> Any:
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
        self._likenesses.forget(block)
        try:
            left, told, made = given.afterwards(out)
            same = self._likenesses.of_block(block) == like[0] and known == self._versions(given.tensors[: len(known)])
            named = tuple(_named(block, self._heard[heard:]))
        except Unlike:
            return out
        if same:
            self._walks[like] = _Walk(grown, ledger.flops - flops, named, made, told, left)
        return out

    def _again(self, walk: _Walk, block: nn.Module, given: Given) -> Any:
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

    def _made(self, told: tuple[Made, ...], given: list[Tensor]) -> list[Tensor]:
        """New tensors, in storages of their own or of what was given."""
        made: list[Tensor] = []
        own: dict[int, Tensor] = {}
        for each in told:
            if each.of >= 0:
                of = given[each.of]
                made.append(of.as_strided(each.sides, each.strides, of.storage_offset() + each.offset))
                continue
            with _disable_current_modes(), self._trial.fakes:
                if each.of not in own:
                    own[each.of] = torch.empty(each.nbytes // each.dtype.itemsize, dtype=each.dtype)
                made.append(own[each.of].as_strided(each.sides, each.strides, each.offset))
        return made


def _named(block: nn.Module, heard: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """What was heard while a block was walked, by names in it.

    Raises:
        Unlike: it asked something else.
    """
    modules = {id(module): name for name, module in block.named_modules()}
    weights = {weight.untyped_storage()._cdata: name for name, weight in _weights(block)}
    last = None
    for mark, what in heard:
        name = weights.get(what) if mark is READ else modules.get(id(what))
        if name is None:
            raise Unlike
        if (mark, name) != last:
            yield mark, name
        last = mark, name


def _weights(block: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from block.named_parameters()
    yield from block.named_buffers()
