"""Names of files that a workflow may write: below the output folder, fit for every system. Knows no node."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import AfterValidator

LONGEST_NAME = 255
"""Bytes that a file's name may have on the usual file systems."""
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)  # as Windows calls them


def check_name(relative: str) -> str:
    """The path itself, if it names something below a folder, whatever the system.

    Raises:
        ValueError: it is absolute, climbs out, or is a name that some system cannot hold.
    """
    parts = relative.split("/")
    if not relative or parts[0] == "" or ".." in parts or any(sign in relative for sign in "\\:\0"):
        raise ValueError(f"{relative!r} leaves the output folder; give a path below it, or choose another --out")
    for part in parts:
        if len(part.encode()) > LONGEST_NAME:
            raise ValueError(f"{part[:20]!r}... is no name of a file: it has more than {LONGEST_NAME} bytes")
        if _DEVICES.fullmatch(part) or not part.isprintable():
            raise ValueError(f"{part!r} is no name that a file can have on every system")
    return relative


def inside(root: Path, relative: str) -> Path:
    """The path below a folder, after every link on the way has been followed.

    Raises:
        ValueError: it leads out of the folder.
    """
    root = root.resolve()
    path = (root / check_name(relative)).resolve()
    if path == root or not path.is_relative_to(root):
        raise ValueError(f"{relative!r} leaves the output folder; give a path below it, or choose another --out")
    return path


def _ending(suffix: str, relative: str) -> str:
    if not check_name(relative).lower().endswith(suffix):
        raise ValueError(f"{relative!r} does not end in {suffix}; call it {f'{relative}{suffix}'!r}")
    return relative


def output_file(suffix: str) -> AfterValidator:
    """What annotates a port that names a file to write: its ending is known."""
    return AfterValidator(lambda relative: _ending(suffix, relative))


OUTPUT_FOLDER = AfterValidator(check_name)
"""What annotates a port that names a folder to write to."""
