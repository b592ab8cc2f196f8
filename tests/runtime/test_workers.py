"""What a worker does beyond other executors: nodes that crash, hang or are killed end their run and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kineograph.graph_runtime.errors import Cancelled, InvalidWorkflow, Poisoned, WorkerDied
from kineograph.graph_runtime.events import NodeFailure, NodeProgress, NodeResumed, NodeStarted
from kineograph.graph_runtime.executors import deaths
from kineograph.graph_runtime.executors.deaths import how_it_ended, oom_kills
from kineograph.graph_runtime.executors.units import WorkUnit
from kineograph.graph_runtime.executors.worker import WorkerExecutor, environment
from kineograph.graph_runtime.resume import KeepEvery
from kineograph.graph_runtime.store import Store

PACKS = (str(Path(__file__).parent / "packs"),)
SECONDS = 120.0
AGAIN = "Run it again: it goes on from what the store kept."


@pytest.fixture(scope="module")
def executor():
    with WorkerExecutor(grace=1.5) as made:
        yield made


@pytest.fixture
def unit(tmp_path, graph):
    def make(nodes, options=None, **outputs) -> WorkUnit:
        given = {"out": str(tmp_path / "out"), "packs": PACKS, "store": str(tmp_path / "store")} | (options or {})
        return WorkUnit(graph(nodes, **outputs), **given)

    return make


def toy(name: str, links: dict[str, str] | None = None, **params):
    return {"type": f"toys/{name}@1", "params": params, "links": links or {}}


def adding(loop, n: int, **body):
    """A loop that adds up what the node ``safe`` makes of the numbers below n."""
    body |= {"sum": toy("add", {"a": "safe", "b": "$acc"})}
    nodes = {"zero": toy("add"), "n": toy("count", n=n)}
    return nodes | {"l": loop("n", body, {"acc": "sum"}, carry={"acc": "zero"})}


def process_of(executor, unit) -> int:
    """The number of the worker's process; asking twice must not find the answer in memory."""
    asked = toy("process", a=time.monotonic_ns() % 10**9)
    return executor.submit(unit({"p": asked}, {"store": ""}, p="p")).result(SECONDS).outputs["p"]


ENDS = {
    "segfault": r"its process ended with a segmentation fault \(SIGSEGV\)\. That is a fault in native code",
    "abort": r"its process gave up \(abort\) \(SIGABRT\)\. That is a fault in native code",
    "kill": r"its process was killed.*\(SIGKILL",
    "exit": r"its process ended itself with exit code 3\. Run it again",
    "leave a process behind": r"its process was killed",
}


@pytest.mark.parametrize("how", ENDS)
def test_a_node_that_ends_its_process_fails_its_run_and_nothing_else(executor, unit, how):
    number = [*ENDS].index(how)  # so that none is known from another
    nodes = {"d": toy("doze", a=number, seconds=0.1), "x": toy("die", {"a": "d"}, how=how, at=number)}
    events = []
    with pytest.raises(WorkerDied, match=rf"^x \(toys/die@1\) failed: {ENDS[how]}") as died:
        executor.submit(unit(nodes, y="x"), events.append).result(SECONDS)
    assert str(died.value).endswith(AGAIN)
    assert events[-1] == NodeFailure("x", "toys/die@1", str(died.value))
    assert ("std::bad_alloc" in died.value.last_words) == (how == "abort")
    result = executor.submit(unit({"d": nodes["d"]}, y="d")).result(SECONDS)
    assert (result.outputs["y"], result.cached) == (number, 1)


def test_a_run_whose_process_died_goes_on_from_the_store_when_it_is_run_again(executor, unit, loop, tmp_path):
    nodes = adding(
        loop,
        12,
        slow=toy("doze", {"a": "$item"}, seconds=0.05),
        safe=toy("die", {"a": "slow"}, how="kill", at=7, unless=str(tmp_path / "there")),
        w=toy("note", {"a": "safe"}),
    )
    asked = unit(nodes, {"keep_every": KeepEvery(passes=1)}, y="l.acc")
    with pytest.raises(
        WorkerDied, match=r"^l \(loop@1\) failed( in l/\w+)?( after at least \d of 12)?: its process was killed"
    ):
        executor.submit(asked).result(SECONDS)
    events = []
    assert executor.submit(asked, events.append).result(SECONDS).outputs["y"] == sum(range(12))
    assert [event.done for event in events if isinstance(event, NodeResumed)] == [7]
    assert (tmp_path / "out/notes.txt").read_text().split() == [str(at) for at in range(12)]  # each effect once


