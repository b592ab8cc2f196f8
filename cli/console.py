"""What is seen of a run: bars on a terminal, one JSON object per line in a pipe. Knows events, but no workflow."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from kineograph.graph_runtime.events import (
    Event,
    FileWritten,
    LeftOut,
    LoopCut,
    MemoryShort,
    Metric,
    NodeCached,
    NodeFinished,
    NodeNote,
    NodeProgress,
    NodeResumed,
    NodeStarted,
    NotKept,
    RunFinished,
    RunsAgain,
    SweepFinished,
    SweepRun,
    event_json,
)

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

STOPPING = "Stopping after this step... (Ctrl+C again stops at once)"


class View(Protocol):
    """Shows the events of a run."""

    def show(self, event: Event) -> None:
        """Show one event; OSError where it cannot be written."""
        ...


class Watch:
    """A listener that shows events and never disturbs a node: if they cannot be shown, it stops the run.

    Attributes:
        lost: why the events could not be shown, or None.
    """

    def __init__(self, view: View, cancel: threading.Event) -> None:
        self.view = view
        self.cancel = cancel
        self.lost: OSError | None = None

    def __call__(self, event: Event) -> None:
        if self.lost is not None:
            return
        try:
            self.view.show(event)
        except OSError as error:
            self.lost = error
            self.cancel.set()


class JsonLines:
    """One JSON object per event and line, written at once; numbers that JSON cannot hold are null."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def show(self, event: Event) -> None:
        """Write one line."""
        content = {name: _finite(value) for name, value in event_json(event).items()}
        self.stream.write(json.dumps(content) + "\n")
        self.stream.flush()


class Bars:
    """A bar for each node or loop that runs, a line for each that is done, the files at the end."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}
        self.files: list[str] = []

    def show(self, event: Event) -> None:
        """Move the bars, or print a line above them."""
        if isinstance(event, NodeStarted):
            self.task(event.path)
        elif isinstance(event, NodeProgress):
            count = f"{event.done}/{event.total}"
            left = duration(event.seconds_left) + " left" if event.done < event.total else ""
            self.progress.update(self.task(event.path), completed=event.done, total=event.total, count=count, left=left)
        elif isinstance(event, Metric):
            self.progress.update(self.task(self.owner(event.path)), metric=f"{event.name} {event.value:.4g}")
        elif isinstance(event, NodeFinished):
            self.end(event.path)
            held = size(event.nbytes) if event.nbytes else ""
            self.line("done", f"{event.path:<16}{duration(event.seconds):>8}{held:>10}", "green")
        elif isinstance(event, FileWritten):
            self.files.append(event.file)
        elif isinstance(event, RunFinished):
            for name, value in event.values.items():
                self.line("output", f"{name} = {value!r}", "bold")
            for file in self.files:
                self.line("wrote", file, "bold")
            self.files.clear()
            ran = f"{event.ran} node{'' if event.ran == 1 else 's'} ran"
            self.line("", f"{ran}, {event.cached} cached, {duration(event.seconds)}")
        elif (told := _told(event)) is not None:
            self.line(*told)

    def line(self, what: str, text: str, style: str = "") -> None:
        """Print above the bars."""
        from rich.text import Text

        line = Text.assemble((f"{what:<8}", style), _printable(text).rstrip())
        self.progress.console.print(line, highlight=False, soft_wrap=True)

    def task(self, path: str) -> TaskID:
        """The bar of a node; a new one if it has none."""
        if path not in self.tasks:
            self.tasks[path] = self.progress.add_task(one_line(path), total=None, count="", left="", metric="")
        return self.tasks[path]

    def owner(self, path: str) -> str:
        """The loop around a node that has a bar, else the node itself."""
        around = path
        while "/" in around:
            around = around.rpartition("/")[0]
            if around in self.tasks:
                return around
        return path

    def end(self, path: str) -> None:
        """Take away the bar of a node and of all that ran inside it."""
        for name in [name for name in self.tasks if name == path or name.startswith(f"{path}/")]:
            self.progress.remove_task(self.tasks.pop(name))


def _told(event: Event) -> tuple[str, str, str] | None:
    """The line of an event that is one line above the bars: a word, what it says, a style."""
    if isinstance(event, NodeCached):
        return "cached", event.path, "cyan"
    if isinstance(event, NodeResumed):
        return "goes on", f"{event.path:<16}from pass {event.done:,} of {event.total:,}", "cyan"
    if isinstance(event, LoopCut):
        return "cut", f"{event.path:<16}after pass {event.done:,} of {event.total:,}, as asked", "yellow"
    if isinstance(event, (NotKept, MemoryShort, RunsAgain, NodeNote)):
        return "note", f"{event.path}: {event.reason}", "yellow"
    if isinstance(event, LeftOut):
        return "left out", f"{event.path.removeprefix('outputs.')}: {event.reason}", "yellow"
    if isinstance(event, SweepRun):
        values = ", ".join(f"{name} = {value}" for name, value in event.values.items())
        return "run", f"{event.number:,} of {event.total:,}: {values}", "bold"
    if isinstance(event, SweepFinished):
        return "wrote", f"{event.file}, which shows all {event.total:,} runs", "bold"
    return None


@contextmanager
def watching(as_json: bool, cancel: threading.Event) -> Iterator[Watch]:
    """A listener for standard output: bars on a terminal, else JSON lines, into which no node can print."""
    if as_json or not sys.stdout.isatty():
        watch = Watch(JsonLines(sys.stdout), cancel)
        with redirect_stdout(sys.stderr):
            yield watch
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    def text(field: str) -> TextColumn:
        return TextColumn(f"{{task.{field}}}", markup=False)

    told = [text(f"fields[{name}]") for name in ("count", "left", "metric")]
    columns = (text("description"), BarColumn(), TimeElapsedColumn(), *told)
    with Progress(*columns, console=Console(file=sys.stdout), transient=True) as progress:
        yield Watch(Bars(progress), cancel)


@contextmanager
def stopped_by_signals(cancel: threading.Event) -> Iterator[None]:
    """The first Ctrl+C, SIGTERM or SIGHUP asks the run to stop, the second interrupts it; what is ignored stays so."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: found for number in numbers if (found := signal.getsignal(number)) is not signal.SIG_IGN}

    def stop(*_: object) -> None:
        cancel.set()
        for number in before:
            signal.signal(number, signal.default_int_handler)
        with suppress(OSError):
            os.write(2, f"\n{STOPPING}\n".encode())  # print() may be what was interrupted

    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def finished_by_signal(finish: threading.Event) -> Iterator[None]:
    """SIGUSR1 asks the loop that runs to end after its pass; what follows it runs."""
    number = getattr(signal, "SIGUSR1", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, lambda *_: finish.set())
    try:
        yield
    finally:
        signal.signal(number, before)


def one_line(text: str) -> str:
    """The text on one line, without codes that a terminal would obey."""
    return _printable(" ".join(filter(None, map(str.strip, text.splitlines()))))


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def duration(seconds: float) -> str:
    """Seconds as people read them: ``0.31 s``, ``2:05``, ``1:02:05``."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(nbytes: int) -> str:
    """Bytes as people read them."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if nbytes >= unit:
            return f"{nbytes / unit:.3g} {name}"
    return f"{nbytes} B"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
