"""The text that an MP4 carries about its own making: reads boxes in plain Python, loads no decoder, knows no graph.

An MP4 is a tree of boxes: 4 bytes of size, 4 of type, then the content (ISO/IEC 14496-12). Our text lies under
``moov/udta/meta``: ``keys`` lists names and ``ilst`` holds a value for each (Apple's QuickTime metadata). Programs that
copy a file keep only the comment, as ``ilst/©cmt``. Read this way, a stranger's file reaches no C code.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from kineograph.nodes.media.provenance import PROVENANCE_KEY, PROVENANCE_LIMIT, ProvenanceError

_MOST_BOXES = 100_000
_COMMENTS = ("comment", "\xa9cmt")


@dataclass(frozen=True)
class _Box:
    kind: str
    start: int  # of the content
    end: int


def mp4_text(file: BinaryIO, name: str, *keys: str) -> str:
    """The text that `media.write_video` kept in a file, or another program under keys of its own.

    Raises:
        ProvenanceError: no MP4, cut off, more than 16 MB of text, or none.
    """
    return _Reader(file, name).provenance(keys or (PROVENANCE_KEY,))


class _Reader:
    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name, self.boxes_left = file, name, _MOST_BOXES
        self.size = file.seek(0, os.SEEK_END)

    def provenance(self, keys: tuple[str, ...]) -> str:
        if self.at(4, 4) != b"ftyp":
            raise ProvenanceError(f"{self.name} is no MP4: it begins with {self.at(0, 8)!r}.")
        tops = list(self.boxes(_Box("file", 0, self.size)))
        movie = next((box for box in tops if box.kind == "moov"), None)
        if movie is None:
            raise ProvenanceError(f"{self.name} has no table of contents (moov); it was cut off, or never finished.")
        texts: dict[str, _Box] = {}
        for meta in self.find(movie, "udta", "meta") + self.find(movie, "meta"):
            texts |= self.texts(meta)
        found = next((texts[key] for key in (*keys, *_COMMENTS) if key in texts), None)
        if found is None:
            raise ProvenanceError(f"{self.name} carries no workflow; it was not made by Kineograph, or was stripped.")
        return self.text(found)

    def text(self, box: _Box) -> str:
        size = box.end - box.start
        if size > PROVENANCE_LIMIT:
            raise ProvenanceError(f"{self.name} carries {size:,} bytes of text; at most {PROVENANCE_LIMIT:,} are read.")
        try:
            return self.at(box.start, size).decode()
        except UnicodeDecodeError as failure:
            raise ProvenanceError(f"{self.name} carries text that is no UTF-8.") from failure

    def texts(self, meta: _Box) -> dict[str, _Box]:
        """Where each text of a ``meta`` box lies, by its name."""
        inside = list(self.boxes(_Box("meta", meta.start + 4, meta.end)))  # 4 bytes of version and flags
        names = {number: name for box in inside if box.kind == "keys" for number, name in self.names(box)}
        found: dict[str, _Box] = {}
        for item in (item for box in inside if box.kind == "ilst" for item in self.boxes(box)):
            name = names.get(int.from_bytes(item.kind.encode("latin-1"), "big"), item.kind)
            for data in self.boxes(item):
                if data.kind == "data":  # 4 bytes of type, 4 of locale
                    found.setdefault(name, _Box("text", min(data.start + 8, data.end), data.end))
        return found

    def names(self, keys: _Box) -> Iterator[tuple[int, str]]:
        """The numbered names of a ``keys`` box; ours are short, others are passed over."""
        for number, box in enumerate(self.boxes(_Box("keys", keys.start + 8, keys.end)), start=1):
            yield number, self.at(box.start, min(box.end - box.start, 64)).decode("utf-8", "replace")

    def find(self, box: _Box, *kinds: str) -> list[_Box]:
        if not kinds:
            return [box]
        return [found for child in self.boxes(box) if child.kind == kinds[0] for found in self.find(child, *kinds[1:])]

    def boxes(self, parent: _Box) -> Iterator[_Box]:
        place = parent.start
        while place + 8 <= parent.end:
            self.boxes_left -= 1
            if self.boxes_left < 0:
                raise ProvenanceError(f"{self.name} is made of more than {_MOST_BOXES:,} boxes, which no video needs.")
            head = self.at(place, 16)
            size, kind, length = int.from_bytes(head[:4], "big"), head[4:8].decode("latin-1"), 8
            if size == 1:
                size, length = int.from_bytes(head[8:16], "big"), 16
            elif size == 0 and parent.kind == "file":  # up to the end of the file
                size = parent.end - place
            if size == 0 and parent.kind == "udta":  # QuickTime may end udta with a zero
                return
            if size < length or place + size > parent.end:
                raise ProvenanceError(
                    f"{self.name} is cut off or damaged: its box {kind!r} at byte {place:,} claims {size:,} bytes, "
                    f"and {parent.end - place:,} are left."
                )
            yield _Box(kind, place + length, place + size)
            place += size

    def at(self, place: int, count: int) -> bytes:
        self.file.seek(place)
        return self.file.read(count)
