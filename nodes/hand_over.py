"""What one stage of sampling hands to another: noise for a latent, part of a schedule, a rate. Knows no network."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.sockets import Latent, SigmaStep, Video

Number = Annotated[int, Field(ge=0)]


@node
def fresh_noise(latent: Latent, seed: int = 0) -> Latent:
    """Gaussian noise of the size of a latent, with nothing given: where a clip of any size is made anew from.

    Args:
        latent: whose size, rate and VAE.
        seed: same seed, same noise.
    """
    import torch

    latent = latent.without_references()
    # drawn on the CPU: the same seed then gives the same video on every device
    noise = torch.randn(latent.x.shape, generator=torch.Generator().manual_seed(seed)).to(latent.x)
    return replace(
        latent, x=noise, clean=torch.zeros_like(noise), mask=torch.ones_like(latent.mask), keyframes=None, shown=None
    )


@node
def sigmas_between(sigmas: Stream[SigmaStep], first: Number = 0, last: Number = 0) -> Stream[SigmaStep]:
    """Some steps of a schedule, by number: one model takes the first of them, another goes on (Wan 2.2).

    Args:
        sigmas: the whole schedule.
        first: number of the first step that is taken, from 0.
        last: number of the step before which to stop; 0 is the schedule's end, and so is any number behind it.
    """
    steps = list(sigmas)
    return Stream.of(steps[first : last or None])


@node
def step_level(step: SigmaStep) -> float:
    """The noise level that a step begins at: what ``dit_velocity`` asks for, where nothing is guided.

    Args:
        step: the loop's $item.
    """
    return step.sigma


@node(views=("video",))
def play_at(video: Video, fps: Annotated[float, Field(gt=0, le=1000)] = 8.0) -> Video:
    """The same frames at another rate: faster or slower, and as much shorter or longer.

    Args:
        video: frames that stay as they are; ``resample_video`` keeps the motion's speed instead.
        fps: frames per second.
    """
    return replace(video, fps=fps)
