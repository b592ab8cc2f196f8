"""Clips encoded once give the batches that clips encoded in every step give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes import model, text, video, world
from kineograph.nodes.media import write_video
from kineograph.nodes.sockets import Latent, TextEmbedding, Video
from kineograph.nodes.train import clips, data, encoded, streams

VAE = model.new_vae(channels=4, seed=1)
ENCODER = model.new_text_encoder(width=192, seed=3)


class Run:
    def progress(self, done: int, total: int) -> None: ...


def singles(dataset) -> tuple[Stream[Latent], Stream[TextEmbedding]]:
    read = list(streams.read_clips(dataset))
    return (
        Stream.of([video.vae_encode(VAE, each.video) for each in read]),
        Stream.of([data.encode_captions(ENCODER, each, drop=0.0) for each in read]),
    )


@torch.no_grad()
def test_batches_of_encoded_clips_are_encoded_batches_of_clips(tmp_path: Path) -> None:
    for number, (size, captions) in enumerate([("5x16x16:3", "plain"), ("1x16x24:2", "long")]):
        batch = world.world_clips(batches=1, formats=[size], captions=captions)[0]
        for at, frames in enumerate(batch.video.frames):
            write_video(tmp_path / f"{number}{at}.mp4", frames, fps=8.0)
            (tmp_path / f"{number}{at}.txt").write_text(batch.captions[at])
    dataset = clips.clip_folder(str(tmp_path), Run())
    plan = {"batches": 7, "clips": 2, "seed": 5, "skip": 1}
    once = encoded.encoded_batches(*singles(dataset), **plan)
    seen = set()
    for batch, latent, words in zip(streams.clip_batches(dataset, **plan), *once, strict=True):
        again = video.vae_encode(VAE, batch.video)
        torch.testing.assert_close(latent.x, again.x, atol=1e-5, rtol=1e-5)
        assert latent.mask.shape == again.mask.shape
        told = data.encode_captions(ENCODER, batch, drop=0.0)
        assert torch.equal(words.mask, told.mask)
        torch.testing.assert_close(words.tokens, told.tokens, atol=1e-5, rtol=1e-5)
        seen.add(latent.x.shape)
    assert len(seen) == 2


@torch.no_grad()
def test_dropped_texts_are_the_empty_prompt() -> None:
    said, silent = data.encode_captions(ENCODER, CLIPS, drop=0.0), text.encode_text(ENCODER)
    assert torch.equal(encoded.drop_text(said, silent, drop=0.0).tokens, said.tokens)
    gone = encoded.drop_text(said, silent, drop=1.0)
    assert torch.equal(gone.tokens, silent.tokens.expand(len(said.mask), -1, -1))
    for step in range(20):
        some = encoded.drop_text(said, silent, drop=0.4, step=step)
        same = data.encode_captions(ENCODER, CLIPS, drop=0.4, step=step)
        assert torch.equal(some.mask, same.mask)
        torch.testing.assert_close(some.tokens, same.tokens, atol=1e-5, rtol=1e-5)


CLIPS = world.world_clips(batches=1, formats=["5x16x16:4"], captions="long")[0]


def test_clips_that_are_not_one_by_one_or_have_no_text_are_refused() -> None:
    latent = video.vae_encode(VAE, CLIPS.video)
    words = text.encode_text(ENCODER, "a red circle")
    with pytest.raises(ValueError, match="Item 0 holds 4 clips"):
        encoded.encoded_batches(Stream.of([latent]), Stream.of([words]), 1)
    with pytest.raises(ValueError, match="1 latents and 0 texts"):
        encoded.encoded_batches(Stream.of([latent]), Stream.of([]), 1)
    one = video.vae_encode(VAE, Video(CLIPS.video.frames[:1], 8.0))
    assert encoded.encoded_batches(Stream.of([one]), Stream.of([words]), 2, clips=3).latents[1].x.shape[0] == 3
