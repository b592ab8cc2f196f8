"""What somebody meets who writes a node: files in keys, wrong results, changed inputs, said of the node at fault."""

from __future__ import annotations

from typing import Annotated

import pytest

from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.node import node, node_type
from kineograph.graph_runtime.paths import input_file, open_input
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.runtime import Runtime

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
