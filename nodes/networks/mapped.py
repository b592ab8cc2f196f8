"""Networks on the meta device filled with weights that stay in their files, mapped into memory. Trusts no file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from kineograph.nodes.networks.weights import check_fit, load_weights


def mapped_weights(files: Iterable[Path]) -> dict[str, Tensor]:
    """The tensors of safetensors files: on the CPU, read from disk when they are used.

    Raises:
        ValueError: a file that lies about itself, or a name that stands in two of them.
    """
    state: dict[str, Tensor] = {}
    for path in files:
        found, _ = load_weights(path)
        if twice := sorted(state.keys() & found.keys()):
            raise ValueError(f"{twice[0]} stands in {path.name} and in a file before it: which one is meant?")
        state |= found
    return state


def assign(
    network: nn.Module, state: Mapping[str, Tensor], source: str, dtype: torch.dtype, kept: Collection[str] = ()
) -> None:
    """Give a network on the meta device its weights. Those that have the dtype already are not copied.

    Args:
        network: on the meta device.
        state: tensors by name.
        source: where they came from, for the error.
        dtype: of the numbers.
        kept: parts of names whose numbers are float32 whatever the dtype is.

    Raises:
        ValueError: every missing, unexpected or mis-shaped weight, in one list; or numbers that are none.
    """
    check_fit(network, state, source)
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} of {source} holds {tensor.dtype}, and weights are floating-point numbers.")
    network.load_state_dict(converted(state, dtype, kept), assign=True)
    left = [name for name, each in [*network.named_parameters(), *network.named_buffers()] if each.is_meta]
    assert not left, f"{left[0]} has no numbers"
    network.eval().requires_grad_(False)


def converted(state: Mapping[str, Tensor], dtype: torch.dtype, kept: Collection[str] = ()) -> dict[str, Tensor]:
    """Weights with numbers of a dtype, but float32 where a part of the name is among ``kept``."""
    parts = set(kept)
    return {
        name: tensor.to(dtype if parts.isdisjoint(name.split(".")) else torch.float32) for name, tensor in state.items()
    }
