"""Muted: it and what needs it do not run. Bypassed: its first input of the same type passes through."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.events import LeftOut, NodeStarted
from kineograph.graph_runtime.runtime import Runtime


@pytest.fixture
def mute():
    return lambda spec: spec | {"mode": "mute"}


@pytest.fixture
def bypass():
    return lambda spec: spec | {"mode": "bypass"}


@pytest.fixture
def problems(runtime, graph):
    def found(nodes, inputs=None, definitions=None, **outputs):
        workflow = graph(nodes, inputs, **outputs) | {"definitions": definitions or {}}
        return [str(problem) for problem in runtime.problems(workflow)]

    return found


def test_what_needs_a_muted_node_is_left_out_with_a_sentence(runtime, graph, spec, mute, calls, tmp_path):
    nodes = {"a": spec("add@1", a=1), "b": mute(spec("add@1", {"a": "a"}, b=1)), "c": spec("add@1", {"a": "b"}, b=2)}
    nodes |= {"w": spec("write@1", {"x": "c"}), "v": spec("write@1", {"x": "a"}, path="v.txt")}
    events = []
    outcome = runtime.run(graph(nodes, y="c", z="a"), out=tmp_path, listen=events.append)
    assert outcome.outputs == {"z": 1}
    assert calls == ["add", "write"]
    assert [event for event in events if isinstance(event, LeftOut)] == [
        LeftOut("w", "it needs b, which is muted"),
        LeftOut("outputs.y", "it needs b, which is muted"),
    ]
    assert not (tmp_path / "x.txt").exists()


def test_what_is_muted_changes_no_key_of_the_rest(runtime, graph, spec, mute):
    nodes = {"a": spec("add@1", a=1), "b": spec("add@1", {"a": "a"}, b=1)}
    runtime.run(graph({"a": nodes["a"]}, z="a"))
    assert runtime.run(graph(nodes | {"b": mute(nodes["b"])}, y="b", z="a")).cached == 1


def test_nothing_left_to_run_is_a_problem(runtime, problems, graph, spec, mute):
    nodes = {"a": mute(spec("add@1", a=1)), "b": spec("add@1", {"a": "a"})}
    message = "outputs.y: Nothing is left to run: it needs a, which is muted."
    assert problems(nodes, y="b") == [message]
    with pytest.raises(InvalidWorkflow, match=r"y: It needs a, which is muted\."):
        runtime.plan(graph(nodes | {"c": spec("add@1")}, y="b", z="c"), outputs=["y"])
    with pytest.raises(InvalidWorkflow, match=r"a: a is muted\."):
        runtime.plan(graph(nodes | {"c": spec("add@1")}, y="b", z="c"), outputs=["a"])


def test_a_muted_node_may_be_incomplete_but_what_is_there_must_fit(problems, spec, mute):
    nodes = {
        "unknown": mute(spec("other/pack@1", {"a": "c"})),
        "half": mute(spec("scale@1", by=2)),
        "gone": mute(spec("read@1", path="/no/such/file")),
        "c": spec("add@1"),
    }
    assert problems(nodes, z="c", y="unknown", x="half") == []
    nodes["half"]["params"] = {"by": 20, "bi": 2}
    nodes["unknown"]["links"] = {"a": "d"}
    assert problems(nodes, z="c") == [
        "unknown.a: There is no node 'd' to link to. Known: c, gone, half, unknown.",
        "half.by: 20 is not a float >= 0 and <= 10.",
        "half.bi: scale@1 has no input 'bi'. Known: by, x.",
    ]


def test_a_mode_is_one_of_two(problems, runtime, graph, spec):
    with pytest.raises(InvalidWorkflow, match=r"a\.mode: Input should be 'mute' or 'bypass'"):
        runtime.load(graph({"a": spec("add@1") | {"mode": "never"}}, y="a"))


def test_muting_in_a_body(runtime, graph, spec, loop, mute, calls, tmp_path):
    body = {
        "s": spec("add@1", {"a": "$acc", "b": "$item"}),
        "shown": mute(spec("add@1", {"a": "s"})),
        "w": spec("write@1", {"x": "$by"}),
    }
    nodes = {"zero": spec("add@1"), "n": spec("count@1", n=4), "by": mute(spec("add@1", a=1))}
    more = {"carry": {"acc": "zero"}, "collect": ["shown"], "links": {"by": "by"}}
    nodes["l"] = loop("n", body, {"acc": "s", "shown": "shown"}, **more)
    nodes["t"] = spec("total@1", {"numbers": "l.shown"})
    events = []
    outcome = runtime.run(graph(nodes, acc="l.acc", t="t"), out=tmp_path, listen=events.append)
    assert (outcome.outputs, calls) == ({"acc": 6}, ["add"] * 5)
    assert [(event.path, event.reason) for event in events if isinstance(event, LeftOut)] == [
        ("l/w", "it needs by, which is muted"),
        ("outputs.t", "it needs l/shown, which is muted"),
    ]
    nodes["l"]["body"]["nodes"]["s"] = mute(body["s"])
    with pytest.raises(InvalidWorkflow, match=r"outputs\.acc: Nothing is left to run: it needs l/s, which is muted"):
        runtime.run(graph(nodes, acc="l.acc"), out=tmp_path)


def test_a_bypassed_node_passes_its_first_input_of_the_same_type_on(runtime, graph, spec, bypass):
    nodes = {"a": spec("add@1", a=1), "b": bypass(spec("add@1", {"b": "a"}, a=5)), "c": spec("add@1", {"a": "b"}, b=1)}
    assert runtime.run(graph(nodes, y="c")).outputs == {"y": 6}
    nodes["b"] = bypass(spec("add@1", {"b": "a"}))
    assert runtime.run(graph(nodes, y="c", z="b")).outputs == {"y": 2, "z": 1}
    plain = {"a": nodes["a"], "c": spec("add@1", {"a": "a"}, b=1)}
    assert runtime.run(graph(plain, y="c")).ran == 0


def test_a_bypassed_node_with_nothing_to_pass_on_is_refused_where_it_is_read(problems, spec, bypass):
    nodes = {
        "x": spec("add@1", a=3),
        "big": bypass(spec("above@1", {"x": "x"})),
        "d": bypass(spec("divmod10@1", {"x": "x"})),
    }
    nodes["y"] = {"type": "branch@1", "links": {"when": "big", "then": "d.high", "else": "x"}}
    (problem,) = problems(nodes, y="y")
    assert problem.startswith("y.when: big is bypassed, and nothing of type bool that is given to it can pass through.")
    assert problems({"x": nodes["x"], "w": bypass(spec("write@1", {"x": "x"}))}, y="x") == []


def test_loops_branches_and_definitions_can_be_bypassed(runtime, graph, spec, loop, bypass, problems):
    body = {"s": spec("add@1", {"a": "$acc"}, b=1)}
    nodes = {"one": spec("add@1", a=1), "n": spec("count@1", n=4), "big": spec("above@1", {"x": "one"}, limit=9)}
    nodes["l"] = bypass(loop("n", body, {"acc": "s", "s": "s"}, carry={"acc": "one"}, collect=["s"]))
    nodes["y"] = bypass({"type": "branch@1", "links": {"when": "big", "then": "l.acc", "else": "n2"}})
    nodes["n2"] = spec("add@1", {"a": "one"}, b=50)
    inner = {"inputs": {"x": {"type": "int"}}, "nodes": {"s": spec("add@1", {"a": "$x"}, b=9)}}
    definitions = {"nine@1": inner | {"outputs": {"y": {"type": "int", "link": "s"}}}}
    nodes["d"] = bypass(spec("#nine@1", {"x": "y"}))
    workflow = graph(nodes, y="d") | {"definitions": definitions}
    assert runtime.run(workflow).outputs == {"y": 1}
    (problem,) = problems(nodes, y="l.s")[1:]
    assert problem.startswith("outputs.y: l is bypassed, and nothing of type Stream[int]")


def test_a_muted_definition_and_a_muted_node_inside_one(runtime, graph, spec, mute):
    inner = {"a": spec("add@1", {"a": "$x"}, b=1), "b": mute(spec("add@1", {"a": "$x"}, b=2))}
    outputs = {name: {"type": "int", "link": name} for name in "ab"}
    definitions = {"two@1": {"inputs": {"x": {"type": "int"}}, "nodes": inner, "outputs": outputs}}
    nodes = {"m": spec("#two@1", x=1), "n": mute(spec("#two@1", x=2))}
    workflow = graph(nodes, a="m.a", b="m.b", c="n.a") | {"definitions": definitions}
    events = []
    assert runtime.run(workflow, listen=events.append).outputs == {"a": 2}
    assert [(event.path, event.reason) for event in events if isinstance(event, LeftOut)] == [
        ("outputs.b", "it needs m/b, which is muted"),
        ("outputs.c", "it needs n, which is muted"),
    ]


def test_only_chosen_nodes_and_their_effects(runtime, graph, spec, loop, calls, tmp_path):
    inner = {"s": spec("add@1", {"a": "$x"}, b=1), "w": spec("write@1", {"x": "s"}, path="in.txt")}
    outputs = {"y": {"type": "int", "link": "s"}}
    definitions = {"kept@1": {"inputs": {"x": {"type": "int"}}, "nodes": inner, "outputs": outputs}}
    nodes = {"a": spec("add@1", a=1), "d": spec("divmod10@1", {"x": "a"}), "k": spec("#kept@1", {"x": "a"})}
    nodes |= {"w": spec("write@1", {"x": "a"}), "n": spec("count@1", n=2)}
    nodes["l"] = loop("n", {"s": spec("add@1", {"a": "$item"})}, {"s": "s"}, collect=["s"])
    workflow = graph(nodes, y="a") | {"definitions": definitions}

    def run(*names):
        calls.clear()
        return runtime.run(workflow, outputs=names, out=tmp_path).outputs, calls.count("write")

    assert run("y") == ({"y": 1}, 0)
    assert run("d") == ({"d.low": 1, "d.high": 0}, 0)
    assert run("d.high", "w") == ({"d.high": 0}, 1)
    assert run("k") == ({"k": 2}, 1)
    assert run("k/s") == ({"k/s": 2}, 0)
    assert run("k/w") == ({}, 1)
    assert list(run("l")[0]["l"]) == [0, 1]
    found = [str(problem) for problem in _refused(runtime, workflow, ["l/s", "a/b", "k/t", "d.mid", "why"])]
    assert found == [
        "l/s: It is a part of the loop l and runs in every pass of it. Choose l.",
        "a/b: a has no nodes inside.",
        "k/t: The workflow has no such output or node. Known: s, w.",
        "d.mid: d has no output 'mid'. Known: high, low.",
        "why: The workflow has no such output or node. Known: a, d, k, l, n, w, y.",
    ]


def _refused(runtime, workflow, names):
    with pytest.raises(InvalidWorkflow) as refused:
        runtime.plan(workflow, outputs=names)
    return refused.value.problems


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_muted_nodes_never_run_and_bypassed_ones_are_their_input(registry, data):
    n = data.draw(st.integers(1, 10))
    nodes, values = {}, {}
    for at in range(n):
        links = {port: f"n{data.draw(st.integers(0, at - 1))}" for port in "ab" if at and data.draw(st.booleans())}
        mode = data.draw(st.sampled_from([None, None, None, "mute", "bypass"]))
        read = [values[link] for link in links.values()]
        if mode == "mute" or (None in read and mode is None):
            value = None
        elif mode == "bypass":
            value = values[links["a"]] if "a" in links else at
        else:
            value = sum(read) + (at if "a" not in links else 0)
        params = {} if "a" in links else {"a": at}
        nodes[f"n{at}"] = {"type": "add@1", "params": params, "links": links} | ({"mode": mode} if mode else {})
        values[f"n{at}"] = value
    workflow = {"format": 1, "nodes": nodes, "outputs": {name: name for name in nodes}}
    expected = {name: value for name, value in values.items() if value is not None}
    runtime, events = Runtime(registry), []
    if not expected:
        assert all("Nothing is left to run" in problem.message for problem in runtime.problems(workflow))
        return
    outcome = runtime.run(workflow, listen=events.append)
    assert outcome.outputs == expected
    started = {event.path for event in events if isinstance(event, NodeStarted)}
    assert not any(nodes[name].get("mode") for name in started)
    left_out = {event.path.removeprefix("outputs.") for event in events if isinstance(event, LeftOut)}
    assert left_out == set(nodes) - set(expected)
