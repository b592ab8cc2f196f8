"""Jobs in real workers: they end once, and whole; what dies is tried again, but not for ever; the queue goes on."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from kineograph.graph_runtime.jobs import dispatch, log
from kineograph.graph_runtime.jobs.attempts import Waiting
from kineograph.graph_runtime.jobs.dispatch import Dispatcher
from kineograph.graph_runtime.jobs.processes import birth, wait_for_end
from kineograph.graph_runtime.jobs.queue import Jobs
from kineograph.graph_runtime.jobs.series import POINTS, Series
from kineograph.graph_runtime.jobs.warm import Line, LookAhead, Warm, labels
from kineograph.graph_runtime.resume import KeepEvery

ROOT = Path(__file__).parents[2]
PACKS = (str(Path(__file__).parent / "packs"),)
SECONDS = 60.0


def toy(name: str, links: dict[str, str] | None = None, **params):
    return {"type": f"toys/{name}@1", "params": params, "links": links or {}}


def flow(nodes, inputs=None, **outputs):
    return {"format": 1, "inputs": inputs or {}, "nodes": nodes, "outputs": outputs}


def adding(n: int, **body):
    """A loop that adds up what the node ``safe`` makes of the numbers below n, and notes each."""
    body |= {"sum": toy("add", {"a": "safe", "b": "$acc"}), "w": toy("note", {"a": "safe"})}
    loop = {"type": "loop@1", "each": "n", "carry": {"acc": "zero"}, "body": {"nodes": body, "outputs": {"acc": "sum"}}}
    return flow({"zero": toy("add"), "n": toy("count", n=n), "l": loop}, y="l.acc")


def until(true, seconds: float = SECONDS):
    """Wait for something, and give what it is."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
    return found


def ended(jobs: Jobs, job: str):
    """The job, when it has ended."""
    return until(lambda: info if (info := jobs.get(job)).ended is not None else None)


def kinds(jobs: Jobs, job: str) -> list[str]:
    return [logged.event["event"] for logged in jobs.events(job)]


def opened(folder: Path, **options) -> tuple[Jobs, Dispatcher]:
    jobs = Jobs(folder)
    options = {"packs": PACKS, "store": folder / "results", "keep_every": KeepEvery(passes=1)} | options
    return jobs, Dispatcher(jobs, **options)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    jobs, dispatcher = opened(tmp_path_factory.mktemp("data"))
    dispatcher.start()
    yield jobs, dispatcher
    dispatcher.close()
    jobs.close()


@pytest.fixture
def jobs(running):
    return running[0]


def test_a_job_ends_with_all_that_came_of_it(running):
    jobs, dispatcher = running
    heard = []
    leave = dispatcher.subscribe(heard.append)
    nodes = {"d": toy("doze", {"a": "$k"}), "p": toy("plot", {"n": "d"}), "s": toy("slab", {"a": "p"}, path="a/s.bin")}
    job = jobs.submit(flow(nodes, {"k": {"type": "int", "default": 3}}, y="p"), {"k": 5}, title="one").id
    info = ended(jobs, job)
    leave()
    assert (info.state, info.attempts, info.values, info.ran, info.error) == ("done", 1, {"y": 5}, 3, None)
    (file,) = info.outputs
    content = b"".join(bytes([5 + at]) * 1000 for at in range(40))
    assert (file.name, file.node, file.nbytes) == ("a/s.bin", "s", 40_000)
    assert (file.path.read_bytes(), file.digest) == (content, blake3(content).hexdigest(20))
    assert {place: timing["cached"] for place, timing in info.timings.items()} == dict.fromkeys("dps", False)
    assert info.timings["d"]["seconds"] > 0.005
    assert jobs.metrics(job) == {"p loss": [(0, 0.0), (1, 1 / 3), (2, 2 / 3), (3, None), (4, 4 / 3)]}
    assert [pack["name"] for pack in info.packs] == [*PACKS]
    assert kinds(jobs, job) == ["JobQueued", "JobStarted", "RunStarted", *["NodeStarted", "NodeFinished"] * 2,
                                "NodeStarted", "FileWritten", "NodeFinished", "RunFinished", "JobEnded"]  # fmt: skip
    assert [each.seq for each in heard] == sorted({each.seq for each in heard})
    assert jobs.log(heard[4].seq - 1, [job])[0] == next(each for each in heard[4:] if each.job == job)
    again = ended(jobs, jobs.retry(job).id)
    assert (again.state, again.cached, again.timings["p"]["cached"], len(again.outputs)) == ("done", 1, True, 1)


