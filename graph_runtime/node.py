"""``@node`` turns a function into a typed node: the signature is the schema. Knows no graph.

The function stays a function: a test calls it. What the decorator read of it stands in a :class:`NodeType`.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

from kineograph.graph_runtime.ports import MISSING, ONLY_OUTPUT, NodeType, Port
from kineograph.graph_runtime.sockets import SocketType, socket_type

if TYPE_CHECKING:
    pass

P = ParamSpec("P")
R = TypeVar("R")


class RunContext(Protocol):
    """What a node may ask of the run it is part of; take it as a parameter ``run: RunContext``."""

    @property
    def place(self) -> str:
        """Where the node stands in the workflow: ``denoise``, in a loop's body ``denoise/step``."""
        ...

    @property
    def provenance(self) -> str:
        """The workflow with the inputs of this run, as JSON: to be written into files."""
        ...

    def progress(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` are done; raises ``Cancelled`` where the run was stopped."""
        ...

    def metric(self, name: str, step: int, value: float) -> None:
        """Report a number to plot."""
        ...

    def note(self, reason: str) -> None:
        """Tell people in a clause what they may not expect of the result: what was left out, or fitted."""
        ...

    def preview(self, value: Any, done: int = 0) -> None:
        """Show a value that is not finished, a ``Video`` for example, to whoever looks, as often as they want."""
        ...

    def check_cancelled(self) -> None:
        """Raise ``Cancelled`` where the run was stopped."""
        ...

    def output_path(self, relative: str) -> Path:
        """A path below the run's output folder, whose parent folder exists.

        Raises:
            ValueError: the path is absolute or leaves the folder.
        """
        ...

    def wrote(self, path: Path) -> None:
        """Report a file that is now complete."""
        ...


@dataclass(frozen=True)
class _Declaration:
    """The arguments of ``@node(...)``."""

    version: int = 1
    effect: bool = False
    fingerprint: Callable[..., str] | None = None
    donates: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    differentiates: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    estimate: Callable[..., Any] | None = None
    foretells: Callable[..., Any] | None = None
    fits: Callable[..., None] | None = None
    smaller: Mapping[str, Any] = field(default_factory=dict[str, Any])
    fields: tuple[str, ...] = field(default=("donates", "views", "differentiates", "counts"), repr=False)


@overload
def node(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def node(
    *,
    version: int = 1,
    effect: bool = False,
    fingerprint: Callable[..., str] | None = None,
    donates: tuple[str, ...] = (),
    views: tuple[str, ...] = (),
    differentiates: tuple[str, ...] = (),
    counts: tuple[str, ...] = (),
    estimate: Callable[..., Any] | None = None,
    foretells: Callable[..., Any] | None = None,
    fits: Callable[..., None] | None = None,
    smaller: Mapping[str, Any] = ...,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def node(function: Callable[..., Any] | None = None, /, **declared: Any) -> Any:
    """Make a node of a function.

    Args:
        function: its parameters are the inputs, its return annotation the output (a ``NamedTuple`` is several, None is
            none), its docstring the help, with a line for each input under ``Args:``.
        version: rises when a port or the meaning changes.
        effect: it changes the world outside, a file for example.
        fingerprint: function of the node's literals that digests the files they name; a parameter with a default may be
            linked, and is then left at it. Files that ``input_file`` ports name need none.
        donates: inputs it overwrites.
        views: inputs that its output shares memory with.
        differentiates: inputs it takes gradients of.
        counts: inputs that only say how many items its stream has: item i never depends on them, and of a stream among
            them on nothing behind its item i.
        estimate: function of the node's inputs whose result has the shapes of the node's outputs, its tensors on the
            meta device: for nodes that read files, and so that ``kineograph plan`` reads none. It has no effect.
        foretells: function of some of the node's literals that says of its outputs what ``fits`` of other nodes asks
            for, in the outputs' place (None where there is nothing to say). It loads nothing heavy.
        fits: function of some of the node's inputs that raises ValueError where they cannot go together. It is asked
            while a workflow is checked, if all of them are typed in or foretold.
        smaller: literals with which it gives the same, up to rounding, in less memory and more time: tiles, say.
            It runs with them where memory is short.

    Raises:
        TypeError: the signature is no schema, with the parameter and the reason.
    """
    declaration = _Declaration(**declared)

    def declare(target: Callable[..., Any]) -> Callable[..., Any]:
        target.__kineograph_node__ = _read(target, declaration)  # type: ignore[attr-defined]
        return target

    return declare if function is None else declare(function)


def node_type(function: object) -> NodeType | None:
    """What ``@node`` read of a function, or None where it is no node."""
    found = getattr(function, "__kineograph_node__", None)
    return found if isinstance(found, NodeType) else None


def _read(function: Callable[..., Any], declared: _Declaration) -> NodeType:
    name = function.__name__
    hints = typing.get_type_hints(function, include_extras=True)
    about, port_docs = split_docstring(inspect.getdoc(function) or "")
    inputs: dict[str, Port] = {}
    run_parameter = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"Node {name}: *{parameter.name} cannot be a port, name each input.")
        annotation = hints.get(parameter.name)
        if annotation is RunContext:
            run_parameter = parameter.name
            continue
        kind = _socket(name, parameter.name, annotation)
        doc = port_docs.get(parameter.name, "")
        default = _default(name, parameter, kind)
        inputs[parameter.name] = Port(parameter.name, kind, annotation, default, doc)
    for what in declared.fields:
        for port in cast(tuple[str, ...], getattr(declared, what)):
            if port not in inputs:
                raise TypeError(f"Node {name}: {what} names {port}, which is no input of it.")
            if what == "donates" and inputs[port].type.is_literal:
                raise TypeError(f"Node {name}: donates names {port}, but what is typed in cannot be overwritten.")
    smaller = {port: _smaller(name, inputs, port, value) for port, value in declared.smaller.items()}
    return NodeType(
        name=name,
        version=declared.version,
        function=function,
        inputs=types.MappingProxyType(inputs),
        outputs=types.MappingProxyType(_outputs(name, hints.get("return"))),
        doc=about,
        effect=declared.effect,
        fingerprint=declared.fingerprint,
        donates=declared.donates,
        views=declared.views,
        differentiates=declared.differentiates,
        counts=declared.counts,
        estimate=declared.estimate,
        foretells=declared.foretells,
        fits=declared.fits,
        smaller=types.MappingProxyType(smaller),
        run_parameter=run_parameter,
        is_async=inspect.iscoroutinefunction(function),
        faults=tuple(_faults(function, declared.effect, hints, port_docs)),
    )


def _faults(
    function: Callable[..., Any], effect: bool, hints: Mapping[str, Any], documented: Iterable[str]
) -> Iterator[str]:
    """What Python takes, and nobody means."""
    name = function.__name__
    if not effect and "return" not in hints:
        yield f"{name} does not say what it returns: def {name}(...) -> Video, say; or @node(effect=True)."
    elif not effect and hints["return"] is type(None):
        yield f"{name} returns nothing, so it would never run: @node(effect=True) if it changes the world outside."
    for each in documented:
        if each not in inspect.signature(function).parameters:
            yield f"{name} has {each!r} under Args, and no such input."
    code, before = function.__code__, node_type(function.__globals__.get(name))
    if before is not None and function.__qualname__ == name and before.function.__code__ != code:
        first = before.function.__code__
        if first.co_filename == code.co_filename:
            lines = f"lines {first.co_firstlineno} and {code.co_firstlineno}"
            yield f"There are two nodes {name}, in {lines}: the first is lost. Rename one."


def _smaller(node_name: str, inputs: Mapping[str, Port], name: str, value: Any) -> Any:
    if name not in inputs:
        raise TypeError(f"Node {node_name}: smaller names {name}, which is no input of it.")
    return inputs[name].literal(value)


def _default(node_name: str, parameter: inspect.Parameter, kind: SocketType) -> Any:
    """The default as it would be typed in: a float port's 1 is 1.0, and what cannot be typed in is left out as None."""
    default = parameter.default
    if default is MISSING or default is None:
        return default
    if not kind.is_literal:
        raise TypeError(f"Node {node_name}: {parameter.name}: the default of {kind.one} can only be None.")
    return float(default) if kind.python is float else default


def _outputs(name: str, annotation: Any) -> dict[str, Port]:
    if annotation is None or annotation is type(None):
        return {}
    fields = getattr(annotation, "_fields", None)
    if fields is None:
        return {ONLY_OUTPUT: Port(ONLY_OUTPUT, _socket(name, "return", annotation), annotation)}
    hints = typing.get_type_hints(annotation, include_extras=True)
    return {key: Port(key, _socket(name, key, hints[key]), hints[key]) for key in fields}


def _socket(node_name: str, where: str, annotation: Any) -> SocketType:
    if annotation is None:
        raise TypeError(f"Node {node_name}: {where} needs an annotation, it is the port's type.")
    try:
        return socket_type(annotation)
    except TypeError as error:
        raise TypeError(f"Node {node_name}: {where}: {error}") from None


def split_docstring(text: str) -> tuple[str, dict[str, str]]:
    """A Google-style docstring as (what it says without its Args, the Args by name)."""
    head, _, rest = text.partition("\nArgs:\n")
    ports: dict[str, str] = {}
    current = ""
    lines = rest.splitlines()
    for at, line in enumerate(lines):
        match = re.match(r" {4}([\w, ]+): (.*)", line)
        if match and not line.startswith("     "):
            current = match.group(1)
            ports.update({name.strip(): match.group(2) for name in current.split(",")})
        elif line.startswith("     ") and current:
            ports.update({name.strip(): f"{ports[name.strip()]} {line.strip()}" for name in current.split(",")})
        elif line and not line.startswith(" "):
            head = head.rstrip() + "\n\n" + "\n".join(lines[at:])
            break
    return head.strip(), ports
