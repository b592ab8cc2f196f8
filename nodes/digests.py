"""What a file holds as one short text, for keys. Knows no kind of file."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

COARSEST_CLOCK = 3.0
"""Seconds within which two changes of a file may look like one; FAT counts in twos."""


def file_digest(path: Path) -> str:
    """blake3 of a file's bytes; a file that is as it was is not read again."""
    found = path.stat()
    state = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if time.time() - max(found.st_mtime, found.st_ctime) < COARSEST_CLOCK:  # the next change may bear the same time
        return _bytes_digest.__wrapped__(path, state)
    return _bytes_digest(path, state)


@lru_cache(maxsize=256)
def _bytes_digest(path: Path, _: tuple[int, ...]) -> str:
    from blake3 import blake3

    digest = blake3()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest(20)