def test_nothing_is_tried_again_behind_the_callers_back(executor, unit, tmp_path):
    nodes = {"a": toy("add", a=5), "w": toy("note", {"a": "a"}), "x": toy("die", {"a": "a"}, how="exit", at=5)}
    asked = unit(nodes | {"w2": toy("note", {"a": "x"}, path="later.txt")})
    with pytest.raises(WorkerDied):
        executor.submit(asked).result(SECONDS)
    assert process_of(executor, unit)
    assert (tmp_path / "out/notes.txt").read_text() == "5\n"
    assert not (tmp_path / "out/later.txt").exists()


def test_a_run_that_keeps_ending_its_process_is_refused_with_its_history(unit, tmp_path):
    with WorkerExecutor(tries=2) as executor:
        bad = unit({"x": toy("die", how="exit")}, y="x")
        once = unit({"x": toy("die", how="exit", unless=str(tmp_path / "there"))}, y="x")
        for _ in range(2):
            with pytest.raises(WorkerDied):
                executor.submit(bad).result(SECONDS)
        with pytest.raises(
            Poisoned, match=r"ended its process 2 times.*1\. x .* exit code 3\. 2\. x .*Change"
        ) as refused:
            executor.submit(bad)
        assert len(refused.value.history) == 2
        with pytest.raises(WorkerDied):
            executor.submit(once).result(SECONDS)
        assert executor.submit(once).result(SECONDS).outputs["y"] == 0
        assert executor.submit(unit({"x": toy("die", a=1, how="exit")}, y="x")).result(SECONDS).outputs["y"] == 1


def test_a_node_that_hangs_is_named_and_ended_after_its_limit(executor, unit, loop):
    nodes = adding(loop, 9, safe=toy("sleep", {"a": "$item"}, seconds=60.0, at=2))
    started = time.monotonic()
    said = r"l \(loop@1\) failed in l/safe after at least [12] of 9: it did not get on for 2s"
    with pytest.raises(WorkerDied, match=said):
        executor.submit(unit(nodes, {"node_limit": 2.0}, y="l.acc")).result(SECONDS)
    assert time.monotonic() - started < 20
    assert process_of(executor, unit)


def test_a_busy_node_is_not_taken_for_a_hang_where_there_is_no_limit(executor, unit):
    asked = unit({"s": toy("sleep", a=1, at=1, seconds=1.0)}, y="s")
    assert executor.submit(asked).result(SECONDS).outputs["y"] == 1


@pytest.mark.parametrize("twice", [True, False])
def test_what_does_not_listen_is_ended_by_a_second_cancel_or_after_a_while(executor, unit, twice):
    job = executor.submit(unit({"s": toy("sleep", seconds=60.0)}, y="s"))
    next(event for event in job.events() if isinstance(event, NodeStarted))
    started = time.monotonic()
    job.cancel()
    if twice:
        job.cancel()
    with pytest.raises(Cancelled, match="Stopped at s"):
        job.result(SECONDS)
    assert (time.monotonic() - started < 1.4) == twice
    assert process_of(executor, unit)


def test_the_process_is_kept_and_one_that_ended_between_runs_is_replaced(executor, unit):
    first = process_of(executor, unit)
    assert process_of(executor, unit) == first
    os.kill(first, signal.SIGKILL)
    time.sleep(0.3)
    assert process_of(executor, unit) != first


def test_sigterm_lets_a_worker_keep_what_it_reached(executor, unit, loop):
    pid = process_of(executor, unit)
    nodes = adding(loop, 60, safe=toy("doze", {"a": "$item"}, seconds=0.05))
    job = executor.submit(unit(nodes, y="l.acc"))
    next(event for event in job.events() if isinstance(event, NodeProgress) and event.done > 2)
    os.kill(pid, signal.SIGINT)  # a terminal sends it to all
    os.kill(pid, signal.SIGTERM)
    with pytest.raises(Cancelled):
        job.result(SECONDS)
    again = executor.submit(unit(adding(loop, 9, safe=nodes["l"]["body"]["nodes"]["safe"]), y="l.acc"))
    assert any(isinstance(event, NodeResumed) for event in again.events())
    assert again.result(SECONDS).outputs["y"] == sum(range(9))


def test_what_nodes_print_is_no_message_and_is_shown(executor, unit, capsys):
    job = executor.submit(unit({"t": toy("talk", a=time.monotonic_ns() % 10**9)}, {"store": ""}, y="t"))
    assert job.result(SECONDS).outputs["y"] == ""
    until = time.monotonic() + 5
    shown = ""
    while "cancelled" not in shown and time.monotonic() < until:
        shown += capsys.readouterr().err
        time.sleep(0.02)
    assert '{"cancelled": "here"}' in shown


