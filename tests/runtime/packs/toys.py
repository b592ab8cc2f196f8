"""Toy nodes for the tests of executors: some do harm to the process that they run in."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.sockets import Stream


@node
def add(a: int = 0, b: int = 0) -> int:
    """The sum of two numbers."""
    return a + b


@node
def digits(n: int = 3) -> str:
    """A text of n digits."""
    return "".join(str(at % 10) for at in range(n))


@node(counts=("n",))
def count(n: int) -> Stream[int]:
    """The numbers below n."""
    return Stream(n, lambda index: index)


@node
def fail(a: int, unless: str) -> int:
    """a, but an error the first time, before the file is there."""
    if not Path(unless).exists():
        Path(unless).touch()
        raise ValueError(f"{a} is too many")
    return a


@node
def die(a: int = 0, how: str = "no", at: int = 0, unless: str = "") -> int:
    """a, but the process ends at a certain a, unless a file is there."""
    if a != at or (unless and Path(unless).exists()):
        return a
    if unless:
        Path(unless).touch()
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
        os.abort()
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "leave a process behind":
        pipes = [int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists()]
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)"], pass_fds=[at for at in pipes if at > 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return a


@node
def doze(run: RunContext, a: int = 0, seconds: float = 0.01) -> int:
    """a, later; listens ten times."""
    for _ in range(10):
        run.check_cancelled()
        time.sleep(seconds / 10)
    return a


@node
def sleep(a: int = 0, seconds: float = 1.0, at: int = 0) -> int:
    """a; sleeps at a certain a, without listening."""
    if a == at:
        time.sleep(seconds)
    return a


@node
def plot(run: RunContext, n: int) -> int:
    """n, and so many numbers to plot."""
    for step in range(n):
        run.metric("loss", step, float("inf") if step == 3 else step / 3)
    return n


@node
def process(a: int = 0) -> int:
    """The process it ran in."""
    return os.getpid()


@node
def talk(a: int = 0) -> str:
    """What a process of its own finds to read, which is nothing; it prints what looks like a message."""
    print('{"done": {}}')
    os.write(1, b'{"cancelled": "here"}\n')
    return os.read(0, 100).decode()


@node(effect=True)
def slab(run: RunContext, a: int, path: str = "slab.bin") -> None:
    """Write a file of 40 KB in place, in forty pieces and 0.2 s."""
    file = run.output_path(path)
    with file.open("wb", buffering=0) as pieces:
        for at in range(40):
            pieces.write(bytes([(a + at) % 256]) * 1000)
            time.sleep(0.005)
    run.wrote(file)


@node(effect=True)
def note(run: RunContext, a: int, path: str = "notes.txt") -> None:
    """Append a line to a file."""
    file = run.output_path(path)
    with file.open("a") as notes:
        notes.write(f"{a}\n")
    run.wrote(file)
