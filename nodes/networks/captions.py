"""Sentences about scenes of `world.py`, with synonyms and omissions; knows no pixels and no text encoder.

Every caption comes with what it said: an index per attribute, or -1 where it left the attribute out. Earlier words of a
list are commoner, the first being the plain name. Speeds are named ("slowly") only where true, and are no attribute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from .world import ATTRIBUTES, COLOURS, COMBINATIONS, MOTIONS, SHAPES, Scenes, is_held_out, scene_seed, uniform_draws

T = TypeVar("T")
Style = Literal["plain", "short", "long", "any"]
"""plain: "a red circle moves right", always; short and long: synonyms and omissions; any: half short, half long."""

COLOUR_WORDS = (
    ("red", "crimson", "scarlet", "ruby"),
    ("orange", "tangerine", "amber"),
    ("yellow", "lemon", "golden"),
    ("green", "emerald", "grass-green"),
    ("cyan", "turquoise", "aqua"),
    ("blue", "azure", "cobalt", "sapphire"),
    ("purple", "violet", "plum"),
    ("pink", "rose", "rosy"),
)
SHAPE_WORDS = (
    ("circle", "disc", "ball", "disk", "round shape", "dot"),
    ("square", "box", "block", "square shape", "tile"),
    ("triangle", "triangular shape", "wedge", "pyramid"),
)
SIZE_WORDS = (("medium", "medium-sized", "mid-sized"), ("large", "big", "huge"))
BACKGROUND_WORDS = (
    ("black", "pitch-black", "jet-black"),
    ("white", "snow-white", "plain white"),
    ("gray", "grey", "plain gray"),
    ("navy", "dark blue", "navy-blue"),
)
UNSAID_NOUNS = ("object", "thing", "shape")

MOVING = (
    ("moves", "moving"),
    ("slides", "sliding"),
    ("drifts", "drifting"),
    ("travels", "travelling"),
    ("glides", "gliding"),
    ("goes", "going"),
    ("heads", "heading"),
)
TOWARDS: tuple[tuple[str, ...], ...] = (
    (),
    ("left", "to the left", "leftwards", "leftward", "towards the left"),
    ("right", "to the right", "rightwards", "rightward", "towards the right"),
    ("up", "upwards", "upward", "towards the top"),
    ("down", "downwards", "downward", "towards the bottom"),
    ("left and right", "from side to side", "left and right again and again"),
    ("up and down", "up and down again and again"),
)
"""Of each motion, and behind them of loops across and of loops up and down."""
VERBS_THAT_SAY_IT = (
    (
        ("stays still", "staying still"),
        ("does not move", "not moving"),
        ("stands still", "standing still"),
        ("rests", "resting"),
        ("stays in place", "staying in place"),
        ("is motionless", "being motionless"),
    ),
    (),
    (),
    (("rises", "rising"), ("climbs", "climbing"), ("ascends", "ascending")),
    (("falls", "falling"), ("sinks", "sinking"), ("drops", "dropping"), ("descends", "descending")),
    (),
    (),
)
ACROSS, UP_AND_DOWN = len(MOTIONS), len(MOTIONS) + 1
"""Loops among the motions here; the world has no name for them, so what a caption says of their motion is -1."""
BEHIND = ("behind a wall", "behind a brown wall", "and passes behind a wall")
SLOW, QUICK = 0.195, 0.225
"""Short sides per second: below the first a caption may say "slowly", above the second "quickly"."""
SAY = {
    "short": {"colour": 0.92, "shape": 0.92, "motion": 0.88, "size": 0.1, "background": 0.1},
    "long": {"colour": 0.95, "shape": 0.95, "motion": 0.93, "size": 0.8, "background": 0.85},
}
"""How often each style says each attribute."""
_DRAWS = 24


@dataclass(frozen=True)
class Caption:
    """A sentence and, for each attribute, the index that it said or -1."""

    text: str
    said: dict[str, int]


@dataclass(frozen=True)
class Prompt:
    """A plain prompt of the evaluation grid; `held_out`: training never shows this combination."""

    text: str
    colour: int
    shape: int
    motion: int
    held_out: bool


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def plain_text(colour: int, shape: int, motion: int) -> str:
    """The plainest sentence: "a red circle moves right", "a red circle stays still", "a red circle" (motion -1)."""
    if colour < 0 or shape < 0:
        raise ValueError(f"a plain prompt names colour and shape, given colour = {colour} and shape = {shape}")
    thing = _article(f"{COLOURS[colour]} {SHAPES[shape]}")
    if motion < 0:
        return thing
    return f"{thing} moves {TOWARDS[motion][0]}" if motion else f"{thing} stays still"


GRID = tuple(Prompt(plain_text(c, s, m), c, s, m, is_held_out(c, s, m)) for c, s, m in COMBINATIONS if m > 0)
"""All 96 prompts "a {colour} {shape} moves {direction}"."""
HELD_OUT = tuple(prompt for prompt in GRID if prompt.held_out)
"""The 12 prompts of `GRID` whose combination `sample_scenes(..., hold_out=True)` never generates."""


def prompt_labels(prompts: Sequence[Prompt]) -> dict[str, Tensor]:
    """What `oracle.score` wants for these prompts: colour, shape and motion, each (B,) long."""
    return {name: torch.tensor([getattr(p, name) for p in prompts]) for name in ("colour", "shape", "motion")}


def _pick(options: Sequence[T], draw: float) -> T:
    return options[int(len(options) * draw * draw)]  # squared: the first of 4 words in half of the cases


def _said(present: Mapping[str, int], style: str, draws: Iterator[float]) -> dict[str, int]:
    keep = {name: next(draws) < SAY[style][name] for name in ATTRIBUTES}
    if not (keep["colour"] or keep["shape"] or (keep["motion"] and present["motion"] >= 0)):
        keep["colour"] = True
    return {name: present[name] if keep[name] else -1 for name in ATTRIBUTES}


def _noun_phrase(said: Mapping[str, int], draws: Iterator[float]) -> str:
    size_draw, colour_draw, noun_draw, article_draw, something_draw = (next(draws) for _ in range(5))
    size = _pick(SIZE_WORDS[said["size"]], size_draw) if said["size"] >= 0 else ""
    colour = _pick(COLOUR_WORDS[said["colour"]], colour_draw) if said["colour"] >= 0 else ""
    if said["shape"] < 0 and something_draw < 0.5:
        return " ".join(filter(None, ("something", size, colour)))
    noun = _pick(UNSAID_NOUNS if said["shape"] < 0 else SHAPE_WORDS[said["shape"]], noun_draw)
    words = " ".join(filter(None, (size, colour, noun)))
    if article_draw < 0.8:
        return _article(words)
    return f"the {words}" if article_draw < 0.9 else words


def _verb_phrase(motion: int, speed: float, style: str, participle: bool, draws: Iterator[float]) -> str:
    idiom_draw, verb_draw, towards_draw, speed_draw = (next(draws) for _ in range(4))
    if motion < 0:
        return ""
    idioms = VERBS_THAT_SAY_IT[motion]
    idiomatic = bool(idioms) and (not TOWARDS[motion] or idiom_draw < 0.3)
    verb = _pick(idioms if idiomatic else MOVING, verb_draw)[int(participle)]
    adverb = ""
    if motion > 0 and style == "long" and speed_draw < 0.5:
        adverb = "slowly" if speed < SLOW else "quickly" if speed > QUICK else ""
    towards = "" if idiomatic else _pick(TOWARDS[motion], towards_draw)
    return " ".join(filter(None, (verb, adverb, towards)))


def _sentence(
    said: Mapping[str, int], is_image: bool, speed: float, style: str, draws: Iterator[float], wall: bool
) -> str:
    prefix_draw, place_draw, background_draw, order_draw, participle_draw = (next(draws) for _ in range(5))
    prefix = ""
    if style == "long" and prefix_draw < 0.25:
        prefix = _pick(("a picture of", "an image of") if is_image else ("a video of", "a clip of"), prefix_draw * 4)
    participle = bool(prefix) or participle_draw < 0.2
    thing = " ".join(filter(None, (prefix, _noun_phrase(said, draws))))
    event = " ".join(filter(None, (thing, _verb_phrase(said["motion"], speed, style, participle, draws))))
    if wall:
        event = f"{event} {BEHIND[0 if participle or said['motion'] < 0 else int(place_draw * len(BEHIND))]}"
    if said["background"] < 0:
        return event
    background = _pick(BACKGROUND_WORDS[said["background"]], background_draw)
    place = _pick(("on {} background", "against {} background", "in front of {} background"), place_draw)
    where = place.format(_article(background))
    return f"{where}, {event}" if order_draw < 0.15 and not prefix else f"{event} {where}"


def caption(attributes: Mapping[str, int], style: Style, seed: int, speed: float = 0.0) -> Caption:
    """One sentence about one scene.

    Args:
        attributes: index of every attribute in `world.ATTRIBUTES`, -1 where unknown, of which nothing is said;
            motion -1 is an image.
        style: see `Style`.
        seed: same seed, same sentence.
        speed: short sides per second, for the adverbs of long captions.

    Raises:
        ValueError: for a style that is none, and for the plain style where colour or shape is unknown.
    """
    return _caption(attributes, style, _draws(seed), speed)


def tell(said: Mapping[str, int], style: Literal["short", "long"], seed: int, speed: float, is_image: bool) -> str:
    """All of what is given and nothing else, in one sentence with synonyms.

    Args:
        said: index of every attribute in `world.ATTRIBUTES`, -1 for what is not said.
        style: long may begin with "a video of" and say how fast.
        seed: same seed, same sentence.
        speed: short sides per second, for the adverbs of long sentences.
        is_image: whether it is a picture that is spoken of.
    """
    return _sentence(said, is_image, speed, style, _draws(seed), wall=False)


def _draws(seed: int) -> Iterator[float]:
    return iter(torch.rand(_DRAWS, generator=torch.Generator().manual_seed(scene_seed(seed, 0, 2))).tolist())


def _caption(
    attributes: Mapping[str, int], style: Style, draws: Iterator[float], speed: float, wall: bool = False
) -> Caption:
    if style not in ("plain", "short", "long", "any"):
        raise ValueError(f"style = '{style}' is none of plain, short, long, any")
    style_draw = next(draws)
    if style == "plain":
        said = {name: attributes[name] if name in ("colour", "shape", "motion") else -1 for name in ATTRIBUTES}
        text = plain_text(said["colour"], said["shape"], said["motion"])
        return Caption(f"{text} {BEHIND[0]}" if wall else text, said)
    if style == "any":
        style = "short" if style_draw < 0.5 else "long"
    said = _said(attributes, style, draws)
    return Caption(_sentence(said, attributes["motion"] < 0, speed, style, draws, wall), said)


def caption_scenes(
    scenes: Scenes, seed: int, indices: Sequence[int], style: Style = "any"
) -> tuple[list[str], dict[str, Tensor]]:
    """A caption for each scene; caption i depends on (seed, indices[i], its scene) only.

    Args:
        scenes: B scenes.
        seed: seed of the captions; another one words the same scenes otherwise.
        indices: the places in the stream that the scenes were sampled for.
        style: see `Style`.

    Returns: B sentences, and per attribute what they said: (B,) long, -1 where left out.
    """
    across, up_and_down = (scenes.swing > 0).unbind(1)
    motion = scenes.motion.where(~across, ACROSS).where(~up_and_down, UP_AND_DOWN)
    columns = {name: index_B.tolist() for name, index_B in (scenes.labels() | {"motion": motion}).items()}
    speeds = scenes.velocity.norm(dim=1).tolist()
    walls = scenes.wall.isfinite().any(1).tolist()
    rows = uniform_draws(seed, indices, _DRAWS, stream=1).tolist()
    captions = [
        _caption({name: column[i] for name, column in columns.items()}, style, iter(row), speeds[i], walls[i])
        for i, row in enumerate(rows)
    ]
    said = {name: torch.tensor([c.said[name] for c in captions], dtype=torch.long) for name in ATTRIBUTES}
    said["motion"] = said["motion"].where(said["motion"] < ACROSS, -1)
    return [c.text for c in captions], said
