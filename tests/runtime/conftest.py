"""Toy nodes on integers and strings, and a runtime over them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node, node_type
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.runtime import Runtime
from kineograph.graph_runtime.sockets import Stream, socket


@socket(family="box")
@dataclass
class Box:
    """A list that can be overwritten."""

    items: list[int] = field(default_factory=list)


class Pair(NamedTuple):
    low: int
    high: int


@node
def add(a: int = 0, b: int = 0) -> int:
    """The sum of two numbers.

    Args:
        a: the first.
        b: the second.
    """
    CALLS.append("add")
    return a + b


@node
def scale(x: float, by: Annotated[float, Field(ge=0, le=10)] = 1) -> float:
    """The product."""
    CALLS.append("scale")
    return x * by


@node
def divmod10(x: int) -> Pair:
    """The last digit and the rest."""
    return Pair(x % 10, x // 10)


@node
def shout(text: str, ending: Literal["!", "?"] = "!") -> str:
    """The text in capitals."""
    return text.upper() + ending


@node
def above(x: int, limit: int = 0) -> bool:
    """Whether x is above the limit."""
    return x > limit


@node
def count(n: Annotated[int, Field(ge=0)]) -> Stream[int]:
    """The numbers below n."""
    return Stream(n, lambda index: index)


@node
def total(numbers: Stream[int]) -> int:
    """The sum of a stream."""
    return sum(numbers)


@node
def box(x: int = 0) -> Box:
    """A new box with one number."""
    CALLS.append("box")
    return Box([x])


@node(donates=("box",))
def push(box: Box, x: int = 1) -> Box:
    """The box with one more number, overwritten."""
    box.items.append(x)
    return box


@node(views=("box",))
def peek(box: Box) -> Box:
    """The same box."""
    return box


@node
def size(box: Box) -> int:
    """How many numbers are in the box."""
    return len(box.items)


@node
def both(a: Box, b: Box) -> int:
    """How many numbers are in both."""
    return len(a.items) + len(b.items)


@node(donates=("box",))
def push_beside(box: Box, other: Box) -> Box:
    """The box with the other's numbers."""
    box.items.extend(list(other.items))
    return box


@node
def fail(x: int, how: str = "value") -> int:
    """Raise."""
    if how == "exit":
        raise SystemExit(3)
    if how == "ok":
        return x
    raise (ValueError if how == "value" else ZeroDivisionError)(f"x is {x}")


@node(effect=True)
def write(run: RunContext, x: int, path: str = "x.txt") -> None:
    """Write a number to a file."""
    CALLS.append("write")
    file = run.output_path(path)
    file.write_text(f"{x}\n{run.provenance}")
    run.wrote(file)


@node(fingerprint=lambda path: Path(path).read_text())
def read(path: str) -> str:
    """The text of a file."""
    return Path(path).read_text()


@node
def sleepy(run: RunContext, seconds: float = 0.01, x: int = 0) -> int:
    """x, later."""
    for at in range(100):
        run.progress(at, 100)
        time.sleep(seconds)
    return x


CALLS: list[str] = []
NUMBERS = (add, scale, divmod10, shout, above, count, total, fail, write, read, sleepy)
BOXES = (box, push, peek, size, both, push_beside)
NODES = (*NUMBERS, *BOXES)


@pytest.fixture
def calls() -> list[str]:
    """The nodes that ran, in order."""
    CALLS.clear()
    return CALLS


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    for function in NODES:
        registry.add(node_type(function))
    return registry


@pytest.fixture
def runtime(registry) -> Runtime:
    return Runtime(registry)


def _spec(type_id: str, links: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
    return {"type": type_id, "params": params, "links": links or {}}


@pytest.fixture
def spec():
    """``spec("add@1", {"a": "x"}, b=1)`` as JSON."""
    return _spec


@pytest.fixture
def graph():
    """``graph({name: spec}, y="name")`` is a workflow with the output y."""

    def make(nodes: dict[str, Any], inputs: dict[str, Any] | None = None, **outputs: str) -> dict[str, Any]:
        return {"format": 1, "inputs": inputs or {}, "nodes": nodes, "outputs": outputs}

    return make


@pytest.fixture
def loop():
    """A loop over a stream."""

    def make(each: str, nodes: dict[str, Any], outputs: dict[str, str], **more: Any) -> dict[str, Any]:
        return {"type": "loop@1", "each": each, "body": {"nodes": nodes, "outputs": outputs}, **more}

    return make
