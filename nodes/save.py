"""Videos become files that people can look at, each with the workflow that made it. Knows no container format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.paths import output_file
from kineograph.nodes.foretold import check_decoded
from kineograph.nodes.sockets import VAE, Latent, Video

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

Upscale = Annotated[int, Field(ge=0, le=16)]
SHORT_SIDE = 256
"""Pixels that the short side of a small video gets at least, so that players show squares and not a blur."""


@node(effect=True)
def save_video(
    video: Video,
    run: RunContext,
    path: Annotated[str, output_file(".mp4")] = "video.mp4",
    upscale: Upscale = 0,
) -> None:
    """Write an MP4 that carries its workflow and inputs: ``kineograph run video.mp4`` makes the same frames again.

    Args:
        video: one clip; several are stacked side by side.
        path: below the output folder, ends in .mp4.
        upscale: each pixel becomes a square of so many; 0 chooses the least that makes the short side 256 or more.
    """
    from kineograph.nodes.media import write_video

    target = run.output_path(path)
    write_video(
        target,
        _side_by_side(video.frames),
        video.fps,
        upscale=_factor(_short_side(video), upscale),
        provenance=run.provenance,
    )
    run.wrote(target)


def outlined_decoding(vae: VAE, latent: Latent, **_: object) -> None:
    """What ``decode_to_file`` computes, without the file."""
    from kineograph.nodes.networks.pieces import decoded_pieces

    latent = latent.without_references()
    for _piece in decoded_pieces(vae.network, latent.x, latent.time):
        del _piece  # before the next one is made


@node(effect=True, estimate=outlined_decoding, fits=check_decoded)
def decode_to_file(
    vae: VAE,
    latent: Latent,
    run: RunContext,
    path: Annotated[str, output_file(".mp4")] = "video.mp4",
    upscale: Upscale = 0,
) -> None:
    """Decode a latent into an MP4, a few frames at a time: however long the video is, only those are in memory.

    The file is that of ``vae_decode`` and ``save_video``. Those keep the video for whoever reads it next, also in a
    later run; this keeps nothing, so each run decodes.

    Args:
        vae: the autoencoder that the latent belongs to.
        latent: one clip, as sampled or as encoded; several are stacked side by side.
        path: below the output folder, ends in .mp4.
        upscale: each pixel becomes a square of so many; 0 chooses the least that makes the short side 256 or more.
    """
    from kineograph.nodes.media import write_video
    from kineograph.nodes.networks.pieces import decoded_pieces

    target = run.output_path(path)
    side = vae.spec.space_ratio * min(latent.x.shape[-2:])
    latent = latent.without_references()
    pieces = _reported(decoded_pieces(vae.network, latent.x, latent.time), latent, run)
    write_video(target, pieces, latent.fps, upscale=_factor(side, upscale), provenance=run.provenance)
    run.wrote(target)


@node(effect=True)
def save_animation(
    video: Video,
    run: RunContext,
    path: Annotated[str, output_file(".webp", ".gif")] = "video.webp",
    upscale: Upscale = 0,
    quality: Annotated[int, Field(ge=0, le=100)] = 90,
) -> None:
    """Write a picture that moves and begins again for ever, as web pages and messengers show it: a WebP, or a GIF.

    A WebP carries its workflow: ``kineograph run video.webp`` makes the same frames again.

    Args:
        video: one clip, a loop for example; several are stacked side by side.
        path: below the output folder, ends in .webp (small, all colours) or .gif (256 colours, shown everywhere).
        upscale: each pixel becomes a square of so many; 0 chooses the least that makes the short side 256 or more.
        quality: of a WebP; 100 keeps every bit, which is smallest for flat colours.

    Raises:
        ValueError: more frames per second than the format has.
    """
    from kineograph.nodes.media.animation import write_gif, write_webp

    target = run.output_path(path)
    frames = _squares(_side_by_side(video.frames), _factor(_short_side(video), upscale))
    if path.lower().endswith(".gif"):
        write_gif(target, frames, video.fps)
    else:
        write_webp(target, frames, video.fps, quality=quality, provenance=run.provenance)
    run.wrote(target)


@node(effect=True)
def save_image(
    video: Video,
    run: RunContext,
    path: Annotated[str, output_file(".png")] = "image.png",
    frame: int = 0,
    upscale: Annotated[int, Field(ge=1, le=16)] = 1,
) -> None:
    """Write one frame as a PNG that carries its workflow: ``kineograph run image.png`` makes the same pixels again.

    Args:
        video: one clip, of one frame for example; several are stacked side by side.
        path: below the output folder, ends in .png.
        frame: number of the frame, from 0; a negative one counts from the end.
        upscale: each pixel becomes a square of so many.

    Raises:
        ValueError: the video has no such frame.
    """
    from kineograph.nodes.fit import trim_video
    from kineograph.nodes.media import write_image

    target = run.output_path(path)
    one = trim_video(video, frame, 1)
    write_image(target, _squares(_side_by_side(one.frames), upscale)[0], provenance=run.provenance)
    run.wrote(target)


@node(effect=True)
def save_contact_sheet(
    video: Video,
    run: RunContext,
    path: Annotated[str, output_file(".png")] = "sheet.png",
    columns: Annotated[int, Field(ge=1, le=64)] = 9,
    upscale: Annotated[int, Field(ge=1, le=16)] = 2,
) -> None:
    """Write a PNG of frames, a row for each clip, from left to right. It carries its workflow, as an image does.

    Args:
        video: clips.
        path: below the output folder, ends in .png.
        columns: frames in a row, evenly chosen.
        upscale: each pixel becomes a square of so many.
    """
    from kineograph.nodes.media import contact_sheet, write_image

    target = run.output_path(path)
    sheet = contact_sheet(list(_squares(video.frames, upscale)), columns=columns)
    write_image(target, sheet, provenance=run.provenance)
    run.wrote(target)


def _reported(pieces: Iterable[Tensor], latent: Latent, run: RunContext) -> Iterator[Tensor]:
    """Pieces (B, 3, n, H, W) as (n, 3, H, B W), while the run is told how many frames are done, and how they look."""
    done = 0
    for piece in pieces:
        done += piece.shape[2]
        run.preview(Video(piece.transpose(1, 2), latent.fps), done)
        yield _side_by_side(piece.transpose(1, 2))
        del piece  # before the next one is made
        run.progress(done, latent.frames)


def _side_by_side(frames: Tensor) -> Tensor:
    """(T, 3, H, B W): all clips as one, of (B, T, 3, H, W)."""
    return frames.permute(1, 2, 3, 0, 4).flatten(3)


def _short_side(video: Video) -> int:
    return min(video.frames.shape[-2:])


def _factor(short_side: int, upscale: int) -> int:
    return upscale or max(1, -(-SHORT_SIDE // short_side))


def _squares(frames: Tensor, factor: int) -> Tensor:
    return frames.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
