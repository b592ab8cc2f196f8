"""The procedural world, its captions and its oracle agree; knows no model and no graph."""

from __future__ import annotations

import time
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kineograph.nodes.networks import captions, oracle, world

FPS = 8.0


def rendered(count: int, frames: int, height: int, width: int, seed: int = 3, hold_out: bool = False):
    scenes = world.sample_scenes(seed, range(count), frames, FPS, height, width, hold_out)
    return scenes, world.render(scenes, frames, height, width, FPS)


def blurred(video: Tensor, side: int) -> Tensor:
    frames = torch.nn.functional.pad(video.flatten(0, 1), (side // 2,) * 4, mode="replicate")
    return torch.nn.functional.avg_pool2d(frames, side, stride=1).view_as(video)


def test_a_scene_depends_on_seed_and_index_only():
    together = world.sample_scenes(7, range(40), 17, FPS, 64, 64)
    apart = world.sample_scenes(7, [31, 4, 17], 17, FPS, 64, 64)
    for field in fields(world.Scenes):
        assert torch.equal(getattr(together, field.name)[[31, 4, 17]], getattr(apart, field.name)), field.name
    video = world.render(together, 17, 64, 64, FPS)
    assert torch.equal(video[[31, 4, 17]], world.render(apart, 17, 64, 64, FPS))
    one = world.sample_scenes(7, [4], 17, FPS, 64, 64)
    assert torch.equal(video[4:5], world.render(one, 17, 64, 64, FPS))
    other = world.sample_scenes(8, range(40), 17, FPS, 64, 64)
    assert not torch.equal(together.centre_start, other.centre_start)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(-(2**40), 2**40),
    frames=st.integers(0, 12).map(lambda k: 1 + 4 * k),
    height=st.integers(16, 96),
    width=st.integers(16, 96),
    fps=st.floats(1, 60),
)
def test_the_object_stays_inside_at_a_physical_speed(seed, frames, height, width, fps):
    scenes = world.sample_scenes(seed, range(16), frames, fps, height, width)
    half = scenes.radius[:, None] * torch.tensor(world.HALF_EXTENT)[scenes.shape]
    track = world.centres(scenes, frames, fps)
    sides = torch.tensor([width, height]) / min(height, width)
    assert (track - half[:, None] >= world.MARGIN - 1e-4).all()
    assert (track + half[:, None] <= sides - world.MARGIN + 1e-4).all()
    speed, duration = scenes.velocity.norm(dim=1), (frames - 1) / fps
    assert (speed * duration <= world.TRAVEL[1] + 1e-4).all()
    if duration <= world.TRAVEL_SECONDS:
        assert ((speed == 0) | (speed >= world.TRAVEL[0] / world.TRAVEL_SECONDS - 1e-4)).all()


def test_frames_are_colours_on_a_plain_background():
    scenes, video = rendered(48, 5, 40, 56)
    assert video.shape == (48, 5, 3, 40, 56) and video.dtype == torch.float32
    assert video.min() >= 0 and video.max() <= 1
    ink = torch.tensor(world.COLOUR_RGB)[scenes.colour][:, None, :, None, None]
    paper = torch.tensor(world.BACKGROUND_RGB)[scenes.background][:, None, :, None, None]
    assert ((video - ink).abs().amax(2) < 1e-5).flatten(1).any(1).all()
    assert (video[..., :1, :1] - paper).abs().max() < 1e-6


def test_every_value_is_drawn_about_equally():
    scenes = world.sample_scenes(0, range(4000), 17, FPS, 64, 64)
    for name, index in scenes.labels().items():
        share = index.bincount(minlength=len(world.ATTRIBUTES[name])) / len(index)
        assert (share * len(world.ATTRIBUTES[name]) - 1).abs().max() < 0.2, name


def test_held_out_combinations_are_balanced_and_never_drawn():
    held = torch.tensor(world.HELD_OUT_COMBINATIONS)
    assert len(held) == 12
    assert held[:, 0].bincount(minlength=8).min() >= 1
    assert held[:, 1].bincount().tolist() == [4, 4, 4] and held[:, 2].bincount().tolist() == [0, 3, 3, 3, 3]

    def drawn(hold_out: bool) -> set[tuple[int, ...]]:
        s = world.sample_scenes(1, range(4000), 17, FPS, 64, 64, hold_out)
        return set(zip(s.colour.tolist(), s.shape.tolist(), s.motion.tolist(), strict=True))

    assert drawn(True) == set(world.COMBINATIONS) - set(world.HELD_OUT_COMBINATIONS)
    assert drawn(False) == set(world.COMBINATIONS)


def test_given_attributes_are_taken():
    labels = captions.prompt_labels(captions.GRID)
    scenes = world.sample_scenes(0, range(96), 17, FPS, 64, 64, given=labels)
    assert oracle.score(world.render(scenes, 17, 64, 64, FPS), labels, FPS)["all"] == 1.0
    with pytest.raises(ValueError, match="runs from 0 to 7"):
        world.sample_scenes(0, range(2), 17, FPS, 64, 64, given={"colour": torch.tensor(8)})
    with pytest.raises(ValueError, match="no attribute"):
        world.sample_scenes(0, range(2), 17, FPS, 64, 64, given={"weight": torch.tensor(0)})


def test_impossible_clips_are_refused_with_every_problem():
    with pytest.raises(ValueError, match=r"frames = 15 is neither 4k nor 1 \+ 4k; take 13.*8 x 64.*fps = 0"):
        world.sample_scenes(0, range(2), 15, 0, 8, 64)


def test_rendering_keeps_up_with_training():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rates = []
        for _ in range(3):
            start = time.perf_counter()
            rendered(32, 17, 64, 64)
            rates.append(32 / (time.perf_counter() - start))
    finally:
        torch.set_num_threads(threads)
    assert max(rates) > 100, f"{max(rates):.0f} clips/s"  # 1200 to 5100 measured on one core


def test_captions_depend_on_seed_and_index_only():
    scenes = world.sample_scenes(7, range(40), 17, FPS, 64, 64)
    texts, said = captions.caption_scenes(scenes, 5, range(40))
    chosen = torch.tensor([31, 4])
    few, few_said = captions.caption_scenes(scenes.take(chosen), 5, [31, 4])
    assert few == [texts[31], texts[4]]
    assert all(torch.equal(said[name][chosen], few_said[name]) for name in said)
    assert captions.caption_scenes(scenes, 6, range(40))[0] != texts


def says(text: str, name: str, index: int) -> bool:
    words = {
        "colour": captions.COLOUR_WORDS,
        "shape": captions.SHAPE_WORDS,
        "size": captions.SIZE_WORDS,
        "background": captions.BACKGROUND_WORDS,
    }
    if name == "motion":
        verbs = [form for verb in captions.VERBS_THAT_SAY_IT[index] for form in verb]
        return any(f" {phrase} " in f" {text} " for phrase in (*captions.TOWARDS[index], *verbs))
    options = [f"{word} background" for word in words[name][index]] if name == "background" else words[name][index]
    thing = text if name == "background" else "".join(text.split(" background")[:1]) + text.partition("background")[2]
    return any(f" {word} " in f" {thing.replace(',', ' ')} " for word in options)


@pytest.mark.parametrize("style", ["plain", "short", "long", "any"])
def test_captions_say_what_they_report(style):
    scenes = world.sample_scenes(2, range(600), 17, FPS, 64, 64)
    texts, said = captions.caption_scenes(scenes, 0, range(600), style)
    for name, truth in scenes.labels().items():
        assert ((said[name] == truth) | (said[name] == -1)).all()
        for text, index in zip(texts, said[name].tolist(), strict=True):
            assert index < 0 or says(text, name, index), (text, name, index)
    for name in ("shape", "motion"):  # what is not reported is not said either; colours may be a background's
        for text, index, truth in zip(texts, said[name].tolist(), scenes.labels()[name].tolist(), strict=True):
            assert index >= 0 or not says(text, name, truth), (text, name)
    if style != "plain":
        assert all((said[name] < 0).any() and (said[name] >= 0).any() for name in said)
        assert len(set(texts)) > 300


def test_images_have_no_motion_and_no_caption_says_one():
    scenes, video = rendered(60, 1, 64, 64)
    texts, said = captions.caption_scenes(scenes, 0, range(60))
    assert (scenes.motion == -1).all() and (said["motion"] == -1).all()
    assert not any("mov" in text or "still" in text for text in texts)
    reached = oracle.score(video, scenes.labels(), FPS)
    assert "motion" not in reached and reached["all"] >= 0.97


def test_single_captions_and_the_grid():
    attributes = {"colour": 1, "shape": 0, "motion": 2, "size": 1, "background": 0}
    assert captions.caption(attributes, "plain", 0).text == "an orange circle moves right"
    assert captions.caption(attributes, "long", 4) == captions.caption(attributes, "long", 4)
    with pytest.raises(ValueError, match="none of plain"):
        captions.caption(attributes, "loud", 0)  # pyright: ignore[reportArgumentType]
    assert len({prompt.text for prompt in captions.GRID}) == 96
    assert {(p.colour, p.shape, p.motion) for p in captions.HELD_OUT} == set(world.HELD_OUT_COMBINATIONS)


@pytest.mark.parametrize(
    ("frames", "height", "width", "least"),
    [(17, 64, 64, 0.99), (17, 48, 48, 0.97), (9, 64, 64, 0.97), (17, 48, 80, 0.97), (33, 64, 64, 0.97)],
)
def test_the_oracle_reads_what_was_rendered(frames, height, width, least):
    scenes, video = rendered(200, frames, height, width)
    reached = oracle.score(video, scenes.labels(), FPS)
    assert min(reached[name] for name in world.ATTRIBUTES) >= least, reached
    reading = oracle.read(video, FPS)
    assert (reading.velocity - scenes.velocity).abs().max() < 0.01
    assert reading.found.all() and reading.shape_iou.amax(1).min() > 0.9


def test_the_oracle_forgives_blur_and_noise():
    scenes, video = rendered(100, 17, 64, 64)
    noise = 0.05 * torch.randn(video.shape, generator=torch.Generator().manual_seed(0))
    for spoiled in (blurred(video, 5), (video + noise).clamp(0, 1)):
        assert oracle.score(spoiled, scenes.labels(), FPS)["all"] >= 0.97


def test_the_oracle_is_not_fooled():
    scenes, video = rendered(60, 17, 64, 64)
    moving = scenes.take(scenes.motion > 0)
    backwards = video[scenes.motion > 0].flip(1)
    assert oracle.score(backwards, moving.labels(), FPS)["motion"] == 0
    jump = torch.cat((video[:, :1].expand(-1, 9, -1, -1, -1), video[:, -1:].expand(-1, 8, -1, -1, -1)), 1)
    assert oracle.score(jump[scenes.motion > 0], moving.labels(), FPS)["motion"] == 0
    noise = torch.rand(video.shape, generator=torch.Generator().manual_seed(0))
    for nothing in (noise, torch.full_like(video, 0.5), blurred(blurred(noise, 15), 15) * 4 - 1.5, video * torch.nan):
        reached = oracle.score(nothing, scenes.labels(), FPS)
        assert reached["colour"] == reached["shape"] == reached["motion"] == 0
    two = torch.maximum(video, video.flip(-1, -2))
    assert oracle.score(two, scenes.labels(), FPS)["all"] < 0.2


def test_scoring_asks_for_labels_it_knows():
    scenes, video = rendered(4, 5, 32, 32)
    none = {"colour": torch.full((4,), -1), "shape": scenes.shape}
    assert set(oracle.score(video, none, FPS)) == {"shape", "all", "found", "shape_iou"}
    with pytest.raises(ValueError, match="weight"):
        oracle.score(video, {"weight": scenes.shape}, FPS)
    with pytest.raises(ValueError, match="no labels"):
        oracle.score(video, {}, FPS)
    with pytest.raises(ValueError, match=r"\(B, T, 3, H, W\)"):
        oracle.read(video[0], FPS)
