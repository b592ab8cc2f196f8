"""What a training sees of the user's clips: names, captions, sizes, a picture of each. Knows no training."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.paths import output_file
from kineograph.nodes.train.sockets import ClipFile, Dataset

if TYPE_CHECKING:
    from torch import Tensor

SIDE, COLUMNS = 96, 12
"""Pixels of a clip's picture, and pictures in a row."""
MOST_LISTED = 5000
"""Clips that are listed one by one; sizes and reasons count them all."""


@node(effect=True, views=("dataset",), estimate=lambda dataset, **_: dataset)
def report_clips(
    dataset: Dataset,
    run: RunContext,
    path: Annotated[str, output_file(".json")] = "clips.json",
    pictures: Annotated[int, Field(ge=0, le=1200)] = 120,
) -> Dataset:
    """Write which clips are used, with captions, sizes and pictures, and which are left out and why; hand them on.

    The editor shows it under Data.

    Args:
        dataset: clips as they are trained on. What reads them from here waits for the report.
        path: a JSON file below the output folder; a PNG of the same name holds the pictures.
        pictures: of how many clips the first frame is drawn.
    """
    drawn = dataset.clips[:pictures]
    sheet = PurePath(path).with_suffix(".png")
    report: dict[str, Any] = {
        "clips": len(dataset.clips),
        "seconds": round(sum(clip.seconds for clip in dataset.clips if clip.frames > 1), 3),
        "sizes": dict(Counter(f"{clip.frames}x{clip.height}x{clip.width}" for clip in dataset.clips).most_common()),
        "left_out": dict(Counter(each.reason for each in dataset.left_out).most_common()),
        "files_left_out": [
            {"name": each.name, "reason": each.reason, "detail": each.detail} for each in dataset.left_out
        ],
        "each": [_listed(clip) for clip in dataset.clips[:MOST_LISTED]],
        "pictures": {"file": sheet.name, "count": len(drawn), "columns": COLUMNS, "side": SIDE},
    }
    target = run.output_path(path)
    target.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    run.wrote(target)
    if drawn:
        from kineograph.nodes.media import write_image

        picture = run.output_path(str(sheet))
        write_image(picture, _sheet(drawn, run))
        run.wrote(picture)
    run.metric("clips", 0, len(dataset.clips))
    run.metric("left_out", 0, len(dataset.left_out))
    if dataset.left_out:
        run.note(f"{_left_out(dataset)}; {target.name} says which")
    return dataset


def _left_out(dataset: Dataset) -> str:
    """How many files are not used, for what: one may give many clips, and one that is cut short is used too."""
    used, without = {clip.name for clip in dataset.clips}, {each.name for each in dataset.left_out}
    reasons = Counter(each.reason for each in dataset.left_out).most_common()
    why = ", ".join(f"{count} x {reason}" for reason, count in reasons)
    return f"{len(without)} of {len(used | without)} clips are left out: {why}"


def _listed(clip: ClipFile) -> dict[str, Any]:
    return {
        "name": clip.name, "caption": clip.caption, "frames": clip.frames, "fps": round(clip.fps, 3),
        "height": clip.height, "width": clip.width, "start": round(clip.start, 3),
    }  # fmt: skip


def _sheet(clips: tuple[ClipFile, ...], run: RunContext) -> Tensor:
    """The middle square of each clip's first frame, in rows: (3, H, W) in [0, 1]. Black is what does not decode."""
    import torch

    from kineograph.nodes.train.streams import decoded

    across, down = min(len(clips), COLUMNS), -(-len(clips) // COLUMNS)
    sheet = torch.zeros(3, down * SIDE, across * SIDE)
    for number, clip in enumerate(clips):
        row, column = divmod(number, COLUMNS)
        place = sheet[:, row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
        try:
            place.copy_(decoded(replace(clip, frames=1, height=SIDE, width=SIDE))[0])
        except ValueError:  # the training will say so, where it matters
            continue
        finally:
            run.progress(number + 1, len(clips))
    return sheet
