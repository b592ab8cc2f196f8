"""Videos become files that people can look at, each with the workflow that made it. Knows no container format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.paths import output_file
from kineograph.nodes.sockets import Video

if TYPE_CHECKING:
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
    write_video(target, _side_by_side(video), video.fps, upscale=_factor(video, upscale), provenance=run.provenance)
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
    frames = _squares(_side_by_side(video), _factor(video, upscale))
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
    write_image(target, _squares(_side_by_side(one), upscale)[0], provenance=run.provenance)
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


def _side_by_side(video: Video) -> Tensor:
    """(T, 3, H, B W): all clips as one."""
    return video.frames.permute(1, 2, 3, 0, 4).flatten(3)


def _factor(video: Video, upscale: int) -> int:
    return upscale or max(1, -(-SHORT_SIDE // min(video.frames.shape[-2:])))


def _squares(frames: Tensor, factor: int) -> Tensor:
    return frames.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
