"""Low-rank updates (LoRA) of a DiT from files, in the layouts of kohya, diffusers and PEFT. Knows no network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.sockets import DiT

if TYPE_CHECKING:
    from torch import Tensor

FILES = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
"""How PEFT and diffusers call the file in a folder."""
Strength = Annotated[float, Field(ge=-10, le=10)]


def lora_digest(path: str) -> str:
    """The digest of a LoRA's file, and of the configuration beside it."""
    from kineograph.nodes.families.folders import digest

    weights = _file(path)
    beside = weights.parent / "adapter_config.json"
    return digest([weights, *([beside] if beside.is_file() else [])])


def outlined_lora(dit: DiT, path: str, strength: Strength) -> DiT:
    """What ``apply_lora`` gives, without the LoRA's numbers."""
    from kineograph.nodes.networks.lora import without_numbers
    from kineograph.nodes.networks.weights import tensor_shapes

    shapes = {name: shape for name, shape in tensor_shapes(_file(path)).items() if not name.endswith(".alpha")}
    return _applied(dit, without_numbers(shapes), 1.0, path, strength)


@node(fingerprint=lora_digest, estimate=outlined_lora, views=("dit",))
def apply_lora(dit: DiT, path: str, strength: Strength = 1.0) -> DiT:
    """Put low-rank updates beside a DiT's layers: W x + strength * alpha / r * B (A x) (Hu et al. 2021).

    The model is not copied, and the one that was given stays as it is. Chain this node for several, each with a
    strength of its own. Files of kohya and musubi (lora_unet_...), diffusers and PEFT are read, for the embedded model
    and for Wan in its own names and in those of diffusers.

    Args:
        dit: the model it was trained for.
        path: a safetensors file, or a folder with adapter_model.safetensors or pytorch_lora_weights.safetensors.
        strength: how much of it; 0 is nothing, 1 as trained.

    Raises:
        ValueError: no such file, or one for another model, with every tensor that finds no layer.
    """
    from kineograph.nodes.networks.weights import load_weights

    state, metadata = load_weights(_file(path))
    return _applied(dit, state, _scale(_file(path), metadata), path, strength)


def _applied(dit: DiT, state: dict[str, Tensor], scale: float | None, path: str, strength: float) -> DiT:
    from kineograph.nodes.families.original import wan_aliases
    from kineograph.nodes.networks.adapters.experts import Experts
    from kineograph.nodes.networks.adapters.wan import VACEDiT, WanDiT
    from kineograph.nodes.networks.lora import updates_of, with_updates

    network: Any = dit.network
    if isinstance(network, Experts):
        raise ValueError(
            f"{Path(path).name} is for one DiT, and this model has two: load each by load_video_dit (the folders "
            "transformer and transformer_2), give each its LoRA, and join_experts."
        )
    inner = getattr(network, "network", network)  # of an adapter, what it is around
    others = wan_aliases(len(inner.blocks)) if isinstance(network, (WanDiT, VACEDiT)) else {}
    updates = updates_of(state, inner, others, scale, Path(path).name)
    if inner is not network:
        updates = {f"network.{name}": update for name, update in updates.items()}
    made: Any = with_updates(network, updates, strength)
    return replace(dit, network=made)


def _file(path: str) -> Path:
    place = Path(path)
    found = (
        place if "\0" in path or not place.is_dir() else next(filter(Path.is_file, map(place.joinpath, FILES)), place)
    )
    if "\0" in path or not found.is_file():
        raise ValueError(f"There is no LoRA {path!r}: give a safetensors file, or a folder with {' or '.join(FILES)}.")
    return found


def _scale(path: Path, metadata: dict[str, str]) -> float | None:
    """alpha / r as PEFT keeps it beside the file, or diffusers in its header; None where nothing is said."""
    from kineograph.nodes.families.folders import settings

    beside = path.parent / "adapter_config.json"
    if beside.is_file():
        found, prefix = settings(beside), ""
    else:
        try:
            found = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        except (ValueError, RecursionError):
            found = None
        prefix = "transformer."
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} carries settings that cannot be read.")
    if found.get(f"{prefix}alpha_pattern") or found.get(f"{prefix}rank_pattern") or found.get(f"{prefix}use_dora"):
        raise ValueError(f"{path.name} has ranks of its own for some layers, or is a DoRA; neither is known here.")
    alpha, rank = (found.get(prefix + name) for name in ("lora_alpha", "r"))
    if not isinstance(alpha, (int, float)) or not isinstance(rank, int) or rank < 1:
        return None
    return float(alpha) / rank ** (0.5 if found.get(f"{prefix}use_rslora") else 1.0)
