"""Steps of the sampler beyond Euler's, as small pure nodes: each is the last node in the body of a denoise loop.

What a solver remembers is a value that the loop carries. A DiT may predict velocity, noise, x0, v or EDM's target: what
these nodes take is the velocity that ``dit_velocity`` makes of it, and DDIM's or DDPM's step in DDPM's scaling of x is
the flow's in its own. Knows no network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import socket
from kineograph.nodes.sockets import Latent, SigmaStep

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 3
"""Passes that a history holds: as many as the highest order."""


@socket(family="latent")
@dataclass(frozen=True)
class SolverHistory:
    """What a solver of several passes knows of those before, the newest first.

    Attributes:
        clean: (B, C, t, h, w) each, the clean values that the model saw.
        levels: (B, 1, t, h, w) each, the noise level of every cell there.
        began: (B, C, t, h, w), where the last step began, which a corrector makes again; None in the first pass.
    """

    clean: tuple[Tensor, ...] = ()
    levels: tuple[Tensor, ...] = ()
    began: Tensor | None = None


class Predicted(NamedTuple):
    """Where a first step leads, and at which level to ask the model there."""

    latent: Latent
    at: SigmaStep


class Stepped(NamedTuple):
    """The latent after a step, and what the next step shall know."""

    latent: Latent
    history: SolverHistory


@node
def begin_history() -> SolverHistory:
    """A history of no passes: what steps of several passes are given first, and the loop carries on."""
    return SolverHistory()


@node
def predict_step(latent: Latent, velocity: Latent, step: SigmaStep) -> Predicted:
    """Heun's first step, which is Euler's: ask the model again where it leads, then give both to ``heun_step``.

    Args:
        latent: values at the step's sigma.
        velocity: e - x0 at every cell.
        step: from which level to which.
    """
    from kineograph.nodes.networks import flow

    x = flow.euler_step(latent.x, velocity.x, step.sigma, step.sigma_next, latent.mask)
    return Predicted(replace(latent, x=x), SigmaStep(step.sigma_next, step.sigma_next))


@node
def heun_step(latent: Latent, velocity: Latent, velocity_next: Latent, step: SigmaStep) -> Latent:
    """Heun's step along the mean of two velocities: order 2 for two network calls (Karras et al. 2022, algorithm 1).

    The step to level 0 is Euler's, as in the paper: models are not trained at 0.

    Args:
        latent: values at the step's sigma, as ``predict_step`` was given them.
        velocity: there.
        velocity_next: at ``predict_step.latent``, asked at ``predict_step.at``.
        step: from which level to which.
    """
    from kineograph.nodes.networks import solvers

    levels = step.sigma, step.sigma_next
    return replace(latent, x=solvers.heun_step(latent.x, velocity.x, velocity_next.x, *levels, latent.mask))


@node
def dpmpp_2m_step(latent: Latent, velocity: Latent, step: SigmaStep, history: SolverHistory) -> Stepped:
    """A step of DPM-Solver++ 2M: order 2 for one network call (Lu et al. 2022, algorithm 2).

    Args:
        latent: values at the step's sigma.
        velocity: e - x0 at every cell.
        step: from which level to which.
        history: of the passes before; ``begin_history`` at first.
    """
    return _multistep(latent, velocity, step, history, order=2, correct=False)


@node
def dpmpp_2m_sde_step(
    latent: Latent,
    velocity: Latent,
    step: SigmaStep,
    history: SolverHistory,
    index: Annotated[int, Field(ge=0)],
    seed: int = 0,
) -> Stepped:
    """A step of SDE-DPM-Solver++ 2M: order 2 for one network call, noise drawn anew (Lu et al. 2022).

    With ``ddim_sigmas`` this is the solver that CogVideoX-5b's folder names (CogVideoXDPMScheduler). What was seen in
    pure noise has no part in the second order, as there.

    Args:
        latent: values at the step's sigma.
        velocity: e - x0 at every cell.
        step: from which level to which.
        history: of the passes before; ``begin_history`` at first.
        index: number of the pass, the loop's $index: every pass draws noise of its own.
        seed: same seed, same noise.
    """
    import torch

    from kineograph.nodes.networks import flow, solvers
    from kineograph.nodes.train.data import step_generator

    x, mask = latent.x, latent.mask
    levels = flow.token_levels(step.sigma, mask)
    aim = clean = flow.clean_from(x, velocity.x, levels)
    if history.clean:
        better = solvers.extrapolated_clean(clean, history.clean, history.levels, step.sigma, step.sigma_next, mask, 2)
        aim = torch.where(history.levels[0] < 1, better, clean)
    # drawn on the CPU: the same seed then gives the same video on every device
    fresh = torch.randn(x.shape, generator=step_generator(seed, index, stream=7)).to(x)
    stepped = replace(latent, x=solvers.toward_with_noise(x, aim, fresh, step.sigma, step.sigma_next, mask))
    return Stepped(stepped, SolverHistory((clean,), (levels,)))


@node
def unipc_step(
    latent: Latent,
    velocity: Latent,
    step: SigmaStep,
    history: SolverHistory,
    order: Annotated[int, Field(ge=1, le=KEPT)] = 2,
) -> Stepped:
    """A step of UniPC (B(h) = e^h - 1): the last step is corrected, the next foreseen, for one network call.

    Zhao et al. 2023: of order 3 with order = 2, as the corrector adds one. The step to level 0 is of order 1.

    Args:
        latent: values at the step's sigma.
        velocity: e - x0 at every cell.
        step: from which level to which.
        history: of the passes before; ``begin_history`` at first.
        order: of the part that foresees; 3 for strong conditions and few steps, else 2.
    """
    return _multistep(latent, velocity, step, history, order, correct=True)


@node
def ancestral_step(
    latent: Latent,
    velocity: Latent,
    step: SigmaStep,
    index: Annotated[int, Field(ge=0)],
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0,
    rule: Literal["ddpm", "flow"] = "ddpm",
    seed: int = 0,
) -> Latent:
    """A step that draws a share of the noise anew: Euler ancestral, DDIM and DDPM in one; eta 0 is ``euler_step``.

    With the rule ddpm, eta 1 is DDPM's ancestral sampling with the posterior's variance (Ho et al. 2020) and the Euler
    ancestral of k-diffusion; less is DDIM with that eta (Song et al. 2021, eq. 16). In the flow's scaling of x all of
    them are the same step. Errors of former passes are forgotten with the noise; more passes are needed.

    Args:
        latent: values at the step's sigma.
        velocity: e - x0 at every cell.
        step: from which level to which.
        index: number of the pass, the loop's $index: every pass draws noise of its own.
        eta: how much is drawn anew.
        rule: ddpm, or flow, the other meaning that eta has for rectified flow (Euler to a lower level, then up).
        seed: same seed, same noise.
    """
    import torch

    from kineograph.nodes.networks import solvers
    from kineograph.nodes.train.data import step_generator

    # drawn on the CPU: the same seed then gives the same video on every device
    fresh = torch.randn(latent.x.shape, generator=step_generator(seed, index, stream=7)).to(latent.x)
    levels = step.sigma, step.sigma_next
    x = solvers.stochastic_step(latent.x, velocity.x, fresh, *levels, latent.mask, eta, rule)
    return replace(latent, x=x)


def _multistep(
    latent: Latent, velocity: Latent, step: SigmaStep, history: SolverHistory, order: int, *, correct: bool
) -> Stepped:
    from kineograph.nodes.networks import flow, solvers

    x, mask, past = latent.x, latent.mask, (history.clean, history.levels)
    levels = flow.token_levels(step.sigma, mask)
    clean = flow.clean_from(x, velocity.x, levels)  # before the correction, as in the paper
    if correct:
        x = solvers.corrected(x, history.began, clean, *past, step.sigma, mask, order)
    aim = solvers.extrapolated_clean(clean, *past, step.sigma, step.sigma_next, mask, order)
    stepped = replace(latent, x=solvers.step_towards(x, aim, step.sigma, step.sigma_next, mask))
    remembered = (clean, *history.clean)[:KEPT], (levels, *history.levels)[:KEPT]
    return Stepped(stepped, SolverHistory(*remembered, began=x))
