"""Given frames as channels beside the noise, as Wan's image-to-video models are told of them. Knows no network.

Wan Team 2025 (arXiv 2503.20314, section 5.1): a clip that is grey where nothing is given, encoded, and a mask that says
of each frame of a latent frame's group whether it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

GREY = 0.5
"""Of a pixel in [0, 1] where nothing is given: zero in the range of the VAE."""


def grey_clip(pixels_BnCHW: Tensor, frames: Sequence[int], count: int) -> Tensor:
    """A clip of ``count`` frames with some in their places, and grey elsewhere: (B, T, 3, H, W).

    Args:
        pixels_BnCHW: the frames, in [0, 1].
        frames: their n places.
        count: T.
    """
    batch, _, *picture = pixels_BnCHW.shape
    clip = pixels_BnCHW.new_full((batch, count, *picture), GREY)
    clip[:, list(frames)] = pixels_BnCHW
    return clip


def frame_mask(frames: Sequence[int], groups: int, ratio: int) -> Tensor:
    """Which frames are given, as numbers of each latent frame: (ratio, t), 1 where one is.

    Args:
        frames: places in a clip of 1 + (t - 1) ratio frames.
        groups: t.
        ratio: frames of a group; the first latent frame stands for one alone, which is said so many times.
    """
    given = torch.zeros(1 + (groups - 1) * ratio)
    given[list(frames)] = 1.0
    return torch.cat([given[:1].expand(ratio), given[1:]]).view(groups, ratio).T


def beside(latent_BCthw: Tensor, frames: Sequence[int], ratio: int) -> Tensor:
    """The channels: mask and latent, (B, ratio + C, t, h, w).

    Args:
        latent_BCthw: of the grey clip.
        frames: places of the given frames.
        ratio: frames of a group.
    """
    batch, _, groups, *sides = latent_BCthw.shape
    mask = frame_mask(frames, groups, ratio).to(latent_BCthw)[None, :, :, None, None]
    return torch.cat([mask.expand(batch, -1, -1, *sides), latent_BCthw], dim=1)


def merged(first: tuple[Tensor, Sequence[int]], second: tuple[Tensor, Sequence[int]]) -> tuple[Tensor, tuple[int, ...]]:
    """Two givings of frames as one in order of places; where both give a frame, the second counts.

    Args:
        first: pixels (B, n, 3, H, W) and their places.
        second: the same.
    """
    found = {place: pixels[:, i] for pixels, places in (first, second) for i, place in enumerate(places)}
    frames = tuple(sorted(found))
    return torch.stack([found[each] for each in frames], dim=1), frames


def looked_at(image_encoder: Any, pixels_BnCHW: Tensor, frames: Sequence[int]) -> Tensor:
    """What an image encoder says of the first given frame, and of the last where it is another: (B, 1 or 2, L, D)."""
    seen = [0] if len(frames) == 1 else [0, -1]
    return torch.stack([image_encoder(pixels_BnCHW[:, place]) for place in seen], dim=1)
