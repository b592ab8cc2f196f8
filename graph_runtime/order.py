"""The order in which a graph's nodes can run, and the cycles that forbid one. Knows no node types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kineograph.graph_runtime.errors import Problem
from kineograph.graph_runtime.workflow import LoopSpec, NodeSpec, reference, wires

Nodes = Mapping[str, NodeSpec | LoopSpec]


def dependency_order(nodes: Nodes, goals: Iterable[str] | None = None) -> tuple[list[str], list[list[str]]]:
    """Nodes so that each stands after what it reads, and the groups of nodes that wait for each other.

    Depth first, so that a value is used soon after it was made.

    Args:
        nodes: the graph.
        goals: only these and what they need; all by default.
    """
    order: list[str] = []
    opened: set[str] = set()
    closed: set[str] = set()
    circular = False
    waiting = list(nodes if goals is None else goals)[::-1]
    while waiting:
        name = waiting[-1]
        if name in opened:  # what it needs is done
            waiting.pop()
            if name not in closed:
                closed.add(name)
                order.append(name)
            continue
        opened.add(name)
        for source in _sources(nodes, name)[::-1]:
            if source not in opened:
                waiting.append(source)
            elif source not in closed:
                circular = True
    return order, _cycles(nodes) if circular else []


def cycle_problems(cycles: Sequence[Sequence[str]], place: str) -> list[Problem]:
    """A problem for each group of nodes that wait for each other."""
    return [
        Problem(
            place + cycle[0],
            f"A cycle: {' -> '.join([*cycle, cycle[0]])} wait for each other.",
            "To repeat something, use a loop@1 and carry the value.",
        )
        for cycle in cycles
    ]


def _sources(nodes: Nodes, name: str) -> list[str]:
    links = [reference(link).node for _, link in wires(nodes[name])]
    return [source for source in links if source in nodes]


def _cycles(nodes: Nodes) -> list[list[str]]:
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_edges_from((source, name) for name in nodes for source in _sources(nodes, name))
    found: list[list[str]] = []
    for group in nx.strongly_connected_components(graph):
        if len(group) > 1 or graph.has_edge(*list(group) * 2):
            walk = [min(group)]
            while (following := min(name for name in graph.successors(walk[-1]) if name in group)) not in walk:
                walk.append(following)
            found.append(walk[walk.index(following) :])
    return sorted(found)
