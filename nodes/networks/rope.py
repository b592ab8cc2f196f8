"""Rotary positions along seconds and pixels (Su et al. 2021): knows coordinates, not tokens or attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The shortest and longest wavelength of each axis. The shortest is two tokens of 8 pixels, or of half a second.
SECONDS = (1.0, 32.0)
PIXELS = (16.0, 512.0)


def frequencies(pairs: int, shortest: float, longest: float) -> Tensor:
    """Angular frequencies of ``pairs`` wavelengths, spaced evenly in the logarithm.

    Args:
        pairs: how many.
        shortest: first wavelength, in the unit of the coordinate.
        longest: last wavelength.

    Returns:
        (pairs,) in radians per unit.
    """
    return 2 * math.pi / torch.logspace(math.log2(shortest), math.log2(longest), pairs, base=2.0)


def rotary_angles(positions_BN3: Tensor, head_width: int, period: float | None = None) -> Tensor:
    """The angle by which each pair of features of a head is turned at each position.

    A quarter of the pairs turns with the seconds, the rest in halves with pixels down and pixels right.

    Args:
        positions_BN3: (B, N, 3) in seconds, pixels down, pixels right.
        head_width: features of one head, a multiple of 16.
        period: seconds after which time comes round. Each frequency of time becomes the nearest whole multiple of
            1 / period, so that the angles between two moments depend on their distance along the circle alone.

    Returns:
        (B, N, head_width / 2) in radians.

    Raises:
        ValueError: the head's width is no multiple of 16.
    """
    if head_width % 16:
        raise ValueError(f"3-D rotary positions need heads of a multiple of 16 features, not {head_width}.")
    in_time, in_space = head_width // 8, head_width * 3 // 16
    per_axis = (time_frequencies(in_time, period), frequencies(in_space, *PIXELS), frequencies(in_space, *PIXELS))
    turns = [positions_BN3[..., axis, None] * each.to(positions_BN3) for axis, each in enumerate(per_axis)]
    return torch.cat(turns, dim=-1)


def time_frequencies(pairs: int, period: float | None) -> Tensor:
    """Angular frequencies of time: on a circle, each is the nearest whole multiple of 2 pi / period."""
    plain = frequencies(pairs, *SECONDS)
    return plain if period is None else (plain * (period / (2 * math.pi))).round() * (2 * math.pi / period)


def unturned(head_width: int, period: float | None) -> Tensor:
    """(head_width,): 0 for features of a head that turn with the time of a circle, 1 for all others."""
    in_time = head_width // 8
    pairs = torch.ones(head_width // 2)
    if period is not None:
        pairs[:in_time] = (time_frequencies(in_time, period) == 0).float()
    return pairs.repeat(2)


def rotate(x_BHND: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pairs (i, i + D/2) of every head, so that q . k depends on the difference of positions alone.

    Args:
        x_BHND: (B, heads, N, D) or (heads, N, D) queries or keys.
        turn: cosines and sines of the angles, each (B, 1, N, D / 2) or (1, N, D / 2).

    Returns:
        As x.
    """
    cosine, sine = turn
    a, b = x_BHND.chunk(2, dim=-1)
    return torch.cat((torch.addcmul(a * cosine, b, -sine), torch.addcmul(a * sine, b, cosine)), dim=-1)


def turns(angles_BNE: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of (B, N, E) or (N, E) angles as :func:`rotate` takes them: with an axis for heads before N."""
    return angles_BNE.cos().unsqueeze(-3).to(dtype), angles_BNE.sin().unsqueeze(-3).to(dtype)
