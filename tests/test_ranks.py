"""Several processes train together: equal losses for any number of them, and what happens when one is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kineograph.nodes.networks.weights import load_weights

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
STEPS = 6


def tiny_training() -> dict:
    """``train_dit_batches`` with a DiT of one narrow block on batches of 4 clips of 5 x 16 x 16, at a constant rate.

    In float32: in bfloat16 each share's gradient is rounded to 8 bits, so losses part by 1e-4 within 6 steps.
    """
    raw = json.loads((HERE.parent / "workflows" / "train_dit_batches.json").read_text())
    raw["nodes"]["clips"]["params"]["formats"] = ["5x16x16:4"]
    raw["nodes"]["dit"]["params"] = {"channels": 8, "width": 32, "depth": 1, "heads": 2}
    body = raw["nodes"]["train"]["body"]["nodes"]
    body["record"]["params"]["every"] = body["record_norm"]["params"]["every"] = 1
    body["checkpoint"]["params"]["every"] = 2
    del body["rate"], body["update"]["links"]["lr"]
    del raw["nodes"]["train"]["links"]["steps"], raw["nodes"]["train"]["links"]["peak"], raw["inputs"]["rate"]
    body["update"]["params"] = {"lr": 3e-3}
    body["predicted"]["params"]["precision"] = "float32"
    return raw


def tiny_packed() -> dict:
    """``train_dit`` with a DiT of one narrow block on groups of small clips, at a constant rate, in float32."""
    raw = json.loads((HERE.parent / "workflows" / "train_dit.json").read_text())
    raw["nodes"]["clips"]["params"] |= {"budget": 160, "longest": 9, "smallest": 16, "largest": 32}
    raw["nodes"]["dit"]["params"] = {"channels": 8, "width": 32, "depth": 1, "heads": 2}
    body = raw["nodes"]["train"]["body"]["nodes"]
    body["record"]["params"]["every"] = body["record_norm"]["params"]["every"] = 1
    del body["rate"], body["update"]["links"]["lr"]
    del raw["nodes"]["train"]["links"]["steps"], raw["nodes"]["train"]["links"]["peak"], raw["inputs"]["rate"]
    body["update"]["params"] = {"lr": 3e-3}
    body["predicted"]["params"]["precision"] = "float32"
    return raw


def tiny_vae() -> dict:
    """``train_vae`` with small batches, in float32."""
    raw = json.loads((HERE.parent / "workflows" / "train_vae.json").read_text())
    raw["nodes"]["clips"]["params"]["formats"] = ["5x16x16:4", "1x16x24:8"]
    for clips in ("some_clips", "other_clips"):
        raw["nodes"][clips]["params"] |= {"batches": 1, "formats": ["5x16x16:8"]}
    body = raw["nodes"]["train"]["body"]["nodes"]
    body["record"]["params"]["every"] = body["record_norm"]["params"]["every"] = 1
    body["posterior"]["params"]["precision"] = body["back"]["params"]["precision"] = "float32"
    return raw


def with_muon() -> dict:
    raw = tiny_training()
    raw["nodes"]["optimizer"] = {"type": "muon@1"}
    return raw


WORKFLOWS = {"plain": tiny_training, "muon": with_muon, "packed": tiny_packed, "vae": tiny_vae}


class Runs:
    """Runs of the command line, each by a number of processes, forked from one that has imported torch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, raw in WORKFLOWS.items():
            (folder / f"{name}.json").write_text(json.dumps(raw()))
        self.asked: dict[str, dict] = {}

    def ask(self, name: str, processes: int, *more: str, file: str = "plain", kill_at: int | None = None) -> None:
        out = ["--json", "--out", str(self.folder / name)]
        arguments = ["run", str(self.folder / f"{file}.json"), *out, *more, "--set", f"steps={STEPS}"]
        self.asked[name] = {"processes": processes, "arguments": arguments, "kill_at": kill_at}

    def told(self) -> dict[str, dict]:
        call = [sys.executable, str(HERE / "process_group.py")]
        given = json.dumps(list(self.asked.values()))
        done = subprocess.run(call, input=given, capture_output=True, text=True, check=False, env=ENVIRONMENT)
        assert done.returncode == 0, done.stderr
        return dict(zip(self.asked, json.loads(done.stdout), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, dict]:
    runs = Runs(folder)
    for count in (1, 2, 4):
        runs.ask(f"by {count}", count, "--no-store")
    for file in ("muon", "packed", "vae"):
        for count in (1, 2):
            runs.ask(f"{file} by {count}", count, "--no-store", file=file)
    runs.ask("by 3", 3, "--no-store")
    store = ("--store", str(folder / "store"), "--keep-every", "2")
    runs.ask("cut", 2, *store, kill_at=2 * 3)
    runs.ask("goes on by 4", 4, *store)
    runs.ask("done", 2, *store)
    return runs.told()


def metrics(run: dict, name: str = "loss") -> dict[int, float]:
    return {line["step"]: line["value"] for line in run["lines"] if line["event"] == "Metric" and line["name"] == name}


def weights(folder: Path, run: str) -> dict[str, torch.Tensor]:
    return load_weights(folder / run / "flipbook" / "dit.safetensors")[0]


def resumed(run: dict) -> int:
    return next((line["done"] for line in run["lines"] if line["event"] == "NodeResumed"), 0)


@pytest.mark.parametrize("name", ["by 2", "by 4"])
def test_losses_norms_and_weights_do_not_depend_on_the_number_of_processes(name: str, told: dict, folder: Path) -> None:
    alone = told["by 1"]
    assert told[name]["codes"] == [0] * len(told[name]["codes"]), told[name]["said"]
    for metric in ("loss", "gradient_norm"):
        assert len(metrics(alone, metric)) == STEPS
        assert metrics(told[name], metric) == pytest.approx(metrics(alone, metric), abs=1e-4)
    ours, theirs = weights(folder, "by 1"), weights(folder, name)
    assert list(ours) == list(theirs)
    assert max((ours[key].float() - theirs[key].float()).abs().max().item() for key in ours) < 1e-3
    assert sorted(path.relative_to(folder / name) for path in (folder / name).rglob("*.safetensors")) == [
        Path("checkpoint/dit.safetensors"),
        Path("flipbook/dit.safetensors"),
    ]


def test_muon_takes_whole_matrices_of_mean_gradients(told: dict, folder: Path) -> None:
    assert metrics(told["muon by 2"]) == pytest.approx(metrics(told["muon by 1"]), abs=1e-4)
    hidden, otherwise = (weights(folder, run)["blocks.0.up.weight"].float() for run in ("muon by 2", "by 2"))
    assert (hidden - otherwise).abs().max() > 1e-3


@pytest.mark.parametrize("file", ["packed", "vae"])
def test_packed_groups_and_batches_of_a_vae_are_shared_out(file: str, told: dict) -> None:
    alone, together = told[f"{file} by 1"], told[f"{file} by 2"]
    assert together["codes"] == [0, 0], together["said"]
    for metric in ("loss", "gradient_norm"):
        assert len(metrics(alone, metric)) == STEPS
        assert metrics(together, metric) == pytest.approx(metrics(alone, metric), rel=1e-5)


def test_a_process_takes_its_share_of_a_packed_group(told: dict) -> None:
    all_clips, own = (
        sum(line["total"] for line in told[name]["lines"] if is_last_clip(line))
        for name in ("packed by 1", "packed by 2")
    )
    assert all_clips > 6 * STEPS
    assert 0.3 < own / all_clips < 0.7


def is_last_clip(line: dict) -> bool:
    return line["event"] == "NodeProgress" and line["path"] == "train/clips" and line["done"] == line["total"]


def test_a_batch_that_cannot_be_shared_out_is_said_so(told: dict) -> None:
    assert told["by 3"]["codes"] == [1, 1, 1]
    assert "4 clips cannot be cut into 3 equal parts; make it a multiple of 3." in told["by 3"]["said"]


def test_where_one_is_killed_the_others_end_with_a_sentence_and_leave_no_half_file(told: dict, folder: Path) -> None:
    cut = told["cut"]
    assert cut["codes"] == [1, -signal.SIGKILL]
    assert "Process 0 of 2: It cannot go on, because another process of this run ended." in cut["said"]
    assert "Traceback" not in cut["said"]
    assert [path.name for path in (folder / "cut").rglob("*") if path.is_file()] == ["dit.safetensors"]


def test_a_training_goes_on_by_another_number_of_processes_to_equal_losses(told: dict, folder: Path) -> None:
    more = told["goes on by 4"]
    assert more["codes"] == [0] * 4, more["said"]
    assert resumed(more) in (2, 4)
    left = {step: value for step, value in metrics(told["by 1"]).items() if step >= resumed(more)}
    assert metrics(more) == pytest.approx(left, abs=1e-4)
    assert told["done"]["codes"] == [0, 0]
    assert metrics(told["done"]) == {}
    ours, theirs = weights(folder, "goes on by 4"), weights(folder, "done")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def pid_of_rank(rank: int, parent: int) -> int:
    """The process that torchrun started as this rank."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mine = int((process / "stat").read_text().rpartition(")")[2].split()[1]) == parent
            if mine and f"\0RANK={rank}\0" in (process / "environ").read_text():
                return int(process.name)
        except OSError:  # it ended in the meantime
            continue
    raise AssertionError(f"torchrun {parent} has no rank {rank}")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the process in /proc")
def test_torchrun_starts_again_after_a_kill_and_ends_with_the_same_losses(told: dict, folder: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    run = ["run", str(folder / "plain.json"), "--json", "--out", str(folder / "elastic"), "--set", f"steps={STEPS}"]
    store = ["--store", str(folder / "elastic store"), "--keep-every", "2"]
    call = [*torchrun, "-m", "kineograph", *run, *store]
    lines = []
    with (
        open(folder / "said", "w+") as said,
        subprocess.Popen(call, stdout=subprocess.PIPE, stderr=said, text=True, env=ENVIRONMENT) as running,
    ):
        assert running.stdout is not None
        for line in running.stdout:
            lines.append(json.loads(line))
            if len(metrics({"lines": lines})) == 3 and not resumed({"lines": lines}):
                os.kill(pid_of_rank(1, running.pid), signal.SIGKILL)
                break
        lines += map(json.loads, running.stdout)
        code = running.wait(timeout=300)
        said.seek(0)
        words = said.read()
    assert code == 0, words
    assert resumed({"lines": lines}) in (2, 4), words
    assert metrics({"lines": lines}) == pytest.approx(metrics(told["by 1"]), abs=1e-4)
