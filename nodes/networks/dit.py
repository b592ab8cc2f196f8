"""A diffusion transformer over spacetime tokens: knows noise levels, positions and text, not where tokens come from.

Peebles & Xie 2023 (adaLN-zero), Chen et al. 2023 (adaLN-single: one modulation network, a small table per block), a
noise level for every token (Chen et al. 2024, diffusion forcing), and positions in seconds and pixels, so that any
duration, size and frame rate fits. Text keys and values stand beside the video's in every attention, under one softmax:
the encoder has already read the words in context, so they need no stream of their own, and no second attention.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from kineograph.nodes.networks.attention import attend
from kineograph.nodes.networks.rope import rotary_angles, rotate, turns

LEVEL_FEATURES = 128


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of a :class:`DiT`.

    Attributes:
        channels: C of the latent.
        patch: (pt, ph, pw) latent cells per token.
        text_width: features of a text token.
        width: D, features of a token inside.
        depth: blocks.
        heads: attention heads; width / heads is a multiple of 16.
        expansion: width of the feed-forward layer over ``width``.
    """

    channels: int = 12
    patch: tuple[int, int, int] = (1, 1, 1)
    text_width: int = 192
    width: int = 256
    depth: int = 8
    heads: int = 4
    expansion: int = 4

    def __post_init__(self) -> None:
        """Take lists for tuples, as JSON has them."""
        object.__setattr__(self, "patch", tuple(self.patch))
        if self.width % (16 * self.heads):
            raise ValueError(
                f"{self.heads} heads need a width that is a multiple of {16 * self.heads}, not {self.width}."
            )

    @property
    def token_width(self) -> int:
        """Numbers in one token."""
        return self.channels * math.prod(self.patch)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"patch": list(self.patch)}