def test_what_fails_says_where_and_the_queue_goes_on(jobs, tmp_path):
    bad = jobs.submit(flow({"f": toy("fail", a=7, unless=str(tmp_path / "no/such"))}, y="f"), {}).id
    wrong = jobs.submit(flow({"f": toy("add", a="seven")}, y="f"), {}).id
    good = jobs.submit(flow({"f": toy("add", a=7)}, y="f"), {}).id
    info = ended(jobs, bad)
    assert info.error is not None
    assert (info.state, info.attempts) == ("failed", 1)
    assert (info.error["path"], info.error["node_type"]) == ("f", "toys/fail@1")
    assert "toys.py" in info.error["traceback"]
    info = ended(jobs, wrong)
    assert info.error is not None
    assert (info.state, info.error["path"], info.error["input"]) == ("failed", "f", "a")
    assert ended(jobs, good).values == {"y": 7}


def test_a_job_that_kills_its_worker_stops_after_its_attempts(jobs):
    poison = jobs.submit(flow({"x": toy("die", how="kill", a=1, at=1)}, y="x"), {}, max_attempts=2).id
    good = jobs.submit(flow({"f": toy("add", a=8)}, y="f"), {}).id
    info = ended(jobs, poison)
    assert (info.state, info.attempts) == ("failed", 2)
    assert info.error is not None
    assert "begun 2 times, which is the limit, and never came to its end. 1. x (toys/die@1)" in info.error["message"]
    assert kinds(jobs, poison).count("JobStarted") == 2
    assert [each.event["error"] for each in jobs.events(poison) if each.event["event"] == "JobEnded"] == [info.error]
    assert ended(jobs, good).values == {"y": 8}


def test_a_job_whose_worker_died_goes_on_where_it_was_and_keeps_its_files(jobs, tmp_path):
    safe = toy("die", {"a": "$item"}, how="kill", at=5, unless=str(tmp_path / "there"))
    job = jobs.submit(adding(9, safe=safe), {}).id
    info = ended(jobs, job)
    assert (info.state, info.attempts, info.values) == ("done", 2, {"y": 36})
    assert [each.event["done"] for each in jobs.events(job) if each.event["event"] == "NodeResumed"] == [5]
    assert info.outputs[0].path.read_text().split() == [str(at) for at in range(9)]


def test_cancel_stops_between_passes_in_a_second_and_a_retry_goes_on(jobs):
    job = jobs.submit(adding(60, safe=toy("doze", {"a": "$item"}, seconds=0.1)), {}).id
    progress = until(lambda: (jobs.get(job).progress or {}).get("done", 0) > 2 and jobs.get(job).progress)
    assert (progress["path"], progress["total"]) == ("l", 60)
    assert [file.name for file in jobs.get(job).outputs] in ([], ["notes.txt"])
    asked = time.monotonic()
    assert jobs.cancel(job).cancelling
    info = ended(jobs, job)
    assert time.monotonic() - asked < 1.0
    assert (info.state, info.progress, info.cancelling) == ("cancelled", None, False)
    assert [file.name for file in info.outputs] == ["notes.txt"]
    again = jobs.retry(job).id
    resumed = until(lambda: [each for each in jobs.events(again) if each.event["event"] == "NodeResumed"])
    assert resumed[0].event["done"] > 2
    jobs.cancel(again)
    assert ended(jobs, again).state == "cancelled"


def test_finish_ends_the_loop_and_runs_what_follows(running):
    jobs, dispatcher = running
    workflow = adding(60, safe=toy("doze", {"a": "$item"}, seconds=0.1))
    workflow["nodes"]["after"] = toy("add", {"a": "l.acc"}, b=1000)
    workflow["outputs"] = {"y": "after"}
    job = jobs.submit(workflow, {}).id
    until(lambda: (jobs.get(job).progress or {}).get("done", 0) > 2)
    assert dispatcher.finish(job)
    info = ended(jobs, job)
    (cut,) = [each.event for each in jobs.events(job) if each.event["event"] == "LoopCut"]
    assert (info.state, cut["path"], cut["total"]) == ("done", "l", 60)
    assert info.values["y"] == 1000 + sum(range(cut["done"]))
    assert not dispatcher.finish(job), "it runs no more"


def test_a_second_cancel_ends_what_does_not_listen(jobs):
    job = jobs.submit(flow({"s": toy("sleep", a=3, at=3, seconds=50.0)}, y="s"), {}).id
    until(lambda: "NodeStarted" in kinds(jobs, job))
    jobs.cancel(job)
    jobs.cancel(job)
    assert ended(jobs, job).state == "cancelled"


