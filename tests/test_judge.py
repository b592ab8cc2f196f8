"""Judges beside real and broken clips, and the report that they write; knows no model."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kineograph.graph_runtime import codecs
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes import judge, report, report_page
from kineograph.nodes.networks import spoil, world
from kineograph.nodes.scores import Score, Scores
from kineograph.nodes.sockets import Video

FPS = 8.0


class Run:
    """A run that writes into a folder and remembers metrics and files."""

    def __init__(self, folder: Path, provenance: str = "{}") -> None:
        self.folder, self.provenance, self.metrics, self.files = folder, provenance, {}, []

    def metric(self, name: str, step: int, value: float) -> None:
        self.metrics[name] = value

    def output_path(self, relative: str) -> Path:
        return self.folder / relative

    def wrote(self, path: Path) -> None:
        self.files.append(path)


def clips(count: int = 16, frames: int = 17, path: str = "straight", seed: int = 3) -> Video:
    scenes = world.sample_scenes(seed, range(count), frames, FPS, 48, 48, path=path)
    return Video(world.render(scenes, frames, 48, 48, FPS), FPS)


REAL, OTHER = clips(), clips(seed=5)
LOOPS, OTHER_LOOPS = clips(frames=16, path="loop"), clips(frames=16, path="loop", seed=5)
JUDGES = {
    "join": lambda run: judge.join_scores(OTHER, [9], run, REAL),
    "loop": lambda run: judge.loop_scores(OTHER_LOOPS, OTHER_LOOPS, run, LOOPS),
    "identity": lambda run: judge.identity_scores(OTHER, run, REAL),
    "framing": lambda run: judge.framing_scores(OTHER, run, REAL),
}


@pytest.mark.parametrize("name", JUDGES)
def test_real_clips_are_judged_as_real_and_far_from_broken_ones(name: str, tmp_path: Path) -> None:
    run = Run(tmp_path)
    *values, scores = JUDGES[name](run)
    assert [row.value for row in scores.rows] == values
    assert list(run.metrics.values()) == values
    for row in scores.rows:
        assert row.real is not None and row.broken is not None, row.name
        assert row.low <= row.value <= row.high and row.count == 16, row.name
        assert abs(row.value - row.real) < 0.2 * abs(row.broken - row.real), row


def test_a_join_behind_the_first_frame_is_judged_too(tmp_path: Path) -> None:
    step, bend, place, same = judge.join_scores(OTHER, [1], Run(tmp_path), REAL).scores.rows
    assert step.broken > 3 and bend.broken > 3
    assert (place.count, same.value) == (0, 1.0)  # of one frame there is no velocity


def test_without_real_clips_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    (row,) = judge.framing_scores(REAL, Run(tmp_path)).scores.rows
    assert (row.value, row.real, row.broken) == (1.0, None, None)


def test_what_cannot_be_measured_is_told_as_such_and_is_no_metric(tmp_path: Path) -> None:
    run = Run(tmp_path)
    still = Video(spoil.freeze(REAL.frames), FPS)
    found = judge.join_scores(still, [9], run)
    assert math.isnan(found.step) and "join_step" not in run.metrics
    assert found.same == 1.0
    report.save_report(report.report_section("Still", found.scores), run)
    assert "no clip could be measured" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["sections"][0]["scores"][0]["value"] is None
    assert math.isnan(codecs.decode(*codecs.encode(found.scores)).rows[0].value)


def test_loops_and_plain_clips_come_in_pairs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="16 loops and 3 plain"):
        judge.loop_scores(LOOPS, clips(3), Run(tmp_path))


class Page(HTMLParser):
    """What a browser would see: tags that are open, all tags with their attributes, all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


EVIL = "<script src=//x.y>alert('1')</script>\"&"


def written(tmp_path: Path, title: str = "Numbers") -> Run:
    provenance = json.dumps(
        {"about": f"about {EVIL}", "inputs": {"prompt": {"default": EVIL}, "steps": {"default": 3}}}
    )
    run = Run(tmp_path, provenance)
    rows = Scores((Score(EVIL, EVIL, 0.5, 0.25, 0.75, 1, real=1.0, broken=0.0, how=EVIL),))
    made = report.report_section(title, rows, rows, REAL, Stream.of([EVIL, "two"]), about=EVIL, clips=3)
    made = report.report_section(EVIL, before=made)
    report.save_report(made, run, title=EVIL)
    return run


def test_a_report_is_one_page_that_asks_for_nothing_and_runs_nothing(tmp_path: Path) -> None:
    run = written(tmp_path)
    assert [file.name for file in run.files] == ["report.html", "report.json"]
    page = Page((tmp_path / "report.html").read_text())
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "form", "a"}
    named = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert len(named) == 3 and all(value.startswith("data:image/png;base64,") for value in named)
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    policies = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert policies == [report_page.POLICY]
    # the title twice, what it is about, an input; a heading, what a section is about, three of each row, below a clip
    assert "".join(page.text).count(EVIL) == 13
    assert "url(" not in report_page.STYLE and "@import" not in report_page.STYLE


def test_the_numbers_stand_beside_the_page(tmp_path: Path) -> None:
    written(tmp_path)
    read = json.loads((tmp_path / "report.json").read_text())
    assert read["inputs"] == {"prompt": EVIL, "steps": 3}
    assert [section["title"] for section in read["sections"]] == ["Numbers", EVIL]
    row, other = read["sections"][0]["scores"]
    assert row == other
    assert (row["value"], row["low"], row["high"], row["count"], row["real"]) == (0.5, 0.25, 0.75, 1, 1.0)


def test_the_scale_goes_from_broken_to_real_whichever_is_larger() -> None:
    def marks(value, real, broken):
        rows = [Score("a", "", value, value, value, 4, real, broken)]
        return [
            tag[1]["cx"]
            for tag in Page(report_page.page("", "", {}, [report_page.Part("", "", rows)])).tags
            if "cx" in tag[1]
        ]

    assert marks(0.25, 1.0, 0.0) == ["100%", "25.0%"]
    assert marks(4.0, 1.0, 5.0) == ["100%", "25.0%"]
    assert marks(9.0, 1.0, 5.0) == ["100%", "0.0%"]
    assert marks(math.nan, 1.0, 5.0) == marks(1.0, None, 5.0) == marks(1.0, 2.0, 2.0) == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0"),
        (1.0, "1.00"),
        (0.12345, "0.12"),
        (0.012345, "0.0123"),
        (-2.5, "−2.50"),
        (1234.5, "1234"),
        (None, "–"),
    ],
)
def test_numbers_have_the_digits_that_say_something(value, said) -> None:
    assert report_page.number(value) == said
