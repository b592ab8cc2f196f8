"""Low-rank updates beside the linear layers of a network (Hu et al. 2021): knows three layouts of names, no file.

The network that an update is given to is not changed and its weights are not copied: what comes out is another tree of
modules over the same tensors, in which y = W x becomes y = W x + strength * scale * B (A x).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PREFIXES = (
    "base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "lora_unet_",
    "lora_transformer_", "",
)  # fmt: skip
"""Before a layer's name: PEFT's, ComfyUI's, diffusers' and kohya's."""
ENDS = re.compile(r"(.+?)\.(?:(lora_A|lora_down)|(lora_B|lora_up))(?:\.default)?\.weight|(.+)\.(alpha)")


@dataclass(frozen=True)
class LowRank:
    """The update of one layer: scale * up @ down.

    Attributes:
        down: (r, in), A.
        up: (out, r), B.
        scale: alpha / r, or 1 where a file says nothing.
    """

    down: Tensor
    up: Tensor
    scale: float


class LoraLinear(nn.Module):
    """A linear layer and an update beside it."""

    def __init__(self, base: nn.Module, update: LowRank, strength: float) -> None:
        """Put an update beside a layer, which may have others already.

        Args:
            base: the layer.
            update: of its shape.
            strength: how much of it.
        """
        super().__init__()
        self.base = base
        self.down, self.up = _parameter(update.down), _parameter(update.up)
        self.scale = strength * update.scale

    @property
    def weight(self) -> Tensor:
        """Of the layer, without updates: networks look at its dtype and device."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """Of the layer."""
        return self.base.bias  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        # in the layer's dtype, so that in training of float32 updates no wider copy of x is kept
        added = nn.functional.linear(nn.functional.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))
        said = self.base(x)
        return said + self.scale * added.to(said.dtype)


def _parameter(tensor: Tensor) -> nn.Parameter:
    """The parameter itself where a training owns it, so that gradients reach it."""
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, False)


@dataclass(frozen=True)
class LowRankConfig:
    """What updates are for.

    Attributes:
        rank: r of every update.
        alpha: alpha / r scales them.
        layers: (name, in, out) of each linear layer that has one.
    """

    rank: int = 1
    alpha: float = 1.0
    layers: Sequence[tuple[str, int, int]] = ()


class LowRankUpdates(nn.Module):
    """Low-rank updates of a network's layers, apart from it: what is trained while the network stays as it is."""

    def __init__(self, config: LowRankConfig) -> None:
        """Make updates that change nothing yet: A as a linear layer's weight, B zero (Hu et al. 2021, section 4.1).

        Args:
            config: which layers, of which rank.
        """
        super().__init__()
        self.config = config
        self.pairs = nn.ModuleList(_Pair(taken, given, config.rank) for _, taken, given in config.layers)

    def by_layer(self) -> dict[str, LowRank]:
        """The updates by the names of the layers, over the parameters of this module."""
        scale = self.config.alpha / self.config.rank
        return {
            name: LowRank(pair.down.weight, pair.up.weight, scale)  # type: ignore[arg-type]
            for (name, _, _), pair in zip(self.config.layers, self.pairs, strict=True)
        }


def trainable(updates: Mapping[str, LowRank], network: nn.Module, file: str) -> LowRankUpdates:
    """Updates of a file as what can be trained, in float32, in the order of the network's layers.

    Args:
        updates: by the names of the network's layers.
        network: that they are for.
        file: where they came from, for the error.

    Raises:
        ValueError: their ranks or scales differ.
    """
    ranks, scales = {each.down.shape[0] for each in updates.values()}, {each.scale for each in updates.values()}
    if len(ranks) > 1 or len(scales) > 1:
        raise ValueError(
            f"{file} has ranks of {_range(ranks)} and scales of {_range(scales)}, and one rank and one alpha for all "
            "layers can be trained. apply_lora takes it as it is: train a new one on top of it."
        )
    rank = ranks.pop()
    config = LowRankConfig(rank, scales.pop() * rank, [each for each in sizes(layers(network)) if each[0] in updates])
    made = LowRankUpdates(config)
    for (name, _, _), pair in zip(config.layers, made.pairs, strict=True):
        pair.down.weight = nn.Parameter(updates[name].down.float())  # type: ignore[union-attr]
        pair.up.weight = nn.Parameter(updates[name].up.float())  # type: ignore[union-attr]
    return made


def _range(found: Collection[float]) -> str:
    least, most = min(found), max(found)
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"


