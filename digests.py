"""What a file holds as one short text, for keys; of large files it is remembered on disk. Knows no kind of file."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from kineograph.files import cache_folder, write_whole

COARSEST_CLOCK = 3.0
"""Seconds within which two changes of a file may look like one; FAT counts in twos."""
LARGE = 32 * 2**20
"""Bytes of a file whose digest is worth a file of its own; blake3 reads so many in 20 ms."""
REMEMBERED = 1000


def file_digest(path: Path) -> str:
    """blake3 of a file's bytes; a file that is as it was is not read again."""
    found = path.stat()
    state = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if time.time() - max(found.st_mtime, found.st_ctime) < COARSEST_CLOCK:  # the next change may bear the same time
        return _bytes_digest.__wrapped__(path, state)
    return _bytes_digest(path, state)


@lru_cache(maxsize=256)
def _bytes_digest(path: Path, state: tuple[int, ...]) -> str:
    """The digest of a file that is in this state; another process may know it."""
    if state[1] < LARGE:
        return _read(path)
    from blake3 import blake3

    name = blake3(f"{path.absolute()}{state}".encode(errors="surrogateescape")).hexdigest(16)
    known = cache_folder().with_name("kineograph-digests") / name  # a store shares its folder with nothing
    with suppress(OSError, ValueError):
        if re.fullmatch("[0-9a-f]{40}", text := known.read_text(encoding="ascii")):
            return text
    digest = _read(path)
    with suppress(OSError, ValueError):  # it is read again the next time
        known.parent.mkdir(parents=True, exist_ok=True)
        write_whole(known, digest.encode())
        for oldest in sorted(known.parent.iterdir(), key=lambda file: file.stat().st_mtime)[:-REMEMBERED]:
            oldest.unlink()
    return digest


def _read(path: Path) -> str:
    from blake3 import blake3

    digest = blake3()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest(20)
