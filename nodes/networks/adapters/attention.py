"""How a library's network computes attention: in the way that was named. Knows no one network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from kineograph.nodes.networks.attention import choice
from kineograph.nodes.networks.attention.backends import SDPA, Case, computed_in
from kineograph.numerics import AUTO


def dispatch(network: nn.Module, x: Tensor) -> None:
    """Let a network of diffusers compute attention in the way that was named; where none was, in the library's own.

    It holds until it is said otherwise, so that a backward pass computes blocks again as they were computed.

    Args:
        network: of diffusers.
        x: what it is given, for its device.

    Raises:
        ValueError: the way that was named cannot be taken here, or the network knows none but its own.
    """
    # what diffusers' set_attention_backend sets too, but that also changes the default of all other networks
    processors = [module.processor for module in network.modules() if hasattr(module, "processor")]
    asking: list[Any] = [processor for processor in processors if hasattr(processor, "_attention_backend")]
    name, backend = choice.asked(), SDPA
    if name != AUTO and not isinstance(x, FakeTensor):
        backend = choice.named(name, _case(network, x))
        if backend.of_library != SDPA.of_library and not asking:
            raise ValueError(
                f"The attention {name!r} was asked for, but a {type(network).__name__} takes none but torch's. Leave "
                "--attention out."
            )
    choice.take(backend)
    for processor in asking:
        processor._attention_backend = None if name == AUTO else backend.of_library


def _case(network: Any, x: Tensor) -> Case:
    weights = list(network.parameters())
    grad = torch.is_grad_enabled() and any(each.requires_grad for each in weights)
    return Case(str(x.device), computed_in(x.to(weights[0].dtype)), network.config.attention_head_dim, grad)