def test_a_paused_queue_begins_nothing_and_ends_what_runs(jobs):
    nodes = {"d": toy("doze", a=99, seconds=0.3)}
    first, second = jobs.submit(flow(nodes, y="d"), {}).id, jobs.submit(flow(nodes, y="d"), {}).id
    until(lambda: jobs.get(first).state == "running")
    jobs.pause()
    assert ended(jobs, first).state == "done"
    time.sleep(0.3)
    assert jobs.get(second).state == "queued"
    jobs.cancel(second)
    third = jobs.submit(flow(nodes, y="d"), {}).id
    jobs.resume()
    assert ended(jobs, third).state == "done"
    assert jobs.get(second).started is None


def test_a_full_disk_is_waited_for(running, monkeypatch, capsys):
    jobs, dispatcher = running
    monkeypatch.setattr(dispatch, "SECONDS_TO_TRY_AGAIN", 0.1)
    end, faults = dispatcher._attempts.end, [sqlite3.OperationalError("database or disk is full")] * 2

    def full(*given):
        if faults:
            raise faults.pop()
        end(*given)

    monkeypatch.setattr(dispatcher._attempts, "end", full)
    info = ended(jobs, jobs.submit(flow({"f": toy("add", a=9)}, y="f"), {}).id)
    assert (info.state, info.attempts) == ("done", 1)
    assert capsys.readouterr().err.count("cannot be written: database or disk is full") == 2


def test_events_and_numbers_are_bounded(jobs, monkeypatch):
    monkeypatch.setattr(log, "EVENTS_KEPT", 20)
    nodes = {f"a{at}": toy("add", a=at, b=12345) for at in range(60)} | {"p": toy("plot", n=3000)}
    job = jobs.submit(flow(nodes, **{name: name for name in nodes}), {}).id
    ended(jobs, job)
    events = jobs.events(job)
    assert len(events) <= 21
    assert events[0].event["event"] == "EventsMissed"
    assert events[0].event["count"] + len(events) - 1 == 5 + 2 * 61  # all but the numbers to plot
    assert events[-1].event["event"] == "JobEnded"
    (points,) = jobs.metrics(job).values()
    assert len(points) <= POINTS
    assert (points[0], points[-1]) == ((0, 0.0), (2999, 2999 / 3))


@given(st.integers(0, 5000), st.integers(0, 5000))
@settings(max_examples=30, deadline=None)
def test_a_series_is_even_bounded_and_goes_on_where_an_attempt_was_resumed(n, resumed):
    series = Series()
    for step in range(n):
        series.add(step, float(step))
    series = Series.of_json(series.to_json(), resumed=True)
    for step in range(min(resumed, n), n + 500):
        series.add(step, float(step))
    points = series.points()
    steps = [step for step, _ in points]
    assert len(points) <= POINTS
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, n + 499)
    gaps = [later - before for before, later in itertools.pairwise(steps)]
    assert max(gaps) <= 4 * (n + 500) / POINTS + 1


def test_closing_puts_back_what_runs_and_the_next_start_goes_on(tmp_path):
    jobs, dispatcher = opened(tmp_path)
    dispatcher.start()
    job = jobs.submit(adding(20, safe=toy("doze", {"a": "$item"}, seconds=0.05)), {}).id
    until(lambda: (jobs.get(job).progress or {}).get("done", 0) > 2)
    dispatcher.close()
    assert (jobs.get(job).state, jobs.get(job).attempts) == ("queued", 0)
    jobs.close()
    jobs, dispatcher = opened(tmp_path, devices=("cpu", "cpu"))
    dispatcher.start()
    waiting = [jobs.submit(flow({"p": toy("doze", a=at, seconds=0.4)}, y="p"), {}).id for at in (1, 2)]
    until(lambda: sum(worker.job != "" for worker in dispatcher.workers()) == 2)  # side by side
    assert all(ended(jobs, each).state == "done" for each in waiting)
    info = ended(jobs, job)
    assert (info.state, info.attempts, info.values) == ("done", 1, {"y": 190})
    assert info.outputs[0].path.read_text().split() == [str(at) for at in range(20)]
    assert len({worker.pid for worker in dispatcher.workers()}) == 2
    dispatcher.close()
    jobs.close()


