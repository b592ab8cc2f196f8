"""The networks against what must hold by definition: inverses, closed forms, invariances."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kineograph.nodes.networks import flow
from kineograph.nodes.networks.attention.sdpa import attend
from kineograph.nodes.networks.dit import Batch, DiT, DiTConfig
from kineograph.nodes.networks.patches import frame_centres, patchify, token_positions, unpatchify
from kineograph.nodes.networks.rope import rotary_angles, rotate, turns
from kineograph.nodes.networks.text import TextConfig, TextEncoder, buckets_of, words_of

GRID, PATCH = (3, 4, 5), (1, 1, 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lively_dit(config: DiTConfig | None = None) -> DiT:
    """A DiT without the zeros that it starts with, so that everything reaches the output."""
    torch.manual_seed(0)
    dit = DiT(config or DiTConfig(channels=4, text_width=32, width=64, depth=2, heads=2))
    with torch.no_grad():
        for weight in dit.parameters():
            if weight.count_nonzero() == 0:
                weight.normal_(std=0.2)
    return dit.eval()


def dit_inputs(tokens: int = math.prod(GRID)) -> dict[str, Tensor]:
    positions = token_positions(frame_centres(GRID[0], 4, "line") / 8, GRID[1:], PATCH, 8)[None, :tokens]
    return {
        "tokens_BNC": torch.randn(2, tokens, 4, generator=seeded(1)),
        "levels_BK": torch.full((2, tokens), 0.5),
        "positions_BN3": positions,
        "text_BLE": torch.randn(2, 5, 32, generator=seeded(2)),
        "text_mask_BL": torch.ones(2, 5, dtype=torch.bool),
    }


def velocity(dit: DiT, **inputs: Tensor) -> Tensor:
    return dit([Batch(**inputs)])[0]


# patches


@pytest.mark.parametrize("patch", [(1, 1, 1), (1, 2, 2), (2, 1, 3)])
def test_unpatchify_inverts_patchify(patch: tuple[int, int, int]) -> None:
    x = torch.randn(2, 3, 4, 6, 6, generator=seeded())
    grid = (4 // patch[0], 6 // patch[1], 6 // patch[2])
    tokens = patchify(x, patch)
    assert tokens.shape == (2, math.prod(grid), 3 * math.prod(patch))
    assert torch.equal(unpatchify(tokens, grid, patch), x)


def test_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        patchify(torch.zeros(1, 3, 1, 5, 4), (1, 2, 2))
    with pytest.raises(ValueError, match="do not fill"):
        unpatchify(torch.zeros(1, 7, 3), (1, 2, 4), (1, 1, 1))


def test_positions_are_in_patch_order_and_in_seconds_and_pixels() -> None:
    t, h, w = torch.meshgrid(torch.arange(3.0), torch.arange(4.0), torch.arange(6.0), indexing="ij")
    seconds = torch.tensor([0, 2.5, 6.5])[t.long()] / 8  # frame 0; frames 1 to 4; frames 5 to 8
    cells = torch.stack((seconds, 8 * h + 4, 8 * w + 4))[None]
    middles = frame_centres(3, 4, "line") / 8
    assert torch.equal(token_positions(middles, (4, 6), (1, 1, 1), 8), patchify(cells, (1, 1, 1))[0])
    means = patchify(cells, (1, 2, 2))[0].unflatten(-1, (3, 4)).mean(-1)
    assert torch.allclose(token_positions(middles, (2, 3), (1, 2, 2), 8), means)


# attention and rotary positions


@pytest.mark.parametrize("masked", [False, True])
def test_both_forms_of_attention_agree(masked: bool) -> None:
    q, k, v = (torch.randn(2, 3, n, 16, generator=seeded(n)) for n in (7, 9, 9))
    mask = (torch.arange(9) < torch.tensor([[4], [9]]))[:, None, None] if masked else None
    with torch.no_grad():
        fused = attend(q, k, v, mask)
    assert torch.allclose(attend(q.requires_grad_(), k, v, mask), fused, atol=1e-5)


def test_rotary_attention_depends_on_differences_of_positions_alone() -> None:
    q, k = torch.randn(2, 1, 2, 6, 32, generator=seeded(), dtype=torch.float64)
    places = torch.rand(1, 6, 3, generator=seeded(1), dtype=torch.float64) * torch.tensor([4.0, 64, 64])

    def scores(shift: Tensor) -> Tensor:
        turn = turns(rotary_angles(places + shift, 32), torch.float64)
        return rotate(q, turn) @ rotate(k, turn).mT

    moved = scores(torch.tensor([3.0, -17.0, 40.0], dtype=torch.float64))
    assert torch.allclose(moved, scores(torch.zeros(3, dtype=torch.float64)), atol=1e-6)
    assert not torch.allclose(moved, q @ k.mT, atol=1e-2)


# flow


def test_noise_pair_lies_on_the_straight_path() -> None:
    clean, noise = torch.randn(2, 2, 5, 3, generator=seeded())
    levels = torch.rand(2, 5, generator=seeded(1))
    x, velocity = flow.noise_pair(clean, noise, levels)
    assert torch.allclose(flow.clean_from(x, velocity, levels), clean, atol=1e-6)
    assert torch.allclose(x + (1 - levels)[..., None] * velocity, noise, atol=1e-6)


def test_shifted_sigmas_fall_from_one_to_zero() -> None:
    sigmas = flow.shifted_sigmas(4, 3.0)
    assert sigmas.tolist() == pytest.approx([1, 0.9, 0.75, 0.5, 0])
    with pytest.raises(ValueError, match="at least 1 step"):
        flow.shifted_sigmas(0, 3.0)


def gaussian_velocity(x_BN: Tensor, levels_N: Tensor, covariance_NN: Tensor) -> Tensor:
    """E[e - x0 | x] for x0 ~ N(0, covariance) and a level per token: the network that needs no training."""
    keep, noise = torch.diag(1 - levels_N), torch.diag(levels_N)
    seen = keep @ covariance_NN @ keep + noise @ noise + 1e-9 * torch.eye(len(levels_N), dtype=torch.float64)
    gain = (noise - covariance_NN @ keep) @ torch.linalg.inv(seen)
    return x_BN @ gain.T


@pytest.mark.parametrize("given", [[0], [0, 1], [6, 7], [0, 7]], ids=["image", "forward", "backward", "connect"])
def test_euler_with_levels_per_token_samples_the_exact_conditional(given: list[int]) -> None:
    tokens, rho, samples = 8, 0.9, 20_000
    steps = torch.arange(tokens, dtype=torch.float64)
    covariance = rho ** (steps[:, None] - steps).abs()
    mask = torch.ones(tokens, dtype=torch.float64)
    mask[given] = 0
    free = mask == 1
    clean = torch.zeros(samples, tokens, dtype=torch.float64)
    clean[:, given] = torch.tensor([1.5, -0.5], dtype=torch.float64)[: len(given)]
    noise = torch.randn(samples, tokens, generator=seeded(), dtype=torch.float64)
    mask_BN = mask.expand_as(clean)
    x = flow.start(clean, noise, mask_BN)
    sigmas = flow.shifted_sigmas(100, 1.0).tolist()
    for sigma, sigma_next in pairwise(sigmas):
        velocity = gaussian_velocity(x, flow.token_levels(sigma, mask), covariance)
        x = flow.euler_step(x, velocity, sigma, sigma_next, mask_BN)
    gain = covariance[free][:, ~free] @ torch.linalg.inv(covariance[~free][:, ~free])
    exact = covariance[free][:, free] - gain @ covariance[~free][:, free]
    assert torch.equal(x[:, ~free], clean[:, ~free])
    assert torch.allclose(x[:, free].mean(0), gain @ clean[0, ~free], atol=0.03)
    assert torch.linalg.norm(torch.cov(x[:, free].T) - exact) < 0.06 * torch.linalg.norm(exact)


def test_given_tokens_keep_their_bits_and_soft_ones_wait() -> None:
    x = torch.tensor([[1e-30, -0.0, 3.0, 4.0]])
    mask = torch.tensor([[0.0, 0.0, 0.3, 1.0]])
    wild = torch.tensor([[float("inf"), float("nan"), 1.0, 1.0]])
    stepped = flow.euler_step(x, wild, 0.9, 0.5, mask)
    assert torch.equal(stepped[:, :3], x[:, :3]) and stepped[0, 3].item() == pytest.approx(3.6)
    assert flow.euler_step(x, wild, 0.5, 0.1, mask)[0, 2].item() == pytest.approx(2.8)  # from its own 0.3 to 0.1


# DiT


def test_a_new_dit_predicts_no_velocity_and_learns() -> None:
    dit = DiT(DiTConfig(channels=4, text_width=32, width=64, depth=1, heads=2))
    out = velocity(dit, **dit_inputs())
    assert out.shape == (2, 60, 4) and out.count_nonzero() == 0
    (out - 1).square().mean().backward()
    assert dit.token_out.bias.grad is not None and dit.token_out.bias.grad.count_nonzero() > 0


def test_padding_of_the_text_changes_nothing() -> None:
    dit, inputs = lively_dit(), dit_inputs()
    junk = torch.cat((inputs["text_BLE"], torch.full((2, 3, 32), 7.0)), dim=1)
    mask = torch.cat((inputs["text_mask_BL"], torch.zeros(2, 3, dtype=torch.bool)), dim=1)
    with torch.no_grad():
        plain, padded = velocity(dit, **inputs), velocity(dit, **inputs | {"text_BLE": junk, "text_mask_BL": mask})
    assert torch.allclose(plain, padded, atol=1e-5)


def test_the_level_of_one_token_changes_the_velocities() -> None:
    dit, inputs = lively_dit(), dit_inputs()
    levels = inputs["levels_BK"].clone()
    levels[:, 7] = 0.0
    with torch.no_grad():
        change = (velocity(dit, **inputs | {"levels_BK": levels}) - velocity(dit, **inputs)).abs().amax(-1)
    assert change[:, 7].min() > 10 * change[:, 8:].median()
    assert change.min() > 0


def test_levels_per_frame_or_sample_equal_levels_per_token() -> None:
    dit, inputs = lively_dit(), dit_inputs()
    per_frame = torch.rand(2, GRID[0], generator=seeded(3))
    with torch.no_grad():
        few = velocity(dit, **inputs | {"levels_BK": per_frame})
        many = velocity(dit, **inputs | {"levels_BK": per_frame.repeat_interleave(GRID[1] * GRID[2], dim=1)})
        one = velocity(dit, **inputs | {"levels_BK": torch.full((2, 1), 0.5)})
        assert torch.allclose(one, velocity(dit, **inputs), atol=1e-5)
    assert torch.allclose(few, many, atol=1e-5)
    with pytest.raises(ValueError, match="shared out"):
        velocity(dit, **inputs | {"levels_BK": torch.zeros(2, 7)})


def test_tokens_are_a_set_with_positions() -> None:
    dit, inputs = lively_dit(), dit_inputs()
    order = torch.randperm(math.prod(GRID), generator=seeded(4))
    shuffled = {name: inputs[name][:, order] for name in ("tokens_BNC", "levels_BK", "positions_BN3")}
    with torch.no_grad():
        assert torch.allclose(velocity(dit, **inputs | shuffled), velocity(dit, **inputs)[:, order], atol=1e-5)


def test_config_survives_json() -> None:
    config = DiTConfig(patch=(1, 2, 2), channels=3)
    assert DiTConfig(**config.to_json()) == config and config.token_width == 12
    with pytest.raises(ValueError, match="multiple of 48"):
        DiTConfig(width=256, heads=3)


# text


def test_words_are_read_whatever_the_case_and_the_company() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(TextConfig(width=48, heads=3, buckets=512)).eval()
    prompts = ["A Red ball, bouncing", "", "a small green star moves to the left"]
    with torch.no_grad():
        together, mask = encoder(prompts)
        assert mask.sum(1).tolist() == [6, 1, 9]
        for prompt, row, seen in zip(prompts, together, mask, strict=True):
            alone, _ = encoder([prompt.upper()])
            assert torch.allclose(row[seen], alone[0], atol=1e-5)
            assert row[~seen].count_nonzero() == 0


def test_words_that_look_alike_share_buckets() -> None:
    assert words_of("Don't stop -- it's 2 red_balls!") == [
        "don",
        "'",
        "t",
        "stop",
        "-",
        "-",
        "it",
        "'",
        "s",
        "2",
        "red",
        "balls",
        "!",
    ]
    near, far = (
        len(set(buckets_of("bouncing", 3, 4, 2**30)) & set(buckets_of(word, 3, 4, 2**30)))
        for word in ("bounces", "square")
    )
    assert near >= 5 and far == 0


def test_order_of_words_is_seen() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(TextConfig(width=48, heads=3, buckets=512)).eval()
    with torch.no_grad():
        out, _ = encoder(["red circle above blue square", "blue circle above red square"])
    assert not torch.allclose(out[0, 0], out[1, 0], atol=1e-4)
