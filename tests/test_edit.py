"""Every edit against what must come: a Gaussian prior whose conditional distributions are known, and bits that stay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kineograph.nodes import edit, given, model, replacement, sample, splice, text, video
from kineograph.nodes.networks.gaussian import GaussianConfig, covariance
from kineograph.nodes.networks.patches import frame_centres
from kineograph.nodes.sockets import (
    VAE,
    DiT,
    Latent,
    LatentSpec,
    SigmaStep,
    TextEmbedding,
    Video,
)

SPEC = LatentSpec(channels=1, time_ratio=4, space_ratio=8)
NO_WORDS = TextEmbedding(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))
FPS = 8.0


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def free_latent(clips: int, t: int, time: str = "groups", spec: LatentSpec = SPEC, side: int = 1) -> Latent:
    noise = torch.randn(clips, spec.channels, t, side, side, generator=seeded(t))
    return Latent(noise, torch.zeros_like(noise), torch.ones_like(noise[:, :1]), FPS, spec, time)


def sampled(dit: DiT, latent: Latent, steps: int = 60) -> Latent:
    """Heun's method (Karras et al. 2022, algorithm 1), made of the sampler's Euler steps."""
    latent = edit.begin_sampling(latent)
    for step in sample.shifted_sigmas(steps, 1.0):
        first = velocity(dit, latent, step.sigma)
        ahead = sample.euler_step(latent, first, step)
        mean = replace(first, x=(first.x + velocity(dit, ahead, step.sigma_next).x) / 2)
        latent = sample.euler_step(latent, mean, step)
    return latent


def velocity(dit: DiT, latent: Latent, sigma: float) -> Latent:
    return sample.unpatchify(sample.dit_velocity(dit, sample.patchify(latent), NO_WORDS, sigma))


def conditional(known: list[int], centres: Tensor, config: GaussianConfig, period: float | None = None):
    """What the others must be: the matrix that makes their mean of the known ones, and their covariance."""
    k = covariance(centres, centres, config, period)
    free = [place for place in range(len(centres)) if place not in known]
    gain = k[free][:, known] @ torch.linalg.inv(k[known][:, known])
    return free, gain, k[free][:, free] - gain @ k[known][:, free]


@pytest.mark.parametrize(
    ("known", "time"),
    [([0], "line"), ([0, 1], "groups"), ([4, 5], "groups"), ([0, 5], "groups"), ([1, 3], "groups"), ([0], "circle")],
    ids=["image to video", "extend forward", "extend backward", "connect", "anywhere", "loop"],
)
@torch.no_grad()
def test_edits_sample_the_conditional_distribution(known: list[int], time: str) -> None:
    clips, t = 20_000, 6
    config = GaussianConfig(seconds=2.0, kernel="markov")
    prior = model.gaussian_prior(config.seconds, config.kernel)
    latent = free_latent(clips, t, time)
    given = torch.randn(1, 1, t, 1, 1, generator=seeded(3)).expand(clips, -1, -1, -1, -1)
    for place in known:
        piece = replace(latent, x=given[:, :, place : place + 1], time="groups" if place or time != "line" else "line")
        latent = edit.give_latent(latent, piece, at=place)
    found = sampled(prior, latent).x[:, 0, :, 0, 0].double()
    centres = frame_centres(t, 4, time) / FPS
    free, gain, spread = conditional(known, centres, config, latent.period)
    assert torch.equal(found[:, known].float(), given[:, 0, known, 0, 0])
    assert (found[:, free].mean(0) - gain @ given[0, 0, known, 0, 0].double()).abs().max() < 0.02
    assert (found[:, free].T.cov() - spread).abs().max() < 0.02


@torch.no_grad()
def test_a_keyframe_between_groups_is_a_known_moment() -> None:
    clips, t = 20_000, 4
    config = GaussianConfig(seconds=1.0, kernel="smooth")
    latent = free_latent(clips, t)
    latent = given.with_keyframe(latent, torch.full((clips, 1, 1, 1, 1), 1.5), 6)
    found = sampled(model.gaussian_prior(config.seconds, config.kernel), latent).x[:, 0, :, 0, 0].double()
    moments = torch.cat([frame_centres(t, 4, "groups"), torch.tensor([6.0])]) / FPS
    free, gain, spread = conditional([t], moments, config)
    assert found.shape[1] == len(free)
    assert (found.mean(0) - 1.5 * gain[:, 0]).abs().max() < 0.02
    assert (found.T.cov() - spread).abs().max() < 0.02


@torch.no_grad()
def test_joins_are_as_smooth_as_the_rest() -> None:
    """field.md: one known frame carries no velocity; with two, the join is like any other place."""
    prior = model.gaussian_prior(0.8, "smooth")
    whole = sampled(prior, free_latent(4000, 8)).x
    ratios = {}
    for groups in (1, 2):
        given = replace(free_latent(4000, 8), x=whole[:, :, :groups], mask=torch.zeros(4000, 1, groups, 1, 1))
        path = sampled(prior, edit.give_latent(free_latent(4000, 8), given)).x[:, 0, :, 0, 0]
        step, bend = path.diff(dim=1).square().mean(0).sqrt(), path.diff(n=2, dim=1).square().mean(0).sqrt()
        ratios[groups] = (step[groups - 1] / step[groups:].median(), bend[groups - 1] / bend[groups:].median())
    assert 0.9 < ratios[2][0] < 1.1
    assert 0.85 < ratios[2][1] < 1.2


@torch.no_grad()
def test_a_loop_has_no_seam_and_keeps_its_variance_and_motion() -> None:
    prior = model.gaussian_prior(0.8, "smooth")
    path = sampled(prior, free_latent(8000, 8, "circle")).x[:, 0, :, 0, 0]
    step = (path.roll(-1, 1) - path).square().mean(0).sqrt()
    bend = (path.roll(-1, 1) - 2 * path + path.roll(1, 1)).square().mean(0).sqrt()
    assert 0.95 < step[-1] / step[:-1].median() < 1.05
    assert 0.95 < bend[-1] / bend[1:-1].median() < 1.05
    assert (path.var(0) - 1).abs().max() < 0.05
    line = sampled(prior, free_latent(8000, 8)).x[:, 0, :, 0, 0].diff(dim=1).square().mean().sqrt()
    assert 0.9 < step.mean() / line < 1.1


@torch.no_grad()
def test_turning_in_time_makes_a_loop_of_a_model_that_knows_none() -> None:
    prior = model.gaussian_prior(0.8, "smooth")
    latent, steps = free_latent(4000, 8), sample.shifted_sigmas(64, 1.0)
    for number, step in enumerate(steps):
        turned = splice.roll_latent(latent, number, 3)
        back = splice.roll_latent(velocity(prior, turned, step.sigma), number, 3, back=True)
        latent = sample.euler_step(latent, back, step)
    path = latent.x[:, 0, :, 0, 0]
    step = (path.roll(-1, 1) - path).square().mean(0).sqrt()
    assert 0.9 < step[-1] / step[:-1].median() < 1.1


@pytest.mark.parametrize("name", ["flipbook", "gaussian"])
@torch.no_grad()
def test_a_turned_circle_has_the_turned_velocity(name: str) -> None:
    flipbook = model.load_model("flipbook")
    dit = flipbook.dit if name == "flipbook" else model.gaussian_prior(0.5)
    words = text.encode_text(flipbook.text_encoder, "a red circle moves left and right")
    latent = sample.latent_noise(flipbook.vae, 20, 32, 32, loop=True)
    turned = replace(latent, x=latent.x.roll(2, 2))
    plain, other = (sample.dit_velocity(dit, sample.patchify(each), words, 0.7) for each in (latent, turned))
    assert (sample.unpatchify(other).x.roll(-2, 2) - sample.unpatchify(plain).x).abs().max() < 1e-5


@torch.no_grad()
def test_a_turned_circle_gives_the_turned_video() -> None:
    flipbook = model.load_model("flipbook")
    words = text.encode_text(flipbook.text_encoder, "a red circle moves left and right")
    steps = list(sample.shifted_sigmas(3, 3.0))
    latent = sample.latent_noise(flipbook.vae, 16, 32, 32, loop=True)
    results = []
    for turn in (0, 1, 3):
        moved = replace(latent, x=latent.x.roll(turn, 2))
        for step in steps:
            told = sample.dit_velocity(flipbook.dit, sample.patchify(moved), words, step.sigma)
            moved = sample.euler_step(moved, sample.unpatchify(told), step)
        results.append(video.vae_decode(flipbook.vae, moved).frames)
    for turn, frames in zip((1, 3), results[1:], strict=True):
        assert (frames.roll(-4 * turn, 1) - results[0]).abs().max() < 1e-4
    assert not torch.allclose(results[0], results[0].roll(4, 1), atol=1e-2)


# what is given stays, bit by bit, wherever it stands


@pytest.fixture(scope="module")
def vae() -> VAE:
    return model.load_vae("flipbook")


def clip(frames: int, seed: int = 0, side: int = 32) -> Video:
    return Video(torch.rand(1, frames, 3, side, side, generator=seeded(seed)), FPS)


@pytest.mark.parametrize("at", [0, 4, 8])
@torch.no_grad()
def test_a_given_clip_has_the_same_latent_wherever_it_stands(vae: VAE, at: int) -> None:
    piece = clip(8)
    blank = sample.latent_noise(vae, 16, 32, 32)
    latent = edit.give_video(blank, vae, piece, at=at)
    places = slice(at // 4, at // 4 + 2)
    assert torch.equal(latent.clean[:, :, places], video.vae_encode(vae, piece).x)
    assert latent.mask[:, :, places].max() == 0 and latent.mask.sum() == 2 * 16
    assert torch.equal(edit.begin_sampling(latent).x[:, :, places], latent.clean[:, :, places])
    assert latent.keyframes is None and torch.equal(blank.mask, torch.ones_like(blank.mask))


@torch.no_grad()
def test_frames_that_fill_no_group_become_keyframes(vae: VAE) -> None:
    given = clip(17)
    latent = edit.give_video(sample.latent_noise(vae, 33, 32, 32), vae, given, from_end=True)
    assert latent.mask[:, :, -4:].max() == 0 and latent.mask[:, :, :-4].min() == 1
    assert latent.keyframes is not None and latent.keyframes.frames == (16.0,)
    assert torch.equal(latent.keyframes.values, video.vae_encode(vae, replace(given, frames=given.frames[:, :1])).x)
    tokens = sample.patchify(latent)
    assert tokens.tokens.shape[1] == 10 * 16 and tokens.mask[:, -16:].max() == 0
    assert torch.equal(sample.unpatchify(tokens).x, latent.x)


def test_a_picture_first_in_a_line_is_its_first_latent_frame(vae: VAE) -> None:
    latent = edit.give_video(sample.latent_noise(vae, 17, 32, 32), vae, clip(1))
    assert latent.keyframes is None and latent.mask[:, :, 0].max() == 0 and latent.mask[:, :, 1:].min() == 1


@pytest.mark.parametrize(
    ("given", "at", "sentence"),
    [
        (clip(20), 0, "make the video longer"),
        (clip(5), 14, "make the video longer"),
        (clip(5, side=40), 0, "40 x 40 pixels, the video to come 32 x 32: resize_video"),
        (replace(clip(5), fps=24.0), 0, "24 frames per second, the video to come 8: resample_video"),
        (Video(torch.zeros(3, 5, 3, 40, 32), FPS), 0, "40 x 32 .*; it holds 3 clips for 1"),
    ],
)
def test_clips_that_do_not_fit_are_refused_with_the_node_that_helps(vae, given: Video, at: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        edit.give_video(sample.latent_noise(vae, 17, 32, 32), vae, given, at)


# SDEdit


@torch.no_grad()
def test_sdedit_at_0_is_the_source_and_at_1_knows_nothing_of_it() -> None:
    prior = model.gaussian_prior(1.0)
    noise, source = free_latent(3, 6), replace(free_latent(3, 6), x=torch.randn(3, 1, 6, 1, 1, generator=seeded(9)))
    assert torch.equal(sampled(prior, edit.sdedit(noise, source, 0.0), 4).x, source.x)
    free = sampled(prior, noise, 4).x
    assert torch.equal(sampled(prior, edit.sdedit(noise, source, 1.0), 4).x, free)


@torch.no_grad()
def test_sdedit_keeps_less_the_higher_it_starts() -> None:
    prior = model.gaussian_prior(1.0)
    source = sampled(prior, free_latent(4000, 5))
    noise = replace(source, x=torch.randn(source.x.shape, generator=seeded(4)))
    kept = []
    for level in (0.1, 0.3, 0.5, 0.7, 0.9):
        found = sampled(prior, edit.sdedit(noise, source, level), 20).x
        kept.append(torch.corrcoef(torch.stack([found.flatten(), source.x.flatten()]))[0, 1].item())
        assert 0.9 < found.var() < 1.1
    assert kept == sorted(kept, reverse=True) and kept[0] > 0.95 and kept[-1] < 0.35


@torch.no_grad()
def test_levels_over_time_leave_the_ends_as_they_were() -> None:
    source = replace(free_latent(2, 7), x=torch.randn(2, 1, 7, 1, 1, generator=seeded(9)))
    latent = edit.sdedit_frames(free_latent(2, 7), source, [0.0, 0.9, 0.0])
    torch.testing.assert_close(latent.mask[0, 0, :, 0, 0], torch.tensor([0, 0.3, 0.6, 0.9, 0.6, 0.3, 0]))
    found = sampled(model.gaussian_prior(1.0), latent, 8).x
    assert torch.equal(found[:, :, [0, -1]], source.x[:, :, [0, -1]])
    assert not torch.equal(found[:, :, 3], source.x[:, :, 3])


@torch.no_grad()
def test_flow_edit_with_the_same_words_changes_nothing() -> None:
    prior, source = model.gaussian_prior(1.0), free_latent(2, 5)
    latent = source
    for number, step in enumerate(sample.shifted_sigmas(5, 1.0)):
        pair = edit.flow_edit_pair(latent, source, step, seed=3, step=number)
        latent = edit.flow_edit_step(
            latent, velocity(prior, pair.target, step.sigma), velocity(prior, pair.source, step.sigma), step
        )
    torch.testing.assert_close(latent.x, source.x, atol=1e-5, rtol=0)


# two clips in one


@torch.no_grad()
def test_a_morph_begins_as_one_clip_and_ends_as_the_other() -> None:
    spec = replace(SPEC, channels=8)
    noise = free_latent(1, 5, spec=spec, side=4)
    first, second = (replace(noise, x=torch.randn(noise.x.shape, generator=seeded(at))) for at in (1, 2))
    latent = edit.morph(noise, first, second, 0.8)
    assert torch.equal(latent.clean[:, :, 0], first.x[:, :, 0]) and torch.equal(
        latent.clean[:, :, -1], second.x[:, :, -1]
    )
    assert latent.mask[0, 0, :, 0, 0].tolist() == pytest.approx([0, 0.8 * 0.5**0.5, 0.8, 0.8 * 0.5**0.5, 0])
    assert 0.9 < latent.clean[:, :, 2].std() < 1.1  # a straight mean would have 0.71
    turned = edit.turn_velocity(first, second).x
    assert torch.equal(turned[:, :, 0], first.x[:, :, 0]) and torch.equal(turned[:, :, -1], second.x[:, :, -1])


# longer than the window


def test_what_is_handed_on_is_not_touched() -> None:
    whole = free_latent(1, 9)
    tail = splice.last_groups(whole, 2)
    window = edit.give_latent(free_latent(1, 6), tail)
    assert torch.equal(edit.begin_sampling(window).x[:, :, :2], whole.x[:, :, -2:])
    longer = splice.join_latents(whole, splice.first_groups(window, 2, leave_out=True))
    assert longer.frames == 4 * 13 and torch.equal(longer.x[:, :, :9], whole.x)
    assert torch.equal(splice.join_latents(splice.last_groups(whole, 2, leave_out=True), tail).x, whole.x)


def test_a_line_keeps_its_first_frame_alone() -> None:
    line = free_latent(1, 5, "line")
    assert splice.last_groups(line, 2, leave_out=True).time == "line"
    assert splice.last_groups(line, 4).frames == 16
    for refused in (
        lambda: splice.last_groups(line, 5),
        lambda: splice.first_groups(line, 1),
        lambda: splice.join_latents(line, line),
        lambda: splice.join_latents(free_latent(1, 4, "circle"), free_latent(1, 4)),
        lambda: edit.give_latent(free_latent(1, 8), line, at=2),
        lambda: edit.give_latent(line, free_latent(1, 2), at=0),
        lambda: edit.give_latent(line, free_latent(1, 2), at=4),
    ):
        with pytest.raises(ValueError, match=r"group|fit"):
            refused()


def test_pasted_frames_are_the_given_ones() -> None:
    pasted = edit.paste_video(clip(9), clip(4, seed=1), at=1, from_end=True)
    assert torch.equal(pasted.frames[:, 4:8], clip(4, seed=1).frames)
    assert torch.equal(pasted.frames[:, :4], clip(9).frames[:, :4])
    with pytest.raises(ValueError, match="trim_video"):
        edit.paste_video(clip(9), clip(4), at=6)


@torch.no_grad()
def test_by_replacement_what_is_given_is_heeded_less_and_more_when_steps_are_taken_again() -> None:
    """The frame beside a given one follows it by the smooth kernel, 0.82 where levels are told."""
    clips = 4000
    free, prior = free_latent(clips, 4), replace(model.gaussian_prior(0.8, "smooth"), one_level=True)
    known = torch.randn(clips, 1, 1, 1, 1, generator=seeded(8))
    begun = edit.begin_sampling(edit.give_latent(free, replace(free, x=known)))
    found = []
    for again in (0, 3):
        latent = begun
        for number, step in enumerate(sample.shifted_sigmas(12, 3.0)):
            for turn in range(1 + again):
                latent = latent if turn == 0 else replacement.noise_again(latent, step, 5, number, turn)
                shown = replacement.renoise_given(prior, latent, free, step)
                latent = sample.euler_step(latent, velocity(prior, shown, step.sigma), step)
        assert torch.equal(latent.x[:, :, :1], known)
        found.append((known[:, 0, 0] * latent.x[:, 0, 1]).mean().item() / known.square().mean().item())
    assert 0.3 < found[0] < 0.5 and 0.55 < found[1] < 0.8


@torch.no_grad()
def test_noise_that_a_step_took_comes_back() -> None:
    """From level 0.3 to 0.8 as if it had been drawn there: mean and deviation."""
    free = free_latent(20_000, 2)
    mask = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1, 1).expand_as(free.mask)
    latent = replace(free, x=0.7 * 2.0 + 0.3 * free.x, mask=mask)
    back = replacement.noise_again(latent, SigmaStep(0.8, 0.3), seed=1)
    assert torch.equal(back.x[:, :, 0], latent.x[:, :, 0])
    assert abs(back.x[:, :, 1].mean() - 0.2 * 2.0) < 0.02
    assert abs(back.x[:, :, 1].std() - 0.8) < 0.02
