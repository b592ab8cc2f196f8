"""One training step on several processes (torchrun): shares of a batch, and the loss of all. Knows no model.

Draws are made for the whole batch, then cut, so that a training's losses do not depend on how many processes share it.
On one process each of these nodes gives back what it was given.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.sockets import VAE
from kineograph.nodes.train.sockets import Clips, Loss


class Rank(NamedTuple):
    """Which of how many processes this is; the first is 0."""

    number: int
    processes: int


def not_kept() -> str:
    """Every process has another result, so none is kept on disk; a training's key holds no number of processes."""
    return ""


@node(views=("batch",), fingerprint=not_kept)
def rank_share(batch: Any) -> Any:
    """This process's share of a batch, an equal part; all of it, where there is one process.

    Args:
        batch: Clips, a Latent or a TextEmbedding: every tensor in it, and every list of captions, has a place for each
            clip. The number of clips is a multiple of the number of processes.
    """
    from kineograph.nodes.networks.ranks import share_of

    return share_of(batch)


@node(views=("share",), fingerprint=not_kept)
def rank_gather(share: Any) -> Any:
    """The whole batch again, from what every process made of its share. No gradient flows through it.

    Args:
        share: Clips, a Latent or a TextEmbedding.
    """
    from kineograph.nodes.networks.ranks import gathered

    return gathered(share)


@node(views=("loss",), fingerprint=not_kept)
def rank_loss(loss: Loss) -> Loss:
    """The loss of the whole batch, from every process's loss of its share; ``gradients`` of it are those of the batch.

    Args:
        loss: of a share. Where it knows how many numbers or losses it is the mean of (``flow_loss``, ``mean_loss``), it
            counts for so many; else all shares count alike.
    """
    from kineograph.nodes.networks import ranks

    if ranks.count() == 1:
        return loss
    value, weight = ranks.mean_of_ranks(loss.value, 1.0 if loss.weight is None else loss.weight)
    return replace(loss, value=value, weight=weight)


@node(fingerprint=not_kept)
def rank_number() -> Rank:
    """Which process this is, and how many there are: 0 of 1, where it is alone.

    For nodes that draw for a whole batch and take a part, as ``sample_posterior`` does.
    """
    from kineograph.nodes.networks import ranks

    return Rank(ranks.rank(), ranks.count())


@node(fingerprint=not_kept)
def rank_places(clips: Stream[Clips], vae: VAE, knee: Annotated[int, Field(ge=1)] = 1536) -> Stream[int]:
    """The numbers of the clips of a group that this process takes, so that all have nearly equal compute.

    A loop over them takes the clip by ``stream_item`` and draws by its number, so that draws are those of one process;
    one process takes all in order. Each looks at some clips, and tells the others what they cost.

    Args:
        clips: a group, as of ``mixed_clips``; at least as many clips as processes.
        vae: whose latent cells are counted as tokens.
        knee: tokens at which a clip's attention costs as much as all else, as in ``mixed_clips``.
    """
    from kineograph.nodes.networks import ranks
    from kineograph.nodes.networks.packing import balance, compute

    processes = ranks.count()
    if processes == 1:
        return Stream(len(clips), int)
    if len(clips) < processes:
        raise ValueError(f"A group of {len(clips)} clips cannot be shared out among {processes} processes.")

    def cost(clip: Clips) -> float:
        batch, frames, _, height, width = clip.video.frames.shape
        cells = height // vae.spec.space_ratio * (width // vae.spec.space_ratio)
        return compute(batch * -(-frames // vae.spec.time_ratio) * cells, knee)

    seen = ranks.words_of_ranks([(place, cost(clips[place])) for place in range(ranks.rank(), len(clips), processes)])
    costs = [cost for _, cost in sorted(pair for part in seen for pair in part)]
    return Stream.of(sorted(balance(costs, processes, float("inf"))[ranks.rank()]))
