"""Encoders of the T5 kind behind the forward of ours: prompts to padded text tokens. Knows no files and no library."""

from __future__ import annotations

import html
from typing import Any

import torch
from torch import Tensor, nn


class T5Text(nn.Module):
    """An encoder of T5's kind (Raffel et al. 2020; UMT5: Chung et al. 2023) and its tokenizer."""

    def __init__(
        self,
        network: nn.Module,
        tokenizer: Any,
        length: int,
        *,
        hears_padding: bool = False,
        says_padding: bool = False,
        empty_is_nothing: bool = False,
    ) -> None:
        """Put an adapter around an encoder.

        Args:
            network: forward(ids, mask) gives ``last_hidden_state``.
            tokenizer: ``encode_batch(prompts)`` gives token ids with the end's mark, cut to ``length``.
            length: L, tokens of every prompt with its padding, as the DiT was trained.
            hears_padding: whether words look at the padding too, as LTX-Video was trained.
            says_padding: whether what stands at the padding is given on as words are, as CogVideoX was trained.
            empty_is_nothing: whether the empty prompt has no token at all, not even its end's mark.
        """
        super().__init__()
        self.network = network
        self.tokenizer = tokenizer
        self.length = length
        self.hears_padding, self.says_padding = hears_padding, says_padding
        self.empty_is_nothing = empty_is_nothing

    def forward(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Read prompts.

        Args:
            prompts: B texts.

        Returns:
            Embeddings (B, L, D) in float32, zero where nothing stands, and mask (B, L) bool, True where a token stands.
        """
        ids = [each.ids for each in self.tokenizer.encode_batch([cleaned(prompt) for prompt in prompts])]
        ids_BL = torch.zeros(len(ids), self.length, dtype=torch.long)  # T5's padding is token 0
        mask_BL = torch.zeros(len(ids), self.length, dtype=torch.bool)
        for row, each in enumerate(ids):
            if self.empty_is_nothing and not prompts[row]:
                continue
            ids_BL[row, : len(each)] = torch.tensor(each)
            mask_BL[row, : len(each)] = True
        device = next(self.network.parameters()).device
        ids_BL, mask_BL = ids_BL.to(device), mask_BL.to(device)
        heard = None if self.hears_padding else mask_BL.long()
        said = self.network(ids_BL, heard).last_hidden_state.float()
        if self.says_padding:
            return said, torch.ones_like(mask_BL)
        return said * mask_BL[..., None], mask_BL


def cleaned(prompt: str) -> str:
    """A prompt without HTML's escapes, and with single spaces, as the models were trained."""
    return " ".join(html.unescape(html.unescape(prompt)).split())
