"""Latents as small pictures without decoding them: a linear map from channels to colours. Plain torch.

A VAE's latent is close to linear in the colours of what it stands for. The map is read off the decoder: what it makes
of zeros, and of one in each channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

CELLS = 4
"""Sides of the latents that are decoded to find the map."""

Colours = tuple[tuple[float, float, float], ...]


class Decodes(Protocol):
    """What a decoder must be able to do."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights."""
        ...

    def decode(self, latent_BCthw: Tensor) -> Tensor:
        """(B, C, 1, h, w) to (B, 3, 1, H, W) in [0, 1]."""
        ...


def linear_colours(vae: Decodes, channels: int) -> Colours:
    """Red, green and blue of a latent of zeros, and how much each channel adds: (1 + channels) x 3.

    A network without weights, on the meta device, has no colours: ().
    """
    device = next(vae.parameters()).device
    latents_BCthw = torch.zeros(1 + channels, channels, 1, CELLS, CELLS, device=device)
    latents_BCthw[range(1, 1 + channels), range(channels)] = 1.0
    with torch.no_grad():
        colours_BC = vae.decode(latents_BCthw).mean((2, 3, 4))
    if colours_BC.is_meta:
        return ()
    colours_BC[1:] -= colours_BC[0].clone()
    red, green, blue = (colours_BC[:, colour].tolist() for colour in range(3))
    return tuple(zip(red, green, blue, strict=True))


def latent_colours(latent_Cthw: Tensor, colours: Colours) -> Tensor:
    """A picture for each latent frame.

    Args:
        latent_Cthw: (C, t, h, w).
        colours: of the VAE it is from, see ``linear_colours``.

    Returns:
        (t, 3, h, w) in [0, 1].
    """
    zero_C, *channels_CC = torch.tensor(colours).unbind()
    return (torch.einsum("cthw,cr->trhw", latent_Cthw.float(), torch.stack(channels_CC)) + zero_C.view(3, 1, 1)).clamp(
        0, 1
    )
