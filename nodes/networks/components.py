"""Networks with their configuration in one safetensors file each: knows kinds of networks, not what they are used for.

A model is a folder of ``dit.safetensors``, ``vae.safetensors`` and ``text_encoder.safetensors``; each carries its
configuration as JSON in the header's metadata.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kineograph.nodes.networks.adversarial import Discriminator, DiscriminatorConfig
from kineograph.nodes.networks.dit import DiT, DiTConfig
from kineograph.nodes.networks.gaussian import GaussianConfig, GaussianPrior
from kineograph.nodes.networks.lora import LowRankConfig, LowRankUpdates
from kineograph.nodes.networks.resident import attach
from kineograph.nodes.networks.text import TextConfig, TextEncoder
from kineograph.nodes.networks.vae import VAEConfig, VideoVAE
from kineograph.nodes.networks.weights import check_fit, check_header, fill, load_weights, save_weights

KINDS: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "dit": (DiTConfig, DiT),
    "vae": (VAEConfig, VideoVAE),
    "text_encoder": (TextConfig, TextEncoder),
    "gaussian_prior": (GaussianConfig, GaussianPrior),
    "discriminator": (DiscriminatorConfig, Discriminator),
    "lora": (LowRankConfig, LowRankUpdates),
}

LARGEST_SIZE = 2**14
"""More than any width, depth or table of the networks here."""


def build(kind: str, config: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """A network of a kind with random weights drawn from a seed.

    Args:
        kind: one of KINDS.
        config: its sizes by name.
        seed: of the weights.

    Raises:
        ValueError: a size is unknown or cannot be.
    """
    config_class, network_class = KINDS[kind]
    known = {field.name for field in fields(config_class)}
    if unknown := set(config) - known:
        raise ValueError(
            f"A {kind} has no size called {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network_class(config_class(**config))


def save(
    path: Path,
    kind: str,
    network: nn.Module,
    about: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a network with its configuration.

    Args:
        path: the file.
        kind: one of KINDS.
        network: of that kind.
        about: more metadata, for example the workflow that trained it.
        dtype: of the numbers; half precision, where none is given.
    """
    config = asdict(network.config)  # type: ignore[arg-type]
    numbers = {
        name: tensor.to(dtype or torch.float16) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    save_weights(path, numbers, {"kind": kind, "config": json.dumps(config), **(about or {})})


def outline(path: Path, kind: str) -> nn.Module:
    """A network as :func:`load` gives it, but on the meta device: of the file, only the header is read.

    Its weights can be brought from there, block by block.

    Raises:
        ValueError: no such file, a file that lies, another kind of network, or weights that do not fit.
    """
    with torch.device("meta"):
        network = build(kind, _config_of(check_header(path), kind, path.name)).eval().requires_grad_(False)
    attach(network, path)
    return network


def load(path: Path, kind: str) -> nn.Module:
    """Read a network, ready for use: float32, in evaluation mode, without gradients.

    Raises:
        ValueError: no such file, a file that lies, another kind of network, or weights that do not fit.
    """
    state, metadata = load_weights(path)
    config = _config_of(metadata, kind, path.name)
    with torch.device("meta"):  # sizes that the weights do not have must not take memory
        check_fit(build(kind, config), state, path.name)
    network = build(kind, config)
    fill(network, state, path.name)
    return network.eval().requires_grad_(False)


def _config_of(metadata: Mapping[str, str], kind: str, file: str) -> dict[str, Any]:
    """The sizes that a file states: each of the kind that the configuration has, and no larger than networks are."""
    if metadata.get("kind") != kind:
        raise ValueError(f"{file} holds a {metadata.get('kind', 'network of unknown kind')}, a {kind} is needed.")
    try:
        config = json.loads(metadata.get("config", ""))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{file} carries no readable configuration in its metadata.")
    usual = asdict(KINDS[kind][0]())
    for name, value in config.items():
        if name in usual and not _is_like(value, usual[name]):
            raise ValueError(f"{file} says {name} = {str(value)[:40]}, which no {kind} can have.")
    return config


def _is_like(value: Any, usual: Any) -> bool:
    if isinstance(usual, (list, tuple)):
        return isinstance(value, list) and len(value) == len(usual) and all(map(_is_like, value, usual))
    if isinstance(usual, int):
        return type(value) is int and 1 <= value <= LARGEST_SIZE
    return type(value) is type(usual) and (isinstance(value, str) or math.isfinite(value))