def test_a_worker_prefers_what_it_has_in_memory(tmp_path):
    jobs, dispatcher = opened(tmp_path, store="")
    models = [toy("sleep", a=model, at=model, seconds=0.7) for model in (1, 2)]
    jobs.pause()
    order = [(0, 1), (1, 2), (0, 3), (0, 4), (1, 5), (0, 6)]
    made = [jobs.submit(flow({"m": models[m], "x": toy("add", {"a": "m"}, b=b)}, y="x"), {}).id for m, b in order]
    dispatcher.start()
    jobs.resume()
    for job in made:
        ended(jobs, job)
    begun = sorted(range(6), key=lambda at: jobs.get(made[at]).started or 0.0)
    assert [order[at][0] for at in begun] == [0, 0, 0, 0, 1, 1]
    dispatcher.close()
    jobs.close()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_overtaking_has_its_bounds(data):
    ahead = LookAhead(window=6, times=2, seconds=5.0)
    line, now = Line(ahead), 0.0
    waiting: list[Waiting] = []
    overtaken: dict[str, list[float]] = {}
    for at in range(data.draw(st.integers(1, 40))):
        now += data.draw(st.sampled_from([0.1, 3.0]))
        priority, firm = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 9)) == 0
        waiting = sorted([*waiting, Waiting(str(at), priority, firm, ("", ""))], key=lambda each: -each.priority)
        if data.draw(st.booleans()):
            window = waiting[: ahead.window]
            gains = [data.draw(st.sampled_from([0.0, 0.2, 9.0])) for _ in window]
            chosen = line.choose(window, gains, now)
            for each in window[:chosen]:
                assert (each.priority, each.firm) == (window[chosen].priority, False)
                times = overtaken.setdefault(each.job, [])
                assert len(times) < ahead.times
                assert not times or now - times[0] < ahead.seconds
                times.append(now)
            assert chosen == 0 or gains[chosen] > gains[0] + 0.5
            line.taken(window, chosen, now)
            del waiting[chosen]


def test_labels_are_equal_where_the_same_is_computed():
    def made(model="a", prompt="x", **more):
        nodes = {
            "m": {"type": "load@1", "params": {"name": "$none"} | more, "links": {"name": "$model"}},
            "t": {"type": "text@1", "links": {"model": "m.text", "prompt": "$prompt"}},
            "l": {"type": "loop@1", "each": "t", "carry": {"x": "m"}, "body": {"nodes": {}, "outputs": {"x": "$x"}}},
        }
        inputs = {"model": {"type": "str", "default": "a"}, "prompt": {"type": "str", "default": "x"}}
        return labels(flow(nodes, inputs), {"model": model, "prompt": prompt})

    first = made()
    assert len({*first.values()}) == 3
    assert made() == first
    assert {name for name, label in made(prompt="y").items() if label == first[name]} == {"m"}
    assert {name for name, label in made(model="b").items() if label == first[name]} == set()
    chain = {f"n{at}": {"type": "add@1", "links": {"a": f"n{at - 1}"} if at else {}} for at in range(5000)}
    assert len(set(labels({"nodes": dict(reversed(chain.items()))}, {}).values())) == 5000
    assert len(
        labels({"nodes": {"a": {"type": "x", "links": {"a": "b"}}, "b": {"type": "x", "links": {"a": "a"}}}}, {})
    )


def test_what_had_to_run_again_shows_that_memory_was_short():
    warm = Warm()
    warm.ran({"a": "A", "b": "B"}, {"a": {"seconds": 3.0, "cached": False}, "b/in": {"seconds": 1.0, "cached": False}})
    warm.ran({"c": "C"}, {"c": {"seconds": 2.0, "cached": False}})
    assert warm.gain(["A", "B", "C", "D"]) == 6.0
    warm.ran({"a": "A", "b": "B"}, {"a": {"seconds": 4.0, "cached": False}, "b/in": {"seconds": 0.0, "cached": True}})
    assert (warm.gain(["A"]), warm.gain(["B"]), warm.gain(["C"])) == (4.0, 1.0, 0.0)


@pytest.mark.skipif(not birth(os.getpid()), reason="this system does not tell when processes were born")
def test_a_process_of_an_earlier_life_is_ended_and_its_namesake_is_not():
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    left, other = subprocess.Popen(sleeping), subprocess.Popen(sleeping)
    wait_for_end(other.pid, "another birth", 0.0)
    wait_for_end(left.pid, birth(left.pid), 0.1)
    assert left.wait(10) == -9
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_long_input_of_many_nodes_is_looked_at_once():
    nodes = {f"n{at}": {"type": "x@1", "links": {"text": "$long"}} for at in range(2000)}
    began = time.perf_counter()
    one, other = (labels({"nodes": nodes}, {"long": letter * 10**6}) for letter in "ab")
    assert time.perf_counter() - began < 5  # seconds; each node anew took ten times that
    assert one["n0"] == one["n1"] != other["n0"]


@pytest.mark.parametrize("n", [POINTS - 1, POINTS, POINTS + 1, 2 * POINTS, 4 * POINTS])
def test_the_newest_point_is_there_also_where_points_have_just_gone(n):
    series = Series()
    for step in range(n):
        series.add(step, float(step))
    assert series.points()[-1] == (n - 1, float(n - 1))
