"""Videos cut, scaled, slowed and joined, so that they fit what comes next. Knows no file and no model's inside."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.sockets import VAE, Latent, Video

Side = Annotated[int, Field(ge=0, le=16384)]
Place = Annotated[int, Field(ge=-1, le=16384)]


@node(views=("video",))
def resize_video(
    video: Video,
    height: Side = 0,
    width: Side = 0,
    how: Literal["crop", "pad", "stretch"] = "crop",
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic",
) -> Video:
    """Scale every frame to a size, antialiased where it becomes smaller.

    Args:
        video: of any size.
        height: pixels; 0 follows the width.
        width: pixels; 0 follows the height.
        how: where the aspect differs, crop cuts off evenly, pad puts black around, stretch distorts.
        interpolation: bicubic is sharp, bilinear soft, nearest keeps single pixels.

    Raises:
        ValueError: neither height nor width is given.
    """
    from kineograph.nodes.networks import frames as f

    own = (video.frames.shape[-2], video.frames.shape[-1])
    if not height and not width:
        raise ValueError(f"The video has {_size(video)} pixels; say which height or width it shall have.")
    height = height or max(1, round(own[0] * width / own[1]))
    width = width or max(1, round(own[1] * height / own[0]))
    if how == "stretch":
        return replace(video, frames=f.scaled(video.frames, height, width, interpolation))
    if how == "pad":
        inner = f.scaled(video.frames, *f.scale_to_fit(own, height, width), interpolation)
        return replace(video, frames=f.padded(inner, height, width))
    outer = f.scaled(video.frames, *f.scale_to_cover(own, height, width), interpolation)
    return replace(video, frames=f.middle(outer, height, width))


@node
def crop_video(
    video: Video,
    height: Annotated[int, Field(ge=1, le=16384)],
    width: Annotated[int, Field(ge=1, le=16384)],
    top: Place = -1,
    left: Place = -1,
) -> Video:
    """Cut the same rectangle out of every frame.

    Args:
        video: of at least that size.
        height: pixels of the rectangle.
        width: pixels of the rectangle.
        top: pixels above it; -1 is the middle.
        left: pixels to the left of it; -1 is the middle.

    Raises:
        ValueError: the rectangle leaves the frames.
    """
    high, wide = video.frames.shape[-2:]
    top = (high - height) // 2 if top < 0 else top
    left = (wide - width) // 2 if left < 0 else left
    if top < 0 or left < 0 or top + height > high or left + width > wide:
        raise ValueError(
            f"{width} x {height} pixels from {left} across and {top} down leave frames of {_size(video)}. "
            "Take a smaller rectangle, or make the video larger with resize_video."
        )
    return replace(video, frames=video.frames[..., top : top + height, left : left + width].clone())


@node
def trim_video(video: Video, start: int = 0, frames: int = 0) -> Video:
    """Take a part of a video.

    Args:
        video: what to cut.
        start: number of the first frame, from 0; a negative one counts from the end, so that -5 takes the last five.
        frames: how many; 0 is all from there, a negative number all but so many at the end.

    Raises:
        ValueError: the video has fewer.
    """
    count = video.frames.shape[1]
    first = start + count if start < 0 else start
    last = first + frames if frames > 0 else count + frames
    if not 0 <= first < last <= count:
        asked = f"{frames} frames from {start}" if frames else f"frame {start}"
        raise ValueError(
            f"The video has {count} frames, numbered 0 to {count - 1}; there is no part of {asked}. "
            "Take fewer, or make it longer with repeat_video or concat_videos."
        )
    return Video(video.frames[:, first:last].clone(), video.fps, loop=video.loop and last - first == count)


@node
def resample_video(
    video: Video,
    fps: Annotated[float, Field(gt=0, le=1000)] = 8.0,
    how: Literal["nearest", "blend"] = "nearest",
) -> Video:
    """Show the same motion at another frame rate, from the first frame to the last.

    Args:
        video: at any rate.
        fps: frames per second of the result; a loop may run a little faster or slower, so that a whole number fits.
        how: nearest takes frames as they are, blend mixes neighbours.
    """
    from kineograph.nodes.networks import frames as f

    at = f.places(video.frames.shape[1], video.fps / fps, video.loop)
    taken = f.taken_nearest(video.frames, at) if how == "nearest" else f.taken_blended(video.frames, at, video.loop)
    return Video(taken, fps, video.loop)


@node
def reverse_video(video: Video) -> Video:
    """Play a video backwards.

    Args:
        video: frames, the last of which comes first.
    """
    return replace(video, frames=video.frames.flip(1))


@node
def repeat_video(video: Video, times: Annotated[int, Field(ge=1, le=1000)] = 2) -> Video:
    """Play a video several times over: a picture stands still, a loop goes round.

    Args:
        video: what to repeat.
        times: how often it is shown.
    """
    return replace(video, frames=video.frames.repeat(1, times, 1, 1, 1))


@node
def concat_videos(first: Video, second: Video) -> Video:
    """Play one video after another.

    Args:
        first: (B, T1, 3, H, W), or a single clip for all of the second's.
        second: (B, T2, 3, H, W) of the same size and rate; a single frame takes the other's rate.

    Raises:
        ValueError: they differ in size or rate; the sentence names the node that fits them.
    """
    import torch

    check_alike(first, second)
    clips = max(len(first.frames), len(second.frames))
    if {len(first.frames), len(second.frames)} - {1, clips}:
        raise ValueError(f"{len(first.frames)} clips cannot be followed by {len(second.frames)}: give as many, or one.")
    parts = [each.frames.expand(clips, -1, -1, -1, -1) for each in (first, second)]
    rate = second.fps if first.frames.shape[1] == 1 else first.fps
    return Video(torch.cat(parts, dim=1), rate)


@node(views=("video",))
def fit_video(
    video: Video,
    vae: VAE,
    frames: Annotated[int, Field(ge=0)] = 0,
    height: Side = 0,
    width: Side = 0,
    fps: Annotated[float, Field(ge=0, le=1000)] = 0.0,
) -> Video:
    """Make a video as a VAE takes it, in one go: its rate, then its size, then its length, each the nearest that fits.

    Args:
        video: of any size, rate and length.
        vae: whose latent space it shall enter: 1 + 4k frames (4k of a loop), sides of 8k, for the embedded one.
        frames: most that are kept, from the first on; 0 is as many as there are. A loop is never cut.
        height: pixels; 0 follows the width, or is the video's. What does not fit the aspect is cut off evenly.
        width: pixels; 0 follows the height, or is the video's.
        fps: frames per second; 0 is the video's.
    """
    from kineograph.nodes.networks.frames import nearest_multiple, places, taken_nearest

    spec = vae.spec
    rate = fps or video.fps
    at = places(video.frames.shape[1], video.fps / rate, video.loop)
    if video.loop:
        count = nearest_multiple(len(at), spec.time_ratio)
        at = places(video.frames.shape[1], video.frames.shape[1] / count, loop=True)
    else:
        count = min(frames or len(at), len(at))
        at = at[: 1 + (count - 1) // spec.time_ratio * spec.time_ratio]
    taken = replace(video, frames=taken_nearest(video.frames, at), fps=rate)
    own = video.frames.shape[-2:]
    high = height or (own[0] * width / own[1] if width else own[0])
    wide = width or (own[1] * height / own[0] if height else own[1])
    return resize_video(taken, nearest_multiple(high, spec.space_ratio), nearest_multiple(wide, spec.space_ratio))


def check_alike(first: Video, second: Video) -> None:
    """Refuse videos of two sizes or rates.

    Raises:
        ValueError: with the node that makes the second like the first.
    """
    high, wide = first.frames.shape[-2:]
    if first.frames.shape[-2:] != second.frames.shape[-2:]:
        raise ValueError(
            f"The first video has {_size(first)} pixels, the second {_size(second)}. "
            f"Give the second to resize_video, with height {high} and width {wide}."
        )
    if first.fps != second.fps and min(first.frames.shape[1], second.frames.shape[1]) > 1:
        raise ValueError(
            f"The first video has {first.fps:g} frames per second, the second {second.fps:g}. "
            f"Give the second to resample_video, with fps {first.fps:g}."
        )


def check_given(latent: Latent, video: Video, at: int, from_end: bool) -> int:
    """Refuse a clip that does not fit into the video to come; the number of the frame there that is its first."""
    _check_like(latent, video)
    count = video.frames.shape[1]
    first = latent.frames - count - at if from_end else at
    if first < 0 or first + count > latent.frames:
        raise ValueError(
            f"A clip of {count} frames with {at} frames {'after' if from_end else 'before'} it does not fit into a "
            f"video of {latent.frames}: make the video longer (latent_noise), or the clip shorter (trim_video)."
        )
    return first


def _check_like(latent: Latent, video: Video) -> None:
    """What is given must have the size and rate of the video to come."""
    ratio = latent.spec.space_ratio
    height, width = latent.x.shape[3] * ratio, latent.x.shape[4] * ratio
    problems = []
    if (video.frames.shape[3], video.frames.shape[4]) != (height, width):
        own = f"{video.frames.shape[3]} x {video.frames.shape[4]}"
        problems.append(f"is {own} pixels, the video to come {height} x {width}: resize_video makes it so")
    if video.frames.shape[1] > 1 and video.fps != latent.fps:
        problems.append(
            f"has {video.fps:g} frames per second, the video to come {latent.fps:g}: resample_video makes it so"
        )
    if video.frames.shape[0] not in (1, latent.x.shape[0]):
        problems.append(f"holds {video.frames.shape[0]} clips for {latent.x.shape[0]}: give one for all, or one each")
    if problems:
        raise ValueError(f"The given clip {'; it '.join(problems)}.")


def _size(video: Video) -> str:
    return f"{video.frames.shape[-1]} x {video.frames.shape[-2]}"
