"""What every executor does: one suite over all of them."""

from __future__ import annotations

import math
import re
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kineograph import default_runtime
from kineograph.graph_runtime.codecs import encode
from kineograph.graph_runtime.errors import Busy, Cancelled, InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.events import (
    EventsMissed,
    FileWritten,
    Metric,
    NodeCached,
    NodeFailure,
    NodeFinished,
    NodeProgress,
    NodeResumed,
    NodeStarted,
    RunFinished,
    RunStarted,
    event_json,
    event_of,
)
from kineograph.graph_runtime.executors.job import Mailbox
from kineograph.graph_runtime.executors.local import LocalExecutor
from kineograph.graph_runtime.executors.units import WorkUnit
from kineograph.graph_runtime.executors.worker import WorkerExecutor
from kineograph.graph_runtime.resume import KeepEvery

PACKS = (str(Path(__file__).parent / "packs"),)
KINDS = {"local": lambda **options: LocalExecutor(default_runtime, **options), "worker": WorkerExecutor}
SECONDS = 120.0
AGAIN = "Run it again: it goes on from what the store kept."


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def executor(kind):
    with KINDS[kind]() as made:
        yield made


@pytest.fixture(scope="module")
def plain():
    """What must come out: a runtime in this process."""
    return default_runtime(PACKS)


@pytest.fixture
def unit(tmp_path, graph):
    """``unit({name: spec}, {"store": ...}, y="name")``."""

    def make(nodes, options=None, inputs=None, **outputs) -> WorkUnit:
        given = {"out": str(tmp_path / "out"), "packs": PACKS, "store": str(tmp_path / "store")} | (options or {})
        return WorkUnit(graph(nodes, inputs, **outputs), **given)

    return make


def toy(name: str, links: dict[str, str] | None = None, **params):
    return {"type": f"toys/{name}@1", "params": params, "links": links or {}}


def summing(loop, n: int, node: dict | None = None, **effect):
    """A loop that adds the numbers below n up, each of which passes through a node."""
    body = {"safe": node or toy("add", {"a": "$item"}), "sum": toy("add", {"a": "safe", "b": "$acc"}), **effect}
    nodes = {"zero": toy("add"), "n": toy("count", n=n)}
    return nodes | {"l": loop("n", body, {"acc": "sum"}, carry={"acc": "zero"})}


def bits(value):
    """The exact content of a value."""
    text, buffers = encode(value)
    return text, [bytes(buffer.data) for buffer in buffers]


def timeless(events):
    """Events without what a clock says."""
    return [event_json(event) | {"seconds": 0, "seconds_left": 0} for event in events]


def test_keys_and_bits_are_those_of_a_plain_run(executor, unit, plain, loop):
    nodes = summing(loop, 5) | {"short": toy("digits", n=4), "long": toy("digits", n=50_000), "n2": toy("count", n=3)}
    nodes["l2"] = loop("n2", {"a": toy("add", {"a": "$item"}, b=1)}, {"all": "a"}, collect=["all"])
    asked = unit(nodes, sum="l.acc", short="short", long="long", all="l2.all")
    result = executor.submit(asked).result(SECONDS)
    there = plain.run(asked.workflow)
    plan = plain.plan(asked.workflow)
    assert dict(result.keys) == {name: plan.keys[slot] for name, slot in plan.outputs.items()}
    assert {name: bits(value) for name, value in result.outputs.items()} == {
        name: bits(value) for name, value in there.outputs.items()
    }
    assert (result.outputs["sum"], len(result.outputs["long"]), list(result.outputs["all"])) == (10, 50_000, [1, 2, 3])
    again = executor.submit(asked).result(SECONDS)
    assert (again.ran, dict(again.keys)) == (0, dict(result.keys))


def test_only_the_outputs_that_are_wanted_are_computed(executor, unit, tmp_path):
    nodes = {"a": toy("add", a=1), "b": toy("add", a=2), "w": toy("note", {"a": "a"})}
    result = executor.submit(replace(unit(nodes, y="a", z="b"), outputs=("z",))).result(SECONDS)
    assert (dict(result.outputs), result.ran) == ({"z": 2}, 1)
    assert not (tmp_path / "out/notes.txt").exists()


