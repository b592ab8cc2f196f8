"""What the queue costs with 10,000 jobs: accepting one, showing them, searching, moving, and opening the file again.

    python benchmarks/jobs.py

Milliseconds; a job is a workflow of 60 nodes (7 KB) with a prompt of its own. ``accept`` waits for the disk; beside it
stands what the same fsync costs alone.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kineograph.graph_runtime.jobs.attempts import Ending
from kineograph.graph_runtime.jobs.queue import Jobs

COUNT = 10_000
WORDS = (
    "red",
    "blue",
    "ball",
    "cat",
    "dog",
    "runs",
    "jumps",
    "over",
    "river",
    "mountain",
    "night",
    "rain",
    "slowly",
    "zoom",
)
NODES = {
    f"n{at}": {"type": "add@1", "params": {"a": at, "b": 0.5, "text": "x" * 40}, "links": {"c": f"n{at - 1}"}}
    for at in range(60)
}


def timed(call: Callable[[], object], repeats: int = 50) -> list[float]:
    """Milliseconds of each call."""
    times: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - started))
    return times


def row(name: str, times: list[float]) -> None:
    """Median, 99th percentile and slowest."""
    ordered = sorted(times)
    last = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    print(f"| {name} | {statistics.median(ordered):.2f} | {last:.1f} | {ordered[-1]:.1f} |", flush=True)


def main() -> None:
    """Print the table."""
    pick = random.Random(0)
    workflow = {"format": 1, "nodes": NODES}
    with tempfile.TemporaryDirectory() as folder:
        jobs = Jobs(Path(folder))

        def submit() -> str:
            return jobs.submit(
                workflow, {"prompt": " ".join(pick.choices(WORDS, k=12))}, priority=pick.randint(0, 2)
            ).id

        print("| | median | p99 | slowest |\n|---|---:|---:|---:|")
        with open(Path(folder, "plain"), "wb", buffering=0) as plain:
            row(
                "4 KB and fsync, for comparison",
                timed(lambda: (plain.write(b"x" * 4096), os.fsync(plain.fileno())), 200),
            )
        crowd = [threading.Thread(target=lambda: [submit() for _ in range(COUNT // 8)]) for _ in range(8)]
        begun = time.perf_counter()
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        row(f"accept one, of {COUNT:,} from 8 threads", [1e3 * (time.perf_counter() - begun) / COUNT])
        row("accept one more", timed(submit, 500))
        everything = [info.id for info in jobs.list(limit=COUNT).jobs]
        row("the first 50, newest", timed(lambda: jobs.list()))
        row("the first 50 in the queue's order", timed(lambda: jobs.list(states=["queued"], order="queue")))
        middle = jobs.list(states=["queued"], order="queue", limit=COUNT // 2).next
        row("50 from the middle of it", timed(lambda: jobs.list(states=["queued"], order="queue", cursor=middle)))
        row("search, two words", timed(lambda: jobs.list(search="mountain zoom")))
        row("one job with its workflow", timed(lambda: jobs.get(pick.choice(everything))))
        row("counts", timed(jobs.counts))
        row("move before another", timed(lambda: jobs.move(pick.choice(everything), pick.choice(everything))))
        row("begin and end one", timed(lambda: begin_and_end(jobs)))
        jobs.close()
        begun = time.perf_counter()
        jobs = Jobs(Path(folder))
        row("open the file", [1e3 * (time.perf_counter() - begun)])
        jobs.close()
        print(f"\n{(Path(folder) / 'jobs.sqlite').stat().st_size / COUNT:.0f} bytes a job")


def begin_and_end(jobs: Jobs) -> None:
    """As the dispatcher does."""
    attempt = jobs.attempts.begin(jobs.attempts.waiting(16)[0].job)
    assert attempt is not None
    jobs.attempts.end(attempt, Ending(state="done"))


if __name__ == "__main__":
    main()
