"""The house as a package: what an import loads, what networks may see, and what a wheel would hold."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import tarfile
from importlib.util import resolve_name
from pathlib import Path
from zipfile import ZipFile

import pytest

import kineograph

ROOT = Path(kineograph.__file__).parent
ROOMS = [room for room in ("cli", "graph_runtime", "server", "nodes", "interop", "trial") if (ROOT / room).is_dir()]
HEAVY = {
    "PIL",
    "accelerate",
    "av",
    "datasets",
    "diffusers",
    "fastapi",
    "networkx",
    "numpy",
    "ray",
    "torch",
    "transformers",
    "xformers",
}


def loaded_by(code: str) -> set[str]:
    """The heavy modules in a new interpreter after ``code``. Modules, not seconds: a loaded machine changes nothing."""
    script = f"import sys\n{code}\nsys.stderr.write(' '.join(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(done.stderr.split()) & HEAVY


def modules(room: str) -> list[str]:
    """Every module of a room by its full name, networks left out: they are torch."""
    paths = [path for path in sorted((ROOT / room).rglob("*.py")) if "networks" not in path.parts]
    names = [".".join(("kineograph", *path.relative_to(ROOT).with_suffix("").parts)) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def test_the_package_loads_nothing_heavy():
    assert loaded_by("import kineograph, kineograph.graph_runtime") == set()


def test_declaring_every_node_loads_nothing_heavy():
    assert loaded_by("\n".join(f"import {name}" for name in modules("nodes"))) == set()


def test_no_module_of_the_runtime_loads_torch():
    assert not loaded_by("\n".join(f"import {name}" for name in modules("graph_runtime"))) & {"torch", "numpy", "av"}


@pytest.mark.skipif(not (ROOT / "__main__.py").exists(), reason="there is no command line yet")
def test_help_loads_nothing_heavy():
    code = """
import contextlib, io, runpy
sys.argv = ["kineograph", "--help"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as said:
    runpy.run_module("kineograph", run_name="__main__")
assert "run" in said.getvalue()
"""
    assert loaded_by(code) == set()


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever it stands in it."""
    found: set[str] = set()
    for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(item, ast.Import):
            found |= {alias.name for alias in item.names}
        elif isinstance(item, ast.ImportFrom):
            package = ".".join(("kineograph", *path.parent.relative_to(ROOT).parts))
            found.add(resolve_name("." * item.level + (item.module or ""), package))
    return found


def test_networks_are_torch_and_each_other_only():
    allowed = {"torch", "safetensors", "xformers", *sys.stdlib_module_names}
    for path in sorted((ROOT / "nodes" / "networks").rglob("*.py")):
        for name in imports(path):
            own = f"{name}.".startswith(("kineograph.nodes.networks.", "kineograph.numerics."))
            assert own or name.split(".")[0] in allowed, f"{path.relative_to(ROOT)} imports {name}"


def weights_only(call: ast.Call) -> bool:
    """A call of torch.load that knows tensors and containers, and nothing that could run."""
    said = {each.arg: ast.unparse(each.value) for each in call.keywords}
    return ast.unparse(call.func) == "torch.load" and said.get("weights_only") == "True"


def test_no_loader_runs_code():
    """Pickles, YAML with tags and evaluated strings are how a model or a workflow becomes a program."""
    forbidden = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    calls = {"eval", "exec", "torch.load", "yaml.load"}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            assert not {name.split(".")[0] for name in imports(path)} & forbidden, path
            tree = ast.parse(path.read_text(encoding="utf-8"))
            called = {
                ast.unparse(item.func)
                for item in ast.walk(tree)
                if isinstance(item, ast.Call) and not weights_only(item)
            }
            assert not called & calls, f"{path.relative_to(ROOT)} calls {called & calls}"


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="installed from a wheel, which holds no setup.py")
def test_a_wheel_holds_every_room_and_no_other_folder():
    say = "setuptools.setup = lambda packages, **_: print(json.dumps({'packages': packages}))"
    script = f"import json, setuptools; {say}; import setup"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    named = set(json.loads(done.stdout)["packages"])
    rooms = [ROOT / room for room in ROOMS]
    wanted = {path.parent for room in rooms for path in room.rglob("*.py")} | {ROOT, *rooms}
    assert named == {".".join(("kineograph", *path.relative_to(ROOT).parts)) for path in wanted}


@pytest.fixture
def bare(tmp_path):
    """A checkout without an editor, and without the means to build one."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "cli/web_build.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def packed(checkout: Path, how: str) -> subprocess.CompletedProcess[str]:
    """What becomes of ``build_wheel``, ``build_sdist`` or ``build_editable``, into the folder ``out``."""
    script = f"from setuptools import build_meta; build_meta.{how}('out')"
    return subprocess.run([sys.executable, "-c", script], cwd=checkout, check=False, capture_output=True, text=True)


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="installed from a wheel, which holds no setup.py")
@pytest.mark.parametrize("how", ["build_wheel", "build_sdist"])
def test_nothing_is_packed_without_the_editor(bare, how):
    refused = packed(bare, how)
    assert refused.returncode != 0
    assert "A wheel holds the editor, and it is not built. To build the editor, install Node.js" in refused.stderr
    (bare / "web" / "dist").mkdir(parents=True)
    (bare / "web" / "dist" / "index.html").write_text("<!doctype html>")
    assert packed(bare, how).returncode == 0
    (archive,) = (bare / "out").iterdir()
    if how == "build_wheel":
        names = ZipFile(archive).namelist()
    else:
        with tarfile.open(archive) as opened:
            names = opened.getnames()
    assert [name for name in names if name.endswith("web/dist/index.html")]


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="installed from a wheel, which holds no setup.py")
def test_an_editable_install_needs_no_editor(bare):
    assert packed(bare, "build_editable").returncode == 0
