"""Frames of a clip as cells and keyframes of a latent, wherever they stand. Knows what latents mean, no network."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from kineograph.nodes.foretold import NOT_FIRST
from kineograph.nodes.sockets import VAE, Keyframes, Latent, Video
from kineograph.nodes.video import encoded_frames

if TYPE_CHECKING:
    from torch import Tensor

STILL_GROUPS = 2
"""Groups of a still that a clip is encoded behind, where a causal VAE cannot know what is before it."""
BEGINNING = 2
"""Latent frames of a clip that stand beside a video, where the clip does not stand first (LTX-Video 0.9.5)."""


def with_given(latent: Latent, vae: VAE, video: Video, first: int, near: bool) -> Latent:
    """A latent that is given a clip from frame ``first`` on; ``near`` as for ``give_video``.

    Raises:
        ValueError: the VAE is causal and cannot tell the clip's latent there; with what helps.
    """
    count = video.frames.shape[1]
    if latent.spec.passes and first > 0 and (not near or _may_pass(latent, count, first)):
        return _passing(latent, vae, video, first)
    if latent.spec.causal and near:
        return _given_nearly(latent, vae, video, first)
    groups, loose = _filled_groups(latent, first, count)
    _check_causal(latent, groups, loose, count)
    if groups:
        begin, end = _first_frame(latent, groups.start), _first_frame(latent, groups.stop)
        values = _encoded(latent, vae, _part(video, begin - first, end - first))
        latent = written(latent, values, groups.start)
    for frame in loose:
        latent = with_keyframe(latent, _encoded(latent, vae, _part(video, frame - first, frame - first + 1)), frame)
    return latent


def _given_nearly(latent: Latent, vae: VAE, video: Video, first: int) -> Latent:
    """A clip given to a causal VAE wherever it stands, encoded behind stills of its first frame."""
    import torch

    count, ratio = video.frames.shape[1], latent.spec.time_ratio
    starts = [_first_frame(latent, group) for group in range(latent.x.shape[2] + 1)]
    filled = torch.tensor(
        [max(0, min(stop, first + count) - max(start, first)) / (stop - start) for start, stop in pairwise(starts)]
    )
    given = (filled >= min(0.5, filled.max())).nonzero().flatten().tolist()
    begin, end = starts[given[0]], starts[given[-1] + 1]
    before = 1 + STILL_GROUPS * ratio if begin else 0
    places = torch.arange(begin - before, end) - first
    values = _encoded(latent, vae, replace(video, frames=video.frames[:, places.clamp(0, count - 1)]))
    return written(latent, values[:, :, -len(given) :], given[0])


def _may_pass(latent: Latent, count: int, first: int) -> bool:
    """Whether ``_passing`` takes a clip of so many frames at a place."""
    ratio = latent.spec.time_ratio
    return (count - 1) % ratio == 0 and (count <= 1 + (BEGINNING - 1) * ratio or first % ratio == 0)


def _passing(latent: Latent, vae: VAE, video: Video, first: int) -> Latent:
    """A clip that a causal VAE encodes by itself, given inside a longer video as LTX-Video was trained since 0.9.5.

    Its first latent frames mean something else than those of the video at that place, so they stand beside it.
    """
    count, ratio = video.frames.shape[1], latent.spec.time_ratio
    if left := (count - 1) % ratio:
        raise ValueError(
            f"This model's VAE encodes 1 + a multiple of {ratio} frames, and the given clip has {count}: trim_video to "
            f"{count - left} frames makes it fit."
        )
    values = _encoded(latent, vae, video)
    for number in range(min(BEGINNING, values.shape[2])):
        latent = with_keyframe(latent, values[:, :, number : number + 1], first + number)
    if values.shape[2] <= BEGINNING:
        return latent
    if first % ratio:
        raise ValueError(
            f"A clip of more than {1 + ratio} frames stands at a multiple of {ratio} frames with this model, and here "
            f"{first} are before it: {first - first % ratio} or {first + ratio - first % ratio} fit."
        )
    return written(latent, values[:, :, BEGINNING:], first // ratio + BEGINNING)


def _check_causal(latent: Latent, groups: range, loose: list[int], count: int) -> None:
    """Of a causal VAE, the latents of a clip are those inside a longer video only where nothing is before it."""
    if not latent.spec.causal or (groups.start == 0 and groups and not loose):
        return
    if groups.start == 0 and groups:
        fits = _first_frame(latent, groups.stop)
        raise ValueError(
            f"A clip of {count} frames ends inside a group of this model's VAE: trim_video to {fits} frames makes it "
            "fit, or near makes a group of stills of its last frame."
        )
    raise ValueError(NOT_FIRST)


def _filled_groups(latent: Latent, first: int, count: int) -> tuple[range, list[int]]:
    """The latent frames that ``count`` frames from ``first`` on fill, and the frames that fill none."""
    filled = [
        group
        for group in range(latent.x.shape[2])
        if first <= _first_frame(latent, group) and _first_frame(latent, group + 1) <= first + count
    ]
    groups = range(filled[0], filled[-1] + 1) if filled else range(0)
    inside = range(_first_frame(latent, groups.start), _first_frame(latent, groups.stop))
    return groups, [frame for frame in range(first, first + count) if frame not in inside]


def _first_frame(latent: Latent, group: int) -> int:
    """The first of the frames that a latent frame stands for."""
    ratio = latent.spec.time_ratio
    return max(0, group * ratio - ratio + 1) if latent.time == "line" else group * ratio


def _part(video: Video, start: int, stop: int) -> Video:
    return replace(video, frames=video.frames[:, start:stop])


def _encoded(latent: Latent, vae: VAE, video: Video) -> Tensor:
    """The latent values of a clip, for every clip of the latent."""
    return encoded_frames(vae, video.frames).expand(latent.x.shape[0], -1, -1, -1, -1)


def written(latent: Latent, values: Tensor, first: int) -> Latent:
    """Values given at latent frames from ``first`` on."""
    clean, mask = latent.clean.clone(), latent.mask.clone()
    places = slice(first, first + values.shape[2])
    clean[:, :, places], mask[:, :, places] = values, 0.0
    return replace(latent, clean=clean, mask=mask)


def with_keyframe(latent: Latent, values: Tensor, frame: int) -> Latent:
    """Values given beside the video, at one of its frames."""
    import torch

    if latent.keyframes is None:
        return replace(latent, keyframes=Keyframes(values, (float(frame),)))
    joined = torch.cat([latent.keyframes.values, values], dim=2)
    return replace(latent, keyframes=Keyframes(joined, (*latent.keyframes.frames, float(frame))))
