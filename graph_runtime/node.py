"""``@node`` turns a function into a typed node: the signature is the schema. Knows no graph.

The function stays a function: a test calls it. What the decorator read of it stands in a :class:`NodeType`.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

from kineograph.graph_runtime.paths import InputFile, OutputFile, digest_inputs
from kineograph.graph_runtime.sockets import SocketType, socket_type

if TYPE_CHECKING:
    from pydantic import TypeAdapter

P = ParamSpec("P")
R = TypeVar("R")

ONLY_OUTPUT = "output"
"""Name of the output of a node that has one."""

_SAID_BY_BOUNDS = re.compile(r"(int|float|string|bool)_type|multiple_of|(string_)?too_short|(greater|less)_than\w*")
"""What pydantic finds that the type and the bounds of a port say already."""

MISSING: Any = inspect.Parameter.empty
"""Stands where a port has no default."""


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


def _marks(annotation: Any) -> Iterator[Any]:
    """What annotates a type, or the types that it is made of: of ``list[Annotated[str, mark]] | None`` the mark."""
    yield from getattr(annotation, "__metadata__", ())
    for inner in () if typing.get_origin(annotation) is typing.Literal else typing.get_args(annotation):
        yield from _marks(inner)


@dataclass(frozen=True)
class Port:
    """One input or output of a node.

    Attributes:
        name: as in the signature.
        type: what fits it.
        annotation: the annotation as written, with its ``Field`` bounds.
        default: the default, or ``MISSING`` where the input is required.
        doc: its ``Args:`` lines.
    """

    name: str
    type: SocketType
    annotation: Any = None
    default: Any = MISSING
    doc: str = ""

    @property
    def required(self) -> bool:
        """Whether an input must be given."""
        return self.default is MISSING

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Pydantic's reading of the annotation: strict, finite numbers only."""
        from pydantic import ConfigDict, TypeAdapter

        return TypeAdapter(self.annotation, config=ConfigDict(strict=True, allow_inf_nan=False))

    @cached_property
    def file_endings(self) -> tuple[str, ...]:
        """Where it names a file to read, the endings that fit."""
        return next((mark.endings for mark in _marks(self.annotation) if isinstance(mark, InputFile)), ())

    @cached_property
    def output_endings(self) -> tuple[str, ...]:
        """Where it names a file to write, the endings that fit."""
        return next((mark.endings for mark in _marks(self.annotation) if isinstance(mark, OutputFile)), ())

    @cached_property
    def classes(self) -> tuple[type, ...]:
        """The classes that its values may have: a float's also int, an optional one's also None's."""
        python = self.type.python
        if python is Any or not isinstance(python, type):
            return (object,)
        also = {float: (int,), list: (tuple,)}.get(python, ())
        return (python, *also, *(kind for kind in typing.get_args(self.annotation) if kind is type(None)))

    @cached_property
    def bounds(self) -> str:
        """The bounds and choices as people write them, like ``>= 0, <= 1``, ``one of a, b``."""
        if self.file_endings:
            return f"naming a {' or '.join(self.file_endings)} file"
        if typing.get_origin(self.annotation) is typing.Literal:
            return "one of " + ", ".join(map(str, typing.get_args(self.annotation)))
        found: list[str] = []
        for extra in getattr(self.annotation, "__metadata__", ()):
            for constraint in getattr(extra, "metadata", ()):
                for sign, name in ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt")):
                    if hasattr(constraint, name):
                        found.append(f"{sign} {getattr(constraint, name)}")
                if hasattr(constraint, "multiple_of"):
                    found.append(f"a multiple of {constraint.multiple_of}")
                if getattr(constraint, "min_length", None):
                    found.append(f"at least {constraint.min_length} long")
        return ", ".join(found)

    def literal(self, value: Any) -> Any:
        """The typed value of what stands in a workflow's ``params``.

        Raises:
            ValueError: a sentence that says what is needed instead.
        """
        if not self.type.is_literal:
            raise ValueError(f"{self.type.one} cannot be typed in, link it to a node that makes one")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError("an integer has at most 64 bits")
        if isinstance(value, str) and not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
            raise ValueError(f"{value[:40]!r} is no text, it holds half a letter")
        if self.annotation is type(value) and self.annotation in (int, str, bool):
            return value
        from pydantic import ValidationError

        try:
            return self.adapter.validate_python(value)
        except ValidationError as error:
            raise ValueError(self._refusal(value, dict(error.errors()[0]))) from None

    def _refusal(self, value: Any, detail: dict[str, Any]) -> str:
        """Why a value does not fit, from what pydantic says of it."""
        if detail["type"] == "value_error":  # the words of a validator of ours
            return str(detail["ctx"]["error"])
        shown = repr(value) if len(repr(value)) < 60 else repr(value)[:57] + "..."
        if self.bounds.startswith("one of "):
            return f"{shown} is not {self.bounds}"
        needed = self.type.one + (f" {self.bounds.replace(', ', ' and ')}" if self.bounds else "")
        more = "" if _SAID_BY_BOUNDS.fullmatch(detail["type"]) else f" ({detail['msg']})"
        return f"{shown} is not {needed}{more}"


