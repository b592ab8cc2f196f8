"""A watch over what a network says: nan and infinite numbers are found where they arise. Knows no node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from kineograph.nodes.networks.attention.backends import SDPA
from kineograph.nodes.networks.attention.choice import ground_truth, last_taken


class NotFinite(ArithmeticError):
    """A network said nan or infinity.

    Attributes:
        remedy: within what the same may be computed once more; None where nothing else is to be tried.
    """

    def __init__(self, message: str, remedy: Callable[[], AbstractContextManager[None]] | None) -> None:
        super().__init__(message)
        self.remedy = remedy


def check_finite(said: Sequence[Tensor]) -> None:
    """Refuse what a network said while it samples, if it is not all numbers. Gradients are watched elsewhere.

    Args:
        said: (B, N, C) of each batch.

    Raises:
        NotFinite: with SDPA as the remedy, if attention was computed in another way.
    """
    if torch.is_grad_enabled() or any(isinstance(part, FakeTensor) for part in said):
        return
    if all(part.sum().isfinite() for part in said):  # looking at every number takes 40 times as long
        return
    wrong = sum(int((~part.isfinite()).sum()) for part in said)
    if not wrong:  # the sum alone is too large
        return
    numbers, used = sum(part.numel() for part in said), last_taken()
    found = f"{wrong:,} of the {numbers:,} numbers that the model said are nan or infinite"
    if used is not SDPA:
        raise NotFinite(f"{found}; it runs again with attention by SDPA, not by {used.name}", ground_truth)
    advice = "What it was given or its weights hold such numbers, or float16 overflows where bfloat16 would not."
    raise NotFinite(f"{found}. {advice}", None)
