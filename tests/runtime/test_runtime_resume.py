"""Results from disk and loops that go on: what runs again, what does not, and what is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kineograph.graph_runtime import resume
from kineograph.graph_runtime.cache import MemoryCache
from kineograph.graph_runtime.errors import Cancelled, NodeFailed
from kineograph.graph_runtime.events import Metric, NodeCached, NodeProgress, NodeResumed, NotKept
from kineograph.graph_runtime.node import RunContext, node, node_type
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.resume import KeepEvery
from kineograph.graph_runtime.runtime import Runtime
from kineograph.graph_runtime.sockets import Stream, skip
from kineograph.graph_runtime.store import Store


@node(counts=("n",))
def odds(n: int, first: int = 1) -> Stream[int]:
    """Odd numbers."""
    return Stream(n, lambda index: first + 2 * index)


@node(counts=("numbers",))
def doubled(numbers: Stream[int]) -> Stream[int]:
    """Each number twice as large."""
    return numbers.map(lambda x: 2 * x)


@node
def without_first(numbers: Stream[int]) -> Stream[int]:
    """All but the first."""
    return skip(numbers, 1)


@node
def count_up(run: RunContext, x: int) -> int:
    """x, and a number reported."""
    run.metric("up", x, x / 2)
    return x


@node
def fuse(x: int, at: int) -> int:
    """x, unless it is what a fuse blows at."""
    if BLOWS and x == at:
        raise ValueError("blown")
    return x


BLOWS: list[int] = []


@pytest.fixture
def fresh(registry: Registry, tmp_path):
    """A runtime with an empty memory over the test's store, as in a new process."""
    for function in (odds, doubled, without_first, fuse, count_up):
        registry.add(node_type(function))
    stores: list[Store] = []

    def make(**options) -> Runtime:
        stores.append(Store(tmp_path / "store", **{"least_seconds": 0.0} | options))
        return Runtime(registry, MemoryCache(), stores[-1])

    yield make
    BLOWS.clear()
    for store in stores:
        store.close()


def adding(graph, spec, loop, stream: dict, *, effect=False, carry=True, collect=False, at=10**9, **body):
    """A loop that adds up a stream, with a fuse that can blow in the middle."""
    nodes = {"safe": spec("fuse@1", {"x": "$item"}, at=at), "sum": spec("add@1", {"a": "safe"})}
    if carry:
        nodes["sum"]["links"]["b"] = "$acc"
    if effect:
        nodes["w"] = spec("write@1", {"x": "sum"})
    more = {"carry": {"acc": "zero"}} if carry else {}
    more |= {"collect": ["all"]} if collect else {}
    made = {"acc": "sum", "all": "sum"}
    around = {"zero": spec("add@1"), **stream, "l": loop("n", nodes | body, made, **more)}
    outputs = ({"y": "l.acc"} if carry else {}) | ({"z": "l.all"} if collect else {})
    return graph(around, {"n": {"type": "int", "default": 8}}, **outputs)


@pytest.fixture
def summing(graph, spec, loop):
    return lambda **options: adding(graph, spec, loop, {"n": spec("odds@1", {"n": "$n"})}, **options)


def run(runtime: Runtime, workflow, out: Path, every: int = 2, **inputs):
    """Outputs, passes that ran, events."""
    events: list = []
    result = runtime.run(workflow, inputs, out=out, listen=events.append, keep_every=KeepEvery(passes=every))
    plain = {name: list(value) if isinstance(value, Stream) else value for name, value in result.outputs.items()}
    return plain, events


def resumed(events) -> list[int]:
    return [event.done for event in events if isinstance(event, NodeResumed)]


def test_a_new_process_finds_what_an_old_one_made(fresh, graph, spec, calls, tmp_path):
    workflow = graph({"a": spec("add@1", a=1, b=2), "b": spec("add@1", {"a": "a"}, b=3)}, y="b")
    assert run(fresh(), workflow, tmp_path)[0] == {"y": 6}
    outputs, events = run(fresh(), workflow, tmp_path)
    assert (outputs, len(calls)) == ({"y": 6}, 2)
    assert [event.path for event in events if isinstance(event, NodeCached)] == ["b"]
    changed = graph({"a": spec("add@1", a=1, b=2), "b": spec("add@1", {"a": "a"}, b=4)}, y="b")
    assert run(fresh(), changed, tmp_path)[0] == {"y": 7}
    assert len(calls) == 3


