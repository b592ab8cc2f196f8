"""A diffusion transformer over spacetime tokens: knows noise levels, positions and text, not where tokens come from.

Peebles & Xie 2023 (adaLN-zero), Chen et al. 2023 (adaLN-single: one modulation network, a small table per block), a
noise level for every token (Chen et al. 2024, diffusion forcing), and positions in seconds and pixels, so that any
duration, size and frame rate fits. Text keys and values stand beside the video's in every attention, under one softmax:
the encoder has already read the words in context, so they need no stream of their own, and no second attention.

Letters: B clips of one size, N tokens of a clip, L text tokens of a caption, S and U all video and all text tokens of
clips of any size, behind each other, R noise levels, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from kineograph.nodes.networks.attention.choice import attend_within
from kineograph.nodes.networks.attention.segments import Segments
from kineograph.nodes.networks.diffusion import PREDICTIONS
from kineograph.nodes.networks.packing import Runs, join
from kineograph.nodes.networks.rope import rotary_angles, rotate, turns, unturned

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
        predicts: what the network is asked for, see :func:`diffusion.preconditioning`.
        data_std: deviation of the data, where ``predicts`` is edm.
    """

    channels: int = 12
    patch: tuple[int, int, int] = (1, 1, 1)
    text_width: int = 192
    width: int = 256
    depth: int = 8
    heads: int = 4
    expansion: int = 4
    predicts: str = "velocity"
    data_std: float = 1.0

    def __post_init__(self) -> None:
        """Take lists for tuples, as JSON has them."""
        object.__setattr__(self, "patch", tuple(self.patch))
        if self.width % (16 * self.heads):
            raise ValueError(
                f"{self.heads} heads need a width that is a multiple of {16 * self.heads}, not {self.width}."
            )
        if self.predicts not in PREDICTIONS:
            raise ValueError(f"A DiT cannot predict {self.predicts!r}; it can predict {', '.join(PREDICTIONS)}.")

    @property
    def token_width(self) -> int:
        """Numbers in one token."""
        return self.channels * math.prod(self.patch)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"patch": list(self.patch)}


class DiT(nn.Module):
    """Predicts the velocity of the flow, or what else ``config.predicts`` names, at every token."""

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

    def forward(self, batches: Sequence[Batch], *, through: Through | None = None) -> list[Tensor]:
        """The velocity e - x0, or what else ``config.predicts`` names, at every token of clips of any sizes.

        The clips are packed into one sequence without padding. Every layer runs once over all S tokens, and the
        modulation once for each of the R levels; attention, positions and the middle of the picture are each clip's
        own, so what a clip gets is what it would get alone.

        Args:
            batches: clips of one size each; one batch is the plain case.
            through: how the tokens go through the blocks; one block after another by default.

        Returns:
            (B, N, C) velocity in float32, for each batch.

        Raises:
            ValueError: the number of levels does not divide the number of tokens.
        """
        head_width = self.config.width // self.config.heads
        layout = Layout.of(batches, head_width)
        places = [centred(batch.positions_BN3) for batch in batches]
        x_SD = self.token_in(join([batch.tokens_BNC for batch in batches]))
        pairs = zip(places, batches, strict=True)
        x_SD = x_SD + self.place_in(layout.clips.join([place_features(place, batch.period) for place, batch in pairs]))
        angles = [rotary_angles(place, head_width, batch.period) for place, batch in zip(places, batches, strict=True)]
        turn = turns(layout.clips.join(angles), x_SD.dtype)
        text_UD = self.text_in(join([batch.text_BLE for batch in batches]))
        state_RD = functional.silu(self._states(batches))
        modulation_R6D = self.modulation(state_RD).unflatten(-1, (6, -1))
        x_SD = (through or in_turn)(list(self.blocks), x_SD, Shared(modulation_R6D, turn, text_UD, layout))
        shift, scale = self.out_modulation(state_RD).chunk(2, dim=-1)
        return layout.clips.cut(self.token_out(_modulated(x_SD, shift, scale, layout.levels)).float())

    def _states(self, batches: Sequence[Batch]) -> Tensor:
        """What modulates the tokens of each level: (R, D) from the level and the clip's text as a whole."""
        levels_R = torch.cat([batch.levels_BK.flatten() for batch in batches])
        summary_BE = torch.cat([batch.text_BLE[:, 0] for batch in batches])
        levels_of_clips = Runs.of([batch.levels_BK for batch in batches])
        return self.level_in(level_features(levels_R)) + levels_of_clips.spread(self.summary_in(summary_BE))


