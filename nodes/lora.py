"""Low-rank updates (LoRA) of a DiT, new and from files of kohya, diffusers and PEFT. Knows no network, no training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.paths import output_file
from kineograph.nodes.sockets import DiT, LoRA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from kineograph.nodes.networks.lora import LowRank

PREFIX = "transformer."
"""Before the names of layers and of settings, as diffusers writes them."""
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
    return _applied(dit, _shapes(path), 1.0, path, strength)


def _shapes(path: str) -> dict[str, Tensor]:
    """The updates of a file without their numbers."""
    from kineograph.nodes.networks.lora import without_numbers
    from kineograph.nodes.networks.weights import tensor_shapes

    shapes = {name: shape for name, shape in tensor_shapes(_file(path)).items() if not name.endswith(".alpha")}
    return without_numbers(shapes)


@node(fingerprint=lora_digest, estimate=outlined_lora, views=("dit",))
def apply_lora(dit: DiT, path: str, strength: Strength = 1.0) -> DiT:
    """Put low-rank updates beside a DiT's layers: W x + strength * alpha / r * B (A x) (Hu et al. 2021).

    The model is not copied, and the one that was given stays as it is. Chain this node for several, each with a
    strength of its own. Files of kohya and musubi (lora_unet_...), diffusers and PEFT are read, for the embedded model
    and, in their own names and in those of diffusers, for Wan and LTX-Video.

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
    return _updated(dit, _updates(dit, state, scale, path), strength)


def _updates(dit: DiT, state: dict[str, Tensor], scale: float | None, path: str) -> dict[str, LowRank]:
    """The updates of a file by the names of a model's layers."""
    from kineograph.nodes.networks.lora import updates_of

    return updates_of(state, _inner(dit), _first_names(dit), scale, Path(path).name)


def _first_names(dit: DiT) -> Mapping[str, str | tuple[str, ...]]:
    """From the names of a DiT's layers in its authors' files to those of its library, where these differ."""
    from kineograph.nodes.families.layouts import hunyuan, ltx, wan
    from kineograph.nodes.networks.adapters.hunyuan import HunyuanVideoDiT
    from kineograph.nodes.networks.adapters.ltx import LTXDiT
    from kineograph.nodes.networks.adapters.wan import VACEDiT, WanDiT

    if isinstance(dit.network, (VACEDiT, WanDiT)):
        return wan.wan_aliases(len(_inner(dit).blocks))
    if isinstance(dit.network, HunyuanVideoDiT):
        sizes = _inner(dit).config
        return hunyuan.aliases(sizes.num_layers, sizes.num_single_layers, sizes.num_refiner_layers)
    return ltx.ALIASES if isinstance(dit.network, LTXDiT) else {}


def _updated(dit: DiT, updates: dict[str, LowRank], strength: float) -> DiT:
    from kineograph.nodes.networks.lora import with_updates

    place = "" if _inner(dit) is dit.network else "network."
    made: Any = with_updates(dit.network, {f"{place}{name}": each for name, each in updates.items()}, strength)
    return replace(dit, network=made)


def _inner(dit: DiT) -> Any:
    """The network whose layers have the names that files use: of an adapter, what it is around."""
    from kineograph.nodes.networks.adapters.experts import Experts

    if isinstance(dit.network, Experts):
        raise ValueError(
            "A LoRA is for one DiT, and this model has two: load each by load_video_dit (the folders transformer and "
            "transformer_2), give each its LoRA, and join_experts."
        )
    return getattr(dit.network, "network", dit.network)


def start_digest(start: str) -> str:
    """The digest of the LoRA to go on from, if one is named."""
    return lora_digest(start) if start else ""


def outlined_start(dit: DiT, start: str, **sizes: Any) -> LoRA:
    """What ``start_lora`` gives, without the LoRA's numbers."""
    import torch

    import kineograph.nodes.networks.components  # noqa: F401  not inside: the tables of its modules are real

    with torch.device("meta"):
        if not start:
            return start_lora(dit, **sizes)
        return _trainable(dit, _shapes(start), 1.0, start)


def _trainable(dit: DiT, state: dict[str, Tensor], scale: float | None, path: str) -> LoRA:
    from kineograph.nodes.networks.lora import trainable

    network: Any = trainable(_updates(dit, state, scale, path), _inner(dit), Path(path).name)
    return LoRA(network.eval().requires_grad_(False))


