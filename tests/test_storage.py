"""``kineograph run`` with a store and ``kineograph cache``: what people type, and sentences where it cannot be."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest

import kineograph.nodes
from kineograph.cli.storage import read_size
from kineograph.files import cache_folder

PACK = '''
import time
from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream

@node(counts=("n",))
def count(n: int) -> Stream[int]:
    """The numbers below n."""
    return Stream(n, lambda index: index)

@node
def add(a: int, b: int = 0) -> int:
    """Add slowly."""
    time.sleep(0.02)
    return a + b
'''


@pytest.fixture(autouse=True)
def _packs(monkeypatch, tmp_path):
    monkeypatch.setattr(kineograph.nodes, "MODULES", ())
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "toy.py").write_text(PACK)


@pytest.fixture
def run(cli, tmp_path):
    body = {"nodes": {"s": {"type": "toy/add@1", "links": {"a": "$acc", "b": "$item"}}}, "outputs": {"acc": "s"}}
    nodes = {
        "n": {"type": "toy/count@1", "links": {"n": "$n"}},
        "zero": {"type": "toy/add@1", "params": {"a": 0}},
        "sum": {"type": "loop@1", "each": "n", "carry": {"acc": "zero"}, "body": body},
    }
    inputs = {"n": {"type": "int", "default": 5}}
    path = tmp_path / "flow.json"
    path.write_text(json.dumps({"format": 1, "inputs": inputs, "nodes": nodes, "outputs": {"y": "sum"}}))
    return lambda *more: cli("run", path, "--packs", tmp_path / "packs", *more)


def events(out: str) -> list[str]:
    return [json.loads(line)["event"] for line in out.splitlines()]


def test_a_run_is_remembered_by_default_and_extended(run):
    assert "NodeCached" not in events(run()[1])
    assert "NodeCached" in events(run()[1])
    longer = run("--set", "n=7")[1]
    assert '{"event": "NodeResumed", "path": "sum", "node_type": "loop@1", "done": 5, "total": 7}' in longer
    assert "NodeCached" not in events(run("--no-store")[1])


def test_the_cache_is_shown_and_pruned(run, cli, tmp_path):
    store = tmp_path / "mine"
    run("--store", store)
    code, out, _ = cli("cache", "--store", store)
    assert code == 0
    assert out.startswith(f"{store}: 2 results, ")
    assert "state after 5 passes of sum" in out
    assert out.splitlines()[1].split() == ["size", "took", "what"]
    assert cli("cache", "prune", "--store", store)[0] == 2
    code, _, err = cli("cache", "--store", tmp_path / "nowhere")
    assert (code, "no run kept anything in it" in err, (tmp_path / "nowhere").exists()) == (2, True, False)
    code, out, _ = cli("cache", "prune", "--to", "0", "--store", store)
    assert (code, out) == (0, out)
    assert out.startswith("2 results went, ")
    assert f"{store}: 0 results" in out


def test_folders_that_cannot_be_are_sentences(run, cli, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    for command in (run, lambda *more: cli("cache", *more)):
        code, out, err = command("--store", tmp_path / "full")
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert "holds other things" in err
    (tmp_path / "cache").write_text("a file")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    code, _, err = run()
    assert code == 0
    assert err.startswith("Nothing is kept: the folder ")


@pytest.mark.parametrize("more", [("--keep-every", "often"), ("--store-limit", "big"), ("--store", "a", "--no-store")])
def test_arguments_that_do_not_fit(run, more):
    assert run(*more)[0] == 2


def test_sizes_as_people_write_them():
    sizes = {"0": 0, "500MB": 500 * 10**6, "20GB": 20 * 10**9, "1.5 gb": 1_500_000_000, "2TB": 2 * 10**12}
    assert {text: read_size(text) for text in sizes} == sizes
    for wrong in ("", "-1GB", "1e9", "GB", "1PB", "9" * 20):
        with pytest.raises(argparse.ArgumentTypeError):
            read_size(wrong)


def test_the_default_folder_is_the_users_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/kineograph")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder() == Path.home() / ".cache" / "kineograph"
