"""What code is part of a node's keys: its module, what that imports of ours, and nothing that only people read."""

from __future__ import annotations

import os
import sys

import pytest

from kineograph.graph_runtime import code
from kineograph.graph_runtime.registry import Registry

PACK = '''
from kineograph.graph_runtime.node import node

LIMIT = 3

def helper(x):
    """Words."""
    return x + LIMIT

@node
def grow(x: int = 0) -> int:
    """More words."""
    return helper(x)
'''


@pytest.fixture
def digest_of(tmp_path):
    """The code digest of the node ``grow`` of a pack, given as files by name."""

    def read(**files):
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/', 1) if name.startswith('many') else name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            os.utime(path, ns=(next(clock), next(clock)))
        registry = Registry()
        registry.add_folder(tmp_path)
        (kind,) = registry
        return kind.code_digest

    clock = iter(range(10**18, 10**18 + 1000))  # each version of a file has its own time, in the past
    yield read
    for name in [name for name in sys.modules if name.startswith("kineograph_packs.")]:
        del sys.modules[name]


def test_a_helper_and_a_constant_are_part_of_the_digest(digest_of):
    before = digest_of(pack=PACK)
    assert before == digest_of(pack=PACK)
    assert before != digest_of(pack=PACK.replace("x + LIMIT", "x - LIMIT"))
    assert before != digest_of(pack=PACK.replace("LIMIT = 3", "LIMIT = 4"))


def test_comments_docstrings_and_lines_are_not(digest_of):
    changed = '"""A module."""\n\n\n# a comment\n' + PACK.replace("Words.", "Other words.").replace("More", "Less")
    assert digest_of(pack='"""The module."""\n' + PACK) == digest_of(pack=changed)


def test_a_pack_in_a_folder_counts_as_a_whole(digest_of):
    inner = "def helper(x):\n    return x + {}\n"
    outer = PACK.replace("def helper(x):", "def unused(x):").replace(
        "LIMIT = 3", "LIMIT = 3\nfrom .inner import helper"
    )
    before = digest_of(many____init__=outer, many__inner=inner.format(1))
    assert before == digest_of(many____init__=outer, many__inner=inner.format(1))
    assert before != digest_of(many____init__=outer, many__inner=inner.format(2))


def test_imports_of_ours_are_followed_also_inside_functions_and_no_others(tmp_path, monkeypatch):
    room = tmp_path / "room"
    (room / "nets").mkdir(parents=True)
    source = {
        "__init__": "",
        "doors": "def door():\n    from room.nets import flow\n    return flow.step()\n",
        "nets/__init__": "",
        "nets/flow": "import json\n\ndef step():\n    import room.nets.deep\n    return room.nets.deep.x\n",
        "nets/deep": "x = 1\n",
        "nets/other": "raise RuntimeError('it is never run')\n",
    }
    clock = iter(range(10**18, 10**18 + 1000))

    def digest_with(**changed):
        for name, text in (source | {name.replace("__", "/"): text for name, text in changed.items()}).items():
            (room / f"{name}.py").write_text(text)
            os.utime(room / f"{name}.py", ns=(next(clock), next(clock)))
        return code.code_digest(sys.modules["room.doors"].door)

    for name, text in source.items():
        (room / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code, "FOLLOWED", "room")
    __import__("room.doors")
    before = digest_with()
    assert before == digest_with(nets__other="y = 2\n")
    assert before != digest_with(nets__deep="x = 2\n")
    assert before != digest_with(nets__flow=source["nets/flow"].replace("deep.x", "deep.x + 1"))
    assert before != digest_with(nets__deep="def broken(:\n")
    assert before != digest_with(nets__deep="\0")
    assert "room.nets" not in sys.modules
    for name in [name for name in sys.modules if name.partition(".")[0] == "room"]:
        del sys.modules[name]


def test_code_that_changed_under_a_running_process_has_keys_of_its_own(digest_of, tmp_path):
    before = digest_of(pack=PACK)
    os.utime(tmp_path / "pack.py", ns=(2 * 10**18, 2 * 10**18))
    registry = Registry()
    registry.add_folder(tmp_path)
    assert next(iter(registry)).code_digest != before


def test_what_was_typed_into_an_interpreter_has_a_digest():
    space: dict = {}
    exec("def f(x):\n    return x", space)
    assert len(code.code_digest(space["f"])) == 40


def test_the_version_of_torch_is_part_of_the_keys_of_tensors_alone(registry, graph, spec, monkeypatch):
    from kineograph.graph_runtime import runtime as facade

    def keys(version):
        monkeypatch.setattr(facade, "_numerics", lambda: version)
        raw = graph({"n": spec("add@1"), "t": spec("box@1")}, n="n", t="t")
        return [step.key for step in facade.Runtime(registry).plan(raw).steps]

    assert facade._numerics()
    one, other = keys("2.10.0"), keys("2.11.0")
    assert [a == b for a, b in zip(one, other, strict=True)] == [True, False]
