"""The layers of the video autoencoder: they mix neighbours in space and time, all chunks at once or in order.

They know no pixels and no clip: `vae` cuts clips into chunks, and puts them together.
Letters: B batch, C channels, t h w latent sides, N = B * t chunks, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

TIME_RATIO = 4
SPACE_RATIO = 8
PATCH = 4  # the finest grid any layer sees: one place per 4 x 4 pixels
PATCH_FEATURES = 3 * TIME_RATIO * PATCH * PATCH
CELL_FEATURES = 3 * TIME_RATIO * SPACE_RATIO * SPACE_RATIO


@dataclass(frozen=True)
class VAEConfig:
    """The sizes of a :class:`VideoVAE`.

    Attributes:
        channels: numbers per latent cell.
        fine: features on the grid of 4 pixels.
        coarse: features on the grid of 8 pixels, that of the latent.
        encoder_blocks: residual blocks of the encoder, (fine, coarse).
        decoder_blocks: residual blocks of the decoder, (fine, coarse).
        noise: standard deviation of the posterior in training, before :func:`measure` scales the latent.
    """

    channels: int = 8
    fine: int = 64
    coarse: int = 192
    encoder_blocks: tuple[int, int] = (1, 3)
    decoder_blocks: tuple[int, int] = (2, 4)
    noise: float = 0.1

    def __post_init__(self) -> None:
        """Take lists for tuples, as JSON has them."""
        object.__setattr__(self, "encoder_blocks", tuple(self.encoder_blocks))
        object.__setattr__(self, "decoder_blocks", tuple(self.decoder_blocks))

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"encoder_blocks": list(self.encoder_blocks), "decoder_blocks": list(self.decoder_blocks)}

    @property
    def time_ratio(self) -> int:
        """Frames per latent frame after the first, which stands for one frame alone."""
        return TIME_RATIO

    @property
    def space_ratio(self) -> int:
        """Pixels per latent cell along each side."""
        return SPACE_RATIO


class Encoder(nn.Module):
    """The encoder's correction to the linear shortcut, one chunk at a time: (N, H/4, W/4, 192) -> (N, H/8, W/8, c)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        fine, coarse = config.encoder_blocks
        self.stem = nn.Linear(PATCH_FEATURES, config.fine)
        self.fine = nn.ModuleList(Block(config.fine) for _ in range(fine))
        self.down = nn.Linear(4 * config.fine, config.coarse)
        self.coarse = nn.ModuleList(Block(config.coarse) for _ in range(coarse))
        self.head = zeroed(nn.Linear(config.coarse, config.channels))

    def forward(self, patches_NhwD: Tensor) -> Tensor:
        x_NhwD = self.stem(patches_NhwD)
        for block in self.fine:
            x_NhwD = block(x_NhwD)
        x_NhwD = self.down(merge(x_NhwD))
        for block in self.coarse:
            x_NhwD = block(x_NhwD)
        return self.head(x_NhwD)


