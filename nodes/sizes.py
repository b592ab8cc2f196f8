"""Videos of several sizes sampled in one run, packed without padding. Knows no network's inside."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.sample import Precision, latent_noise, velocities
from kineograph.nodes.sockets import (
    VAE,
    DiT,
    Latent,
    Patches,
    SigmaStep,
    TextEmbedding,
)
from kineograph.nodes.sweep import SIZE, read_size


@node
def latent_noises(
    vae: VAE,
    sizes: Annotated[list[str], Field(min_length=1, max_length=64)],
    fps: Annotated[float, Field(gt=0, le=240)] = 8.0,
    seed: int = 0,
) -> Stream[Latent]:
    """Gaussian noise for videos of several durations, sizes and aspects, to be sampled together.

    Args:
        vae: whose latent space.
        sizes: of each video, as frames x height x width, like 17x64x64; 1 frame is a picture.
        fps: frames per second.
        seed: same seed, same noise; each video has its own.

    Raises:
        ValueError: a size that is none, or that the VAE cannot have.
    """
    from kineograph.nodes.networks.world import scene_seed

    if wrong := [size for size in sizes if not SIZE.fullmatch(size)]:
        raise ValueError(f"sizes has {', '.join(map(repr, wrong))}: each is frames x height x width, like 17x64x64.")
    seeds = [scene_seed(seed, number, stream=9) for number in range(len(sizes))]
    found = zip(map(read_size, sizes), seeds, strict=True)
    return Stream.of([latent_noise(vae, *size, fps, seed=own) for size, own in found])


@node
def packed_guided_velocity(
    dit: DiT,
    patches: Stream[Patches],
    text: TextEmbedding,
    no_text: TextEmbedding,
    at: SigmaStep,
    scale: Annotated[float, Field(ge=0, le=50)] = 4.0,
    precision: Precision = "float32",
) -> Stream[Patches]:
    """Classifier-free guidance for videos of any sizes, with words and without, all in one forward pass (NaViT).

    Each is what ``guided_velocity`` gives for the video alone.

    Args:
        dit: the model.
        patches: noisy tokens of one video each.
        text: what the videos show.
        no_text: what to lead away from; the empty prompt, or what shall not be seen.
        at: the step; its sigma is the noise level.
        scale: g; 1 is no guidance, larger follows the words more closely.
        precision: of the matrix products.
    """
    parts = list(patches)
    texts = [text] * len(parts) + [no_text] * len(parts)
    found = velocities(dit, parts * 2, texts, at.sigma, precision)
    pairs = zip(parts, found[: len(parts)], found[len(parts) :], strict=True)
    return Stream.of([replace(part, tokens=without + scale * (told - without)) for part, told, without in pairs])
