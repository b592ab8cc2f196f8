"""Packing against what must hold: inverses, a dense block-diagonal mask, each clip alone, separate gradients."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kineograph import default_runtime
from kineograph.graph_runtime.events import Metric
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes import model, sample
from kineograph.nodes.networks.attention.choice import attend_within
from kineograph.nodes.networks.attention.segments import Segments
from kineograph.nodes.networks.dit import Batch, DiT, DiTConfig, centred, level_features, place_features
from kineograph.nodes.networks.packing import Runs, balance, compute, join
from kineograph.nodes.networks.patches import frame_centres, token_positions
from kineograph.nodes.networks.rope import rotary_angles
from kineograph.nodes.train import data, loss, mixed, noise, optimizer, passes, streams
from kineograph.nodes.train.sockets import Loss

WORKFLOW = Path(__file__).parent.parent / "workflows" / "train_dit.json"
GRIDS = ((1, 3, 2), (3, 2, 4), (2, 5, 1), (2, 5, 1))
CLIPS = (1, 2, 1, 1)
LEVELS = ("clip", "frame", "token", "frame")
WORDS = (3, 6, 1, 2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lively_dit(seed: int = 0) -> DiT:
    """A DiT without the zeros that it starts with, so that everything reaches the output."""
    dit = DiT(DiTConfig(channels=4, text_width=32, width=64, depth=2, heads=2)).eval()
    with torch.no_grad():
        for weight in dit.parameters():
            weight.copy_(torch.randn(weight.shape, generator=seeded(seed)) * (0.5 if weight.ndim == 1 else 0.12))
    return dit


def batches(channels: int = 4, text_width: int = 32) -> list[Batch]:
    """Clips of four sizes: two of one size, and levels per clip, per frame and per token."""
    made = []
    for at, (grid, clips, kind, words) in enumerate(zip(GRIDS, CLIPS, LEVELS, WORDS, strict=True)):
        tokens, generator = math.prod(grid), seeded(at)
        mask = torch.ones(clips, words, dtype=torch.bool)
        mask[-1, max(1, words - 2) :] = False
        made.append(
            Batch(
                torch.randn(clips, tokens, channels, generator=generator),
                torch.rand(clips, {"clip": 1, "frame": grid[0], "token": tokens}[kind], generator=generator),
                token_positions(frame_centres(grid[0], 4, "line") / 8, grid[1:], (1, 1, 1), 8)[None],
                torch.randn(clips, words, text_width, generator=generator),
                mask,
            )
        )
    return made


def alone(batch: Batch) -> list[Batch]:
    """Each clip of a batch by itself, with no token of its text padded."""
    return [
        Batch(
            batch.tokens_BNC[[at]],
            batch.levels_BK[[at]],
            batch.positions_BN3,
            batch.text_BLE[[at]][:, batch.text_mask_BL[at]],
            batch.text_mask_BL[[at]][:, batch.text_mask_BL[at]],
        )
        for at in range(len(batch.tokens_BNC))
    ]


# balance


@pytest.mark.parametrize("seed", range(10))
def test_bins_cost_nearly_the_same_and_no_more_than_they_may(seed: int) -> None:
    costs = (torch.rand(60, generator=seeded(seed)) * 60 + 1).tolist()
    bins = balance(costs, bins=8, budget=1e9)
    loads = [sum(costs[item] for item in items) for items in bins]
    assert sorted(itertools.chain(*bins)) == list(range(60))
    # each bin was the cheapest when it got its last item
    assert all(load - costs[items[-1]] <= min(loads) + 1e-9 for load, items in zip(loads, bins, strict=True))
    tight = balance(costs, bins=8, budget=sum(costs) / 8)
    assert max(sum(costs[item] for item in items) for items in tight) <= sum(costs) / 8
    assert tight == balance(costs, bins=8, budget=sum(costs) / 8)


def test_the_dearest_goes_first_to_the_cheapest_bin() -> None:
    assert balance([1, 5, 5, 3, 4], bins=2, budget=100) == [[1, 4], [2, 3, 0]]
    assert balance([], bins=2, budget=1) == [[], []]


def test_what_fits_nowhere_is_left_out() -> None:
    assert balance([11, 3, 9, 8], bins=2, budget=10) == [[2], [3]]


def test_balancing_tokens_would_not_balance_compute() -> None:
    tokens = [1296] * 4 + [16] * 1000
    costs = [compute(n, knee=1536) for n in tokens]

    def spread(bins: list[list[int]]) -> float:
        loads = [sum(costs[item] for item in items) for items in bins]
        return max(loads) / min(loads)

    assert spread(balance(costs, 8, budget=1e9)) < 1.02
    assert spread(balance(tokens, 8, budget=1e9)) > 1.3


def test_compute_grows_with_attention() -> None:
    assert compute(1536, knee=1536) == 2 * 1536
    assert compute(10, knee=1e12) == pytest.approx(10)


# runs


@pytest.mark.parametrize("dim", [0, 1])
def test_join_inverts_cut(dim: int) -> None:
    runs = Runs(((2, 3), (1, 7), (4, 1)))
    x = torch.randn(17, 17, generator=seeded())
    parts = runs.cut(x, dim)
    assert [part.shape[dim : dim + 2] for part in parts] == [(2, 3), (1, 7), (4, 1)]
    assert torch.equal(join(parts, dim), x)


def test_rows_are_spread_over_their_runs() -> None:
    spread = Runs(((2, 3), (1, 2))).spread(torch.tensor([[1.0], [2.0], [3.0]]))
    assert spread[:, 0].tolist() == [1, 1, 1, 2, 2, 2, 3, 3]


# attention


def heads(seed: int) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Queries, keys, values and masks of three batches."""
    sizes, generator = ((1, 5, 7), (2, 3, 6), (1, 9, 9)), seeded(seed)
    q, k, v = (
        [torch.randn(2, clips, (n, m)[which], 16, generator=generator) for clips, n, m in sizes] for which in (0, 1, 1)
    )
    masks = [torch.ones(clips, m, dtype=torch.bool) for clips, _, m in sizes]
    masks[1][1, 4:] = False
    return q, k, v, masks


