"""The text that a PNG or WebP carries about its own making: reads chunks in plain Python, loads no decoder.

Both are lists of chunks with a size and a kind of 4 letters. In a PNG our text is an ``iTXt`` chunk (W3C PNG, 11.3.3);
``tEXt`` and ``zTXt`` are read too, which other programs make of it. In a WebP it is a chunk of a kind of our own, which
readers pass over (RFC 9649, 2.7.1.6).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from kineograph.nodes.media.provenance import PROVENANCE_KEY, PROVENANCE_LIMIT, ProvenanceError, check_length

PNG = b"\x89PNG\r\n\x1a\n"
_AFTER_HEADER = len(PNG) + 25
"""Where the first chunk behind a PNG's header stands."""
_OWN_KIND = b"KINO"
_MOST_CHUNKS = 100_000
_EXIF_TEXTS = (0x010E, 0x010F, 0x0110)
"""Numbers of the description, maker and model of a picture, where other programs keep texts of theirs."""


def with_png_text(png: bytes, text: str) -> bytes:
    """A PNG that carries a text."""
    check_length(text)
    content = PROVENANCE_KEY.encode() + b"\0\0\0\0\0" + text.encode()  # not compressed, no language, no translated name
    head = struct.pack(">I", len(content)) + b"iTXt"
    chunk = head + content + struct.pack(">I", zlib.crc32(b"iTXt" + content))
    return png[:_AFTER_HEADER] + chunk + png[_AFTER_HEADER:]


def with_webp_text(webp: bytes, text: str) -> bytes:
    """A WebP that carries a text."""
    check_length(text)
    content = text.encode()
    chunk = _OWN_KIND + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(webp) - 8 + len(chunk)) + webp[8:] + chunk


def png_text(file: BinaryIO, name: str, key: str = PROVENANCE_KEY) -> str:
    """The text that ``with_png_text`` put into a PNG, or another program under a key of its own.

    Raises:
        ProvenanceError: no PNG, cut off, more than 16 MB of text, or none.
    """
    _begin(file, name, PNG, "PNG")
    found: str | None = None
    mark = key.encode() + b"\0"
    for kind, place, size in _chunks(file, name, len(PNG), riff=False):
        if kind in (b"iTXt", b"tEXt", b"zTXt") and found is None:
            file.seek(place)
            if file.read(min(size, len(mark))) == mark:
                found = _text(kind, _read(file, name, place + len(mark), size - len(mark)), name)
        if kind == b"IEND":
            return _found(found, name)
    raise ProvenanceError(f"{name} has no end (IEND); it was cut off.")


def webp_text(file: BinaryIO, name: str) -> str:
    """The text that ``with_webp_text`` put into a WebP.

    Raises:
        ProvenanceError: no WebP, cut off, more than 16 MB of text, or none.
    """
    own = _webp_chunk(file, name, _OWN_KIND)
    return _found(None if own is None else _utf8(own, name), name)


def webp_exif_texts(file: BinaryIO, name: str) -> list[str]:
    """The texts that another program put into a WebP's Exif (TIFF 6.0): description, maker, model.

    Raises:
        ProvenanceError: no WebP, cut off, or more than 16 MB.
    """
    exif = (_webp_chunk(file, name, b"EXIF") or b"").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return []
    (first,) = struct.unpack_from(f"{order}I", exif, 4)
    texts: list[str] = []
    count = struct.unpack_from(f"{order}H", exif, first)[0] if first + 2 <= len(exif) else 0
    for place in range(first + 2, min(first + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, size, where = struct.unpack_from(f"{order}HHII", exif, place)
        if tag in _EXIF_TEXTS and kind == 2:  # ASCII; up to four letters stand where else their place does
            content = exif[where : where + size] if size > 4 else exif[place + 8 : place + 8 + size]
            texts.append(_utf8(content.rstrip(b"\0"), name))
    return texts


def _webp_chunk(file: BinaryIO, name: str, wanted: bytes) -> bytes | None:
    """The content of a WebP's first chunk of a kind."""
    _begin(file, name, b"RIFF", "WebP")
    said = int.from_bytes(file.read(4), "little") + 8
    if said > file.seek(0, os.SEEK_END):
        raise ProvenanceError(f"{name} claims {said:,} bytes and has fewer; it was cut off.")
    own = [(place, size) for kind, place, size in _chunks(file, name, 12, riff=True) if kind == wanted]
    return _read(file, name, *own[0]) if own else None


def _begin(file: BinaryIO, name: str, mark: bytes, kind: str) -> None:
    file.seek(0)
    if (head := file.read(len(mark))) != mark:
        raise ProvenanceError(f"{name} is no {kind}: it begins with {head!r}.")


def _chunks(file: BinaryIO, name: str, place: int, *, riff: bool) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's kind, and place and size of its content."""
    end = file.seek(0, os.SEEK_END)
    for _ in range(_MOST_CHUNKS):
        if place == end:
            return
        file.seek(place)
        head = file.read(8)
        kind, size = (head[:4], head[4:]) if riff else (head[4:], head[:4])
        length = int.from_bytes(size, "little" if riff else "big")
        behind = length % 2 if riff else 4  # padding, or a checksum
        if len(head) < 8 or place + 8 + length + behind > end:
            raise ProvenanceError(
                f"{name} is cut off or damaged: its chunk {kind!r} at byte {place:,} claims {length:,} bytes, "
                f"and {end - place:,} are left."
            )
        yield kind, place + 8, length
        place += 8 + length + behind
    raise ProvenanceError(f"{name} is made of more than {_MOST_CHUNKS:,} chunks, which no picture needs.")


def _read(file: BinaryIO, name: str, place: int, size: int) -> bytes:
    if size > PROVENANCE_LIMIT:
        raise ProvenanceError(f"{name} carries {size:,} bytes of text; at most {PROVENANCE_LIMIT:,} are read.")
    file.seek(place)
    return file.read(size)


def _text(kind: bytes, content: bytes, name: str) -> str:
    """The text of a chunk, behind its name."""
    if kind == b"tEXt":
        return content.decode("latin-1")
    if kind == b"zTXt":
        return _unpacked(content[1:], name).decode("latin-1")
    _language, _translated, text = (*content[2:].split(b"\0", 2), b"", b"")[:3]
    return _utf8(_unpacked(text, name) if content[:1] == b"\1" else text, name)


def _unpacked(data: bytes, name: str) -> bytes:
    """What zlib packed: no more than may be read, however little it was packed into."""
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, PROVENANCE_LIMIT + 1)
    except zlib.error as failure:
        raise ProvenanceError(f"{name} carries text that cannot be unpacked.") from failure
    if len(text) > PROVENANCE_LIMIT:
        raise ProvenanceError(f"{name} carries more than {PROVENANCE_LIMIT:,} bytes of text, packed.")
    return text


def _utf8(text: bytes, name: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as failure:
        raise ProvenanceError(f"{name} carries text that is no UTF-8.") from failure


def _found(text: str | None, name: str) -> str:
    if text is None:
        raise ProvenanceError(f"{name} carries no workflow; it was not made by Kineograph, or was stripped.")
    return text
