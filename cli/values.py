"""Values as they are typed on a command line: one for each input, or several to try. Runs nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kineograph.graph_runtime.errors import Problem

if TYPE_CHECKING:
    from kineograph.graph_runtime.workflow import InputSpec

MOST_DIGITS = 20
GIVE = "Give another: --set"
_COMMA = re.compile(r"(?<!\\),")
_RANGE = re.compile(r"([+-]?[0-9]+)\.\.([+-]?[0-9]+)(?:\.\.([+-]?[0-9]+))?")


def read_inputs(given: Sequence[str], specs: Mapping[str, InputSpec]) -> tuple[dict[str, Any], list[Problem]]:
    """What ``--set`` gives, each as the type its input declares, and what is wrong with it."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            problems.append(Problem("--set", f"{pair!r} is not NAME=VALUE.", "Quote a value that has spaces."))
            continue
        try:
            values[name] = typed(text, specs[name].type if name in specs else "str")
        except ValueError as error:
            problems.append(Problem(f"inputs.{name}", str(error)))
    return values, problems


def with_set(problem: Problem, specs: Mapping[str, InputSpec], given: Mapping[str, Any]) -> Problem:
    """The problem; where it is an input's default that does not do, with the --set that gives another value."""
    for name, spec in specs.items():
        names_path = isinstance(spec.default, str) and spec.default and repr(spec.default) in problem.message
        if name not in given and not problem.hint and (names_path or problem.message.startswith(f"${name} = ")):
            return replace(problem, hint=f"{GIVE} {name}=...")
    return problem


def typed(text: str, kind: str) -> Any:
    """The value that a text stands for.

    Args:
        text: as typed.
        kind: int, float, bool or str.

    Raises:
        ValueError: it stands for none.
    """
    shown = repr(text) if len(text) < 60 else f"{text[:57]!r}..."
    if kind == "int":
        if not re.fullmatch(r"[+-]?[0-9]+", text):
            raise ValueError(f"{shown} is not an int.")
        if len(text) > MOST_DIGITS or abs(int(text)) > 2**63:
            raise ValueError(f"{shown} is past 64 bits.")
        return int(text)
    if kind == "float":
        if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text) or math.isinf(float(text)):
            raise ValueError(f"{shown} is not a finite float.")
        return float(text)
    if kind == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{shown} is not a bool, write true or false.")
        return text.lower() == "true"
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError(f"{shown} is not UTF-8 text.")
    return text


def several(text: str, kind: str, most: int) -> list[Any]:
    r"""The values to try: ``2,4,6``, and for whole numbers also ``0..7`` or ``0..100..25``; ``\,`` is a comma.

    Args:
        text: as typed.
        kind: int, float, bool or str.
        most: values that may be meant.

    Raises:
        ValueError: it names none, one twice, or more than ``most``.
    """
    values: list[Any] = []
    for part in _COMMA.split(text):
        found = _range(part, most) if kind in ("int", "float") and ".." in part else None
        values += [typed(part.replace("\\,", ","), kind)] if found is None else [typed(str(at), kind) for at in found]
    twice = next((value for at, value in enumerate(values) if value in values[:at]), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is named twice.")
    return values


def _range(text: str, most: int) -> range:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no range: write whole numbers, like 0..7 or 0..100..25.")
    first, last, step = (typed(part, "int") for part in (found[1], found[2], found[3] or "1"))
    values = range(first, last + 1, step) if step > 0 else range(0)
    if not values:
        raise ValueError(f"The range {text} is empty: it goes upwards from its first number.")
    if len(values) > most:
        raise ValueError(f"The range {text} has {len(values):,} numbers, at most {most:,} can be tried.")
    return values
