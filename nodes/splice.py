"""Videos longer than a model's window, and turned in time: latents cut and joined. Knows no pixels and no network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.foretold import grouped_facts, same_facts
from kineograph.nodes.sockets import Latent

if TYPE_CHECKING:
    from torch import Tensor


@node(foretells=same_facts)
def roll_latent(latent: Latent, step: int = 0, skip: int = 1, back: bool = False) -> Latent:
    """Turn a latent in time, another way at each step: loops with models that know no circular time (Mobius).

    Turn the latent before the model sees it, and the velocity back after: no step then has a seam at the same place.

    Args:
        latent: what to turn; its last latent frames come first.
        step: number of the denoising step.
        skip: latent frames more at each step.
        back: undo what the same step and skip did.
    """
    by = -step * skip if back else step * skip
    before = latent.references
    shown = latent.shown and replace(latent.shown, channels=_turned(latent.shown.channels, by, before))
    turned = {name: _turned(getattr(latent, name), by, before) for name in ("x", "clean", "mask")}
    return replace(latent, **turned, shown=shown)


@node(views=("latent",))
def close_loop(latent: Latent) -> Latent:
    """Say of a piece of a video that its first frame follows its last: the decoder then knows no end.

    Args:
        latent: groups alone (4k frames), as ``roll_latent`` at every step leaves them; of a causal VAE, 1 + 4k frames,
            whose first latent frame then stands for 4 as the others do.

    Raises:
        ValueError: it begins with a frame alone.
    """
    if latent.time == "line" and not latent.spec.causal:
        raise ValueError(
            "This latent begins with a frame alone (1 + 4k frames); a loop has groups alone: take 4k frames."
        )
    return replace(latent, time="circle")


@node(views=("latent",), foretells=grouped_facts)
def last_groups(latent: Latent, groups: Annotated[int, Field(ge=1)] = 2, leave_out: bool = False) -> Latent:
    """The last latent frames of a video, to be handed on to the next; or all the others.

    Args:
        latent: a sampled video.
        groups: how many latent frames.
        leave_out: give all but those.

    Raises:
        ValueError: there are not so many that stand for a group of frames each.
    """
    latent = latent.without_references()
    whole = latent.x.shape[2] - (latent.time == "line")
    if groups > whole - leave_out * (latent.time != "line"):
        raise ValueError(f"This latent has {whole} groups of frames; {groups} are too many to take off its end.")
    places = slice(0, -groups) if leave_out else slice(-groups, None)
    cut = {name: getattr(latent, name)[:, :, places] for name in ("x", "clean", "mask")}
    time = latent.time if leave_out and latent.time == "line" else "groups"
    return replace(latent, **cut, time=time, keyframes=None, shown=None)


@node
def first_groups(latent: Latent, groups: Annotated[int, Field(ge=1)] = 2, leave_out: bool = False) -> Latent:
    """The first latent frames of a piece of a video, or all the others.

    Args:
        latent: a sampled video of groups alone (4k frames).
        groups: how many latent frames.
        leave_out: give all but those.

    Raises:
        ValueError: the video begins with a frame alone, or has not so many groups.
    """
    if latent.time == "line" or groups > latent.x.shape[2] - leave_out:
        raise ValueError(
            f"A latent of {latent.x.shape[2]} latent frames and time {latent.time!r} has no {groups} groups to take "
            "off its beginning: a line begins with a frame alone, and one latent frame stays."
        )
    places = slice(groups, None) if leave_out else slice(0, groups)
    cut = {name: getattr(latent, name)[:, :, places] for name in ("x", "clean", "mask")}
    return replace(latent, **cut, time="groups", keyframes=None, shown=None)


@node
def join_latents(first: Latent, second: Latent) -> Latent:
    """One video after another, in latent space.

    Args:
        first: what comes first.
        second: what comes after; groups alone.

    Raises:
        ValueError: the second begins with a frame alone, one is a loop, or they differ in size or rate.
    """
    import torch

    if second.time != "groups" or first.time == "circle":
        raise ValueError(
            f"A latent of time {second.time!r} cannot follow one of time {first.time!r}: what follows is made of "
            "groups (4k frames, last_groups), and a loop has no end."
        )
    if first.x.shape[:2] != second.x.shape[:2] or first.x.shape[3:] != second.x.shape[3:] or first.fps != second.fps:
        raise ValueError(
            f"Latents of (B, C, t, h, w) = {tuple(first.x.shape)} at {first.fps:g} frames per second and "
            f"{tuple(second.x.shape)} at {second.fps:g} cannot be joined in time: only t may differ."
        )
    joined = {name: torch.cat([getattr(first, name), getattr(second, name)], dim=2) for name in ("x", "clean", "mask")}
    return replace(first, **joined, keyframes=None, shown=None)


def _turned(x_BCthw: Tensor, by: int, before: int) -> Tensor:
    """Latent frames rolled in time, but for so many before the video, which stay."""
    import torch

    return torch.cat([x_BCthw[:, :, :before], x_BCthw[:, :, before:].roll(by, 2)], dim=2)
