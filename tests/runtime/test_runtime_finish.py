"""A loop that is asked to finish early: what follows runs with what it has; nothing of that is taken for the whole."""

from __future__ import annotations

import threading

import pytest

from kineograph.graph_runtime.cache import MemoryCache
from kineograph.graph_runtime.events import LoopCut, NodeProgress, NodeResumed
from kineograph.graph_runtime.executors.local import LocalExecutor
from kineograph.graph_runtime.executors.units import WorkUnit
from kineograph.graph_runtime.resume import KeepEvery
from kineograph.graph_runtime.runtime import Runtime
from kineograph.graph_runtime.store import Store


@pytest.fixture
def summing(graph, spec, loop):
    """The sum of the numbers below 10; a second loop begins with it; its end is written to a file."""

    def make(inner: bool = False) -> dict:
        body = {"sum": spec("add@1", {"a": "$item", "b": "$acc"})}
        if inner:
            again = {"more": spec("add@1", {"a": "$acc"}, b=1)}
            body |= {"few": spec("count@1", n=3), "again": loop("few", again, {"acc": "more"}, carry={"acc": "sum"})}
        first = loop("numbers", body, {"acc": "again.acc" if inner else "sum"}, carry={"acc": "zero"})
        hundreds = {"sum": spec("add@1", {"a": "$acc"}, b=100)}
        second = loop("numbers", hundreds, {"acc": "sum"}, carry={"acc": "first.acc"})
        nodes = {"numbers": spec("count@1", n=10), "zero": spec("add@1"), "first": first, "second": second}
        return graph(nodes | {"file": spec("write@1", {"x": "second.acc"})}, y="first.acc", z="second.acc")

    return make


def asked_after(passes: int, at: str = "first"):
    """A listener that asks for the end once a loop has done so many passes, what it heard, and the wish."""
    finish, heard = threading.Event(), []

    def listen(event) -> None:
        heard.append(event)
        if isinstance(event, NodeProgress) and event.path == at and event.done >= passes:
            finish.set()

    return listen, heard, finish


@pytest.fixture
def eager(monkeypatch):
    """Progress is told after every pass."""
    monkeypatch.setattr("kineograph.graph_runtime.run_state.SECONDS_BETWEEN_PROGRESS", 0.0)


def test_what_follows_runs_with_what_the_loop_has(runtime, summing, eager, tmp_path):
    listen, heard, finish = asked_after(4)
    outcome = runtime.run(summing(), out=tmp_path, listen=listen, finish=finish)
    assert outcome.outputs == {"y": 0 + 1 + 2 + 3, "z": 6 + 1000}, "the second loop has all of its passes"
    assert (tmp_path / "x.txt").read_text().startswith("1006\n")
    assert [event for event in heard if isinstance(event, LoopCut)] == [LoopCut("first", "loop@1", 4, 10)]


def test_nothing_of_a_cut_run_is_taken_for_the_whole(runtime, summing, eager, tmp_path):
    listen, _, finish = asked_after(4)
    runtime.run(summing(), out=tmp_path, listen=listen, finish=finish)
    assert runtime.run(summing(), out=tmp_path).outputs == {"y": 45, "z": 1045}
    assert (tmp_path / "x.txt").read_text().startswith("1045\n")


def test_it_can_go_on_from_where_it_was_cut(registry, summing, eager, tmp_path):
    def run(**how):
        return Runtime(registry, MemoryCache(), store).run(summing(), out=tmp_path, **how)

    store = Store(tmp_path / "store", least_seconds=0.0)
    listen, _, finish = asked_after(4)
    run(listen=listen, finish=finish, keep_every=KeepEvery(passes=1))
    heard = []
    assert run(listen=heard.append).outputs == {"y": 45, "z": 1045}
    assert [event for event in heard if isinstance(event, NodeResumed)] == [NodeResumed("first", "loop@1", 4, 10)]
    store.close()


def test_the_outermost_loop_is_meant(runtime, summing, eager, tmp_path):
    listen, heard, finish = asked_after(1, at="first/again")
    outcome = runtime.run(summing(inner=True), out=tmp_path, listen=listen, finish=finish)
    assert outcome.outputs["y"] == 0 + 3, "the inner loop ended as ever"
    assert [event.path for event in heard if isinstance(event, LoopCut)] == ["first"]


def test_a_wish_before_the_loop_is_not_for_it(runtime, summing, tmp_path):
    finish = threading.Event()
    finish.set()
    assert runtime.run(summing(), out=tmp_path, finish=finish).outputs["y"] == 45


def test_a_job_of_an_executor_finishes_early(registry, graph, spec, loop, tmp_path):
    body = {"slow": spec("sleepy@1", {"x": "$item"}, seconds=0.0005), "sum": spec("add@1", {"a": "slow", "b": "$acc"})}
    around = {"numbers": spec("count@1", n=10_000), "zero": spec("add@1")}
    around["l"] = loop("numbers", body, {"acc": "sum"}, carry={"acc": "zero"})
    began = threading.Event()

    def listen(event) -> None:
        if isinstance(event, NodeProgress) and event.path == "l":
            began.set()

    with LocalExecutor(lambda packs: Runtime(registry)) as executor:
        job = executor.submit(WorkUnit(graph(around, y="l.acc"), out=str(tmp_path)), listen)
        assert began.wait(20)
        job.finish()
        assert 0 <= job.result(20).outputs["y"] < sum(range(10_000))
