"""Mochi behind the forward of ours: its time runs from noise at 0 to the clip at 1. Knows no files.

Mochi 1: Genmo 2024 (github.com/genmoai/mochi). The networks are diffusers' ``MochiTransformer3DModel`` and
``AutoencoderKLMochi``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from kineograph.nodes.networks.adapters.causal import CausalVAE
from kineograph.nodes.networks.adapters.common import AdaptedDiT, AdapterConfig, one_level
from kineograph.nodes.networks.dit import Batch

TIMESTEPS = 1000.0
# the library keeps its rotary table out of autocast in a way that torch warns of on a CPU, where it changes nothing
warnings.filterwarnings("ignore", "In CPU autocast", UserWarning, r"diffusers\..*mochi")


class MochiDiT(AdaptedDiT):
    """Mochi's transformer: told 1000 (1 - s) of a level s, and asked for x0 - e, the velocity's opposite."""

    name: ClassVar[str] = "Mochi"

    def __init__(self, network: Any) -> None:
        """Put an adapter around a ``MochiTransformer3DModel``."""
        config = network.config
        patch = (1, config.patch_size, config.patch_size)
        super().__init__(network, AdapterConfig(config.out_channels or config.in_channels, patch))

    def ask(self, x_1CthW: Tensor, levels_K: Tensor, text_1LE: Tensor, mask_1L: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        """See :meth:`AdaptedDiT.ask`."""
        dtype = self.network.patch_embed.proj.weight.dtype
        return -self.network(
            hidden_states=x_1CthW.to(dtype),
            encoder_hidden_states=text_1LE.to(dtype),
            timestep=(1 - one_level(levels_K, self.name)) * TIMESTEPS,
            encoder_attention_mask=mask_1L,
            return_dict=False,
        )[0]


class MochiVAE(CausalVAE):
    """Mochi's causal autoencoder: 1 + 6k frames; its latents have mean 0 and deviation 1.

    Its encoder looks back over all frames, so it takes a clip as a whole; its decoder goes on from frame to frame.
    """

    name: ClassVar[str] = "Mochi"
    mean_C: Tensor
    deviation_C: Tensor

    def __init__(self, network: Any) -> None:
        """Put an adapter around an ``AutoencoderKLMochi``, built by ``families.mochi``."""
        super().__init__(network)
        config = network.config
        means = torch.tensor(config.latents_mean or [0.0] * config.latent_channels, device="cpu")
        deviations = torch.tensor(config.latents_std or [1.0] * config.latent_channels, device="cpu")
        # float32 and not on the meta device, whatever the network is: numbers of its configuration
        self.register_buffer("mean_C", means, persistent=False)
        self.register_buffer("deviation_C", deviations / config.scaling_factor, persistent=False)

    @property
    def ratio(self) -> int:
        """See :attr:`CausalVAE.ratio`."""
        return self.network.temporal_compression_ratio

    @property
    def space(self) -> int:
        """See :attr:`CausalVAE.space`."""
        return self.network.spatial_compression_ratio

    def moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`CausalVAE.moments`."""
        shift, scale = (each.to(like.device).view(1, -1, 1, 1, 1) for each in (self.mean_C, self.deviation_C))
        return shift, scale

    def clips(self, raw_BCthw: Tensor) -> Iterator[Tensor]:
        """See :meth:`CausalVAE.clips`: one latent frame after another, in memory that does not grow with the clip."""
        seen = None
        for number, part in enumerate(raw_BCthw.split(1, dim=2)):
            clip, seen = self.network.decoder(self.plain(part), conv_cache=seen)
            yield clip[:, :, 0 if number else self.ratio - 1 :]
