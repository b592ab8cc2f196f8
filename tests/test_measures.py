"""Every measure gives what it must on real clips, and sees the break that it is for; knows no model and no graph."""

from __future__ import annotations

import math

import pytest
import torch

from kineograph.nodes.networks import intervals, measures, oracle, spoil, world

FPS, JOIN = 8.0, 9


def clips(count: int = 24, frames: int = 17, height: int = 48, width: int = 48, path: str = "straight", seed: int = 3):
    scenes = world.sample_scenes(seed, range(count), frames, FPS, height, width, path=path)
    return scenes, world.render(scenes, frames, height, width, FPS)


SCENES, REAL = clips()
MOVES = SCENES.motion > 0
TRACK = measures.track(REAL, FPS)


def ratio(pair: measures.Ratio) -> float:
    return intervals.ratio(*pair).value


def test_wilsons_interval_is_that_of_the_tables():
    found = intervals.share(torch.arange(10) < 8)
    assert (found.value, found.clips) == (pytest.approx(0.8), 10)
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert intervals.share(torch.ones(12)).low == pytest.approx(0.7575, abs=1e-4)
    assert intervals.share(torch.ones(12)).high == 1.0
    assert not intervals.share(torch.ones(0)).known


def test_the_bootstrap_covers_a_known_mean_and_ratio_about_as_often_as_it_says():
    made = torch.Generator().manual_seed(1)
    inside = 0
    for _ in range(200):
        under = 1 + torch.rand(30, generator=made)
        found = intervals.ratio(2 * under + 0.3 * torch.randn(30, generator=made), under)
        inside += found.low <= 2 <= found.high
    assert 0.88 <= inside / 200 <= 0.99


def test_what_could_not_be_measured_is_left_out_and_not_counted():
    found = intervals.mean(torch.tensor([1.0, math.nan, 3.0]))
    assert (found.value, found.clips) == (2.0, 2)
    assert not intervals.mean(torch.tensor([math.nan])).known
    assert not intervals.ratio(torch.ones(3), torch.zeros(3)).known


def test_a_join_is_one_on_real_clips_and_a_jump_or_a_turn_is_seen():
    for at in ([JOIN], [5, 12], [1], [16]):
        assert ratio(measures.join_step(REAL, at)) == pytest.approx(1, abs=0.03)
        assert ratio(measures.join_bend(REAL, at)) == pytest.approx(1, abs=0.05)
    jumped, turned = spoil.jump(REAL, JOIN), spoil.turn(REAL, JOIN)
    assert ratio(measures.join_step(jumped, [JOIN])) > 3
    assert ratio(measures.join_step(turned, [JOIN])) == pytest.approx(1, abs=0.03)
    assert ratio(measures.join_bend(turned, [JOIN])) > 2.5
    with pytest.raises(ValueError, match="frames 1 to 16"):
        measures.join_step(REAL, [17])


def test_places_are_predicted_by_constant_velocity_across_a_join():
    def error(video):
        return measures.predicted_place_error(measures.track(video, FPS).centroid, [JOIN])[MOVES].mean().item()

    assert error(REAL) < 0.004
    assert error(spoil.turn(REAL, JOIN)) > 0.05
    assert error(spoil.jump(REAL, JOIN, by=0.1)) > 0.05
    assert math.isnan(measures.predicted_place_error(TRACK.centroid[:, :1].expand(-1, 3, -1) * torch.nan, [1])[0])


def test_extrapolation_follows_a_line_and_forgives_gaps():
    time = torch.arange(8.0)
    line = torch.stack([0.1 + 0.05 * time, 0.7 - 0.02 * time], -1)[None]
    known = line[:, :6].clone()
    known[:, 2] = torch.nan
    there, fitted = measures.extrapolate(known, torch.tensor([6, 7]))
    torch.testing.assert_close(there, line[:, 6:])
    assert fitted.all()


def test_a_real_loop_closes_and_half_of_one_does_not():
    _, loops = clips(path="loop", frames=16)

    def seam(video):
        closed, at = measures.around(video), [video.shape[1]]
        return ratio(measures.join_step(closed, at)), ratio(measures.join_bend(closed, at))

    assert max(seam(loops)) < 1.3
    assert min(seam(spoil.half(loops))) > 3
    assert min(seam(REAL[MOVES])) > 3


def test_motion_and_contrast_notice_what_a_still_or_washed_out_clip_lost():
    assert measures.motion(spoil.freeze(REAL)).max() == 0
    assert (measures.motion(REAL) > 0).equal(MOVES)
    kept = measures.contrast(spoil.smear(REAL)) / measures.contrast(REAL)
    assert kept.max() < 0.8
    torch.testing.assert_close(measures.contrast(spoil.shuffle(REAL)), measures.contrast(REAL))


def test_identity_stays_on_real_clips_and_a_switch_or_a_loss_is_seen():
    def constant(video):
        track = measures.track(video, FPS)
        return [measures.constancy(index).mean().item() for index in (track.colour, track.shape)]

    assert min(constant(REAL)) >= 0.99
    assert min(constant(spoil.reverse(REAL))) >= 0.99
    assert constant(spoil.switch_colour(REAL, 9)) == [pytest.approx(9 / 17, abs=0.01), pytest.approx(1, abs=0.01)]
    assert constant(spoil.vanish(REAL, 9)) == [pytest.approx(9 / 17, abs=0.01)] * 2
    assert constant(spoil.switch_clip(REAL, 9))[1] < 0.9


