"""A prior over videos that is known in closed form: an oracle for everything that samples. Knows no text, no weights.

Every latent cell is a Gaussian process along time, of mean 0 and variance 1, without regard to its neighbours in space.
Noisy tokens are then jointly Gaussian too, at any mixture of noise levels, so the velocity that a perfectly trained
network would predict is a linear map of them, and what sampling must give is known: the conditional distribution.

Letters: B clips, N tokens, M tokens of one place in space, P places, C numbers of a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from kineograph.nodes.networks.dit import Batch, Through

KERNELS = ("markov", "smooth")
_TURNS = 8  # of a circle, forwards and backwards, after which a kernel has died away


@dataclass(frozen=True)
class GaussianConfig:
    """What a :class:`GaussianPrior` believes.

    Attributes:
        seconds: over which a cell forgets: the kernel falls to 1 / e (markov), or to 1 / sqrt(e) (smooth).
        kernel: markov, exp(-|d| / seconds), the AR(1) process, whose paths are rough; or smooth,
            exp(-d² / (2 seconds²)), which has velocities.
        patch: (pt, ph, pw) latent cells per token.
        predicts: the velocity of the flow.
        data_std: deviation of the data.
    """

    seconds: float = 2.0
    kernel: str = "smooth"
    patch: tuple[int, int, int] = (1, 1, 1)
    predicts: str = "velocity"
    data_std: float = 1.0

    def __post_init__(self) -> None:
        """Take lists for tuples, as JSON has them."""
        object.__setattr__(self, "patch", tuple(self.patch))
        if self.kernel not in KERNELS or not self.seconds > 0:
            raise ValueError(f"A prior has a kernel of {', '.join(KERNELS)} and seconds above 0, not {self}.")


def covariance(first_M: Tensor, second_M: Tensor, config: GaussianConfig, period: float | None = None) -> Tensor:
    """How a cell's values at two moments go together.

    Args:
        first_M: (..., M) seconds.
        second_M: (..., M') seconds.
        config: the kernel.
        period: seconds after which time comes round; the kernel is then summed over all turns, and scaled to 1.

    Returns:
        (..., M, M') float64.
    """
    distance = first_M.double()[..., :, None] - second_M.double()[..., None, :]
    if period is None:
        return _kernel(distance, config)
    turns = torch.arange(-_TURNS, _TURNS + 1, dtype=torch.float64, device=distance.device) * period
    return _kernel(distance[..., None] + turns, config).sum(-1) / _kernel(turns, config).sum()


class GaussianPrior(nn.Module):
    """Stands where a DiT stands, and predicts the velocity that is right for a Gaussian world; it reads no text."""

    def __init__(self, config: GaussianConfig) -> None:
        """Build; there are no weights.

        Args:
            config: the prior.
        """
        super().__init__()
        self.config = config

    def forward(self, batches: Sequence[Batch], *, through: Through | None = None) -> list[Tensor]:  # noqa: ARG002
        """E[e - x0 | x] at every token, where x = (1 - s) x0 + s e at a level s of its own.

        With K the covariance of x0, D = diag(1 - s) and S = diag(s), x has the covariance D K D + S², and the
        velocity is (S - K D) (D K D + S²)⁻¹ x. Where s is 0, the token is known.

        Args:
            batches: clips of one size each, whose tokens stand in the order of time, places within.
            through: as a DiT takes it; there are no blocks here.
        """
        return [self._velocity(batch) for batch in batches]

    def _velocity(self, batch: Batch) -> Tensor:
        positions_N3 = batch.positions_BN3[0]
        tokens = len(positions_N3)
        moments = int((positions_N3[:, 1:] == positions_N3[:1, 1:]).all(-1).sum())
        seconds_M = positions_N3[:, 0].unflatten(0, (moments, -1))[:, 0]
        levels_BN = batch.levels_BK.double().repeat_interleave(tokens // batch.levels_BK.shape[1], dim=1)
        x_BPMC = batch.tokens_BNC.double().unflatten(1, (moments, -1)).transpose(1, 2)
        s_BPM = levels_BN.unflatten(1, (moments, -1)).transpose(1, 2)
        k_MM = covariance(seconds_M, seconds_M, self.config, batch.period)
        signal, noise = (1 - s_BPM)[..., None], torch.diag_embed(s_BPM)
        seen_BPMM = signal * k_MM * signal.mT + noise.square()
        ridge = 1e-9 * torch.eye(moments, dtype=torch.float64, device=seen_BPMM.device)  # two known tokens may agree
        v_BPMC = (noise - k_MM * signal.mT) @ torch.linalg.solve(seen_BPMM + ridge, x_BPMC)
        return v_BPMC.transpose(1, 2).flatten(1, 2).float()


def _kernel(distance: Tensor, config: GaussianConfig) -> Tensor:
    if config.kernel == "markov":
        return (-distance.abs() / config.seconds).exp()
    return (-0.5 * (distance / config.seconds).square()).exp()
