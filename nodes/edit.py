"""What is given, what is free: every edit as clean values, a mask and keyframes of a latent. Knows no network's inside.

An edit is wired between ``latent_noise`` and ``begin_sampling``; the sampler after it is the same for all. A cell of
mask 0 is given and keeps its bits, 1 is free, between is soft: it starts from its clean value with so much noise.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.fit import check_given
from kineograph.nodes.foretold import (
    NOT_FIRST,
    check_handed,
    check_place,
    given_facts,
    pair_facts,
    same_facts,
    uneven_facts,
)
from kineograph.nodes.shown import with_shown
from kineograph.nodes.sockets import VAE, Keyframes, Latent, SigmaStep, Video
from kineograph.nodes.train.data import step_generator
from kineograph.nodes.video import encoded_frames

if TYPE_CHECKING:
    from torch import Tensor

STILL_GROUPS = 2
"""Groups of a still that a clip is encoded behind, where a causal VAE cannot know what is before it."""
Level = Annotated[float, Field(ge=0, le=1)]


class FlowEditPair(NamedTuple):
    """Noisy videos of what a clip shall be and of what it is, in the same noise."""

    target: Latent
    source: Latent


@node(fits=check_place, foretells=given_facts)
def give_video(
    latent: Latent,
    vae: VAE,
    video: Video,
    at: Annotated[int, Field(ge=0)] = 0,
    from_end: bool = False,
    near: bool = False,
) -> Latent:
    """Give a clip or a picture at a place in time: first (image to video, extend forward), last (backward), anywhere.

    Groups of frames that the clip fills are given bit by bit. Frames of it that fill no group of the VAE, and a picture
    that does not stand first in a line, are given as keyframes: the video passes through them. A model with channels of
    its own for given frames (``show_given_frames``) is told of them there.

    Args:
        latent: of the video to come.
        vae: that the latent belongs to.
        video: the clip or picture, of the size of the video to come; one for all clips of the latent, or one each.
        at: frames of the video to come before the given clip; with ``from_end``, after it.
        from_end: count from the end.
        near: of a causal VAE, give a clip anywhere and of any length, though its latent is then near the right one
            only: it is encoded behind a still of its first frame, groups that it fills by half or more are filled up
            with stills of its ends, and a picture is a still for a whole group. ``paste_video`` behind the decoder
            puts the very pixels back. Other VAEs, and models with channels for given frames, need none of it.

    Raises:
        ValueError: the clip has another size or rate, or does not fit in, or its VAE is causal and the clip does not
            stand first; with what helps.
    """
    count, first = video.frames.shape[1], check_given(latent, video, at, from_end)
    if latent.spec.shows:
        return with_shown(latent, vae, video, first)
    if latent.spec.causal and near:
        return _given_nearly(latent, vae, video, first)
    groups, loose = _filled_groups(latent, first, count)
    _check_causal(latent, groups, loose, count)
    if groups:
        begin, end = _first_frame(latent, groups.start), _first_frame(latent, groups.stop)
        values = _encoded(latent, vae, _part(video, begin - first, end - first))
        latent = _written(latent, values, groups.start)
    for frame in loose:
        latent = _with_keyframe(latent, _encoded(latent, vae, _part(video, frame - first, frame - first + 1)), frame)
    return latent


@node(fits=check_handed, foretells=given_facts)
def give_latent(latent: Latent, given: Latent, at: Annotated[int, Field(ge=0)] = 0, from_end: bool = False) -> Latent:
    """Give latent frames that another sampling left, as they are: longer videos are handed on like this.

    Args:
        latent: of the video to come.
        given: latent frames, for example by ``last_groups``; pixels are never decoded and encoded again.
        at: latent frames of the video to come before the given ones; with ``from_end``, after them.
        from_end: count from the end.

    Raises:
        ValueError: they do not fit: another size, too many, or a first frame alone that would not stand first.
    """
    if given.x.shape[1] != latent.x.shape[1] or given.x.shape[3:] != latent.x.shape[3:]:
        raise ValueError(
            f"The given latent has C, h, w = {(given.x.shape[1], *given.x.shape[3:])}, the one to come "
            f"{(latent.x.shape[1], *latent.x.shape[3:])}: give both the same VAE, height and width."
        )
    count, total = given.x.shape[2], latent.x.shape[2]
    first = total - count - at if from_end else at
    if first < 0 or first + count > total:
        raise ValueError(
            f"{count} given latent frames with {at} {'after' if from_end else 'before'} them do not fit into {total}: "
            "make the video longer (latent_noise), or give fewer (last_groups)."
        )
    if latent.spec.shows:
        raise ValueError(
            "This model is shown frames, not latents: vae_decode what shall be handed on, and give it by give_video."
        )
    if latent.spec.causal and first > 0:
        raise ValueError(
            "This model's VAE is causal: latent frames keep their meaning only where all before them are the same. "
            "Give them first (at 0, from_end false)."
        )
    alone = [number for number, each in ((first, given), (0, latent)) if each.time == "line"]
    if alone not in ([], [0, 0]) and not (alone == [0] and first > 0 and given.time != "line"):
        raise ValueError(
            "A latent frame that stands for one frame alone can only stand first, where such a one stands: "
            "give groups alone (last_groups), or let both latents begin with a frame alone."
        )
    return _written(latent, given.x.expand(latent.x.shape[0], -1, -1, -1, -1), first)


@node(foretells=same_facts)
def sdedit(latent: Latent, source: Latent, level: Level = 0.6) -> Latent:
    """SDEdit: start from a clip with noise up to a level, and keep what survives it (Meng et al. 2022).

    Args:
        latent: of the video to come; noise at ``x``.
        source: the clip, encoded; of the same size.
        level: sigma in [0, 1], whatever the schedule; ``strength_sigma`` tells it of an index strength. 0 keeps every
            bit, 1 forgets the source.

    Raises:
        ValueError: the latents differ in size.
    """
    return _softened(latent, source, latent.mask.new_full((1, 1, 1), level))


@node(foretells=uneven_facts)
def sdedit_frames(latent: Latent, source: Latent, levels: Annotated[list[Level], Field(min_length=2)]) -> Latent:
    """SDEdit with a noise level of its own for every frame: a cut that is made anew, say, between frames that stay.

    Args:
        latent: of the video to come; noise at ``x``.
        source: the clip, encoded; of the same size.
        levels: sigma in [0, 1] from the clip's first frame to its last at equal distances, straight lines between.

    Raises:
        ValueError: the latents differ in size.
    """
    import torch

    level_11n = torch.tensor(levels)[None, None]
    level_t = torch.nn.functional.interpolate(level_11n, latent.x.shape[2], mode="linear", align_corners=True)
    return _softened(latent, source, level_t.view(-1, 1, 1))


@node(foretells=uneven_facts)
def morph(latent: Latent, first: Latent, second: Latent, most: Level = 0.8) -> Latent:
    """One clip turns into another over the whole duration: both stand under noise that is highest in the middle.

    Clean values are slerp(first, second; w) with w = smoothstep over time, levels are ``most`` sin(pi f / (t - 1)): the
    first and last latent frames are given. Let the words turn too, by ``turn_velocity``.

    Args:
        latent: of the video to come; noise at ``x``.
        first: the clip it begins as, encoded; of the same size.
        second: the clip it ends as, encoded; of the same size.
        most: noise level in the middle.

    Raises:
        ValueError: the latents differ in size, or have one latent frame.
    """
    import math

    import torch

    from kineograph.nodes.networks.flow import slerp

    _check_same(first, second)
    level_t = most * torch.linspace(0, math.pi, latent.x.shape[2]).sin()
    level_t[0] = level_t[-1] = 0.0
    between = replace(first, x=slerp(first.x, second.x, _turn(latent)))
    return _softened(latent, between, level_t.view(-1, 1, 1))


@node
def turn_velocity(first: Latent, second: Latent) -> Latent:
    """From one velocity to another over the clip's duration: words that change while the clip goes on.

    Args:
        first: the velocity at the clip's beginning, as the first words want it.
        second: the velocity at its end.
    """
    import torch

    _check_same(first, second)
    return replace(first, x=torch.lerp(first.x, second.x, _turn(first)))


@node(foretells=same_facts)
def begin_sampling(latent: Latent) -> Latent:
    """Where sampling begins: given cells clean, free ones noise, soft ones between, (1 - m) clean + m noise.

    Args:
        latent: with its edits; noise at ``x``.
    """
    from kineograph.nodes.networks import flow

    return replace(latent, x=flow.start(latent.clean, latent.x, latent.mask))


@node(foretells=pair_facts)
def flow_edit_pair(latent: Latent, source: Latent, at: SigmaStep, seed: int = 0, step: int = 0) -> FlowEditPair:
    """The two noisy videos whose velocities FlowEdit compares (Kulikov et al. 2024, FlowEdit, alg. 1).

    z_s = (1 - sigma) source + sigma e, and z_t = latent + z_s - source: the same noise on both.

    Args:
        latent: the edited video so far; the source at first.
        source: the video that is edited, encoded.
        at: the step; its sigma is the noise level.
        seed: of the noise.
        step: number of the step; each draws anew.
    """
    import torch

    _check_same(latent, source)
    noise = torch.randn(latent.x.shape, generator=step_generator(seed, step, stream=8))
    free = torch.ones_like(latent.mask)
    noisy = torch.lerp(source.x, noise, at.sigma)
    return FlowEditPair(replace(latent, x=latent.x + noisy - source.x, mask=free), replace(latent, x=noisy, mask=free))


@node
def flow_edit_step(latent: Latent, target: Latent, source: Latent, at: SigmaStep) -> Latent:
    """One step of FlowEdit: x + (sigma_next - sigma) (v_target - v_source); no inversion, no noise that stays.

    Args:
        latent: the edited video so far.
        target: the velocity at z_t with the words of what it shall be.
        source: the velocity at z_s with the words of what it was.
        at: the step.
    """
    return replace(latent, x=latent.x + (at.sigma_next - at.sigma) * (target.x - source.x))


@node
def paste_video(video: Video, given: Video, at: Annotated[int, Field(ge=0)] = 0, from_end: bool = False) -> Video:
    """Put the frames of a given clip, as they were before the VAE, in their place.

    Args:
        video: as decoded.
        given: what was given, of the same size.
        at: frames of the video before the given clip; with ``from_end``, after it.
        from_end: count from the end.

    Raises:
        ValueError: the clip has another size, or does not fit in.
    """
    frames, count = video.frames.clone(), given.frames.shape[1]
    first = frames.shape[1] - count - at if from_end else at
    if frames.shape[2:] != given.frames.shape[2:] or first < 0 or first + count > frames.shape[1]:
        raise ValueError(
            f"{count} frames of {_size(given)} with {at} frames {'after' if from_end else 'before'} them do not fit "
            f"into a video of {frames.shape[1]} frames of {_size(video)}: resize_video or trim_video makes them."
        )
    frames[:, first : first + count] = given.frames
    return replace(video, frames=frames)


def _softened(latent: Latent, source: Latent, levels: Tensor) -> Latent:
    """A latent whose cells are a source's, each up to its level: (t, 1, 1), or one for all."""
    import torch

    _check_same(latent, source)
    return replace(latent, clean=source.x.expand_as(latent.x), mask=torch.minimum(latent.mask, levels))


