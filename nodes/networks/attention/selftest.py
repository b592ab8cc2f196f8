"""Whether a way to compute attention gives what SDPA gives, clip by clip in float32. Chooses none."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import cache
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from kineograph.nodes.networks.attention.backends import SDPA, Backend, Case
from kineograph.nodes.networks.attention.segments import Segments
from kineograph.nodes.networks.packing import Runs

ALLOWED = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest difference, over the largest value. SDPA's own rounding leads to 9e-4 in float16, to 8e-3 in bfloat16."""
TINY = ((1, 5, 2), (2, 3, 3), (1, 9, 0))
"""(clips, tokens, text tokens) of each batch."""
TIMED = ((1, 512, 16), (2, 256, 16), (4, 128, 16))


class Given(NamedTuple):
    """Queries, keys and values of batches of clips, and who sees whom."""

    qs: list[Tensor]
    ks: list[Tensor]
    vs: list[Tensor]
    segments: Segments


@cache
def fault(backend: Backend, case: Case) -> str:
    """Why a backend must not be used, as a clause: it raises, or gives something else; empty where it is right.

    It takes milliseconds, and once a process.
    """
    try:
        found = difference(backend, case)
    except Exception as error:  # noqa: BLE001  a library that was built for another torch raises anything
        return f"its self-test failed: {type(error).__name__}: {(str(error) or 'no reason given').splitlines()[0]}"
    if found <= ALLOWED.get(case.dtype, ALLOWED[torch.float32]):
        return ""
    return f"its self-test gave values that are {found:.1g} off from SDPA's"


def difference(backend: Backend, case: Case) -> float:
    """The largest difference from SDPA in float32, over its largest value; of gradients too, where they are recorded.

    It is infinite where something is nan.
    """
    own = given(TINY, case)
    with torch.autocast(torch.device(case.device).type, enabled=False):
        found = _computed(backend, own, case.grad)
        truth = _computed(SDPA, _in_float32(own), case.grad)
    pairs = [(a.float(), b) for a, b in zip(found, truth, strict=True)]
    most = max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)
    return most if all(a.isfinite().all() for a, _ in pairs) else math.inf


def seconds(backend: Backend, case: Case, rounds: int = 3) -> float:
    """What it takes to compute 4 heads of 7 clips of 128 to 512 tokens, with their text: the median."""
    own = given(TIMED, case)
    taken = []
    with torch.no_grad():
        for _ in range(rounds + 1):  # the first one is not counted
            begun = time.perf_counter()
            out = backend.run(*own)
            out[0].sum().item()  # a GPU has ended then
            taken.append(time.perf_counter() - begun)
    return median(taken[1:])


def given(sizes: Sequence[tuple[int, int, int]], case: Case) -> Given:
    """Random numbers for batches of clips, of whose text the last token is padding."""
    generator = torch.Generator().manual_seed(0)
    heads = 4

    def drawn(clips: int, tokens: int) -> Tensor:
        x = torch.randn(heads, clips, tokens, case.head_width, generator=generator)
        return x.to(case.device, case.dtype)

    qs = [drawn(clips, n) for clips, n, _ in sizes]
    ks, vs = ([drawn(clips, n + text) for clips, n, text in sizes] for _ in range(2))
    seen = [torch.ones(clips, n + text, dtype=torch.bool, device=case.device) for clips, n, text in sizes]
    for mask, (_, _, text) in zip(seen, sizes, strict=True):
        mask[-1, mask.shape[1] - min(text, 1) :] = False
    return Given(qs, ks, vs, Segments(Runs.of(qs, dim=1), seen))


def _in_float32(own: Given) -> Given:
    return own._replace(**{name: [x.detach().float() for x in getattr(own, name)] for name in ("qs", "ks", "vs")})


def _computed(backend: Backend, own: Given, grad: bool) -> list[Tensor]:
    """What a backend makes of numbers, and the gradients with respect to them."""
    leaves = [*own.qs, *own.ks, *own.vs]
    with torch.set_grad_enabled(grad):
        for leaf in leaves:
            leaf.requires_grad_(grad)
        out = backend.run(*own)
    if not grad:
        return out
    generator = torch.Generator().manual_seed(1)
    probes = [torch.randn(each.shape, generator=generator).to(each) for each in out]
    return [each.detach() for each in out] + list(torch.autograd.grad(out, leaves, probes))
