"""The files that a job left: which there are, what they are, whether they are whole. Knows no job's record."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from blake3 import blake3

from kineograph.graph_runtime.keys import digest

CHUNK = 1 << 20
MEDIA_TYPES = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif",
    ".apng": "image/apng", ".avif": "image/avif", ".svg": "image/svg+xml", ".mp4": "video/mp4", ".webm": "video/webm",
    ".mkv": "video/x-matroska", ".mov": "video/quicktime", ".wav": "audio/wav", ".flac": "audio/flac",
    ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".json": "application/json", ".jsonl": "application/jsonl",
    ".txt": "text/plain", ".csv": "text/csv", ".html": "text/html", ".glb": "model/gltf-binary",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """A whole file: its name below the job's folder, the node that wrote it, and what it is."""

    name: str
    node: str
    media_type: str
    nbytes: int
    digest: str


def file_id(job: str, name: str) -> str:
    """What a job's file is called by people who may not know its path."""
    return digest(job, name)[:16]


def media_type(name: str) -> str:
    """What a file of this name holds, as browsers call it."""
    return MEDIA_TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")


def shown(job: str, folder: Path, path: Path) -> dict[str, Any]:
    """What people are told of a file that a node wrote below its job's folder: not where the server keeps it."""
    if not path.is_relative_to(folder.resolve()):
        return {"file": path.name}
    name = path.relative_to(folder.resolve()).as_posix()
    nbytes = path.stat().st_size if path.is_file() else 0
    return {"file": name, "id": file_id(job, name), "media_type": media_type(name), "nbytes": nbytes}


def whole(folder: Path, nodes: Mapping[str, str]) -> list[Found]:
    """Every file below a folder, read and handed to the disk, with what it is.

    Args:
        folder: that of a job whose effects are done; it need not be there.
        nodes: by name of a file or of a folder, the node that wrote it.
    """
    return [_found(folder, name, nodes) for name in sorted(_names(folder))]


def _names(folder: Path) -> Iterator[str]:
    """What was written, without what a writer that was killed left unfinished: such files begin with a full stop."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(root, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix()


def _found(folder: Path, name: str, nodes: Mapping[str, str]) -> Found:
    content, nbytes = blake3(), 0
    with open(folder / name, "rb") as file:
        while chunk := file.read(CHUNK):
            content.update(chunk)
            nbytes += len(chunk)
        os.fsync(file.fileno())
    places = [name, *map(str, PurePosixPath(name).parents)]
    node = next((nodes[place] for place in places if place in nodes), "")
    return Found(name, node, media_type(name), nbytes, content.hexdigest(20))
