"""Between latents, frames and files. Knows no model's inside and no container format."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.paths import output_file
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


@node(effect=True)
def save_video(
    video: Video,
    run: RunContext,
    path: Annotated[str, output_file(".mp4")] = "video.mp4",
    upscale: Annotated[int, Field(ge=0, le=16)] = 0,
) -> None:
    """Write an MP4 that carries its workflow and inputs: ``kineograph run video.mp4`` makes the same frames again.

    Args:
        video: one clip; several are stacked side by side.
        path: below the output folder, ends in .mp4.
        upscale: each pixel becomes a square of so many; 0 chooses the least that makes the short side 256 or more.
    """
    from kineograph.nodes.media import write_video

    frames = video.frames.permute(1, 2, 3, 0, 4).flatten(3)  # B clips side by side: (T, 3, H, B W)
    factor = upscale or max(1, -(-256 // min(video.frames.shape[-2:])))
    target = run.output_path(path)
    write_video(target, frames, video.fps, upscale=factor, provenance=run.provenance)
    run.wrote(target)


@node(effect=True)
def save_contact_sheet(
    video: Video,
    run: RunContext,
    path: Annotated[str, output_file(".png")] = "sheet.png",
    columns: Annotated[int, Field(ge=1, le=64)] = 9,
    upscale: Annotated[int, Field(ge=1, le=16)] = 2,
) -> None:
    """Write a PNG of frames: a row for each clip, its frames from left to right.

    Args:
        video: clips.
        path: below the output folder, ends in .png.
        columns: frames in a row, evenly chosen.
        upscale: each pixel becomes a square of so many.
    """
    from kineograph.nodes.media import contact_sheet, write_image

    large = video.frames.repeat_interleave(upscale, -1).repeat_interleave(upscale, -2)
    target = run.output_path(path)
    write_image(target, contact_sheet(list(large), columns=columns))
    run.wrote(target)


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
