"""What the runtime itself costs: microseconds a node, for chains of trivial nodes and in a loop's body.

    python benchmarks/overhead.py

Each figure is the best of several runs. "ratio" is against a plain Python loop that calls the same function.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from kineograph.graph_runtime.node import node, node_type
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.runtime import Runtime
from kineograph.graph_runtime.sockets import Stream
from kineograph.graph_runtime.workflow import Workflow, load_workflow

REPEATS = 5
PASSES = 200


@node
def add(a: int = 0, b: int = 0) -> int:
    """The sum of two numbers."""
    return a + b


@node
def count(n: int) -> Stream[int]:
    """The numbers below n."""
    return Stream(n, lambda index: index)


def runtime() -> Runtime:
    """A runtime with an empty cache that knows the two nodes."""
    registry = Registry()
    for function in (add, count):
        kind = node_type(function)
        assert kind is not None
        registry.add(kind)
    return Runtime(registry)


def links(at: int, first: str) -> dict[str, str]:
    """Node ``at`` of a chain reads the one before it."""
    return {"a": f"n{at - 1}" if at else first}


def chain(length: int) -> Workflow:
    """``x + 1 + 1 + ...``, with x an input."""
    nodes = {f"n{at}": {"type": "add@1", "links": links(at, "$x"), "params": {"b": 1}} for at in range(length)}
    inputs = {"x": {"type": "int", "default": 0}}
    return load_workflow({"format": 1, "inputs": inputs, "nodes": nodes, "outputs": {"y": f"n{length - 1}"}})


def loop(length: int) -> Workflow:
    """A chain as the body of a loop over ``$passes`` numbers."""
    body = {f"n{at}": {"type": "add@1", "links": links(at, "$x"), "params": {"b": 1}} for at in range(length)}
    nodes: dict[str, Any] = {
        "start": {"type": "add@1"},
        "numbers": {"type": "count@1", "links": {"n": "$passes"}},
        "loop": {
            "type": "loop@1",
            "each": "numbers",
            "carry": {"x": "start"},
            "body": {"nodes": body, "outputs": {"x": f"n{length - 1}"}},
        },
    }
    inputs = {"passes": {"type": "int", "default": PASSES}}
    return load_workflow({"format": 1, "inputs": inputs, "nodes": nodes, "outputs": {"y": "loop"}})


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure_chain(length: int) -> tuple[float, float, float]:
    """Microseconds a node: first run, cached run, a run whose leaf changed."""
    workflow = chain(length)
    runs: list[list[float]] = []
    for _ in range(REPEATS):
        run = runtime().run
        runs.append([seconds(partial(run, workflow, inputs)) for inputs in ({}, {}, {"x": 1})])
    first, cached, changed = (min(column) / length * 1e6 for column in zip(*runs, strict=True))
    return first, cached, changed


def measure_loop(length: int) -> float:
    """Microseconds for each node of the body in each pass, planning left out."""
    workflow = loop(length)
    few = min(seconds(lambda: runtime().run(workflow, {"passes": 1})) for _ in range(REPEATS))
    many = min(seconds(lambda: runtime().run(workflow, {"passes": PASSES + 1})) for _ in range(REPEATS))
    return (many - few) / PASSES / length * 1e6


def measure_plain(calls: int = 100_000) -> float:
    """Microseconds for each call in a plain loop."""

    def plain() -> None:
        x = 0
        for _ in range(calls):
            x = add(a=x, b=1)

    return min(seconds(plain) for _ in range(REPEATS)) / calls * 1e6


def main() -> None:
    """Print the table."""
    plain = measure_plain()
    print(f"{'us a node':<24}{'first':>10}{'cached':>10}{'changed':>10}{'ratio':>8}")
    for length in (100, 1_000, 10_000):
        first, cached, changed = measure_chain(length)
        print(f"{f'chain of {length:,}':<24}{first:>10.2f}{cached:>10.2f}{changed:>10.2f}{first / plain:>8.0f}")
    inside = measure_loop(10)
    print(f"{'in a body of 10':<24}{inside:>10.2f}{'':>10}{'':>10}{inside / plain:>8.0f}")
    print(f"{'plain Python loop':<24}{plain:>10.3f}{'':>10}{'':>10}{1:>8}")


if __name__ == "__main__":
    main()
