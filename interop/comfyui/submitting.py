"""``POST /prompt``: ComfyUI's shape of a graph becomes a workflow of ours, or errors at their nodes and inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from kineograph.graph_runtime.errors import InvalidWorkflow, Problem
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.workflow import FORMAT
from kineograph.interop.comfyui import rules_frames
from kineograph.interop.comfyui.graph import is_api_json, read_api_graph
from kineograph.interop.comfyui.own_nodes import theirs_to_ours
from kineograph.interop.comfyui.pieces import Wire
from kineograph.interop.comfyui.translation import Translation


@dataclass
class PromptRefused(Exception):
    """A prompt that cannot run.

    Attributes:
        kind: what ComfyUI's clients tell errors by. message: a sentence.
        nodes: node id -> its errors, as they are sent.
    """

    kind: str
    message: str
    nodes: dict[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        """The answer's body."""
        error = {"type": self.kind, "message": self.message, "details": "", "extra_info": {}}
        return {"error": error, "node_errors": self.nodes}


@dataclass(frozen=True)
class Prompt:
    """A prompt as a workflow of ours.

    Attributes:
        workflow: its JSON.
        owners: node of ours -> id of the node that it was made for.
        targets: ids of the nodes that leave something.
        remarks: what is other than in ComfyUI, in sentences.
    """

    workflow: dict[str, Any]
    owners: dict[str, str]
    targets: list[str]
    remarks: list[str]


def read_prompt(prompt: Any, registry: Registry, targets: Sequence[str] | None = None) -> Prompt:
    """Translate a prompt.

    Args:
        prompt: API JSON, whose nodes are ours, a pack's, or ComfyUI's own as far as they are known.
        registry: the node types there are.
        targets: ids of the only nodes that shall run, with what they need.

    Raises:
        PromptRefused: with the errors of all nodes.
    """
    if not is_api_json(prompt):
        raise PromptRefused("invalid_prompt", "A prompt is an object of nodes, each with a class_type.")
    nodes = cast(dict[str, Any], prompt)
    if targets is not None:
        unknown = [name for name in targets if name not in nodes]
        if unknown or not targets:
            raise PromptRefused(
                "prompt_no_outputs", f"No node is called {unknown[0]!r}." if unknown else "No node is to run."
            )
    try:
        graph = read_api_graph(nodes)
    except InvalidWorkflow as invalid:
        raise PromptRefused("invalid_prompt", str(invalid)) from None
    translation = Translation(graph, registry, wanted=list(targets or ()))
    translation.fps = rules_frames.written_rate(graph) or translation.fps
    translation.run()
    if translation.problems:
        raise refused(
            [Problem(place.partition(" ")[0].partition("/")[0], sentence) for place, sentence in translation.problems],
            nodes,
        )
    for target in targets or ():
        for wire in translation.made.get(target, ()):
            if isinstance(wire, Wire) and wire.link not in translation.outputs.values():
                translation.outputs[translation.free(f"node_{target}", translation.outputs)] = wire.link
    if not translation.nodes:
        raise PromptRefused("prompt_no_outputs", "No node of the prompt leaves anything: none saves or shows.")
    workflow: dict[str, Any] = {
        "format": FORMAT,
        "inputs": translation.inputs,
        "nodes": translation.nodes,
        "outputs": translation.outputs,
    }
    remarks = [f"{place}: {sentence}" for place, sentence in translation.remarks]
    return Prompt(workflow, translation.owners, translation.ends(), remarks)


def refused(
    problems: Sequence[Problem],
    nodes: Mapping[str, Any],
    prompt: Prompt | None = None,
    registry: Registry | None = None,
) -> PromptRefused:
    """Problems of a workflow at the nodes of the prompt that it was made of.

    Args:
        problems: with places in the workflow, or with ids of nodes where there is no prompt yet.
        nodes: the posted nodes.
        prompt: what they became.
        registry: for the names of inputs.
    """
    errors: dict[str, Any] = {}
    for problem in problems:
        owner, port = _origin(problem.place, prompt, nodes, registry)
        if owner not in nodes:
            continue
        sentence = f"{problem.message} {problem.hint}".strip()
        extra = {"input_name": port} if port else {}
        found = {
            "type": _kind(problem.message, nodes[owner], port),
            "message": problem.message,
            "details": sentence,
            "extra_info": extra,
        }
        about = errors.setdefault(
            owner, {"errors": [], "dependent_outputs": [], "class_type": str(nodes[owner].get("class_type"))}
        )
        about["errors"].append(found)
    for owner, about in errors.items():
        about["dependent_outputs"] = _dependents(owner, nodes)
    message = str(problems[0]) if len(problems) == 1 else f"{len(problems)} things are wrong with the prompt."
    return PromptRefused("prompt_outputs_failed_validation", message, errors)


def _origin(place: str, prompt: Prompt | None, nodes: Mapping[str, Any], registry: Registry | None) -> tuple[str, str]:
    """The id of the posted node that a place of ours belongs to, and the name of its input."""
    if prompt is None:
        return place, ""
    path, _, port = place.partition(".")
    name = path.partition("/")[0]
    owner = prompt.owners.get(name, "").partition("/")[0]
    kind = registry.get(str(nodes.get(owner, {}).get("class_type"))) if registry else None
    if kind is None and registry is not None:
        spec = prompt.workflow["nodes"].get(name, {})
        kind = registry.get(str(spec.get("type")))
    theirs = {ours: name for name, ours in theirs_to_ours(kind).items()} if kind is not None else {}
    return owner, theirs.get(port, port)


def _kind(message: str, node: Mapping[str, Any], port: str) -> str:
    """Which kind of error ComfyUI's clients take a problem for."""
    if "No node of ours" in message or "There is no node '" in message:
        return "missing_node_type"
    if port and port not in cast(dict[str, Any], node.get("inputs") or {}) and " needs " in message:
        return "required_input_missing"
    kinds = {
        "does not fit": "return_type_mismatch",
        "is not one of": "value_not_in_list",
        "circle": "dependency_cycle",
        "cycle": "dependency_cycle",
        ">=": "value_smaller_than_min",
        "<=": "value_bigger_than_max",
        "is not a": "invalid_input_type",
        "There is no input": "unknown_input",
        "has no input": "unknown_input",
    }
    found = next((kind for sign, kind in kinds.items() if sign in message), "custom_validation_failed")
    if found.startswith("value_") and "<=" in message and ">=" in message:
        return "value_out_of_bounds"
    return found


def _dependents(owner: str, nodes: Mapping[str, Any]) -> list[str]:
    """The nodes at the graph's end that need one."""
    readers: dict[str, set[str]] = {}
    for name, each in nodes.items():
        inputs = each.get("inputs")
        for value in cast(dict[str, Any], inputs).values() if isinstance(inputs, dict) else ():
            if isinstance(value, list) and len(cast(list[Any], value)) == 2 and isinstance(value[0], str):
                readers.setdefault(value[0], set()).add(name)
    found, waiting = {owner}, [owner]
    while waiting:
        for name in readers.get(waiting.pop(), set()) - found:
            found.add(name)
            waiting.append(name)
    return sorted(name for name in found if name not in readers)
