"""What a training step sees: clips, and their captions as embeddings. Knows no network's inside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.sockets import VAE, TextEmbedding, TextEncoder, Video
from kineograph.nodes.train.sockets import Clips

if TYPE_CHECKING:
    from torch import Generator

Share = Annotated[float, Field(ge=0, le=1)]


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


def step_generator(seed: int, step: int, stream: int = 3) -> Generator:
    """A CPU generator for one pass: depends on the seed, the pass's number and the stream that tells draws apart."""
    import torch

    from kineograph.nodes.networks.world import scene_seed

    return torch.Generator().manual_seed(scene_seed(seed, step, stream))
