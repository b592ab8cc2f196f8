"""Losses, each a node: change the recipe by rewiring. Knows no optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.sample import Precision
from kineograph.nodes.sockets import VAE, CaptionReader, Clips, Latent, Loss, Posterior, TextEncoder, Video
from kineograph.nodes.train.data import step_generator

if TYPE_CHECKING:
    from torch import Tensor


@node
def flow_loss(velocity: Latent, target: Latent) -> Loss:
    """Mean squared error of the velocity where there is noise; given cells (level 0) do not count.

    Args:
        velocity: what the model says.
        target: what ``add_noise`` says; its mask holds the levels.
    """
    return _mean_error(velocity, target)


@node
def noise_loss(velocity: Latent, target: Latent) -> Loss:
    """Mean squared error of the noise that the velocity means, (1 - s)² of its own (Ho et al. 2020, L_simple).

    Args:
        velocity: what the model says.
        target: what ``add_noise`` says; its mask holds the levels.
    """
    from kineograph.nodes.networks.diffusion import noise_weight

    return _mean_error(velocity, target, noise_weight(target.mask))


@node
def clean_loss(velocity: Latent, target: Latent) -> Loss:
    """Mean squared error of the clean value that the velocity means: s² of its own.

    Args:
        velocity: what the model says.
        target: what ``add_noise`` says; its mask holds the levels.
    """
    from kineograph.nodes.networks.diffusion import clean_weight

    return _mean_error(velocity, target, clean_weight(target.mask))


@node
def edm_loss(velocity: Latent, target: Latent, data_std: Annotated[float, Field(gt=0)] = 1.0) -> Loss:
    """EDM's loss (Karras et al. 2022): the preconditioned target counts alike at every level.

    At data_std 1 it is the mean squared error of v = alpha e - sigma x0 (Salimans & Ho 2022).

    Args:
        velocity: what the model says.
        target: what ``add_noise`` says; its mask holds the levels.
        data_std: sigma_data, the deviation of the latents.
    """
    from kineograph.nodes.networks.diffusion import edm_weight

    return _mean_error(velocity, target, edm_weight(target.mask, data_std))


@node
def min_snr_loss(velocity: Latent, target: Latent, gamma: Annotated[float, Field(gt=0)] = 5.0) -> Loss:
    """Mean squared error of the clean value, weighted by min(SNR, gamma) (Hang et al. 2023).

    Args:
        velocity: what the model says.
        target: what ``add_noise`` says; its mask holds the levels.
        gamma: largest weight; low noise, where the SNR is beyond it, then counts less than the error of the noise would.
    """
    from kineograph.nodes.networks.diffusion import min_snr_weight

    return _mean_error(velocity, target, min_snr_weight(target.mask, gamma))


def _mean_error(velocity: Latent, target: Latent, weight: Tensor | float = 1.0) -> Loss:
    """Mean of weight (velocity - target)² over the cells that are not given; the weight is that of each cell."""
    free = (target.mask > 0).expand_as(target.x)
    error = (velocity.x - target.x).square() * (free * weight)
    return Loss(error.sum() / free.sum().clamp_min(1))


@node
def vae_posterior(vae: VAE, video: Video, precision: Precision = "float32") -> Posterior:
    """What the encoder believes of a clip: mean and log variance.

    Args:
        vae: the autoencoder in training.
        video: clips.
        precision: of the matrix products.
    """
    import torch

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        mean, logvar = vae.network.encode(video.frames.transpose(1, 2))
    return Posterior(mean.float(), logvar.float(), video.fps, vae.spec)


@node
def sample_posterior(posterior: Posterior, seed: int = 0, step: int = 0) -> Latent:
    """Draw a latent: mean + std e (Kingma & Welling 2014).

    Args:
        posterior: of the encoder.
        seed: same seed and step, same draw.
        step: number of the pass.
    """
    import torch

    noise = torch.randn(posterior.mean.shape, generator=step_generator(seed, step))
    x = posterior.mean + (0.5 * posterior.logvar).exp() * noise
    return Latent(x, x, torch.zeros_like(x[:, :1]), posterior.fps, posterior.spec)


@node
def vae_reconstruct(vae: VAE, latent: Latent, precision: Precision = "float32") -> Video:
    """Decode for training: values may leave [0, 1], because a clamp has no gradient beyond its ends.

    Args:
        vae: the autoencoder in training.
        latent: drawn from the posterior.
        precision: of the matrix products.
    """
    import torch

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        frames = vae.network.decode(latent.x, clamp=False)
    return Video(frames.float().transpose(1, 2), latent.fps)


@node
def reconstruction_loss(
    reconstruction: Video, video: Video, posterior: Posterior, energy: Annotated[float, Field(ge=0)] = 7.5e-5
) -> Loss:
    """Mean squared error of the frames, plus the latent's energy: with a fixed variance, that is the KL term.

    Args:
        reconstruction: what came back.
        video: what went in.
        posterior: of the encoder.
        energy: weight of mean(mean²), half the weight of the KL divergence per element.
    """
    error = (reconstruction.frames - video.frames).square().mean()
    return Loss(error + energy * posterior.mean.square().mean())


@node
def caption_reader(encoder: TextEncoder, seed: int = 0) -> CaptionReader:
    """Give a text encoder heads that say what a caption of the world said.

    Args:
        encoder: a new text encoder.
        seed: of the heads' weights.
    """
    from copy import deepcopy

    import torch

    from kineograph.nodes.networks.caption_reader import CaptionReader as Network
    from kineograph.nodes.networks.world import ATTRIBUTES

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CaptionReader(
            Network(deepcopy(encoder.network), {name: len(kinds) for name, kinds in ATTRIBUTES.items()})
        )


@node
def reading_loss(reader: CaptionReader, clips: Clips, precision: Precision = "float32") -> Loss:
    """How badly a reader tells what captions said: cross-entropy, summed over attributes.

    Args:
        reader: in training.
        clips: captioned clips of the world.
        precision: of the matrix products.
    """
    import torch

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        return Loss(reader.network(list(clips.captions), clips.said))
