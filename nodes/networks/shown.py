"""Given frames as channels beside the noise, as Wan's image to video and VACE are told of them. Knows no network.

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


def control(
    pixels_BnCHW: Tensor, drawn_Bn1HW: Tensor, frames: Sequence[int], count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A control clip as VACE hears it (Jiang et al. 2025, section 3): what stays, what leads, and where is drawn.

    Args:
        pixels_BnCHW: the given frames, in [0, 1].
        drawn_Bn1HW: 1 where they only lead, 0 where they stay.
        frames: their n places.
        count: T.

    Returns:
        Two clips (B, T, 3, H, W), each grey where the other is not, and a mask (B, T, 1, H, W), 1 where nothing is
        given.
    """
    clip = grey_clip(pixels_BnCHW, frames, count)
    mask = torch.ones_like(clip[:, :, :1])
    mask[:, list(frames)] = drawn_Bn1HW
    leads = mask > 0.5
    return clip.masked_fill(leads, GREY), clip.masked_fill(~leads, GREY), mask


def on_white(pictures_BnCHW: Tensor, height: int, width: int) -> Tensor:
    """Pictures scaled to fit into a size, in its middle, with white around: (B, n, 3, height, width).

    Args:
        pictures_BnCHW: in [0, 1], of any size.
        height: pixels.
        width: pixels.
    """
    own = pictures_BnCHW.shape[3:]
    scale = min(height / own[0], width / own[1])
    size = int(own[0] * scale), int(own[1] * scale)
    scaled = torch.nn.functional.interpolate(pictures_BnCHW.flatten(0, 1), size=size, mode="bilinear")
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    around = left, width - size[1] - left, top, height - size[0] - top
    return torch.nn.functional.pad(scaled, around, value=1.0).unflatten(0, pictures_BnCHW.shape[:2])


def reference_channels(latent_BCnhw: Tensor, channels: int) -> Tensor:
    """Pictures of reference as VACE hears them: what stays, nothing that leads, nothing to draw: (B, K, n, h, w).

    Args:
        latent_BCnhw: each encoded alone.
        channels: K.
    """
    more = latent_BCnhw.new_zeros(latent_BCnhw.shape[0], channels - latent_BCnhw.shape[1], *latent_BCnhw.shape[2:])
    return torch.cat([latent_BCnhw, more], dim=1)


def cell_mask(mask_BT1HW: Tensor, groups: int, cell: int) -> Tensor:
    """The pixels of a mask as numbers of the latent cell they lie in, of one frame for each latent frame.

    Args:
        mask_BT1HW: in [0, 1].
        groups: t.
        cell: pixels along each side of a cell.

    Returns:
        (B, cell * cell, t, h, w).
    """
    batch, count, _, height, width = mask_BT1HW.shape
    cells = mask_BT1HW.reshape(batch, count, height // cell, cell, width // cell, cell)
    cells = cells.permute(0, 3, 5, 1, 2, 4).flatten(1, 2)
    sides = groups, height // cell, width // cell
    return torch.nn.functional.interpolate(cells, size=sides, mode="nearest-exact")


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
