"""Guidance beyond a weighted difference: knows what a model says with words and without, no model.

Values are (B, N, D); ``free`` is (B, N), False for tokens that are given. What is said of those is not used, so it has
no part in any mean either.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rescaled(guided: Tensor, with_text: Tensor, share: float, free: Tensor) -> Tensor:
    """Guided values with the deviation of those with words (Lin et al. 2024, section 3.4).

    Args:
        guided: (B, N, D).
        with_text: the same without guidance.
        share: phi; 0 changes nothing.
        free: (B, N) bool.
    """
    return guided * (share * _ratio(_deviation(with_text, free), _deviation(guided, free)) + 1 - share)


def projected(update: Tensor, onto: Tensor, free: Tensor, parallel: float, norm: float) -> Tensor:
    """An update of limited length, with less of what lies along a direction: APG (Sadat et al. 2025, section 5).

    Args:
        update: (B, N, D) clean value with words less that without.
        onto: the clean value with words.
        free: (B, N) bool.
        parallel: eta, the share that is kept of what lies along it; 1 keeps all.
        norm: r, the most that the update's norm may be; 0 is no bound.
    """
    if norm > 0:
        length = _dot(update, update, free).sqrt()
        update = update * (norm / length).clamp_max(1)
    along = _ratio(_dot(update, onto, free), _dot(onto, onto, free)) * onto
    return update - (1 - parallel) * along


def best_scale(with_text: Tensor, without: Tensor, free: Tensor) -> Tensor:
    """The factor that brings what is said without words nearest to what is said with them (Fan et al. 2025, eq. 8).

    Args:
        with_text: (B, N, D) velocities.
        without: the same without words.
        free: (B, N) bool.

    Returns:
        (B, 1, 1).
    """
    return _ratio(_dot(with_text, without, free), _dot(without, without, free))


def _dot(a: Tensor, b: Tensor, free: Tensor) -> Tensor:
    return (a * b * free[..., None]).sum(dim=(1, 2), keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 for clips in which there is nothing to compare."""
    return torch.where(b == 0, 0.0, a / b)


def _deviation(x: Tensor, free: Tensor) -> Tensor:
    count = free.sum(dim=1)[:, None, None] * x.shape[-1]
    mean = (x * free[..., None]).sum(dim=(1, 2), keepdim=True) / count
    return (_dot(x - mean, x - mean, free) / count).sqrt()
