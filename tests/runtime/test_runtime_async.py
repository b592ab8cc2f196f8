"""Nodes that are coroutines: beside each other and others, cached, failing, cancelled, in bodies and branches."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kineograph.graph_runtime.errors import Cancelled, NodeFailed
from kineograph.graph_runtime.events import Metric, NodeFinished, NodeProgress, NodeStarted
from kineograph.graph_runtime.node import RunContext, node, node_type
from kineograph.graph_runtime.runtime import Runtime

RUNNING: list[int] = []
MET: list[int] = []


@node
async def later(x: int = 0, seconds: float = 0.0, tag: int = 0) -> int:
    """x, after a while."""
    RUNNING.append(1)
    try:
        await asyncio.sleep(seconds)
    finally:
        RUNNING.pop()
    return x


@node
async def told(run: RunContext, x: int) -> int:
    """x, with words on the way."""
    for at in range(3):
        run.progress(at + 1, 3)
        run.metric("at", at, at)
        await asyncio.sleep(0)
    return x


@node
async def breaks(x: int, how: str = "value") -> int:
    """Raise."""
    await asyncio.sleep(0)
    raise SystemExit(3) if how == "exit" else ValueError(f"x is {x}")


@node
async def meets(x: int = 0) -> int:
    """x, once somebody else has seen that it runs."""
    RUNNING.append(1)
    for _ in range(2_000):
        if MET:
            break
        await asyncio.sleep(0.005)
    RUNNING.pop()
    return x


@node
def sees(many: int) -> int:
    """How many coroutines run while it does; it waits for so many."""
    for _ in range(2_000):
        if len(RUNNING) >= many:
            break
        time.sleep(0.005)
    MET.append(1)
    return len(RUNNING)


@pytest.fixture
def runtime(registry):
    for function in (later, told, breaks, meets, sees):
        registry.add(node_type(function))
    return Runtime(registry)


def no_thread_is_left():
    return not RUNNING and not any(thread.name == "coroutines" for thread in threading.enumerate())


def test_they_run_beside_each_other_and_beside_others(runtime, graph, spec):
    MET.clear()
    nodes = {f"a{at}": spec("meets@1", x=at) for at in range(4)}
    nodes |= {f"b{at}": spec("add@1", {"a": f"a{at}"}, b=1) for at in range(4)}
    nodes["s"] = spec("sees@1", many=4)
    outcome = runtime.run(graph(nodes, s="s", **{f"b{at}": f"b{at}" for at in range(4)}))
    assert outcome.outputs == {"s": 4, "b0": 1, "b1": 2, "b2": 3, "b3": 4}
    assert no_thread_is_left()
    assert runtime.run(graph(nodes, b="b1")).ran == 0


def test_what_they_tell_comes_on_the_runs_own_thread_in_order(runtime, graph, spec):
    events, threads = [], set()

    def listen(event):
        events.append(event)
        threads.add(threading.current_thread())

    nodes = {"t": spec("told@1", x=3), "u": spec("told@1", {"x": "t"})}
    assert runtime.run(graph(nodes, y="u"), listen=listen).outputs == {"y": 3}
    assert threads == {threading.current_thread()}
    for path in "tu":
        of_node = [event for event in events if getattr(event, "path", "") == path]
        assert isinstance(of_node[0], NodeStarted)
        assert isinstance(of_node[-1], NodeFinished)
        assert [event.step for event in of_node if isinstance(event, Metric)] == [0, 1, 2]
        assert any(isinstance(event, NodeProgress) for event in of_node)


@pytest.mark.parametrize("how", ["value", "exit"])
def test_one_that_fails_ends_the_run_and_leaves_nothing_behind(runtime, graph, spec, how):
    nodes = {"long": spec("later@1", seconds=30), "f": spec("breaks@1", x=1, how=how)}
    nodes["y"] = spec("add@1", {"a": "f", "b": "long"})
    started = time.perf_counter()
    with pytest.raises(NodeFailed, match=r"f \(breaks@1\) failed: (x is 1|SystemExit: 3)"):
        runtime.run(graph(nodes, y="y"))
    assert time.perf_counter() - started < 10
    assert no_thread_is_left()


def test_a_run_that_waits_can_be_stopped(runtime, graph, spec):
    cancel = threading.Event()
    timer = threading.Timer(0.2, cancel.set)
    timer.start()
    started = time.perf_counter()
    with pytest.raises(Cancelled, match="Stopped at a"):
        runtime.run(graph({"a": spec("later@1", seconds=30)}, y="a"), cancel=cancel)
    assert time.perf_counter() - started < 10
    timer.join()
    assert no_thread_is_left()


def test_a_budget_can_be_held_where_a_loop_runs_already(runtime, graph, spec):
    async def cell() -> object:  # of a notebook
        return runtime.run(graph({"a": spec("later@1", x=3)}, a="a"), memory=2**30).outputs["a"]

    assert asyncio.run(cell()) == 3


def test_in_bodies_and_behind_branches(runtime, graph, spec, loop):
    body = {"l": spec("later@1", {"x": "$item"}), "s": spec("add@1", {"a": "$acc", "b": "l"})}
    nodes = {"zero": spec("later@1", tag=9), "n": spec("count@1", n=4)}
    nodes["l"] = loop("n", body, {"acc": "s"}, carry={"acc": "zero"})
    nodes["big"] = spec("above@1", {"x": "l"}, limit=5)
    nodes["side"] = spec("later@1", {"x": "l"}, tag=1)
    nodes["y"] = {"type": "branch@1", "links": {"when": "big", "then": "side", "else": "zero"}}
    assert runtime.run(graph(nodes, y="y")).outputs == {"y": 6}
    assert no_thread_is_left()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_graph_equals_plain_python(runtime, data):
    runtime.cache.clear()
    nodes, values = {}, []
    for at in range(data.draw(st.integers(1, 12))):
        if data.draw(st.booleans()):
            links = {"x": f"n{data.draw(st.integers(0, at - 1))}"} if at else {}
            params = {"tag": at, "seconds": data.draw(st.sampled_from([0.0, 0.002]))}
            nodes[f"n{at}"] = {"type": "later@1", "params": params, "links": links}
            values.append(values[int(links["x"][1:])] if links else 0)
        else:
            links = {port: f"n{data.draw(st.integers(0, at - 1))}" for port in "ab" if at and data.draw(st.booleans())}
            params = {} if "a" in links else {"a": at}
            nodes[f"n{at}"] = {"type": "add@1", "params": params, "links": links}
            values.append(params.get("a", 0) + sum(values[int(link[1:])] for link in links.values()))
    wanted = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, unique=True))
    workflow = {"format": 1, "nodes": nodes, "outputs": {f"o{at}": f"n{at}" for at in wanted}}
    for _ in range(2):
        assert runtime.run(workflow).outputs == {f"o{at}": values[at] for at in wanted}
