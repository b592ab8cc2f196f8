"""Clips through any autoencoder a few frames at a time. Knows what an autoencoder may offer, and none in particular.

Every one has ``encode(video)``, the posterior's mean and log variance, and ``decode(latent, time=...)``. One that can
work in pieces has ``encode_pieces(video, tile)`` and ``decode_pieces(latent, time, tile)`` as well (see ``vae``): what
they give in order is the mean, or the clip in [0, 1], of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from kineograph.nodes.networks.patches import Time


def decoded_pieces(network: Any, latent_BCthw: Tensor, time: Time, tile: int) -> Iterator[Tensor]:
    """The clip of a latent, piece by piece: (B, 3, n, H, W).

    Raises:
        ValueError: the network has no tiles.
    """
    if hasattr(network, "decode_pieces"):
        return network.decode_pieces(latent_BCthw, time, tile)
    _check_no(tile, network)
    return iter([network.decode(latent_BCthw, time=time)])


def encoded(network: Any, video_BCTHW: Tensor, tile: int) -> Tensor:
    """The mean of the posterior of a clip's latent: (B, C, t, h, w).

    Raises:
        ValueError: the network has no tiles.
    """
    if hasattr(network, "encode_pieces"):
        return torch.cat(list(network.encode_pieces(video_BCTHW, tile)), dim=2)
    _check_no(tile, network)
    return network.encode(video_BCTHW)[0]


def joined(pieces: Iterable[Tensor], count: int) -> Tensor:
    """Pieces of a clip as one, whose memory is filled while they come: beside it, only one of them is there.

    Args:
        pieces: (B, C, n, H, W), in order.
        count: frames of all of them.

    Returns:
        (B, T, C, H, W).
    """
    whole, at = torch.empty(0), 0
    for piece in pieces:
        if not at:
            whole = piece.new_empty(len(piece), count, piece.shape[1], *piece.shape[3:])
        whole[:, at : at + piece.shape[2]] = piece.transpose(1, 2)
        at += piece.shape[2]
        del piece  # before the next one is made
    return whole


def _check_no(tile: int, network: Any) -> None:
    if tile:
        raise ValueError(f"A {type(network).__name__} has no tiles, but tile is {tile}. Set it to 0.")
