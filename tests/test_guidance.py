"""Guidance by identities, against diffusers, and the block cache: nothing at threshold 0, less work above."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kineograph.nodes import block_cache, guidance, model, sample, text
from kineograph.nodes.networks import guidance as maths
from kineograph.nodes.sockets import Patches, SigmaStep

VAE = model.new_vae(channels=4, seed=1)
AT = SigmaStep(0.8, 0.6)


def stirred(depth: int = 4):
    """A DiT that says something: a new one says zero everywhere."""
    dit = model.start_dit(channels=4, width=32, depth=depth, heads=2, seed=2)
    with torch.no_grad():
        for parameter in dit.network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return dit


DIT = stirred()
ENCODER = model.new_text_encoder(width=192, seed=3)
TEXT, NO_TEXT = text.encode_text(ENCODER, "a red circle moves right"), text.encode_text(ENCODER)
NOISE = sample.latent_noise(VAE, frames=5, height=16, width=16, clips=2, seed=5)
PATCHES = sample.patchify(NOISE)
with torch.no_grad():  # as the tests: with gradients the CPU takes another way through attention
    WITH, WITHOUT = guidance.guidance_pair(DIT, PATCHES, TEXT, NO_TEXT, AT)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def other(seed: int, like: Patches = PATCHES) -> Patches:
    return replace(like, tokens=torch.randn(like.tokens.shape, generator=torch.Generator().manual_seed(seed)))


def close(found: Patches, wanted: Patches) -> None:
    torch.testing.assert_close(found.tokens, wanted.tokens, atol=2e-5, rtol=1e-5)


def apg(scale: float, with_text=WITH, without=WITHOUT, patches=PATCHES, at=AT, **given) -> Patches:
    begun = guidance.begin_momentum()
    return guidance.projected_guidance(patches, with_text, without, at, begun, scale, **given).velocity


# one pass, one answer


def test_a_pair_is_what_the_model_says_with_each_text_alone() -> None:
    close(WITH, sample.dit_velocity(DIT, PATCHES, TEXT, sigma=AT.sigma))
    close(WITHOUT, sample.dit_velocity(DIT, PATCHES, NO_TEXT, sigma=AT.sigma))


def test_added_guidance_is_guided_velocity_to_the_bit() -> None:
    plain = sample.guided_velocity(DIT, PATCHES, TEXT, NO_TEXT, AT, scale=4.0)
    assert torch.equal(guidance.add_guidance(WITHOUT, WITH, WITHOUT, 4.0).tokens, plain.tokens)
    assert torch.equal(guidance.add_guidance(WITH, WITH, WITHOUT, 0.0).tokens, WITH.tokens)


def test_scale_one_is_no_guidance_in_every_kind() -> None:
    close(guidance.add_guidance(WITHOUT, WITH, WITHOUT, 1.0), WITH)
    close(guidance.cfg_zero_guidance(WITH, WITHOUT, 1, 1.0), WITH)
    close(apg(1.0, parallel=0.3, norm=0.1), WITH)


def test_projected_guidance_that_keeps_all_is_the_plain_one() -> None:
    close(apg(4.0, parallel=1.0), guidance.add_guidance(WITHOUT, WITH, WITHOUT, 4.0))


def test_what_projection_leaves_is_at_right_angles_and_not_longer_than_the_norm() -> None:
    clean = PATCHES.tokens - AT.sigma * WITH.tokens
    moved = PATCHES.tokens - AT.sigma * apg(4.0, norm=0.5).tokens - clean
    assert (moved * clean).sum(dim=(1, 2)).abs().max() < 1e-3
    assert (moved.flatten(1).norm(dim=1) <= 3 * 0.5 + 1e-4).all()
    assert (moved.flatten(1).norm(dim=1) > 0.1).all()


def test_momentum_adds_the_updates_of_former_passes() -> None:
    first = guidance.projected_guidance(PATCHES, WITH, WITHOUT, AT, guidance.begin_momentum(), keep=-0.5)
    second = guidance.projected_guidance(PATCHES, WITH, WITHOUT, AT, first.momentum, keep=-0.5)
    torch.testing.assert_close(second.momentum.update, 0.5 * first.momentum.update)
    close(second.velocity, apg(2.5, parallel=0.0))  # half of the update, so scale - 1 is half too
    forgotten = guidance.projected_guidance(PATCHES, WITH, WITHOUT, AT, first.momentum, keep=0.0)
    assert torch.equal(forgotten.velocity.tokens, apg(4.0).tokens)


def test_the_best_scale_leaves_a_difference_at_right_angles_and_the_first_passes_stand_still() -> None:
    with_text, without = other(1), other(2)
    base = maths.best_scale(with_text.tokens, without.tokens, PATCHES.mask > 0) * without.tokens
    assert ((with_text.tokens - base) * without.tokens).sum(dim=(1, 2)).abs().max() < 1e-3
    close(guidance.cfg_zero_guidance(with_text, without, 1, 0.0), replace(PATCHES, tokens=base))
    assert not guidance.cfg_zero_guidance(with_text, without, 1, 4.0, zero_passes=2).tokens.any()


def test_cfg_zero_of_equal_velocities_is_that_velocity() -> None:
    close(guidance.cfg_zero_guidance(WITH, WITH, 1, 7.0), WITH)


def test_rescaling_gives_back_the_deviation() -> None:
    guided = guidance.add_guidance(WITHOUT, WITH, WITHOUT, 9.0)
    found = guidance.rescale_guidance(guided, WITH, 1.0)
    torch.testing.assert_close(found.tokens.flatten(1).std(dim=1), WITH.tokens.flatten(1).std(dim=1))
    close(guidance.rescale_guidance(guided, WITH, 0.0), guided)


@pytest.mark.parametrize("kind", ["rescale", "zero", "apg"])
def test_what_is_said_of_given_tokens_changes_nothing_for_the_others(kind: str) -> None:
    mask = PATCHES.mask.clone()
    mask[:, ::2] = 0.0
    patches, free = replace(PATCHES, mask=mask), mask > 0

    def guided(loud: float) -> Tensor:
        with_text, without = (
            replace(patches, tokens=torch.where(free[..., None], each.tokens, loud * each.tokens))
            for each in (other(1), other(2))
        )
        if kind == "rescale":
            return guidance.rescale_guidance(with_text, without, 1.0).tokens
        if kind == "zero":
            return guidance.cfg_zero_guidance(with_text, without, 1).tokens
        return apg(4.0, with_text, without, patches, norm=5.0).tokens

    torch.testing.assert_close(guided(1.0)[free], guided(100.0)[free])
    assert torch.isfinite(guided(100.0)).all()


def test_a_clip_gets_what_it_would_get_alone() -> None:
    def first(patches: Patches) -> Patches:
        return replace(patches, tokens=patches.tokens[:1], mask=patches.mask[:1])

    with_text, without, patches = other(1), other(2), other(3)
    for both, alone in (
        (
            apg(4.0, with_text, without, patches, norm=5.0),
            apg(4.0, *map(first, (with_text, without, patches)), norm=5.0),
        ),
        (
            guidance.cfg_zero_guidance(with_text, without, 1),
            guidance.cfg_zero_guidance(first(with_text), first(without), 1),
        ),
        (guidance.rescale_guidance(with_text, without), guidance.rescale_guidance(first(with_text), first(without))),
    ):
        close(first(both), alone)


def test_skipping_no_block_changes_nothing_and_skipping_all_leaves_none_of_the_text() -> None:
    plain = sample.dit_velocity(DIT, PATCHES, TEXT, sigma=AT.sigma)
    assert torch.equal(guidance.skipped_velocity(DIT, PATCHES, TEXT, AT, []).tokens, plain.tokens)
    assert not torch.allclose(guidance.skipped_velocity(DIT, PATCHES, TEXT, AT, [2]).tokens, plain.tokens)
    # without blocks, a token does not see the others
    moved = replace(PATCHES, tokens=PATCHES.tokens + torch.eye(PATCHES.tokens.shape[1])[:1].unsqueeze(-1))
    change = [guidance.skipped_velocity(DIT, each, TEXT, AT, [0, 1, 2, 3]).tokens for each in (PATCHES, moved)]
    assert torch.equal(change[0][:, 1:], change[1][:, 1:])
    with pytest.raises(ValueError, match="no block 4 to skip: this DiT has blocks 0 to 3"):
        guidance.skipped_velocity(DIT, PATCHES, TEXT, AT, [1, 4])


# diffusers


def test_projection_rescaling_and_best_scale_are_those_of_diffusers() -> None:
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance
    from diffusers.guiders.classifier_free_zero_star_guidance import cfg_zero_star_scale
    from diffusers.guiders.guider_utils import rescale_noise_cfg

    a, b, free = other(1).tokens, other(2).tokens, PATCHES.mask > 0
    buffer = MomentumBuffer(-0.5)
    normalized_guidance(b, a, 1.0, buffer)
    wanted = normalized_guidance(a, b, 3.0, buffer, 0.4, 6.0, use_original_formulation=True)
    update = (a - b) - 0.5 * (b - a)
    torch.testing.assert_close(a + 3.0 * maths.projected(update, a, free, 0.4, 6.0), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(maths.rescaled(a, b, 0.7, free), rescale_noise_cfg(a, b, 0.7), atol=1e-5, rtol=0)
    scale = cfg_zero_star_scale(a.flatten(1), b.flatten(1))
    torch.testing.assert_close(maths.best_scale(a, b, free).flatten(1), scale, atol=1e-6, rtol=0)


# the block cache


def sampled(threshold: float, dit=DIT) -> tuple[list[Tensor], block_cache.BlockCache]:
    """What is said in eight passes of a sampling, and the cache behind the last."""
    latent, cache, said = NOISE, block_cache.begin_cache(), []
    for step in sample.shifted_sigmas(8, 1.0):
        asked = dit, sample.patchify(latent), TEXT, step, cache
        velocity, cache = block_cache.cached_velocity(*asked, threshold)
        latent = sample.euler_step(latent, sample.unpatchify(velocity), step)
        said.append(velocity.tokens)
    return said, cache


def test_a_cache_of_threshold_zero_gives_the_bits_of_no_cache() -> None:
    latent, (said, cache) = NOISE, sampled(0.0)
    assert cache.reused == 0
    for step, found in zip(sample.shifted_sigmas(8, 1.0), said, strict=True):
        velocity = sample.dit_velocity(DIT, sample.patchify(latent), TEXT, sigma=step.sigma)
        assert torch.equal(found, velocity.tokens)
        latent = sample.euler_step(latent, sample.unpatchify(velocity), step)


def test_a_larger_threshold_computes_less_and_says_something_else() -> None:
    dit, calls = stirred(), []
    for number, block in enumerate(dit.network.blocks):
        block.register_forward_hook(lambda *_, number=number: calls.append(number))
    exact, _ = sampled(0.0)
    calls.clear()
    said, cache = sampled(0.5, dit)
    assert 0 < cache.reused < 8
    assert [calls.count(number) for number in range(4)] == [8, *[8 - cache.reused] * 3]
    assert torch.equal(said[0], exact[0])
    assert not torch.equal(said[-1], exact[-1])


def test_the_same_question_again_is_answered_from_the_cache() -> None:
    first, cache = block_cache.cached_velocity(DIT, PATCHES, TEXT, AT, block_cache.begin_cache())
    again, after = block_cache.cached_velocity(DIT, PATCHES, TEXT, AT, cache, threshold=1e-6)
    assert after.reused == 1
    close(again, first)
    assert after.rest is cache.rest


def test_one_clip_that_changed_makes_all_of_its_batch_be_computed() -> None:
    _, cache = block_cache.cached_velocity(DIT, PATCHES, TEXT, AT, block_cache.begin_cache())
    tokens = PATCHES.tokens.clone()
    tokens[1] = other(7).tokens[1]
    asked = DIT, replace(PATCHES, tokens=tokens), TEXT, AT, cache
    assert block_cache.cached_velocity(*asked, threshold=0.05).cache.reused == 0
