"""README says nothing that does not run: the custom node and its test, the Python example, the commands' files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

from kineograph import default_runtime
from kineograph.nodes.sockets import Video

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_custom_node_loads_as_a_pack_and_its_test_passes(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "grain.py").write_text(BLOCKS[0])
    runtime = default_runtime([tmp_path])
    kind = runtime.registry.get("grain/film_grain@1")
    assert kind is not None
    monkeypatch.syspath_prepend(tmp_path)
    names: dict = {}
    exec(compile(BLOCKS[1], "README.md", "exec"), names)
    names["test_no_grain_changes_nothing"]()
    noisy = kind.function(Video(torch.full((1, 5, 3, 16, 16), 0.5), 8.0), amount=0.1)
    assert noisy.frames.std() > 0.05


def test_the_custom_node_fits_where_readme_puts_it(tmp_path: Path) -> None:
    (tmp_path / "grain.py").write_text(BLOCKS[0])
    (wires,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    raw = json.loads((ROOT / "workflows" / "text_to_video.json").read_text())
    raw["nodes"] |= json.loads("{" + wires + "}")
    assert default_runtime([tmp_path]).problems(raw) == []


def test_the_python_example_runs(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "workflows").symlink_to(ROOT / "workflows")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(BLOCKS[2], "README.md", "exec"), names)
    assert names["frames"].shape == (1, 17, 3, 64, 64)
    assert (tmp_path / "out" / "video.mp4").is_file()


def test_every_file_that_readme_names_is_there() -> None:
    named = set(re.findall(r"workflows/\w+\.json", README)) | set(re.findall(r"\]\(([\w./-]+)\)", README))
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing
    assert "./check" in README
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("./check")
