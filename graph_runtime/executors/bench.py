"""Runs units one after another, and keeps what they share: the nodes, the memory, the store. Knows no process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kineograph.graph_runtime.cache import nbytes
from kineograph.graph_runtime.codecs import CannotKeep, encode
from kineograph.graph_runtime.errors import InvalidWorkflow, Problem
from kineograph.graph_runtime.events import Listener
from kineograph.graph_runtime.execute import Outcome
from kineograph.graph_runtime.executors.units import Output, WorkUnit
from kineograph.graph_runtime.resume import KeepEvery
from kineograph.graph_runtime.run_state import Place
from kineograph.graph_runtime.steps import Plan
from kineograph.graph_runtime.store import Store, StoreFault

INLINE_BYTES = 16 * 1024
"""What has more goes through the store."""


class Runs(Protocol):
    """What a bench needs of a ``Runtime``."""

    store: Store | None

    @property
    def numerics(self) -> str:
        """What besides the graph decides the bits of tensors."""
        ...

    def plan(self, source: dict[str, Any], inputs: Mapping[str, Any] | None, *, outputs: Iterable[str] | None) -> Plan:
        """What would run."""
        ...

    def run(
        self,
        source: dict[str, Any],
        inputs: Mapping[str, Any] | None,
        *,
        outputs: Iterable[str] | None,
        out: str,
        listen: Listener | None,
        cancel: threading.Event | None,
        finish: threading.Event | None,
        keep_every: KeepEvery | None,
        at: Place | None,
        memory: int | None,
        previews: float,
    ) -> Outcome:
        """Run a workflow."""
        ...


MakeRuntime = Callable[[Sequence[str]], Runs]
"""The runtime over the built-in nodes and these folders of packs."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What may be wished of a run while it runs: to stop, or that the loop that runs ends after its pass."""

    cancel: threading.Event = field(default_factory=threading.Event)
    finish: threading.Event = field(default_factory=threading.Event)


class Bench:
    """Runs units, one at a time; the next one finds in memory what the last one left.

    Args:
        make: makes the runtime, when the first unit comes or one with other packs.
    """

    def __init__(self, make: MakeRuntime) -> None:
        self._make = make
        self._packs: tuple[str, ...] | None = None
        self._runtime: Runs | None = None
        self._store: Store | None = None
        self._store_of: tuple[str, int] = ("", 0)

    def run(self, unit: WorkUnit, listen: Listener, wishes: Wishes, at: Place) -> tuple[Outcome, dict[str, str]]:
        """Run a unit; returns what it gave and the keys of its outputs.

        Raises:
            InvalidWorkflow: before anything ran.
            NodeFailed: a node raised.
            Cancelled: it was asked to stop.
        """
        runtime = self._ready(unit)
        plan = runtime.plan(unit.workflow, unit.inputs, outputs=unit.outputs)
        outcome = runtime.run(
            unit.workflow,
            unit.inputs,
            outputs=unit.outputs,
            out=unit.out,
            listen=listen,
            cancel=wishes.cancel,
            finish=wishes.finish,
            keep_every=unit.keep_every,
            at=at,
            memory=unit.memory or None,
            previews=unit.previews,
        )
        return outcome, {name: plan.keys[slot] for name, slot in plan.outputs.items()}

    def _ready(self, unit: WorkUnit) -> Runs:
        if self._runtime is None or self._packs != unit.packs:
            self._runtime, self._packs = self._make(unit.packs), unit.packs
        if unit.numerics not in ("", self._runtime.numerics):
            computes = f"This process computes with {self._runtime.numerics or 'no torch'}"
            raise InvalidWorkflow([Problem("numerics", f"{computes}, the run was planned for {unit.numerics}.")])
        if self._store_of != (unit.store, unit.store_bytes):
            self.close()
            try:
                self._store = Store(unit.store, unit.store_bytes) if unit.store else None
            except StoreFault as fault:
                raise InvalidWorkflow([Problem("store", f"It cannot be used: {fault}.", "Name another.")]) from None
            self._store_of = (unit.store, unit.store_bytes)
        self._runtime.store = self._store
        return self._runtime

    def deliver(self, outcome: Outcome, keys: Mapping[str, str], *, small_only: bool = False) -> dict[str, Output]:
        """Put outputs where another process finds them; of large ones only say so where small ones are wanted."""
        return {
            name: self._deliver(keys[name], value, outcome.seconds, small_only)
            for name, value in outcome.outputs.items()
        }

    def _deliver(self, key: str, value: Any, seconds: float, small_only: bool) -> Output:
        try:
            if nbytes(value) <= INLINE_BYTES:
                text, buffers = encode(value)
                if not buffers and len(text) <= INLINE_BYTES:
                    return Output(key, text)
            if small_only:
                return Output(key, lost="only small outputs were asked for")
            if self._store is None:
                return Output(key, lost="it is too large to come without a store")
            self._store.put(key, (value,), seconds, more={"path": "an output"}, always=True)
        except (CannotKeep, StoreFault) as fault:
            return Output(key, lost=str(fault))
        return Output(key)

    def close(self) -> None:
        """Let go of the store."""
        if self._store is not None:
            self._store.close()
        self._store, self._store_of = None, ("", 0)