def test_events_are_those_of_a_plain_run_in_order(executor, unit, plain, loop, tmp_path):
    nodes = summing(loop, 2, toy("doze", {"a": "$item"}, seconds=0.11))
    nodes |= {"zero": toy("add", a=77), "w": toy("note", {"a": "l.acc"}), "p": toy("plot", n=5)}
    asked = unit(nodes, {"store": ""}, y="l.acc", p="p")
    told, heard = [], []
    plain.cache.clear()
    plain.run(asked.workflow, out=tmp_path / "out", listen=told.append)
    executor.submit(asked, heard.append).result(SECONDS)
    assert timeless(heard) == timeless(told)
    assert {NodeProgress, Metric, FileWritten} <= {type(event) for event in heard}
    assert (type(heard[0]), type(heard[-1])) == (RunStarted, RunFinished)
    read = list(executor.submit(asked).events())
    assert [type(event) for event in read] == [RunStarted] + [NodeCached] * 2 + [
        NodeStarted, FileWritten, NodeFinished, RunFinished
    ]  # fmt: skip


def test_every_problem_of_a_workflow_is_told(executor, unit, plain):
    asked = unit({"a": toy("add", a="x"), "b": toy("nothing")}, y="a", z="c")
    with pytest.raises(InvalidWorkflow) as refused:
        executor.submit(asked).result(SECONDS)
    assert list(refused.value.problems) == plain.problems(asked.workflow)
    with pytest.raises(InvalidWorkflow, match=r"planned for 0\.1"):
        executor.submit(replace(unit({"a": toy("add")}, y="a"), numerics="0.1")).result(SECONDS)
    with pytest.raises(InvalidWorkflow, match="store: It cannot be used"):
        executor.submit(unit({"a": toy("add")}, {"store": __file__}, y="a")).result(SECONDS)


def test_a_node_that_failed_once_runs_the_next_time(executor, unit, tmp_path):
    nodes = {"d": toy("doze", a=7, seconds=0.1), "f": toy("fail", {"a": "d"}, unless=str(tmp_path / "there"))}
    nodes["w"] = toy("note", {"a": "f"})
    events = []
    with pytest.raises(NodeFailed, match=r"^f \(toys/fail@1\) failed: 7 is too many$") as failed:
        executor.submit(unit(nodes, y="f"), events.append).result(SECONDS)
    assert (failed.value.path, failed.value.reason) == ("f", "7 is too many")
    assert 'raise ValueError(f"{a} is too many")' in "".join(traceback.format_exception(failed.value))
    given = {"a": "7", "unless": repr(str(tmp_path / "there"))}
    assert failed.value.inputs == given
    assert events[-1] == NodeFailure("f", "toys/fail@1", str(failed.value), given)
    result = executor.submit(unit(nodes, y="f")).result(SECONDS)
    assert (result.outputs["y"], result.ran, result.cached) == (7, 2, 1)
    assert (tmp_path / "out/notes.txt").read_text() == "7\n"


def test_a_run_that_is_stopped_keeps_the_pass_it_reached(executor, unit, loop, tmp_path):
    nodes = summing(loop, 400, toy("doze", {"a": "$item"}, seconds=0.02), w=toy("note", {"a": "$index"}))
    job = executor.submit(unit(nodes, y="l.acc"))
    reached = next(event.done for event in job.events() if isinstance(event, NodeProgress) and event.done > 3)
    asked = time.monotonic()
    job.cancel()
    with pytest.raises(Cancelled, match="Stopped at l"):
        job.result(SECONDS)
    assert time.monotonic() - asked < 1.0 + 0.5  # this machine may be busy
    short = summing(loop, 40, toy("doze", {"a": "$item"}, seconds=0.02), w=toy("note", {"a": "$index"}))
    job = executor.submit(unit(short, y="l.acc"))
    (resumed,) = [event.done for event in job.events() if isinstance(event, NodeResumed)]
    assert reached <= resumed < 40
    assert job.result(SECONDS).outputs["y"] == sum(range(40))
    assert (tmp_path / "out/notes.txt").read_text().split() == [str(at) for at in range(40)]  # each effect once


def test_a_run_that_waits_is_let_go_at_once(executor, unit):
    running = executor.submit(unit({"d": toy("doze", a=21, seconds=3.0)}, y="d"))
    waiting = executor.submit(unit({"a": toy("add", a=1)}, y="a"))
    waiting.cancel()
    with pytest.raises(Cancelled, match="Stopped at the start"):
        waiting.result(0)
    assert list(waiting.events()) == []
    assert not running.ended
    running.cancel()
    with pytest.raises(Cancelled):
        running.result(SECONDS)


