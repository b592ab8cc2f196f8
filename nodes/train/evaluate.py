"""How a training is judged while it runs: held-out loss at fixed levels, and whether the model listens to the words.

Knows rectified flow, no optimizer. Give these nodes a loop over ``every``; noise depends on seed and level alone, so
that two passes, or two trainings, differ by the model and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.nodes.sample import dit_velocity, patchify, unpatchify
from kineograph.nodes.sockets import DiT, Latent, TextEmbedding
from kineograph.nodes.train.data import step_generator
from kineograph.nodes.train.loss import flow_loss
from kineograph.nodes.train.sockets import Clips


@node(effect=True)
def held_out_loss(
    dit: DiT,
    latent: Latent,
    text: TextEmbedding,
    run: RunContext,
    step: int = 0,
    levels: Annotated[int, Field(ge=1, le=100)] = 10,
    seed: int = 0,
    name: Annotated[str, Field(min_length=1)] = "held_out",
) -> float:
    """The flow loss on clips that training never sees, at noise levels of equal distance (.05, .15, ... .95 for ten).

    Args:
        dit: the model; the averaged one tells most.
        latent: clean latents of held-out clips.
        text: of their captions.
        step: number of the pass, for the metrics.
        levels: how many.
        seed: of the noise, a draw for each level.
        name: of the metric of the mean; each level's has the level behind it.
    """
    at = [(number + 0.5) / levels for number in range(levels)]
    losses = [_loss_at(dit, latent, text, level, seed) for level in at]
    for level, loss in zip(at, losses, strict=True):
        run.metric(f"{name}_{level:.2f}", step, loss)
    mean = sum(losses) / levels
    run.metric(name, step, mean)
    return mean


@node(effect=True)
def word_gap(
    dit: DiT,
    latent: Latent,
    right: TextEmbedding,
    wrong: TextEmbedding,
    run: RunContext,
    step: int = 0,
    level: Annotated[float, Field(gt=0, le=1)] = 0.9,
    seed: int = 0,
    name: Annotated[str, Field(min_length=1)] = "word_gap",
) -> float:
    """How much worse the loss is with wrong words, in the same noise: it leaves 0 long before samples improve.

    Args:
        dit: the model.
        latent: clean latents.
        right: of their captions.
        wrong: of other captions, as ``other_captions`` gives them.
        step: number of the pass, for the metric.
        level: of the noise; what a clip shows is decided at high noise.
        seed: of the noise.
        name: of the metric: (wrong - right) / right.
    """
    told, mistold = (_loss_at(dit, latent, text, level, seed) for text in (right, wrong))
    gap = (mistold - told) / told
    run.metric(name, step, gap)
    return gap


@node(views=("clips",))
def other_captions(clips: Clips) -> Clips:
    """Clips with the captions of their neighbours in the batch: wrong words.

    Args:
        clips: captioned clips, at least two.
    """
    if len(clips.captions) < 2:
        raise ValueError("One clip has no neighbour to take a caption from; give a batch of at least two.")
    said = {name: values.roll(1) for name, values in clips.said.items()}
    return replace(clips, captions=(clips.captions[-1], *clips.captions[:-1]), said=said)


def _loss_at(dit: DiT, latent: Latent, text: TextEmbedding, level: float, seed: int) -> float:
    """The flow loss of a model at one noise level, all cells free."""
    import torch

    from kineograph.nodes.networks import flow

    noise = torch.randn(latent.x.shape, generator=step_generator(seed, round(level * 1000)))
    mask = torch.full_like(latent.mask, level)
    x, velocity = flow.noise_pair(latent.x, noise, mask)
    noisy = replace(latent, x=x, clean=latent.x, mask=mask)
    predicted = unpatchify(dit_velocity(dit, patchify(noisy, *dit.patch), text))
    return flow_loss(predicted, replace(noisy, x=velocity)).value.item()
