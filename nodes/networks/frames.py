"""Frames scaled, cut, padded and taken at other times, as plain tensors. Knows no file, no VAE and no graph.

Letters: B batch, T frames, H W pixels; frames are (B, T, 3, H, W) in [0, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def nearest_multiple(number: float, ratio: int) -> int:
    """The multiple of a ratio that is nearest to a number, at least one ratio."""
    return max(1, round(number / ratio)) * ratio


def scaled(frames: Tensor, height: int, width: int, interpolation: str) -> Tensor:
    """Frames of another size, antialiased where they become smaller.

    Agrees to 45 dB with the area filter that clips of files are scaled by while they are decoded (`pixels.covering`).

    Args:
        frames: (B, T, 3, H, W).
        height, width: pixels.
        interpolation: bicubic, bilinear or nearest.
    """
    if frames.shape[-2:] == (height, width):
        return frames
    flat = frames.flatten(0, 1)
    if interpolation == "nearest":
        small = functional.interpolate(flat, (height, width), mode="nearest-exact")
    else:
        small = functional.interpolate(flat, (height, width), mode=interpolation, antialias=True)
    return small.clamp(0, 1).unflatten(0, frames.shape[:2])  # bicubic overshoots at edges


def scale_to_cover(size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """The size that a (height, width) is scaled to, so that it covers another and one side is equal."""
    scale = max(height / size[0], width / size[1])
    return max(height, round(size[0] * scale)), max(width, round(size[1] * scale))


def scale_to_fit(size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """The size that a (height, width) is scaled to, so that it fits into another and one side is equal."""
    scale = min(height / size[0], width / size[1])
    return min(height, max(1, round(size[0] * scale))), min(width, max(1, round(size[1] * scale)))


def middle(frames: Tensor, height: int, width: int) -> Tensor:
    """The middle of frames that are at least as large."""
    top, left = (frames.shape[-2] - height) // 2, (frames.shape[-1] - width) // 2
    return frames[..., top : top + height, left : left + width]


def padded(frames: Tensor, height: int, width: int) -> Tensor:
    """Frames with black around them, up to a size."""
    top, left = (height - frames.shape[-2]) // 2, (width - frames.shape[-1]) // 2
    return functional.pad(frames, (left, width - frames.shape[-1] - left, top, height - frames.shape[-2] - top))


def places(frames: int, step: float, loop: bool) -> list[float]:
    """Where in a video the frames of another rate lie, counted in its frames.

    Args:
        frames: T of the video.
        step: its rate divided by the other.
        loop: whether its first frame follows the last: then as many as fit the round best, evenly.
    """
    if loop:
        count = max(1, round(frames / step))
        return [at * frames / count for at in range(count)]
    return [at * step for at in range(1 + math.floor((frames - 1) / step + 0.01))]  # rates are rounded: 29.97


def taken_nearest(frames: Tensor, at: list[float]) -> Tensor:
    """The frame nearest to each place, the earlier of two that are as near; behind the last one, from the beginning."""
    return frames[:, [math.ceil(place - 0.5) % frames.shape[1] for place in at]]


def taken_blended(frames: Tensor, at: list[float], loop: bool) -> Tensor:
    """Between two frames a mixture of both; where frames are left out, a mean with weights that fall to both sides.

    In time what bilinear scaling with antialiasing is in space: a triangle as wide as the coarser of the two steps.
    """
    count = frames.shape[1]
    step = at[1] - at[0] if len(at) > 1 else 1.0
    reach = max(1.0, step)
    mixed: list[Tensor] = []
    for place in at:
        near = range(math.ceil(place - reach), math.floor(place + reach) + 1)
        weights = {each: 1 - abs(each - place) / reach for each in near if loop or 0 <= each < count}
        total = sum(weights.values())
        parts = [frames[:, each % count] * (weight / total) for each, weight in weights.items() if weight > 1e-6]
        mixed.append(torch.stack(parts).sum(0))
    return torch.stack(mixed, dim=1)
