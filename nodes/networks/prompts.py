"""Reads what a prompt says of `world.py`'s scenes, in the words of `captions.py`, and adds what it leaves open.

The prompt is never written anew: words are put in where their place is clear, so what was not understood stays. It
knows no other English: without a thing of the world in it, a prompt is given back as it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from .captions import (
    BACKGROUND_WORDS,
    BEHIND,
    COLOUR_WORDS,
    MOVING,
    SHAPE_WORDS,
    SIZE_WORDS,
    TOWARDS,
    UNSAID_NOUNS,
    VERBS_THAT_SAY_IT,
)
from .world import ATTRIBUTES, MOTIONS, scene_seed

UNKNOWN = -1
"""What stands for an attribute that a prompt does not say, or says in a way that this world has not."""

OTHER_COLOURS = (
    "white", "black", "gray", "grey", "brown", "beige", "silver", "magenta", "teal", "maroon", "navy", "colourful",
    "colorful", "multicoloured", "multicolored", "rainbow",
)  # fmt: skip
OTHER_SIZES = ("small", "little", "tiny", "miniature", "giant", "gigantic", "enormous", "massive")
"""Said of an object, these are kept, and nothing is added beside them."""

_BEFORE_DIRECTION = re.compile(r"(?<![\w-])(?!(?:some)?thing\b|sized\b)\w+(?:s|ing|ed)(?:\s+(?:\w+ly|straight))*\s+\Z")
_PLACED = re.compile(r"\b(?:the|its|an?)\s+\Z")
_CLAUSE_END = re.compile(r"\s*(?:\Z|[,.;:!?]|(?:and|or|then|on|against|in|across|over|along|through|with|while)\b)")
_NEGATED = re.compile(r"\b(?:not|no|never|without)\s+(?:an?\s+|the\s+)?\Z")
_NEXT_WORD_IS_A_VERB = re.compile(r"(?:\s+(?:is|are|that|which|it|\w+ly)\b|\s*,)*\s+(?!is\b)[a-z]+(?:s|ing|ed)\b")
_DETERMINED = re.compile(r"\b(?:an?|the)\s+\Z")
_UNKNOWN_ADJECTIVES = re.compile(r"\b(?:an?|the) (?P<adjectives>(?:(?!(?:an?|the|of|and|with|in|on)\b)[\w-]+ ){1,3})\Z")
_ADVERBS = re.compile(r"(?:\s+\w+ly\b)+")
_PLACE = re.compile(r"\b(?:in|inside|into|at|on|over|under|above|through|near|beside|behind|across|against)\b")
_PICTURE = re.compile(r"\b(?:picture|image|photo|photograph|painting|drawing)\b")
_FILM = re.compile(r"\b(?:video|clip|film|movie|footage|animation)\s+of\b")
_LITTLE_WORDS = frozenset(
    re.findall(r"\w+", "a an the of is are that which it and with slowly quickly video clip film picture image")
)


def _plain(phrase: str) -> str:
    return re.sub(r"[\s-]+", " ", phrase.lower())


def _any_of(phrases: Sequence[str]) -> str:
    """A pattern of whole words for the longest of the phrases; a space and a hyphen are the same."""
    longest_first = sorted({_plain(phrase) for phrase in phrases}, key=len, reverse=True)
    return r"(?<![\w-])(?:" + "|".join(r"[\s-]+".join(map(re.escape, p.split())) for p in longest_first) + r")(?![\w-])"


def _meanings() -> dict[str, tuple[str, int]]:
    """What each phrase says: an attribute and its index, or a role in the sentence."""
    meanings: dict[str, tuple[str, int]] = {}
    for role, table in (("colour", COLOUR_WORDS), ("shape", SHAPE_WORDS), ("size", SIZE_WORDS), ("towards", TOWARDS)):
        meanings |= {_plain(word): (role, index) for index, words in enumerate(table) for word in words}
    meanings |= {
        _plain(word): ("motion", index)
        for index, verbs in enumerate(VERBS_THAT_SAY_IT)
        for forms in verbs
        for word in forms
    }
    meanings |= dict.fromkeys(BEHIND, ("wall", UNKNOWN))
    meanings |= {word: ("verb", UNKNOWN) for forms in MOVING for word in forms}
    meanings |= dict.fromkeys((*UNSAID_NOUNS, "something"), ("noun", UNKNOWN))
    meanings |= dict.fromkeys(OTHER_COLOURS, ("colour", UNKNOWN))
    meanings |= dict.fromkeys(OTHER_SIZES, ("size", UNKNOWN))
    return meanings


_MEANINGS = _meanings()
_PHRASE = re.compile(_any_of(list(_MEANINGS)))
_BACKGROUND_OF = {_plain(word): index for index, words in enumerate(BACKGROUND_WORDS) for word in words}
_GROUND = _any_of(list(_BACKGROUND_OF))
_BEFORE = r"(?:\b(?:on|against|in\s+front\s+of|over|with)\s+)"
_BACKGROUND = re.compile(
    rf"{_BEFORE}?(?:\b(?:an?|the)\s+)?(?P<ground>{_GROUND})\s+(?:background|backdrop)\b"
    rf"|{_BEFORE}(?P<bare>{_GROUND})(?=\s*(?:\Z|[,.;!?]))"
)
_OTHER_BACKGROUND = re.compile(rf"(?:{_BEFORE}(?:[\w-]+\s+){{0,4}}?)?\b(?:background|backdrop)\b")
_ARTICLE = re.compile(rf"\b([Aa])n?(?=\s+({_any_of([*_MEANINGS, *_BACKGROUND_OF])}))", re.IGNORECASE)


@dataclass(frozen=True)
class Span:
    """Words of a prompt that say something: which attribute (or role: noun, verb), its index, and where they stand."""

    role: str
    index: int
    start: int
    end: int


@dataclass(frozen=True)
class PromptReading:
    """What a prompt says.

    Attributes:
        text: the prompt.
        spans: what was understood of it, in order.
    """

    text: str
    spans: tuple[Span, ...]

    def of(self, *roles: str) -> list[Span]:
        """The spans that have one of these roles."""
        return [span for span in self.spans if span.role in roles]

    @cached_property
    def attributes(self) -> dict[str, int]:
        """The index of every attribute of `world.ATTRIBUTES`; -1 where it is open, unknown, or said in two ways."""
        return {name: indices.pop() if len(indices := self._indices(name)) == 1 else UNKNOWN for name in ATTRIBUTES}

    def _indices(self, name: str) -> set[int]:
        return {span.index for span in self.of(name)}

    @cached_property
    def nouns(self) -> list[Span]:
        """Where the object is named."""
        return self.of("shape", "noun")

    @cached_property
    def rest(self) -> str:
        """The words that were not understood, in their places, blanks elsewhere."""
        return _blanked(self.text.lower(), [(span.start, span.end) for span in self.spans])

    @cached_property
    def open(self) -> set[str]:
        """The attributes that something may be added for, without speaking against the prompt."""
        rest = [word for word in re.findall(r"[^\W_]+", self.rest) if word not in _LITTLE_WORDS]
        if not self.nouns and (rest or not self.spans):
            return set()  # it is about something else
        free = {name for name in ATTRIBUTES if not self.of(name)}
        if _PICTURE.search(self.rest) or (self.nouns and self._does_something_else()):
            free.discard("motion")
        if _PLACE.search(self.rest):
            free.discard("background")
        return free

    def _does_something_else(self) -> bool:
        return bool(_NEXT_WORD_IS_A_VERB.match(self.rest, self.nouns[0].end))


def _blanked(text: str, places: Sequence[tuple[int, int]]) -> str:
    for start, end in places:
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def read_prompt(text: str) -> PromptReading:
    """Read a prompt: the inverse of `captions.caption`, and forgiving of what that would not write.

    Args:
        text: any words.
    """
    lower = text.lower()
    spans = [
        Span("background", _BACKGROUND_OF[_plain(found["ground"] or found["bare"])], *found.span())
        for found in _BACKGROUND.finditer(lower)
    ]
    lower = _blanked(lower, [(span.start, span.end) for span in spans])
    spans += [Span("background", UNKNOWN, *found.span()) for found in _OTHER_BACKGROUND.finditer(lower)]
    lower = _blanked(lower, [(span.start, span.end) for span in spans])
    for found in _PHRASE.finditer(lower):
        role, index = _MEANINGS[_plain(found[0])]
        if role == "towards":
            if index < len(MOTIONS) and not _is_direction(lower, found):
                continue
            role = "motion"
        if index >= len(ATTRIBUTES.get(role, ())) or _NEGATED.search(_before(lower, found)):
            index = UNKNOWN  # from side to side; not red
        spans.append(Span(role, index, *found.span()))
    return PromptReading(text, tuple(sorted(spans, key=lambda span: span.start)))


def _before(text: str, found: re.Match[str]) -> str:
    """The few words before: a search for how they end takes time that grows with the square of their letters."""
    return text[max(0, found.start() - 60) : found.start()]


def _is_direction(text: str, found: re.Match[str]) -> bool:
    """Whether "left" is where something goes, and no place, no side, no "right triangle"."""
    before = _before(text, found)
    if "ward" in found[0] or _BEFORE_DIRECTION.search(before):
        return True
    is_bare = " " not in found[0] and not _PLACED.search(before)
    return is_bare and bool(_CLAUSE_END.match(text, found.end()))


def expand(text: str, seed: int, fill: Sequence[str] = tuple(ATTRIBUTES)) -> str:
    """The prompt with what it leaves open, in the order of long captions; what it says, it says afterwards.

    Args:
        text: the prompt.
        seed: of what is added; what is drawn for one attribute does not depend on what else is said.
        fill: attributes that may be added.
    """
    reading = read_prompt(" ".join(text.split()))
    words = _drawn_words(seed, reading.open & set(fill), moving=bool(reading.of("verb")))
    expanded = _edited(reading.text, _object_edits(reading, words) + _event_edits(reading, words))
    return _ARTICLE.sub(_with_its_sound, expanded) if words else expanded


def _drawn_words(seed: int, wanted: set[str], moving: bool) -> dict[str, str]:
    """A plain word for every attribute that is wanted; what moves does not stay still."""
    draws = torch.rand(len(ATTRIBUTES), generator=torch.Generator().manual_seed(scene_seed(seed, 0, stream=6))).tolist()
    words = {}
    for (name, names), draw in zip(ATTRIBUTES.items(), draws, strict=True):
        choices = names[1:] if name == "motion" and moving else names
        words[name] = choices[int(draw * len(choices))]
    return {name: word for name, word in words.items() if name in wanted}


Edit = tuple[int, int, str]
"""From where to where of a text, and what shall stand there; edits at one place follow each other."""


def _edited(text: str, edits: Sequence[Edit]) -> str:
    pieces, place = [], 0
    for start, end, words in sorted(edits, key=lambda edit: edit[0]):
        pieces += [text[place:start], words]
        place = end
    return "".join([*pieces, text[place:]])


def _with_its_sound(article: re.Match[str]) -> str:
    return article[1] + ("n" if article[2][0].lower() in "aeiou" else "")


def _object_edits(reading: PromptReading, words: Mapping[str, str]) -> list[Edit]:
    """Size, colour and shape, in this order."""
    size, colour, shape = (words.get(name, "") for name in ("size", "colour", "shape"))
    if not (size or colour or shape):
        return []
    adjectives = reading.of("size", "colour")
    if not reading.nouns and not adjectives:
        start = reading.spans[0].start
        return [(start, start, "".join(f"{word} " for word in ("a", size, colour, shape) if word))]
    if not reading.nouns:
        start = adjectives[0].start
        article = [] if _DETERMINED.search(reading.text[:start]) else [(start, start, "a ")]
        return article + _among(adjectives, start, size, colour, shape)
    noun = reading.nouns[0]
    if reading.text[noun.start : noun.end].lower() == "something" and all(a.start > noun.start for a in adjectives):
        article = [(noun.start, noun.end, "a")] if shape else []
        return article + _among(_directly_behind(noun, adjectives, reading.text), noun.end, size, colour, shape)
    first = min([span.start for span in adjectives if span.end <= noun.start], default=noun.start)
    if unknown := _UNKNOWN_ADJECTIVES.search(reading.rest, 0, first):
        first = unknown.start("adjectives")
    edits = [(first, first, f"{size} "), (noun.start, noun.start, f"{colour} "), (noun.start, noun.end, shape)]
    return [edit for edit in edits if edit[2].strip()]


def _among(adjectives: Sequence[Span], place: int, size: str, colour: str, shape: str) -> list[Edit]:
    """A size before the adjectives, colour and shape behind them; or all behind a place, where there are none."""
    first, last = (adjectives[0].start, adjectives[-1].end) if adjectives else (place, place)
    edits = [(first, first, f"{size} " if adjectives else f" {size}")] if size else []
    return edits + [(last, last, f" {word}") for word in (colour, shape) if word]


def _directly_behind(noun: Span, adjectives: Sequence[Span], text: str) -> list[Span]:
    """The adjectives that follow the noun, and each other, with nothing between."""
    chain: list[Span] = []
    for span in adjectives:
        if span.start > noun.start and not text[(chain or [noun])[-1].end : span.start].strip():
            chain.append(span)
    return chain


def _event_edits(reading: PromptReading, words: Mapping[str, str]) -> list[Edit]:
    """What it does, behind its verb or before the background, and where it is, at the end."""
    end = len(reading.text.rstrip(" .,;:!?"))
    edits: list[Edit] = []
    if "motion" in words:
        edits.append(_motion_edit(reading, words["motion"], end))
    if "background" in words:
        edits.append((end, end, f" on a {words['background']} background"))
    return edits


def _motion_edit(reading: PromptReading, motion: str, end: int) -> Edit:
    if verbs := reading.of("verb"):
        adverbs = _ADVERBS.match(reading.text, verbs[0].end)
        place = adverbs.end() if adverbs else verbs[0].end
        return (place, place, f" {motion}")
    finite, participle = ("stays", "staying") if motion == MOTIONS[0] else ("moves", "moving")
    event = f"{participle if _FILM.search(reading.text.lower()) else finite} {motion}"
    thing = max((span.end for span in reading.of("noun", "shape", "colour", "size")), default=0)
    for background in reading.of("background"):
        if background.start >= thing:
            return (background.start, background.start, f"{event} ")
    return (end, end, f" {event}")
