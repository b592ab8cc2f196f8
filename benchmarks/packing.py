"""What packing gains: training steps on clips of the mixed-size world, packed, padded and one by one.

    python benchmarks/packing.py [budget of a step in tokens, 2560 if not given]

Processor time of forward and backward passes in bfloat16 on one thread, the best of several rounds in which the forms
take turns. Tokens are those of clips; padding does not count.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.functional import pad

from kineograph.nodes.model import new_vae, start_dit
from kineograph.nodes.networks.dit import Batch, Layout
from kineograph.nodes.networks.patches import frame_centres, token_positions
from kineograph.nodes.networks.text import words_of
from kineograph.nodes.train.mixed import mixed_clips
from kineograph.nodes.train.sockets import Clips

ROUNDS = 3
TOKENS = 10_240  # of all steps together
DEPTH = 2  # blocks: the ratios are those of a block
SPACE, TIME = 8, 4  # pixels and frames per latent cell


def as_batch(clips: Clips, seed: int) -> Batch:
    """A clip as the DiT takes it, of noise: what its tokens hold costs nothing."""
    _, frames, _, height, width = clips.video.frames.shape
    grid = (1 + (frames - 1) // TIME, height // SPACE, width // SPACE)
    words = 1 + len(words_of(clips.captions[0]))
    generator = torch.Generator().manual_seed(seed)
    positions = token_positions(frame_centres(grid[0], TIME, "line") / 8, grid[1:], (1, 1, 1), SPACE)[None]
    tokens = torch.randn(1, positions.shape[1], 8, generator=generator)
    text = torch.randn(1, words, 192, generator=generator)
    return Batch(tokens, torch.rand(1, 1, generator=generator), positions, text, torch.ones(1, words).bool())


def padded(clips: list[Batch]) -> tuple[Batch, Tensor]:
    """Clips in one batch, each as long as the longest, and which tokens are clips' own (B, N)."""
    most = max(each.tokens_BNC.shape[1] for each in clips)
    words = max(each.text_mask_BL.shape[1] for each in clips)

    def rows(field: str, length: int) -> Tensor:
        return torch.cat([pad(x := getattr(each, field), (0, 0, 0, length - x.shape[1])) for each in clips])

    mask = torch.cat([pad(each.text_mask_BL, (0, words - each.text_mask_BL.shape[1])) for each in clips])
    levels = torch.cat([each.levels_BK for each in clips])
    own = torch.stack([torch.arange(most) < each.tokens_BNC.shape[1] for each in clips])
    return Batch(rows("tokens_BNC", most), levels, rows("positions_BN3", most), rows("text_BLE", words), mask), own


@contextmanager
def hidden(own_BN: Tensor) -> Iterator[None]:
    """Hide padding from attention, which the DiT has no use for."""
    plain = Layout.of

    def of(batches: list[Batch], head_width: int) -> Layout:
        layout = plain(batches, head_width)
        seen_BM = [torch.cat((own_BN, batches[0].text_mask_BL), dim=1)]
        return replace(layout, segments=replace(layout.segments, seen_BM=seen_BM))

    with patch.object(Layout, "of", of):
        yield


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    budget = int(sys.argv[1]) if len(sys.argv) > 1 else 2560
    steps = -(-TOKENS // budget)
    network = start_dit(depth=DEPTH).network.requires_grad_(True)
    weights = list(network.parameters())
    groups = [
        [as_batch(each, number) for number, each in enumerate(group)] for group in mixed_clips(new_vae(), steps, budget)
    ]
    everything = [each for group in groups for each in group]
    tokens = sum(each.tokens_BNC.shape[1] for each in everything)
    random.Random(0).shuffle(everything)
    by_length = sorted(everything, key=lambda each: each.tokens_BNC.shape[1])
    size = -(-len(everything) // steps)

    def learn(loss: Tensor) -> None:
        torch.autograd.grad(loss, weights, allow_unused=True)

    def packed() -> float:
        for group in groups:
            with torch.autocast("cpu", torch.bfloat16):
                velocities = network(group)
            learn(torch.stack([v.square().mean() for v in velocities]).mean())
        return tokens

    def one_by_one() -> float:
        for each in everything:
            with torch.autocast("cpu", torch.bfloat16):
                velocity = network([each])[0]
            learn(velocity.square().mean())
        return tokens

    def batches(clips: list[Batch]) -> float:
        computed = 0
        for first in range(0, len(clips), size):
            batch, own = padded(clips[first : first + size])
            with torch.autocast("cpu", torch.bfloat16), hidden(own):
                velocity = network([batch])[0]
            each = (velocity.square().mean(-1) * own).sum(1) / own.sum(1)
            learn(each.mean())
            computed += own.numel()
        return computed

    forms: dict[str, Callable[[], float]] = {
        "packed": packed,
        "padded, any order": lambda: batches(everything),
        "padded, sorted by length": lambda: batches(by_length),
        "one clip after another": one_by_one,
    }
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    computed: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, form in forms.items():
            started = time.process_time()
            computed[name] = form()
            seconds[name].append(time.process_time() - started)
    print(f"{len(everything)} clips, {tokens:,} tokens in {steps} steps")
    print(f"{'':<28}{'tokens/s':>10}{'padding':>10}{'packed is':>12}")
    best = {name: min(found) for name, found in seconds.items()}
    for name in forms:
        waste, ratio = 1 - tokens / computed[name], best[name] / best["packed"]
        print(f"{name:<28}{tokens / best[name]:>10,.0f}{waste:>10.0%}{ratio:>10.2f} x")


if __name__ == "__main__":
    main()
