"""What tensors cost without computing them: live bytes, FLOPs and shapes. Knows torch, but no graph and no node.

``Ledger`` counts what passes through torch, in a real run or in a trial. ``Trial`` lets nothing large be computed: what
depends on weights or is large becomes a fake tensor (torch's FakeTensorMode), which has a shape and no numbers. Small
tensors that follow from what was given alone stay real, so that masks, positions and noise levels, on which a program
may branch, are what they will be.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from itertools import zip_longest
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode

SMALL = 2**20
"""Numbers in a tensor that may be computed in a trial: a millisecond."""
CHEAP = 10**8
"""Operations that one call may take in a trial."""

aten = torch.ops.aten
FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_counter.flop_registry,
    # torch counts attention's kernels for GPUs, but not the one for CPUs
    aten._scaled_dot_product_flash_attention_for_cpu: flop_counter.sdpa_flop,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_counter.sdpa_backward_flop,
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._unsafe_index.Tensor}
LIKE = {aten.zeros_like.default, aten.ones_like.default, aten.full_like.default, aten.empty_like.default}
NEW = {aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.new_empty.default}
"""Operations whose numbers do not depend on those of the tensor that they take."""


class Ledger(TorchDispatchMode):
    """Counts the bytes of all live storages and the FLOPs of all operations while it is entered.

    What a kernel uses inside and gives back is not seen, nor what an allocator rounds up.

    Attributes:
        live: bytes of the storages that were seen and still exist.
        peak: the most that were live at once; set it to ``live`` to begin anew.
        flops: of matrix products, convolutions and attention, two for each multiplication with an addition.
        on_read: told of each storage set apart that an operation takes, by its address.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.flops = 0
        self.on_read: Callable[[int], None] = lambda _: None
        self._held: dict[int, weakref.ref[Any]] = {}
        self._apart: dict[int, Callable[[], None]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.hold(tensors_in((args, kwargs)))
        out = func(*args, **kwargs)
        self.hold(tensors_in(out))
        self.flops += flops_of(func, args, kwargs, out)
        return out

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Count the storages of tensors as long as they exist."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in self._apart:
                self._apart[key]()
                self.on_read(key)
            elif key not in self._held and tensor.device.type != "meta":
                size = storage.nbytes()
                self._held[key] = weakref.ref(storage, lambda _, key=key, size=size: self._drop(key, size))
                self.live += size
        self.peak = max(self.peak, self.live)

    def set_apart(self, tensors: Iterable[Tensor], told: Callable[[], None]) -> None:
        """Do not count the storages of tensors, which outlive this; ``told`` is called where an operation sees one."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if self._held.pop(storage._cdata, None) is not None:
                self.live -= storage.nbytes()
            self._apart[storage._cdata] = told

    def _drop(self, key: int, size: int) -> None:
        del self._held[key]
        self.live -= size


class _Fakes(FakeTensorMode):
    """Torch's mode, but a tensor that is copied with the object it stands in belongs to the same."""

    def __deepcopy__(self, memo: Any) -> _Fakes:
        return self


class Trial(TorchDispatchMode):
    """Lets nothing large be computed: see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.fakes = _Fakes(allow_non_fake_inputs=True)
        self._forgotten: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in LIKE or func in NEW:
            args = (self._stand_in(func, args[0]), *args[1:])
        tensors = list(tensors_in((args, kwargs)))
        if not any(map(self.is_unknown, tensors)):
            return self._known(func, args, kwargs)
        if func.is_view and not any(isinstance(tensor, FakeTensor) for tensor in tensors):
            return func(*args, **kwargs)  # of a storage that is forgotten
        return self._faked(func, self._without_masks(func, args), kwargs)

    def is_unknown(self, tensor: Tensor) -> bool:
        """Whether a tensor's numbers are not those of a real run."""
        return isinstance(tensor, FakeTensor) or tensor.untyped_storage()._cdata in self._forgotten

    def forget(self, tensors: Iterable[Tensor]) -> None:
        """The numbers of these real tensors are not those of a real run."""
        for tensor in tensors:
            if not self.is_unknown(tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                self._forgotten[key] = weakref.ref(storage, lambda _, key=key: self._forgotten.pop(key))

    def settle(self, value: Any, meet: Callable[[nn.Module], None] = lambda _: None) -> Any:
        """A value whose tensors on the meta device become fakes on the CPU; networks are changed in place.

        Args:
            value: of any kind.
            meet: told each network in it.
        """
        return _each_tensor(value, self._settled, meet)

    def _settled(self, tensor: Tensor) -> Tensor:
        if tensor.device.type != "meta":
            return tensor
        with self.fakes:
            fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(fake, requires_grad=tensor.requires_grad)
        return fake.requires_grad_(tensor.requires_grad)

    def _known(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Compute, where that is little; all inputs are known."""
        if func.is_view or func._schema.is_mutable or _is_small(func, args):
            return func(*args, **kwargs)
        try:
            fake = self._faked(func, args, kwargs)
        except Exception:  # noqa: BLE001  its shape follows from numbers, which are there
            return func(*args, **kwargs)
        if all(made.numel() <= SMALL for made in tensors_in(fake)) and flops_of(func, args, kwargs, fake) <= CHEAP:
            return func(*args, **kwargs)
        return fake

    def _faked(self, func: Any, args: Any, kwargs: Any) -> Any:
        fakes = _each_tensor((args, kwargs), self._fake)  # of these alone torch remembers what comes out
        with self.fakes:
            out = func(*fakes[0], **fakes[1])
        written = list(_written(func, args, kwargs))
        self.forget(written)
        if written and len(func._schema.returns) == 1:
            return written[0]
        return out

    def _stand_in(self, func: Any, like: Tensor) -> Tensor:
        """For a tensor that a new one shall be like, one whose numbers are known, where that is small."""
        if not self.is_unknown(like):
            return like
        sides = like.shape if func in LIKE else (0,)
        strides = like.stride() if func in LIKE else (1,)
        return torch.empty_strided(sides, strides, dtype=like.dtype) if math.prod(sides) <= SMALL else like

    def _fake(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        with self.fakes:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)

    def _without_masks(self, func: Any, args: Any) -> Any:
        """The arguments with places instead of known masks: how many they choose is then a shape."""
        if func not in INDEXING:
            return args
        places: list[Any] = []
        for index in args[1]:
            if index is not None and index.dtype is torch.bool and not self.is_unknown(index):
                places += index.nonzero(as_tuple=True)
            else:
                places.append(index)
        return args[0], places, *args[2:]


@contextmanager
def trial() -> Iterator[tuple[Trial, Ledger]]:
    """What is done inside is not computed, but counted."""
    with warnings.catch_warnings(), Trial() as tried, Ledger() as ledger:
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # copy.deepcopy looks at it
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")  # making a fake does
        yield tried, ledger


def _is_small(func: Any, args: Any) -> bool:
    """Whether an operation goes number by number, over few of them."""
    if torch.Tag.pointwise not in func.tags:
        return False
    shapes = [tensor.shape for tensor in tensors_in(args)]
    return math.prod(map(max, zip_longest(*map(reversed, shapes), fillvalue=1))) <= SMALL


def flops_of(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """FLOPs of one operation, by torch's formulas."""
    formula = FORMULAS.get(getattr(func, "_overloadpacket", None))
    return 0 if formula is None else int(formula(*args, **kwargs, out_val=out))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of an operation's arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_in(part)


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    if not func._schema.is_mutable:
        return
    for at, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from tensors_in(args[at] if at < len(args) else kwargs.get(argument.name))


def _each_tensor(
    value: Any, change: Callable[[Tensor], Tensor], meet: Callable[[nn.Module], None] = lambda _: None
) -> Any:
    """A value with other tensors in the same places."""
    if isinstance(value, Tensor):
        return change(value)
    if value is None or isinstance(value, (int, float, str, torch.dtype)):
        return value
    if isinstance(value, nn.Module):
        for module in value.modules():
            for name, parameter in module._parameters.items():
                module._parameters[name] = None if parameter is None else cast(nn.Parameter, change(parameter))
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else change(buffer)
        meet(value)
        return value
    if isinstance(value, dict):
        return {key: _each_tensor(part, change, meet) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_each_tensor(part, change, meet) for part in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_each_tensor(part, change, meet) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        found = {part.name: getattr(value, part.name) for part in fields(value) if part.init}
        changed = {name: _each_tensor(part, change, meet) for name, part in found.items()}
        return value if all(changed[name] is found[name] for name in found) else replace(value, **changed)
    return value