def dense(q: Tensor, k: Tensor, v: Tensor, seen_NM: Tensor) -> Tensor:
    """The oracle: one softmax under a mask over the whole sequence."""
    return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen_NM, float("-inf")).softmax(-1) @ v


def block_diagonal(qs: list[Tensor], masks: list[Tensor]) -> Tensor:
    blocks = [row.expand(q.shape[2], -1) for q, mask in zip(qs, masks, strict=True) for row in mask]
    return torch.block_diag(*[block.float() for block in blocks]).bool()


def test_attention_within_clips_equals_a_dense_block_diagonal_mask() -> None:
    q, k, v, masks = heads(0)
    whole = [join(each, dim=1).requires_grad_() for each in (q, k, v)]
    expected = dense(*whole, block_diagonal(q, masks))
    runs = [Runs(tuple(part.shape[1:3] for part in each)) for each in (q, k, v)]
    segments = Segments(runs[0], masks)
    q, k, v = (run.cut(x, 1) for run, x in zip(runs, whole, strict=True))
    found = join(attend_within(q, k, v, segments), dim=1)
    assert torch.allclose(found, expected, atol=1e-6)
    probe = torch.randn(expected.shape, generator=seeded(9))
    for ours, theirs in zip(
        torch.autograd.grad(found, whole, probe), torch.autograd.grad(expected, whole, probe), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(join(attend_within(q, k, v, segments), dim=1), expected, atol=1e-6)


# DiT


@torch.no_grad()
def slow_velocity(dit: DiT, clip: Batch) -> Tensor:
    """One clip the long way: a level for every token, complex numbers for rotations, one softmax."""

    def norm(x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() * gain

    def turned(x_HND: Tensor) -> Tensor:
        pairs = torch.complex(*x_HND.chunk(2, dim=-1)) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat((pairs.real, pairs.imag), dim=-1)

    def split_heads(x_ND: Tensor) -> Tensor:
        return x_ND.unflatten(-1, (dit.config.heads, -1)).transpose(0, 1)

    n = clip.tokens_BNC.shape[1]
    levels_N = clip.levels_BK[0].repeat_interleave(n // clip.levels_BK.shape[1])
    places = centred(clip.positions_BN3)
    angles = rotary_angles(places, dit.config.width // dit.config.heads)[0]
    x = dit.token_in(clip.tokens_BNC[0]) + dit.place_in(place_features(places)[0])
    words = dit.text_in(clip.text_BLE[0])
    state = torch.nn.functional.silu(
        dit.level_in(level_features(levels_N[None])[0]) + dit.summary_in(clip.text_BLE[0, 0])
    )
    for block in dit.blocks:
        parts = dit.modulation(state).unflatten(-1, (6, -1)) + block.table
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = parts.unbind(-2)
        q, k, v = map(split_heads, block.qkv(norm(x) * (1 + scale_1) + shift_1).chunk(3, dim=-1))
        text_k, text_v = map(split_heads, block.text_kv(words).chunk(2, dim=-1))
        k = torch.cat((turned(norm(k, block.k_norm.weight)), norm(text_k, block.k_norm.weight)), dim=1)
        q = turned(norm(q, block.q_norm.weight))
        seen = dense(q, k, torch.cat((v, text_v), dim=1), torch.tensor(True))
        x = x + gate_1 * block.out(seen.transpose(0, 1).flatten(1))
        x = x + gate_2 * block.down(torch.nn.functional.silu(block.up(norm(x) * (1 + scale_2) + shift_2)))
    shift, scale = dit.out_modulation(state).chunk(2, dim=-1)
    return dit.token_out(norm(x) * (1 + scale) + shift)


@torch.no_grad()
def test_a_packed_clip_is_what_it_would_be_alone() -> None:
    dit, given = lively_dit(), batches()
    for batch, velocities in zip(given, dit(given), strict=True):
        assert velocities.shape == batch.tokens_BNC.shape
        for clip, velocity in zip(alone(batch), velocities, strict=True):
            assert torch.allclose(velocity, dit([clip])[0], atol=1e-5)
            assert torch.allclose(velocity, slow_velocity(dit, clip), atol=1e-5)


@torch.no_grad()
def test_the_embedded_model_packs_and_batches_to_the_same() -> None:
    dit = model.load_model("flipbook").dit.network
    given = batches(dit.config.channels, dit.config.text_width)
    for batch, velocities in zip(given, dit(given), strict=True):
        torch.testing.assert_close(velocities, dit([batch])[0], atol=1e-5, rtol=1e-5)
        for clip, velocity in zip(alone(batch), velocities, strict=True):
            expected = slow_velocity(dit, clip)
            assert (velocity - expected).abs().max() < 2e-6 * expected.abs().max()


@torch.no_grad()
def test_a_clip_sees_nothing_of_its_neighbours() -> None:
    dit, given = lively_dit(), batches()
    before = dit(given)
    given[1] = Batch(
        *(field + 1 if torch.is_tensor(field) and field.is_floating_point() else field for field in given[1])
    )
    after = dit(given)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False, True, True]


def test_levels_that_do_not_divide_a_clips_tokens_are_refused() -> None:
    given = batches()
    given[2] = given[2]._replace(levels_BK=torch.rand(1, 3))
    with pytest.raises(ValueError, match="3 noise levels cannot be shared out evenly among 10 tokens"):
        lively_dit()(given)


def test_gradients_of_a_packed_step_are_the_mean_of_separate_ones() -> None:
    dit, given = lively_dit(), batches()
    weights = list(dit.parameters())

    def error(velocity: Tensor) -> Tensor:
        return (velocity - 1).square().mean()

    clips = [velocity for velocities in dit(given) for velocity in velocities]
    together = torch.autograd.grad(torch.stack([error(velocity) for velocity in clips]).mean(), weights)
    separate = [torch.zeros_like(weight) for weight in weights]
    for clip in itertools.chain(*map(alone, given)):
        for total, gradient in zip(separate, torch.autograd.grad(error(dit([clip])[0]), weights), strict=True):
            total += gradient / len(clips)
    for ours, theirs in zip(together, separate, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max()))


# nodes

VAE = model.new_vae(channels=4, seed=1)
SMALL = {"budget": 150, "longest": 9, "smallest": 16, "largest": 40}


def tokens(clips) -> int:
    frames, _, height, width = clips.video.frames.shape[1:]
    return (1 + (frames - 1) // 4) * (height // 8) * (width // 8)


def test_mixed_clips_are_of_many_sizes_and_their_groups_of_nearly_equal_compute() -> None:
    groups = mixed.mixed_clips(VAE, groups=40, **SMALL)
    sizes, fullness = set(), []
    for group in groups:
        fullness.append(sum(compute(tokens(clips), 1536) for clips in group))
        sizes |= {clips.video.frames.shape[1:] for clips in group}
        assert all(len(clips.captions) == 1 for clips in group)
    assert max(fullness) <= SMALL["budget"] and min(fullness) > 0.85 * SMALL["budget"]
    assert len(sizes) > 20 and {size[0] for size in sizes} == {1, 5, 9}
    assert any(height > width for *_, height, width in sizes) and any(width > height for *_, height, width in sizes)


def test_no_group_is_empty_where_each_clip_fills_one() -> None:
    sizes = {"longest": 1, "smallest": 32, "largest": 32}
    assert [len(group) for group in mixed.mixed_clips(VAE, groups=16, budget=17, knee=256, **sizes)] == [1] * 16


def test_a_group_depends_on_the_seed_and_its_number_alone() -> None:
    def frames(group) -> list[Tensor]:
        return [clips.video.frames for clips in group]

    groups = mixed.mixed_clips(VAE, groups=40, seed=3, **SMALL)
    later = mixed.mixed_clips(VAE, groups=2, seed=3, skip=35, **SMALL)
    assert all(map(torch.equal, frames(later[1]), frames(groups[36])))
    assert all(map(torch.equal, frames(groups[36]), frames(groups[36])))
    shapes = [each.shape for each in frames(groups[36])]
    other = mixed.mixed_clips(VAE, groups=40, seed=4, **SMALL)
    assert shapes != [each.shape for each in frames(other[36])]


def test_a_clip_longer_than_the_budget_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match=r"33 frames of 96 x 96 pixels costs 2,390, more than the budget of 2,000"):
        mixed.mixed_clips(VAE, groups=1, budget=2000)
    with pytest.raises(ValueError, match="smallest = 64 is larger than largest = 32"):
        mixed.mixed_clips(VAE, groups=1, smallest=64, largest=32)


def group_of_patches() -> tuple[Stream, Stream, list]:
    encoder = model.new_text_encoder(width=192, seed=3)
    patches, texts, pairs = [], [], []
    for at, clips in enumerate(mixed.mixed_clips(VAE, groups=1, **SMALL)[0]):
        mean = VAE.network.encode(clips.video.frames.transpose(1, 2))[0]
        latent = sample.Latent(mean, mean, torch.zeros_like(mean[:, :1]), 8.0, VAE.spec)
        drawn = noise.draw_levels(latent, noise.logit_normal_levels(), per_frame=0.5, step=at)
        pairs.append(noise.add_noise(noise.given_frames(drawn, prefix=0.2, suffix=0.2, step=at), step=at))
        patches.append(sample.patchify(pairs[-1].noisy))
        texts.append(data.encode_captions(encoder, clips, step=at))
    return Stream.of(patches), Stream.of(texts), pairs


def stirred_dit():
    dit = model.start_dit(channels=4, width=32, depth=1, heads=2, seed=2)
    for weight in dit.network.parameters():
        weight.copy_(torch.randn(weight.shape, generator=seeded(1)) * 0.1)
    return dit


def test_packed_velocity_is_the_velocity_of_each_clip_and_joins_to_its_latent() -> None:
    dit, (patches, texts, _) = stirred_dit(), group_of_patches()
    with torch.no_grad():
        packed = sample.packed_velocity(dit, patches, texts, sigma=0.9)
        for ours, cut, text in zip(packed, patches, texts, strict=True):
            expected = sample.unpatchify(sample.dit_velocity(dit, cut, text, sigma=0.9))
            assert torch.allclose(sample.unpatchify(ours).x, expected.x, atol=1e-5)


def test_packed_velocity_says_what_it_misses() -> None:
    dit, (patches, texts, _) = stirred_dit(), group_of_patches()
    with pytest.raises(ValueError, match=f"{len(patches)} clips and 1 texts"):
        sample.packed_velocity(dit, patches, Stream.of([texts[0]]))
    with pytest.raises(ValueError, match="at least one clip"):
        sample.packed_velocity(dit, Stream.of([]), Stream.of([]))


def test_every_clip_counts_the_same_in_the_mean_of_losses_and_in_its_gradients() -> None:
    state = optimizer.begin_training(stirred_dit())
    patches, texts, pairs = group_of_patches()

    def clip_losses(velocities) -> list[Loss]:
        return [
            loss.flow_loss(sample.unpatchify(each), pair.target) for each, pair in zip(velocities, pairs, strict=True)
        ]

    dit = optimizer.dit_in_training(state)
    together = loss.mean_loss(Stream.of(clip_losses(sample.packed_velocity(dit, patches, texts))))
    apart = clip_losses(sample.dit_velocity(dit, *pair) for pair in zip(patches, texts, strict=True))
    assert together.value.item() == pytest.approx(sum(each.value.item() for each in apart) / len(apart), rel=1e-5)
    found = optimizer.gradients(together, state).values
    each = [optimizer.gradients(one, state).values for one in apart]
    for ours, *theirs in zip(found, *each, strict=True):
        assert torch.allclose(ours, torch.stack(theirs).mean(0), atol=1e-5)
    with pytest.raises(ValueError, match="stream is empty"):
        loss.mean_loss(Stream.of([]))


def test_neighbours_in_a_stream_become_groups() -> None:
    groups = mixed.group_clips(Stream.of([*"abcdefgh"]), size=3)
    assert [list(group) for group in groups] == [[*"abc"], [*"def"], [*"gh"]]


def test_items_of_a_stream_and_seeds_of_passes() -> None:
    assert streams.stream_item(Stream.of([4, 5]), 1) == 5
    with pytest.raises(ValueError, match="no item 2 in a stream of 2"):
        streams.stream_item(Stream.of([4, 5]), 2)
    assert len({passes.pass_seed(seed, step) for seed in range(5) for step in range(50)}) == 250


# workflow


def test_packed_training_from_its_file_is_the_same_twice_and_learns(tmp_path: Path) -> None:
    raw = json.loads(WORKFLOW.read_text())
    raw["nodes"]["clips"]["params"] |= SMALL
    raw["nodes"]["dit"]["params"] |= {"width": 64, "depth": 1}
    raw["nodes"]["train"]["body"]["nodes"]["record"]["params"]["every"] = 1

    def train(**inputs) -> list[float]:
        events = []
        default_runtime().run(raw, inputs, out=tmp_path, listen=events.append)
        return [event.value for event in events if isinstance(event, Metric)]

    learned, idle = train(steps=16, rate=0.03), train(steps=16, rate=1e-12)  # on the same clips with the same noise
    assert learned[0] == idle[0]
    assert sum(learned[-5:]) < 0.98 * sum(idle[-5:])
    assert train(steps=2, rate=0.03) == train(steps=2, rate=0.03)
    assert train(steps=1, rate=0.03, skip=7) != learned[:1]
    assert (tmp_path / "flipbook" / "dit.safetensors").is_file()
