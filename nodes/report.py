"""Reports: what judges said, with frames of the clips, as a page for people and a JSON file for programs.

Knows the files, not how anything was measured.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.paths import output_file
from kineograph.graph_runtime.sockets import Stream, socket
from kineograph.nodes.scores import Score, Scores
from kineograph.nodes.sockets import Video

if TYPE_CHECKING:
    from kineograph.nodes.report_page import Part

GAP = 0.6
"""Brightness between frames: it shows where a frame ends on white and on black."""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: its heading.
        about: what was done.
        rows: what judges said.
        video: clips to show; None where there are only numbers.
        captions: for the first of the clips.
    """

    title: str
    about: str
    rows: tuple[Score, ...]
    video: Video | None
    captions: tuple[str, ...]


@socket(family="scores")
@dataclass(frozen=True)
class Report:
    """Sections, from top to bottom."""

    sections: tuple[Section, ...]


@node(views=("video",))
def report_section(
    title: Annotated[str, Field(min_length=1)],
    scores: Scores | None = None,
    more: Scores | None = None,
    video: Video | None = None,
    captions: Stream[str] | None = None,
    before: Report | None = None,
    about: str = "",
    clips: Annotated[int, Field(ge=0, le=64)] = 6,
) -> Report:
    """One more section of a report: wire the report so far into ``before``, and the last one into ``save_report``.

    Args:
        title: the heading.
        scores: what a judge said.
        more: what another one said.
        video: clips to show.
        captions: what stands below each of them.
        before: the sections above.
        about: what was done, in a sentence.
        clips: how many of them are shown, at most.
    """
    shown = None if video is None else Video(video.frames[:clips], video.fps)
    said = () if captions is None else tuple(captions[place] for place in range(min(clips, len(captions))))
    rows = [row for each in (scores, more) if each is not None for row in each.rows]
    sections = () if before is None else before.sections
    return Report((*sections, Section(title, about, tuple(rows), shown, said)))


@node(effect=True)
def save_report(
    report: Report,
    run: RunContext,
    path: Annotated[str, output_file(".html")] = "report.html",
    title: Annotated[str, Field(min_length=1)] = "Evaluation",
    columns: Annotated[int, Field(ge=1, le=32)] = 8,
) -> None:
    """Write a report as one HTML page that needs nothing else, and its numbers as JSON beside it.

    Args:
        report: its sections.
        path: of the page, below the output folder; the numbers have the same name and end in .json.
        title: of the page.
        columns: frames that are shown of a clip, evenly chosen.
    """
    from kineograph.nodes.report_page import page

    workflow = json.loads(run.provenance)
    inputs = {name: spec.get("default") for name, spec in workflow.get("inputs", {}).items()}
    parts = [_part(section, columns) for section in report.sections]
    target = run.output_path(path)
    numbers = {
        "title": title,
        "inputs": inputs,
        "sections": [_numbers(section) for section in report.sections],
        "workflow": workflow,
    }
    for file, text in (
        (target, page(title, workflow.get("about", ""), inputs, parts)),
        (target.with_suffix(".json"), json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n"),
    ):
        file.write_text(text, encoding="utf-8")
        run.wrote(file)


def _numbers(section: Section) -> dict[str, Any]:
    return {"title": section.title, "about": section.about, "scores": [_as_json(row) for row in section.rows]}


def _as_json(row: Score) -> dict[str, Any]:
    """A row with null where there is no number."""
    plain = asdict(row)
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in plain.items()
    }


def _part(section: Section, columns: int) -> Part:
    from kineograph.nodes.media import contact_sheet, image_bytes
    from kineograph.nodes.report_page import Part, Picture

    pictures = []
    for place, clip in enumerate(() if section.video is None else section.video.frames):
        sheet = contact_sheet([clip], columns=columns, background=GAP)
        caption = section.captions[place] if place < len(section.captions) else ""
        pictures.append(Picture(image_bytes(sheet), caption, sheet.shape[2], sheet.shape[1]))
    return Part(section.title, section.about, section.rows, pictures)