@dataclass(frozen=True)
class NodeType:
    """What the runtime knows of a kind of node.

    Attributes:
        name, version, pack: its id is ``name@version``, or ``pack/name@version`` for a pack's.
        function: what runs.
        inputs, outputs: its ports by name.
        doc: the docstring without its ``Args:``.
        effect: it changes the world (a file): it runs whenever it is reached and is never cached.
        fingerprint: of files that its literals name; called with them, its text becomes part of the key. Without it,
            the files that ``input_file`` ports name are digested.
        donates: inputs it overwrites. views: inputs that its output shares memory with.
        differentiates: inputs it takes gradients of: what led to them is recorded.
        counts: inputs that only say how many items its stream has: a longer one begins with the same items.
        estimate: what makes its outputs where nothing is computed: of the same shapes, on torch's meta device.
        foretells: of its literals, what can be said of its outputs before anything runs.
        fits: of its literals and what was foretold of what is linked to it; raises where they cannot go together.
        smaller: literals with which it gives the same in less memory.
        run_parameter: the parameter that takes the :class:`RunContext`, if it has one.
        is_async: its function is a coroutine: it runs beside others.
        lazy: inputs that are computed only if it asks for them; one that it does not ask for is left at its default.
        asks: what says which: a function of the inputs that are known so far, called again until it names none.
        faults: what is wrong with its declaration, a sentence each: no registry takes it.
    """

    name: str
    version: int
    function: Callable[..., Any]
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    doc: str = ""
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
    run_parameter: str | None = None
    pack: str = ""
    is_async: bool = False
    lazy: tuple[str, ...] = ()
    asks: Callable[..., Iterable[str]] | None = None
    faults: tuple[str, ...] = ()

    @cached_property
    def id(self) -> str:
        """``name@version``, or ``pack/name@version``."""
        prefix = f"{self.pack}/" if self.pack else ""
        return f"{prefix}{self.name}@{self.version}"

    @cached_property
    def code_digest(self) -> str:
        """Digest of the code that it may run: the function's module, and what that imports of ours."""
        from kineograph.graph_runtime.code import code_digest

        return code_digest(self.function)

    @cached_property
    def digest_files(self) -> Callable[..., str] | None:
        """What digests the files that its literals name: its fingerprint, else by what its ports say; or None."""
        files = [name for name, port in self.inputs.items() if port.file_endings]
        return self.fingerprint or (digest_inputs(files) if files else None)

    @cached_property
    def bounded(self) -> frozenset[str]:
        """The literal inputs with bounds: what arrives there by a link is checked when it arrives."""
        return frozenset(
            name
            for name, port in self.inputs.items()
            if port.type.is_literal and (port.bounds or hasattr(port.annotation, "__metadata__"))
        )

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages whose code its pack runs; none for a node of ours."""
        own = self.function.__module__.partition(".")[0]
        return () if not self.pack or own == __name__.partition(".")[0] else (own,)

    @cached_property
    def returns(self) -> Sequence[tuple[type, ...]]:
        """The classes that each of its outputs may have."""
        return [port.classes for port in self.outputs.values()]

    @property
    def several_outputs(self) -> bool:
        """Whether an output must be named to be linked."""
        return len(self.outputs) > 1

    @cached_property
    def moves_tensors(self) -> bool:
        """Whether tensors may pass through it: some port is neither a literal nor a stream of literals."""
        ports = (*self.inputs.values(), *self.outputs.values())
        return any(not (port.type.item or port.type).is_literal for port in ports)


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
