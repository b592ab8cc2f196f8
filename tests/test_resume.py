"""Killed with -9 and run again: trainings and samplings go on, and end with the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKFLOWS = Path(__file__).parent.parent / "workflows"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def tiny_training(*, schedule: bool) -> dict:
    """``train_dit_batches`` with a DiT of one narrow block on clips of 5 x 16 x 16, and its last state as outputs."""
    raw = json.loads((WORKFLOWS / "train_dit_batches.json").read_text())
    raw["nodes"]["clips"]["params"]["formats"] = ["5x16x16:2"]
    raw["nodes"]["dit"]["params"] = {"channels": 8, "width": 32, "depth": 1, "heads": 2}
    body = raw["nodes"]["train"]["body"]["nodes"]
    body["record"]["params"]["every"] = 1
    del body["record_norm"]
    body["checkpoint"]["params"]["every"] = 7
    if not schedule:
        del body["rate"], body["update"]["links"]["lr"]
        del raw["nodes"]["train"]["links"]["steps"], raw["nodes"]["train"]["links"]["peak"], raw["inputs"]["rate"]
        body["update"]["params"] = {"lr": 3e-3}
    raw["outputs"] = {"state": "train.state", "average": "train.average"}
    return raw


def runs(tmp_path: Path, workflow: dict, *plan: tuple, keep_every: int = 2) -> list[list[dict]]:
    """Run a workflow several times, each (inputs, passes after which it is killed or None, whether with a store)."""
    store = str(tmp_path / "store")
    given = {"workflow": workflow, "out": str(tmp_path / "out"), "keep_every": keep_every}
    given["runs"] = [(inputs, kill, store if kept else "") for inputs, kill, kept in plan]
    script = Path(__file__).parent / "killed_run.py"
    call = [sys.executable, str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, input=json.dumps(given), capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout)["runs"]


def end(run: list[dict]) -> dict:
    return run[-1]["outputs"]


def resumed(run: list[dict]) -> int:
    return next((line["resumed"] for line in run if "resumed" in line), 0)


def metrics(run: list[dict]) -> dict[int, float]:
    return {line["step"]: line["value"] for line in run if "step" in line}


def test_a_training_killed_many_times_ends_with_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    workflow, inputs = tiny_training(schedule=True), {"steps": 40}
    kills = [(inputs, at, True) for at in (2, 6, 11, 4, 8, 3)]
    whole, *killed = runs(tmp_path, workflow, (inputs, None, False), *kills, *[(inputs, None, True)] * 2)
    *cut, last, again = killed
    assert all("outputs" not in run[-1] for run in cut)
    assert end(last) == end(whole)
    starts = [resumed(run) for run in killed[:-1]]
    assert starts == sorted(starts)
    assert len(set(starts)) > 4
    seen: dict[int, float] = {}
    for run in killed[:-1]:
        told = metrics(run)
        assert not told or min(told) == resumed(run)
        assert all(seen.get(step, value) == value for step, value in told.items())
        seen |= told
    assert seen == metrics(whole)
    assert (end(again), metrics(again), again[-1]["cached"]) == (end(whole), {}, 2)


def test_a_sampling_killed_on_the_way_gives_the_same_frames(tmp_path: Path) -> None:
    workflow = json.loads((WORKFLOWS / "text_to_video.json").read_text())
    inputs = {"steps": 12, "frames": 5, "height": 32, "width": 32}
    plan = [(inputs, None, False), (inputs, 2, True), (inputs, 4, True), (inputs, None, True)]
    whole, *_, last = runs(tmp_path, workflow, *plan, keep_every=1)
    assert 5 <= resumed(last) < 12
    assert end(last) == end(whole)


def test_a_finished_training_goes_on_where_it_ended_when_more_steps_are_asked_for(tmp_path: Path) -> None:
    workflow = tiny_training(schedule=False)
    plan = [({"steps": steps}, None, store) for steps, store in ((16, False), (10, True), (16, True), (12, True))]
    whole, first, more, fewer = runs(tmp_path, workflow, *plan, keep_every=4)
    assert resumed(first) == 0
    assert resumed(more) == 10
    assert sorted(metrics(more)) == list(range(10, 16))
    assert end(more) == end(whole)
    assert metrics(fewer) == {step: value for step, value in metrics(whole).items() if step in metrics(fewer)}


def test_a_schedule_that_looks_at_the_number_of_steps_makes_it_another_training(tmp_path: Path) -> None:
    workflow = tiny_training(schedule=True)
    plan = [({"steps": 8}, None, False), ({"steps": 4}, None, True), ({"steps": 8}, None, True)]
    whole, _, more = runs(tmp_path, workflow, *plan)
    assert (resumed(more), end(more)) == (0, end(whole))