class Batch(NamedTuple):
    """Clips of one size, as a DiT takes them.

    Attributes:
        tokens_BNC: (B, N, C) noisy values, C numbers per token.
        levels_BK: (B, K) noise levels in [0, 1]; K divides N, and each holds for N / K tokens in a row. K = N is a
            level per token, K = t one per latent frame, K = 1 one for all: the fewer, the less work.
        positions_BN3: (B, N, 3) or (1, N, 3), each token's centre in seconds, pixels down, pixels right.
        text_BLE: (B, L, E) text tokens, of which token 0 sums the text up.
        text_mask_BL: (B, L) bool, True where a text token stands.
        period: seconds after which time comes round, in clips that are loops.
        grid: (t, h, w) tokens along each axis; N is more where keyframes stand beside them. Networks that know tokens
            by their number need it, this one knows them by their place.
        cell: (seconds, pixels down, pixels right) that a latent cell covers, for networks that count cells.
        beside_BKthw: (B, K, t, h, w) channels beside the noisy ones, for networks that are told of given frames so.
        pictures_BPLE: (B, P, L, E) tokens of an image encoder about P of those frames.
        strength: how much a network that has them apart heeds those channels.
    """

    tokens_BNC: Tensor
    levels_BK: Tensor
    positions_BN3: Tensor
    text_BLE: Tensor
    text_mask_BL: Tensor
    period: float | None = None
    grid: tuple[int, int, int] | None = None
    cell: tuple[float, float, float] | None = None
    beside_BKthw: Tensor | None = None
    pictures_BPLE: Tensor | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class Layout:
    """How a sequence of video tokens, and one of text tokens, are cut into clips and noise levels.

    Attributes:
        clips: runs of video tokens that see each other.
        captions: runs of text tokens, one for each clip.
        levels: runs of video tokens of one noise level.
        segments: the clips with what they see: for each batch (B, N + L), video tokens and where a text token stands.
        heard_UD: (U, D / heads) what queries hear of the text's keys, 1 or 0; None where they hear all.
    """

    clips: Runs
    captions: Runs
    levels: Runs
    segments: Segments
    heard_UD: Tensor | None

    @classmethod
    def of(cls, batches: Sequence[Batch], head_width: int) -> Layout:
        """The layout of batches behind each other.

        Queries are turned by their time, and words, which have none, would tell them where on a circle they stand: of
        the words' keys, a loop hears what does not turn with time.
        """
        clips = Runs.of([batch.tokens_BNC for batch in batches])
        captions = Runs.of([batch.text_BLE for batch in batches])
        levels: list[tuple[int, int]] = []
        for (count, tokens), batch in zip(clips.shapes, batches, strict=True):
            each = batch.levels_BK.shape[1]
            if tokens % each:
                raise ValueError(f"{each} noise levels cannot be shared out evenly among {tokens} tokens.")
            levels.append((count * each, tokens // each))
        seen = [functional.pad(batch.text_mask_BL, (batch.tokens_BNC.shape[1], 0), value=True) for batch in batches]
        heard = None
        if any(batch.period is not None for batch in batches):
            heard = captions.join(
                [unturned(head_width, batch.period).to(batch.text_BLE)[None, None] for batch in batches]
            )
        return cls(clips, captions, Runs(tuple(levels)), Segments(clips, seen), heard)

    def with_text(self, video_HSD: Tensor, text_HUD: Tensor) -> list[Tensor]:
        """Each clip's video and text tokens in one: (heads, B, N + L, D) for each batch."""
        pairs = zip(self.clips.cut(video_HSD, 1), self.captions.cut(text_HUD, 1), strict=True)
        return [torch.cat(pair, dim=2) for pair in pairs]


class Shared(NamedTuple):
    """What all blocks are given beside the tokens.

    Attributes:
        modulation_R6D: shifts, scales and gates of each level, to which each block adds its own table.
        turn: cosines and sines that turn queries and keys to their places.
        text_UD: all text tokens.
        layout: where clips, captions and levels begin and end.
    """

    modulation_R6D: Tensor
    turn: tuple[Tensor, Tensor]
    text_UD: Tensor
    layout: Layout


Through = Callable[[Sequence[nn.Module], Tensor, Shared], Tensor]
"""How tokens go through blocks: from the blocks, the tokens before them and what they share to the tokens behind."""


def in_turn(blocks: Sequence[nn.Module], x_SD: Tensor, shared: Shared) -> Tensor:
    """One block after another."""
    for block in blocks:
        x_SD = block(x_SD, shared)
    return x_SD


def skipping(numbers: Collection[int]) -> Through:
    """One block after another, without those of these numbers."""

    def through(blocks: Sequence[nn.Module], x_SD: Tensor, shared: Shared) -> Tensor:
        if unknown := sorted(set(numbers) - set(range(len(blocks)))):
            raise ValueError(f"There is no block {unknown[0]} to skip: this DiT has blocks 0 to {len(blocks) - 1}.")
        return in_turn([block for number, block in enumerate(blocks) if number not in numbers], x_SD, shared)

    return through


def recomputed(blocks: Sequence[nn.Module], x_SD: Tensor, shared: Shared) -> Tensor:
    """Keep only what enters each block, and compute the rest again in the backward pass (Chen et al. 2016).

    Less memory for a third more work.
    """
    for block in blocks:
        # a block draws no random numbers, so there is no state of a generator to keep
        x_SD = checkpoint(block, x_SD, shared, use_reentrant=False, preserve_rng_state=False)
    return x_SD


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

    def forward(self, x_SD: Tensor, shared: Shared) -> Tensor:
        levels = shared.layout.levels
        modulation = (shared.modulation_R6D + self.table).to(x_SD.dtype)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.unbind(dim=1)
        change_SD = self._attention(_modulated(x_SD, shift_1, scale_1, levels), shared)
        x_SD = _gated(x_SD, gate_1, change_SD, levels)
        hidden = functional.silu(self.up(_modulated(x_SD, shift_2, scale_2, levels)))
        return _gated(x_SD, gate_2, self.down(hidden), levels)

    def _attention(self, x_SD: Tensor, shared: Shared) -> Tensor:
        layout = shared.layout
        q, k, v = self.qkv(x_SD).unflatten(-1, (3, self.heads, -1)).permute(1, 2, 0, 3)  # each (heads, S, D / heads)
        text_k, text_v = self.text_kv(shared.text_UD).unflatten(-1, (2, self.heads, -1)).permute(1, 2, 0, 3)
        q, k = rotate(self.q_norm(q), shared.turn), rotate(self.k_norm(k), shared.turn)
        text_k = self.k_norm(text_k)
        if layout.heard_UD is not None:
            text_k = text_k * layout.heard_UD
        ks, vs = layout.with_text(k, text_k), layout.with_text(v, text_v)
        out = join(attend_within(layout.clips.cut(q, 1), ks, vs, layout.segments), dim=1)
        return self.out(out.transpose(0, 1).flatten(1))


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


def place_features(places_BN3: Tensor, period: float | None = None) -> Tensor:
    """Where a token stands in the picture: what rotary attention, which sees differences alone, cannot know.

    Args:
        places_BN3: (B, N, 3) as :func:`centred` gives them.
        period: of time that comes round, and so has no beginning to count from: the waves over seconds are zero.

    Returns:
        (B, N, PLACE_FEATURES): waves over the picture's sides, which stretch with its size, and over seconds.
    """
    extent = places_BN3[..., 1:].amax(dim=1, keepdim=True).clamp_min(1)
    waves = torch.tensor([0.5, 1.0, 2.0], device=places_BN3.device) * math.pi
    across = (places_BN3[..., 1:] / extent)[..., None] * waves
    periods = 2 * math.pi / torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0], device=places_BN3.device)
    angles = torch.cat((across.flatten(-2), places_BN3[..., :1] * periods), dim=-1)
    waves = torch.stack((angles.cos(), angles.sin()), dim=-2)
    if period is not None:
        waves[..., -len(periods) :] = 0
    return waves.flatten(-2)


PLACE_FEATURES = 2 * (2 * 3 + 5)


def _two_layers(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))


def _modulated(x_SD: Tensor, shift_RD: Tensor, scale_RD: Tensor, levels: Runs) -> Tensor:
    """The normalised tokens, scaled and shifted by the row of their level."""
    x_SD = functional.layer_norm(x_SD, x_SD.shape[-1:])
    parts = zip(levels.rows(shift_RD), levels.cut(x_SD), levels.rows(1 + scale_RD), strict=True)
    return join([torch.addcmul(shift[:, None], x, scale[:, None]) for shift, x, scale in parts])


def _gated(x_SD: Tensor, gate_RD: Tensor, change_SD: Tensor, levels: Runs) -> Tensor:
    """The tokens and a change to them, times the row of their level."""
    parts = zip(levels.cut(x_SD), levels.rows(gate_RD), levels.cut(change_SD), strict=True)
    return join([torch.addcmul(x, gate[:, None], change) for x, gate, change in parts])
