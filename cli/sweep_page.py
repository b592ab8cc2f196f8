"""The runs of a sweep beside each other, as a page and as JSON. Knows no graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kineograph.files import write_whole

COLUMNS = 9
PAGE = "sweep.html"
SHORT_SIDE = 128
"""Pixels of a frame on the page; smaller ones are drawn larger, larger ones smaller."""
CLIPS = (".mp4", ".webm", ".mov")
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem; color: #171b22; background: #f3f4f7 }
table { border-spacing: 10px } th { text-align: left; font-weight: 600; white-space: pre-line; vertical-align: top }
td { background: #fff; border: 1px solid #d3d8e2; border-radius: 8px; padding: 10px; vertical-align: top }
video, img { display: block; max-width: min(60vw, 340px); margin-bottom: 6px; image-rendering: pixelated }
video { height: 256px } .small { color: #5a6475; font-size: 12px } .error { color: #c92a2a; max-width: 24rem }
@media (prefers-color-scheme: dark) { body { color: #e7eaf0; background: #0e1116 }
td { background: #1a1f27; border-color: #323b49 } .small { color: #9aa4b5 } .error { color: #ff6b6b } }
"""


@dataclass
class Made:
    """What one run left: its values, folder and files, its outputs or why it failed."""

    values: Mapping[str, Any]
    folder: str
    files: list[str] = field(default_factory=list[str])
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seconds: float = 0.0
    error: str = ""
    frames: list[str] = field(default_factory=list[str])

    def keep_frames(self, out: Path, number: int) -> None:
        """Write the frames of the videos among the outputs as rows of a picture; of the outputs keep plain values."""
        clips = [getattr(value, "frames", None) for value in self.outputs.values()]
        clips = [clip for clip in clips if getattr(clip, "ndim", 0) == 5]
        if clips:
            path = out / "sweep_frames" / f"{number + 1:04}.png"
            path.parent.mkdir(exist_ok=True)
            _write_rows(path, clips)
            self.frames = [path.relative_to(out).as_posix()]
        plain = (bool, int, float, str)
        self.outputs = {name: value for name, value in self.outputs.items() if isinstance(value, plain)}

    def as_json(self, out: Path) -> dict[str, Any]:
        """All of it, with paths from the sweep's folder."""
        about = {"values": dict(self.values), "folder": self.folder, "files": _relative(self.files, out)}
        about |= {"outputs": dict(self.outputs), "seconds": round(self.seconds, 3)}
        return about | ({"frames": self.frames} if self.frames else {}) | ({"error": self.error} if self.error else {})


def write_index(out: Path, about: str, runs: Sequence[Made], total: int) -> None:
    """Write ``sweep.html`` and ``sweep.json``: of the runs that are done, in the order they were asked for."""
    listed = [run.as_json(out) for run in runs]
    text = json.dumps({"about": about, "total": total, "runs": listed}, ensure_ascii=False, indent=1)
    write_whole(out / "sweep.json", text.encode())
    write_whole(out / PAGE, _page(about, listed, total).encode())


def _page(about: str, runs: Sequence[Mapping[str, Any]], total: int) -> str:
    """A table: a row for each combination of all inputs but the last one swept, a column for each value of that."""
    names = list(runs[0]["values"])
    last = names[-1] if len(names) > 1 else None
    columns = list(dict.fromkeys(str(run["values"][last]) for run in runs)) if last else [""]
    rows: dict[str, dict[str, str]] = {}
    for run in runs:
        row = "\n".join(f"{name} = {value}" for name, value in run["values"].items() if name != last)
        rows.setdefault(row, {})[str(run["values"][last]) if last else ""] = _cell(run)
    head = "".join(f"<th>{escape(f'{last} = {column}')}</th>" for column in columns) if last else "<th></th>"
    body = "\n".join(
        f"<tr><th>{escape(row)}</th>" + "".join(f"<td>{cells.get(column, '')}</td>" for column in columns) + "</tr>"
        for row, cells in rows.items()
    )
    counted = f"{len(runs)} of {total} runs" if len(runs) < total else f"{total} runs"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Sweep</title><style>{STYLE}</style>\n'
        f"<p>{escape(about)}</p><p class=small>{counted}; <a href=sweep.json>sweep.json</a></p>\n"
        f"<table><tr><th></th>{head}</tr>\n{body}\n</table></html>\n"
    )


def _cell(run: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for file in run["files"]:
        if file.lower().endswith(CLIPS):
            parts.append(f'<video src="{quote(file)}" autoplay loop muted playsinline controls></video>')
        elif file.lower().endswith(PICTURES):
            parts.append(f'<img src="{quote(file)}" alt="" loading="lazy">')
        else:
            parts.append(f'<a href="{quote(file)}">{escape(file)}</a><br>')
    parts += [
        f'<img src="{quote(file)}" alt="frames from first to last" loading="lazy">' for file in run.get("frames", ())
    ]
    parts += [f"{escape(name)} = {escape(str(value))}<br>" for name, value in run["outputs"].items()]
    if "error" in run:
        parts.append(f'<div class="error">{escape(run["error"])}</div>')
    parts.append(f'<span class="small">{escape(run["folder"])}, {run["seconds"]:.1f} s</span>')
    return "".join(parts)


def _write_rows(path: Path, clips: Sequence[Any]) -> None:
    import torch

    from kineograph.nodes.media import contact_sheet, write_image

    rows: list[torch.Tensor] = []
    for clip_BTCHW in clips:
        short = min(clip_BTCHW.shape[-2:])
        scale = -(-SHORT_SIDE // short) if short < SHORT_SIDE else SHORT_SIDE / short
        mode = "nearest" if scale >= 1 else "area"
        rows += [torch.nn.functional.interpolate(clip, scale_factor=scale, mode=mode) for clip in clip_BTCHW.float()]
    write_image(path, contact_sheet(rows, columns=COLUMNS))


def _relative(files: Sequence[str], out: Path) -> list[str]:
    root = out.resolve()
    paths = [Path(file) for file in files]
    return [(path.relative_to(root) if path.is_relative_to(root) else path).as_posix() for path in paths]
