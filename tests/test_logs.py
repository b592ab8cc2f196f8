"""Logs of metrics: files that a person can read without anything installed, and programs that may be."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from kineograph.__main__ import main
from kineograph.cli import logs
from kineograph.graph_runtime.events import Metric, RunStarted
from kineograph.nodes.curve import MOST_POINTS, draw_curves

WORKFLOW = {
    "format": 1,
    "nodes": {
        "numbers": {"type": "repeat@1", "params": {"times": 30}},
        "loop": {
            "type": "loop@1",
            "each": "numbers",
            "body": {
                "nodes": {
                    "record": {
                        "type": "record_number@1",
                        "params": {"name": "index", "every": 10},
                        "links": {"value": "$index", "step": "$index"},
                    }
                },
                "outputs": {},
            },
        },
    },
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_keeps_its_metrics_as_lines_and_as_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "flow.json"
    file.write_text(json.dumps(WORKFLOW))
    out = tmp_path / "out"
    assert main(["run", str(file), "--out", str(out), "--log", "csv", "svg"]) == 0
    found = rows(out / "metrics.csv")
    assert [(row["name"], int(row["step"]), float(row["value"])) for row in found] == [
        ("index", 0, 0.0),
        ("index", 10, 10.0),
        ("index", 20, 20.0),
    ]
    assert {row["node"] for row in found} == {"loop/record"}
    assert main(["run", str(file), "--out", str(out), "--log", "csv"]) == 0
    again = rows(out / "metrics.csv")
    assert len(again) == 6
    assert [row["run"] == again[0]["run"] for row in again] == [True] * 3 + [False] * 3
    assert "index" in (out / "metrics.svg").read_text()


def test_without_the_option_nothing_is_written(tmp_path: Path) -> None:
    file = tmp_path / "flow.json"
    file.write_text(json.dumps(WORKFLOW))
    assert main(["run", str(file), "--out", str(tmp_path / "out")]) == 0
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("kind", [kind for kind in logs.KINDS if kind not in ("csv", "svg")])
def test_a_log_of_another_program_works_or_says_what_to_install(kind: str, tmp_path: Path, capsys) -> None:
    file = tmp_path / "flow.json"
    file.write_text(json.dumps(WORKFLOW))
    code = main(["run", str(file), "--out", str(tmp_path / "out"), "--log", kind])
    needed = ("mlflow", "sqlalchemy", "alembic") if kind == "mlflow" else (kind,)
    if any(importlib.util.find_spec(package) is None for package in needed):
        assert code == 2
        assert re.search(rf"--log: There is no \w+ here, .*: pip install {kind}", capsys.readouterr().err)
    else:
        assert code == 0
        assert any((tmp_path / "out").iterdir())


def test_a_log_that_fails_is_left_out_and_the_others_go_on(tmp_path: Path, monkeypatch) -> None:
    class Full(logs.CsvLog):
        def write(self, metric: Metric) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setitem(logs.KINDS, "full", Full)
    said: list[str] = []
    with logs.keeping(["full", "svg"], tmp_path, said.append) as listen:
        for step in range(3):
            listen(Metric("loop/record", "loss", step, 1.0))
        listen(RunStarted(1, 0))
    assert len(said) == 1
    assert "The log full failed, the run goes on without it" in said[0]
    assert "loss" in (tmp_path / "metrics.svg").read_text()


def test_a_folder_that_cannot_be_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(ValueError, match="The log csv cannot be opened"), logs.keeping(["csv"], tmp_path, print):
        pass


def points(picture: str) -> list[list[tuple[float, float]]]:
    lines = ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}polyline")
    return [[tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()] for line in lines]


def test_a_straight_line_is_drawn_straight_in_both_scales() -> None:
    (line,) = points(draw_curves({"a < b": [(1, 2), (2, 4), (3, 6)]}))
    (left, high), (middle, half), (right, low) = line[0], line[1], line[2]
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    assert half == pytest.approx((high + low) / 2, abs=0.1)
    (power,) = points(draw_curves({"law": [(1, 8), (10, 4), (100, 2)]}, log_x=True, log_y={"law"}))
    assert power[1] == pytest.approx(((power[0][0] + power[2][0]) / 2, (power[0][1] + power[2][1]) / 2), abs=0.1)


def test_strange_points_do_not_break_a_picture() -> None:
    strange = {"none": [], "nan": [(0, math.nan)], "one": [(3, 0.0)], "flat": [(0, 1), (1, 1)], "gap": [(0, math.inf)]}
    assert len(points(draw_curves(strange))) == 2
    assert draw_curves(strange).count("<circle") == 1  # a line of one point cannot be seen
    assert len(points(draw_curves({"negative": [(1, -1), (2, 1)]}, log_x=True, log_y={"negative"}))[0]) == 1
    (many,) = points(draw_curves({"long": [(step, step) for step in range(50 * MOST_POINTS + 7)]}))
    assert len(many) <= MOST_POINTS
