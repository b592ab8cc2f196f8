"""Between latents and frames. Knows no model's inside and no file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kineograph.graph_runtime.node import node
from kineograph.nodes.fit import check_alike
from kineograph.nodes.sockets import VAE, Latent, LatentSpec, Video

if TYPE_CHECKING:
    from kineograph.nodes.networks.patches import Time


@node
def vae_encode(vae: VAE, video: Video) -> Latent:
    """The latent of a video: the mean of the VAE's posterior, with every cell given (mask 0).

    Args:
        vae: the autoencoder.
        video: 1 + 4k frames, or 4k (a piece of a longer video, or a loop), with sides that are multiples of 8, for the
            embedded VAE.
    """
    import torch

    mean = vae.network.encode(video.frames.transpose(1, 2))[0]
    return Latent(mean, mean, torch.zeros_like(mean[:, :1]), video.fps, vae.spec, time_of(video, vae.spec))


@node
def vae_decode(vae: VAE, latent: Latent) -> Video:
    """The video of a latent.

    Args:
        vae: the autoencoder that the latent belongs to.
        latent: as sampled, or as encoded.
    """
    frames = vae.network.decode(latent.x, time=latent.time).transpose(1, 2)
    return Video(frames, latent.fps, loop=latent.time == "circle")


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
