"""A program for test_sharded_states.py, run by process_group.py: one process of those that keep a training or read it.

Arguments: what to do, the store's folder, and the key. Process 0 prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from hashlib import sha256
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from kineograph.cli import processes
from kineograph.graph_runtime import objects
from kineograph.graph_runtime.store import Store
from kineograph.nodes import codecs, model
from kineograph.nodes.networks import ranks
from kineograph.nodes.train import optimizer
from kineograph.nodes.train.sockets import Gradients, TrainState, Weights

assert codecs  # imported so that the codecs are known
LOOP = "loop"
Outputs = tuple[TrainState, Weights]


def main(arguments: list[str]) -> int:
    """Do what is asked, with the other processes."""
    what, folder, key, *_ = arguments
    here = processes.started()
    with processes.together(here):
        store = processes.shared(Store(folder, least_seconds=0.0), here, threading.Event(), threading.Event())
        told = globals()[what](store, key)
        if here.first:
            print(json.dumps(told), flush=True)
    return 0


def save(store: Store, key: str) -> dict[str, Any]:
    """Keep a training after two steps, while nobody may gather anything."""
    outputs = trained(new(), steps=2)
    found = {"bits": bits(outputs)}
    forbid_gathering()
    return found | {"bytes": put(store, key, outputs)}


def load(store: Store, key: str) -> dict[str, Any]:
    """Read a training; how many bytes that took, and what it is after one step more."""
    read = count_bytes()
    found: Any = store.get(key)
    nbytes = ranks.words_of_ranks(sum(read)) if ranks.count() > 1 else [sum(read)]
    return {"read": nbytes, "bits": bits(found[0]), "next": sums(trained(found[0], steps=1))}


def dies_before_shard(store: Store, key: str) -> None:
    """Process 1 is killed when its shard has been written and does not have its name yet."""
    kill_at(rename=1, rank=1)
    put(store, key, trained(new(), steps=3))


def dies_before_index(store: Store, key: str) -> None:
    """Process 0 is killed when all shards are there, and their index is written and does not have its name yet."""
    kill_at(rename=2, rank=0)
    put(store, key, trained(new(), steps=3))


def new() -> Outputs:
    """A training of a DiT, some of whose weights have fewer rows than there are processes."""
    state = optimizer.begin_training(model.start_dit(channels=4, width=32, depth=1, heads=2, seed=2))
    return state, optimizer.begin_average(state)


def put(store: Store, key: str, outputs: Outputs) -> int:
    """Keep a state of a loop; its number of passes is the key's."""
    return store.put(key, outputs, 1.0, loop=LOOP, done=int(key), always=True)


@torch.no_grad()
def trained(outputs: Outputs, steps: int) -> Outputs:
    """Updated by gradients that are functions of weights: element by element, whoever holds them."""
    state, average = outputs
    run: Any = None  # asked only where a step fails
    for step in range(steps):
        gradients = Gradients(tuple(each.detach().sin() + 0.1 for each in state.model.network.parameters()))
        state = optimizer.apply_gradients(state, gradients, run, lr=1e-2)
        average = optimizer.average_weights(average, state, step)
    return state, average


def numbers(outputs: Outputs) -> list[torch.Tensor]:
    """Weights, moments and average, whole."""
    state, average = outputs
    moments = [part for each in state.optimizer.state_dict()["state"].values() for part in each.values()]
    weights = state.model.network.state_dict()
    return [ranks.whole(each.detach()) for each in [*weights.values(), *moments, *average.values.values()]]


def bits(outputs: Outputs) -> str:
    """The digest of all numbers."""
    return sha256(b"".join(each.contiguous().numpy().tobytes() for each in numbers(outputs))).hexdigest()


def sums(outputs: Outputs) -> list[float]:
    """The sum of each tensor."""
    return [each.double().sum().item() for each in numbers(outputs)]


def forbid_gathering() -> None:
    """From here on, whoever asks for all of a tensor fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("somebody gathers")

    DTensor.full_tensor = DTensor.redistribute = refuse  # type: ignore[assignment]
    dist.all_gather = dist.all_gather_into_tensor = dist.all_reduce = refuse


def count_bytes() -> list[int]:
    """What is read of entries of files, from here on."""
    found: list[int] = []
    read = objects._File.read

    def counted(self: Any, name: str, into: memoryview, skip: int = 0) -> None:
        found.append(len(into))
        read(self, name, into, skip)

    objects._File.read = counted
    return found


def kill_at(rename: int, rank: int) -> None:
    """A process is killed in the place of one of its renames to come."""
    replace, left = os.replace, [rename]

    def killed(*paths: Any) -> None:
        left[0] -= 1
        if left[0] == 0 and ranks.rank() == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    os.replace = killed
