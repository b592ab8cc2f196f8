"""What is wanted of a workflow: its outputs and effects, or only what somebody chose. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kineograph.graph_runtime.definitions import definition_kinds
from kineograph.graph_runtime.errors import Problem, nearest
from kineograph.graph_runtime.expand import Flat
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.workflow import BRANCH, LoopSpec, NodeSpec, Workflow


@dataclass(frozen=True)
class Goals:
    """What a run is for.

    Attributes:
        links: name -> link of what it returns.
        places: of the nodes whose effects are wanted too; None for all.
    """

    links: dict[str, str]
    places: frozenset[str] | None = None

    def has_effect(self, name: str) -> bool:
        """Whether a node that changes the world shall run, if nothing needs it."""
        if self.places is None:
            return True
        parts = name.split("/")
        return any("/".join(parts[:count]) in self.places for count in range(1, len(parts) + 1))

    def unreachable(self, flat: Flat, effects: list[str]) -> list[Problem]:
        """Why what was chosen, or anything at all, cannot be had of what is not muted."""
        if self.places is not None:
            asked = {name: flat.left_out.get(f"outputs.{name}") for name in self.links}
            asked |= {place: flat.left_out.get(place) for place in self.places}
            return [Problem(name, f"It needs {reason}.") for name, reason in asked.items() if reason]
        if flat.outputs or effects or not flat.left_out:
            return []
        return [Problem(place, f"Nothing is left to run: it needs {why}.") for place, why in flat.left_out.items()]


def find_goals(workflow: Workflow, registry: Registry, chosen: Iterable[str] | None) -> tuple[Goals, list[Problem]]:
    """What is wanted, and which of the chosen names stand for nothing.

    Args:
        workflow: the workflow.
        registry: where its node types stand.
        chosen: names of outputs, places of nodes (``sampler/step``), or ``node.port``; None for everything.
    """
    if chosen is None:
        return Goals(dict(workflow.outputs)), []
    links: dict[str, str] = {}
    places: set[str] = set()
    problems: list[Problem] = []
    for name in chosen:
        if name in workflow.outputs:
            links[name] = workflow.outputs[name]
            continue
        place, _, port = name.partition(".")
        found = _outputs(workflow, registry, place)
        if isinstance(found, Problem):
            problems.append(found)
        elif port and port not in found:
            problems.append(Problem(name, f"{place} has no output {port!r}.", nearest(port, found)))
        else:
            several = len(found) > 1
            links |= {f"{place}.{out}" if several else name: f"{place}.{out}" for out in found if port in ("", out)}
            places.add(place)
    if not links and not places and not problems:
        problems.append(Problem("outputs", "No output is asked for.", nearest("", workflow.outputs)))
    return Goals(links, frozenset(places)), problems


def _outputs(workflow: Workflow, registry: Registry, place: str) -> list[str] | Problem:
    """The names of the outputs of the node at a place, or why there is none to run."""
    nodes = workflow.nodes
    parts = place.split("/")
    for count, part in enumerate(parts, 1):
        spec, here = nodes.get(part), "/".join(parts[:count])
        if spec is None:
            known = [*nodes, *(workflow.outputs if count == 1 else ())]
            return Problem(place, "The workflow has no such output or node.", nearest(part, known))
        if spec.mode == "mute":
            return Problem(place, f"{here} is muted.")
        if count == len(parts):
            return _ports(workflow, registry, spec)
        if isinstance(spec, LoopSpec):
            return Problem(place, f"It is a part of the loop {here} and runs in every pass of it.", f"Choose {here}.")
        if spec.mode == "bypass":
            return Problem(place, f"{here} is bypassed.")
        definition = workflow.definitions.get(spec.type[1:])
        if definition is None:
            return Problem(place, f"{here} has no nodes inside.")
        nodes = definition.nodes
    return []


def _ports(workflow: Workflow, registry: Registry, spec: NodeSpec | LoopSpec) -> list[str]:
    if isinstance(spec, LoopSpec):
        return [*spec.carry, *spec.collect]
    if spec.type == BRANCH:
        return ["output"]
    kinds, _ = definition_kinds(workflow.definitions, registry)
    kind = kinds.get(spec.type) or registry.get(spec.type)
    return list(kind.outputs) if kind is not None else []