def _check_same(latent: Latent, other: Latent) -> None:
    if latent.x.shape[1:] != other.x.shape[1:] or latent.time != other.time or latent.fps != other.fps:
        raise ValueError(
            f"The video to come has {latent.frames} frames at {latent.fps:g} per second and C, h, w = "
            f"{(latent.x.shape[1], *latent.x.shape[3:])}, the clip {other.frames} frames at {other.fps:g} per second "
            f"and {(other.x.shape[1], *other.x.shape[3:])}: fit the clip (fit_video), or give latent_noise its size."
        )


def _size(video: Video) -> str:
    return f"{video.frames.shape[3]} x {video.frames.shape[4]}"


def _first_frame(latent: Latent, group: int) -> int:
    """The first of the frames that a latent frame stands for."""
    ratio = latent.spec.time_ratio
    return max(0, group * ratio - ratio + 1) if latent.time == "line" else group * ratio


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
    return _written(latent, values[:, :, -len(given) :], given[0])


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


def _part(video: Video, start: int, stop: int) -> Video:
    return replace(video, frames=video.frames[:, start:stop])


def _encoded(latent: Latent, vae: VAE, video: Video) -> Tensor:
    """The latent values of a clip, for every clip of the latent."""
    return encoded_frames(vae, video.frames).expand(latent.x.shape[0], -1, -1, -1, -1)


def _written(latent: Latent, values: Tensor, first: int) -> Latent:
    """Values given at latent frames from ``first`` on."""
    clean, mask = latent.clean.clone(), latent.mask.clone()
    places = slice(first, first + values.shape[2])
    clean[:, :, places], mask[:, :, places] = values, 0.0
    return replace(latent, clean=clean, mask=mask)


def _with_keyframe(latent: Latent, values: Tensor, frame: int) -> Latent:
    import torch

    if latent.keyframes is None:
        return replace(latent, keyframes=Keyframes(values, (float(frame),)))
    joined = torch.cat([latent.keyframes.values, values], dim=2)
    return replace(latent, keyframes=Keyframes(joined, (*latent.keyframes.frames, float(frame))))


def _turn(latent: Latent) -> Tensor:
    """(t, 1, 1) smoothstep from 0 to 1 over a latent's duration."""
    import torch

    w = torch.linspace(0, 1, latent.x.shape[2])
    return (w * w * (3 - 2 * w)).view(-1, 1, 1)