class _Pair(nn.Module):
    """A (down) and B (up) of one layer, as linear layers: an optimizer takes them for the hidden matrices they are."""

    def __init__(self, taken: int, given: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(taken, rank, bias=False), nn.Linear(rank, given, bias=False)
        nn.init.zeros_(self.up.weight)


def hidden_layers(network: nn.Module, endings: Sequence[str]) -> list[tuple[str, int, int]]:
    """The linear layers in a network's blocks, each with the features it takes and gives.

    Args:
        network: its blocks stand in lists of modules.
        endings: of the names that are wanted (to_q, ffn.net.2); none wants all.

    Raises:
        ValueError: an ending that no layer has, with those that there are.
    """
    stacks = tuple(f"{name}." for name, module in network.named_modules() if isinstance(module, nn.ModuleList))
    found = {name: layer for name, layer in layers(network).items() if name.startswith(stacks)}
    if unknown := [end for end in endings if not any(f".{name}".endswith(f".{end}") for name in found)]:
        # the names within a block, which stands in its list under a number
        known = sorted({re.split(r"\.\d+\.", name, maxsplit=1)[1] for name in found})
        raise ValueError(f"No layer's name ends in {', '.join(unknown)}; the layers of a block are {', '.join(known)}.")
    wanted = tuple(f".{end}" for end in endings) or ("",)
    return sizes({name: layer for name, layer in found.items() if f".{name}".endswith(wanted)})


def sizes(found: Mapping[str, nn.Module]) -> list[tuple[str, int, int]]:
    """The names of linear layers, each with the features it takes and gives."""
    shapes = {name: layer.weight.shape for name, layer in found.items()}
    return [(name, shape[1], shape[0]) for name, shape in shapes.items()]  # type: ignore[index]


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of a network by name, those with updates as one each."""
    return dict(_layers(network, ""))


def _layers(module: nn.Module, place: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, (nn.Linear, LoraLinear)):
            yield place + name, child
        else:
            yield from _layers(child, f"{place}{name}.")


def updates_of(
    state: Mapping[str, Tensor],
    network: nn.Module,
    others: Mapping[str, str | tuple[str, ...]],
    default_scale: float | None,
    file: str,
) -> dict[str, LowRank]:
    """The updates of a file by the names of a network's layers.

    Args:
        state: tensors by name, in the layout of kohya, diffusers or PEFT.
        network: whose layers they are for.
        others: other names of its layers, for example those of the model's first repository; of one that is several
            here (queries, keys and values in one), these in the order of its rows.
        default_scale: alpha / r, where it stands beside the file; a tensor alpha counts more.
        file: where they came from, for the error.

    Raises:
        ValueError: every tensor that is no update of a layer of this network, in one list.
    """
    known = layers(network)
    aliases = {name: (name,) for name in known}
    aliases |= {old: new for old, each in others.items() if known.keys() >= set(new := _several(each))}
    aliases |= {old.replace(".", "_"): new for old, new in aliases.items()}
    found: dict[tuple[str, ...], dict[str, Tensor]] = {}
    wrong: list[str] = []
    for name, tensor in state.items():
        ends = ENDS.fullmatch(name)
        layer = _layer(ends[1] or ends[4], aliases) if ends else None
        if ends is None or layer is None:
            wrong.append(name)
        else:
            found.setdefault(layer, {})["down" if ends[2] else "up" if ends[3] else "alpha"] = tensor
    made: dict[str, LowRank] = {}
    for layer, parts in (one for names, whole in found.items() for one in _apart(names, whole, known)):
        wrong += _misfits(layer, parts, known[layer].weight)  # type: ignore[arg-type]
        if not wrong:
            rank = parts["down"].shape[0]
            scale = float(parts["alpha"]) / rank if "alpha" in parts else default_scale or 1.0
            made[layer] = LowRank(parts["down"], parts["up"], scale)
    if wrong or not made:
        listed = ", ".join(wrong[:20]) + (", ..." if len(wrong) > 20 else "")
        raise ValueError(
            f"{file} does not fit this {type(network).__name__}: "
            + (
                f"{len(wrong)} of its tensors are no low-rank updates of its layers: {listed}"
                if wrong
                else "it is empty"
            )
        )
    return made


def with_updates(network: nn.Module, updates: Mapping[str, LowRank], strength: float) -> nn.Module:
    """A network with updates beside its layers, over the same tensors.

    Args:
        network: not changed.
        updates: by the names of its layers.
        strength: how much of them; 0 is none, below 0 the opposite.
    """
    shared = {id(each): each for each in [*network.parameters(), *network.buffers()]}
    made = copy.deepcopy(network, dict(shared))
    for name, update in updates.items():
        place, _, last = name.rpartition(".")
        base = made.get_submodule(name)
        like: Tensor = base.weight  # type: ignore[assignment]
        if not update.down.requires_grad:
            update = LowRank(update.down.to(like.dtype), update.up.to(like.dtype), update.scale)
        setattr(made.get_submodule(place), last, LoraLinear(base, update, strength))
    if (resident := getattr(network, "resident", None)) is not None:
        resident.share(made)
    return made


def _several(name: str | tuple[str, ...]) -> tuple[str, ...]:
    return (name,) if isinstance(name, str) else name


def _apart(
    names: tuple[str, ...], parts: Mapping[str, Tensor], known: Mapping[str, nn.Module]
) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """The update of layers that a file has as one, for each: its own rows of B, and all of A."""
    begin = 0
    for place, name in enumerate(names):
        rows: int = known[name].weight.shape[0]  # type: ignore[union-attr, assignment]
        end = begin + rows if place + 1 < len(names) else None  # the last one tells of rows too many
        yield name, {part: each[begin:end] if part == "up" and each.ndim else each for part, each in parts.items()}
        begin += rows


def _layer(name: str, aliases: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    for prefix in PREFIXES:
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            for inner in (rest, *(rest.removeprefix(each) for each in PREFIXES)):
                if inner in aliases:
                    return aliases[inner]
    return None


def _misfits(layer: str, parts: Mapping[str, Tensor], weight: Tensor) -> list[str]:
    """What is wrong with the update of a layer."""
    if missing := {"down", "up"} - parts.keys():
        return [f"{layer} (no {' and no '.join(sorted(missing))})"]
    down, up = parts["down"], parts["up"]
    shapes = tuple(up.shape), tuple(down.shape)
    if down.ndim != 2 or up.ndim != 2 or (up.shape[0], down.shape[1]) != weight.shape or up.shape[1] != down.shape[0]:
        return [f"{layer} ({shapes[0]} x {shapes[1]} for {tuple(weight.shape)})"]
    return []


def without_numbers(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of these shapes on the meta device."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
