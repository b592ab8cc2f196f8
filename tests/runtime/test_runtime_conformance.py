"""What people who come from another runtime take for granted, where no other test says it (docs/conformance.md)."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import torch

from kineograph.graph_runtime.errors import InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.events import NodeFailure, event_json
from kineograph.graph_runtime.node import node, node_type
from kineograph.graph_runtime.outline import LETTERS, outline
from kineograph.graph_runtime.sockets import Stream

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "conformance.md"
NUMBERS = count()


@node(fingerprint=lambda: str(next(NUMBERS)))
def new_each_time() -> int:
    """Another number whenever it is asked for."""
    return next(NUMBERS)


def test_an_empty_choice_of_outputs_is_an_error(runtime, graph, spec):
    with pytest.raises(InvalidWorkflow, match=r"outputs: No output is asked for\."):
        runtime.run(graph({"a": spec("add@1", a=1)}, y="a"), outputs=[])


def test_runs_a_b_a_compute_a_once(runtime, graph, spec, calls):
    first, second = (graph({"a": spec("add@1", a=a), "b": spec("add@1", {"a": "a"}, b=1)}, y="b") for a in (1, 2))
    assert [runtime.run(workflow).ran for workflow in (first, second, first)] == [2, 2, 0]
    assert len(calls) == 4


def test_a_node_that_says_it_is_always_new_always_runs_again_with_what_hangs_on_it(runtime, registry, graph, spec):
    registry.add(node_type(new_each_time))
    nodes = {"n": spec("new_each_time@1"), "a": spec("add@1", {"a": "n"}), "b": spec("add@1", b=5)}
    workflow = graph(nodes, a="a", b="b")
    first, again = runtime.run(workflow), runtime.run(workflow)
    assert first.outputs["a"] != again.outputs["a"]
    assert (again.ran, again.cached) == (2, 1)


def test_no_value_is_rounded_or_read_as_another_type(runtime, graph, spec):
    for wrong in (3.9, "3", True, None, [3], 1e999):
        (problem,) = runtime.problems(graph({"a": spec("add@1", a=wrong)}, y="a"))
        assert problem.place == "a.a"


def test_one_bad_output_among_good_ones_is_told_and_nothing_runs(runtime, graph, spec, calls):
    nodes = {"good": spec("add@1", a=1), "bad": spec("scale@1", by=11), "worse": spec("scale@1", {"x": "good.low"})}
    with pytest.raises(InvalidWorkflow) as invalid:
        runtime.run(graph(nodes, good="good", bad="bad", worse="worse"))
    assert {problem.place for problem in invalid.value.problems} >= {"bad.by", "worse.x"}
    assert calls == []


def test_a_failure_tells_what_the_node_was_given_and_the_next_run_works(runtime, graph, spec):
    events = []

    def workflow(how: str):
        return graph({"a": spec("add@1", a=3), "f": spec("fail@1", {"x": "a"}, how=how)}, y="f")

    with pytest.raises(NodeFailed) as failed:
        runtime.run(workflow("value"), listen=events.append)
    assert failed.value.inputs == {"x": "3", "how": "'value'"}
    assert events[-1] == NodeFailure("f", "fail@1", str(failed.value), failed.value.inputs)
    assert runtime.run(workflow("ok")).cached == 1


def test_events_have_a_constant_size_however_wide_or_deep_the_graph_is(runtime, graph, spec):
    nodes = {"n0": spec("add@1", a=1)} | {f"n{at}": spec("add@1", {"a": f"n{at - 1}"}, b=at) for at in range(1, 2500)}
    nodes |= {f"w{at}": spec("add@1", a=at, b=7) for at in range(2500)}
    events = []
    runtime.run(graph(nodes, **{name: name for name in nodes}), listen=events.append)
    lines = [json.dumps(event_json(event)) for event in events]
    assert max(map(len, lines)) < 300
    assert sum(map(len, lines)) < 2_000_000


@dataclass
class Crowd:
    names: list[str]
    frames: torch.Tensor


def test_values_in_a_few_words():
    assert outline(torch.zeros(1, 2)) == "float32 (1, 2)"
    assert outline(Crowd(["a"], torch.zeros(3, dtype=torch.bool))) == "Crowd(names=['a'], frames=bool (3,))"
    assert outline(Stream.of([1, 2])) == "a stream of 2"
    assert outline({1: 2}) == "dict"
    assert len(outline("x" * 10**6)) == LETTERS


def test_the_page_of_behaviours_names_tests_that_exist():
    there = {
        f"{path.relative_to(TESTS.parent)}::{item.name}"
        for path in TESTS.rglob("test_*.py")
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", PAGE.read_text(encoding="utf-8")))
    assert len(named) > 40
    assert named <= there, named - there
