"""Given frames for models that are told one noise level for the whole clip. Knows no network's inside."""

from __future__ import annotations

from dataclasses import replace

from kineograph.graph_runtime.node import node
from kineograph.nodes.foretold import even_facts
from kineograph.nodes.sockets import DiT, Latent, SigmaStep


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
