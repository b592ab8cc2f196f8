"""Runs units in processes of their own: a node that crashes, hangs or is killed ends its run, and nothing else.

A worker is a fresh interpreter (nothing is forked). Units and events travel as JSON lines through its pipes, results as
keys of the store. It is kept between runs, so that the next one finds its models in memory, and dies with its parent.
This side imports no torch.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, cast

from kineograph.graph_runtime.errors import Cancelled, InvalidWorkflow, NodeFailed, Problem
from kineograph.graph_runtime.events import event_of
from kineograph.graph_runtime.executors.deaths import how_it_ended, oom_kills
from kineograph.graph_runtime.executors.executor import GRACE, TRIES, WAITING, Executor
from kineograph.graph_runtime.executors.follow import Beat, Ended, Said
from kineograph.graph_runtime.executors.units import Delivered, Output, Result, WorkUnit

FACTORY = "kineograph:default_runtime"
UNREAD = 256
"""Messages that are read ahead of whoever listens; when there are more, the pipe fills and the run waits."""
LAST_WORDS = 2000
SECONDS_TO_READ = 1.0
"""What a worker said that has ended; the pipe's own end may never come, a process that a node started may hold it."""
SECONDS_TO_LEAVE = 10.0
"""In which a worker that is closed must end."""
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from kineograph.graph_runtime.executors.child import main; main(*sys.argv[2:])"
)


class WorkerExecutor(Executor):
    """Runs units in one process for each device.

    Args:
        devices: for each worker the device that it sees: ``cuda:0``, ``cpu``, or empty for all there are.
        waiting, grace, tries: see ``Executor``.
        factory: what makes a worker's runtime of folders of packs, as ``module:function``.
        debug: a worker that crashes writes its stack to standard error.

    Raises:
        ValueError: a device is none of these.
    """

    def __init__(
        self,
        devices: Sequence[str] = ("",),
        *,
        waiting: int = WAITING,
        grace: float = GRACE,
        tries: int = TRIES,
        factory: str = FACTORY,
        debug: bool = False,
    ) -> None:
        self._environments = [environment(device) for device in devices]
        self._factory = factory
        self._debug = debug
        super().__init__(len(self._environments), waiting=waiting, grace=grace, tries=tries)

    def connect(self, worker: int, unit: WorkUnit) -> ProcessLink:
        """A new process."""
        return ProcessLink(unit.packs, self._environments[worker], self._factory, debug=self._debug)


def environment(device: str) -> dict[str, str]:
    """The variables with which a process sees one device.

    Raises:
        ValueError: there is no such device.
    """
    kind, _, index = device.partition(":")
    if not device:
        return {}
    if device == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if kind != "cuda" or not index.isdecimal() or (visible and int(index) >= len(visible)):
        raise ValueError(f"{device!r} is no device for a worker: write cuda:0, cuda:1, ... or cpu.")
    return {"CUDA_VISIBLE_DEVICES": visible[int(index)] if visible else index}


