"""Kills the process that hosts queue and dispatcher, and its workers, at random moments, and counts what was lost.

    python benchmarks/kills.py --kills 50 --jobs 60

A host takes jobs from its standard input and says the id of each that it accepted. Each job adds up numbers in a loop
of 12 passes whose state is kept, notes each of them, and writes a file of 40 KB in place, in forty pieces. After the
last kill a host runs what is left. Nothing accepted may be lost, nothing may end twice or run again once it is done, no
output may be other than what was recorded, byte by byte. The nodes are toys of the tests, none of them loads torch.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any, cast

from blake3 import blake3

PACKS = Path(__file__).parents[1] / "tests/runtime/packs"
PASSES = 12
HOST = "import sys; sys.argv[0] = 'kills'; import runpy; runpy.run_path(sys.argv[1], run_name='host')"


def work(number: int) -> dict[str, Any]:
    """The workflow of a job."""

    def toy(name: str, links: dict[str, str], **params: Any) -> dict[str, Any]:
        return {"type": f"toys/{name}@1", "params": params, "links": links}

    body = {
        "nap": toy("doze", {"a": "$item"}, seconds=0.02),
        "sum": toy("add", {"a": "nap", "b": "$acc"}),
        "w": toy("note", {"a": "$item"}),
    }
    nodes = {
        "zero": toy("add", {}, a=number),
        "n": toy("count", {}, n=PASSES),
        "l": {
            "type": "loop@1", "each": "n", "carry": {"acc": "zero"}, "body": {"nodes": body, "outputs": {"acc": "sum"}},
        },
        "s": toy("slab", {"a": "l.acc"}),
    }  # fmt: skip
    return {"format": 1, "nodes": nodes, "outputs": {"y": "l.acc"}}


def host(folder: Path) -> None:
    """Run jobs; take one more for each line of standard input."""
    from kineograph.graph_runtime.jobs.dispatch import Dispatcher
    from kineograph.graph_runtime.jobs.queue import Jobs
    from kineograph.graph_runtime.resume import KeepEvery

    jobs = Jobs(folder)
    every = KeepEvery(passes=1)
    Dispatcher(jobs, packs=[str(PACKS)], store=folder / "results", keep_every=every).start()
    print("ready", flush=True)
    for line in sys.stdin:
        number = int(line)
        print(number, jobs.submit(work(number), {}, max_attempts=1000).id, flush=True)


class Hosted:
    """A host's process, and what it accepted."""

    def __init__(self, folder: Path) -> None:
        started = time.perf_counter()
        self.process = subprocess.Popen(  # noqa: S603  this very file
            [sys.executable, "-c", HOST, __file__, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert cast(IO[bytes], self.process.stdout).readline() == b"ready\n"
        self.seconds_to_start = time.perf_counter() - started
        self.said: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in cast(IO[bytes], self.process.stdout):
            if line.endswith(b"\n"):
                self.said.put(line.decode())

    def submit(self, number: int) -> None:
        """Ask for a job; whether it is accepted comes later, or never."""
        with suppress(OSError):
            pipe = cast(IO[bytes], self.process.stdin)
            pipe.write(f"{number}\n".encode())
            pipe.flush()

    def accepted(self) -> dict[str, int]:
        """The jobs that were accepted since the last call, and their numbers."""
        found: dict[str, int] = {}
        with suppress(queue.Empty):
            while True:
                number, job = self.said.get_nowait().split()
                found[job] = int(number)
        return found

    def kill(self) -> None:
        """With SIGKILL."""
        self.process.kill()
        self.process.wait()


def rows(folder: Path, question: str, *values: str) -> list[tuple[Any, ...]]:
    """What the queue's file says, while another process has it."""
    with closing(sqlite3.connect(f"file:{folder / 'jobs.sqlite'}?mode=ro", uri=True, timeout=10.0)) as database:
        return database.execute(question, values).fetchall()


def kill_worker(folder: Path) -> bool:
    """Kill the worker; whether there was one."""
    for (pid,) in rows(folder, "SELECT pid FROM workers"):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def torment(folder: Path, kills: int, count: int, seed: int) -> dict[str, Any]:
    """Kill hosts and workers in turn while jobs come; returns what is wrong, and how it went."""
    pick = random.Random(seed)
    accepted: dict[str, int] = {}
    done: dict[str, tuple[Any, ...]] = {}
    changed: list[str] = []
    killed = {"host": 0, "worker": 0}
    starts: list[float] = []
    left = list(range(count))
    hosted = Hosted(folder)

    def look() -> int:
        """Note what is done; it must stay as it is. Returns how many jobs have not ended."""
        accepted.update(new := hosted.accepted())
        left[:] = [number for number in left if number not in new.values()]
        now = rows(folder, 'SELECT id, state, attempts, ended, "values" FROM jobs')
        for job, state, *rest in now:
            if job in done and done[job] != (state, *rest):
                changed.append(job)
            if state == "done":
                done.setdefault(job, (state, *rest))
        return sum(state in ("queued", "running") for _, state, *_ in now)

    while sum(killed.values()) < kills:
        for number in left[: pick.randint(0, 3)]:
            hosted.submit(number)
        time.sleep(pick.uniform(0.0, 1.2))
        look()
        if pick.random() < 0.5:
            killed["worker"] += kill_worker(folder)
        else:
            hosted.kill()
            killed["host"] += 1
            look()
            hosted = Hosted(folder)
            starts.append(hosted.seconds_to_start)
    look()
    for number in left:
        hosted.submit(number)
    until = time.monotonic() + 10.0 * count
    while (look() or left) and time.monotonic() < until:
        time.sleep(0.1)
    hosted.kill()
    return judged(folder, accepted, done, changed) | {
        "kills": killed, "accepted": len(accepted), "slowest start": round(max(starts, default=0.0), 2),
        "attempts": sum(attempts for (attempts,) in rows(folder, "SELECT attempts FROM jobs")),
    }  # fmt: skip


def judged(
    folder: Path, accepted: dict[str, int], done: dict[str, tuple[Any, ...]], changed: list[str]
) -> dict[str, Any]:
    """What is wrong: each of these must be empty."""
    states = dict(cast(list[tuple[str, str]], rows(folder, "SELECT id, state FROM jobs")))
    ends = "SELECT id, count(*) FROM jobs JOIN events USING (number) WHERE event LIKE '%\"JobEnded\"%' GROUP BY id"
    return {
        "lost": [job for job in accepted if job not in states],
        "not done": [job for job, state in states.items() if state != "done"],
        "changed after its end": changed,
        "ended twice": [job for job, times in rows(folder, ends) if times > 1],
        "not whole": [job for job in states if states[job] == "done" and not whole(folder, job, done)],
    }


def whole(folder: Path, job: str, done: dict[str, tuple[Any, ...]]) -> bool:
    """Whether a job's outputs are what its inputs give, and what was written down of them."""
    total = json.loads(done[job][3])["y"]
    recorded = {
        name: (nbytes, digest)
        for name, nbytes, digest in rows(
            folder, "SELECT name, nbytes, digest FROM files JOIN jobs USING (number) WHERE jobs.id = ?", job
        )
    }
    content = {name: (folder / "outputs" / job / name).read_bytes() for name in recorded}
    notes = list(dict.fromkeys(content["notes.txt"].split()))  # a pass that was cut off is noted twice
    return (
        all(recorded[name] == (len(each), blake3(each).hexdigest(20)) for name, each in content.items())
        and content["slab.bin"] == b"".join(bytes([(total + at) % 256]) * 1000 for at in range(40))
        and notes == [str(at).encode() for at in range(PASSES)]
    )


def main() -> None:
    """Print what came of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        told = torment(Path(folder), options.kills, options.jobs, options.seed)
        print(json.dumps(told | {"seconds": round(time.perf_counter() - begun, 1)}))


if __name__ == "host":
    host(Path(sys.argv[2]))
elif __name__ == "__main__":
    main()
