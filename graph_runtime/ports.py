"""What is known of a node: its ports, with what they take, and what was declared of it. Knows no graph."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kineograph.graph_runtime.paths import InputFile, OutputFile, digest_inputs
from kineograph.graph_runtime.sockets import SocketType

if TYPE_CHECKING:
    from pydantic import TypeAdapter

ONLY_OUTPUT = "output"
"""Name of the output of a node that has one."""

_SAID_BY_BOUNDS = re.compile(r"(int|float|string|bool)_type|multiple_of|(string_)?too_short|(greater|less)_than\w*")
"""What pydantic finds that the type and the bounds of a port say already."""

MISSING: Any = inspect.Parameter.empty
"""Stands where a port has no default."""


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
