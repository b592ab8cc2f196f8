"""Workflow + registry -> every problem, with its place. Runs nothing and changes nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kineograph.graph_runtime.definitions import Definitions, build_order, definition_kinds, given_values
from kineograph.graph_runtime.errors import InvalidWorkflow, Problem, nearest, said
from kineograph.graph_runtime.expand import passed_on
from kineograph.graph_runtime.order import Nodes, cycle_problems, dependency_order
from kineograph.graph_runtime.plan import files_digest
from kineograph.graph_runtime.ports import MISSING, ONLY_OUTPUT, NodeType, Port
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.sockets import ANY, BOOL, INT, LITERALS, SocketType, misfit, stream_of
from kineograph.graph_runtime.workflow import (
    BRANCH,
    InputSpec,
    LoopSpec,
    NodeSpec,
    Workflow,
    reference,
    wires,
)

Outputs = Mapping[str, SocketType]
BRANCH_INPUTS = ("when", "then", "else")


@dataclass
class _Scope:
    """What a graph sees: its nodes, the inputs of the enclosing graph, and their values where they are known."""

    nodes: Nodes
    place: str
    inputs: dict[str, SocketType]
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    outputs: dict[str, Outputs] = field(default_factory=dict[str, Outputs])
    passed: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """Of the bypassed nodes: output -> the input that stands for it."""
    foretold: dict[str, Any] = field(default_factory=dict[str, Any])
    """What nodes say of their outputs before anything runs, by ``node`` or ``node.port``; in a loop, ``$name`` too."""


def validate(workflow: Workflow, registry: Registry, given: Mapping[str, Any]) -> list[Problem]:
    """Every problem of a workflow's wiring and values, given values for its inputs."""
    check = _Check(registry, workflow.definitions)
    values = check.workflow_inputs(workflow.inputs, given)
    if not check.all_definitions(workflow.nodes):
        return check.problems
    kinds = {name: LITERALS.get(spec.type, ANY) for name, spec in workflow.inputs.items()}
    scope = _Scope(workflow.nodes, "", kinds, values)
    check.graph(scope)
    for name, link in workflow.outputs.items():
        check.source(scope, f"outputs.{name}", link)
    if not workflow.outputs and not check.effects and not check.problems:
        check.say("", "Nothing to run: no outputs, and no node that writes a file.", "Name a node under outputs.")
    if check.problems:  # else the planner looks at the files, once
        check.named_files()
    return check.problems


