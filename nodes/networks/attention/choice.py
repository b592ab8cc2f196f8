"""Which way of computing attention is taken: the one that was named, or the best for the device. One entry for all."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from kineograph.nodes.networks.attention.backends import BACKENDS, HALVES, SDPA, Backend, Case
from kineograph.nodes.networks.attention.segments import Segments
from kineograph.nodes.networks.attention.selftest import fault
from kineograph.numerics import AUTO, attention

BEST = ("varlen", "xformers")
"""What is tried before SDPA in half precision where none was named; each says itself where it cannot be had."""

_log = logging.getLogger(__name__)
_forced: ContextVar[str] = ContextVar("_forced", default="")
_taken: ContextVar[Backend] = ContextVar("_taken", default=SDPA)


def attend_within(
    qs_HBND: Sequence[Tensor], ks_HBMD: Sequence[Tensor], vs_HBMD: Sequence[Tensor], segments: Segments
) -> list[Tensor]:
    """Attention of each clip within itself: what a block-diagonal mask over a packed sequence would give.

    Each element is a batch of clips of one size. On a CPU they are taken one after another; on CUDA, in half
    precision, one kernel takes all.

    Args:
        qs_HBND: (heads, B, N, D) queries of each batch.
        ks_HBMD: (heads, B, M, D) keys.
        vs_HBMD: (heads, B, M, D) values.
        segments: where clips begin and end, and which keys are seen.

    Returns:
        (heads, B, N, D) for each batch.

    Raises:
        ValueError: the way that was named cannot be taken here, or does not give what SDPA gives.
    """
    backend = SDPA
    if not isinstance(qs_HBND[0], FakeTensor):  # whose numbers, and so the length of what is seen, nobody knows
        backend = chosen(Case.of(qs_HBND[0], ks_HBMD[0], vs_HBMD[0]), packed=len(qs_HBND) > 1)
    take(backend)
    return backend.run(qs_HBND, ks_HBMD, vs_HBMD, segments)


def chosen(case: Case, packed: bool) -> Backend:
    """The way that is taken.

    Args:
        case: what is computed.
        packed: clips of several sizes are; a single batch is left to SDPA, where nobody named another way.

    Raises:
        ValueError: the way that was named cannot be taken here, or does not give what SDPA gives.
    """
    name = asked()
    if name == AUTO:
        return best(case) if packed else SDPA
    return named(name, case)


def asked() -> str:
    """What was asked for: one of ``numerics.ATTENTIONS``."""
    return _forced.get() or attention()


@cache
def named(name: str, case: Case) -> Backend:
    """The way of a name.

    Raises:
        ValueError: it cannot be taken here, or does not give what SDPA gives.
    """
    backend = BACKENDS[name]
    if backend is not SDPA and (why := backend.lacks(case) or fault(backend, case)):
        raise ValueError(f"The attention {name!r} was asked for, but {why}. Leave --attention out, or name another.")
    return backend


@cache
def best(case: Case) -> Backend:
    """The first way that can be taken and that gives what SDPA gives."""
    for name in BEST if case.dtype in HALVES else ():
        backend = BACKENDS[name]
        if backend.lacks(case):
            continue
        if not (why := fault(backend, case)):
            return backend
        _log.warning("The attention %r is there, but %s. It is not used.", name, why)
    return SDPA


def take(backend: Backend) -> None:
    """Remember that attention is computed in this way now."""
    _taken.set(backend)


def last_taken() -> Backend:
    """The way that was taken last."""
    return _taken.get()


@contextmanager
def ground_truth() -> Iterator[None]:
    """Take SDPA, whatever was named."""
    before = _forced.set(SDPA.name)
    try:
        yield
    finally:
        _forced.reset(before)
