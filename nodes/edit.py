"""What is given, what is free: every edit as clean values, a mask and keyframes of a latent. Knows no network's inside.

An edit is wired between ``latent_noise`` and ``begin_sampling``; the sampler after it is the same for all. A cell of
mask 0 is given and keeps its bits, 1 is free, between is soft: it starts from its clean value with so much noise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.fit import check_given
from kineograph.nodes.foretold import (
    check_handed,
    check_place,
    given_facts,
    pair_facts,
    same_facts,
    uneven_facts,
)
from kineograph.nodes.given import with_given, written
from kineograph.nodes.shown import with_shown
from kineograph.nodes.sockets import VAE, Latent, SigmaStep, Video
from kineograph.nodes.train.data import step_generator

if TYPE_CHECKING:
    from torch import Tensor

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
    its own for given frames (``show_given_frames``) is told of them there. LTX-Video from 0.9.5 on is given the first
    frames of a clip that does not stand first as keyframes, and the others bit by bit.

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
    first = check_given(latent, video, at, from_end)
    if latent.spec.shows:
        return with_shown(latent, vae, video, first)
    return with_given(latent, vae, video, first, near)


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
    return written(latent, given.x.expand(latent.x.shape[0], -1, -1, -1, -1), first)


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
    if latent.references != other.references:
        raise ValueError(
            "Pictures of reference stand before one of these videos and not the other: put show_reference behind this "
            "node."
        )
    if latent.x.shape[1:] != other.x.shape[1:] or latent.time != other.time or latent.fps != other.fps:
        raise ValueError(
            f"The video to come has {latent.frames} frames at {latent.fps:g} per second and C, h, w = "
            f"{(latent.x.shape[1], *latent.x.shape[3:])}, the clip {other.frames} frames at {other.fps:g} per second "
            f"and {(other.x.shape[1], *other.x.shape[3:])}: fit the clip (fit_video), or give latent_noise its size."
        )


def _size(video: Video) -> str:
    return f"{video.frames.shape[3]} x {video.frames.shape[4]}"


def _turn(latent: Latent) -> Tensor:
    """(t, 1, 1) smoothstep from 0 to 1 over a latent's duration."""
    import torch

    w = torch.linspace(0, 1, latent.x.shape[2])
    return (w * w * (3 - 2 * w)).view(-1, 1, 1)
