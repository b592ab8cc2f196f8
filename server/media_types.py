"""What a file is by its first bytes, and what a browser may do with it. Knows no route.

A list of what is allowed, never of what is not: a file that is none of these is bytes to be saved.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

INLINE = frozenset({"image/png", "image/jpeg", "image/webp", "video/mp4", "video/webm"})
"""Shown in the page; they hold no script."""
UPLOADS = INLINE | {"video/x-matroska"}
ANY = "application/octet-stream"
HEAD = 4096
_TEXTS = {".json": "application/json", ".jsonl": "application/json", ".csv": "text/csv", ".txt": "text/plain"}


def media_type(path: Path) -> str:
    """The type of a file, by its first bytes; of plain texts, which are only ever saved, by its name."""
    with path.open("rb") as file:
        found = sniffed(file.read(HEAD))
    return found or _TEXTS.get(path.suffix.lower(), ANY)


def sniffed(head: bytes) -> str:
    """The type that the first bytes of a file say; nothing where they say none of those that are known."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return "video/mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    return "image/gif" if head[:6] in (b"GIF87a", b"GIF89a") else ""


def headers(name: str, kind: str) -> dict[str, str]:
    """How a file is sent: shown where that is safe, saved where it may be more than a picture or a video."""
    way = "inline" if kind in INLINE else "attachment"
    return {"Content-Disposition": f"{way}; filename*=UTF-8''{quote(name, safe='')}", "Content-Type": kind}
