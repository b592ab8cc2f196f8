"""Clips broken in known ways: what a measure must see, and how bad its number gets. Knows no measure and no model.

Every function takes and gives (B, T, 3, H, W) in [0, 1]; all but ``half`` keep the length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .world import COLOUR_RGB


def freeze(video: Tensor) -> Tensor:
    """The first frame, all the time."""
    return video[:, :1].expand_as(video).clone()


def reverse(video: Tensor) -> Tensor:
    """From the end to the beginning."""
    return video.flip(1)


def half_speed(video: Tensor) -> Tensor:
    """Every frame twice, so that the second half of the clip is never seen."""
    return video.repeat_interleave(2, 1)[:, : video.shape[1]]


def half(video: Tensor) -> Tensor:
    """The first half alone: of a loop, it does not end as it began."""
    return video[:, : max(3, video.shape[1] // 2)]


def shuffle(video: Tensor, seed: int = 0) -> Tensor:
    """The frames in another order."""
    order = torch.randperm(video.shape[1], generator=torch.Generator().manual_seed(seed))
    return video[:, order]


def jump(video: Tensor, at: int, by: float = 0.15) -> Tensor:
    """The picture moves to the side at frame ``at``, by a share of the width; it comes in again on the other side."""
    broken = video.clone()
    broken[:, at:] = video[:, at:].roll(max(1, round(by * video.shape[-1])), -1)
    return broken


def turn(video: Tensor, at: int) -> Tensor:
    """At frame ``at``, after the first, everything goes back the way it came, as fast: no jump, another velocity."""
    there_and_back = torch.cat([video[:, :at], video[:, : at - 1].flip(1)], 1)
    missing = video.shape[1] - there_and_back.shape[1]
    return torch.cat([there_and_back, video[:, 1 : 1 + max(0, missing)]], 1)[:, : video.shape[1]]


def wait(video: Tensor, at: int, frames: int = 3) -> Tensor:
    """At frame ``at`` everything stands still for some frames; what would come last is never seen."""
    return torch.cat([video[:, :at], video[:, at : at + 1].expand(-1, frames, -1, -1, -1), video[:, at:-frames]], 1)


def vanish(video: Tensor, at: int) -> Tensor:
    """From frame ``at`` on there is only the colour of the upper left corner."""
    broken = video.clone()
    broken[:, at:] = video[:, at:, :, :1, :1]
    return broken


def switch_clip(video: Tensor, at: int) -> Tensor:
    """From frame ``at`` on, another clip of the batch goes on."""
    broken = video.clone()
    broken[:, at:] = video[:, at:].roll(1, 0)
    return broken


def switch_colour(video: Tensor, at: int) -> Tensor:
    """From frame ``at`` on, red, green and blue change places, so that coloured things have another colour."""
    broken = video.clone()
    broken[:, at:] = video[:, at:].roll(1, 2)
    return broken


def crop(video: Tensor, by: float = 0.3) -> Tensor:
    """The picture is moved to the left by a share of its width; its last column fills what is left."""
    shift = max(1, round(by * video.shape[-1]))
    return torch.cat([video[..., shift:], video[..., -1:].expand(*video.shape[:-1], shift)], -1)


def noise(video: Tensor, amount: float = 0.3, seed: int = 0) -> Tensor:
    """Gaussian noise of that standard deviation, other in each frame."""
    grain = torch.randn(video.shape, generator=torch.Generator().manual_seed(seed))
    return (video + amount * grain).clamp(0, 1)


def blur(video: Tensor, side: int) -> Tensor:
    """The mean over squares of an odd number of pixels, twice: nearly a Gaussian."""
    if side < 2:
        return video
    frames = video.flatten(0, 1)
    for _ in range(2):
        frames = torch.nn.functional.pad(frames, (side // 2,) * 4, mode="replicate")
        frames = torch.nn.functional.avg_pool2d(frames, side, stride=1)
    return frames.view_as(video)


def fade(video: Tensor, by: float = 0.5) -> Tensor:
    """Colours run towards red, by a share that grows from 0 to ``by``: the drift of long rollouts."""
    share = torch.linspace(0, by, video.shape[1])[:, None, None, None]
    return video.lerp(torch.tensor(COLOUR_RGB[0])[:, None, None].expand(3, 1, 1), share)


def smear(video: Tensor) -> Tensor:
    """So blurred that a fourth of the short side runs together."""
    return blur(video, min(video.shape[-2:]) // 4 // 2 * 2 + 1)
