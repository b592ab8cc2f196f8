"""Several processes that train one network together: knows torch's process groups, no graph and no loss.

A network is sharded by FSDP2 (``fully_shard``): each process holds a part of every weight, and all of a block only
while it computes with it. The batch is shared out too, and gradients are means over the processes. Without a process
group, everything here gives back what it was given.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore  # type: ignore[reportPrivateImportUsage]  documented, if not in __all__
from torch.distributed.rendezvous import rendezvous

from kineograph.nodes.networks.batches import mapped, part_of

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[None]:
    """Meet the other processes that torchrun started, as its environment says. Tensors are on the CPU, so by gloo.

    The group is left in peace where all went well; after an error nobody may be there to take leave of.
    """
    store, rank, count = next(rendezvous("env://"))
    # torchrun's store outlives a restart: without a prefix the processes would look for those that are gone
    store = PrefixStore(f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
    yield
    dist.destroy_process_group()


def rank() -> int:
    """The number of this process; 0 where it is alone."""
    return dist.get_rank() if _together() else 0


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _together() else 1


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def share_of(batch: T) -> T:
    """This process's equal part of a batch.

    Raises:
        ValueError: the batch cannot be cut evenly.
    """
    if count() == 1:
        return batch
    try:
        return part_of(batch, rank(), count())
    except ValueError as error:
        raise ValueError(f"A batch is shared out among {count()} processes: {error}") from None


def gathered(share: T) -> T:
    """The batch that the processes' shares make, in their order: the inverse of :func:`share_of`."""
    return share if count() == 1 else mapped(share, _gathered)


def _gathered(value: Any) -> Any:
    if isinstance(value, Tensor):
        parts = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(count())]
        dist.all_gather(parts, value.contiguous())
        return torch.cat(parts)
    return tuple(text for part in words_of_ranks(value) for text in part)


def mean_of_ranks(value: Tensor, weight: Tensor | float) -> tuple[Tensor, Tensor]:
    """The mean of the processes' values, each with its weight.

    Its number is the same everywhere. Its gradient is that of this process's part, times the number of processes: the
    mean of the processes' gradients, which is what they exchange, is then the gradient of the mean.

    Args:
        value: of this process, no dimensions, with its history.
        weight: what it counts, for example numbers that it is the mean of.

    Returns:
        The mean, and the sum of the weights.
    """
    weight = torch.as_tensor(weight, dtype=torch.float64)
    sums = torch.stack((value.detach() * weight, weight))
    dist.all_reduce(sums)
    total = sums[1].clamp_min(torch.finfo(torch.float64).tiny)
    own = value * (weight * count() / total).to(value.dtype)
    mean = (sums[0] / total).to(value.dtype)
    return own + (mean - own).detach(), sums[1]


def any_of_ranks(flags: Sequence[bool]) -> list[bool]:
    """For each flag, whether it is set in any process."""
    together = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(together, dist.ReduceOp.MAX)
    return [bool(flag) for flag in together]


def word_of_first(said: T) -> T:
    """What process 0 says, a few plain values, in all of them."""
    words = [said]
    dist.broadcast_object_list(words, src=0)
    return words[0]


def words_of_ranks(said: T) -> list[T]:
    """What each process says, a few plain values, in all of them."""
    words: list[Any] = [None] * count()
    dist.all_gather_object(words, said)
    return words


# --- weights


def shard(network: nn.Module) -> None:
    """Spread a network's weights over the processes: FSDP2 over every block of its stacks, and over the rest.

    Args:
        network: called by its ``forward`` alone; all processes hold equal weights. One that is sharded stays so.
    """
    if count() == 1 or _any_sharded(network):
        return
    from torch.distributed.fsdp import fully_shard

    # Its hooks would be lost where somebody overwrites what a block gives; ours give views, and nobody does.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = _mesh()
    for stack in network.modules():
        if isinstance(stack, nn.ModuleList):
            for block in stack:
                fully_shard(block, mesh=mesh)
    # The rest is gathered twice a step, as blocks are, so that between two nodes all weights are sharded.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


@cache
def _mesh() -> DeviceMesh:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh("cpu", (count(),))


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether this process holds a part of a tensor alone."""
    if not _together():  # importing DTensor takes a second
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def _any_sharded(network: nn.Module) -> bool:
    return any(is_sharded(parameter) for parameter in network.parameters())


def rows(tensor: DTensor) -> Tensor:
    """This process's rows of a sharded tensor: those that ``torch.chunk`` gives it, in this process's memory."""
    from torch.distributed.tensor import Shard

    assert tensor.placements == (Shard(0),)
    return tensor.to_local()


def from_rows(rows: Tensor, shape: Sequence[int]) -> DTensor:
    """A sharded tensor of rows that this process has read: the inverse of :func:`rows`.

    Args:
        rows: its own, kept without a copy.
        shape: of the whole.
    """
    from torch.distributed.tensor import DTensor, Shard

    stride = torch.empty(*shape, device="meta").stride()
    return DTensor.from_local(rows, _mesh(), [Shard(0)], run_check=False, shape=torch.Size(shape), stride=stride)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, gathered where it is sharded: then every process has to ask for it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def sharded_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor that every process has, sharded as another of its shape is."""
    if not is_sharded(like) or is_sharded(tensor) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import Shard, distribute_tensor

    # each takes its part from its own copy (None): nothing is sent
    return distribute_tensor(tensor.detach(), like.device_mesh, [Shard(0)], src_data_rank=None)


def plain_class(network: nn.Module) -> type[nn.Module]:
    """The class that a network was built of; FSDP2 derives one of its own from it."""
    kind = type(network)
    if not _any_sharded(network):
        return kind
    _, kind = kind.__bases__
    return kind


def plain_copy(network: nn.Module) -> nn.Module:
    """A copy of a network with weights of its own, gathered where they are sharded."""
    kind = plain_class(network)
    if kind is type(network):
        return deepcopy(network)
    with torch.device("meta"):
        plain = kind(network.config)
    weights = {name: whole(tensor.detach()) for name, tensor in network.state_dict().items()}
    plain.load_state_dict(weights, assign=True)
    return plain


def gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Sequence[Tensor | None]:
    """The gradient of a loss by each parameter, None where it does not depend on it; the mean over all processes.

    Args:
        loss: with its history.
        parameters: all sharded, or none of them.
    """
    if not any(is_sharded(parameter) for parameter in parameters):
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return found if count() == 1 else _means(found)
    # FSDP2 reduces in hooks of the backward pass, which leave what they reduced on the sharded parameters
    loss.backward()
    taken = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    return taken


def _means(values: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The mean of each gradient over the processes, exchanged at once; all have the same graph, so the same holes."""
    known = [value for value in values if value is not None]
    flat = torch.cat([value.reshape(-1) for value in known])
    dist.all_reduce(flat)
    means = iter((flat / count()).split([value.numel() for value in known]))
    return [None if value is None else next(means).view(value.shape) for value in values]
