"""What can go wrong, for people: every error is a sentence with its place. Knows no graph.

WorkflowError
├── InvalidWorkflow   found before anything ran; carries every problem, not the first
├── NodeFailed        a node raised while it ran; carries its path in the workflow
│   └── Halted        not by itself: the run took longer than it may
│       └── WorkerDied    with the process that it ran in
├── Cancelled         the caller asked to stop
├── Busy              an executor has as many runs waiting as it takes
└── Poisoned          an executor does not try a run any more
"""

from __future__ import annotations

import difflib
import linecache
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a workflow.

    Attributes:
        place: where, as ``node.port``, ``loop/node.port`` or ``inputs.name``; empty for the file as a whole.
        message: a sentence that says what is wrong, with the numbers.
        hint: the way out, or empty.
    """

    place: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{place}{self.message}{hint}"


class WorkflowError(Exception):
    """Base of everything the runtime raises on purpose."""


class InvalidWorkflow(WorkflowError):
    """The workflow cannot run. ``problems`` lists all that is wrong."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class NodeFailed(WorkflowError):
    """A node raised; the node's own error is ``__cause__``.

    Attributes:
        path: its place in the workflow. node_type: its id. definition: what it is part of, if it is.
        inputs: what it was given, in a few words for each port.
    """

    def __init__(
        self,
        path: str,
        node_type: str,
        cause: BaseException,
        inputs: Mapping[str, str] | None = None,
        packages: Collection[str] = (),
    ) -> None:
        """``packages`` are those whose lines are worth to be named: the pack's that the node is part of."""
        self.path = path
        self.node_type = node_type
        self.definition = ""
        self.inputs = dict(inputs or {})
        kind = "" if isinstance(cause, (ValueError, OSError)) else f"{type(cause).__name__}: "
        place = place_in(cause, packages)
        self.reason = f"{kind}{said(cause)}" + (f" ({place}; --debug shows all)." if place else "")
        super().__init__(f"{path} ({node_type}) failed: {self.reason}")

    def part_of(self, definition: str) -> None:
        """Say which definition the node is part of, if it is."""
        if definition and not self.definition:
            self.definition = definition
            self.args = (self.args[0].replace(f" ({self.node_type}) ", f" ({self.node_type} in {definition}) ", 1),)


class Halted(NodeFailed):
    """A run was ended in the middle of a node, because it took longer than it may.

    Attributes:
        what: the sentence that says what happened; the error's own text says too what may help.
    """

    def __init__(self, path: str, node_type: str, what: str, advice: str) -> None:
        super().__init__(path, node_type, ValueError(what))
        self.args = (f"{what} {advice}",)
        self.what = what


class WorkerDied(Halted):
    """The process that a run was in ended: a node crashed it, the system took it, or it hung and was ended.

    Attributes:
        last_words: the end of what the process wrote to its standard error.
        late: whether it was ended because the run took too long; it would again.
    """

    last_words: str = ""
    late: bool = False


class Cancelled(WorkflowError):
    """The run was stopped by its caller."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"Stopped at {path}.")


class Busy(WorkflowError):
    """As many runs wait as an executor takes; a later try may succeed."""


class Poisoned(WorkflowError):
    """A run that ended its process too often. ``history`` has a sentence for each time."""

    def __init__(self, history: Sequence[str]) -> None:
        self.history = tuple(history)
        times = " ".join(f"{number}. {sentence}" for number, sentence in enumerate(history, 1))
        super().__init__(
            f"This run ended its process {len(history)} times, so it is not tried again. {times} "
            "Change the workflow or its inputs."
        )


def said(error: BaseException) -> str:
    """What an exception says, for people: of the system's errors the words and the file, without the number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return str(error) or type(error).__name__


def place_in(error: BaseException, packages: Collection[str]) -> str:
    """``grain.py, line 12``: the innermost line of these packages that an exception came through; nothing for none.

    What they raise themselves as a ValueError is a sentence for people: it needs no line.
    """
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        if str(frame.f_globals.get("__name__")).partition(".")[0] in packages:
            file = frame.f_code.co_filename
            meant = isinstance(error, ValueError) and linecache.getline(file, line).lstrip().startswith("raise ")
            return "" if meant else f"{Path(file).name}, line {line}"
    return ""


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the known names closest to ``name``, or lists a few if none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.55)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    if not names:
        return "There is none."
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"Known: {shown}."
