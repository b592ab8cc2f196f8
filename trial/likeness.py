"""When a trial cannot tell two tensors, or two blocks of a network, apart. Knows torch, and no network.

A tensor whose numbers nobody knows is like any other of its shape, strides and dtype; one that is known has to hold the
same numbers. A block is like another one where both are made of the same classes, plain values and tensors.
"""

from __future__ import annotations

import functools
import hashlib
import weakref
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from kineograph.trial import Trial

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.layout)
FIXED = (FunctionType, BuiltinFunctionType, type)
"""What is like nothing but itself, and does not change."""
OUTSIDE = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
"""What of a block happens before it is asked and after."""
USUAL = frozenset(vars(nn.Module()))
"""Attributes of all modules."""
Likeness = Any
"""What can be compared: equal where a trial cannot tell two things apart."""


class Unlike(Exception):
    """There is no telling what something is like."""


class Likenesses:
    """What tensors and blocks of one trial are like."""

    def __init__(self, trial: Trial) -> None:
        """Of a trial, which knows whose numbers are known."""
        self._trial = trial
        self._numbers: dict[Likeness, int] = {}
        self._blocks: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self._digests: dict[Any, tuple[weakref.ref[Any], bytes]] = {}

    def forget(self, *blocks: nn.Module) -> None:
        """Blocks may have changed; all of them, where none is named."""
        for block in blocks or list(self._blocks):
            self._blocks.pop(block, None)

    def of_tensor(self, tensor: Tensor) -> Likeness:
        """A tensor's layout; of one whose numbers are known, also these."""
        numbers = None if self._trial.is_unknown(tensor) else self._digest(tensor)
        kind = type(tensor), tensor.dtype, tensor.device, tensor.requires_grad
        return kind, tuple(tensor.shape), tensor.stride(), tensor.untyped_storage().nbytes(), numbers

    def _digest(self, tensor: Tensor) -> bytes:
        storage = tensor.untyped_storage()
        place = storage._cdata, tensor._version, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
        if place not in self._digests:
            with _disable_current_modes():
                numbers = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
                made = hashlib.blake2b(numbers.tobytes(), digest_size=16).digest()
            forget = functools.partial(self._digests.pop, place, None)
            self._digests[place] = weakref.ref(storage, lambda _: forget()), made
        return self._digests[place][1]

    def of_block(self, block: nn.Module) -> int:
        """The same number for blocks that are alike."""
        if block not in self._blocks:
            parts = {name: part for name, part in vars(block).items() if name not in OUTSIDE}
            like = type(block), self._of_parts(_without_none(parts), {id(block): 0})
            self._blocks[block] = self._numbers.setdefault(like, len(self._numbers))
        return self._blocks[block]

    def _of(self, value: Any, seen: dict[int, int]) -> Likeness:
        """What a block is like, or a part of it: what it is made of, down to plain values."""
        if isinstance(value, PLAIN):
            return type(value), value
        if isinstance(value, FIXED):
            return value
        if id(value) in seen:
            return "seen", seen[id(value)]
        seen[id(value)] = len(seen)
        if isinstance(value, Tensor):
            return self.of_tensor(value)
        if isinstance(value, (tuple, list)):
            return type(value), tuple(self._of(part, seen) for part in value)
        if isinstance(value, dict):
            return type(value), self._of_parts(value, seen)
        if isinstance(value, (set, frozenset)) and all(isinstance(part, PLAIN) for part in value):
            return type(value), frozenset(value)
        if isinstance(value, MethodType):
            return MethodType, value.__func__, self._of(value.__self__, seen)
        if isinstance(value, functools.partial):
            return functools.partial, *(self._of(part, seen) for part in (value.func, value.args, value.keywords))
        if isinstance(value, nn.Module) and (value._forward_hooks or value._forward_pre_hooks):
            raise Unlike  # somebody listens
        if isinstance(value, nn.Module):
            return type(value), self._of_parts(_without_none(vars(value)), seen)
        if hasattr(value, "__dict__") and not hasattr(type(value), "__slots__"):
            return type(value), self._of_parts(vars(value), seen)
        raise Unlike

    def _of_parts(self, parts: dict[Any, Any], seen: dict[int, int]) -> Likeness:
        return tuple((self._of(key, seen), self._of(part, seen)) for key, part in parts.items())


def _without_none(parts: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a module but those that torch gives to all and that are empty here."""
    return {name: part for name, part in parts.items() if part or name not in USUAL}
