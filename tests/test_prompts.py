"""Prompts are read as captions say them, and made longer without saying anything else."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kineograph.nodes import prompts
from kineograph.nodes.networks import captions, world
from kineograph.nodes.networks.prompts import expand, read_prompt

COUNT = 300


def world_captions(style: captions.Style, frames: int, path: str, seed: int = 5) -> list[tuple[str, dict[str, int]]]:
    scenes = world.sample_scenes(seed, range(COUNT), frames, 8.0, 64, 64, hold_out=False, path=path)
    texts, said = captions.caption_scenes(scenes, seed, range(COUNT), style)
    return [(text, {name: int(said[name][i]) for name in said}) for i, text in enumerate(texts)]


KINDS = [
    *((style, 17, path) for style in ("plain", "short", "long") for path in world.PATHS),
    ("short", 1, "straight"),
    ("long", 1, "straight"),
]


@pytest.mark.parametrize(("style", "frames", "path"), KINDS)
def test_the_reader_is_the_inverse_of_the_captioner(style, frames, path) -> None:
    for text, said in world_captions(style, frames, path):
        reading = read_prompt(text)
        assert reading.attributes == said, text
        left = re.findall(r"\w+", reading.rest)
        assert set(left) <= {"a", "an", "the", "of", "video", "clip", "picture", "image", "slowly", "quickly"}, text


@pytest.mark.parametrize(("style", "frames", "path"), KINDS)
def test_an_expanded_caption_says_what_it_said_and_all_the_rest(style, frames, path) -> None:
    for number, (text, said) in enumerate(world_captions(style, frames, path)):
        longer = expand(text, seed=number)
        attributes = read_prompt(longer).attributes
        assert {name: index for name, index in said.items() if index >= 0}.items() <= attributes.items(), longer
        is_without = bool(re.search(r"\b(picture|image)\b|left and right|up and down|side to side", text))
        assert {name for name, index in attributes.items() if index < 0} == {"motion" for _ in range(is_without)}, text
        assert expand(longer, seed=number + 1) == longer
        assert expand(text, seed=number) == longer
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  |^ | $", longer), longer


VOCABULARY = sorted(
    {"a", "an", "the", "cat", "not", "no", "on", "in", "and", "to", "of", "glows", "shiny", "small", "white", ",", "."}
    | {"background", "is", "spinning", "something", "thing", "slowly", "picture", "video", "forest"}
    | {word for words in (*captions.COLOUR_WORDS, *captions.SHAPE_WORDS, *captions.SIZE_WORDS) for word in words}
    | {word for words in (*captions.TOWARDS, *captions.BACKGROUND_WORDS, *captions.MOVING) for word in words}
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(VOCABULARY), max_size=9).map(" ".join), st.integers(-(2**70), 2**70))
def test_whatever_the_words_nothing_said_is_lost_and_twice_is_once(text: str, seed: int) -> None:
    longer = expand(text, seed)
    assert expand(longer, seed) == longer
    before, after = read_prompt(text).attributes, read_prompt(longer).attributes
    assert all(after[name] == index for name, index in before.items() if index >= 0)
    assert words_kept(text, longer)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_without_fault_and_what_says_nothing_comes_back(text: str) -> None:
    if not read_prompt(text).spans:
        assert expand(text, 1) == " ".join(text.split())
    assert words_kept(text, expand(text, 1))


def words_kept(text: str, longer: str) -> bool:
    """Whether every word stands in the longer text, in order; but articles, and nouns that say nothing, may change."""
    free = {"a", "an", "something", *captions.UNSAID_NOUNS}
    rest = iter(re.findall(r"[^\W_]+", longer.lower()))
    return all(word in rest for word in re.findall(r"[^\W_]+", text.lower()) if word not in free)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("crimson ball drifting rightwards", {"colour": 0, "shape": 0, "motion": 2}),
        ("a ball rolls to the left", {"shape": 0, "motion": 1}),
        ("ball left", {"shape": 0, "motion": 1}),
        ("a right triangle", {"shape": 2}),
        ("a square on the left moves up", {"shape": 1, "motion": 3}),
        ("Grass Green Box on navy", {"colour": 3, "shape": 1, "background": 3}),
        ("a dark blue ball", {"colour": 5, "shape": 0}),
        ("a red circle and a blue square", {}),
        ("a ball that is not red", {"shape": 0}),
        ("a ball on a pink background", {"shape": 0}),
        ("moves left and right", {}),
    ],
)
def test_what_people_write(prompt: str, said: dict[str, int]) -> None:
    assert {name: index for name, index in read_prompt(prompt).attributes.items() if index >= 0} == said


@pytest.mark.parametrize(
    ("prompt", "longer"),
    [
        ("a cat on a sofa", "a cat on a sofa"),
        ("the sun sets over the sea", "the sun sets over the sea"),
        ("a shiny dot in a forest, slowly", r"a \w+ shiny \w+ dot in a forest, slowly \w+ \w+"),
        ("a small white tile bounces", r"a small white tile bounces on a \w+ background"),
        ("a ball moves slowly", r"a \w+ \w+ ball moves slowly (left|right|up|down) on a \w+ background"),
        ("something azure.", r"a \w+ azure \w+ \w+ \w+ on a \w+ background\."),
        ("moves right", r"an? \w+ \w+ \w+ moves right on a \w+ background"),
    ],
)
def test_what_is_not_understood_stays_and_is_not_contradicted(prompt: str, longer: str) -> None:
    for seed in range(8):
        assert re.fullmatch(longer, expand(prompt, seed)), expand(prompt, seed)


def test_seeds_draw_everything_and_an_attribute_does_not_depend_on_the_others() -> None:
    drawn = [read_prompt(expand("something", seed)).attributes for seed in range(120)]
    for name, names in world.ATTRIBUTES.items():
        assert {each[name] for each in drawn} == set(range(len(names)))
    for seed in range(20):
        assert read_prompt(expand("a red box", seed)).attributes["size"] == drawn[seed]["size"]
    assert expand("a ball", 3, ["background"]).startswith("a ball on a ")
    state = torch.get_rng_state()
    expand("a ball", 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_empty_prompt_is_a_sentence() -> None:
    for empty in ("", " \n"):
        with pytest.raises(ValueError, match="prompt is empty"):
            prompts.expand_prompt(empty)
