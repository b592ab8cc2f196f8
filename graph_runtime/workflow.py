"""The JSON file as pydantic models, and the strict reading of it. Knows no node types.

``params`` are typed in, ``links`` are wired by name. A link is ``node`` for an only output, ``node.port`` else, or
``$x`` for an input of the enclosing graph; inside a loop's body also ``$item`` and ``$index``. A node whose type is
``#name@1`` stands for the graph of that name under ``definitions``.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, Discriminator, JsonValue, StringConstraints, Tag, ValidationError

from kineograph.graph_runtime.errors import InvalidWorkflow, Problem
from kineograph.graph_runtime.ports import ONLY_OUTPUT

LOOP = "loop@1"
BRANCH = "branch@1"
BRANCH_DOC = """One of two values; only what the chosen one needs is computed.

Inputs:
    when: a bool. Where it is known before the run, the branch is its side, and the other side is no part of the plan.
    then: the output, if it is true: a link, or a number, text or bool.
    else: the output, if it is false; both fit one type of socket."""
FORMAT = 1
MAX_BYTES = 16 * 2**20
MAX_DEPTH = 64
MAX_NODES = 20_000
MAX_INPUTS = 10 * MAX_NODES
"""Of all definitions, counted at each place where one stands."""
MAX_INTEGER = 2**63
MAX_PLACES = 4 * MAX_BYTES
"""Letters of the places of all values in a workflow; pydantic names each that is wrong by its whole place."""
MAX_PROBLEMS = 1000
"""Of the form, that are told one by one."""

NAME = "[A-Za-z_][A-Za-z0-9_-]{0,127}"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""Two of them make one letter; one alone is none."""

LINK = rf"^(\$?{NAME}|{NAME}\.{NAME})$"
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
Link = Annotated[str, StringConstraints(pattern=LINK)]
DEFINITION = rf"^{NAME}@[1-9][0-9]{{0,8}}$"
DefinitionId = Annotated[str, StringConstraints(pattern=DEFINITION)]
Mode = Literal["mute", "bypass"]
"""Muted: it and what needs it do not run. Bypassed: its first input of the same type passes through."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, ser_json_inf_nan="constants")


class NodeSpec(_Model):
    """One node of a graph: its type, what is typed in, what is wired."""

    type: str
    params: dict[Name, JsonValue] = {}
    links: dict[Name, Link] = {}
    mode: Mode | None = None
    title: str = ""


class Body(_Model):
    """The graph that a loop runs in every pass."""

    nodes: dict[Name, Annotated[Spec, Discriminator(lambda raw: _kind(raw))]]
    outputs: dict[Name, Link]


class LoopSpec(_Model):
    """A scan: for each item of a stream, ``carry' = body(carry, links, item, index)``.

    Attributes:
        each: link to the stream.
        carry: name -> link to its first value; inside the body ``$name``. The body's output of that name is its next.
        links: values from outside that every pass sees as ``$name``.
        collect: body outputs that are gathered over the passes into a stream.
        until: a body output (bool) that ends the loop after the pass in which it is true.
    """

    type: Literal["loop@1"]
    each: Link
    carry: dict[Name, Link] = {}
    links: dict[Name, Link] = {}
    collect: list[Name] = []
    until: Name | None = None
    body: Body
    mode: Mode | None = None
    title: str = ""


Spec = Annotated[NodeSpec, Tag("node")] | Annotated[LoopSpec, Tag("loop")]


class InputSpec(_Model):
    """An input of the workflow: its type, and a default where it need not be given."""

    type: str
    default: JsonValue = None
    about: str = ""


class OutputSpec(_Model):
    """An output of a definition: its type, and the link it comes from."""

    type: str
    link: Link


class Definition(_Model):
    """A named graph that the nodes of type ``#name@1`` stand for. Its inputs may be of any type of socket."""

    about: str = ""
    inputs: dict[Name, InputSpec] = {}
    nodes: dict[Name, Annotated[Spec, Discriminator(lambda raw: _kind(raw))]]
    outputs: dict[Name, OutputSpec] = {}