class DiT(nn.Module):
    """Predicts the velocity of the flow at every token."""

    def __init__(self, config: DiTConfig) -> None:
        """Build with random weights; the velocity is zero at first, as every gate and the last layer start at zero.

        Args:
            config: the sizes.
        """
        super().__init__()
        self.config = config
        width = config.width
        self.token_in = nn.Linear(config.token_width, width)
        self.place_in = nn.Linear(PLACE_FEATURES, width, bias=False)
        self.text_in = nn.Sequential(nn.LayerNorm(config.text_width), nn.Linear(config.text_width, width))
        self.level_in = _two_layers(LEVEL_FEATURES, width)
        self.summary_in = _two_layers(config.text_width, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.expansion) for _ in range(config.depth))
        self.out_modulation = nn.Linear(width, 2 * width)
        self.token_out = nn.Linear(width, config.token_width)
        for layer in (self.modulation, self.out_modulation, self.token_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        tokens_BNC: Tensor,
        levels_BK: Tensor,
        positions_BN3: Tensor,
        text_BLE: Tensor,
        text_mask_BL: Tensor,
        recompute: bool = False,
    ) -> Tensor:
        """The velocity e - x0 at every token.

        Args:
            tokens_BNC: (B, N, C) noisy values, C numbers per token.
            levels_BK: (B, K) noise levels in [0, 1]; K divides N, and each holds for N / K tokens in a row. K = N is a
                level per token, K = t one per latent frame, K = 1 one for all: the fewer, the less work.
            positions_BN3: (B, N, 3) or (1, N, 3), each token's centre in seconds, pixels down, pixels right.
            text_BLE: (B, L, E) text tokens, of which token 0 sums the text up.
            text_mask_BL: (B, L) bool, True where a text token stands.
            recompute: keep only what enters each block, and compute the rest again in the backward pass (Chen et al.
                2016): less memory for a third more work.

        Returns:
            (B, N, C) velocity in float32.

        Raises:
            ValueError: the number of levels does not divide the number of tokens.
        """
        if tokens_BNC.shape[1] % levels_BK.shape[1]:
            raise ValueError(
                f"{levels_BK.shape[1]} noise levels cannot be shared out evenly among {tokens_BNC.shape[1]} tokens."
            )
        places_BN3 = centred(positions_BN3)
        x_BND = self.token_in(tokens_BNC) + self.place_in(place_features(places_BN3))
        turn = turns(rotary_angles(places_BN3, self.config.width // self.config.heads), x_BND.dtype)
        text_BLD = self.text_in(text_BLE)
        seen_BM = functional.pad(text_mask_BL, (x_BND.shape[1], 0), value=True)
        summary_B1D = self.summary_in(text_BLE[:, :1])
        state_BKD = functional.silu(self.level_in(level_features(levels_BK)) + summary_B1D)
        shared_BK6D = self.modulation(state_BKD).unflatten(-1, (6, -1))
        for block in self.blocks:
            inputs = (x_BND, shared_BK6D, turn, text_BLD, seen_BM)
            x_BND = _recomputed(block, *inputs) if recompute else block(*inputs)
        shift, scale = self.out_modulation(state_BKD).chunk(2, dim=-1)
        return self.token_out(_modulated(x_BND, shift, scale)).float()


class Block(nn.Module):
    """Attention over video and text, then a feed-forward layer, both gated and modulated by level and text."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.heads = heads
        self.table = nn.Parameter(torch.zeros(6, width))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.text_kv = nn.Linear(width, 2 * width, bias=False)
        self.q_norm, self.k_norm = nn.LayerNorm(width // heads, bias=False), nn.LayerNorm(width // heads, bias=False)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)

    def forward(
        self, x_BND: Tensor, shared_BK6D: Tensor, turn: tuple[Tensor, Tensor], text_BLD: Tensor, seen_BM: Tensor
    ) -> Tensor:
        modulation = (shared_BK6D + self.table).to(x_BND.dtype)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.unbind(dim=2)
        x_BND = _gated(x_BND, gate_1, self._attention(_modulated(x_BND, shift_1, scale_1), turn, text_BLD, seen_BM))
        hidden = functional.silu(self.up(_modulated(x_BND, shift_2, scale_2)))
        return _gated(x_BND, gate_2, self.down(hidden))

    def _attention(self, x_BND: Tensor, turn: tuple[Tensor, Tensor], text_BLD: Tensor, seen_BM: Tensor) -> Tensor:
        q, k, v = self.qkv(x_BND).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        text_k, text_v = self.text_kv(text_BLD).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(self.q_norm(q), turn), rotate(self.k_norm(k), turn)
        k, v = torch.cat((k, self.k_norm(text_k)), dim=2), torch.cat((v, text_v), dim=2)
        return self.out(attend(q, k, v, seen_BM).transpose(1, 2).flatten(2))


def level_features(levels_BK: Tensor) -> Tensor:
    """Cosines and sines of noise levels at frequencies from 1 to 1000 (Peebles & Xie 2023).

    Args:
        levels_BK: in [0, 1].

    Returns:
        (B, K, LEVEL_FEATURES).
    """
    rates = torch.logspace(0, 3, LEVEL_FEATURES // 2, device=levels_BK.device)
    angles = levels_BK[..., None] * rates
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def centred(positions_BN3: Tensor) -> Tensor:
    """Positions with the middle of the picture at pixel 0, 0; seconds stay as they are."""
    low, high = positions_BN3.amin(dim=1, keepdim=True), positions_BN3.amax(dim=1, keepdim=True)
    return positions_BN3 - (low + high) / 2 * positions_BN3.new_tensor([0.0, 1.0, 1.0])


def place_features(places_BN3: Tensor) -> Tensor:
    """Where a token stands in the picture: what rotary attention, which sees differences alone, cannot know.

    Args:
        places_BN3: (B, N, 3) as :func:`centred` gives them.

    Returns:
        (B, N, PLACE_FEATURES): waves over the picture's sides, which stretch with its size, and over seconds.
    """
    extent = places_BN3[..., 1:].amax(dim=1, keepdim=True).clamp_min(1)
    waves = torch.tensor([0.5, 1.0, 2.0], device=places_BN3.device) * math.pi
    across = (places_BN3[..., 1:] / extent)[..., None] * waves
    periods = 2 * math.pi / torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0], device=places_BN3.device)
    angles = torch.cat((across.flatten(-2), places_BN3[..., :1] * periods), dim=-1)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


PLACE_FEATURES = 2 * (2 * 3 + 5)


def _recomputed(block: nn.Module, *inputs: Any) -> Tensor:
    # a block draws no random numbers, so there is no state of a generator to keep
    return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)


def _two_layers(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))


def _modulated(x_BND: Tensor, shift_BKD: Tensor, scale_BKD: Tensor) -> Tensor:
    x = _grouped(functional.layer_norm(x_BND, x_BND.shape[-1:]), shift_BKD)
    return torch.addcmul(shift_BKD[:, :, None], x, 1 + scale_BKD[:, :, None]).flatten(1, 2)


def _gated(x_BND: Tensor, gate_BKD: Tensor, change_BND: Tensor) -> Tensor:
    return torch.addcmul(_grouped(x_BND, gate_BKD), gate_BKD[:, :, None], _grouped(change_BND, gate_BKD)).flatten(1, 2)


def _grouped(x_BND: Tensor, modulation_BKD: Tensor) -> Tensor:
    return x_BND.unflatten(1, (modulation_BKD.shape[1], -1))
