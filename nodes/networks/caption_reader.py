"""A text encoder with linear heads that say what a caption said: knows attributes as (name, number of values) only.

The summary token and, half as heavily, every word's token must tell each attribute's value or that it was not said.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from kineograph.nodes.networks.text import TextEncoder

WORD_WEIGHT = 0.5


class CaptionReader(nn.Module):
    """Heads over a :class:`TextEncoder`; class 0 of each head stands for "not said"."""

    def __init__(self, encoder: TextEncoder, attributes: Mapping[str, int]) -> None:
        super().__init__()
        width = encoder.config.width
        self.encoder = encoder
        self.summary = nn.ModuleDict({name: nn.Linear(width, count + 1) for name, count in attributes.items()})
        self.words = nn.ModuleDict({name: nn.Linear(width, count + 1) for name, count in attributes.items()})

    def forward(self, captions: list[str], said: Mapping[str, Tensor]) -> Tensor:
        """The cross-entropy of reading captions, summed over attributes.

        Args:
            captions: B sentences.
            said: by attribute, (B,) the index that was said, or -1.
        """
        tokens_BLD, mask_BL = self.encoder(captions)
        losses: list[Tensor] = []
        for name, head in self.summary.items():
            wanted_B = said[name] + 1
            losses.append(functional.cross_entropy(head(tokens_BLD[:, 0]), wanted_B))
            wanted_M = wanted_B[:, None].expand_as(mask_BL)[mask_BL]
            losses.append(WORD_WEIGHT * functional.cross_entropy(self.words[name](tokens_BLD[mask_BL]), wanted_M))
        return torch.stack(losses).sum()
