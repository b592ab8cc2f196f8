"""Plans are found again for the very same run, and for no other."""

from __future__ import annotations

import pytest

from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.runtime import PLANS_KEPT


def test_the_same_run_has_the_same_plan_however_it_is_given(runtime, graph, spec):
    raw = graph({"a": spec("add@1", {"a": "$x"}, b=2)}, {"x": {"type": "int", "default": 1}}, y="a")
    plan = runtime.plan(raw)
    assert runtime.plan(raw) is plan
    assert runtime.plan(runtime.load(raw)) is plan
    assert runtime.plan(raw | {"ui": {"positions": {"a": [1, 2]}}, "about": "moved"}) is plan


@pytest.mark.parametrize("x", [2, True, 1.0, None, float("nan"), [object()]])
def test_other_inputs_are_checked_anew(runtime, graph, spec, x):
    raw = graph({"a": spec("add@1", {"a": "$x"})}, {"x": {"type": "int", "default": 1}}, y="a")
    plan = runtime.plan(raw)
    if repr(x) == "2":
        assert runtime.plan(raw, {"x": x}) is not plan
    else:
        with pytest.raises(InvalidWorkflow):
            runtime.plan(raw, {"x": x})


def test_a_workflow_that_was_changed_in_place_is_another(runtime, graph, spec):
    workflow = runtime.load(graph({"a": spec("add@1", a=1)}, y="a"))
    assert runtime.run(workflow).outputs == {"y": 1}
    workflow.nodes["a"].params["a"] = 5
    assert runtime.run(workflow).outputs == {"y": 5}


def test_what_no_json_holds_is_not_taken_for_what_it_looks_like(runtime, graph, spec):
    runtime.plan(graph({"t": spec("shout@1", text="x")}, y="t"))
    for text in (b"x", float("nan"), None, object()):
        with pytest.raises(InvalidWorkflow):
            runtime.plan(graph({"t": spec("shout@1", text=text)}, y="t"))


def test_other_outputs_have_another_plan(runtime, graph, spec):
    raw = graph({"a": spec("add@1", a=1), "b": spec("add@1", a=2)}, y="a", z="b")
    assert len(runtime.plan(raw).steps) == 2
    assert len(runtime.plan(raw, outputs=["y"]).steps) == 1
    assert len(runtime.plan(raw, outputs=iter(["y"])).steps) == 1


def test_files_are_looked_at_every_time_also_those_in_a_body(runtime, graph, spec, loop, tmp_path):
    file = tmp_path / "a.txt"
    body = {"r": spec("read@1", path=str(file))}
    raw = graph({"n": spec("count@1", n=1), "l": loop("n", body, {"r": "r"}, collect=["r"])}, y="l")
    for text in ("one", "two"):
        file.write_text(text)
        assert list(runtime.run(raw).outputs["y"]) == [text]
    file.unlink()
    with pytest.raises(InvalidWorkflow, match=r"l/r: No such file or directory"):
        runtime.run(raw)


def test_few_plans_are_kept(runtime, graph, spec):
    for x in range(3 * PLANS_KEPT):
        runtime.plan(graph({"a": spec("add@1", a=x)}, y="a"))
    assert len(runtime._plans) == PLANS_KEPT
