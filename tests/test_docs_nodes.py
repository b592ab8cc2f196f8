"""docs/nodes.md says nothing that does not run: its examples are one pack, its loop runs, its test passes."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import kineograph.nodes.sockets
from kineograph import default_runtime
from kineograph.graph_runtime.events import Metric, NodeProgress
from kineograph.graph_runtime.node import node, node_type
from kineograph.graph_runtime.runtime import Runtime
from kineograph.nodes.sockets import Video

PAGE = (Path(__file__).parent.parent / "docs" / "nodes.md").read_text()
*PACK, TEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(LOOP,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("author")
    (folder / "packs").mkdir()
    (folder / "packs" / "mine.py").write_text("\n\n".join(PACK))
    return folder


@pytest.fixture(scope="module")
def runtime(folder: Path) -> Runtime:
    made = default_runtime([folder / "packs"])
    made.registry.add(node_type(video))
    return made


@node
def video() -> Video:
    """Four small frames."""
    return Video(torch.rand(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), 8.0)


def test_the_loop_adds_grain_as_often_as_there_are_amounts(runtime: Runtime) -> None:
    nodes = {"video": {"type": "video@1"}} | json.loads("{" + LOOP + "}")
    workflow = {"format": 1, "nodes": nodes, "outputs": {"video": "grainy"}}
    grain, given = runtime.registry.get("mine/film_grain@1").function, video()
    wanted = grain(grain(given, amount=0.1), amount=0.2)
    assert torch.equal(runtime.run(workflow).outputs["video"].frames, wanted.frames)


def test_files_streams_halves_and_a_long_one(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("A cat\nwalks")
    given = {"video": "video"}
    nodes = {
        "video": {"type": "video@1"},
        "title": {"type": "mine/read_title@1", "params": {"path": str(tmp_path / "in.txt")}},
        "save": {"type": "mine/save_title@1", "links": {"title": "title"}},
        "halves": {"type": "mine/split_video@1", "links": given, "params": {"frame": 3}},
        "grey": {"type": "mine/film_grain@1", "links": given, "params": {"kind": "grey"}},
        "fades": {"type": "mine/fade_amounts@1", "params": {"steps": 3}},
        "blur": {"type": "mine/blur_over_time@1", "links": given},
    }
    outputs = {"after": "halves.after", "grey": "grey", "fades": "fades", "blur": "blur"}
    workflow = {"format": 1, "nodes": nodes, "outputs": outputs}
    told: list = []
    made = runtime.run(workflow, out=tmp_path, listen=told.append, previews=0.001).outputs
    assert (tmp_path / "title.txt").read_text() == "A cat\n"
    assert made["after"].frames.shape[1] == 1 and list(made["fades"]) == [1, 0.5, 0.25]
    noise = made["grey"].frames - video().frames
    inner = (made["grey"].frames > 0).all(2) & (made["grey"].frames < 1).all(2)
    assert torch.allclose(noise[:, :, 0][inner], noise[:, :, 1][inner], atol=1e-6)
    assert [event.step for event in told if isinstance(event, Metric)] == [0, 1, 2]
    assert any(isinstance(event, NodeProgress) and event.done == 3 for event in told)
    assert made["blur"].frames.diff(dim=1).abs().mean() < video().frames.diff(dim=1).abs().mean()


@pytest.fixture
def beside_the_pack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder / "packs")
    yield
    sys.modules.pop("mine", None)


@pytest.mark.usefixtures("beside_the_pack")
def test_its_test_passes(tmp_path: Path) -> None:
    importlib.import_module("mine")
    names: dict = {}
    exec(compile(TEST, "docs/nodes.md", "exec"), names)
    names["test_the_same_seed_is_the_same_grain_and_the_video_is_as_it_was"]()
    names["test_it_runs_in_a_workflow"](tmp_path)


def test_it_lists_every_socket_and_all_that_a_node_may_declare() -> None:
    sockets = [name for name, found in vars(kineograph.nodes.sockets).items() if hasattr(found, "__socket_family__")]
    assert [name for name in sockets if f"`{name}`" not in PAGE] == []
    declared = node_type.__globals__["_Declaration"].__dataclass_fields__.keys() - {"fields"}
    assert [name for name in declared if f"{name}=" not in PAGE] == []
