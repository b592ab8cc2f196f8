"""What a training step sees: clips, their captions as embeddings, noise at drawn levels. Knows no network's inside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.sockets import VAE, Clips, Latent, TextEmbedding, TextEncoder, Video

if TYPE_CHECKING:
    from torch import Generator, Tensor

Share = Annotated[float, Field(ge=0, le=1)]


class NoisePair(NamedTuple):
    """A noisy latent (its mask holds each cell's level) and the velocity that leads back."""

    noisy: Latent
    target: Latent


@node(views=("clips",))
def clip_video(clips: Clips) -> Video:
    """The frames of a batch of clips.

    Args:
        clips: captioned clips.
    """
    return clips.video


@node
def encode_captions(
    encoder: TextEncoder, clips: Clips, drop: Share = 0.1, seed: int = 0, step: int = 0
) -> TextEmbedding:
    """Read a batch's captions; some are left empty, so that guidance has something to lead away from.

    Args:
        encoder: the text encoder.
        clips: captioned clips.
        drop: share of captions that are emptied (Ho & Salimans 2022).
        seed: of the choice.
        step: number of the pass, so that each draws anew.
    """
    import torch

    dropped = torch.rand(len(clips.captions), generator=step_generator(seed, step)) < drop
    return TextEmbedding(
        *encoder.network(["" if gone else text for text, gone in zip(clips.captions, dropped, strict=True)])
    )


@node
def noise_pair(
    latent: Latent,
    shift: Annotated[float, Field(gt=0)] = 1.0,
    uniform: Share = 0.1,
    per_frame: Share = 0.1,
    given: Share = 0.2,
    seed: int = 0,
    step: int = 0,
) -> NoisePair:
    """Noise at drawn levels: x = (1 - s) x0 + s e, and the velocity v = e - x0 (Liu et al. 2022; Lipman et al. 2023).

    Args:
        latent: clean latents.
        shift: of the logit-normal levels towards noise (Esser et al. 2024).
        uniform: share of levels drawn evenly.
        per_frame: share of clips whose latent frames have levels of their own (Chen et al. 2024, diffusion forcing).
        given: share of clips with given frames: a prefix, a suffix or both stay at level 0, without a loss.
        seed: same seed and step, same noise.
        step: number of the pass.
    """
    import torch

    from kineograph.nodes.networks import flow

    generator = step_generator(seed, step)
    clean = latent.x
    noise = torch.randn(clean.shape, generator=generator)
    clips, _, frames = clean.shape[:3]
    levels = flow.sample_levels((clips, 1), generator, shift, uniform).expand(clips, frames)
    own = flow.sample_levels((clips, frames), generator, shift, uniform)
    kind = torch.rand(clips, 1, generator=generator)
    levels = torch.where(kind < per_frame, own, levels)
    if frames > 1:
        levels = torch.where((kind > 1 - given) & _given_frames(clips, frames, generator), 0.0, levels)
    levels_B1thw = levels[:, None, :, None, None].expand_as(latent.mask).contiguous()
    x, velocity = flow.noise_pair(clean, noise, levels_B1thw)
    noisy = replace(latent, x=x, clean=clean, mask=levels_B1thw)
    return NoisePair(noisy, replace(noisy, x=velocity))


def _given_frames(clips: int, frames: int, generator: Generator) -> Tensor:
    """(B, t) bool: a random prefix, suffix or both ends of each clip, never all frames."""
    import torch

    place = torch.arange(frames)
    length = torch.randint(1, frames, (clips, 1), generator=generator)
    side = torch.randint(0, 3, (clips, 1), generator=generator)
    half = (length + 1) // 2
    prefix, suffix = place < length, place >= frames - length
    both = (place < half) | (place >= frames - (length - half))
    return torch.where(side == 0, prefix, torch.where(side == 1, suffix, both))


@node
def fit_shortcut(vae: VAE, clips: Stream[Clips]) -> VAE:
    """Set a new VAE's linear shortcut to the principal components of clips; a better start than chance.

    Args:
        vae: a new autoencoder.
        clips: some hundred clips.
    """
    return _changed(vae, "initialise_from", clips)


@node
def measure_latents(vae: VAE, clips: Stream[Clips]) -> VAE:
    """Normalise a VAE's latent to mean 0 and a mean energy of 1, by one scale for all channels.

    Args:
        vae: a trained autoencoder.
        clips: some hundred clips.
    """
    return _changed(vae, "measure", clips)


def _changed(vae: VAE, how: str, clips: Stream[Clips]) -> VAE:
    from copy import deepcopy

    from kineograph.nodes.networks import vae as networks

    network = deepcopy(vae.network)
    getattr(networks, how)(network, [batch.video.frames.transpose(1, 2) for batch in clips])
    return replace(vae, network=network)


def step_generator(seed: int, step: int) -> Generator:
    """A CPU generator for one pass: depends on the seed and the pass's number alone."""
    import torch

    from kineograph.nodes.networks.world import scene_seed

    return torch.Generator().manual_seed(scene_seed(seed, step, stream=3))
