"""What runs in a worker's process: reads units from its parent, runs them, tells what happens as JSON lines.

The pipes are taken away from nodes: what they print goes to standard error, and they have nothing to read.
"""

from __future__ import annotations

import json
import os
import pkgutil
import queue
import signal
import sys
import threading
import time
import traceback
from contextlib import redirect_stdout, suppress
from typing import Any, BinaryIO

from kineograph.graph_runtime.errors import Cancelled, InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.events import Event, event_json
from kineograph.graph_runtime.executors.bench import Bench, MakeRuntime, Wishes
from kineograph.graph_runtime.executors.units import Output, WorkUnit
from kineograph.graph_runtime.run_state import Place

SECONDS_BETWEEN_BEATS = 0.5


def main(factory: str, seconds_to_leave: str) -> None:
    """Serve the parent until it closes the pipe or is no more.

    Args:
        factory: what makes the runtime, as ``module:function``.
        seconds_to_leave: in which a run must stop when the parent is no more.
    """
    commands, replies = _own_pipes()
    child = Child(commands, replies, float(seconds_to_leave))
    for name in ("SIGINT", "SIGHUP"):  # a terminal sends them to all: the parent decides
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    def leave(*_: object) -> None:
        child.leave()

    signal.signal(signal.SIGTERM, leave)
    child.serve(pkgutil.resolve_name(factory))
    sys.stderr.flush()
    os._exit(0)  # threads of libraries are not waited for


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    commands, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return commands, replies


class Child:
    """Runs units one at a time; further threads listen to the parent and give signs of life."""

    def __init__(self, commands: BinaryIO, replies: BinaryIO, seconds_to_leave: float) -> None:
        self._commands = commands
        self._replies = replies
        self._seconds_to_leave = seconds_to_leave
        self._writing = threading.Lock()
        self._units: queue.SimpleQueue[tuple[int, str] | None] = queue.SimpleQueue()
        self._wishes: dict[int, Wishes] = {}
        self._at = Place()
        self._busy = threading.Event()

    def serve(self, make: MakeRuntime) -> None:
        """Run what comes."""
        for service in (self._listen, self._beat):
            threading.Thread(target=service, daemon=True).start()
        bench = Bench(make)
        while (command := self._units.get()) is not None:
            number, text = command
            self._busy.set()
            with redirect_stdout(sys.stderr):
                end = self._run(bench, WorkUnit.from_json(text), self._wishes[number])
            self._busy.clear()
            self._wishes.pop(number, None)
            self._say(end)
        bench.close()

    def leave(self) -> None:
        """Stop what runs, then end."""
        for wishes in list(self._wishes.values()):
            wishes.cancel.set()
        self._units.put(None)

    def _run(self, bench: Bench, unit: WorkUnit, wishes: Wishes) -> dict[str, Any]:
        self._at.path = ""

        def listen(event: Event) -> None:
            if not self._say(event_json(event)):
                wishes.cancel.set()

        try:
            outcome, keys = bench.run(unit, listen, wishes, self._at)
            outputs = bench.deliver(outcome, keys, small_only=unit.small_only) if unit.deliver else _not_delivered(keys)
        except InvalidWorkflow as invalid:
            return {"invalid": [(found.place, found.message, found.hint) for found in invalid.problems]}
        except Cancelled as stopped:
            return {"cancelled": stopped.path}
        except NodeFailed as failed:
            text = "".join(traceback.format_exception(failed.__cause__ or failed))
            where = {"failed": failed.path, "type": failed.node_type, "definition": failed.definition}
            return {**where, "reason": failed.reason, "inputs": failed.inputs, "traceback": text}
        except Exception as error:  # noqa: BLE001  a bug of ours: the parent raises it
            return {"broke": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        return {"done": outputs, "ran": outcome.ran, "cached": outcome.cached, "seconds": outcome.seconds}

    def _say(self, message: dict[str, Any]) -> bool:
        """Tell the parent; False where it is no more."""
        line = json.dumps(message).encode() + b"\n"
        try:
            with self._writing:
                self._replies.write(line)
                self._replies.flush()
        except OSError:
            return False
        return True

    def _listen(self) -> None:
        """Read commands until the pipe ends, which it does when the parent dies; then nothing may go on for long."""
        for line in self._commands:
            command = json.loads(line)
            if "run" in command:
                self._wishes[command["run"]] = Wishes()
                self._units.put((command["run"], command["unit"]))
            elif (wishes := self._wishes.get(command.get("cancel", command.get("finish")))) is not None:
                (wishes.cancel if "cancel" in command else wishes.finish).set()
        self.leave()
        time.sleep(self._seconds_to_leave)
        os._exit(1)

    def _beat(self) -> None:
        """Say now and then that the process lives, what runs in it, and how much memory it has."""
        while True:
            self._busy.wait()
            time.sleep(SECONDS_BETWEEN_BEATS)
            if self._busy.is_set():
                self._say({"beat": self._at.path, "nbytes": _memory()})


def _not_delivered(keys: dict[str, str]) -> dict[str, Output]:
    return {name: Output(key, lost="it was not asked for") for name, key in keys.items()}


def _memory() -> int:
    """The bytes of memory that this process has; 0 where the system does not say."""
    with suppress(OSError, ValueError, AttributeError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
