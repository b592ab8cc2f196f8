"""Running: cached values, loops, failures, cancelling, events, files."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kineograph.graph_runtime.errors import Cancelled, NodeFailed
from kineograph.graph_runtime.events import (
    FileWritten,
    NodeCached,
    NodeFailure,
    NodeFinished,
    NodeProgress,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from kineograph.graph_runtime.execute import Outcome
from kineograph.graph_runtime.outline import shorts
from kineograph.graph_runtime.runtime import Runtime


def test_a_second_run_runs_nothing(runtime, graph, spec, calls):
    workflow = graph({"a": spec("add@1", a=1, b=2), "b": spec("add@1", {"a": "a"}, b=3)}, y="b")
    assert runtime.run(workflow).outputs == {"y": 6}
    again = runtime.run(workflow)
    assert (again.outputs, again.ran, again.cached, len(calls)) == ({"y": 6}, 0, 1, 2)


def test_the_same_subgraph_twice_runs_once(runtime, graph, spec, calls):
    nodes = {f"a{side}": spec("add@1", a=1, b=2) for side in "xy"}
    nodes |= {f"b{side}": spec("add@1", {"a": f"a{side}"}, b=1) for side in "xy"}
    nodes["sum"] = spec("add@1", {"a": "bx", "b": "by"})
    assert runtime.run(graph(nodes, y="sum", z="by")).outputs == {"y": 8, "z": 4}
    assert len(calls) == 3


def test_a_changed_leaf_runs_only_what_hangs_on_it(runtime, graph, spec, calls):
    def workflow(leaf: int):
        nodes = {"left": spec("add@1", a=100), "right": spec("add@1", a=leaf)}
        nodes["left2"] = spec("add@1", {"a": "left"}, b=1)
        nodes["sum"] = spec("add@1", {"a": "left2", "b": "right"})
        return graph(nodes, y="sum")

    assert runtime.run(workflow(1)).outputs == {"y": 102}
    calls.clear()
    assert runtime.run(workflow(2)).outputs == {"y": 103}
    assert len(calls) == 2
    assert runtime.run(workflow(1)).ran == 0


def test_only_what_an_output_needs_runs(runtime, graph, spec, calls):
    workflow = graph({"a": spec("add@1", a=1), "b": spec("add@1", a=2), "lost": spec("add@1", a=3)}, y="a", z="b")
    assert runtime.run(workflow, outputs=["z"]).outputs == {"z": 2}
    assert len(calls) == 1


def test_an_effect_runs_every_time_and_is_never_cached(runtime, graph, spec, calls, tmp_path):
    workflow = graph({"a": spec("add@1", a=4), "w": spec("write@1", {"x": "a"}, path="deep/x.txt")})
    runtime.run(workflow, out=tmp_path)
    runtime.run(workflow, out=tmp_path)
    assert calls == ["add", "write", "write"]
    text = (tmp_path / "deep/x.txt").read_text().splitlines()
    assert text[0] == "4"
    assert json.loads(text[1])["nodes"]["a"]["params"] == {"a": 4}


def test_an_effect_hidden_in_a_body_runs_every_time(runtime, graph, spec, loop, calls, tmp_path):
    body = {"w": spec("write@1", {"x": "$item"}), "same": spec("add@1", a=1)}
    nodes = {"n": spec("count@1", n=3), "l": loop("n", body, {"k": "same"}, collect=["k"])}
    workflow = graph(nodes, y="l.k")
    for _ in range(2):
        assert list(runtime.run(workflow, out=tmp_path).outputs["y"]) == [1, 1, 1]
    assert calls.count("write") == 6
    assert calls.count("add") == 2


def test_loops_carry_collect_and_stop(runtime, graph, spec, loop):
    body = {"sum": spec("add@1", {"a": "$acc", "b": "$item"}), "stop": spec("above@1", {"x": "sum"}, limit=5)}
    nodes = {"zero": spec("add@1"), "n": spec("count@1", n=10)}
    made = {"acc": "sum", "all": "sum", "done": "stop"}
    nodes["l"] = loop("n", body, made, carry={"acc": "zero"}, collect=["all"], until="done")
    outputs = runtime.run(graph(nodes, acc="l.acc", all="l.all")).outputs
    assert (outputs["acc"], list(outputs["all"])) == (6, [0, 1, 3, 6])


def test_loops_nest_and_see_links(runtime, graph, spec, loop):
    add = spec("add@1", {"a": "$acc", "b": "$step"})
    inner = loop("$numbers", {"s": add}, {"acc": "s"}, carry={"acc": "$acc"}, links={"step": "$item"})
    nodes = {"zero": spec("add@1"), "n": spec("count@1", n=4)}
    nodes["l"] = loop("n", {"inner": inner}, {"acc": "inner"}, carry={"acc": "zero"}, links={"numbers": "n"})
    assert runtime.run(graph(nodes, y="l")).outputs == {"y": 4 * (0 + 1 + 2 + 3)}


def test_an_empty_stream_gives_the_carry_back(runtime, graph, spec, loop):
    nodes = {"start": spec("add@1", a=7), "n": spec("count@1", n=0)}
    body = {"s": spec("add@1", {"a": "$acc"}, b=1)}
    nodes["l"] = loop("n", body, {"acc": "s", "all": "s"}, carry={"acc": "start"}, collect=["all"])
    outputs = runtime.run(graph(nodes, y="l.acc", all="l.all")).outputs
    assert (outputs["y"], list(outputs["all"])) == (7, [])


def test_what_does_not_change_in_a_body_runs_once(runtime, graph, spec, loop, calls):
    body = {"fixed": spec("scale@1", x=2.0), "s": spec("add@1", {"a": "$acc", "b": "$item"})}
    nodes = {"zero": spec("add@1"), "n": spec("count@1", n=5)}
    nodes["l"] = loop("n", body, {"acc": "s", "f": "fixed"}, carry={"acc": "zero"}, collect=["f"])
    assert list(runtime.run(graph(nodes, f="l.f")).outputs["f"]) == [2.0] * 5
    assert calls.count("scale") == 1


@pytest.mark.parametrize("carried", [False, True])
def test_what_is_overwritten_in_a_body_is_made_anew_each_pass(runtime, graph, spec, loop, carried):
    if carried:  # the next pass overwrites what this one made
        body = {"new": spec("box@1"), "p": spec("push@1", {"box": "$b"}), "size": spec("size@1", {"box": "p"})}
        nodes = {"b": spec("box@1"), "n": spec("count@1", n=4)}
        nodes["l"] = loop("n", body, {"b": "new", "size": "size"}, carry={"b": "b"}, collect=["size"])
    else:
        body = {"new": spec("box@1"), "p": spec("push@1", {"box": "new"}), "size": spec("size@1", {"box": "p"})}
        nodes = {"n": spec("count@1", n=4), "l": loop("n", body, {"size": "size"}, collect=["size"])}
    assert list(runtime.run(graph(nodes, s="l.size")).outputs["s"]) == [2, 2, 2, 2]


def test_a_donated_value_is_not_taken_from_the_cache(runtime, graph, spec):
    workflow = graph({"b": spec("box@1"), "p": spec("push@1", {"box": "b"}, x=1)}, y="p")
    assert runtime.run(workflow).outputs["y"].items == [0, 1]
    changed = graph({"b": spec("box@1"), "p": spec("push@1", {"box": "b"}, x=2)}, y="p")
    assert runtime.run(changed).outputs["y"].items == [0, 2]


def test_a_failure_names_its_place_and_keeps_what_ran(runtime, graph, spec, loop, calls):
    nodes = {"n": spec("count@1", n=3), "a": spec("add@1", a=1)}
    nodes["l"] = loop("n", {"f": spec("fail@1", {"x": "$item"})}, {"f": "f"}, collect=["f"], links={"a": "a"})
    events = []
    with pytest.raises(NodeFailed, match=r"^l/f \(fail@1\) failed: x is 0$") as failed:
        runtime.run(graph(nodes, y="l"), listen=events.append)
    assert failed.value.path == "l/f"
    assert isinstance(failed.value.__cause__, ValueError)
    assert isinstance(events[-1], NodeFailure)
    with pytest.raises(NodeFailed):
        runtime.run(graph(nodes, y="l"))
    assert calls == ["add"]


@pytest.mark.parametrize(("how", "text"), [("exit", "SystemExit: 3"), ("zero", "ZeroDivisionError: x is 1")])
def test_whatever_a_node_raises_fails_the_node(runtime, graph, spec, how, text):
    with pytest.raises(NodeFailed, match=text):
        runtime.run(graph({"f": spec("fail@1", x=1, how=how)}, y="f"))


def test_a_value_out_of_bounds_that_arrives_by_a_link_names_its_port(runtime, graph, spec):
    workflow = graph({"a": spec("scale@1", x=20.0), "b": spec("scale@1", {"by": "a"}, x=1.0)}, y="b")
    with pytest.raises(NodeFailed, match=r"b \(scale@1\) failed: by: 20.0 is not a float >= 0.* <= 10"):
        runtime.run(workflow)


def test_another_thread_cancels(runtime, graph, spec):
    cancel = threading.Event()
    timer = threading.Timer(0.05, cancel.set)
    timer.start()
    with pytest.raises(Cancelled, match="Stopped at s"):
        runtime.run(graph({"s": spec("sleepy@1", seconds=0.02)}, y="s"), cancel=cancel)
    timer.join()


def test_a_cancelled_loop_stops_between_passes(runtime, graph, spec, loop):
    cancel = threading.Event()

    def listen(event):
        if isinstance(event, NodeProgress) and event.done >= 1:
            cancel.set()

    body = {"s": spec("sleepy@1", {"x": "$item"}, seconds=0.002)}
    nodes = {"n": spec("count@1", n=50), "l": loop("n", body, {"s": "s"}, collect=["s"])}
    with pytest.raises(Cancelled):
        runtime.run(graph(nodes, y="l"), cancel=cancel, listen=listen)


def test_events_come_in_order(runtime, graph, spec, tmp_path):
    workflow = graph({"a": spec("add@1", a=4), "w": spec("write@1", {"x": "a"})})
    events = []
    runtime.run(workflow, out=tmp_path, listen=events.append)
    kinds = [RunStarted, NodeStarted, NodeFinished, NodeStarted, FileWritten, NodeFinished, RunFinished]
    assert [type(event) for event in events] == kinds
    events.clear()
    runtime.run(workflow, out=tmp_path, listen=events.append)
    assert [type(event) for event in events][:2] == [RunStarted, NodeCached]
    assert (events[0].total, events[0].cached) == (2, 1)


def test_the_last_event_says_short_outputs_and_what_a_run_gave_prints_in_a_line(runtime, graph, spec):
    events = []
    outcome = runtime.run(graph({"a": spec("add@1", a=4)}, x="a"), listen=events.append)
    assert events[-1].values == outcome.outputs
    many = Outcome({"text": "a" * 9999, "bad": float("nan"), "good": True}, 1, 0, 0.5)
    assert len(repr(many)) < 250
    assert shorts(many.outputs) == {"bad": "nan", "good": True}


@pytest.mark.parametrize("path", ["../x", "/etc/x", "", ".", "a/../..", "a\\b", "a\0b"])
def test_a_file_stays_in_the_output_folder(runtime, graph, spec, tmp_path, path):
    with pytest.raises(NodeFailed, match="leaves the output folder"):
        runtime.run(graph({"w": spec("write@1", x=1, path=path)}), out=tmp_path / "out")
    assert not (tmp_path / "x").exists()


def test_a_file_does_not_leave_through_a_symlink(runtime, graph, spec, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/link").symlink_to(tmp_path)
    with pytest.raises(NodeFailed, match="leaves the output folder"):
        runtime.run(graph({"w": spec("write@1", x=1, path="link/x.txt")}), out=tmp_path / "out")


def test_a_chain_of_ten_thousand_nodes_runs(runtime, graph, spec):
    nodes = {"n0": spec("add@1", a=1)} | {f"n{at}": spec("add@1", {"a": f"n{at - 1}"}, b=1) for at in range(1, 10_000)}
    assert runtime.run(graph(nodes, y="n9999")).outputs == {"y": 10_000}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_graph_equals_plain_python_cached_or_not(registry, data):
    runtime = Runtime(registry)
    for _ in range(2):
        n = data.draw(st.integers(1, 12))
        nodes, values = {}, []
        for at in range(n):
            params, links, numbers = {}, {}, []
            for port in "ab":
                if at and data.draw(st.booleans()):
                    source = data.draw(st.integers(0, at - 1))
                    links[port] = f"n{source}"
                    numbers.append(values[source])
                else:
                    params[port] = data.draw(st.integers(-3, 3))
                    numbers.append(params[port])
            nodes[f"n{at}"] = {"type": "add@1", "params": params, "links": links}
            values.append(sum(numbers))
        shuffled = dict(data.draw(st.permutations(list(nodes.items()))))
        workflow = {"format": 1, "nodes": shuffled, "outputs": {f"o{at}": f"n{at}" for at in range(n)}}
        for _ in range(2):
            assert runtime.run(workflow).outputs == {f"o{at}": value for at, value in enumerate(values)}
