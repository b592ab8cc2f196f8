"""Latents cut into spacetime tokens and joined again: knows grids and coordinates, not what a token means."""

from __future__ import annotations

import torch
from torch import Tensor

Triple = tuple[int, int, int]


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


def token_positions(grid: Triple, patch: Triple, fps: float, time_ratio: int, space_ratio: int) -> Tensor:
    """The centre of each token, so that sizes, durations and frame rates mix.

    Latent frame 0 stands for frame 0 alone; latent frame k for the ``time_ratio`` frames that end with k * time_ratio.

    Args:
        grid: tokens along t, h, w.
        patch: (pt, ph, pw) cells per token.
        fps: frames per second of the video.
        time_ratio: frames per latent frame after the first.
        space_ratio: pixels per latent cell, along each side.

    Returns:
        (N, 3) float32: seconds, pixels down, pixels right.
    """
    latent_frame = torch.arange(grid[0] * patch[0], dtype=torch.float32)
    frame = (latent_frame * time_ratio - (time_ratio - 1) / 2).clamp_min(0)
    seconds = frame.reshape(grid[0], patch[0]).mean(dim=1) / fps
    down, right = ((torch.arange(grid[axis]) + 0.5) * patch[axis] * space_ratio for axis in (1, 2))
    return torch.stack(torch.meshgrid(seconds, down, right, indexing="ij"), dim=-1).reshape(-1, 3)
