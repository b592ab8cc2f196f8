"""Latents cut into spacetime tokens and joined again: knows grids and coordinates, not what a token means."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Triple = tuple[int, int, int]
Time = Literal["line", "groups", "circle"]
"""What latent frames stand for. line: the first for one frame, the others for a group each (r frames, the VAE's time
ratio); groups: all for a group; circle: all for a group, and the first follows the last."""


def patchify(x_BCthw: Tensor, patch: Triple) -> Tensor:
    """Cut a latent into tokens, in the order of t, h, w (Peebles & Xie 2023).

    Args:
        x_BCthw: (B, C, t, h, w).
        patch: (pt, ph, pw) cells per token.

    Returns:
        (B, N, C * pt * ph * pw), N = (t / pt) * (h / ph) * (w / pw).

    Raises:
        ValueError: the latent's sides are no multiples of the patch's.
    """
    b, c, *sides = x_BCthw.shape
    if any(side % size for side, size in zip(sides, patch, strict=True)):
        raise ValueError(
            f"A latent of t, h, w = {tuple(sides)} cannot be cut into patches of {patch}: no whole number fits."
        )
    (t, h, w), (pt, ph, pw) = sides, patch
    cut = x_BCthw.reshape(b, c, t // pt, pt, h // ph, ph, w // pw, pw)
    return cut.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, -1, c * pt * ph * pw)


def unpatchify(tokens_BND: Tensor, grid: Triple, patch: Triple) -> Tensor:
    """Join tokens to a latent: the inverse of :func:`patchify`.

    Args:
        tokens_BND: (B, N, C * pt * ph * pw).
        grid: tokens along t, h, w; their product is N.
        patch: (pt, ph, pw) cells per token.

    Returns:
        (B, C, t, h, w).

    Raises:
        ValueError: the tokens do not fill the grid.
    """
    b, n, _ = tokens_BND.shape
    (t, h, w), (pt, ph, pw) = grid, patch
    if n != t * h * w:
        raise ValueError(f"{n} tokens do not fill a grid of {t} x {h} x {w} = {t * h * w}.")
    cut = tokens_BND.reshape(b, t, h, w, -1, pt, ph, pw)
    return cut.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(b, -1, t * pt, h * ph, w * pw)


def frame_centres(count: int, time_ratio: int, time: Time) -> Tensor:
    """The middle of what each latent frame stands for, counted in frames: (count,) float32."""
    latent_frame = torch.arange(count, dtype=torch.float32)
    if time == "line":
        return (latent_frame * time_ratio - (time_ratio - 1) / 2).clamp_min(0)
    return latent_frame * time_ratio + (time_ratio - 1) / 2


def token_positions(seconds: Tensor, sides: tuple[int, int], patch: Triple, space_ratio: int) -> Tensor:
    """The centre of each token, so that sizes, durations and frame rates mix.

    Args:
        seconds: (t,) of the tokens along time.
        sides: tokens along h, w.
        patch: (pt, ph, pw) cells per token.
        space_ratio: pixels per latent cell, along each side.

    Returns:
        (N, 3) float32: seconds, pixels down, pixels right.
    """
    down, right = ((torch.arange(side) + 0.5) * size * space_ratio for side, size in zip(sides, patch[1:], strict=True))
    return torch.stack(torch.meshgrid(seconds, down, right, indexing="ij"), dim=-1).reshape(-1, 3)
