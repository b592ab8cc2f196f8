"""A graph that a node returns instead of a value: it runs as a run of its own, in the same kind of runtime.

Our runtime expands nothing while it runs, so such a graph has a cache of its own, and is no part of the plan.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from kineograph.graph_runtime.errors import InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.workflow import FORMAT

if TYPE_CHECKING:
    from kineograph.graph_runtime.node import RunContext

DEEPEST = 30
"""Graphs within graphs: a loop that is made by a node that returns itself goes one deeper in each pass."""
_depth: ContextVar[int] = ContextVar("depth", default=0)
_given: dict[str, Any] = {}


@node
def given_value(key: str) -> Any:
    """A value that a node put into the graph that it returned; for that run alone.

    Args:
        key: its number.
    """
    return _given[key]


def expanded(registry: Registry, graph: Any, results: Any, run: RunContext) -> list[Any]:
    """Run a graph, and put its values where the results link to it.

    Args:
        registry: the node types there are.
        graph: API JSON, in whose inputs any value may stand.
        results: values, or links ``[id, output]`` to the graph's nodes.
        run: of the node that returned it.

    Raises:
        ValueError: the graph is wrong, one of its nodes failed, or it is too deep.
    """
    from kineograph.graph_runtime.runtime import Runtime
    from kineograph.interop.comfyui.graph import link_of, read_api_graph
    from kineograph.interop.comfyui.pieces import Wire
    from kineograph.interop.comfyui.translation import Translation

    if _depth.get() >= DEEPEST:
        raise ValueError(f"It returned graphs in graphs, more than {DEEPEST} deep; use a loop@1 to repeat something.")
    keys: list[str] = []
    plain = _with_given_values(graph, keys)
    links = [link_of(value) for value in cast(Sequence[Any], results)]
    wanted = [link.node for link in links if link is not None]
    missing = [name for name in wanted if name not in plain]
    if missing:
        raise ValueError(f"It returned a link to {missing[0]!r}, which the graph that it returned has not.")
    translation = Translation(read_api_graph(plain), registry, wanted=wanted)
    translation.run()
    if translation.problems:
        raise ValueError(
            "The graph that it returned cannot run. " + " ".join(f"{at}: {why}" for at, why in translation.problems)
        )
    made = [None if link is None else translation.made[link.node][link.slot] for link in links]
    outputs = {f"result_{at}": wire.link for at, wire in enumerate(made) if isinstance(wire, Wire)}
    workflow: dict[str, Any] = {
        "format": FORMAT,
        "inputs": translation.inputs,
        "nodes": translation.nodes,
        "outputs": outputs,
    }
    deeper = _depth.set(_depth.get() + 1)
    try:
        out = run.output_path("expanded").parent
        outcome = Runtime(registry).run(workflow, out=out, listen=lambda _: run.check_cancelled()) if outputs else None
    except (InvalidWorkflow, NodeFailed) as failure:
        raise ValueError(f"In the graph that it returned: {failure}") from failure
    finally:
        _depth.reset(deeper)
        for key in keys:
            _given.pop(key, None)
    found = {} if outcome is None else outcome.outputs
    return [found.get(f"result_{at}", value) for at, value in enumerate(cast(Sequence[Any], results))]


def _with_given_values(graph: Any, keys: list[str]) -> dict[str, Any]:
    """The graph with values that are no JSON on nodes of their own."""
    from kineograph.interop.comfyui.values import crossing

    if not isinstance(graph, Mapping):
        raise ValueError(f"It returned a {type(graph).__name__} as a graph; a dict of nodes is needed.")
    plain: dict[str, Any] = {}
    for name, each in cast(Mapping[str, Any], graph).items():
        inputs: dict[str, Any] = {}
        for port, value in dict(each.get("inputs", {})).items():
            if value is None or isinstance(value, (str, int, float, bool, list)):
                inputs[port] = value
                continue
            key = uuid.uuid4().hex
            keys.append(key)
            _given[key] = crossing(value, {})
            plain[key] = {"class_type": "comfyui/given_value@1", "inputs": {"key": key}}
            inputs[port] = [key, 0]
        plain[str(name)] = {**each, "inputs": {port: value for port, value in inputs.items() if value is not None}}
    return plain