def test_only_so_many_runs_wait(kind, unit):
    with KINDS[kind](waiting=2) as executor:
        jobs = [executor.submit(unit({"d": toy("doze", a=at, seconds=0.3)}, y="d")) for at in range(3)]
        with pytest.raises(Busy, match=r"^[23] runs wait already"):
            executor.submit(unit({"a": toy("add")}, y="a"))
        assert [job.result(SECONDS).outputs["y"] for job in jobs] == [0, 1, 2]
        assert executor.submit(unit({"a": toy("add", a=1)}, y="a")).result(SECONDS).outputs["y"] == 1
    with pytest.raises(Busy, match="closed"):
        executor.submit(unit({"a": toy("add")}, y="a"))


def test_a_closed_executor_stops_what_runs_and_what_waits(kind, unit):
    with KINDS[kind]() as executor:
        jobs = [executor.submit(unit({"d": toy("doze", a=at, seconds=5.0)}, y="d")) for at in range(2)]
        next(iter(jobs[0].events()))
    for job in jobs:
        with pytest.raises(Cancelled):
            job.result(0)


@pytest.mark.parametrize(("options", "text"), [({"limit": 0.5}, "0.5s that the run may take"), ({}, None)])
def test_a_run_that_takes_too_long_is_stopped_and_goes_on_later(executor, unit, loop, options, text):
    nodes = summing(loop, 30, toy("doze", {"a": "$item"}, seconds=0.04))
    executor.submit(unit({"a": toy("add")}, y="a")).result(SECONDS)  # whatever must be started has been
    asked = unit(nodes, options | {"keep_every": KeepEvery(passes=1)}, y="l.acc")
    for _ in range(20):
        events = []
        try:
            result = executor.submit(asked, events.append).result(SECONDS)
        except NodeFailed:
            assert isinstance(events[-1], NodeFailure)
            place, _, why = events[-1].message.partition(": ")
            assert re.fullmatch(r"l \(loop@1\) failed( in l/\w+)?( after at least \d+ of 30)?", place)
            assert why == f"it took longer than the {text}. {AGAIN}"
        else:
            assert result.outputs["y"] == sum(range(30))
            assert any(isinstance(event, NodeResumed) for event in events) == (text is not None)
            return
    pytest.fail("it never ended")


def test_a_pass_may_be_slow_as_long_as_the_loop_gets_on(executor, unit, loop):
    nodes = summing(loop, 6, toy("doze", {"a": "$item"}, seconds=0.3))
    asked = unit(nodes, {"node_limit": 1.5}, y="l.acc")
    assert executor.submit(asked).result(SECONDS).outputs["y"] == 15
    slow = unit({"d": toy("doze", a=3, seconds=5.0)}, {"node_limit": 0.3}, y="d")
    with pytest.raises(NodeFailed, match=r"d \(toys/doze@1\) failed: it did not get on for 0.3s, which is the limit"):
        executor.submit(slow).result(SECONDS)


def test_a_reader_that_is_slow_misses_some_but_not_the_end(executor, unit):
    job = executor.submit(unit({"p": toy("plot", n=9000)}, {"store": ""}, y="p"))
    job.result(SECONDS)
    events = list(job.events())
    assert len(events) < 4200
    (missed,) = [event.count for event in events if isinstance(event, EventsMissed)]
    metrics = [event for event in events if isinstance(event, Metric)]
    assert missed + len(metrics) == 9000
    assert metrics == sorted(metrics, key=lambda metric: metric.step)
    assert metrics[-1].step == 8999
    assert {RunStarted, NodeStarted, NodeFinished} <= {type(event) for event in events}
    assert isinstance(events[-1], RunFinished)


def test_a_listener_hears_all_however_slow_it_is(executor, unit):
    heard = []

    def listen(event):
        if isinstance(event, Metric) and event.step % 500 == 0:
            time.sleep(0.02)
        heard.append(event)

    executor.submit(unit({"p": toy("plot", n=5000)}, {"store": ""}, y="p"), listen).result(SECONDS)
    metrics = [event for event in heard if isinstance(event, Metric)]
    assert [metric.step for metric in metrics] == list(range(5000))
    assert math.isinf(metrics[3].value)


def test_a_listener_that_raises_ends_its_run_with_its_error(executor, unit):
    def listen(event):
        raise ZeroDivisionError("not my day")

    with pytest.raises(ZeroDivisionError, match="not my day"):
        executor.submit(unit({"d": toy("doze", a=5, seconds=5.0)}, y="d"), listen).result(SECONDS)
    assert executor.submit(unit({"a": toy("add", a=3)}, y="a")).result(SECONDS).outputs["y"] == 3