def test_what_is_overwritten_later_is_kept_as_it_was(fresh, graph, spec, tmp_path):
    def workflow(x: int):
        nodes = {"b": spec("box@1"), "p": spec("push@1", {"box": "b"}, x=x), "n": spec("size@1", {"box": "p"})}
        return graph(nodes, y="p", n="n")

    runtime = fresh()
    for x in (1, 2, 1):
        assert runtime.run(workflow(x)).outputs["y"].items == [0, x]
        assert fresh().run(workflow(x)).outputs["y"].items == [0, x]


def test_the_numbers_that_a_node_reported_are_told_again(fresh, graph, spec, tmp_path):
    workflow = graph({"c": spec("count_up@1", x=3)}, y="c")
    for _ in range(2):
        _, events = run(fresh(), workflow, tmp_path)
        assert [event for event in events if isinstance(event, Metric)] == [Metric("c", "up", 3, 1.5)]


def test_a_state_that_is_damaged_is_told_and_the_loop_begins_again(fresh, summing, tmp_path):
    workflow = summing()
    run(fresh(), workflow, tmp_path, n=5)
    for path in (tmp_path / "store" / "objects").glob("*/*"):
        path.write_bytes(b"x" * path.stat().st_size)
    outputs, events = run(fresh(), workflow, tmp_path, n=9)
    assert (outputs["y"], resumed(events)) == (81, [])
    (told,) = [event.reason for event in events if isinstance(event, NotKept)]
    assert told == "its state after 5 passes cannot be read; it begins again"


@pytest.mark.parametrize("collect", [False, True])
@pytest.mark.parametrize("effect", [False, True])
def test_a_loop_that_broke_goes_on_from_the_newest_kept_pass(fresh, summing, calls, tmp_path, effect, collect):
    workflow = summing(at=11, effect=effect, collect=collect)
    BLOWS.append(1)
    with pytest.raises(NodeFailed, match="blown"):
        run(fresh(), workflow, tmp_path)
    BLOWS.clear()
    calls.clear()
    outputs, events = run(fresh(), workflow, tmp_path)
    assert resumed(events) == [5]
    assert outputs["y"] == 64
    assert outputs.get("z", [1, 4, 9, 16, 25, 36, 49, 64]) == [1, 4, 9, 16, 25, 36, 49, 64]
    assert calls.count("write") == (3 if effect else 0)
    outputs, events = run(fresh(), workflow, tmp_path)
    assert (outputs["y"], resumed(events)) == (64, [])
    assert calls.count("write") == (3 if effect else 0)


def test_a_loop_of_effects_that_carries_nothing_goes_on_but_once_done_runs_again(fresh, summing, calls, tmp_path):
    workflow = summing(at=11, effect=True, carry=False)
    BLOWS.append(1)
    with pytest.raises(NodeFailed):
        run(fresh(), workflow, tmp_path)
    BLOWS.clear()
    for writes in (3, 8, 8):
        calls.clear()
        run(fresh(), workflow, tmp_path)
        assert calls.count("write") == writes


def test_a_longer_stream_goes_on_where_the_shorter_one_ended(fresh, summing, calls, tmp_path):
    workflow = summing(collect=True, effect=True)
    run(fresh(), workflow, tmp_path, every=3, n=5)
    calls.clear()
    outputs, events = run(fresh(), workflow, tmp_path, every=3, n=9)
    assert outputs == {"y": 81, "z": [n * n for n in range(1, 10)]}
    assert (resumed(events), calls.count("write")) == ([5], 4)
    outputs, events = run(fresh(), workflow, tmp_path, every=3, n=4)
    assert (outputs["y"], resumed(events)) == (16, [])
    assert run(fresh(), workflow, tmp_path, n=9)[0]["y"] == 81


@pytest.mark.parametrize(("between", "from_pass"), [("doubled", 5), ("without_first", 0)])
def test_a_stream_of_a_stream_goes_on_only_if_its_node_says_so(fresh, graph, spec, loop, tmp_path, between, from_pass):
    streams = {"odds": spec("odds@1", {"n": "$n"}), "n": spec(f"{between}@1", {"numbers": "odds"})}
    workflow = adding(graph, spec, loop, streams)
    run(fresh(), workflow, tmp_path, n=5)
    outputs, events = run(fresh(), workflow, tmp_path, n=9)
    assert sum(resumed(events)) == from_pass
    assert outputs["y"] == (162 if from_pass else 80)


def test_another_body_stream_or_start_begins_again(fresh, graph, spec, loop, tmp_path):
    def workflow(first=1, b=0, start=0):
        streams = {"n": spec("odds@1", {"n": "$n"}, first=first), "more": spec("add@1")}
        made = adding(graph, spec, loop, streams, extra=spec("add@1", {"a": "sum"}, b=b))
        made["nodes"]["l"]["body"]["outputs"]["acc"] = "extra"
        made["nodes"]["zero"]["params"] = {"a": start}
        return made

    run(fresh(), workflow(), tmp_path, n=4)
    assert resumed(run(fresh(), workflow(), tmp_path, n=6)[1]) == [4]
    for other in ({"first": 3}, {"b": 1}, {"start": 1}):
        assert resumed(run(fresh(), workflow(**other), tmp_path, n=6)[1]) == []


