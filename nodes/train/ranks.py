"""One training step on several processes (torchrun): shares of a batch, and the loss of all. Knows no model.

Draws are made for the whole batch, then cut, so that a training's losses do not depend on how many processes share it.
On one process each of these nodes gives back what it was given.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kineograph.graph_runtime.node import node
from kineograph.nodes.sockets import Loss


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
        loss: of a share. Where it knows how many numbers it is the mean of (``flow_loss`` and its like), it counts for
            so many; else all shares count alike.
    """
    from kineograph.nodes.networks import ranks

    if ranks.count() == 1:
        return loss
    value, weight = ranks.mean_of_ranks(loss.value, 1.0 if loss.weight is None else loss.weight)
    return replace(loss, value=value, weight=weight)
