"""Given frames for models that are told one noise level for the whole clip. Knows no network's inside."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.foretold import even_facts, same_facts
from kineograph.nodes.sockets import DiT, Latent, SigmaStep
from kineograph.nodes.train.data import step_generator

Number = Annotated[int, Field(ge=0, lt=1024)]


@node(foretells=even_facts)
def renoise_given(dit: DiT, latent: Latent, noise: Latent, at: SigmaStep) -> Latent:
    """Show given cells under the step's noise to a model that is told one noise level for the whole clip.

    Cells under less noise than sigma are shown at (1 - sigma) clean + sigma e, with the noise e that sampling began
    with: editing by replacement (Song et al. 2021, Score SDE, appendix I.2; RePaint, Lugmayr et al. 2022, without its
    repeated steps). Such a model sees what is given through noise, so it heeds it less than one that was trained to.
    Only the model is to see this: step on from the latent itself, in which given cells keep their bits.

    Args:
        dit: the model; one with a level for every token needs none of this, and gets the latent as it is.
        latent: as the loop carries it.
        noise: that sampling began with, from ``latent_noise``.
        at: the step.

    Raises:
        ValueError: the noise has another size.
    """
    import torch

    if not dit.one_level:
        return latent
    # pictures of reference stand before the video, and are as noisy as the sampler says
    noise_BCthw = torch.cat([latent.x[:, :, : latent.references], noise.x], dim=2)
    if noise_BCthw.shape != latent.x.shape:
        raise ValueError(
            f"The noise has (B, C, t, h, w) = {tuple(noise.x.shape)}, the latent {tuple(latent.x.shape)}: take the "
            "latent_noise that sampling began with."
        )
    seen = torch.lerp(latent.clean, noise_BCthw, at.sigma)
    shown = torch.where(latent.mask < at.sigma, seen, latent.x)
    return replace(latent, x=shown, mask=torch.ones_like(latent.mask))


@node(foretells=same_facts)
def noise_again(latent: Latent, at: SigmaStep, seed: int = 0, step: Number = 0, turn: Number = 0) -> Latent:
    """Put back the noise that a step took, drawn anew, so that the step can be taken once more (RePaint, eq. 6 to 8).

    Behind ``renoise_given`` it gives free cells time to agree with given ones (Lugmayr et al. 2022). A cell goes from
    l' = min(sigma_next, mask) up to l = min(sigma, mask): a x + sqrt(l² - a² l'²) e, a = (1 - l) / (1 - l').

    Args:
        latent: values at the step's sigma_next.
        at: the step that led there.
        seed: of the noise.
        step: number of the step; each draws anew.
        turn: how often it was taken again before.
    """
    import torch

    from kineograph.nodes.networks import flow

    now, then = (flow.token_levels(level, latent.mask) for level in (at.sigma, at.sigma_next))
    keep = (1 - now) / (1 - then).clamp_min(1e-12)
    # drawn on the CPU: the same seed then gives the same video on every device
    noise = torch.randn(latent.x.shape, generator=step_generator(seed, step * 1024 + turn, stream=12)).to(latent.x)
    noisy = keep * latent.x + (now.square() - (keep * then).square()).clamp_min(0).sqrt() * noise
    return replace(latent, x=torch.where(now == then, latent.x, noisy))
