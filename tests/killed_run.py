"""A program for test_resume.py: runs a workflow in children, kills some with -9 on the way, tells how each ended.

Importing torch takes longer than the runs, so one process imports it and forks. In: JSON on stdin. Out: JSON on stdout.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

import torch
from blake3 import blake3

from kineograph import default_runtime
from kineograph.graph_runtime import run_state
from kineograph.graph_runtime.events import Metric, NodeProgress, NodeResumed
from kineograph.graph_runtime.resume import KeepEvery
from kineograph.graph_runtime.store import Store
from kineograph.nodes.train.sockets import TrainState


def bits(value: object) -> list[str]:
    """Digests of every tensor in an output, by means of its own, and every other plain value."""
    if isinstance(value, torch.Tensor):
        return [blake3(value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest(8)]
    if isinstance(value, TrainState):
        return bits(value.model.network.state_dict()) + bits(value.optimizer.state_dict())
    if isinstance(value, dict):
        return [text for key in sorted(value, key=str) for text in [str(key), *bits(value[key])]]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in bits(item)]
    if hasattr(value, "__dataclass_fields__"):
        return [text for name in value.__dataclass_fields__ for text in bits(getattr(value, name))]
    return [repr(value)]


def run(runtime, given: dict, inputs: dict, store: str, pipe: int) -> None:
    """One run in a child: a line for every pass and metric, and one with the outputs at the end."""

    def tell(**line) -> None:
        os.write(pipe, (json.dumps(line) + "\n").encode())

    def listen(event) -> None:
        if isinstance(event, NodeProgress):
            tell(done=event.done)
        elif isinstance(event, Metric):
            tell(step=event.step, value=event.value)
        elif isinstance(event, NodeResumed):
            tell(resumed=event.done)

    every = KeepEvery(passes=given["keep_every"])
    run_state.SECONDS_BETWEEN_PROGRESS = 0.0
    if store:
        runtime.store = Store(store, least_seconds=0.0)
    result = runtime.run(given["workflow"], inputs, out=given["out"], listen=listen, keep_every=every)
    tell(outputs={name: bits(value) for name, value in result.outputs.items()}, cached=result.cached)


def child(runtime, given: dict, inputs: dict, kill_after: int | None, store: str, delay: float) -> list[dict]:
    """Run in a child, and kill it so many seconds after it told of so many passes."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            run(runtime, given, inputs, store, writing)
        finally:
            os._exit(0)
    os.close(writing)
    text, seen, dead = b"", 0, False
    while piece := os.read(reading, 65536):
        text += piece
        seen = text.count(b'"done"')
        if kill_after is not None and seen >= kill_after and not dead:
            select.select([], [], [], delay)
            os.kill(pid, signal.SIGKILL)
            dead = True
    os.waitpid(pid, 0)
    return [json.loads(line) for line in text.decode().splitlines(keepends=True) if line.endswith("\n")]


def main() -> None:
    """Every entry of ``runs`` is (inputs, the number of told passes after which to kill, or null, a store or "")."""
    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1)])  # imports seconds' worth of modules
    given = json.load(sys.stdin)
    runtime = default_runtime()
    chance = random.Random(given.get("seed", 0))
    started = time.perf_counter()
    told = [child(runtime, given, *each, chance.uniform(0, 0.05)) for each in given["runs"]]
    json.dump({"runs": told, "seconds": time.perf_counter() - started}, sys.stdout)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
