"""What keeping results costs: megabytes a second in and out, the state of a training, a re-run with everything kept.

    python benchmarks/store.py

Each figure is the best of several; "plain" writes the same bytes to a file, with fsync, and reads them.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kineograph import default_runtime
from kineograph.graph_runtime.store import Store
from kineograph.nodes import model
from kineograph.nodes.train.optimizer import apply_gradients, begin_average, begin_training
from kineograph.nodes.train.sockets import Gradients

WORKFLOW = Path(__file__).parent.parent / "workflows" / "text_to_video.json"


def best(call: Callable[[int], object], repeats: int = 5) -> float:
    """Seconds of the fastest call."""
    times: list[float] = []
    for at in range(repeats):
        started = time.perf_counter()
        call(at)
        times.append(time.perf_counter() - started)
    return min(times)


def plain_write(path: Path, raw: bytes) -> None:
    """The bytes in a file, and on the disk."""
    with open(path, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def throughput(store: Store, folder: Path, megabytes: int) -> None:
    """One tensor in and out."""
    tensors = [torch.full((megabytes * 250_000,), float(at)) for at in range(5)]
    raw = bytes(megabytes * 1_000_000)
    put = best(lambda at: store.put(f"{megabytes}-{at}", (tensors[at],), 1e3))
    get = best(lambda at: store.get(f"{megabytes}-{at}"))
    write = best(lambda _: plain_write(folder / "plain", raw))
    read = best(lambda _: (folder / "plain").read_bytes())
    for name, ours, theirs in (("put", put, write), ("get", get, read)):
        rate = megabytes / ours
        print(f"{name} {megabytes:>4} MB {ours * 1e3:>9.1f} ms {rate:>8.0f} MB/s   plain {theirs * 1e3:>8.1f} ms")


def training_state(store: Store) -> None:
    """The state of a training of flipbook's DiT: weights, moments, running average."""
    state = begin_training(model.start_dit("flipbook"))
    zeros = Gradients(tuple(torch.zeros_like(each) for each in state.model.network.parameters()))
    average = begin_average(state)
    run: Any = None  # asked only where a step fails
    state = apply_gradients(state, zeros, run)
    put = best(lambda at: store.put(f"state{at}", (state, average, at), 1e3), 3)
    get = best(lambda at: store.get(f"state{at}"), 3)
    size = next(kept.nbytes for kept in store.rows() if kept.key == "state0") / 1e6
    print(f"state of a training, {size:.0f} MB: kept in {put * 1e3:.0f} ms, back in {get * 1e3:.0f} ms")


def rerun(folder: Path) -> None:
    """``text_to_video`` with its video in the store, as a new runtime finds it (imports and digests left out)."""
    inputs = {"steps": 4}
    store = Store(folder / "rerun")
    default_runtime(store=store).run(WORKFLOW, inputs, outputs=["video"])

    def again(_: int) -> None:
        assert default_runtime(store=store).run(WORKFLOW, inputs, outputs=["video"]).ran == 0

    print(f"everything kept: {best(again) * 1e3:.1f} ms for planning and reading the video")


def main() -> None:
    """Print the table."""
    default_runtime()  # imports the codecs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(folder / "store")
        for megabytes in (1, 18, 128):
            throughput(store, folder, megabytes)
        training_state(store)
        store.close()
        rerun(folder)


if __name__ == "__main__":
    main()
