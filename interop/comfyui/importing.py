"""A ComfyUI workflow becomes one of ours: what could be had, what is other than there, and what could not be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kineograph.graph_runtime.errors import Problem
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.workflow import FORMAT, parse_json
from kineograph.interop.comfyui import rules_frames
from kineograph.interop.comfyui.graph import read_graph
from kineograph.interop.comfyui.translation import Translation

LARGEST_SEED = 2**64


@dataclass(frozen=True)
class Imported:
    """What an import gave.

    Attributes:
        workflow: ours, as JSON. Where there are problems, nodes of an unknown type keep the places of those that could
            not be had, with all that was wired to them.
        problems: what could not be had, each with the id, class and title of its node.
        remarks: what is other than in ComfyUI, likewise.
    """

    workflow: dict[str, Any]
    problems: Sequence[Problem]
    remarks: Sequence[Problem]


def import_workflow(
    source: str | dict[str, Any], *, model: str | None = None, registry: Registry | None = None, name: str = "workflow"
) -> Imported:
    """Translate ComfyUI's API JSON or UI JSON.

    Args:
        source: the JSON, as text or read.
        model: the model to use, whatever file the workflow names.
        registry: the node types there are, for nodes of packs.
        name: of the file, for messages.

    Raises:
        InvalidWorkflow: it is no workflow of ComfyUI.
    """
    raw = parse_json(source, name, LARGEST_SEED) if isinstance(source, str) else source
    graph = read_graph(raw)
    translation = Translation(graph, registry, model)
    translation.fps = rules_frames.written_rate(graph) or translation.fps
    translation.run()
    if not translation.nodes and not translation.problems:
        translation.problems.append(("", "Nothing in it saves or shows anything, so nothing is to be run."))
    workflow: dict[str, Any] = {
        "format": FORMAT,
        "about": "Imported from ComfyUI.",
        "inputs": translation.inputs,
        "nodes": translation.nodes,
        "outputs": translation.outputs,
    }
    if translation.positions:
        workflow["ui"] = {"positions": translation.positions}
    problems = [Problem(*each) for each in dict.fromkeys(translation.problems)]
    return Imported(workflow, problems, [Problem(*each) for each in dict.fromkeys(translation.remarks)])
