"""Losses, each a node: change the recipe by rewiring. Knows no optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kineograph.digests import file_digest
from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.sample import Precision
from kineograph.nodes.sockets import VAE, Latent, TextEncoder, Video
from kineograph.nodes.train.data import step_generator
from kineograph.nodes.train.sockets import CaptionReader, Clips, Features, Loss, Posterior

if TYPE_CHECKING:
    from torch import Tensor


def features_digest(file: str) -> str:
    """The digest of a picture network's file."""
    return file_digest(Path(file))


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
        gamma: largest weight; keeps low noise, where the SNR is huge, from ruling the training.
    """
    from kineograph.nodes.networks.diffusion import min_snr_weight

    return _mean_error(velocity, target, min_snr_weight(target.mask, gamma))


def _mean_error(velocity: Latent, target: Latent, weight: Tensor | float = 1.0) -> Loss:
    """Mean of weight (velocity - target)² over the cells that are not given; the weight is that of each cell."""
    free = (target.mask > 0).expand_as(target.x)
    error = (velocity.x - target.x).square() * (free * weight)
    cells = free.sum()
    return Loss(error.sum() / cells.clamp_min(1), cells)


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
def sample_posterior(
    posterior: Posterior,
    seed: int = 0,
    step: int = 0,
    part: Annotated[int, Field(ge=0)] = 0,
    parts: Annotated[int, Field(ge=1)] = 1,
) -> Latent:
    """Draw a latent: mean + std e (Kingma & Welling 2014).

    Args:
        posterior: of the encoder.
        seed: same seed and step, same draw.
        step: number of the pass.
        part: which equal part of a batch the posterior is of; e is drawn for the batch and cut.
        parts: how many.
    """
    import torch

    from kineograph.nodes.networks.batches import part_of

    batch, *sides = posterior.mean.shape
    noise = part_of(torch.randn((batch * parts, *sides), generator=step_generator(seed, step)), part, parts)
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
    reconstruction: Video,
    video: Video,
    posterior: Posterior | None = None,
    energy: Annotated[float, Field(ge=0)] = 7.5e-5,
) -> Loss:
    """Mean squared error of the frames, plus the latent's energy: with a fixed variance, that is the KL term.

    Args:
        reconstruction: what came back.
        video: what went in.
        posterior: of the encoder; without it, the energy is left out.
        energy: weight of mean(mean²), half the weight of the KL divergence per element.
    """
    error = (reconstruction.frames - video.frames).square().mean()
    return Loss(error if posterior is None else error + energy * posterior.mean.square().mean())


@node
def kl_loss(posterior: Posterior) -> Loss:
    """KL divergence of the posterior from N(0, 1), mean over numbers: (mean² + var - 1 - log var) / 2.

    Kingma & Welling 2014, appendix B. The embedded VAE's variance is fixed, so all of it that can be learned is the
    energy in ``reconstruction_loss``; this is for a VAE that learns its variance (Rombach et al. 2022: weight 1e-6).

    Args:
        posterior: of the encoder.
    """
    mean, logvar = posterior.mean, posterior.logvar
    return Loss(0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean())


@node
def laplacian_loss(reconstruction: Video, video: Video, levels: Annotated[int, Field(ge=1, le=8)] = 4) -> Loss:
    """Absolute differences at every level of a Laplacian pyramid of each frame (Bojanowski et al. 2018, Lap1).

    It needs no trained network, and pulls on where errors are small and squared error has let go. 400 passes of the
    embedded decoder at weight 0.1 took 13 % off the mean absolute error and made edges no sharper: what the latent does
    not say, only a discriminator adds.

    Args:
        reconstruction: what came back.
        video: what went in.
        levels: of the pyramid; each halves the picture.
    """
    from kineograph.nodes.networks.perceptual import laplacian_distance

    return Loss(laplacian_distance(reconstruction.frames.flatten(0, 1), video.frames.flatten(0, 1), levels))


@node(fingerprint=features_digest)
def load_features(file: Annotated[str, Field(min_length=1)]) -> Features:
    """Load a VGG-16 for ``perceptual_loss``; nothing is downloaded.

    Args:
        file: a safetensors file with torchvision's or LPIPS's names of weights; LPIPS's heads are used if there.

    Raises:
        ValueError: no such file, one that lies, or no VGG-16.
    """
    from kineograph.nodes.networks import perceptual

    return Features(perceptual.load_features(file))


@node
def perceptual_loss(reconstruction: Video, video: Video, features: Features, precision: Precision = "float32") -> Loss:
    """How unlike frames look to a trained network: LPIPS (Zhang et al. 2018), mean over frames.

    Args:
        reconstruction: what came back.
        video: what went in; at least 16 pixels a side.
        features: of ``load_features``.
        precision: of the matrix products.
    """
    import torch

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        return Loss(features.network(reconstruction.frames.flatten(0, 1), video.frames.flatten(0, 1)))


@node
def add_loss(loss: Loss, other: Loss, weight: Annotated[float, Field(ge=0)] = 1.0) -> Loss:
    """The sum loss + weight other.

    Args:
        loss: the first.
        other: the second.
        weight: of the second.
    """
    return Loss(loss.value + weight * other.value)


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


@node
def mean_loss(losses: Stream[Loss]) -> Loss:
    """The mean of losses: with one loss for each clip, long clips do not count for more than short ones.

    Args:
        losses: at least one.
    """
    import torch

    if not len(losses):
        raise ValueError("There is no loss to take the mean of: the stream is empty.")
    return Loss(torch.stack([loss.value for loss in losses]).mean(), torch.tensor(len(losses)))
