"""How sure a number is: 95 % intervals of shares, means and ratios over clips. Knows no video.

Letters: B clips, R resamples. A clip whose value is nan could not be measured: it is left out, and not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Z = 1.959964
"""Standard deviations on either side that hold 95 % of a normal distribution."""
RESAMPLES = 2000
_TAIL = (1 - math.erf(Z / math.sqrt(2))) / 2


class Estimate(NamedTuple):
    """A number with the ends of its 95 % interval; nan where no clip could be measured."""

    value: float
    low: float
    high: float
    clips: int

    @property
    def known(self) -> bool:
        """Whether any clip could be measured."""
        return math.isfinite(self.value)


UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0)


def share(hits_B: Tensor) -> Estimate:
    """The share of clips that hit, with Wilson's score interval (Wilson 1927), which is right for few clips too."""
    count = hits_B.numel()
    if not count:
        return UNKNOWN
    found = hits_B.double().mean().item()
    middle = (found + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * math.sqrt(found * (1 - found) / count + Z * Z / (4 * count * count))
    # the ends touch the share itself where all or none hit, but for rounding
    return Estimate(found, max(0.0, min(found, middle - half)), min(1.0, max(found, middle + half)), count)


def mean(values_B: Tensor, seed: int = 0) -> Estimate:
    """The mean over clips, with the percentile bootstrap's interval (Efron 1979): narrow for fewer than ten clips."""
    return ratio(values_B, torch.ones_like(values_B), seed)


def ratio(over_B: Tensor, under_B: Tensor, seed: int = 0) -> Estimate:
    """The ratio of two means over the same clips, with the percentile bootstrap's interval.

    Of means and not the mean of ratios: a clip in which nearly nothing moves then weighs nearly nothing.
    """
    over_B, under_B = over_B.double(), under_B.double()
    measured = over_B.isfinite() & under_B.isfinite()
    over_B, under_B = over_B[measured], under_B[measured]
    if not len(over_B) or under_B.sum() <= 0:
        return UNKNOWN
    drawn_RB = _drawn(len(over_B), seed)
    again_R = over_B[drawn_RB].sum(1) / under_B[drawn_RB].sum(1).clamp(min=1e-12)
    return Estimate((over_B.sum() / under_B.sum()).item(), *_ends(again_R), len(over_B))


def of_means(values_KB: Tensor, statistic: Callable[[Sequence[float]], float], seed: int = 0) -> Estimate:
    """What a function makes of K means over the same clips, with the percentile bootstrap's interval."""
    count = values_KB.shape[1]
    again_RK = values_KB.double()[:, _drawn(count, seed)].mean(2).T
    again_R = torch.tensor([statistic(means) for means in again_RK.tolist()], dtype=torch.float64)
    return Estimate(statistic(values_KB.double().mean(1).tolist()), *_ends(again_R), count)


def _drawn(count: int, seed: int) -> Tensor:
    return torch.randint(count, (RESAMPLES, count), generator=torch.Generator().manual_seed(seed))


def _ends(again_R: Tensor) -> tuple[float, float]:
    low, high = again_R.quantile(torch.tensor([_TAIL, 1 - _TAIL], dtype=torch.float64)).tolist()
    return low, high
