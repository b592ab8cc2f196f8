"""Clips through any autoencoder a few frames at a time. Knows what an autoencoder may offer, and none in particular.

Every one has ``encode(video)``, the posterior's mean and log variance, and ``decode(latent, time=...)``. One that can
work in pieces has ``encode_pieces(video, tile)`` and ``decode_tiles(latent, time, tile)`` as well (see ``vae``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kineograph.nodes.networks.patches import Time
from kineograph.nodes.networks.tiles import Parts, assembled, filled, tiles


def decoded(network: Any, latent_BCthw: Tensor, time: Time, tile: int, frames: int) -> Tensor:
    """The clip of a latent, (B, T, 3, H, W) in [0, 1].

    Raises:
        ValueError: the network has no tiles.
    """
    height, width = latent_BCthw.shape[3:]
    return filled(_decoding(network, latent_BCthw, time, tile), height, width, frames)


def decoded_pieces(network: Any, latent_BCthw: Tensor, time: Time, tile: int) -> Iterator[Tensor]:
    """The clip of a latent as pieces in order, (B, 3, n, H, W) in [0, 1], of which one at a time is there.

    Raises:
        ValueError: the network has no tiles.
    """
    height, width = latent_BCthw.shape[3:]
    return assembled(_decoding(network, latent_BCthw, time, tile), height, width)


def encoded(network: Any, video_BCTHW: Tensor, tile: int) -> Tensor:
    """The mean of the posterior of a clip's latent: (B, C, t, h, w).

    Raises:
        ValueError: the network has no tiles.
    """
    if hasattr(network, "encode_pieces"):
        return torch.cat(list(network.encode_pieces(video_BCTHW, tile)), dim=2)
    _check_no(tile, network)
    return network.encode(video_BCTHW)[0]


def _decoding(network: Any, latent_BCthw: Tensor, time: Time, tile: int) -> Parts:
    if hasattr(network, "decode_tiles"):
        return network.decode_tiles(latent_BCthw, time, tile)
    _check_no(tile, network)
    height, width = latent_BCthw.shape[3:]
    return [(each, iter([network.decode(latent_BCthw, time=time)])) for each in tiles(height, width)]


def _check_no(tile: int, network: Any) -> None:
    if tile:
        raise ValueError(f"A {type(network).__name__} has no tiles, but tile is {tile}. Set it to 0.")