def input_values(inputs: Mapping[str, InputSpec], given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs' values: what is given, else the default. Assumes that both were checked."""
    values: dict[str, Any] = {name: spec.default for name, spec in inputs.items()} | dict(given)
    return {name: float(value) if inputs[name].type == "float" else value for name, value in values.items()}


class _Check:
    def __init__(self, registry: Registry, definitions: Definitions) -> None:
        self.registry = registry
        self.definitions = definitions
        self.kinds: dict[str, NodeType] = {}
        self.faults: dict[str, set[tuple[str, str]]] = {}
        """(place, message) of what is wrong with a definition itself, whatever its inputs are."""
        self.problems: list[Problem] = []
        self.files: list[tuple[str, Callable[..., str], dict[str, Any]]] = []
        self.effects = 0

    def say(self, place: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(place, message, hint))

    def workflow_inputs(self, inputs: Mapping[str, InputSpec], given: Mapping[str, Any]) -> dict[str, Any]:
        for name in given:
            if name not in inputs:
                self.say(f"inputs.{name}", "The workflow has no such input.", nearest(name, inputs))
        values: dict[str, Any] = {}
        for name, spec in inputs.items():
            kind = LITERALS.get(spec.type)
            value = given.get(name, spec.default)
            if kind is None:
                self.say(f"inputs.{name}", f"{spec.type!r} cannot be typed in.", f"Use one of {', '.join(LITERALS)}.")
            elif value is None:
                self.say(f"inputs.{name}", "No value is given and there is no default.", f"Add --set {name}=...")
            else:
                try:
                    values[name] = Port(name, kind, kind.python).literal(value)
                except ValueError as error:
                    self.say(f"inputs.{name}", f"{error}.")
        return values

    def graph(self, scope: _Scope) -> None:
        order, cycles = dependency_order(scope.nodes)
        self.problems += cycle_problems(cycles, scope.place)
        for name in order:
            spec = scope.nodes[name]
            place = scope.place + name
            if isinstance(spec, LoopSpec):
                made = self.loop(scope, place, spec)
            else:
                made = self.node(scope, place, spec)
            scope.outputs[name] = made
            if spec.mode == "bypass" and not isinstance(made, _Unknown):
                scope.passed[name] = passed_on(spec, self.kinds.get(spec.type) or self.registry.get(spec.type))

    def node(self, scope: _Scope, place: str, spec: NodeSpec) -> Outputs:
        if spec.type == BRANCH:
            return self.branch(scope, place, spec)
        kind = self.kinds.get(spec.type) or self.registry.get(spec.type)
        muted = spec.mode == "mute"
        if kind is None:
            if not muted:
                self.say(place, f"There is no node {spec.type!r}.", self.advice(spec.type))
            for port, link in spec.links.items():
                self.source(scope, f"{place}.{port}", link)
            return _Unknown()
        self.params(place, spec, kind)
        for name, link in spec.links.items():
            port = kind.inputs.get(name)
            if port is None:
                self.say(f"{place}.{name}", f"{spec.type} has no input {name!r}.", nearest(name, kind.inputs))
            else:
                self.link(scope, f"{place}.{name}", link, port)
        if spec.mode is None:
            self.effects += kind.effect
            if kind.digest_files is not None:
                self.files.append((place, kind.digest_files, _literals(scope, spec, kind)))
            if spec.type in self.kinds:
                self.instance(scope, place, spec, kind)
            self.foresee(scope, place, spec, kind)
        return {name: port.type for name, port in kind.outputs.items()}

    def foresee(self, scope: _Scope, place: str, spec: NodeSpec, kind: NodeType) -> None:
        """Ask a node whether its inputs go together, as far as they are known, and what it will make."""
        if kind.fits is None and kind.foretells is None:
            return
        if any(each.place.startswith(f"{place}.") for each in self.problems):
            return  # of values that cannot be, nothing follows
        foretold = {port: scope.foretold[link] for port, link in spec.links.items() if link in scope.foretold}
        known = _literals(scope, spec, kind) | foretold
        try:
            _asked(kind.fits, known)
        except ValueError as error:
            self.say(place, said(error))
        try:
            told = _asked(kind.foretells, known)
        except (OSError, ValueError):
            return  # of files that are not there, the planner tells
        if told is None:
            return
        name, outputs = place.removeprefix(scope.place), list(kind.outputs)
        if outputs == [ONLY_OUTPUT]:
            scope.foretold[name] = told
        else:
            each = zip(outputs, told, strict=True)
            scope.foretold |= {f"{name}.{output}": fact for output, fact in each if fact is not None}

    def advice(self, type_id: str) -> str:
        """What else may be meant by the type of a node."""
        return nearest(type_id, self.kinds) if type_id.startswith("#") else self.registry.unknown(type_id)

    def named_files(self) -> None:
        """Say which files that literals name are missing; where a literal itself is at fault, that is said already."""
        said = {problem.place for problem in self.problems}
        for place, fingerprint, literals in self.files:
            if not any(f"{place}.{name}" in said or value is MISSING for name, value in literals.items()):
                try:
                    files_digest(fingerprint, literals, place)
                except InvalidWorkflow as invalid:
                    self.problems += invalid.problems

    def params(self, place: str, spec: NodeSpec, kind: NodeType) -> None:
        for name, value in spec.params.items():
            port = kind.inputs.get(name)
            if port is None:
                self.say(f"{place}.{name}", f"{spec.type} has no input {name!r}.", nearest(name, kind.inputs))
            elif name in spec.links:
                self.say(f"{place}.{name}", "It is both typed in and linked.", "Remove it from params or from links.")
            else:
                self.value(f"{place}.{name}", port, value)
        for name, port in kind.inputs.items():
            if spec.mode != "mute" and port.required and name not in spec.params and name not in spec.links:
                self.say(f"{place}.{name}", f"{spec.type} needs {name} ({port.type.name}).", self.makers(port.type))

    def value(self, place: str, port: Port, value: Any, source: str = "") -> None:
        try:
            port.literal(value)
        except ValueError as error:
            self.say(place, f"{source}{error}.")

    def link(self, scope: _Scope, place: str, link: str, port: Port) -> None:
        kind = self.source(scope, place, link, port.type.is_literal)
        reason = misfit(kind, port.type) if kind is not None else None
        if reason is not None:
            fitting = [
                f"{name}.{output}" if len(outputs) > 1 else name
                for name, outputs in scope.outputs.items()
                for output, found in outputs.items()
                if misfit(found, port.type) is None
            ]
            hint = f"In this graph {', '.join(fitting[:4])} would fit." if fitting else self.makers(port.type)
            self.say(place, f"{link} does not fit: {reason}.", hint)
        value = scope.values.get(link[1:]) if link.startswith("$") else None
        if value is not None and reason is None and port.type.is_literal:
            self.value(place, port, value, f"{link} = ")

    def makers(self, kind: SocketType) -> str:
        """Which nodes make a value of a type."""
        if kind.is_literal:
            return "Type it in under params."
        makers = [
            maker.id
            for maker in self.registry
            if any(misfit(port.type, kind) is None for port in maker.outputs.values())
        ]
        return f"Made by {', '.join(makers[:4])}." if makers else ""

    def source(self, scope: _Scope, place: str, link: str, literal: bool = False) -> SocketType | None:
        """The type of what a link comes from; None (and a problem, if it is news) where that is not known.

        ``literal``: whether what it goes to can be typed in too.
        """
        node, port = reference(link)
        if not node:
            if port not in scope.inputs:
                known = [f"${name}" for name in scope.inputs]
                self.say(place, f"There is no {link} here.", nearest(link, known))
            return scope.inputs.get(port)
        if node not in scope.nodes:
            self.say(
                place,
                f"There is no node {node!r} to link to.",
                nearest(node, scope.nodes) + (" A value goes under params." if literal else ""),
            )
            return None
        outputs = scope.outputs.get(node)
        if outputs is None or isinstance(outputs, _Unknown):
            return None
        if not outputs:
            self.say(place, f"{node} has no output to link to.")
            return None
        if "." not in link and len(outputs) == 1:
            port = next(iter(outputs))
        elif port not in outputs or "." not in link:
            named = ", ".join(f"{node}.{name}" for name in outputs)
            self.say(place, f"{link} names no output of {node}.", f"Use {named}.")
            return None
        if port not in scope.passed.get(node, outputs):
            message = (
                f"{node} is bypassed, and nothing of type {outputs[port].name} that is given to it can pass through."
            )
            self.say(place, message, f"Mute {node}, or link past it.")
        return outputs[port]

    def loop(self, scope: _Scope, place: str, spec: LoopSpec) -> Outputs:
        sources = {name: self.source(scope, f"{place}.{name}", link) for name, link in wires(spec)}
        if spec.mode == "mute":
            return _Unknown()
        each = sources["each"]
        if each is not None and each.item is None and each != ANY:
            way_out = "Return Stream.of(values) from a node, declared -> Stream[...]." if each.python is list else ""
            self.say(f"{place}.each", f"A loop runs over a Stream, {spec.each} is {each.one}.", way_out)
        self.loop_names(place, spec)
        inner = {name: kind or ANY for name, kind in sources.items() if name != "each"}
        inner |= {"item": (each.item if each else None) or ANY, "index": INT}
        known = {
            name: scope.values[link[1:]]
            for name, link in spec.links.items()
            if link.startswith("$") and link[1:] in scope.values
        }
        foretold = _entering(scope, spec.links | spec.carry)
        body = _Scope(spec.body.nodes, f"{place}/", inner, known, foretold=foretold)
        self.graph(body)
        for name, link in spec.carry.items():  # where the body says nothing of it, it stays what it was
            if fact := body.foretold.get(spec.body.outputs.get(name, ""), scope.foretold.get(link)):
                scope.foretold[f"{place.removeprefix(scope.place)}.{name}"] = fact
        made = {
            name: self.source(body, f"{place}/outputs.{name}", link) or ANY for name, link in spec.body.outputs.items()
        }
        for name in spec.carry:
            if name not in made:
                self.say(f"{place}.{name}", f"The body has no output {name!r} to carry on.", "Add it to body.outputs.")
            elif reason := misfit(made[name], inner[name]):
                self.say(f"{place}/outputs.{name}", f"It cannot be carried on: {reason}.")
        for name in [*spec.collect, *([spec.until] if spec.until else [])]:
            if name not in made:
                self.say(f"{place}.{name}", f"The body has no output {name!r}.", nearest(name, made))
        if spec.until and made.get(spec.until, BOOL) not in (BOOL, ANY):
            self.say(f"{place}.until", f"{spec.until} is {made[spec.until].one}, a bool is needed.")
        return {name: inner[name] for name in spec.carry} | {
            name: stream_of(made.get(name, ANY)) for name in spec.collect
        }

    def loop_names(self, place: str, spec: LoopSpec) -> None:
        """No name may stand for two things, inside the loop or at its outputs."""
        entering = ["each", "item", "index", *spec.carry, *spec.links]
        leaving = [*spec.carry, *spec.collect]
        for name in sorted({name for name in entering if entering.count(name) > 1}):
            self.say(f"{place}.{name}", f"The name {name!r} is taken in this loop.", "Choose another.")
        for name in sorted({name for name in leaving if leaving.count(name) > 1}):
            hint = "Give the body a second output for the same link and collect that."
            self.say(f"{place}.{name}", f"Two outputs of this loop would be called {name!r}.", hint)

    def branch(self, scope: _Scope, place: str, spec: NodeSpec) -> Outputs:
        """Its condition is a bool, and one type of socket holds both of its sides."""
        kinds: dict[str, SocketType | None] = dict.fromkeys(BRANCH_INPUTS)
        for name in [*spec.params, *spec.links]:
            if name not in kinds:
                self.say(f"{place}.{name}", f"{BRANCH} has no input {name!r}.", nearest(name, kinds))
        for name in kinds:
            if name in spec.params and name in spec.links:
                self.say(f"{place}.{name}", "It is both typed in and linked.", "Remove it from params or from links.")
            elif name in spec.links:
                kinds[name] = self.source(scope, f"{place}.{name}", spec.links[name])
            elif name in spec.params:
                kinds[name] = self.typed_in(f"{place}.{name}", spec.params[name])
            elif spec.mode != "mute":
                self.say(f"{place}.{name}", f"{BRANCH} needs {name}.")
        when, one, other = (kind or ANY for kind in kinds.values())
        if when not in (BOOL, ANY):
            self.say(f"{place}.when", f"It is {when.one}, a bool is needed.", self.makers(BOOL))
        if misfit(one, other) is None:
            return {ONLY_OUTPUT: one if other == ANY else other}
        if misfit(other, one) is not None:
            self.say(
                place, f"then is {one.one} and else {other.one}, so nothing can be wired to it.", "Make them alike."
            )
        return {ONLY_OUTPUT: one}

    def typed_in(self, place: str, value: Any) -> SocketType | None:
        """The type of a literal that stands where any type may."""
        kind = next((kind for kind in LITERALS.values() if type(value) is kind.python), None)
        if kind is None:
            self.say(place, "Only a number, a text, true or false can be typed in here.", "Link it to a node.")
        else:
            self.value(place, Port("", kind, kind.python), value)
        return kind

    # Definitions

    def all_definitions(self, nodes: Nodes) -> bool:
        """Check every definition once, whether it is used or not; False where they cannot be written out."""
        self.kinds, problems = definition_kinds(self.definitions, self.registry)
        order, unbuildable = build_order(self.definitions, nodes)
        self.problems += problems + unbuildable
        if unbuildable:
            return False
        for type_id in order:
            before = len(self.problems), len(self.files), self.effects
            inputs = {name: port.type for name, port in self.kinds[type_id].inputs.items()}
            self.inside(type_id, _Scope(self.definitions[type_id[1:]].nodes, f"{type_id}/", inputs))
            found = self.problems[before[0] :]
            self.faults[type_id] = {(problem.place.removeprefix(f"{type_id}/"), problem.message) for problem in found}
            del self.files[before[1] :]
            self.effects = before[2]
        return True

    def inside(self, type_id: str, scope: _Scope) -> None:
        """Check the graph of a definition."""
        self.graph(scope)
        for name, port in self.kinds[type_id].outputs.items():
            place = f"{scope.place}outputs.{name}"
            made = self.source(scope, place, self.definitions[type_id[1:]].outputs[name].link)
            if made is not None and (reason := misfit(made, port.type)):
                self.say(place, f"It does not fit: {reason}.")

    def instance(self, scope: _Scope, place: str, spec: NodeSpec, kind: NodeType) -> None:
        """Check what one use of a definition adds: the values that it gives to the inputs, and the files they name."""
        values = given_values(kind, spec.params, spec.links)
        for name, link in spec.links.items():
            if link.startswith("$") and link[1:] in scope.values and name in kind.inputs:
                values[name] = scope.values[link[1:]]
        before = len(self.problems)
        inputs = {name: port.type for name, port in kind.inputs.items()}
        foretold = _entering(scope, spec.links)
        inner = _Scope(self.definitions[spec.type[1:]].nodes, f"{place}/", inputs, values, foretold=foretold)
        self.inside(spec.type, inner)
        found, known = self.problems[before:], self.faults[spec.type]
        del self.problems[before:]
        for problem in found:
            if (problem.place.removeprefix(f"{place}/"), problem.message) not in known:
                self.say(problem.place, problem.message, f"{problem.hint} It is part of {spec.type}.".strip())


def _entering(scope: _Scope, links: Mapping[str, str]) -> dict[str, Any]:
    """What is foretold of the inputs of a graph inside, by the names that they have there."""
    return {f"${name}": scope.foretold[link] for name, link in links.items() if link in scope.foretold}


def _literals(scope: _Scope, spec: NodeSpec, kind: NodeType) -> dict[str, Any]:
    """The values of a node's inputs as far as they are known; ``MISSING`` where an input of the graph has none."""
    known = {name: port.default for name, port in kind.inputs.items()} | spec.params
    for name, link in spec.links.items():
        known.pop(name, None)
        if link.startswith("$") and (link[1:] in scope.values or not scope.place):
            known[name] = scope.values.get(link[1:], MISSING)
    return known


def _asked(function: Callable[..., Any] | None, known: Mapping[str, Any]) -> Any:
    """What a function says of a node's inputs; None where there is none, or where one that it takes is not known."""
    if function is None:
        return None
    names = list(inspect.signature(function).parameters)
    if any(known.get(name, MISSING) is MISSING for name in names):
        return None
    return function(**{name: known[name] for name in names})


class _Unknown(dict[str, SocketType]):
    """The outputs of a node of unknown type: links to it are not judged."""
