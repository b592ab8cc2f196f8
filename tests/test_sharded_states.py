"""Trainings whose weights are sharded, on disk: each process writes its part, any number of them read all of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from kineograph.graph_runtime.codecs import rows_of
from kineograph.graph_runtime.store import Store
from kineograph.nodes import codecs

assert codecs  # imported so that the codecs are known
HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
LOADS = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (2, 4), (3, 2)]
"""By how many a state was saved, and by how many it is read."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, dict]:
    asked = [("save", saved, saved) for saved in (1, 2, 3)]
    asked += [("load", saved, count) for saved, count in LOADS]
    asked += [("dies_before_shard", 4, 2), ("dies_before_index", 5, 2)]
    given = [
        {"program": str(HERE / "sharded_state.py"), "arguments": [what, str(folder), str(key)], "processes": count}
        for what, key, count in asked
    ]
    call = [sys.executable, str(HERE / "process_group.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, input=json.dumps(given), capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    names = [f"{what} {key} by {count}" for what, key, count in asked]
    return dict(zip(names, json.loads(done.stdout), strict=True))


def line(told: dict[str, dict], name: str) -> dict:
    assert set(told[name]["codes"]) == {0}, told[name]["said"]
    return told[name]["lines"][0]


def objects(folder: Path) -> set[Path]:
    return set((folder / "objects").rglob("*.*"))


def shards_by_index(folder: Path) -> list[tuple[Path, list[Path]]]:
    """The files that name shards, and those."""
    found = []
    for path in (folder / "objects").glob("*/*.safetensors"):
        with safe_open(path, "pt") as file:
            named = json.loads(file.metadata().get("shards", '{"files": []}'))["files"]
        if named:
            found.append((path, [folder / "objects" / each[:2] / f"{each}.safetensors" for each in named]))
    return found


@pytest.mark.parametrize(("saved", "count"), LOADS)
def test_any_number_of_processes_reads_the_bits_that_another_number_wrote(saved: int, count: int, told: dict) -> None:
    wrote, read = line(told, f"save {saved} by {saved}"), line(told, f"load {saved} by {count}")
    assert read["bits"] == wrote["bits"]
    assert read["next"] == pytest.approx(line(told, "load 1 by 1")["next"], rel=1e-5)


@pytest.mark.parametrize(("saved", "count"), [each for each in LOADS if each[0] > 1])
def test_a_process_reads_its_own_rows_alone(saved: int, count: int, told: dict, folder: Path) -> None:
    numbers = sum(line(told, "load 2 by 1")["read"])
    for nbytes in line(told, f"load {saved} by {count}")["read"]:
        assert nbytes < 1.05 * numbers / count  # rows cannot always be shared out evenly


@pytest.mark.parametrize("count", [2, 3])
def test_a_process_writes_its_own_rows_alone(count: int, told: dict, folder: Path) -> None:
    """The run would have failed where it gathers; and so large are the files."""
    total = line(told, f"save {count} by {count}")["bytes"]
    found = next(shards for _, shards in shards_by_index(folder) if len(shards) == count)
    assert max(path.stat().st_size for path in found) < 1.05 * total / count


def test_shards_are_safetensors_whose_rows_make_the_whole(told: dict, folder: Path) -> None:
    """The library reads them, and a slice of the whole from the slices of the files."""
    assert line(told, "save 2 by 2")["bytes"] < line(told, "save 3 by 3")["bytes"]  # one header more
    wholes: dict[str, list[torch.Tensor]] = {}
    for path, shards in shards_by_index(folder):
        with safe_open(path, "pt") as index:
            sides = json.loads(index.metadata()["shards"])["buffers"]
        for name, (_, shape) in sides.items():
            rows = []
            for number, shard in enumerate(shards):
                with safe_open(shard, "pt") as file:
                    begin, end = rows_of(shape[0], number, len(shards))
                    assert file.get_slice(name).get_shape() == [end - begin, *shape[1:]]
                    rows.append(file.get_slice(name)[:])
            wholes.setdefault(name, []).append(torch.cat(rows))
            assert list(wholes[name][-1].shape) == shape
    assert wholes
    assert all(torch.allclose(one, other, rtol=1e-5, atol=1e-7) for one, other in wholes.values())


def test_killed_while_it_is_saved_the_state_before_is_used_and_nothing_is_left(told: dict, folder: Path) -> None:
    assert -signal.SIGKILL in told["dies_before_shard 4 by 2"]["codes"]
    assert -signal.SIGKILL in told["dies_before_index 5 by 2"]["codes"]
    left = objects(folder)
    with closing(Store(folder)) as store:
        newest, *_ = store.passes("loop", 9)
        assert newest.done == 3
        assert store.get(newest.key) is not None
        assert objects(folder) < left
        assert sum(path.stat().st_size for path in objects(folder)) == store.used()
