"""Networks on the meta device filled with weights that stay in their files, mapped into memory. Trusts no file.

Weights are safetensors whose headers were checked, or torch's own archives (.pth), read with ``weights_only``: the
unpickler then knows tensors and containers and runs nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from kineograph.nodes.networks.weights import check_fit, load_weights, tensor_shapes

ARCHIVE = b"PK\x03\x04"
"""How torch's archives begin; its older files are bare pickles, which are not read."""


def is_archive(path: Path) -> bool:
    """Whether a file is one of torch's archives, by content."""
    with path.open("rb") as file:
        return file.read(len(ARCHIVE)) == ARCHIVE


def mapped_weights(files: Iterable[Path]) -> dict[str, Tensor]:
    """The tensors of files: on the CPU, read from disk when they are used.

    Raises:
        ValueError: a file that lies about itself, or a name that stands in two of them.
    """
    state: dict[str, Tensor] = {}
    for path in files:
        found = _archived(path) if is_archive(path) else load_weights(path)[0]
        if twice := sorted(state.keys() & found.keys()):
            raise ValueError(f"{twice[0]} stands in {path.name} and in a file before it: which one is meant?")
        state |= found
    return state


def shapes_in(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of files; no numbers are read.

    Raises:
        ValueError: as :func:`mapped_weights`.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        if is_archive(path):
            shapes |= {name: tuple(tensor.shape) for name, tensor in _archived(path).items()}
        else:
            shapes |= tensor_shapes(path)
    return shapes


def unscaled(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights without the factors that ComfyUI's scaled fp8 files hold beside them: w * scale_weight.

    Args:
        state: tensors by name; of ``x.weight``, the factor is ``x.scale_weight``.
        dtype: of the products.
    """
    marks = {name for name in state if name.split(".")[-1] in ("scale_weight", "scale_input", "scaled_fp8")}
    plain = {name: tensor for name, tensor in state.items() if name not in marks}
    for name in marks:
        owner = name.removesuffix("scale_weight") + "weight"
        if name.endswith("scale_weight") and owner in plain:
            plain[owner] = (plain[owner].float() * state[name].float()).to(dtype)
    return plain


def _archived(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # noqa: BLE001  the unpickler raises whatever a file makes it
        told = " ".join(str(error).split())[:200]
        raise ValueError(f"{path.name} is no archive of weights alone, and nothing else is read: {told}") from None
    if not isinstance(found, dict) or not all(isinstance(each, Tensor) for each in found.values()):
        raise ValueError(f"{path.name} holds something else than tensors by name.")
    return found


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
