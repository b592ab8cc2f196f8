"""Values as JSON and buffers, and back: what a store writes down. Knows no torch, and lets no file name code to run.

A value is taken apart until only JSON and buffers are left. Literals, lists, tuples, dicts, streams of given items and
dataclasses that stand in a module with a ``@socket`` need nothing. Other classes have a codec that is registered under
their full name, so that nobody imports torch to say how a tensor is kept.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, TypeVar, cast

from kineograph.graph_runtime.sockets import SOCKET_MODULES, Stream

CodecT = TypeVar("CodecT", bound=type)
TAG = "$"


class CannotKeep(TypeError):
    """A value that cannot be written down; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """Numbers of one type in row-major order.

    Attributes:
        dtype: as safetensors writes it: F32, BF16, I64, BOOL, ...
        shape: its sides.
        data: its bytes.
        whole: the sides of the numbers of all processes, where these are the rows of one (:func:`rows_of`); else None.
    """

    dtype: str
    shape: tuple[int, ...]
    data: memoryview
    whole: tuple[int, ...] | None = None


def rows_of(rows: int, part: int, parts: int) -> tuple[int, int]:
    """Where one of several parts begins and ends, as ``torch.chunk`` and FSDP2 cut: the last may have less, or none."""
    most = -(-rows // parts)
    return min(part * most, rows), min((part + 1) * most, rows)


class Codec(Protocol):
    """How values of a class are kept."""

    def take_apart(self, value: Any) -> Any:
        """Simpler values that say all of it: literals, lists, tuples, dicts, dataclasses, buffers, what has a codec.

        Raises:
            CannotKeep: this one cannot be kept.
        """
        ...

    def put_together(self, parts: Any) -> Any:
        """The value again."""
        ...


_CODECS: dict[str, Codec] = {}


def codec(*names: str) -> Callable[[CodecT], CodecT]:
    """Register a :class:`Codec` for classes and what is derived from them.

    Args:
        names: full names, like ``torch.Tensor``.

    Raises:
        ValueError: a class has a codec already.
    """

    def register(cls: CodecT) -> CodecT:
        for name in names:
            if name in _CODECS:
                raise ValueError(f"{name} has a codec already.")
            _CODECS[name] = cls()
        return cls

    return register


def encode(value: Any) -> tuple[str, list[Buffer]]:
    """The JSON text and the buffers that a value is made of.

    Raises:
        CannotKeep: some part of it has no codec, or one that refused.
    """
    writer = _Writer()
    try:
        return json.dumps(
            writer.tree(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ), writer.buffers
    except RecursionError:
        raise CannotKeep("it is nested too deeply") from None


def decode(text: str, buffers: Iterable[Buffer]) -> Any:
    """The value of a text and its buffers, which are asked for one after another.

    Raises:
        Exception: the text was not written by ``encode``, or by another version of a class.
    """
    return _Reader(buffers).value(json.loads(text))


class _Writer:
    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.known: dict[int, tuple[Any, int]] = {}

    def tree(self, value: Any) -> Any:
        kind: type[Any] = value.__class__
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {TAG: "float", "v": repr(value)}
        if kind is list:
            return [self.tree(item) for item in value]
        if kind is tuple:
            return {TAG: "tuple", "v": [self.tree(item) for item in value]}
        if kind is dict:
            return {TAG: "dict", "v": [[self.tree(key), self.tree(item)] for key, item in value.items()]}
        if kind is Buffer:
            self.buffers.append(value)
            return {TAG: "buffer"}
        if kind is Stream:
            return {TAG: "stream", "v": [self.tree(item) for item in _items(value)]}
        if id(value) in self.known:
            return {TAG: "same", "v": self.known[id(value)][1]}
        tree = self.made(value, kind)
        self.known[id(value)] = value, len(self.known)
        return tree

    def made(self, value: Any, kind: type) -> Any:
        for base in kind.__mro__:
            name = f"{base.__module__}.{base.__qualname__}"
            if name in _CODECS:
                return {TAG: "codec", "of": name, "v": self.tree(_taken_apart(value, _CODECS[name]))}
        if is_dataclass(value) and kind.__module__ in SOCKET_MODULES and all(each.init for each in fields(value)):
            parts = [[each.name, self.tree(getattr(value, each.name))] for each in fields(value)]
            return {TAG: "data", "of": [kind.__module__, kind.__qualname__], "v": parts}
        raise CannotKeep(f"a {kind.__qualname__} has no codec")


class _Reader:
    def __init__(self, buffers: Iterable[Buffer]) -> None:
        self.buffers = iter(buffers)
        self.known: list[Any] = []

    def value(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self.value(item) for item in cast(list[Any], tree)]
        if not isinstance(tree, dict):
            return tree
        tree = cast(dict[str, Any], tree)
        kind = tree[TAG]
        if kind == "float":
            return float(tree["v"])
        if kind == "tuple":
            return tuple(self.value(tree["v"]))
        if kind == "dict":
            return {self.value(key): self.value(item) for key, item in tree["v"]}
        if kind == "buffer":
            return next(self.buffers)
        if kind == "stream":
            return Stream[Any].of(self.value(tree["v"]))
        if kind == "same":
            return self.known[tree["v"]]
        if kind == "codec":
            made = _CODECS[tree["of"]].put_together(self.value(tree["v"]))
        else:
            cls = _dataclass(*tree["of"])
            made = cls(**{name: self.value(part) for name, part in tree["v"]})
        self.known.append(made)
        return made


def _taken_apart(value: Any, of: Codec) -> Any:
    try:
        return of.take_apart(value)
    except CannotKeep:
        raise
    except Exception as error:  # a pack's codec must not end the run whose results it keeps
        raise CannotKeep(f"the codec of a {type(value).__qualname__} failed ({error})") from error


def _items(stream: Stream[Any]) -> Sequence[Any]:
    if stream.items is None:
        raise CannotKeep("a stream is a function, it is made again")
    return stream.items


def _dataclass(module: str, name: str) -> Callable[..., Any]:
    """The dataclass of that name in a loaded module that defines sockets; nothing is imported for a file's sake."""
    if module not in SOCKET_MODULES:
        raise ValueError(f"No socket stands in {module}.")
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = cast(Any, vars(found)[part])
    if not (isinstance(found, type) and is_dataclass(found) and found.__module__ == module):
        raise ValueError(f"{module}.{name} is no dataclass.")
    return found
