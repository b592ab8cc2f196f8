"""Clips through any autoencoder a few frames at a time. Knows what an autoencoder may offer, and none in particular.

Every one has ``encode(video)``, the posterior's mean and log variance, and ``decode(latent, time=...)``. One that can
work in pieces has ``encode_pieces(video)`` and ``decode_pieces(latent, time)``, one that can cut frames as well has
``encode_tiles(video, tile)`` and ``decode_tiles(latent, time, tile)`` (see ``vae``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from kineograph.nodes.networks.patches import Time
from kineograph.nodes.networks.tiles import Parts, filled, tiles


def encoded(network: Any, video_BCTHW: Tensor, tile: int, sides: tuple[int, int, int]) -> Tensor:
    """The mean of the posterior of a clip's latent: (B, C, t, h, w).

    Args:
        network: the autoencoder.
        video_BCTHW: in [0, 1].
        tile: pixels of a tile's side; 0 is whole frames.
        sides: (t, h, w).

    Raises:
        ValueError: the network has no tiles.
    """
    frames, height, width = sides
    if tile:
        parts = _with_tiles(network, tile).encode_tiles(video_BCTHW, tile)
    elif hasattr(network, "encode_pieces"):
        parts = _untiled(height, width, network.encode_pieces(video_BCTHW))
    else:
        return network.encode(video_BCTHW)[0]
    return filled(parts, height, width, frames).transpose(1, 2)


def decoded(network: Any, latent_BCthw: Tensor, time: Time, tile: int, frames: int) -> Tensor:
    """The clip of a latent: (B, T, 3, H, W) in [0, 1].

    Args:
        network: the autoencoder.
        latent_BCthw: normalised.
        time: what its latent frames stand for.
        tile: pixels of a tile's side; 0 is whole frames.
        frames: T.

    Raises:
        ValueError: the network has no tiles.
    """
    height, width = latent_BCthw.shape[3:]
    if tile:
        parts = _with_tiles(network, tile).decode_tiles(latent_BCthw, time, tile)
    else:
        parts = _untiled(height, width, decoded_pieces(network, latent_BCthw, time))
    return filled(parts, height, width, frames)


def decoded_pieces(network: Any, latent_BCthw: Tensor, time: Time) -> Iterator[Tensor]:
    """The clip of a latent as pieces in order, (B, 3, n, H, W) in [0, 1], each made when it is asked for."""
    if hasattr(network, "decode_pieces"):
        return network.decode_pieces(latent_BCthw, time)
    return iter([network.decode(latent_BCthw, time=time)])


def _untiled(height: int, width: int, pieces: Iterator[Tensor]) -> Parts:
    return [(whole, pieces) for whole in tiles(height, width)]


def _with_tiles(network: Any, tile: int) -> Any:
    if not hasattr(network, "decode_tiles"):
        raise ValueError(f"A {type(network).__name__} has no tiles, but tile is {tile}. Set it to 0.")
    return network
