"""What is in clips: distances see what they are for; words, edits, drift and walls are judged. Knows no model."""

from __future__ import annotations

import math

import pytest
import torch

from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes import judge, judge_content, sweep, world
from kineograph.nodes.networks import distances, intervals, spoil
from kineograph.nodes.networks.permanence import permanence
from kineograph.nodes.networks.world import render, sample_scenes
from kineograph.nodes.sockets import Video

FPS = 8.0


class Run:
    """A run that remembers metrics."""

    def __init__(self) -> None:
        self.metrics = {}

    def metric(self, name: str, step: int, value: float) -> None:
        self.metrics[name] = value


def clips(count: int, seed: int, **given):
    scenes = sample_scenes(seed, range(count), 17, FPS, 32, 32, **given)
    return render(scenes, 17, 32, 32, FPS)


def test_the_kernel_distance_is_the_sum_over_pairs_of_its_definition():
    made = torch.Generator().manual_seed(0)
    x, y = torch.randn(5, 3, generator=made).double(), torch.randn(6, 3, generator=made).double() + 0.5

    def kernel(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    within_x = sum(kernel(x[i], x[j]) for i in range(5) for j in range(5) if i != j) / 20
    within_y = sum(kernel(y[i], y[j]) for i in range(6) for j in range(6) if i != j) / 30
    across = sum(kernel(a, b) for a in x for b in y) / 30
    found = distances.kernel_distance(x, y)
    assert found.value == pytest.approx(within_x + within_y - 2 * across)
    others = [distances.kernel_distance(x[torch.arange(5) != i], y).value for i in range(5)]
    parts = [distances.kernel_distance(x, y[torch.arange(6) != j]).value for j in range(6)]
    variance = 4 * torch.tensor(others).var(correction=0) + 5 * torch.tensor(parts).var(correction=0)
    assert (found.high - found.low) / 2 == pytest.approx(intervals.Z * math.sqrt(variance), rel=1e-3)
    assert not distances.kernel_distance(x[:3], y).known


def test_the_kernel_distance_is_unbiased_and_its_interval_covers_nothing_as_often_as_it_says():
    features = torch.randn(400, 8, generator=torch.Generator().manual_seed(1)).tanh()
    found = []
    for seed in range(150):
        order = torch.randperm(400, generator=torch.Generator().manual_seed(seed))
        found.append(distances.kernel_distance(features[order[:24]], features[order[24:72]]))
    values = torch.tensor([each.value for each in found])
    assert values.mean().abs() < 2 * values.std() / math.sqrt(150)
    assert sum(each.low <= 0 <= each.high for each in found) / 150 > 0.88


REAL, OTHER = clips(40, 1), clips(40, 2)
SEEN_BY_SCENE = {
    "freeze": spoil.freeze,
    "shuffle": spoil.shuffle,
    "vanish": lambda video: spoil.vanish(video, 9),
    "crop": spoil.crop,
    "one colour": lambda video: clips(40, 2, given={"colour": torch.tensor(0)}),
    "noise": spoil.noise,
}
SEEN_BY_PIXELS = {
    "noise": lambda video: spoil.noise(video, 0.1),
    "blur": lambda video: spoil.blur(video, 3),
}


@pytest.mark.parametrize("broken", SEEN_BY_SCENE)
def test_what_happens_in_a_scene_is_far_from_real_by_what_is_seen(broken):
    real = distances.scene_features(REAL, FPS)
    near = distances.kernel_distance(distances.scene_features(OTHER, FPS), real)
    far = distances.kernel_distance(distances.scene_features(SEEN_BY_SCENE[broken](OTHER), FPS), real)
    assert near.low <= 0 <= near.high
    assert far.low > 0 and far.value > near.value


@pytest.mark.parametrize("broken", SEEN_BY_PIXELS)
def test_noise_and_blur_are_far_from_real_by_their_pixels(broken):
    real = distances.pixel_features(REAL)
    near = distances.kernel_distance(distances.pixel_features(OTHER), real)
    far = distances.kernel_distance(distances.pixel_features(SEEN_BY_PIXELS[broken](OTHER)), real)
    assert abs(near.value) < 0.1
    assert far.low > 0.3


def test_distances_need_some_clips_to_tell():
    video = Video(REAL[:6], FPS)
    with pytest.raises(ValueError, match="6 real clips are too few"):
        judge_content.distance_scores(video, video, Run())
    found = judge_content.distance_scores(Video(OTHER, FPS), Video(REAL, FPS), Run())
    for row in found.scores.rows:
        assert abs(row.value) < 0.1 and abs(row.real) < 0.1 and row.broken > row.high


def test_words_are_right_on_the_worlds_own_clips_and_wrong_on_others():
    batch, run = world.world_batch(12, height=48, width=48, prompts=world.world_prompts()), Run()
    assert list(batch.captions) == list(world.world_prompts()) == list(batch.clips.captions)
    found = judge_content.caption_scores(batch.video, batch.clips, run)
    assert [(row.name, row.value) for row in found.scores.rows] == [
        (name, 1.0) for name in ("colour", "shape", "motion", "all")
    ]
    assert found.scores.rows[-1].broken == pytest.approx(1 / 120) and run.metrics["words_all"] == 1.0
    backwards = Video(batch.video.frames.flip(1), FPS)
    assert judge_content.caption_scores(backwards, batch.clips, Run()).scores.rows[2].value == 0


def test_changed_prompts_ask_for_another_colour_and_the_same_motion():
    batch = world.world_batch(12, 5, 16, 16, prompts=world.world_prompts())
    for before, after in zip(batch.clips.captions, world.change_prompts(batch.clips).captions, strict=True):
        (_, colour, *rest), (_, other, *same) = before.split(), after.split()
        assert colour != other and rest == same
    assert world.change_prompts(batch.clips, "shape").captions[0].split()[2] != batch.clips.captions[0].split()[2]
    with pytest.raises(ValueError, match="by = 3 leaves every shape"):
        world.change_prompts(batch.clips, "shape", by=3)


def test_an_edit_of_the_world_itself_has_all_the_area_and_none_has_none():
    batch = world.world_batch(8, height=48, width=48, prompts=world.world_prompts())
    asked = world.change_prompts(batch.clips)
    scenes = sample_scenes(
        1_000_000,
        range(8),
        17,
        FPS,
        48,
        48,
        given={
            **batch.clips.labels,
            **asked.said,
            **{name: batch.clips.labels[name] for name in ("size", "background")},
        },
    )
    edited = Video(render(scenes, 17, 48, 48, FPS), FPS)
    levels, run = sweep.sweep([0.5, 0.9]), Run()
    found = judge_content.edit_scores(batch.video, Stream.of([batch.video, edited]), levels, asked, run)
    assert [row.value for row in found.scores.rows] == [1, 0, pytest.approx(1, abs=0.05), 1, pytest.approx(1, abs=0.05)]
    assert run.metrics == {"edit_area": found.area}
    nothing = judge_content.edit_scores(batch.video, Stream.of([batch.video] * 2), levels, asked, Run())
    assert nothing.area == 0
    row = found.scores.rows[-1]
    assert row.low <= row.value <= row.high <= 1


def test_long_videos_that_fade_are_told_from_those_that_stay():
    batch = world.world_batch(8, 33, 48, 48)
    stays = judge_content.drift_scores(batch.video, batch.clips, Run())
    assert (stays.colour, stays.right_first, stays.right_last) == (pytest.approx(0, abs=1e-3), 1, 1)
    faded = Video(spoil.fade(batch.video.frames, 0.9), FPS)
    runs_away = judge_content.drift_scores(faded, batch.clips, Run())
    assert runs_away.colour > 0.05 and runs_away.right_last < 0.5 < runs_away.right_first


@pytest.mark.parametrize(("height", "width"), [(48, 48), (48, 64)])
def test_objects_come_out_from_behind_a_wall_and_broken_ones_do_not(height, width):
    video = world.world_batch(16, height=height, width=width, path="wall").video.frames
    found = permanence(video)
    assert found.returns.all() and found.same.all()
    assert found.place_error.mean() < 0.03
    assert not permanence(spoil.freeze(video)).returns.any()
    assert not permanence(spoil.turn(video, 9)).returns.any()
    assert not permanence(spoil.switch_colour(video, 9)).same.any()
    assert permanence(spoil.wait(video, 9)).place_error.nanmean() > 0.06
    assert not permanence(world.world_batch(4, height=48, width=48).video.frames).returns.any()  # there is no wall


def test_walls_are_judged_beside_real_and_broken_ones():
    walls = world.world_batch(6, height=48, width=48, path="wall").video
    found = judge.permanence_scores(walls, Run(), walls)
    assert [row.value == row.real for row in found.scores.rows] == [True] * 3
    assert [row.broken for row in found.scores.rows[:2]] == [0, 0]


def test_a_size_is_read_or_refused():
    assert sweep.read_size("17x48x64") == (17, 48, 64)
    with pytest.raises(ValueError, match="like 17x64x96"):
        sweep.read_size("17x48")
