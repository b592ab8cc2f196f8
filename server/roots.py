"""Which files a workflow may name when a stranger sends it: those below a few folders. Knows no route.

A node says which of its inputs name files: by ``input_file``, or by a ``fingerprint`` of them. Such an input must be
typed in, or linked to an input of the workflow: what comes out of a node is not known before it is too late.
"""

from __future__ import annotations

import typing
from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kineograph.graph_runtime.errors import Problem
from kineograph.graph_runtime.paths import check_name
from kineograph.graph_runtime.ports import NodeType, Port
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.workflow import MAX_NODES, LoopSpec, NodeSpec, Workflow

UNKNOWN = object()
"""Stands for a value that a node makes."""
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Roots:
    """The folders whose files a workflow may name, by the first part of their path.

    Attributes:
        data: where a path begins.
        folders: by name; each may be a link to a folder elsewhere.
        linked: those of them whose entries may be links that lead out: nobody can make one over HTTP.
    """

    data: Path
    folders: Mapping[str, Path]
    linked: Collection[str] = ("models",)

    def problem(self, path: str, *, plain: bool = False) -> str:
        """Why a path may not be named, or nothing.

        Args:
            path: what a workflow says.
            plain: a name without a folder may stand there too: an embedded model's, a column's, nothing.
        """
        where = " or ".join(f"{name}/..." for name in self.folders)
        refused = f"{path[:100]!r} is not among the files that a workflow may read here: {where}"
        if plain and not path:
            return ""
        try:
            first, *rest = check_name(path).split("/")
            found = self.data / path
            if plain and not rest:
                harmless = not first.startswith((".", "~")) and not found.exists()
                return "" if harmless or first in self.folders else refused
            root = self.folders.get(first)
            if root is not None and rest and first in self.linked:
                root /= rest[0]
            if root is None or not found.resolve().is_relative_to(root.resolve()):
                return refused
        except (ValueError, OSError, RuntimeError):  # no name of a file; a circle of links
            return refused
        return ""


def file_problems(workflow: Workflow, given: Values, registry: Registry, roots: Roots) -> list[Problem]:
    """Every file that a workflow names and may not, in all its graphs; to be asked before it is validated."""
    inputs = {name: given.get(name, spec.default) for name, spec in workflow.inputs.items()}
    defaults = {
        name: {port: part.default for port, part in definition.inputs.items()}
        for name, definition in workflow.definitions.items()
    }
    problems: list[Problem] = []
    count = 0
    scopes: list[tuple[Mapping[str, NodeSpec | LoopSpec], Values, str]] = [(workflow.nodes, inputs, "")]
    while scopes:
        nodes, values, place = scopes.pop()
        count += len(nodes)
        if count > MAX_NODES:
            return [Problem("", f"A workflow has at most {MAX_NODES:,} nodes.")]
        for name, spec in nodes.items():
            where = place + name
            if isinstance(spec, LoopSpec):
                scopes.append((spec.body.nodes, _entering(spec.links, values), f"{where}/"))
            elif spec.type.startswith("#"):
                definition = workflow.definitions.get(spec.type[1:])
                if definition is not None:
                    inner = ChainMap(_entering(spec.links, values), spec.params, defaults[spec.type[1:]])
                    scopes.append((definition.nodes, inner, f"{where}/"))
            elif (kind := registry.get(spec.type)) is not None:
                problems += _node_problems(kind, spec, values, where, roots)
    return problems


def _entering(links: Mapping[str, str], values: Values) -> dict[str, Any]:
    """What a graph's inputs hold, as far as that is known before the run."""
    return {name: _value(link, values) for name, link in links.items()}


def _value(link: str, values: Values) -> Any:
    return values.get(link[1:], UNKNOWN) if link.startswith("$") else UNKNOWN


def _node_problems(kind: NodeType, spec: NodeSpec, values: Values, place: str, roots: Roots) -> Iterator[Problem]:
    for port in file_ports(kind):
        if port.name in spec.links:
            value = _value(spec.links[port.name], values)
        elif port.name in spec.params:
            value = spec.params[port.name]
        else:
            continue
        where = f"{place}.{port.name}"
        if value is UNKNOWN:
            yield Problem(where, "What names a file is typed in, or linked to an input of the workflow.")
            continue
        for text in value if isinstance(value, list) else [value]:
            problem = roots.problem(text, plain=not port.file_endings) if isinstance(text, str) else ""
            if problem:
                yield Problem(where, f"{problem}.", "Upload it first, or put it into one of these folders.")


def file_ports(kind: NodeType) -> Iterator[Port]:
    """The inputs of a node that may name files to read."""
    for port in kind.inputs.values():
        chosen = typing.get_origin(port.annotation) is typing.Literal
        text = port.type.name in ("str", "list[str]") and not chosen
        if port.file_endings or (text and kind.fingerprint is not None):
            yield port
