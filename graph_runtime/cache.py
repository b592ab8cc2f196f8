"""Outputs by key in memory, counted in bytes; the cheapest to make again per byte go first. Knows no graph.

Eviction is GreedyDual-Size (Cao & Irani 1997): priority = clock + seconds / bytes, the clock rises to each victim's.
"""

from __future__ import annotations

import heapq
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

from kineograph.graph_runtime.sockets import Stream

DEFAULT_BYTES = 2 * 2**30


@dataclass(slots=True)
class Entry:
    """The outputs of one step, what they weigh and what it cost to make them."""

    outputs: tuple[Any, ...]
    nbytes: int
    seconds: float
    priority: float


class MemoryCache:
    """A bounded map from key to outputs, safe to share among threads."""

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self.max_bytes = max_bytes
        self.used = 0
        self._entries: dict[str, Entry] = {}
        self._heap: list[tuple[float, str]] = []
        self._clock = 0.0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        """The entry of a key, which is now worth keeping again; or None."""
        entry = self._entries.get(key)
        if entry is not None:
            with self._lock:
                entry.priority = self._clock + entry.seconds / entry.nbytes
        return entry

    def put(self, key: str, outputs: tuple[Any, ...], nbytes: int, seconds: float) -> None:
        """Keep outputs, and let go of others where the bytes do not suffice."""
        nbytes = max(nbytes, 1)
        if nbytes > self.max_bytes:
            return
        with self._lock:
            old = self._entries.pop(key, None)
            self.used += nbytes - (old.nbytes if old else 0)
            entry = Entry(outputs, nbytes, seconds, self._clock + seconds / nbytes)
            self._entries[key] = entry
            heapq.heappush(self._heap, (entry.priority, key))
            while self.used > self.max_bytes:
                self._evict()

    def _evict(self) -> None:
        priority, key = heapq.heappop(self._heap)
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry.priority > priority:  # it was read since: its place in the heap is out of date
            heapq.heappush(self._heap, (entry.priority, key))
            return
        self._clock = priority
        self.used -= entry.nbytes
        del self._entries[key]

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._entries.clear()
            self._heap.clear()
            self.used = 0


def nbytes(value: Any) -> int:
    """The bytes that a value holds: tensors and modules by their storage, each storage once; the rest roughly."""
    if value is None or isinstance(value, (int, float, bool)):
        return 32
    return _nbytes(value, set())


def _nbytes(value: Any, seen: set[int]) -> int:
    if isinstance(value, (str, bytes)):
        return sys.getsizeof(value)
    if isinstance(value, type):
        return 0
    if hasattr(value, "to_local"):  # a sharded tensor: what lies in this process
        value = value.to_local()
    if hasattr(value, "untyped_storage"):  # asked before its id: a network makes its tensors anew, in places of others
        memory = value.untyped_storage()
        known = memory.data_ptr() in seen
        seen.add(memory.data_ptr())
        return 0 if known else int(memory.nbytes())
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if getattr(value, "resident", None) is not None:  # weights that come and go are counted where they are
        return 64
    return 64 + sum(_nbytes(part, seen) for part in parts(value)) + _own(value)


def _own(value: Any) -> int:
    size = getattr(value, "nbytes", 0)  # an array's
    return size if isinstance(size, int) else 0


def parts(value: Any) -> Iterable[Any]:
    """What a value holds."""
    if isinstance(value, dict):
        return cast(dict[Any, Any], value).values()
    if isinstance(value, (tuple, list, set, frozenset)):
        return cast(Iterable[Any], value)
    if isinstance(value, Stream):
        return (cast(Stream[Any], value).held,)
    if is_dataclass(value):
        return [getattr(value, part.name) for part in fields(value)]
    if hasattr(value, "state_dict"):
        return value.state_dict().values()
    return ()
