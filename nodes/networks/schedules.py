"""Noise levels that a sampler goes through: knows formulas of papers, no model and no latent.

A level is the noise's share s = sigma / (alpha + sigma) of x, 0 for clean and 1 for pure noise. Levels are float64 and
fall to 0. :func:`flow.shifted_sigmas` is the plain schedule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def karras_levels(steps: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """EDM's noise levels (Karras et al. 2022, eq. 5), as sigma / (1 + sigma), then 0.

    Args:
        steps: N.
        sigma_min, sigma_max: noise over signal at the last level above 0, and at the first.
        rho: 7 in the paper; larger spends more steps at low noise.

    Returns:
        (steps + 1,).
    """
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = torch.linspace(high, low, steps, dtype=torch.float64) ** rho
    return torch.cat((sigmas / (1 + sigmas), sigmas.new_zeros(1)))


def linear_quadratic_levels(steps: int, threshold: float) -> Tensor:
    """Half of the steps evenly from 1 to 1 - threshold, the rest along a parabola to 0 (Movie Gen, Mochi).

    Args:
        steps: at least 2.
        threshold: how far the first half goes. Its steps have the size of those of a much finer even schedule.

    Returns:
        (steps + 1,).
    """
    half = steps // 2
    rest = steps - half
    slope = threshold / half
    even = slope * torch.arange(half, dtype=torch.float64)
    beyond = torch.arange(rest + 1, dtype=torch.float64)
    # the parabola begins where the line ends, with its slope, and ends at 1
    curved = threshold + slope * beyond + (1 - threshold - slope * rest) * (beyond / rest).square()
    return (1 - torch.cat((even, curved))).clamp_min(0)


def timestep_levels(table: Tensor, steps: int, spacing: str) -> Tensor:
    """Every so many entries of a table of T rising levels, as DDIM takes DDPM's timesteps, then 0.

    Args:
        table: (T,) rising.
        steps: S, at most T.
        spacing: trailing, timesteps T - 1, T - 1 - T / S, ... (rounded); leading, multiples of T // S from 0 up (Lin et
            al. 2024, table 2, which finds that leading ones never ask the model at its highest level).

    Returns:
        (steps + 1,).
    """
    count = len(table)
    if spacing == "trailing":
        places = (count - torch.arange(steps, dtype=torch.float64) * count / steps).round().long() - 1
    else:
        places = torch.arange(steps).flip(0) * (count // steps)
    return torch.cat((table[places], table.new_zeros(1)))


def stretched(levels: Sequence[float], terminal: float) -> list[float]:
    """Levels of which the last above 0 is the terminal: 1 - (1 - s) (1 - terminal) / (1 - s_last) (LTX-Video)."""
    scale = (1 - terminal) / (1 - levels[-2])
    return [*(1 - (1 - level) * scale for level in levels[:-1]), levels[-1]]


def shift_of_tokens(tokens: float, at_1024: float, at_4096: float) -> float:
    """A shift that grows with the number of tokens n, exp(mu) with mu linear in n (Flux, LTX-Video).

    Args:
        tokens: n.
        at_1024, at_4096: mu at so many tokens.
    """
    return math.exp(at_1024 + (at_4096 - at_1024) * (tokens - 1024) / 3072)


def started_at(levels: Sequence[float], at: float) -> list[float]:
    """The levels below one, and that one first."""
    return [at, *(level for level in levels if level < at)]


def level_of_strength(levels: Sequence[float], strength: float) -> float:
    """The level at which the last int(N strength) of N steps begin: what an index means as a strength."""
    steps = len(levels) - 1
    return levels[steps - min(int(steps * strength), steps)]