class Workflow(_Model):
    """A workflow file. ``ui`` belongs to the editor and is part of no key."""

    format: Literal[1] = FORMAT
    about: str = ""
    inputs: dict[Name, InputSpec] = {}
    definitions: dict[DefinitionId, Definition] = {}
    nodes: dict[Name, Annotated[Spec, Discriminator(lambda raw: _kind(raw))]]
    outputs: dict[Name, Link] = {}
    ui: dict[str, Any] = {}

    def to_json(self) -> str:
        """The file's text; reading it gives an equal workflow."""
        return json.dumps(self.model_dump(exclude_defaults=True) | {"format": FORMAT}, ensure_ascii=False)

    def content(self) -> str:
        """All that decides what is run, as one text: what only people see of the graph as a whole is left out."""
        return self.model_dump_json(exclude={"ui", "about"})


def _kind(raw: Any) -> str:
    kind = cast(dict[str, Any], raw).get("type") if isinstance(raw, dict) else getattr(raw, "type", None)
    return "loop" if kind == LOOP else "node"


Body.model_rebuild()
Definition.model_rebuild()
Workflow.model_rebuild()


class Reference(NamedTuple):
    """Where a link comes from: a node's port, or an input of the enclosing graph (``node`` is empty)."""

    node: str
    port: str

    def __str__(self) -> str:
        if not self.node:
            return f"${self.port}"
        return self.node if self.port == ONLY_OUTPUT else f"{self.node}.{self.port}"


@lru_cache(maxsize=4 * MAX_NODES)
def reference(link: str) -> Reference:
    """Read ``$x``, ``node`` or ``node.port``."""
    if link.startswith("$"):
        return Reference("", link[1:])
    name, _, port = link.partition(".")
    return Reference(name, port or ONLY_OUTPUT)


def wires(spec: NodeSpec | LoopSpec) -> list[tuple[str, str]]:
    """Every (input, link) of a node; a loop's stream is its input ``each``."""
    if isinstance(spec, LoopSpec):
        return [("each", spec.each), *spec.carry.items(), *spec.links.items()]
    return list(spec.links.items())


