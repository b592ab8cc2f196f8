"""CogVideoX behind the forward of ours: DDPM's timesteps for levels, v for velocity. Knows no files.

CogVideoX: Yang et al. 2024 (arXiv 2408.06072). The networks are diffusers' ``CogVideoXTransformer3DModel`` and
``AutoencoderKLCogVideoX``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from kineograph.nodes.networks.adapters.causal import CausalVAE
from kineograph.nodes.networks.adapters.common import AdaptedDiT, AdapterConfig, one_level
from kineograph.nodes.networks.dit import Batch
from kineograph.nodes.networks.levels import levels_of, without_signal_at_the_end

TIMESTEPS = 1000
BETAS = 0.00085, 0.012


def training_levels(snr_divisor: float) -> Tensor:
    """The levels of CogVideoX's timesteps: (1000,) float64, rising to 1.

    Betas are even in their square roots; the SNR is divided, and then the last timestep made pure noise (Lin et al.
    2024).

    Args:
        snr_divisor: 3 for CogVideoX-2b, 1 for 5b.
    """
    betas = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, TIMESTEPS, dtype=torch.float64).square()
    signal = (1 - betas).cumprod(0)
    signal = signal / (snr_divisor + (1 - snr_divisor) * signal)
    return levels_of(without_signal_at_the_end(signal))


class CogVideoXDiT(AdaptedDiT):
    """CogVideoX's transformer: asked for v of DDPM's x, told the whole timestep of a level."""

    name: ClassVar[str] = "CogVideoX"

    def __init__(self, network: Any, levels: Tensor) -> None:
        """Put an adapter around a ``CogVideoXTransformer3DModel``.

        Args:
            network: of the library.
            levels: (T,) of its timesteps, rising.
        """
        config = network.config
        patch = (1, config.patch_size, config.patch_size)
        super().__init__(network, AdapterConfig(config.out_channels, patch, predicts="v"))
        self.register_buffer("levels_T", levels, persistent=False)

    def ask(self, x_1CthW: Tensor, levels_K: Tensor, text_1LE: Tensor, mask_1L: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        """See :meth:`AdaptedDiT.ask`. Padding is heard, as in training."""
        dtype = self.network.patch_embed.proj.weight.dtype
        level = one_level(levels_K, self.name)
        timestep = (self.levels_T - level).abs().argmin()[None]  # type: ignore[operator]
        frames_first = x_1CthW.transpose(1, 2).to(dtype)
        asked = {"hidden_states": frames_first, "encoder_hidden_states": text_1LE.to(dtype), "timestep": timestep}
        return self.network(**asked, return_dict=False)[0].transpose(1, 2)


class CogVideoXVAE(CausalVAE):
    """CogVideoX's causal autoencoder: 1 + 4k frames; its latents are scaled."""

    name: ClassVar[str] = "CogVideoX"

    @property
    def space(self) -> int:
        """See :attr:`CausalVAE.space`."""
        return 2 ** (len(self.network.config.block_out_channels) - 1)

    def moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`CausalVAE.moments`."""
        scale = torch.tensor(1 / self.network.config.scaling_factor, device=like.device)
        return torch.zeros_like(scale), scale
