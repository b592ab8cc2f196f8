"""Two diffusion transformers as one: who is asked, the noise level says. Knows no one network.

Wan 2.2 A14B (Wan-Video/Wan2.2): an expert for high noise, where a clip gets its layout, and one for low, for detail.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kineograph.nodes.networks.adapters.common import AdaptedDiT, AdapterConfig, clips_of
from kineograph.nodes.networks.dit import Batch, Through


@dataclass(frozen=True, eq=False)
class Experts:
    """Two networks with the forward of one. It is no module itself: the weights of each come and go with its own.

    Attributes:
        high: asked about clips whose highest level is at the boundary or above.
        low: asked about the others; it takes and gives the same.
        boundary: in [0, 1].
    """

    high: AdaptedDiT
    low: AdaptedDiT
    boundary: float

    @property
    def config(self) -> AdapterConfig:
        """What both take and give."""
        return self.high.config

    def __call__(self, batches: list[Batch], *, through: Through | None = None) -> list[Tensor]:
        """What the expert for each clip predicts, see :meth:`AdaptedDiT.forward`."""
        return [torch.cat([self._asked(clip, through) for clip in clips_of(batch)]) for batch in batches]

    def _asked(self, clip: Batch, through: Through | None) -> Tensor:
        expert = self.high if clip.levels_BK.max() >= self.boundary else self.low
        return expert([clip], through=through)[0]
