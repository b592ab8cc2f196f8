"""First-block caching: what the other blocks add is taken from a former pass while the first block says nothing new.

Knows a DiT's blocks, not where the former pass is kept. Tokens change little from one noise level to the next, and what
the first block adds to them tells how much (the first-block cache of ParaAttention; TeaCache, Liu et al. 2025, looks at
the modulated input instead, through a polynomial that is fitted to each model).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from kineograph.nodes.networks.dit import in_turn

if TYPE_CHECKING:
    from kineograph.nodes.networks.dit import Shared


class Added(NamedTuple):
    """What blocks added to the tokens in the newest pass in which all were computed.

    Attributes:
        first_SD: the first block.
        rest_SD: all others together.
    """

    first_SD: Tensor
    rest_SD: Tensor


class CachedBlocks:
    """A way through the blocks that leaves out all but the first where it may; ``added`` and ``reused`` say which.

    It may where, in every clip, the mean absolute change of what the first block adds is below ``threshold`` times its
    mean absolute value. Else this is the plain way, to the bit.
    """

    def __init__(self, added: Added | None, threshold: float) -> None:
        """Begin with what a former pass added.

        Args:
            added: None in the first pass.
            threshold: 0 never reuses.
        """
        self.added, self.threshold, self.reused = added, threshold, False

    def __call__(self, blocks: Sequence[nn.Module], x_SD: Tensor, shared: Shared) -> Tensor:
        """The tokens behind the last block."""
        after_first = in_turn(blocks[:1], x_SD, shared)
        first = after_first - x_SD
        if self.added is not None and _alike(first, self.added.first_SD, self.threshold, shared):
            self.reused = True
            return after_first + self.added.rest_SD
        after_all = in_turn(blocks[1:], after_first, shared)
        self.added = Added(first, after_all - after_first)
        return after_all


def _alike(now_SD: Tensor, before_SD: Tensor, threshold: float, shared: Shared) -> bool:
    clips = zip(shared.layout.clips.cut(now_SD - before_SD), shared.layout.clips.cut(before_SD), strict=True)
    changes = [change.abs().mean(dim=(1, 2)) / before.abs().mean(dim=(1, 2)) for change, before in clips]
    return all(bool((change < threshold).all()) for change in changes)
