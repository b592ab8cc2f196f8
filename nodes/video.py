"""Between latents and frames. Knows no model's inside and no file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.fit import check_alike
from kineograph.nodes.foretold import check_decoded, encoded_facts
from kineograph.nodes.sockets import VAE, Latent, LatentSpec, Video

if TYPE_CHECKING:
    from torch import Tensor

    from kineograph.nodes.networks.patches import Time

TileSide = Annotated[int, Field(ge=0, le=16384)]


@node(smaller={"tile": 256}, foretells=encoded_facts)
def vae_encode(vae: VAE, video: Video, tile: TileSide = 0) -> Latent:
    """The latent of a video: the mean of the VAE's posterior, with every cell given (mask 0).

    Frames go through the network a few at a time, so that a long video needs no more memory than a short one beside its
    frames; the numbers are those of the whole at once.

    Args:
        vae: the autoencoder.
        video: 1 + 4k frames, or 4k (a piece of a longer video, or a loop), with sides that are multiples of 8, for the
            embedded VAE.
        tile: pixels of a tile's side, for frames that are too large for the memory; 0 is whole frames. Each tile is
            encoded with all that its cells can see around it, so there are no seams: it only takes more time. VAEs of
            open models see the whole frame: their tiles are blended, and the numbers are near those of the whole.
    """
    import torch

    mean = encoded_frames(vae, video.frames, tile)
    return Latent(mean, mean, torch.zeros_like(mean[:, :1]), video.fps, vae.spec, time_of(video, vae.spec))


@node(smaller={"tile": 256}, fits=check_decoded)
def vae_decode(vae: VAE, latent: Latent, tile: TileSide = 0) -> Video:
    """The video of a latent.

    It is decoded a few frames at a time: beside the video itself, a long one needs no more memory than a short one. One
    that goes into a file and nowhere else is decoded by ``decode_to_file``, which never holds the whole.

    Args:
        vae: the autoencoder that the latent belongs to.
        latent: as sampled, or as encoded.
        tile: pixels of a tile's side, for frames that are too large for the memory; 0 is whole frames. Each tile is
            decoded with all that its pixels can see around it, so there are no seams: it only takes more time. VAEs of
            open models see the whole frame: their tiles are blended, and the pixels are near those of the whole.
    """
    from kineograph.nodes.networks.pieces import decoded

    latent = latent.without_references()
    frames = decoded(vae.network, latent.x, latent.time, tile, latent.frames)
    return Video(frames, latent.fps, loop=latent.time == "circle")


def encoded_frames(vae: VAE, frames: Tensor, tile: int = 0) -> Tensor:
    """The mean of the posterior of frames (B, T, 3, H, W): (B, C, t, h, w)."""
    from kineograph.nodes.networks.pieces import encoded

    count, _, height, width = frames.shape[1:]
    sides = -(-count // vae.spec.time_ratio), height // vae.spec.space_ratio, width // vae.spec.space_ratio
    return encoded(vae.network, frames.transpose(1, 2), tile, sides)


def time_of(video: Video, spec: LatentSpec) -> Time:
    """What the latent frames of a video stand for: its number of frames says it, and whether it is a loop."""
    if video.frames.shape[1] % spec.time_ratio:
        return "line"
    return "circle" if video.loop else "groups"


@node
def join_videos(first: Video, second: Video) -> Video:
    """Put clips of equal size beside each other as one batch.

    Args:
        first: (B1, T, 3, H, W).
        second: (B2, T, 3, H, W), at the same rate.

    Raises:
        ValueError: they differ in size, rate or length; the sentence names the node that fits them.
    """
    import torch

    check_alike(first, second)
    lengths = (first.frames.shape[1], second.frames.shape[1])
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"The first video has {lengths[0]} frames, the second {lengths[1]}. "
            f"Give the longer one to trim_video, with frames {min(lengths)}."
        )
    return replace(first, frames=torch.cat([first.frames, second.frames]))
