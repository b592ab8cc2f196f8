"""What a network can be asked for, and what its errors weigh: knows scalings of x and targets, no network.

x = (1 - s) x0 + s e is the flow's. With r² = (1 - s)² + s², x / r = alpha x0 + sigma e is DDPM's (variance preserving,
alpha = (1 - s) / r, sigma = s / r), and x / (1 - s) is EDM's x0 + sigma e with sigma = s / (1 - s). So every recipe is
a preconditioning of the same velocity e - x0, and its loss a weight on the velocity's error: whatever a network was
trained with, the same nodes sample from it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kineograph.nodes.networks.levels import alpha_bar, levels_of

PREDICTIONS = ("velocity", "noise", "clean", "v", "edm")
LOWEST, HIGHEST = levels_of(alpha_bar("linear", 1000))[[0, -1]].tolist()
"""The ends of DDPM's table, 0.0099 and 0.9937: below, x0 says nothing of the velocity, and above, e says nothing."""


class Preconditioning(NamedTuple):
    """velocity = skip x + out F(into x, told): the c_skip, c_out, c_in and c_noise of Karras et al. 2022."""

    told: Tensor
    into: Tensor
    skip: Tensor
    out: Tensor


def preconditioning(predicts: str, levels: Tensor, data_std: float = 1.0) -> Preconditioning:
    """How to get the velocity from a network that was asked for something else.

    Args:
        predicts: what the network F says, in which scale it sees x:
            velocity: e - x0, of the flow's x (Liu et al. 2022; Lipman et al. 2023).
            noise: e, of DDPM's x (Ho et al. 2020). Above HIGHEST it is asked as if at HIGHEST.
            clean: x0, of DDPM's x; below LOWEST the velocity is counted from LOWEST.
            v: alpha e - sigma x0, of DDPM's x (Salimans & Ho 2022).
            edm: (x0 - c_skip x) / c_out, of c_in x (Karras et al. 2022, table 1).
        levels: s in [0, 1], with the axes that broadcast against x.
        data_std: sigma_data of edm.

    Returns:
        What multiplies x and the network's word, each of the levels' shape.
    """
    s = levels
    if predicts == "velocity":
        return Preconditioning(s, torch.ones_like(s), torch.zeros_like(s), torch.ones_like(s))
    if predicts == "noise":
        s = s.clamp_max(HIGHEST)
        return Preconditioning(s, 1 / radius(s), -1 / (1 - s), 1 / (1 - s))
    if predicts == "clean":
        low = s.clamp_min(LOWEST)
        return Preconditioning(s, 1 / radius(s), 1 / low, -1 / low)
    if predicts == "v":
        return Preconditioning(s, 1 / radius(s), (2 * s - 1) / radius(s).square(), 1 / radius(s))
    q = radius(s, data_std)
    return Preconditioning(s, 1 / q, (s - data_std**2 * (1 - s)) / q.square(), -data_std / q)


def radius(levels: Tensor, data_std: float = 1.0) -> Tensor:
    """The deviation of x where the data's is data_std: sqrt(d² (1 - s)² + s²)."""
    return torch.hypot(data_std * (1 - levels), levels)


def noise_weight(levels: Tensor) -> Tensor:
    """What the velocity's squared error weighs in that of e: (1 - s)²."""
    return (1 - levels).square()


def clean_weight(levels: Tensor) -> Tensor:
    """What the velocity's squared error weighs in that of x0: s²."""
    return levels.square()


def edm_weight(levels: Tensor, data_std: float = 1.0) -> Tensor:
    """What it weighs in EDM's loss, (sigma² + d²) / (sigma d)² on x0; at d = 1 this is the loss of v."""
    return (radius(levels, data_std) / data_std).square()


def min_snr_weight(levels: Tensor, gamma: float) -> Tensor:
    """What it weighs in min(SNR, gamma) on x0 (Hang et al. 2023)."""
    return torch.minimum((1 - levels).square(), gamma * levels.square())
