"""Clips that were encoded once: batches of their latents and texts. Knows no file, no encoder and no optimizer.

A loop over ``read_clips`` that collects latents and texts encodes each clip once; the store keeps what it collects, so
the next training on the same clips encodes none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.sockets import Latent, TextEmbedding
from kineograph.nodes.train.data import Share, step_generator

Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class EncodedBatches(NamedTuple):
    """Batches of latents and, in the same order, of what their clips show."""

    latents: Stream[Latent]
    texts: Stream[TextEmbedding]


@node(counts=("batches",))
def encoded_batches(
    latents: Stream[Latent],
    texts: Stream[TextEmbedding],
    batches: Positive,
    clips: Positive = 4,
    seed: int = 0,
    skip: Natural = 0,
) -> EncodedBatches:
    """Batches of encoded clips of equal size, in the order in which ``clip_batches`` would give the clips.

    Args:
        latents: one clip each, as a loop over single clips collects them.
        texts: what each of them shows, in the same order.
        batches: how many; the clips are gone through as often as that takes.
        clips: of a batch; a size that has fewer repeats them.
        seed: of the order.
        skip: number of the first batch, so that a training that goes on sees new ones.

    Raises:
        ValueError: there are no clips, not one text for each, or several clips in one item.
    """
    from kineograph.nodes.train.streams import batch_places

    if not len(latents) or len(latents) != len(texts):
        raise ValueError(
            f"{len(latents)} latents and {len(texts)} texts: give at least one clip, and one text for each."
        )
    groups: dict[object, list[int]] = {}
    for place, latent in enumerate(latents):
        if latent.x.shape[0] != 1:
            raise ValueError(f"Item {place} holds {latent.x.shape[0]} clips; collect them one by one.")
        groups.setdefault((latent.x.shape, latent.fps), []).append(place)
    members = list(groups.values())

    def chosen(number: int) -> list[int]:
        group, places = batch_places([len(group) for group in members], clips, seed, number + skip)
        return [members[group][place] for place in places]

    return EncodedBatches(
        Stream(batches, lambda number: _stacked([latents[at] for at in chosen(number)]), latents.held),
        Stream(batches, lambda number: _padded([texts[at] for at in chosen(number)]), texts.held),
    )


@node
def drop_text(
    text: TextEmbedding, no_text: TextEmbedding, drop: Share = 0.1, seed: int = 0, step: int = 0
) -> TextEmbedding:
    """Put the empty prompt in the place of some texts, so that guidance has something to lead away from.

    Args:
        text: what each clip shows.
        no_text: of the empty prompt.
        drop: share of texts that are emptied (Ho & Salimans 2022).
        seed: of the choice.
        step: number of the pass, so that each draws anew.
    """
    import torch

    dropped = torch.rand(len(text.mask), generator=step_generator(seed, step)) < drop
    return _padded([no_text if gone else _one(text, place) for place, gone in enumerate(dropped)])


def _one(text: TextEmbedding, place: int) -> TextEmbedding:
    of_it = slice(place, place + 1)
    pooled = None if text.pooled is None else text.pooled[of_it]
    return TextEmbedding(text.tokens[of_it], text.mask[of_it], pooled)


def _stacked(latents: list[Latent]) -> Latent:
    import torch

    parts = {name: torch.cat([getattr(each, name) for each in latents]) for name in ("x", "clean", "mask")}
    return replace(latents[0], **parts)


def _padded(texts: list[TextEmbedding]) -> TextEmbedding:
    """Texts of one clip each as one batch, as long as the longest."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    pooled = [text.pooled for text in texts if text.pooled is not None]
    tokens = pad_sequence([text.tokens[0, : text.mask.sum()] for text in texts], batch_first=True)
    mask = pad_sequence([text.mask[0, : text.mask.sum()] for text in texts], batch_first=True)
    return TextEmbedding(tokens, mask, torch.cat(pooled) if pooled else None)
