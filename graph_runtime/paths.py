"""Names of files that a workflow may write (below the output folder, fit for every system) and read. Knows no node."""

from __future__ import annotations

import inspect
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import AfterValidator

from kineograph.digests import file_digest

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


def _ending(endings: tuple[str, ...], relative: str) -> str:
    if not check_name(relative).lower().endswith(endings):
        raise ValueError(f"{relative!r} does not end in {_either(endings)}; call it {f'{relative}{endings[0]}'!r}")
    return relative


@dataclass(frozen=True)
class OutputFile:
    """What annotates a port that names a file to write below the output folder.

    Attributes:
        endings: of the names that fit, in small letters.
    """

    endings: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Pydantic's way to ask for a validator."""
        from pydantic_core.core_schema import no_info_after_validator_function

        return no_info_after_validator_function(lambda relative: _ending(self.endings, relative), handler(source))


def output_file(*endings: str) -> OutputFile:
    """What annotates a port that names a file to write: its ending is known."""
    return OutputFile(endings)


OUTPUT_FOLDER = AfterValidator(check_name)
"""What annotates a port that names a folder to write to."""


# Files to read


@dataclass(frozen=True)
class InputFile:
    """What annotates a port that names a file to read: an editor shows a picker, and its value is checked before a run.

    Attributes:
        endings: of the files that fit, in small letters.
        instead: what reads another kind, for the message.
    """

    endings: tuple[str, ...]
    instead: str = ""

    def check(self, path: str) -> str:
        """The path itself, if there is an ordinary file with one of the endings, which may be read.

        Raises:
            ValueError: there is none; the sentence has no full stop, like those of pydantic.
        """
        if not path.lower().endswith(self.endings):
            instead = f"; {self.instead}" if self.instead else ""
            raise ValueError(f"{_shown(path)} does not end in {_either(self.endings)}{instead}")
        try:
            open_input(path).close()
        except ValueError as error:
            raise ValueError(str(error).rstrip(".")) from None
        return path

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Pydantic's way to ask for a validator: ``check``, behind that of the type."""
        from pydantic_core.core_schema import no_info_after_validator_function

        return no_info_after_validator_function(self.check, handler(source))


def input_file(*endings: str, instead: str = "") -> InputFile:
    """What annotates a port that names a file to read, from the current folder or absolute; ``~`` is the home.

    This is the one place that says which files a workflow reads: give such a port's value to ``open_input``.
    """
    return InputFile(endings, instead)


def open_input(path: str) -> BinaryIO:
    """Open a file that a workflow names, without waiting for what is none; the caller closes it.

    Raises:
        ValueError: it is not there, is a folder, a pipe or a device, or may not be read.
    """
    if "\0" in path:
        raise ValueError(f"{_shown(path)} is no name of a file.")
    try:
        file = open(Path(path).expanduser(), "rb", opener=_without_waiting)  # noqa: SIM115  the caller closes it
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{_shown(path)} is not there; a path begins in the current folder.") from None
    except IsADirectoryError:
        raise ValueError(f"{_shown(path)} is a folder, not a file.") from None
    except (OSError, RuntimeError) as failure:  # no right to read, too long a name, nobody's home
        why = getattr(failure, "strerror", None) or str(failure)
        raise ValueError(f"{_shown(path)} cannot be read: {why.lower()}.") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{_shown(path)} is a pipe or a device, not a file.")
    return file


def digest_inputs(ports: Iterable[str]) -> Callable[..., str]:
    """The fingerprint of a node that says of itself no more than which of its ports name files to read.

    Args:
        ports: the names of these ports; the value of each is a path, a list of paths, or empty.
    """

    def fingerprint(**values: str | list[str] | None) -> str:
        return ",".join(f"{port}={'+'.join(map(_digest, _paths(value)))}" for port, value in sorted(values.items()))

    parameters = [inspect.Parameter(port, inspect.Parameter.KEYWORD_ONLY) for port in ports]
    fingerprint.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return fingerprint


def _paths(value: str | list[str] | None) -> list[str]:
    return value if isinstance(value, list) else [value] if value else []


def _digest(path: str) -> str:
    open_input(path).close()
    return file_digest(Path(path).expanduser())


def _without_waiting(path: str, flags: int) -> int:
    """Open as usual, but where it is a pipe that nobody writes to."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _shown(path: str) -> str:
    """A path on one line, its end where it is long."""
    return repr(path if len(path) <= 200 else f"...{path[-100:]}")


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
