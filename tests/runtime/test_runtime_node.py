"""A signature is a schema: ports, bounds, help, and what is no schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node, node_type
from kineograph.graph_runtime.sockets import (
    FLOAT,
    INT,
    STR,
    Stream,
    misfit,
    shard,
    skip,
    socket,
    socket_type,
    stream_of,
)


@socket(family="clip")
class Clip:
    pass


class Parts(NamedTuple):
    head: Clip
    tail: list[int]


@node(version=3)
def cut(
    run: RunContext,
    clip: Clip,
    at: Annotated[int, Field(ge=0, le=9)],
    mode: Literal["soft", "hard"] = "soft",
    weight: float = 1,
    note: str | None = None,
) -> Parts:
    """Cut a clip in two.

    The second paragraph.

    Args:
        clip: what is
            cut.
        at, weight: where, and how much.

    Raises:
        ValueError: never.
    """
    return Parts(clip, [at])


KIND = node_type(cut)


def test_the_signature_is_the_schema():
    assert (KIND.id, KIND.run_parameter, KIND.several_outputs) == ("cut@3", "run", True)
    assert list(KIND.inputs) == ["clip", "at", "mode", "weight", "note"]
    assert {name: port.type.name for name, port in KIND.inputs.items()} == {
        "clip": "Clip",
        "at": "int",
        "mode": "str",
        "weight": "float",
        "note": "str",
    }
    assert [name for name, port in KIND.inputs.items() if port.required] == ["clip", "at"]
    assert {name: port.type.name for name, port in KIND.outputs.items()} == {"head": "Clip", "tail": "list[int]"}
    assert repr(KIND.inputs["weight"].default) == "1.0"


def test_the_docstring_is_the_help():
    assert KIND.doc == "Cut a clip in two.\n\nThe second paragraph.\n\nRaises:\n    ValueError: never."
    assert KIND.inputs["clip"].doc == "what is cut."
    assert KIND.inputs["at"].doc == KIND.inputs["weight"].doc == "where, and how much."


def test_a_node_stays_a_function():
    clip = Clip()
    assert cut(None, clip, 2) == (clip, [2])


def test_bounds_are_written_as_people_do():
    assert KIND.inputs["at"].bounds == ">= 0, <= 9"
    assert KIND.inputs["mode"].bounds == "one of soft, hard"
    assert KIND.bounded == {"at", "mode"}


@pytest.mark.parametrize(
    ("port", "value"),
    [("at", 10), ("at", -1), ("at", 1.0), ("at", True), ("at", "1"), ("at", 2**63),
     pytest.param("at", 10**5000, id="huge"), ("mode", "loud"),
     ("weight", float("nan")), ("weight", float("inf")), ("weight", "1"), ("clip", 1), ("note", 1)],
)  # fmt: skip
def test_a_wrong_literal_is_refused(port, value):
    with pytest.raises(ValueError, match=r"."):
        KIND.inputs[port].literal(value)


def test_the_sentence_says_what_is_needed():
    with pytest.raises(ValueError, match=r"^12 is not an int >= 0 and <= 9$"):
        KIND.inputs["at"].literal(12)


def test_right_literals_are_taken():
    assert repr(KIND.inputs["weight"].literal(2)) == "2.0"
    assert KIND.inputs["note"].literal(None) is None
    assert KIND.inputs["mode"].literal("hard") == "hard"


def one(x: int) -> int: ...
def star(*numbers: int) -> int: ...
def bare(x) -> int: ...
def strange(x: dict) -> int: ...
def returns_strange() -> dict: ...
def default_of_a_socket(x: Clip = Clip()) -> int: ...  # noqa: B008


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (star, r"\*numbers cannot be a port"),
        (bare, "x needs an annotation"),
        (strange, "x: .*dict.* is no socket"),
        (returns_strange, "return: .*dict.* is no socket"),
        (default_of_a_socket, "x: the default of a Clip can only be None"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place(function, text):
    with pytest.raises(TypeError, match=f"Node {function.__name__}: {text}"):
        node(function)


@pytest.mark.parametrize("what", ["donates", "views", "differentiates"])
def test_only_inputs_can_be_declared(what):
    with pytest.raises(TypeError, match=f"{what} names y, which is no input"):
        node(**{what: ("y",)})(one)


def test_what_is_typed_in_cannot_be_overwritten():
    with pytest.raises(TypeError, match="donates names x, but what is typed in cannot be overwritten"):
        node(donates=("x",))(one)


def test_what_fits_what():
    assert misfit(INT, FLOAT) is None
    assert misfit(FLOAT, INT) == "it is a float, an int is needed"
    assert "run a loop over it" in misfit(stream_of(INT), FLOAT)
    assert misfit(stream_of(INT), stream_of(FLOAT)) is None
    assert misfit(socket_type(Any), STR) is None


@given(st.lists(st.integers(), max_size=20), st.integers(0, 25), st.integers(1, 5))
def test_streams_skip_and_shard(items, n, world):
    stream = Stream.of(items)
    assert list(skip(stream, n)) == items[n:]
    assert [list(shard(stream, rank, world)) for rank in range(world)] == [items[rank::world] for rank in range(world)]
    assert list(stream.map(str)) == list(map(str, items))
    with pytest.raises(IndexError):
        stream[len(items)]


def test_streams_refuse_nonsense():
    with pytest.raises(ValueError, match="-1 items"):
        Stream(-1, str)
    with pytest.raises(ValueError, match="rank = 2"):
        shard(Stream(4, str), 2, 2)
