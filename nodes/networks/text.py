"""A small text encoder trained with the model: knows spelling and word order, no vocabulary file.

A word is the sum of its hashed character n-grams (Bojanowski et al. 2017), so unseen words fall near words they look
like; two transformer layers put each word into its sentence.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional

from kineograph.nodes.networks.attention.sdpa import attend
from kineograph.nodes.networks.rope import frequencies, rotate, turns

WORD = re.compile(r"[^\W_]+|[^\w\s]")
SUMMARY = "<summary>"


@dataclass(frozen=True)
class TextConfig:
    """Sizes of a :class:`TextEncoder`.

    Attributes:
        width: D, features per token.
        layers: transformer layers.
        heads: attention heads; width is a multiple of twice their number.
        buckets: rows of the n-gram table.
        shortest: letters of the shortest n-gram, counting the word's end marks.
        longest: letters of the longest n-gram.
        words: words read of each prompt; the rest is cut.
    """

    width: int = 192
    layers: int = 2
    heads: int = 3
    buckets: int = 3072
    shortest: int = 3
    longest: int = 4
    words: int = 64

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def words_of(prompt: str) -> list[str]:
    """Lower-case words and single marks, in order."""
    return WORD.findall(prompt.lower())


@lru_cache(maxsize=65536)
def buckets_of(word: str, shortest: int, longest: int, buckets: int) -> tuple[int, ...]:
    """Rows of the n-gram table whose sum is the word: its n-grams between end marks, and the word as a whole.

    Args:
        word: one word.
        shortest: letters of the shortest n-gram.
        longest: letters of the longest n-gram.
        buckets: rows of the table.

    Returns:
        Row numbers, the whole word's first.
    """
    marked = f"<{word}>"
    pieces = {marked[i : i + n] for n in range(shortest, longest + 1) for i in range(len(marked) - n + 1)} - {marked}
    return tuple(crc32(piece.encode()) % buckets for piece in [marked, *sorted(pieces)])


class TextEncoder(nn.Module):
    """Prompts to one token per word, after a token 0 that sums the prompt up."""

    def __init__(self, config: TextConfig) -> None:
        """Build with random weights.

        Args:
            config: the sizes.

        Raises:
            ValueError: the width does not divide into heads of an even number of features.
        """
        super().__init__()
        if config.width % (2 * config.heads):
            raise ValueError(
                f"{config.heads} heads need a width that is a multiple of {2 * config.heads}, not {config.width}."
            )
        self.config = config
        self.grams = nn.EmbeddingBag(config.buckets, config.width, mode="mean")
        nn.init.normal_(self.grams.weight, std=1.0)
        self.layers = nn.ModuleList(TextLayer(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Read prompts.

        Args:
            prompts: B texts; an empty one is its summary token alone.

        Returns:
            Embeddings (B, L, D), zero where nothing stands, and mask (B, L) bool, True where a token stands.
        """
        words = [[SUMMARY, *words_of(prompt)[: self.config.words]] for prompt in prompts]
        mask_BL = self._mask([len(each) for each in words])
        x_MD = self._embed(list(chain.from_iterable(words)))
        x_BLD = x_MD.new_zeros(*mask_BL.shape, x_MD.shape[-1]).index_put((mask_BL,), x_MD)
        head_width = self.config.width // self.config.heads
        angles_LE = torch.arange(x_BLD.shape[1], device=x_BLD.device)[:, None] * frequencies(
            head_width // 2, 2 * math.pi, 1000.0
        ).to(x_BLD)
        turn = turns(angles_LE[None], x_BLD.dtype)
        for layer in self.layers:
            x_BLD = layer(x_BLD, turn, mask_BL)
        return self.norm(x_BLD) * mask_BL[..., None], mask_BL

    def _embed(self, words: list[str]) -> Tensor:
        c, device = self.config, self.grams.weight.device
        rows = [buckets_of(word, c.shortest, c.longest, c.buckets) for word in words]
        starts = torch.tensor([0, *map(len, rows[:-1])], device=device).cumsum(0)
        return self.grams(torch.tensor(list(chain.from_iterable(rows)), device=device), starts)

    def _mask(self, lengths: list[int]) -> Tensor:
        device = self.grams.weight.device
        return torch.arange(max(lengths), device=device) < torch.tensor(lengths, device=device)[:, None]


class TextLayer(nn.Module):
    """A pre-norm transformer layer over words."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x_BLD: Tensor, turn: tuple[Tensor, Tensor], mask_BL: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm_1(x_BLD)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = attend(rotate(q, turn), rotate(k, turn), v, mask_BL[:, None, None])
        x_BLD = x_BLD + self.out(seen.transpose(1, 2).flatten(2))
        return x_BLD + self.down(functional.silu(self.up(self.norm_2(x_BLD))))
