"""Files as every room may write them: whole or not at all, whatever happens meanwhile. Knows no kind of file."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path


def cache_folder() -> Path:
    """The folder for what a program keeps and can make again (XDG base directories)."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def data_folder() -> Path:
    """The folder for what a program's user made with it (XDG base directories)."""
    return _xdg("XDG_DATA_HOME", ".local/share")


def _xdg(variable: str, default: str) -> Path:
    home = os.environ.get(variable, "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / default) / "kineograph"


def write_whole(path: Path, data: bytes) -> None:
    """Write under another name, sync, rename: the name stands for the whole file or for what it stood for before.

    Raises:
        ValueError: there is no such folder, or the name is one.
        OSError: the file could not be written.
    """
    if not path.parent.is_dir():
        raise ValueError(f"{path.name} cannot be written: its folder {path.parent} does not exist. Create it first.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, so no file can be written there. Choose another name.")
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as failure:
        raise _unwritten(path, len(data), failure) from failure
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _unwritten(path: Path, size: int, failure: OSError) -> OSError:
    full = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "your quota is used up",
        errno.EFBIG: "it is too large here",
    }
    if failure.errno in full:
        why = f"{full[failure.errno]}. Free {size:,} bytes or choose another folder"
    else:
        why = f"{failure.strerror or failure}. Choose another folder"
    error = OSError(f"{path.name} was not written: {why}. Nothing is left of it.")
    error.errno = failure.errno
    return error


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's names."""
    if os.name != "posix":  # other systems open no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
