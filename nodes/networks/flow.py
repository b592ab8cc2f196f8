"""Rectified flow with a noise level per token: knows x = (1 - s) x0 + s e, not the network that predicts v.

A level s is 0 for clean and 1 for pure noise (Liu et al. 2022; Lipman et al. 2023). Levels broadcast against x from the
left: (B,), (B, N) and (B, N, 1) all fit tokens (B, N, D).
"""

from __future__ import annotations

import torch
from torch import Tensor


def like(levels: Tensor, x: Tensor) -> Tensor:
    """Levels with trailing axes of size 1, so that they broadcast against x."""
    return levels.reshape(levels.shape + (1,) * (x.ndim - levels.ndim))


def noise_pair(clean: Tensor, noise: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """A noisy value and the velocity that the network shall predict there.

    Args:
        clean: (B, ...) x0.
        noise: same shape, e ~ N(0, 1).
        levels: s in [0, 1], broadcast from the left.

    Returns:
        x = (1 - s) x0 + s e, and v = e - x0.
    """
    return torch.lerp(clean, noise, like(levels, clean)), noise - clean


def clean_from(x: Tensor, velocity: Tensor, levels: Tensor) -> Tensor:
    """The clean value that a velocity points to: x0 = x - s v."""
    return x - like(levels, x) * velocity


def shift_levels(levels: Tensor, shift: float) -> Tensor:
    """Move levels towards noise: a s / (1 + (a - 1) s) (Esser et al. 2024, eq. 23).

    Args:
        levels: in [0, 1].
        shift: a > 0; 1 changes nothing, larger spends more at high noise.

    Returns:
        Levels in [0, 1].
    """
    return shift * levels / (1 + (shift - 1) * levels)


def shifted_sigmas(steps: int, shift: float) -> Tensor:
    """Noise levels from 1 to 0, shifted once towards noise (Esser et al. 2024, eq. 23).

    Args:
        steps: denoising steps, at least 1.
        shift: as in :func:`shift_levels`.

    Returns:
        (steps + 1,) float64, falling from 1 to 0.

    Raises:
        ValueError: no steps, or a shift that is not positive.
    """
    if steps < 1 or not shift > 0:
        raise ValueError(f"A schedule needs at least 1 step and a shift above 0, not {steps} steps and shift {shift}.")
    return shift_levels(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift)


def token_levels(sigma: float, mask: Tensor) -> Tensor:
    """The level each token has when the sampler stands at sigma: min(sigma, m) (LTX-Video; 0 given, 1 free)."""
    return mask.clamp_max(sigma)


def start(clean: Tensor, noise: Tensor, mask: Tensor) -> Tensor:
    """Where sampling begins: given cells clean, free ones noise, soft ones between; given cells bit-exact."""
    m = like(mask, clean)
    return torch.where(m == 0, clean, torch.lerp(clean, noise, m))


def euler_step(x: Tensor, velocity: Tensor, sigma: float, sigma_next: float, mask: Tensor) -> Tensor:
    """One Euler step of the flow's ODE, every token from its own level to its next one.

    A token of mask m goes from min(sigma, m) to min(sigma_next, m). One that would not move keeps its bits, whatever
    the velocity says: given tokens (m = 0) never change, soft ones wait until sigma has fallen to m.

    Args:
        x: (B, ...) values at their levels.
        velocity: same shape.
        sigma: level now, in [0, 1].
        sigma_next: level after, below sigma.
        mask: m in [0, 1], broadcast from the left.

    Returns:
        x + (next - now) v.
    """
    m = like(mask, x)
    change = token_levels(sigma_next, m) - token_levels(sigma, m)
    return torch.where(change == 0, x, x + change * velocity)


def fewest_levels(levels_BN: Tensor, frames: int) -> Tensor:
    """The same levels as one per clip, or one per latent frame, where they are; the DiT then has less to do.

    Args:
        levels_BN: a level per token, in the order of latent frames.
        frames: t, latent frames among the N tokens.

    Returns:
        (B, 1), (B, t) or (B, N).
    """
    for count in (1, frames):
        groups = levels_BN.unflatten(1, (count, -1))
        if torch.equal(groups, groups[..., :1].expand_as(groups)):
            return groups[..., 0]
    return levels_BN


def slerp(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Between two latents along the arc between them, frame by frame (Shoemake 1985): noise keeps its deviation so.

    Args:
        first: (B, C, t, h, w); each latent frame is one vector.
        second: same shape.
        weight: in [0, 1], (t, 1, 1); 0 gives the first and 1 the second, bit by bit.

    Returns:
        sin((1 - w) a) / sin a first + sin(w a) / sin a second, a the angle between them; straight where sin a is small.
    """
    axes = (1, 3, 4)
    norms = [torch.linalg.vector_norm(each, dim=axes, keepdim=True).clamp_min(1e-12) for each in (first, second)]
    angle = ((first / norms[0] * second / norms[1]).sum(axes, keepdim=True)).clamp(-1, 1).acos()
    sine = angle.sin()
    arc = (((1 - weight) * angle).sin() * first + (weight * angle).sin() * second) / sine.clamp_min(1e-3)
    between = torch.where(sine < 1e-3, torch.lerp(first, second, weight), arc)
    return torch.where(weight == 0, first, torch.where(weight == 1, second, between))
