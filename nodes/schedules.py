"""Schedules of noise levels as streams of steps, and nodes that cut and stretch them. Knows no sampler, no network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.sockets import DiT, Latent, Levels, SigmaStep

Steps = Annotated[int, Field(ge=1, le=1000)]
Share = Annotated[float, Field(ge=0, le=1)]


@node
def model_sigmas(
    dit: DiT, latent: Latent, steps: Steps = 20, shift: Annotated[float, Field(ge=0, le=100)] = 0.0
) -> Stream[SigmaStep]:
    """The schedule that a model is sampled with by those who made it, for a video of this size.

    Kineograph's own: shift 3. Wan: shift 8 (1.3B), 5 (2.2 5B), 12 (2.2 A14B, text to video), 5 (its image to video),
    else 3 up to 480 x 832 pixels and 5 above. LTX-Video: ``token_shift``, stretched to 0.1. CogVideoX: every so many of
    its own timesteps. Mochi: ``linear_quadratic_sigmas``. HunyuanVideo: shift 7.

    Args:
        dit: the model.
        latent: of the video to come, whose size matters to some.
        steps: number of denoising steps.
        shift: of ``shifted_sigmas``, taken in place of the model's own schedule; 0 is the model's own.
    """
    from kineograph.nodes.networks import flow
    from kineograph.nodes.networks.adapters.own_levels import own_levels

    if shift:
        return _steps(flow.shifted_sigmas(steps, shift).tolist())
    t, h, w = latent.x.shape[2:]
    return _steps(own_levels(dit.network, (t, h, w), latent.spec.space_ratio, steps))


@node
def karras_sigmas(
    steps: Annotated[int, Field(ge=2, le=1000)] = 20,
    sigma_min: Annotated[float, Field(gt=0)] = 0.002,
    sigma_max: Annotated[float, Field(gt=0)] = 80.0,
    rho: Annotated[float, Field(gt=0, le=100)] = 7.0,
) -> Stream[SigmaStep]:
    """EDM's schedule (Karras et al. 2022, eq. 5): sigma is noise over signal, the level sigma / (1 + sigma).

    It begins at 80 / 81 and takes what it is given for that level. From pure noise, put ``sigmas_from`` at 1 behind.

    Args:
        steps: number of denoising steps.
        sigma_min: the last above 0. The paper's figures are for data of deviation 0.5; double both for latents of 1.
        sigma_max: the first.
        rho: larger spends more steps at low noise.

    Raises:
        ValueError: sigma_max is not above sigma_min.
    """
    from kineograph.nodes.networks import schedules

    if sigma_max <= sigma_min:
        raise ValueError(f"sigma_max = {sigma_max} must be above sigma_min = {sigma_min}.")
    return _steps(schedules.karras_levels(steps, sigma_min, sigma_max, rho).tolist())


@node
def linear_quadratic_sigmas(
    steps: Annotated[int, Field(ge=2, le=1000)] = 20, threshold: Annotated[float, Field(gt=0, le=0.5)] = 0.025
) -> Stream[SigmaStep]:
    """Small even steps first, then along a parabola: at high noise as fine as a long schedule (Movie Gen, Mochi).

    Args:
        steps: number of denoising steps; half of them are the small ones.
        threshold: how far below 1 the small ones lead; 0.025 is as in Mochi.
    """
    from kineograph.nodes.networks import schedules

    return _steps(schedules.linear_quadratic_levels(steps, threshold).tolist())


@node
def ddim_sigmas(
    levels: Levels, steps: Steps = 20, spacing: Literal["trailing", "leading"] = "trailing"
) -> Stream[SigmaStep]:
    """Every so many of a training's levels, as DDIM takes DDPM's timesteps (Song et al. 2021; Lin et al. 2024).

    Args:
        levels: what the model was trained on, ``ddpm_levels`` for instance.
        steps: number of denoising steps.
        spacing: trailing begins at the highest level; leading, as older models do, below it and ends at the lowest.

    Raises:
        ValueError: more steps than levels.
    """
    from kineograph.nodes.networks import schedules

    table = levels.values.sort().values
    if steps > len(table):
        raise ValueError(f"{steps} steps cannot be taken from {len(table)} levels.")
    return _steps(schedules.timestep_levels(table, steps, spacing).tolist())


@node
def stretch_sigmas(sigmas: Stream[SigmaStep], terminal: Annotated[float, Field(gt=0, lt=1)] = 0.1) -> Stream[SigmaStep]:
    """Stretch a schedule: its last step begins at 1 - (1 - s) (1 - terminal) / (1 - s_last) = terminal (LTX-Video).

    Args:
        sigmas: from 1 to 0; they still are.
        terminal: where the last step begins.

    Raises:
        ValueError: a single step from 1 has nothing to stretch.
    """
    from kineograph.nodes.networks import schedules

    levels = _levels(sigmas)
    if len(levels) < 2 or levels[-2] >= 1:
        raise ValueError("A schedule whose last step begins at level 1 cannot be stretched: give it more steps.")
    return _steps(schedules.stretched(levels, terminal))


@node
def sigmas_from(sigmas: Stream[SigmaStep], at: Share) -> Stream[SigmaStep]:
    """The part of a schedule at and below a level, starting exactly there; at level 0 no step is left.

    Args:
        sigmas: the whole schedule.
        at: where to start: how much noise a video is given before it is made anew.
    """
    from kineograph.nodes.networks import schedules

    return _steps(schedules.started_at(_levels(sigmas), at))


@node
def strength_sigma(sigmas: Stream[SigmaStep], strength: Share = 0.6) -> float:
    """The level that a strength means: where the last int(N strength) of N steps begin, as in diffusers.

    The same strength is another level in another schedule: 0.5 of 50 steps is 0.5 at shift 1 and 0.83 at shift 5. To
    say how much noise there shall be, give ``sigmas_from`` the level itself.

    Args:
        sigmas: the whole schedule.
        strength: share of the steps to take; 0 is level 0, nothing changes.
    """
    from kineograph.nodes.networks import schedules

    return schedules.level_of_strength(_levels(sigmas), strength)


@node
def token_shift(
    latent: Latent,
    cells: Annotated[int, Field(ge=1)] = 1,
    at_1024: float = 0.95,
    at_4096: float = 2.05,
) -> float:
    """A shift that grows with the number of tokens n, exp(mu) with mu linear in n (Flux, LTX-Video).

    Args:
        latent: whose size.
        cells: latent cells in a token.
        at_1024: mu at 1024 tokens.
        at_4096: mu at 4096 tokens.
    """
    import math

    from kineograph.nodes.networks import schedules

    return schedules.shift_of_tokens(math.prod(latent.x.shape[2:]) / cells, at_1024, at_4096)


@node
def size_shift(
    latent: Latent, side: Annotated[float, Field(gt=0)] = 512.0, scale: Annotated[float, Field(gt=0)] = 1.0
) -> float:
    """A shift that grows with sides and duration, scale sqrt(H W / side²) sqrt(t) (Open-Sora 1.2).

    Args:
        latent: whose height H, width W in pixels and number t of latent frames.
        side: pixels of the square that needs no shift.
        scale: multiplies the shift.
    """
    t, h, w = latent.x.shape[2:]
    return scale * (h * w * t) ** 0.5 * latent.spec.space_ratio / side


def _steps(levels: Sequence[float]) -> Stream[SigmaStep]:
    return Stream.of([SigmaStep(*pair) for pair in pairwise(levels)])


def _levels(sigmas: Stream[SigmaStep]) -> list[float]:
    steps = list(sigmas)
    return [step.sigma for step in steps] + [step.sigma_next for step in steps[-1:]]
