"""What somebody meets who writes a node: files in keys, wrong results, changed inputs, said of the node at fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import pytest
import torch

from kineograph.graph_runtime.errors import InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.node import node, node_type
from kineograph.graph_runtime.paths import input_file, open_input
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.runtime import Runtime
from kineograph.graph_runtime.sockets import Stream, socket


@socket(family="clip")
@dataclass
class Clip:
    """Frames."""

    frames: torch.Tensor


Text = Annotated[str, input_file(".txt")]


def running(*functions) -> Runtime:
    registry = Registry()
    for function in functions:
        registry.add(node_type(function))
    return Runtime(registry)


@node
def words(path: Text, more: list[Text] | None = None, title: str = "") -> int:
    """How many words files have."""
    total = 0
    for each in (path, *(more or [])):
        with open_input(each) as file:
            total += len(file.read().split())
    return total


def test_a_node_that_names_files_runs_again_when_one_changes(tmp_path, graph, spec):
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("a b")
    other.write_text("c")
    runtime = running(words)
    workflow = graph({"n": spec("words@1", path=str(one), more=[str(other)], title="no file")}, n="n")
    assert [runtime.run(workflow).ran for _ in range(2)] == [1, 0]
    one.write_text("b c d")
    assert (result := runtime.run(workflow)).outputs["n"] == 4 and result.ran == 1
    other.write_text("e f g")
    assert runtime.run(workflow).outputs["n"] == 6
    one.unlink()
    with pytest.raises(InvalidWorkflow, match="is not there"):
        runtime.run(workflow)


def test_the_name_of_a_file_must_be_known_before_the_run(graph, spec):
    @node
    def name() -> str:
        """A path."""
        return "one.txt"

    workflow = graph({"name": spec("name@1"), "n": spec("words@1", {"path": "name"})}, n="n")
    (problem,) = running(words, name).problems(workflow)
    assert str(problem) == "n.path: It names a file, so its value must be known before the run. Type it in."


class Two(NamedTuple):
    clip: Clip
    number: float


def failure(runtime, workflow) -> str:
    with pytest.raises(NodeFailed) as failed:
        runtime.run(workflow)
    return failed.value.args[0]


@pytest.mark.parametrize(
    ("gives", "sentence"),
    [
        ("tensor", "made (maker@1) failed: it returned a Tensor, and it declares a Clip."),
        ("none", "made (maker@1) failed: it returned None, and it declares a Clip."),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_wrong_result_is_said_of_the_node_that_gave_it(gives, sentence, is_async, graph, spec):
    wrong = torch.zeros(1) if gives == "tensor" else None

    if is_async:

        @node
        async def maker() -> Clip:
            """A clip."""
            return wrong
    else:

        @node
        def maker() -> Clip:
            """A clip."""
            return wrong

    assert failure(running(maker), graph({"made": spec("maker@1")}, made="made")) == sentence


@pytest.mark.parametrize(
    ("gives", "sentence"),
    [
        ((Clip(torch.zeros(1)),), "it returned 1 value, and declares 2 outputs: clip, number."),
        (3, "it returned an int, and declares 2 outputs: clip, number."),
        ((Clip(torch.zeros(1)), "4"), "its output number is a str, and it declares a float."),
        ((Clip(torch.zeros(1)), 4), ""),
    ],
)
def test_each_of_several_results_is_what_it_says(gives, sentence, graph, spec):
    @node
    def maker() -> Two:
        """Two."""
        return gives

    workflow = graph({"made": spec("maker@1")}, made="made.number")
    if sentence:
        assert failure(running(maker), workflow) == f"made (maker@1) failed: {sentence}"
    else:
        assert running(maker).run(workflow).outputs["made"] == 4


def test_what_may_be_left_out_may_be_none_and_a_stream_is_no_list(graph, spec):
    @node
    def perhaps() -> Clip | None:
        """None."""

    @node
    def amounts() -> Stream[float]:
        """No stream."""
        return [0.5]

    nodes = {"a": spec("perhaps@1"), "b": spec("amounts@1")}
    assert running(perhaps, amounts).run(graph(nodes, a="a")).outputs["a"] is None
    assert failure(running(perhaps, amounts), graph(nodes, b="b")).endswith(
        "it returned a list, and it declares a Stream[float]; Stream.of(values) makes one."
    )


@node
def clip(side: int = 2) -> Clip:
    """A clip of ones."""
    return Clip(torch.ones(side))


def _halve(clip: Clip) -> Clip:
    """Half of it, in place."""
    clip.frames.mul_(0.5)
    return clip


def test_a_node_that_changes_its_input_is_named_and_nothing_keeps_what_it_changed(graph, spec):
    halve = node(_halve)
    nodes = {"made": spec("clip@1"), "half": spec("_halve@1", {"clip": "made"})}
    workflow = graph(nodes, half="half")
    runtime = running(clip, halve)
    said = failure(runtime, workflow)
    assert said.startswith("half (_halve@1) failed: it changed its input clip in place")
    assert ".clone()" in said and 'donates=("clip",)' in said
    assert runtime.run(graph(nodes, made="made")).outputs["made"].frames.tolist() == [1, 1]
    donating = node(donates=("clip",))(_halve)
    assert running(clip, donating).run(workflow).outputs["half"].frames.tolist() == [0.5, 0.5]
