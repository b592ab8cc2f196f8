"""First-block caching as an explicit node: what a DiT's blocks said before is a value that the loop carries.

Nothing is kept elsewhere, so a run is the same whatever ran before it, and a sampling that was cut off goes on with the
same bits. Wire one cache for each question that is asked in a pass: one with words and one without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import socket
from kineograph.nodes.foretold import check_blocks
from kineograph.nodes.sample import Precision, velocities
from kineograph.nodes.sockets import DiT, Patches, SigmaStep, TextEmbedding

if TYPE_CHECKING:
    from torch import Tensor


@socket(family="model")
@dataclass(frozen=True)
class BlockCache:
    """What a DiT's blocks added to the tokens of each clip, in the newest pass in which all were computed.

    Attributes:
        first: (S, D), the first block; None before the first pass. S are the tokens of all clips behind each other.
        rest: (S, D), the others together.
        reused: passes that took it.
    """

    first: Tensor | None = None
    rest: Tensor | None = None
    reused: int = 0


class CachedVelocity(NamedTuple):
    """A velocity, and what the next pass may reuse."""

    velocity: Patches
    cache: BlockCache


@node
def begin_cache() -> BlockCache:
    """A cache of nothing: what ``cached_velocity`` is given first, and the loop carries on."""
    return BlockCache()


@node(fits=check_blocks)
def cached_velocity(
    dit: DiT,
    patches: Patches,
    text: TextEmbedding,
    at: SigmaStep,
    cache: BlockCache,
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.1,
    precision: Precision = "float32",
) -> CachedVelocity:
    """The velocity, with all blocks but the first taken from a former pass where the first says nearly the same.

    It reuses where what the first block adds to the tokens differs from that of the former pass by less than
    ``threshold`` (mean absolute difference over mean absolute value), in every clip: those of one batch wait for each
    other.

    Args:
        dit: the model.
        patches: noisy tokens.
        text: what the video shows, or the empty prompt; each has a cache of its own.
        at: the step; its sigma is the noise level.
        cache: of the passes before; ``begin_cache`` at first.
        threshold: 0 never reuses and gives the bits of ``dit_velocity``; larger is faster and less true.
        precision: of the matrix products.
    """
    from kineograph.nodes.networks.block_cache import Added, CachedBlocks

    added = Added(cache.first, cache.rest) if cache.first is not None and cache.rest is not None else None
    through = CachedBlocks(added, threshold)
    tokens = velocities(dit, [patches], [text], at.sigma, precision, through)[0]
    first, rest = through.added or (None, None)
    kept = BlockCache(first, rest, cache.reused + through.reused)
    return CachedVelocity(replace(patches, tokens=tokens), kept)
