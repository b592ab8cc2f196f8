"""What travels along a wire, and which output fits which input. Knows no node and no video."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast

T = TypeVar("T")
U = TypeVar("U")
ClassT = TypeVar("ClassT", bound=type)

SOCKET_MODULES: set[str] = set()
"""Names of modules that define sockets: dataclasses in them can be kept on disk and read back."""


class Stream(Generic[T]):
    """A length and a pure function from index to item: what a loop runs over.

    Nothing is stored but the function, so a run resumes anywhere (``skip``) and splits among workers (``shard``).
    ``held`` names what the function keeps in memory, where that is much: a cache counts it. ``items`` are the items
    themselves where they were given.
    """

    items: Sequence[T] | None = None

    def __init__(self, length: int, item: Callable[[int], T], held: object = None) -> None:
        if length < 0:
            raise ValueError(f"A stream cannot have {length} items.")
        self._length = length
        self._item = item
        self.held = held

    @classmethod
    def of(cls, items: Sequence[T]) -> Stream[T]:
        """The stream of the items of a sequence."""
        stream = cls(len(items), items.__getitem__, held=items)
        stream.items = items
        return stream

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> T:
        if not 0 <= index < self._length:
            raise IndexError(f"Item {index} of a stream of {self._length}.")
        return self._item(index)

    def __iter__(self) -> Iterator[T]:
        return (self._item(index) for index in range(self._length))

    def map(self, change: Callable[[T], U]) -> Stream[U]:
        """The stream of ``change(item)``, computed when it is asked for."""
        item = self._item
        return Stream(self._length, lambda index: change(item(index)), self.held)


def skip(stream: Stream[T], n: int) -> Stream[T]:
    """The stream without its first ``n`` items."""
    n = min(n, len(stream))
    return Stream(len(stream) - n, lambda index: stream[index + n], stream.held)


def shard(stream: Stream[T], rank: int, world: int) -> Stream[T]:
    """The items ``rank``, ``rank + world``, ``rank + 2 world``, ... of the stream.

    Raises:
        ValueError: unless 0 <= rank < world.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank = {rank} is not among the {world} shards 0 to {world - 1}.")
    length = len(range(rank, len(stream), world))
    return Stream(length, lambda index: stream[rank + index * world], stream.held)


def socket(*, family: str, preview: str = "") -> Callable[[ClassT], ClassT]:
    """Mark a class as a value that travels along wires.

    Args:
        family: what it is drawn like in the editor: model, text, latent, frames, codec, schedule, dataset, ...
        preview: what shows a value as a small PNG, as ``module:function`` from the value to bytes, or to None.
    """

    def mark(cls: ClassT) -> ClassT:
        cls.__socket_family__ = family  # type: ignore[attr-defined]
        cls.__socket_preview__ = preview  # type: ignore[attr-defined]
        SOCKET_MODULES.add(cls.__module__)
        return cls

    return mark


SHAPES = {
    "model": "square",
    "codec": "square",
    "text": "circle",
    "latent": "circle",
    "frames": "circle",
    "schedule": "triangle",
    "audio": "triangle",
    "training": "diamond",
    "value": "ring",
    "any": "ring",
}
"""How an editor draws the sockets of each family: nobody should have to tell yellow from green. Others are circles."""
_TRAINING = frozenset({"dataset", "optimizer", "metrics", "scores"})


def drawn_family(family: str) -> str:
    """The family that an editor has a colour for; those of training share one."""
    return "training" if family in _TRAINING else family


@dataclass(frozen=True)
class SocketType:
    """The type of a port.

    Attributes:
        name: what people read and write: ``int``, ``Video``, ``Stream[SigmaStep]``.
        family: how the editor draws it.
        python: the Python type of one value.
        item: the type of a stream's items; None where it is no stream.
    """

    name: str
    family: str
    python: Any
    item: SocketType | None = None

    @property
    def is_literal(self) -> bool:
        """Whether a value of it can be typed into a workflow."""
        return self.family == "value"

    @property
    def one(self) -> str:
        """``an int``, ``a Video``."""
        return f"an {self.name}" if self.name[0] in "aeiouAEIO" else f"a {self.name}"


ANY = SocketType("any", "any", Any)
INT = SocketType("int", "value", int)
FLOAT = SocketType("float", "value", float)
STR = SocketType("str", "value", str)
BOOL = SocketType("bool", "value", bool)
LITERALS = {kind.name: kind for kind in (INT, FLOAT, STR, BOOL)}


def stream_of(item: SocketType) -> SocketType:
    """The type of a stream of such items."""
    return SocketType(f"Stream[{item.name}]", item.family if item.family != "value" else "schedule", Stream, item)


def socket_type(annotation: Any) -> SocketType:
    """The socket type that an annotation means.

    Raises:
        TypeError: it is none of int, float, str, bool, Literal, list, a ``@socket`` class, Stream of one, Any.
    """
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        some = [argument for argument in arguments if argument is not type(None)]
        if len(some) == 1:
            return socket_type(some[0])
    if origin is typing.Annotated:
        return socket_type(arguments[0])
    if origin is Stream:
        return stream_of(socket_type(arguments[0]))
    if origin is Literal:
        return STR if all(isinstance(choice, str) for choice in arguments) else socket_type(type(arguments[0]))
    if origin is list:
        return SocketType(f"list[{socket_type(arguments[0]).name}]", "value", list)
    if annotation is Any:
        return ANY
    if annotation in (int, float, str, bool):
        return LITERALS[cast(type, annotation).__name__]
    family = getattr(annotation, "__socket_family__", None)
    if isinstance(annotation, type) and isinstance(family, str):
        return SocketType(annotation.__name__, family, annotation)
    raise TypeError(
        f"{annotation!r} is no socket: use int, float, str, bool, Literal[...], list[...], Stream[...] "
        "or a class marked with @socket(family=...)."
    )


def misfit(output: SocketType, into: SocketType) -> str | None:
    """Why an output cannot be wired into an input, or None where it can."""
    if output == into or ANY in (output, into) or (output == INT and into == FLOAT):
        return None
    if output.item is not None and into.item is not None:
        return misfit(output.item, into.item)
    if output.item is not None and misfit(output.item, into) is None:
        return f"it is {output.one}: run a loop over it, each pass gets one {into.name}"
    return f"it is {output.one}, {into.one} is needed"