def test_other_packs_have_another_process_and_a_broken_one_is_told(executor, unit, tmp_path):
    first = process_of(executor, unit)
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs/bad.py").write_text("import nothing_of_that_name")
    with pytest.raises(InvalidWorkflow, match=r"pack bad: .* does not load: ModuleNotFoundError"):
        executor.submit(unit({"a": toy("add")}, {"packs": (str(tmp_path / "packs"),)}, y="a")).result(SECONDS)
    assert process_of(executor, unit) != first


def test_a_factory_that_is_not_there_fails_the_run(unit):
    with WorkerExecutor(factory="kineograph:no_such_thing") as executor, pytest.raises(WorkerDied) as died:
        executor.submit(unit({"a": toy("add")}, y="a")).result(SECONDS)
    assert str(died.value).startswith("The run failed: its process ended itself with exit code 1.")
    assert "no_such_thing" in died.value.last_words


def test_each_device_has_a_worker_of_its_own(unit, tmp_path):
    with WorkerExecutor(["cpu", "cpu"]) as executor:
        units = [unit({"d": toy("doze", a=at, seconds=1.0), "p": toy("process", {"a": "d"})}, p="p") for at in (1, 2)]
        jobs = [executor.submit(asked) for asked in units]
        assert len({job.result(SECONDS).outputs["p"] for job in jobs}) == 2


def test_a_device_is_what_a_process_sees(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert environment("") == {}
    assert environment("cpu") == {"CUDA_VISIBLE_DEVICES": ""}
    assert environment("cuda:1") == {"CUDA_VISIBLE_DEVICES": "1"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    assert environment("cuda:1") == {"CUDA_VISIBLE_DEVICES": "GPU-7"}
    for wrong in ("cuda:2", "cuda", "tpu:0", "cuda:-1"):
        with pytest.raises(ValueError, match=r"is no device for a worker"):
            environment(wrong)


def test_how_a_process_ended_in_words(monkeypatch, tmp_path):
    assert how_it_ended(-9, 14_200_000_000, 3, 4)[0] == (
        "was killed by the system because memory ran out (SIGKILL, with 14.2 GB)"
    )
    assert how_it_ended(-9, 0, 3, 3) == ("was killed from outside (SIGKILL)", "")
    assert how_it_ended(-9, 0, None, None)[0] == "was killed (SIGKILL), most likely because memory ran out"
    assert how_it_ended(0xC0000005, 0, None, None)[0] == "ended with an access violation"
    assert how_it_ended(0xC0000005 - 2**32, 0, None, None)[0].startswith("was ended by")
    assert how_it_ended(-99, 0, None, None) == ("was ended by signal 99", "")
    monkeypatch.setattr(deaths, "VMSTAT", tmp_path / "vmstat")
    assert oom_kills() is None
    (tmp_path / "vmstat").write_text("pgfault 7\noom_kill 12\n")
    assert oom_kills() == 12


PARENT = """
import sys, threading, time
from kineograph.graph_runtime.executors.units import WorkUnit
from kineograph.graph_runtime.executors.worker import WorkerExecutor

packs, store, how = sys.argv[1:]
executor = WorkerExecutor()
nodes = {"p": {"type": "toys/process@1"}}
nodes["d"] = {"type": "toys/doze@1", "params": {"seconds": 60.0}, "links": {"a": "p"}}
if how == "idle":
    del nodes["d"]
job = executor.submit(WorkUnit({"format": 1, "nodes": nodes, "outputs": {"y": "p"}}, packs=(packs,), store=store))
if how == "idle":
    print(job.result(60).outputs["y"], flush=True)
else:
    for event in job.events():
        if type(event).__name__ == "NodeStarted" and event.path == "d":
            break
    print("busy", flush=True)
assert not {"torch", "numpy", "av", "networkx"} & set(sys.modules), sorted(sys.modules)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["idle", "busy"])
def test_a_worker_dies_with_its_parent_which_knows_no_torch(tmp_path, how):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, PACKS[0], str(tmp_path / "store"), how], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline()
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    pids = [int(pid) for task in children.parent.parent.glob("*/children") for pid in task.read_text().split()]
    assert pids
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 15
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_output_that_cannot_come_says_why_when_it_is_asked_for(executor, unit, tmp_path):
    def outputs(**options):
        return executor.submit(unit({"d": toy("digits", n=40_000)}, options, y="d")).result(SECONDS).outputs

    with pytest.raises(
        LookupError, match=r"^The output y stays in the process of its run: it is too large to come with"
    ):
        outputs(store="")["y"]
    with pytest.raises(LookupError, match=r"it was not asked for\.$"):
        outputs(deliver=False)["y"]
    there = outputs()
    assert len(there["y"]) == 40_000
    store = Store(tmp_path / "store")
    store.prune(0)
    store.close()
    with pytest.raises(LookupError, match="other results took its place"):
        there["y"]
