"""``kineograph run --isolated``: the same events and files as without, sentences where a process ends, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import kineograph
from kineograph import default_runtime
from kineograph.graph_runtime.events import NodeCached
from kineograph.graph_runtime.executors.units import WorkUnit
from kineograph.graph_runtime.executors.worker import WorkerExecutor

ROOT = Path(kineograph.__file__).parent
PACKS = ROOT / "tests/runtime/packs"
COMMAND = "import sys; from kineograph.__main__ import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(autouse=True)
def _writes_below_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def flow(tmp_path):
    """A file of a loop that naps, a note of its sum, and a node of choice."""

    def write(n: int = 4, seconds: float = 0.02, **last) -> Path:
        nap = {"type": "toys/doze@1", "params": {"seconds": seconds}, "links": {"a": "$item"}}
        add = {"type": "toys/add@1", "links": {"a": "nap", "b": "$acc"}}
        nodes = {
            "zero": {"type": "toys/add@1"},
            "n": {"type": "toys/count@1", "params": {"n": n}},
            "l": {
                "type": "loop@1",
                "each": "n",
                "carry": {"acc": "zero"},
                "body": {"nodes": {"nap": nap, "sum": add}, "outputs": {"acc": "sum"}},
            },
            "w": {"type": "toys/note@1", "links": {"a": "l.acc"}},
        }
        path = tmp_path / "flow.json"
        path.write_text(json.dumps({"format": 1, "nodes": nodes | last}))
        return path

    return write


def lines(text: str):
    """Events without what a clock says."""
    events = [json.loads(line) for line in text.splitlines()]
    events = [event for event in events if event["event"] != "NodeProgress" or event["done"] == event["total"]]
    return [event | {"seconds": 0, "seconds_left": 0} for event in events]


def test_events_and_files_are_those_of_a_run_in_the_same_process(cli, flow, tmp_path):
    told = []
    for more in ([], ["--isolated"]):
        out = tmp_path / "out"
        code, text, err = cli("run", flow(), "--packs", PACKS, "--out", out, "--no-store", *more)
        assert (code, err) == (0, "")
        told.append(lines(text))
        assert (out / "notes.txt").read_text() == "6\n"
        (out / "notes.txt").unlink()
    assert told[0] == told[1]


@pytest.mark.parametrize("how", ["segfault", "kill"])
def test_a_crash_is_exit_1_and_a_sentence(cli, flow, how):
    crash = {"type": "toys/die@1", "params": {"how": how, "at": 6}, "links": {"a": "l.acc"}}
    later = {"type": "toys/note@1", "links": {"a": "crash"}, "params": {"path": "later.txt"}}
    code, text, err = cli("run", flow(crash=crash, later=later), "--packs", PACKS, "--isolated")
    assert code == 1
    assert re.fullmatch(r"crash \(toys/die@1\) failed: its process .*Run it again: it goes on .*\.\n", err)
    assert json.loads(text.splitlines()[-1]) == {
        "event": "NodeFailure", "path": "crash", "node_type": "toys/die@1", "message": err.rstrip(), "inputs": {}
    }  # fmt: skip


def test_a_node_that_raises_is_the_same_sentence_and_its_traceback_waits_for_debug(cli, flow, tmp_path, capsys):
    fails = {"type": "toys/fail@1", "params": {"a": 3, "unless": str(tmp_path / "no/such/file")}}
    later = {"type": "toys/note@1", "links": {"a": "f"}, "params": {"path": "later.txt"}}
    path = flow(f=fails, later=later)
    (_, _, local), (code, _, there) = (cli("run", path, "--packs", PACKS, *more) for more in ([], ["--isolated"]))
    assert (code, there) == (1, local)
    from kineograph.__main__ import main

    assert main(["run", str(path), "--packs", str(PACKS), "--isolated", "--debug"]) == 1
    assert "toys.py" in capsys.readouterr().err


def test_times_are_read_and_what_is_none_is_refused(cli, flow):
    for wrong in ("0", "10", "1.5h", ""):
        code, _, err = cli("run", flow(), "--packs", PACKS, "--limit", wrong)
        assert (code, "is not a time like 90s, 10m or 2h" in err) == (2, True)
    code, _, err = cli("run", flow(n=400, seconds=0.2), "--packs", PACKS, "--limit", "2s")
    assert code == 1
    assert "it took longer than the 2s that the run may take. Run it again: it goes on from what" in err


def test_torchrun_has_processes_of_its_own(cli, flow, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    code, _, err = cli("run", flow(), "--packs", PACKS, "--isolated")
    assert (code, err) == (2, "--isolated: torchrun started 2 processes, each is one of its own. Leave it out.\n")


@pytest.mark.parametrize("twice", [False, True])
def test_ctrl_c_stops_between_passes_and_again_at_once(flow, twice, tmp_path):
    path = flow(n=400) if not twice else flow(s={"type": "toys/sleep@1", "params": {"seconds": 60.0}},
                                              w2={"type": "toys/note@1", "links": {"a": "s"}})  # fmt: skip
    run = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "run", path, "--packs", PACKS, "--isolated", "--store", tmp_path / "store"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path,
    )  # fmt: skip
    assert run.stdout is not None
    reached = '"path": "s"' if twice else '"done": '
    next(line for line in run.stdout if reached in line)
    started = time.monotonic()
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: all its processes
    if twice:
        time.sleep(0.5)
        os.killpg(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert time.monotonic() - started < 10  # far less than a nap of 60 s, or 400
    assert err.splitlines()[-1] == "Stopped at once." if twice else err.splitlines()[-1].startswith("Stopped at l")
    assert "Traceback" not in err


def test_the_parent_loads_no_torch(flow, tmp_path):
    asking = COMMAND.replace("sys.exit(main(sys.argv[1:]))", "print(main(sys.argv[1:]), 'torch' in sys.modules)")
    run = [sys.executable, "-c", asking, "run", str(flow()), "--packs", str(PACKS), "--isolated", "--no-store"]
    done = subprocess.run(run, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "0 False"


def test_a_prompt_becomes_the_same_video_and_the_next_one_finds_the_models(tmp_path):
    workflow = json.loads((ROOT / "workflows/text_to_video.json").read_text())
    inputs = {"prompt": "a red circle moves right", "steps": 1, "frames": 5}
    unit = WorkUnit(workflow, inputs, out=str(tmp_path / "there"), store=str(tmp_path / "store"))
    here = default_runtime().run(workflow, inputs, out=tmp_path / "here").outputs["video"]
    with WorkerExecutor() as executor:
        result = executor.submit(unit).result(600)
        assert (result.outputs["video"].frames == here.frames).all()
        assert (tmp_path / "here/video.mp4").read_bytes() == (tmp_path / "there/video.mp4").read_bytes()
        events = []
        executor.submit(replace(unit, inputs=inputs | {"seed": 1}, store=""), events.append).result(600)
    cached = {event.node_type for event in events if isinstance(event, NodeCached)}
    assert {"load_any_model@1", "encode_text@1"} <= cached