def test_one_finds_what_another_made(kind, executor, unit):
    other = KINDS[{"local": "worker", "worker": "local"}[kind]]
    asked = unit({"d": toy("doze", a=4, seconds=0.2), "c": toy("digits", {"n": "d"})}, y="c")
    with other() as first:
        made = first.submit(asked).result(SECONDS)
        assert made.ran == 2
    events = []
    result = executor.submit(asked, events.append).result(SECONDS)
    assert (dict(result.keys), bits(result.outputs["y"])) == (dict(made.keys), bits(made.outputs["y"]))
    assert {event.path for event in events if isinstance(event, NodeCached)} & {"d", "c"}


def test_what_is_no_json_is_refused_where_it_is_submitted(executor, unit):
    for bad in (float("nan"), {1, 2}):
        with pytest.raises(ValueError, match="is JSON, this one is not"):
            executor.submit(replace(unit({"a": toy("add")}, y="a"), inputs={"x": bad}))


def test_many_threads_may_submit(executor, unit):
    sums: dict[int, int] = {}

    def submit(at: int) -> None:
        sums[at] = (
            executor.submit(unit({"a": toy("add", a=at, b=1)}, {"store": ""}, y="a")).result(SECONDS).outputs["y"]
        )

    threads = [threading.Thread(target=submit, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == {at: at + 1 for at in range(8)}


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_graph_gives_what_it_gives_locally(executor, plain, data):
    n = data.draw(st.integers(1, 10))
    nodes = {}
    for at in range(n):
        kind = data.draw(st.sampled_from(["add", "die", "digits"]))
        spec = toy(kind) if kind != "die" else toy(kind, a=0, at=-1)
        for port in {"add": "ab", "die": "a", "digits": "n"}[kind]:
            numbers = [name for name, other in nodes.items() if "digits" not in other["type"]]
            if numbers and data.draw(st.booleans()):
                spec["params"].pop(port, None)
                spec["links"][port] = data.draw(st.sampled_from(numbers))
            else:
                spec["params"][port] = data.draw(st.integers(0, 9))
        nodes[f"n{at}"] = spec
    wanted = data.draw(st.lists(st.sampled_from(sorted(nodes)), min_size=1, unique=True))
    workflow = {"format": 1, "nodes": nodes, "outputs": {name: name for name in nodes}}
    result = executor.submit(WorkUnit(workflow, outputs=tuple(wanted), packs=PACKS)).result(SECONDS)
    there = plain.run(workflow, outputs=wanted)
    assert {name: bits(value) for name, value in result.outputs.items()} == {
        name: bits(value) for name, value in there.outputs.items()
    }


def test_units_and_events_survive_json(unit):
    made = replace(unit({"a": toy("add", a=1)}, y="a"), outputs=("y",), keep_every=KeepEvery(passes=3), limit=1.5)
    assert WorkUnit.from_json(made.to_json()) == made
    assert made.content() == replace(made, limit=0.0, store="", out="x").content()
    assert made.content() != replace(made, inputs={"x": 1}).content()
    for event in (RunStarted(2, 1), Metric("p", "loss", 3, -math.inf), NodeFailure("a", "b@1", "é\udcff\n")):
        assert event_of(event_json(event)) == event


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds(lambda done, path: NodeProgress(path, done, 9, 0.0), st.integers(0, 9), st.sampled_from("ab")),
            st.builds(lambda step: Metric("m", "loss", step, 0.0), st.integers(0, 99)),
            st.builds(lambda path: NodeStarted(path, "x@1"), st.sampled_from("abc")),
        ),
        max_size=40,
    ),
    st.integers(1, 6),
    st.sets(st.integers(0, 40)),
)
def test_a_mailbox_is_bounded_in_order_and_never_loses_the_end(events, room, reads):
    mailbox, read = Mailbox(room), []
    letters = iter(mailbox)
    end = RunFinished(1, 0, 0.0)
    for at, event in enumerate([*events, end]):
        mailbox.put(event)
        assert len(mailbox._events) <= room
        if at in reads:
            read.append(next(letters))
    mailbox.close()
    read += letters
    assert read[-1] == end
    got = [event for event in read if not isinstance(event, EventsMissed)]
    places = iter([*events, end])
    assert all(any(event == other for other in places) for event in got)  # a subsequence
    missed = sum(event.count for event in read if isinstance(event, EventsMissed))
    steady = [event for event in [*events, end] if not isinstance(event, NodeProgress)]
    assert missed >= len(steady) - len([event for event in got if not isinstance(event, NodeProgress)])
