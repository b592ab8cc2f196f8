"""The workflow that ComfyUI leaves in the files it makes: where it stands in each kind. A stranger's text, unchecked.

A PNG has texts called ``prompt`` (API JSON: all values by name) and ``workflow`` (UI JSON); a WebP has both in its
Exif, as ``prompt:{...}``; an MP4 has both among its metadata, or one JSON of both as its comment.
"""

from __future__ import annotations

from pathlib import Path

from kineograph.graph_runtime.errors import InvalidWorkflow, Problem
from kineograph.nodes.media.chunks import png_text, webp_exif_texts
from kineograph.nodes.media.mp4 import mp4_text
from kineograph.nodes.media.provenance import ProvenanceError

KEYS = ("prompt", "workflow")


def embedded_texts(path: Path) -> list[str]:
    """What a PNG, WebP or MP4 carries of ComfyUI's, the text with names for its values first.

    Raises:
        InvalidWorkflow: it is none of these, is damaged, or carries nothing.
    """
    found: list[str] = []
    reason = f"{path.name} carries no workflow of ComfyUI."
    for key in KEYS:
        try:
            with path.open("rb") as file:
                found += _texts(file.read(12), path, key)
        except ProvenanceError as failure:
            if "carries no workflow" not in str(failure):
                reason = str(failure)
        except OSError as failure:
            reason = f"{path} cannot be read: {failure.strerror}."
    if not found:
        raise InvalidWorkflow([Problem("", reason)])
    return list(dict.fromkeys(found))


def _texts(head: bytes, path: Path, key: str) -> list[str]:
    with path.open("rb") as file:
        if head.startswith(b"\x89PNG"):
            return [png_text(file, path.name, key)]
        if head[8:12] == b"WEBP":
            marked = [text.partition(":") for text in webp_exif_texts(file, path.name)]
            return [text for name, _, text in marked if name.lower() == key]
        return [mp4_text(file, path.name, key)]
