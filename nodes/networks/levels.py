"""Noise levels to train at, and frames that stay given: knows distributions, no network and no noise.

A level is the noise's share s = sigma / (alpha + sigma) of x = alpha x0 + sigma e, 0 for clean and 1 for pure noise.
Flow matching, DDPM and EDM scale x differently, but at the same s they hold the same signal in the same noise (Kingma &
Gao 2023), so the levels of every paper are one number. A distribution is a table of equally likely levels, like DDPM's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

COUNT = 10_000
"""Entries of a table that stands for a continuous distribution."""


def uniform(count: int = COUNT) -> Tensor:
    """(count,) float64: the middles of equal parts of [0, 1]."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def logit_normal(mean: float, std: float, count: int = COUNT) -> Tensor:
    """Levels sigmoid(mean + std n), n ~ N(0, 1) (Esser et al. 2024, eq. 19).

    The odds s / (1 - s) are then log-normal: they are EDM's sigma (Karras et al. 2022) over the data's deviation.

    Args:
        mean: of the logit.
        std: of the logit.
        count: entries.

    Returns:
        (count,) float64, rising.
    """
    return torch.sigmoid(mean + std * torch.special.ndtri(uniform(count)))


def alpha_bar(schedule: str, timesteps: int) -> Tensor:
    """DDPM's share of signal energy that is left at each timestep.

    Args:
        schedule: linear (Ho et al. 2020; betas from 1e-4 to 0.02 at 1000 timesteps, scaled for other numbers), or
            cosine (Nichol & Dhariwal 2021, eq. 17, with offset 0.008 and betas up to 0.999).
        timesteps: T.

    Returns:
        (T,) float64, falling.
    """
    if schedule == "linear":
        betas = torch.linspace(1e-4, 0.02, timesteps, dtype=torch.float64) * (1000 / timesteps)
    else:
        time = torch.linspace(0, 1, timesteps + 1, dtype=torch.float64)
        signal = ((time + 0.008) / 1.008 * math.pi / 2).cos().square()
        betas = 1 - signal[1:] / signal[:-1]
    return (1 - betas.clamp(max=0.999)).cumprod(0)


def without_signal_at_the_end(alpha_bar_T: Tensor) -> Tensor:
    """Stretch a schedule so that its last timestep is pure noise and its first as it was (Lin et al. 2024, alg. 1)."""
    root = alpha_bar_T.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()


def levels_of(alpha_bar_T: Tensor) -> Tensor:
    """The noise's share at each timestep: sigma / (alpha + sigma) with alpha² = alpha-bar, sigma² = 1 - alpha-bar."""
    alpha, sigma = alpha_bar_T.sqrt(), (1 - alpha_bar_T).sqrt()
    return sigma / (alpha + sigma)


def draw(values_M: Tensor, clips: int, frames: int, per_frame: float, generator: torch.Generator) -> Tensor:
    """A level for every latent frame: one for all of a clip, or one each (Chen et al. 2024, diffusion forcing).

    Args:
        values_M: (M,) equally likely levels.
        clips, frames: of the batch.
        per_frame: share of clips whose frames have levels of their own.
        generator: a CPU generator.

    Returns:
        (B, t) float32.
    """
    entry = torch.randint(len(values_M), (clips, frames), generator=generator)
    own = torch.rand(clips, 1, generator=generator) < per_frame
    return values_M[torch.where(own, entry, entry[:, :1])].float()


def given_frames(shares: Sequence[float], clips: int, frames: int, generator: torch.Generator) -> Tensor:
    """Which latent frames stay clean: the first, a prefix, a suffix, both ends, random ones, every second, or none.

    Args:
        shares: of clips, in that order; the rest has none.
        clips, frames: of the batch; a single frame is never given, and never are all.
        generator: a CPU generator.

    Returns:
        (B, t) bool.
    """
    if frames == 1:
        return torch.zeros(clips, 1, dtype=torch.bool)
    place = torch.arange(frames).expand(clips, frames)
    length = torch.randint(1, frames, (clips, 1), generator=generator)
    head = (length + 1) // 2
    prefix, suffix = place < length, place >= frames - length
    ends = (place < head) | (place >= frames - (length - head))
    some = torch.rand(clips, frames, generator=generator).argsort(dim=1) < length
    kinds = torch.stack([place < 1, prefix, suffix, ends, some, place % 2 == 0, torch.zeros_like(prefix)])
    bounds = torch.tensor(shares, dtype=torch.float64).cumsum(0)
    kind = torch.searchsorted(bounds, torch.rand(clips, generator=generator, dtype=torch.float64), right=True)
    return kinds[kind, torch.arange(clips)]