class ProcessLink:
    """A worker's process, and its pipes."""

    def __init__(self, packs: tuple[str, ...], variables: Mapping[str, str], factory: str, *, debug: bool) -> None:
        options = ("-X", "faulthandler") if debug else ()
        path = json.dumps(sys.path)
        self._packs = packs
        self._kills: int | None = None
        self._gone: float | None = None
        self._process = subprocess.Popen(  # noqa: S603  this interpreter and this package
            [sys.executable, "-P", *options, "-c", BOOT, path, factory, str(SECONDS_TO_LEAVE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | variables,
        )
        self._unit = WorkUnit({})
        self._nbytes = 0
        self._last_words = b""
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue(UNREAD)
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def nbytes(self) -> int:
        """The memory that the process had when it last gave a sign of life; 0 where nobody knows."""
        return self._nbytes

    def fits(self, unit: WorkUnit) -> bool:
        """Whether it has loaded the unit's packs, and is still there."""
        return unit.packs == self._packs and self._process.poll() is None

    def start(self, number: int, unit: WorkUnit) -> None:
        """Send a unit."""
        self._unit, self._kills = unit, oom_kills()
        self._send({"run": number, "unit": unit.to_json()})

    def cancel(self, number: int) -> None:
        """Send the wish to stop."""
        self._send({"cancel": number})

    def finish(self, number: int) -> None:
        """Send the wish that the loop that runs ends after its pass."""
        self._send({"finish": number})

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # it is no more: `hear` says so
            pipe = _pipe(self._process.stdin)
            pipe.write(json.dumps(message).encode() + b"\n")
            pipe.flush()

    def hear(self, seconds: float) -> Said | None:
        """What it says next.

        Raises:
            Ended: it is no more.
        """
        try:
            message = self._said.get(timeout=seconds)
        except queue.Empty:
            if self._process.poll() is not None:
                self._gone = self._gone or time.monotonic()
                if time.monotonic() - self._gone > SECONDS_TO_READ:
                    raise self._ended() from None
            return None
        if message is None:
            raise self._ended()
        return self._understood(message)

    def _understood(self, message: dict[str, Any]) -> Said:
        if "event" in message:
            return event_of(message)
        if "beat" in message:
            self._nbytes = message["nbytes"]
            return Beat(message["beat"], self._nbytes)
        if "done" in message:
            outputs = {name: Output(*output) for name, output in message.pop("done").items()}
            keys = {name: output.key for name, output in outputs.items()}
            return Result(Delivered(outputs, self._unit.store), keys, **message)
        return _error(message)

    def _ended(self) -> Ended:
        try:
            code = self._process.wait(SECONDS_TO_LEAVE)
        except subprocess.TimeoutExpired:  # its pipe is closed, so nothing can come from it
            self._process.kill()
            code = self._process.wait()
        self._readers[1].join(0.2)
        clause, advice = how_it_ended(code, self._nbytes, self._kills, oom_kills())
        return Ended(clause, advice, self._last_words.decode(errors="replace"))

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self) -> None:
        """Close its pipe: it lets go of what it has and ends, or is ended."""
        with suppress(OSError):
            _pipe(self._process.stdin).close()
        self._drain(SECONDS_TO_LEAVE + 1.0, lambda: self._process.poll() is None)
        self._process.kill()
        self._process.wait()
        until = time.monotonic() + (0.0 if self._gone else SECONDS_TO_READ)  # else that was waited for already
        self._drain(until - time.monotonic(), self._readers[0].is_alive)
        for reader in self._readers:
            reader.join(max(0.0, until - time.monotonic()))

    def _drain(self, seconds: float, lasts: Callable[[], bool]) -> None:
        """Read what nobody wants any more, so that nobody waits to write it."""
        until = time.monotonic() + seconds
        while lasts() and time.monotonic() < until:
            with suppress(queue.Empty):
                self._said.get(timeout=0.02)

    # --- reading, each on a thread of its own

    def _read(self) -> None:
        with _pipe(self._process.stdout) as pipe:
            for line in pipe:
                if line.endswith(b"\n"):  # else it was cut off
                    self._said.put(json.loads(line))
        self._said.put(None)

    def _read_errors(self) -> None:
        """What nodes and libraries write is shown where this process writes its own."""
        with _pipe(self._process.stderr) as pipe:
            while piece := os.read(pipe.fileno(), 4096):
                self._last_words = (self._last_words + piece)[-LAST_WORDS:]
                with suppress(OSError, ValueError, AttributeError):  # there may be none
                    sys.stderr.write(piece.decode(errors="replace"))
                    sys.stderr.flush()


class RemoteTraceback(Exception):
    """Where in another process an error was raised; its text is the traceback there."""


def _error(message: dict[str, Any]) -> BaseException:
    """The error that ended a run, as it would be raised here."""
    if "cancelled" in message:
        return Cancelled(message["cancelled"])
    if "invalid" in message:
        return InvalidWorkflow([Problem(*problem) for problem in message["invalid"]])
    if "failed" in message:
        failed = NodeFailed(message["failed"], message["type"], ValueError(message["reason"]), message["inputs"])
        failed.part_of(message["definition"])
        error: Exception = failed
    else:
        error = RuntimeError(message["broke"])
    error.__cause__ = RemoteTraceback(message["traceback"])
    return error


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    return cast(IO[bytes], pipe)
