"""The text that a file carries about its own making: which kinds of file do, and what is wrong where none is found.

Each kind is read in plain Python (`mp4`, `chunks`): a stranger's file reaches no C code.
"""

from __future__ import annotations

import os
from pathlib import Path

PROVENANCE_KEY = "kineograph"
"""The name our text has among a file's metadata."""
PROVENANCE_LIMIT = 16_000_000
"""Most bytes of it that are read or written."""
_ENDINGS = (".mp4", ".m4v", ".mov", ".png", ".webp")


class ProvenanceError(ValueError):
    """The file is no whole MP4, PNG or WebP, or carries no text of ours."""


def may_carry(path: str | os.PathLike[str]) -> bool:
    """Whether a file is of a kind that carries its workflow, by its first bytes or its name."""
    path = Path(path)
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return _kind(file.read(12)) != "" or path.name.lower().endswith(_ENDINGS)
    except OSError:  # whoever reads it says why
        return False


def read_provenance(path: str | os.PathLike[str]) -> str:
    """The text that `media` kept in a video or picture.

    Args:
        path: an MP4, PNG or WebP.

    Returns:
        The text; it is a stranger's until it has been checked.

    Raises:
        ProvenanceError: another kind of file, cut off, more than 16 MB of text, or none.
    """
    from kineograph.nodes.media.chunks import png_text, webp_text
    from kineograph.nodes.media.mp4 import mp4_text

    path = Path(path)
    if not path.is_file():
        raise ProvenanceError(f"{path.name} is no file.")
    with open(path, "rb") as file:
        kind = _kind(file.read(12)) or path.suffix.lower().lstrip(".")
        return {"png": png_text, "webp": webp_text}.get(kind, mp4_text)(file, path.name)


def check_length(text: str | None) -> None:
    """Refuse a text that is too long to be kept.

    Raises:
        ValueError: it has more than 16 MB.
    """
    if text is not None and (size := len(text.encode())) > PROVENANCE_LIMIT:
        raise ValueError(f"The provenance has {size:,} bytes; at most {PROVENANCE_LIMIT:,} fit.")


def _kind(head: bytes) -> str:
    marks = {"mp4": (4, b"ftyp"), "png": (0, b"\x89PNG\r\n\x1a\n"), "webp": (8, b"WEBP")}
    return next((kind for kind, (place, mark) in marks.items() if head[place:].startswith(mark)), "")