def load_workflow(source: str | Path | dict[str, Any]) -> Workflow:
    """Read a workflow from a file's path or from a dict.

    Raises:
        InvalidWorkflow: every problem of its form, each with its place.
    """
    if isinstance(source, dict):
        return parse_workflow(source)
    path = Path(source)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")  # some editors of Windows begin a file with a mark
    except FileNotFoundError:
        raise _refused(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise _refused(f"{path} is a folder, a workflow is a JSON file.") from None
    except UnicodeDecodeError:
        raise _refused(f"{path} is not UTF-8 text, so it is no workflow.") from None
    except OSError as error:
        raise _refused(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise _refused(f"{str(path)!r} is no path: {error}.") from None
    if len(content) > MAX_BYTES:
        raise _refused(f"{path} has more than {MAX_BYTES:,} bytes, no workflow has.")
    return parse_workflow(parse_json(text, str(path)))


def _refused(message: str) -> InvalidWorkflow:
    return InvalidWorkflow([Problem("", message)])


def parse_workflow(raw: Any) -> Workflow:
    """Check the form of a workflow that is already JSON.

    Raises:
        InvalidWorkflow: every problem of its form, each with its place.
    """
    if not isinstance(raw, dict):
        raise _refused(f"A workflow is a JSON object, this is a {type(raw).__name__}.")
    if _too_deep(raw):
        raise _refused(f"The workflow is nested deeper than {MAX_DEPTH} levels.")
    if _places(cast(dict[str, Any], raw)) > MAX_PLACES:
        raise _refused("The names in the workflow are too long.")
    try:
        return Workflow.model_validate(raw)
    except ValidationError as error:
        if error.error_count() > MAX_PROBLEMS:
            raise _refused(f"{error.error_count():,} things are wrong with its form. Is it a workflow?") from None
        problems = [_form_problem(dict(detail)) for detail in error.errors(include_url=False)]
        raise InvalidWorkflow(list(dict.fromkeys(problems))) from None


def _form_problem(detail: dict[str, Any]) -> Problem:
    field = detail["loc"][-1] if detail["loc"] else ""
    message = str(detail["msg"])
    if detail["type"] == "extra_forbidden":
        message = f"There is no field {field!r} here."
    elif detail["type"] == "missing":
        message = f"The field {field!r} is missing."
    elif detail["type"] in ("model_type", "model_attributes_type", "dict_type"):
        message = "An object is needed here."
    elif detail["type"] == "invalid-json-value":
        message = "Only what JSON can hold may stand here."
    elif detail["type"] in ("string_type", "list_type"):
        message = f"A {detail['type'].removesuffix('_type')} is needed here."
    elif detail["type"] == "string_pattern_mismatch" and detail["ctx"]["pattern"] == LINK:
        message = f"{detail['input']!r} is no link: write node, node.port or $input."
    elif detail["type"] == "string_pattern_mismatch" and detail["ctx"]["pattern"] == DEFINITION:
        message = f"{detail['input']!r} names no definition: write its name and version, like denoise_step@1."
    elif detail["type"] == "string_pattern_mismatch":
        message = "A name is letters, digits, _ or -, begins with a letter and has at most 128 characters."
    elif detail["type"] == "literal_error" and field == "format":
        message = f"Format {detail['input']!r} is unknown, this version reads format {FORMAT}."
    return Problem(_form_place(detail["loc"]), message)


def _form_place(loc: tuple[str | int, ...]) -> str:
    """Where ``("nodes", "a", "loop", "body", "nodes", "b", "node", "links", "x")`` is for people: ``a/b.links.x``."""
    parts = [str(part) for part in loc if part != "[key]"]
    nodes = ""
    if parts[:1] == ["definitions"] and len(parts) > 2:
        nodes, parts = f"#{parts[1]}/", parts[2:]
    while parts[:1] == ["nodes"] and len(parts) > 1:
        nodes, parts = f"{nodes}{parts[1]}", parts[3:]  # the third is the tag, node or loop
        if parts[:1] == ["body"] and len(parts) > 1:
            nodes, parts = f"{nodes}/", parts[1:]
    separator = "." if nodes and parts and not nodes.endswith("/") else ""
    return nodes + separator + ".".join(parts)


def parse_json(text: str, name: str, beyond: int = MAX_INTEGER) -> Any:
    """Strict JSON: no duplicate keys, NaN, infinities or integers past 64 bits, at most 64 levels deep.

    Args:
        text: what is read.
        name: of the file, for messages.
        beyond: what integers are below; other programs write seeds of 64 bits without a sign.

    Raises:
        InvalidWorkflow: with line and column where there are some.
    """

    def refuse(message: str) -> InvalidWorkflow:
        return _refused(f"{name}: {message}")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            twice, _ = max(Counter(key for key, _ in items).items(), key=lambda each: each[1])
            raise refuse(f"the key {twice!r} stands twice in one object.")
        return found

    def number(literal: str) -> float:
        value = float(literal)
        if not math.isfinite(value):
            raise refuse(f"{literal} is not a finite number.")
        return value

    def integer(literal: str) -> int:
        if len(literal) > 20 or not -MAX_INTEGER <= int(literal) < beyond:
            raise refuse(f"{literal[:24]} is past 64 bits.")
        return int(literal)

    try:
        raw = json.loads(text, object_pairs_hook=pairs, parse_constant=number, parse_float=number, parse_int=integer)
    except json.JSONDecodeError as error:
        raise refuse(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise refuse(f"nested deeper than {MAX_DEPTH} levels.") from None
    if _too_deep(raw):
        raise refuse(f"nested deeper than {MAX_DEPTH} levels.")
    if _SURROGATE.search(text):
        try:
            json.dumps(raw, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise refuse(f"{error.object[error.start]!a} is half of a letter, no text can hold it.") from None
    return raw


def _too_deep(raw: Any) -> bool:
    level = [raw]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
    return bool(level)


def _places(raw: dict[str, Any]) -> int:
    """The letters of the places of all values, each written out from the root."""
    count, level = 0, [(0, cast(Any, raw))]
    while level:
        below: list[tuple[int, Any]] = []
        for place, value in level:
            if isinstance(value, dict):
                named = [(place + len(name), child) for name, child in cast(dict[str, Any], value).items()]
            else:
                named = [(place, child) for child in cast(list[Any], value)]
            count += sum(length for length, _ in named)
            below += [(length, child) for length, child in named if isinstance(child, (dict, list))]
        level = below
    return count


def _children(value: Any) -> list[Any]:
    """The objects and arrays that stand in one."""
    if isinstance(value, dict):
        inner = list(cast(dict[str, Any], value).values())
    else:
        inner = cast(list[Any], value) if isinstance(value, list) else []
    return [child for child in inner if isinstance(child, (dict, list))]