class Decoder(nn.Module):
    """The decoder's correction to the linear shortcut, all chunks at once: (B, t, h, w, c) -> (N, 2h, 2w, 192)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        fine, coarse = config.decoder_blocks
        self.stem = nn.Linear(config.channels, config.coarse)
        self.coarse = nn.ModuleList(Block(config.coarse) for _ in range(coarse))
        self.up = nn.Linear(config.coarse, 4 * config.fine)
        self.fine = nn.ModuleList(Block(config.fine) for _ in range(fine))
        self.head = zeroed(nn.Linear(config.fine, PATCH_FEATURES))
        self.fine_features = config.fine

    def forward(self, latent_BthwC: Tensor, circle: bool) -> Tensor:
        x_BthwD = self.stem(latent_BthwC)
        for block in self._blocks():
            x_BthwD = block.in_time(self._onto(block, x_BthwD), circle)
        return self.head(x_BthwD.flatten(0, 1))

    @property
    def delay(self) -> int:
        """How many chunks must have come before the first goes out, where they come in order."""
        return len(self._blocks())

    def in_order(self, parts: Iterable[Tensor], circle: bool, chunks: int) -> Iterator[Tensor]:
        """What ``forward`` gives, a few chunks at a time.

        Args:
            parts: (B, n, h, w, c), two chunks or more in all; of a circle, turned by :attr:`delay`.
            circle: whether the first chunk follows the last.
            chunks: about how many go through at once.

        Yields:
            (N, 2h, 2w, 192), at times of no chunks.
        """
        stages = [Stage(block, circle) for block in self._blocks()]
        for part_BthwC in parts:
            yield self._through(stages, self.stem(part_BthwC))
        x_BthwD = stages[0].nothing
        for number, stage in enumerate(stages):
            if x_BthwD.shape[1] >= chunks:
                yield self._through(stages[number:], x_BthwD)
                x_BthwD = x_BthwD[:, :0]
            x_BthwD = stage.finish(self._onto(stage.block, x_BthwD))
        yield self.head(x_BthwD.flatten(0, 1))

    def _through(self, stages: list[Stage], x_BthwD: Tensor) -> Tensor:
        """What comes out of the stages."""
        for stage in stages:
            x_BthwD = stage.push(self._onto(stage.block, x_BthwD))
        return self.head(x_BthwD.flatten(0, 1))

    def _blocks(self) -> list[Block]:
        return cast("list[Block]", [*self.coarse, *self.fine])

    def _onto(self, block: Block, x_BthwD: Tensor) -> Tensor:
        """What the block before gave, on the grid of this one: the first fine one has that of the patches."""
        if block is not self.fine[0]:
            return x_BthwD
        split_NhwD = split(self.up(x_BthwD.flatten(0, 1)), self.fine_features)
        return split_NhwD.unflatten(0, (len(x_BthwD), -1))


class Block(nn.Module):
    """A residual block: a 3 x 3 depthwise convolution, then a two-layer net per place (Liu et al. 2022, ConvNeXt).

    In time, a quarter of the features come from the chunk before and a quarter from the one after (Lin et al. 2019,
    TSM): mixing at no arithmetic. Beyond the ends are zeros, or in a circle the other end.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.mix = nn.Conv2d(features, features, 3, padding=1, groups=features)
        self.widen = nn.Linear(features, 2 * features)
        self.narrow = zeroed(nn.Linear(2 * features, features))

    def forward(self, x_NhwD: Tensor) -> Tensor:
        return x_NhwD + self._change(self.norm(x_NhwD))

    def in_time(self, x_BthwD: Tensor, circle: bool) -> Tensor:
        """Mixed with the chunks before and after; beyond the ends are zeros, or in a circle the other end."""
        inner_BthwD = self.norm(x_BthwD)
        before, after = self.heard(inner_BthwD)
        edge = (before[:, -1:], after[:, :1]) if circle else (torch.zeros_like(before[:, :1]),) * 2
        return self.between(x_BthwD, inner_BthwD, *edge)

    def heard(self, inner_BthwD: Tensor) -> tuple[Tensor, Tensor]:
        """What the chunk after hears of each chunk, and what the one before: a quarter of the features each."""
        quarter = inner_BthwD.shape[-1] // 4
        return inner_BthwD[..., :quarter], inner_BthwD[..., quarter : 2 * quarter]

    def between(self, x_BthwD: Tensor, inner_BthwD: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Mixed with neighbours, of which those of the first and the last chunk are given.

        Args:
            x_BthwD: chunks in order.
            inner_BthwD: the same, normalised.
            before: (B, 1, h, w, D / 4), what the first one hears.
            after: (B, 1, h, w, D / 4), what the last one hears.
        """
        own_before, own_after = self.heard(inner_BthwD)
        heard = torch.cat([before, own_before[:, :-1]], dim=1), torch.cat([own_after[:, 1:], after], dim=1)
        mixed_BthwD = torch.cat([*heard, inner_BthwD[..., 2 * before.shape[-1] :]], dim=-1)
        return x_BthwD + self._change(mixed_BthwD.flatten(0, 1)).unflatten(0, x_BthwD.shape[:2])

    def _change(self, inner_NhwD: Tensor) -> Tensor:
        inner_NhwD = self.mix(inner_NhwD.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.narrow(functional.silu(self.widen(inner_NhwD)))


class Stage:
    """A block that is given the chunks of a clip in order, and gives each on once the one after it is there.

    In a circle the first chunk comes out last, as it waits for the one before it; so all come out turned by one.
    """

    def __init__(self, block: Block, circle: bool) -> None:
        self.block, self.circle = block, circle
        self.waiting: Tensor | None = None  # chunks whose neighbours are not there yet
        self.before: Tensor | None = None  # what the first of them hears
        self.ends: Tensor | None = None  # of a circle, the two chunks that it closes with

    @property
    def nothing(self) -> Tensor:
        """No chunks, as it takes them."""
        assert self.waiting is not None
        return self.waiting[:, :0]

    def push(self, x_BthwD: Tensor) -> Tensor:
        """Take the next chunks, give those that are ready; there may be none."""
        if self.waiting is not None:
            x_BthwD = torch.cat([self.waiting, x_BthwD], dim=1)
        if x_BthwD.shape[1] < 2:
            self.waiting = x_BthwD
            return x_BthwD[:, :0]
        if self.circle and self.ends is None:
            self.ends = x_BthwD[:, :2].clone()
            self.before = self.block.heard(self.block.norm(x_BthwD[:, :1]))[0]
            self.waiting = None
            return self.push(x_BthwD[:, 1:])
        inner_BthwD = self.block.norm(x_BthwD)
        before, after = self.block.heard(inner_BthwD)
        first = torch.zeros_like(before[:, :1]) if self.before is None else self.before
        self.before, self.waiting = before[:, -2:-1].clone(), x_BthwD[:, -1:].clone()
        return self.block.between(x_BthwD[:, :-1], inner_BthwD[:, :-1], first, after[:, -1:])

    def finish(self, x_BthwD: Tensor) -> Tensor:
        """Take the last chunks, give all that are left."""
        assert self.waiting is not None
        assert self.before is not None
        if self.ends is not None:
            return self.push(torch.cat([x_BthwD, self.ends], dim=1))
        x_BthwD = torch.cat([self.waiting, x_BthwD], dim=1)
        return self.block.between(x_BthwD, self.block.norm(x_BthwD), self.before, torch.zeros_like(self.before))


def merge(x_NhwD: Tensor) -> Tensor:
    """2 x 2 places become one with four times the features."""
    return x_NhwD.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 5, 2, 4).flatten(3)


def split(x_NhwD: Tensor, features: int) -> Tensor:
    """The inverse of :func:`_merge`: one place becomes 2 x 2 with ``features`` each."""
    return x_NhwD.unflatten(3, (features, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2)


def zeroed(layer: nn.Linear) -> nn.Linear:
    """Set a layer to zero, so that its branch starts as nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
