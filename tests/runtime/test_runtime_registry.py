"""Packs: found in folders, never in place of others, and a broken one is a sentence."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

import pytest

from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.node import node, node_type
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.sockets import socket

PACK = """
from kineograph.graph_runtime.node import node

@node
def {name}(x: int = 0) -> int:
    return x

alias = {name}
"""


def test_a_taken_name_is_an_error(registry):
    with pytest.raises(ValueError, match="add@1 is there already"):
        registry.add(registry.get("add@1"))


def test_a_socket_has_one_class(registry):
    @socket(family="box")
    @dataclass
    class Box:
        pass

    def other(box: Box) -> int: ...

    other.__annotations__ = {"box": Box, "return": int}
    with pytest.raises(ValueError, match="the socket Box is another class already"):
        registry.add(node_type(node(other)))


def test_packs_are_files_and_folders(tmp_path):
    (tmp_path / "grain.py").write_text(PACK.format(name="grain"))
    (tmp_path / "many").mkdir()
    (tmp_path / "many/__init__.py").write_text("from .inner import blur\nfrom kineograph_packs.grain import grain\n")
    (tmp_path / "many/inner.py").write_text(PACK.format(name="blur"))
    (tmp_path / "test_grain.py").write_text("raise RuntimeError")
    (tmp_path / "_hidden.py").write_text("raise RuntimeError")
    registry = Registry()
    registry.add_folder(tmp_path)
    assert [kind.id for kind in registry] == ["grain/grain@1", "many/blur@1"]


def test_broken_packs_are_all_named(tmp_path):
    (tmp_path / "one.py").write_text("import nothing_of_this_name")
    (tmp_path / "three.py").write_text(PACK.format(name="fine"))
    (tmp_path / "two.py").write_text("raise SystemExit(1)")
    registry = Registry()
    with pytest.raises(InvalidWorkflow) as broken:
        registry.add_folder(tmp_path)
    assert [problem.place for problem in broken.value.problems] == ["pack one", "pack two"]
    assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in str(broken.value)
    assert registry.get("three/fine@1")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InvalidWorkflow, match=r"--packs: There is no folder"):
        Registry().add_folder(tmp_path / "none")


def test_a_broken_installed_pack_is_a_sentence(monkeypatch):
    point = importlib.metadata.EntryPoint("mine", "nothing_of_this_name.nodes", "kineograph.nodes")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    with pytest.raises(InvalidWorkflow, match=r"pack mine: nothing_of_this_name\.nodes does not load"):
        Registry().add_installed()


@pytest.mark.parametrize(
    ("type_id", "advice"),
    [
        ("add", "A type is written with its version: add@1."),
        ("add@7", "This installation has add@1."),
        ("ad@1", "Did you mean add@1?"),
        ("lop@1", "Did you mean loop@1?"),
        ("grain/add@1", "Its pack 'grain' is not loaded: give its folder with --packs DIR"),
        ("comfyui/Adder@1", "It is a node of a pack for ComfyUI: give its folder with --comfy-packs DIR"),
    ],
)
def test_an_unknown_name_gets_advice(registry, type_id, advice):
    assert advice in registry.unknown(type_id) or registry.unknown(type_id).startswith(advice[:-1])
