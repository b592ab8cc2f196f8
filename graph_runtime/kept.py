"""What was made before, and what is kept of what was just made: the memory cache, the store. Runs nothing."""

from __future__ import annotations

import time
from typing import Any

from kineograph.graph_runtime.cache import MemoryCache, nbytes
from kineograph.graph_runtime.codecs import CannotKeep
from kineograph.graph_runtime.events import NodeFinished, NotKept
from kineograph.graph_runtime.keys import named_parts
from kineograph.graph_runtime.resume import Passes
from kineograph.graph_runtime.run_state import RunState, ignore
from kineograph.graph_runtime.steps import Step
from kineograph.graph_runtime.store import BYTES_A_SECOND, Store, StoreFault

ABSENT: Any = object()
"""Stands in a slot whose value is not made yet, or is gone."""
Hit = tuple[Step, tuple[Any, ...], list[Any]]
"""A step that need not run, its outputs, and the (name, step, value) of the numbers that it reported."""


def known(step: Step, cache: MemoryCache, store: Store | None) -> Hit | None:
    """A step's outputs from memory, else, with the numbers that it reported, from the store."""
    entry = cache.get(step.key) if step.cacheable else None
    if entry is not None:
        return step, entry.outputs, []
    found = store.get(step.key) if store is not None and step.stored else None
    if found is None:
        return None
    outputs, kept = found
    if step.cacheable:
        cache.put(step.key, outputs, nbytes(outputs), kept.seconds)
    return step, outputs, kept.more["metrics"]


def states_of(step: Step, state: RunState) -> Passes | None:
    """What keeps the states of a loop; a recorded one has a history that serves only once."""
    if state.store is None or step.loop is None or step.record or state.cut:
        return None

    def complain(reason: str) -> None:
        state.listen(NotKept(step.path, reason))

    return Passes(state.store, step, state.keep_every, complain)


def keep(
    step: Step,
    values: list[Any],
    cache: MemoryCache,
    state: RunState,
    seconds: float,
    started: float,
    passes: Passes | None = None,
) -> None:
    """Keep what a step made, tell that it ended, and let go of what nobody reads any more."""
    state.ran += 1
    outputs = tuple([values[slot] for _, slot in step.outputs])
    size = nbytes(outputs[0] if len(outputs) == 1 else outputs) if outputs else 0
    if state.cut:
        if passes is not None:  # of the loop that was cut: it can go on
            passes.stopped()
    else:
        if step.cacheable and step.branch is None:  # a branch has nothing of its own, its side is kept
            cache.put(step.key, outputs, size, seconds)
        kept = state.store is not None and _store(step, outputs, seconds, state.store, state)
        if passes is not None:
            passes.finished(kept)
    if state.listen is not ignore:
        state.listen(NodeFinished(step.path, step.type_id, time.perf_counter() - started, size))
    for slot in step.frees:
        values[slot] = ABSENT


def _store(step: Step, outputs: tuple[Any, ...], seconds: float, store: Store, state: RunState) -> bool:
    """Keep what a step made, if it is worth it; whether it is kept.

    A slot's debt is what it would take to have it again: a decoder may be fast, but its weights must be loaded first.
    """
    debt = seconds + sum(state.debts.get(slot, 0.0) for _, slot in step.arguments)
    kept = 0
    try:
        if step.stored and outputs and store.worth(debt):
            metrics = [(metric.name, metric.step, metric.value) for metric in state.told.get(step.path, ())]
            more = {"path": step.path, "metrics": metrics, "parts": named_parts(*step.parts)}
            kept = store.put(step.key, outputs, debt, more=more)
    except CannotKeep:  # a stream that is made again, a class of a pack that says nothing
        pass
    except StoreFault as fault:
        state.listen(NotKept(step.path, f"{fault}; the next run computes it again"))
    state.debts.update((slot, kept / BYTES_A_SECOND if kept else debt) for _, slot in step.outputs)
    return kept > 0
