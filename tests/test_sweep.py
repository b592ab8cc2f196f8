"""Sweeps: which runs are meant, in which order they run, where their files go, and what is said of bad input."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kineograph.nodes
from kineograph.__main__ import main
from kineograph.cli.sweep import stage_order
from kineograph.cli.values import several

PACK = '''
from kineograph.graph_runtime.node import RunContext, node

LOADED = []

@node
def load(name: str) -> str:
    """A model."""
    LOADED.append(name)
    return name

@node
def sample(model: str, seed: int = 0, scale: float = 1.0) -> str:
    """A video."""
    if seed == 13:
        raise ValueError("Seed 13 fails.")
    return f"{model} {seed} {scale}"

@node(effect=True)
def write(text: str, run: RunContext, path: str = "note.txt") -> None:
    """Write a text."""
    file = run.output_path(path)
    file.write_text(text)
    run.wrote(file)
'''
FLOW = {
    "format": 1,
    "about": "A <toy>.",
    "inputs": {
        "seed": {"type": "int", "default": 0},
        "scale": {"type": "float", "default": 1.0},
        "model": {"type": "str"},
        "loud": {"type": "bool", "default": False},
    },
    "nodes": {
        "model": {"type": "toy/load@1", "links": {"name": "$model"}},
        "text": {"type": "toy/sample@1", "links": {"model": "model", "seed": "$seed", "scale": "$scale"}},
        "file": {"type": "toy/write@1", "links": {"text": "text"}},
    },
    "outputs": {"text": "text"},
}


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """``run("seed=0..3", ...)``: exit code, events, what was said, the folder."""
    monkeypatch.setattr(kineograph.nodes, "MODULES", ())
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs/toy.py").write_text(PACK)
    (tmp_path / "flow.json").write_text(json.dumps(FLOW))
    out = tmp_path / "out"

    def call(*sweep, more=("--set", "model=a")):
        packs = ["--packs", str(tmp_path / "packs"), "--no-store", "--json", "--out", str(out)]
        code = main(["run", str(tmp_path / "flow.json"), *more, "--sweep", *sweep, *packs])
        said = capsys.readouterr()
        return code, list(map(json.loads, said.out.splitlines())), said.err, out

    return call


def test_each_run_has_its_folder_and_the_index_lists_all_as_asked(run):
    code, events, _, out = run("seed=0..2", "scale=2,0.5")
    assert code == 0
    started = [event for event in events if event["event"] == "SweepRun"]
    assert [(event["number"], event["total"]) for event in started] == [(at, 6) for at in range(1, 7)]
    index = json.loads((out / "sweep.json").read_text())
    assert [run["folder"] for run in index["runs"]] == [
        f"seed={seed},scale={scale}" for seed in range(3) for scale in ("2", "0.5")
    ]
    for made in index["runs"]:
        values = made["values"]
        text = f"a {values['seed']} {values['scale']}"
        assert made["outputs"] == {"text": text}
        (file,) = made["files"]
        assert (out / file).read_text() == text
    assert events[-1] == {"event": "SweepFinished", "total": 6, "failed": 0, "file": str(out / "sweep.html")}
    assert next(event["values"] for event in events if event["event"] == "RunFinished") == {"text": "a 0 2.0"}
    page = (out / "sweep.html").read_text()
    assert "A &lt;toy&gt;." in page
    assert page.count("<td>") == 6
    assert 'href="seed%3D1%2Cscale%3D0.5/note.txt"' in page


def test_each_model_is_loaded_once_and_neighbours_share_what_they_can(run):
    _, events, _, _ = run("seed=0,1", "model=a,b", more=())
    order = [event["values"] for event in events if event["event"] == "SweepRun"]
    assert [(values["model"], values["seed"]) for values in order] == [("a", 0), ("a", 1), ("b", 1), ("b", 0)]
    ran = [event["path"] for event in events if event["event"] == "NodeFinished"]
    assert ran.count("model") == 2


def test_one_that_fails_stops_no_other(run):
    code, _, said, out = run("seed=12..14")
    assert code == 1
    assert said == "text (toy/sample@1) failed: Seed 13 fails.\n"
    index = json.loads((out / "sweep.json").read_text())
    assert [made.get("error", "") for made in index["runs"]] == ["", said.strip(), ""]
    assert "Seed 13 fails." in (out / "sweep.html").read_text()


def test_names_of_folders_are_fit_for_every_system_and_never_meet(run):
    long = "x" * 300
    _, _, _, out = run(f"model=../a b/c,../A b\\,c,.. a b c,{long}1,{long}2", more=())
    folders = [made["folder"] for made in json.loads((out / "sweep.json").read_text())["runs"]]
    assert folders[:3] == ["model=a_b_c", "model=A_b_c,2", "model=a_b_c,3"]
    assert len({folder.lower() for folder in folders}) == 5
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == sorted(folders)


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ("sed=0..3", "inputs.sed: The workflow has no such input. Did you mean seed?"),
        ("model=b,c", "inputs.model: It is both set and swept. Leave one of them out."),
        ("seed", "--sweep: 'seed' is not NAME=VALUES. Write seed=0..7 or guidance=2,4,6."),
        ("seed=0..x", "inputs.seed: '0..x' is no range: write whole numbers, like 0..7 or 0..100..25."),
        ("seed=7..0", "inputs.seed: The range 7..0 is empty: it goes upwards from its first number."),
        ("seed=1,", "inputs.seed: '' is not an int."),
        ("seed=1,1", "inputs.seed: 1 is named twice."),
        ("scale=0.5..2", "inputs.scale: '0.5..2' is no range: write whole numbers, like 0..7 or 0..100..25."),
        ("loud=yes", "inputs.loud: 'yes' is not a bool, write true or false."),
        ("seed=0..999", "--sweep: These are 1,000 runs. Add --yes to make them all."),
        (
            "seed=0..9999999999",
            "inputs.seed: The range 0..9999999999 has 10,000,000,000 numbers, at most 10,000 can be tried.",
        ),
    ],
)
def test_what_is_no_sweep_is_a_sentence(run, sweep, said):
    code, events, found, out = run(sweep)
    assert (code, events, found) == (2, [], f"{said}\n")
    assert not out.exists()


def test_too_many_even_with_yes(run):
    code, _, said, _ = run("seed=0..999", "scale=0..99", "--yes")
    assert (code, said) == (2, "--sweep: These are 100,000 runs, at most 10,000 are made. Name fewer values.\n")


def test_a_value_that_does_not_fit_is_found_before_anything_runs(run, tmp_path):
    flow = json.loads(json.dumps(FLOW))
    flow["nodes"]["file"]["links"]["path"] = "$model"
    (tmp_path / "flow.json").write_text(json.dumps(flow))
    (tmp_path / "packs/toy.py").write_text(
        PACK.replace("path: str", "path: Annotated[str, output_file('.txt')]").replace(
            "from kineograph",
            "from typing import Annotated\nfrom kineograph.graph_runtime.paths import output_file\nfrom kineograph",
            1,
        )
    )
    code, events, said, _ = run("model=a.txt,b", "seed=0..1", more=())
    assert (code, events) == (2, [])
    assert said == (
        "file.path: $model = 'b' does not end in .txt; call it 'b.txt', with model=b,seed=0; model=b,seed=1.\n"
    )


def test_only_what_is_chosen_runs(run):
    _, events, _, out = run("seed=0,1", more=("--set", "model=a", "--only", "model"))
    assert {event["path"] for event in events if event["event"] == "NodeFinished"} == {"model"}
    assert json.loads((out / "sweep.json").read_text())["runs"][1]["outputs"] == {"model": "a"}


def test_values_to_try():
    assert several("0..3", "int", 9) == [0, 1, 2, 3]
    assert several("-2..2..2,7", "int", 9) == [-2, 0, 2, 7]
    assert several("1..3", "float", 9) == [1.0, 2.0, 3.0]
    assert several(r"a, b\, c,0..3", "str", 9) == ["a", " b, c", "0..3"]
    assert several("true,False", "bool", 9) == [True, False]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=20))
def test_the_order_names_every_run_once_and_a_model_never_comes_back(values):
    keys = [{"model": str(model), "text": f"{model} {text}", "y": f"{model} {text} {y}"} for model, text, y in values]
    order = stage_order(keys)
    assert sorted(order) == list(range(len(values)))
    for place in ("model", "text"):
        seen = [keys[at][place] for at in order]
        assert sum(one != other for one, other in itertools.pairwise(seen)) == len(set(seen)) - 1