@node(fingerprint=start_digest, estimate=outlined_start)
def start_lora(
    dit: DiT,
    rank: Annotated[int, Field(ge=1, le=1024)] = 16,
    alpha: Annotated[float, Field(ge=0)] = 0.0,
    layers: list[str] | None = None,
    seed: int = 0,
    start: str = "",
) -> LoRA:
    """Low-rank updates that a training starts from: new ones, which change nothing yet, or those of a file.

    Args:
        dit: the model; only its sizes are looked at.
        rank: r; B A has it at most. A file to go on from has its own, and its own alpha and layers.
        alpha: the updates are scaled by alpha / rank; 0 is the rank, that is a scale of 1.
        layers: endings of the names of layers in the model's blocks, to_q or ffn.net.2; none are all.
        seed: of the random A; B is zero.
        start: a LoRA to go on from, a file or folder as ``apply_lora`` reads it; empty makes a new one.

    Raises:
        ValueError: an ending that no layer has, with those that there are; or a file that does not fit the model, or
            whose layers have ranks or scales of their own.
    """
    from kineograph.nodes.networks.components import build
    from kineograph.nodes.networks.lora import hidden_layers
    from kineograph.nodes.networks.weights import load_weights

    if start:
        state, metadata = load_weights(_file(start))
        return _trainable(dit, state, _scale(_file(start), metadata), start)
    config = {"rank": rank, "alpha": alpha or float(rank), "layers": hidden_layers(_inner(dit), layers or [])}
    network: Any = build("lora", config, seed).requires_grad_(False)
    return LoRA(network)


@node(views=("dit", "lora"))
def add_lora(dit: DiT, lora: LoRA, strength: Strength = 1.0) -> DiT:
    """Put low-rank updates beside a DiT's layers, as ``apply_lora`` does with those of a file; nothing is copied.

    In training, what is computed with the result has gradients for the updates, and none for the DiT's own weights.

    Args:
        dit: the model.
        lora: started for it or for one of its sizes.
        strength: how much of it; 0 is nothing, 1 as trained.

    Raises:
        ValueError: it was started for a model of other layers.
    """
    from kineograph.nodes.networks.lora import layers, sizes

    config = lora.network.config
    if strange := sorted({tuple(each) for each in config.layers} - set(sizes(layers(_inner(dit))))):
        name, taken, given = strange[0]
        raise ValueError(
            f"This LoRA was started for another model: {len(strange)} of its {len(config.layers)} layers are not in "
            f"this one, the first is {name} ({taken} to {given})."
        )
    return _updated(dit, lora.network.by_layer(), strength)


@node(effect=True)
def save_lora(
    lora: LoRA,
    run: RunContext,
    path: Annotated[str, output_file(".safetensors")] = "lora.safetensors",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> None:
    """Write a LoRA in the names of diffusers and PEFT, with rank, alpha and its workflow in the header.

    ``apply_lora`` reads it, and of an open video model diffusers' ``load_lora_weights`` does.

    Args:
        lora: a trained one.
        path: below the output folder, ends in .safetensors.
        dtype: of the numbers.
    """
    write_lora(lora, run, path, dtype)


def write_lora(lora: LoRA, run: RunContext, path: str, dtype: str = "float32") -> Path:
    """What ``save_lora`` does; gives the file's place."""
    import torch

    from kineograph.nodes.networks.weights import save_weights

    config = lora.network.config
    state = {
        f"{PREFIX}{name}.{end}.weight": tensor.detach().to(getattr(torch, dtype))
        for name, update in lora.network.by_layer().items()
        for end, tensor in (("lora_A", update.down), ("lora_B", update.up))
    }
    about = {
        "peft_type": "LORA", "r": config.rank, "lora_alpha": config.alpha, "bias": "none",
        "target_modules": [name for name, _, _ in config.layers],
    }  # fmt: skip
    header = json.dumps({f"{PREFIX}{name}": value for name, value in about.items()})
    target = run.output_path(path)
    save_weights(target, state, {"format": "pt", "lora_adapter_metadata": header, "workflow": run.provenance})
    run.wrote(target)
    return target


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
        prefix = PREFIX
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} carries settings that cannot be read.")
    if found.get(f"{prefix}alpha_pattern") or found.get(f"{prefix}rank_pattern") or found.get(f"{prefix}use_dora"):
        raise ValueError(f"{path.name} has ranks of its own for some layers, or is a DoRA; neither is known here.")
    alpha, rank = (found.get(prefix + name) for name in ("lora_alpha", "r"))
    if not isinstance(alpha, (int, float)) or not isinstance(rank, int) or rank < 1:
        return None
    return float(alpha) / rank ** (0.5 if found.get(f"{prefix}use_rslora") else 1.0)
