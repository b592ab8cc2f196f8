"""Short work in a process that may be killed: looking at strangers' files, estimates. Knows neither, loads neither.

A helper answers one JSON line with one JSON line. It is started when it is first needed and kept for the next request;
it ends when a request takes too long, when it was idle for a while, and after so many requests.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any

from kineograph.server.errors import Refused

MOST_REQUESTS = 200
MOST_AT_ONCE = 12
"""Requests that wait or are answered; a browser opens six connections."""
IDLE_SECONDS = 120.0
MOST_LINE = 64 << 20
"""Characters of an answer."""
BOOT = """
import json, os, pkgutil, sys
path, target, nbytes, seconds, arguments = json.loads(sys.argv[1])
sys.path[:] = path
try:
    import resource
    for kind, limit in ((resource.RLIMIT_AS, nbytes), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (limit, limit))
except (ImportError, ValueError, OSError):
    pass
replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)
pkgutil.resolve_name(target)(sys.stdin, replies, *arguments)
"""


class Aside:
    """One helper process, asked by one thread at a time.

    Args:
        target: what it runs, as ``module:function``, called with a stream of requests and one for replies.
        arguments: what else it is called with; JSON.
        nbytes: address space that it may take.
        cpu_seconds: CPU time that it may take, in its whole life.
    """

    def __init__(self, target: str, arguments: list[Any], *, nbytes: int, cpu_seconds: int = 1800) -> None:
        self._boot = json.dumps([sys.path, target, nbytes, cpu_seconds, arguments])
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._process: subprocess.Popen[str] | None = None
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._asked = 0
        self._last = 0.0
        self._closed = False

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            Refused: the answer is no; too many wait; the process crashed, or took too long and was ended.
        """
        if not self._room.acquire(blocking=False):  # each holds a thread of the server
            raise Refused(503, "Too many such requests wait; try again in a moment.")
        try:
            with self._lock:
                answer = self._ask(json.dumps(request), time.monotonic() + seconds)
        finally:
            self._last = time.monotonic()
            self._room.release()
        if "refused" in answer:
            raise Refused(422, str(answer["refused"]), code="refused")
        return answer

    def _ask(self, line: str, until: float) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None or self._asked >= MOST_REQUESTS:
            self._end()
            self._start()
        assert self._process is not None and self._process.stdin is not None
        self._asked += 1
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            reply = self._replies.get(timeout=max(0.1, until - time.monotonic()))
        except queue.Empty:
            self._end()
            raise Refused(422, "It took too long, so it was ended.", code="refused") from None
        except OSError:
            reply = ""
        if not reply.endswith("\n"):  # its last words were cut off, or there were none
            self._end()
            raise Refused(422, "The process that looked at it crashed; the file may be damaged.", code="refused")
        return json.loads(reply)

    def _start(self) -> None:
        if self._closed:
            raise Refused(503, "The server is about to stop.")
        self._process = subprocess.Popen(  # noqa: S603  this interpreter and this package
            [sys.executable, "-P", "-c", BOOT, self._boot],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        )
        self._asked, self._replies = 0, queue.SimpleQueue()
        assert self._process.stdout is not None
        threading.Thread(target=_read, args=(self._process.stdout, self._replies), daemon=True).start()
        self._last = time.monotonic()
        threading.Thread(target=self._end_when_idle, args=(self._process,), daemon=True).start()

    def _end_when_idle(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            time.sleep(IDLE_SECONDS / 4)
            if time.monotonic() - self._last > IDLE_SECONDS and self._lock.acquire(blocking=False):
                try:
                    process.kill()
                finally:
                    self._lock.release()

    def _end(self) -> None:
        if self._process is not None:
            _kill(self._process)
            self._process = None

    def close(self) -> None:
        """End the process, whatever it does; none is started any more."""
        self._closed = True
        process = self._process
        if process is not None:
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdin is not None
    with suppress(OSError):  # what was not read any more
        process.stdin.close()


def _read(lines: IO[str], replies: queue.SimpleQueue[str]) -> None:
    with lines:
        while line := lines.readline(MOST_LINE):
            replies.put(line)
    replies.put("")