def test_sizes_and_steps_that_vary_are_seen():
    assert measures.area_variation(TRACK.area).mean() < 0.02
    mixed = measures.track(spoil.switch_clip(REAL, 8), FPS)
    assert measures.area_variation(mixed.area).mean() > 0.1
    even, shuffled = measures.step_deviation(TRACK.centroid), measures.track(spoil.shuffle(REAL), FPS)
    assert even.max() < 0.01
    assert measures.step_deviation(shuffled.centroid)[MOVES].min() > 0.05
    still = measures.track(spoil.freeze(REAL), FPS)
    assert measures.step_deviation(still.centroid).max() < 1e-6
    assert measures.area_variation(measures.track(REAL * 0, FPS).area).isnan().all()


def test_flicker_is_what_changes_where_no_object_is():
    assert measures.flicker(REAL, TRACK).max() < 1e-6
    noisy = (REAL + 0.02 * torch.randn(REAL.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    found = measures.flicker(noisy, measures.track(noisy, FPS))
    assert found.min() > 0.005  # clipped at black and white: half of the noise is lost there
    assert found.max() < 0.025  # E|a - b| = 2 s / sqrt(pi) = .0226 for noise of s = .02


@pytest.mark.parametrize(("height", "width"), [(48, 48), (32, 64), (64, 32)])
def test_real_subjects_are_inside_and_those_that_a_crop_cuts_are_not(height, width):
    scenes, video = clips(60, height=height, width=width)
    assert measures.framed(video, FPS).all()
    assert not measures.framed(spoil.vanish(video, 8), FPS).any()
    half = scenes.radius * torch.tensor(world.HALF_EXTENT)[scenes.shape][:, 0]
    leftmost = (world.centres(scenes, 17, FPS)[..., 0].amin(1) - half) * min(height, width)
    inside = leftmost - round(0.3 * width)  # pixels between the new border and the object
    clear = inside.abs() > 2.5
    assert 8 < (inside[clear] > 0).sum() < clear.sum() - 8
    assert torch.equal(measures.framed(spoil.crop(video, by=0.3), FPS)[clear], inside[clear] > 0)


def test_colours_that_run_away_are_seen_and_a_passing_object_is_not():
    assert measures.colour_drift(REAL, FPS).max() < 1e-3
    assert measures.colour_drift(spoil.fade(REAL), FPS).min() > 0.05
    seconds = torch.arange(5) / 2
    torch.testing.assert_close(measures.drift(3 + 0.5 * seconds[None], seconds), torch.tensor([0.5]))


def test_structure_is_kept_by_a_new_colour_and_lost_by_another_clip():
    def kept(video):
        return measures.structure_kept(TRACK, measures.track(video, FPS)).mean().item()

    assert kept(REAL.roll(1, 2)) > 0.95
    assert kept(spoil.switch_clip(REAL, 0)) < 0.25
    assert 0.4 < kept(spoil.vanish(REAL, 9)) < 0.6
    assert kept(spoil.jump(REAL, 0, by=0.1)) < kept(spoil.jump(REAL, 0, by=0.03)) < 1


def test_the_area_under_an_edit_is_that_of_the_staircase():
    assert measures.dominated_area([1.0], [1.0]) == 1
    assert measures.dominated_area([1.0, 0.0], [0.0, 1.0]) == 0
    assert measures.dominated_area([0.9, 0.5, 0.1], [0.2, 0.8, 1.0]) == pytest.approx(0.9 * 0.2 + 0.5 * 0.6 + 0.1 * 0.2)
    assert measures.dominated_area([0.5, 0.5], [0.4, 0.2]) == pytest.approx(0.2)


def test_things_are_the_same_on_both_sides_of_a_join_or_not():
    before, after = oracle.read(REAL[:, :JOIN], FPS), oracle.read(REAL[:, JOIN:], FPS)
    assert measures.same_thing(before, after).all()
    other = oracle.read(spoil.switch_clip(REAL, JOIN)[:, JOIN:], FPS)
    assert measures.same_thing(before, other).float().mean() < 0.3
    nothing = oracle.read(REAL * 0, FPS)
    assert not measures.same_thing(nothing, nothing).any()


@pytest.mark.parametrize(
    "broken",
    [spoil.freeze, spoil.reverse, spoil.half_speed, spoil.shuffle, spoil.crop, spoil.noise, spoil.smear, spoil.fade],
)
def test_breaking_leaves_the_real_clip_and_its_size_alone(broken):
    before = REAL.clone()
    assert broken(REAL).shape == REAL.shape
    assert torch.equal(REAL, before)


@pytest.mark.parametrize("broken", [spoil.jump, spoil.turn, spoil.vanish, spoil.switch_clip, spoil.switch_colour])
@pytest.mark.parametrize("at", [3, 9, 16])
def test_what_happens_at_a_frame_leaves_those_before_it(broken, at):
    video = broken(REAL, at)
    assert video.shape == REAL.shape
    assert torch.equal(video[:, :at], REAL[:, :at])