def test_until_ends_a_resumed_loop_too(fresh, summing, spec, tmp_path):
    workflow = summing(stop=spec("above@1", {"x": "sum"}, limit=20))
    workflow["nodes"]["l"]["body"]["outputs"]["done"] = "stop"
    workflow["nodes"]["l"]["until"] = "done"
    for n in (8, 8, 20):
        assert run(fresh(), workflow, tmp_path, n=n)[0]["y"] == 25


def test_a_run_that_is_stopped_keeps_the_pass_it_reached(fresh, summing, tmp_path):
    cancel = threading.Event()

    def stop(event) -> None:
        if isinstance(event, NodeProgress):
            cancel.set()

    with pytest.raises(Cancelled):
        fresh().run(summing(), out=tmp_path, listen=stop, cancel=cancel)
    assert resumed(run(fresh(), summing(), tmp_path)[1]) == [1]


def test_only_the_newest_state_of_a_loop_stays_and_none_of_one_that_cannot_grow(
    fresh, summing, graph, spec, loop, tmp_path
):
    run(fresh(), summing(), tmp_path)
    runtime = fresh()
    assert [kept.done for kept in runtime.store.rows() if kept.loop] == [8]
    runtime.store.prune(0)
    fixed = adding(graph, spec, loop, {"n": spec("count@1", {"n": "$n"})}, collect=True)
    run(runtime, fixed, tmp_path)
    assert [kept.done for kept in runtime.store.rows() if kept.loop] == []
    assert run(fresh(), fixed, tmp_path)[0]["y"] == 28


def test_a_state_that_cannot_be_kept_is_told_once_and_the_loop_runs_on(fresh, summing, graph, spec, loop, tmp_path):
    outputs, events = run(fresh(max_bytes=10), summing(), tmp_path)
    assert outputs == {"y": 64}
    assert any("the store has room for 0.0 MB" in event.reason for event in events if isinstance(event, NotKept))
    body = {"again": spec("odds@1", n=2)}
    streams = loop("n", body, {"s": "again"}, carry={"s": "s"})
    nodes = {"n": spec("odds@1", n=6), "s": spec("odds@1", n=3), "l": streams}
    _, events = run(fresh(), graph(nodes, y="l.s"), tmp_path)
    (told,) = [event.reason for event in events if isinstance(event, NotKept)]
    assert "a stream is a function" in told


def test_time_between_states_grows_with_what_keeping_costs(fresh, summing, tmp_path, monkeypatch):
    kept: list[int] = []
    now = [0.0]
    put, after = Store.put, resume.Passes.after

    def slow_put(self, *arguments, done=0, **options):
        kept.append(done)
        now[0] += 1.0
        return put(self, *arguments, done=done, **options)

    def slow_pass(self, state):
        now[0] += 1.0
        after(self, state)

    monkeypatch.setattr(resume.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(Store, "put", slow_put)
    monkeypatch.setattr(resume.Passes, "after", slow_pass)
    fresh().run(summing(), {"n": 45}, out=tmp_path, keep_every=KeepEvery(seconds=1.0))
    assert [done for done in kept if done] == [1, 21, 41, 45]


@pytest.mark.parametrize(
    ("text", "passes", "seconds"), [("500", 500, 60), ("60s", 0, 60), ("10m", 0, 600), ("1h", 0, 3600)]
)
def test_how_often_is_written_as_people_do(text, passes, seconds):
    assert KeepEvery.parse(text) == KeepEvery(passes, seconds)
    for wrong in ("", "0", "-1", "1.5s", "60 s", "s", "1d", "9" * 30):
        with pytest.raises(ValueError, match="neither a number of passes"):
            KeepEvery.parse(wrong)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 30), st.integers(1, 4)), min_size=1, max_size=5))
def test_however_often_a_loop_breaks_and_grows_its_result_is_the_same(fresh, summing, tmp_path, tries):
    runtime = fresh()
    runtime.store.prune(0)
    workflow = summing(collect=True, at=7)
    for n, blow, every in tries:
        runtime.cache.clear()
        BLOWS[:] = [1] if blow < 10 else []
        try:
            outputs, _ = run(runtime, workflow, tmp_path, every=every, n=n)
        except NodeFailed:
            assert n > 3
            continue
        assert outputs == {"y": n * n, "z": [k * k for k in range(1, n + 1)]}
