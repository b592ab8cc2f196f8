"""LTX-Video behind the forward of ours: places in seconds and pixels, a timestep for every token. Knows no files.

LTX-Video: HaCohen et al. 2024 (arXiv 2501.00103). The networks are diffusers' ``LTXVideoTransformer3DModel`` and
``AutoencoderKLLTXVideo``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from kineograph.nodes.networks.adapters.causal import CausalVAE
from kineograph.nodes.networks.adapters.common import AdaptedDiT, AdapterConfig
from kineograph.nodes.networks.dit import Batch
from kineograph.nodes.networks.patches import patchify, unpatchify

TIMESTEPS = 1000.0
DECODED_AT, DECODED_WITH = 0.05, 0.025
"""Level and share of noise that decoders with a timestep are given, as the model's authors do."""


class LTXDiT(AdaptedDiT):
    """LTX-Video's transformer: velocity of the flow, told a timestep 1000 s for the clip or per token."""

    name: ClassVar[str] = "LTX-Video"

    def __init__(self, network: Any, *, causal: bool = False) -> None:
        """Put an adapter around a ``LTXVideoTransformer3DModel``.

        Args:
            network: of the library; not copied.
            causal: whether it was trained to count time as its VAE does, the first latent frame as one frame.
        """
        config = network.config
        patch = (config.patch_size_t, config.patch_size, config.patch_size)
        super().__init__(network, AdapterConfig(config.out_channels, patch))
        self.causal = causal

    def ask(self, x_1CthW: Tensor, levels_K: Tensor, text_1LE: Tensor, mask_1L: Tensor, batch: Batch) -> Tensor:
        """See :meth:`AdaptedDiT.ask`."""
        assert batch.grid is not None
        dtype = self.network.proj_in.weight.dtype
        told = levels_K * TIMESTEPS
        if len(told) > 1:  # a level for every token
            told = told.repeat_interleave(batch.tokens_BNC.shape[1] // len(told))[None]
        t, h, w = batch.grid
        said = self.network(
            hidden_states=patchify(x_1CthW, self.config.patch).to(dtype),
            encoder_hidden_states=text_1LE.to(dtype),
            encoder_attention_mask=mask_1L,
            timestep=told,
            num_frames=t,
            height=h,
            width=w,
            rope_interpolation_scale=batch.cell,
            return_dict=False,
        )[0]
        return unpatchify(said, batch.grid, self.config.patch)


class LTXVAE(CausalVAE):
    """LTX-Video's autoencoder: 1 + 8k frames. Its encoder is causal."""

    name: ClassVar[str] = "LTX-Video"

    @property
    def ratio(self) -> int:
        """See :attr:`CausalVAE.ratio`."""
        return self.network.temporal_compression_ratio

    @property
    def space(self) -> int:
        """See :attr:`CausalVAE.space`."""
        return self.network.spatial_compression_ratio

    def moments(self, like: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002  they lie where the network does
        """See :meth:`CausalVAE.moments`."""
        scaling = self.network.config.scaling_factor
        means, deviations = self.network.latents_mean.float(), self.network.latents_std.float() / scaling
        return means.view(1, -1, 1, 1, 1), deviations.view(1, -1, 1, 1, 1)

    def clip(self, raw_BCthw: Tensor) -> Tensor:
        """See :meth:`CausalVAE.clip`. Decoders with a timestep are given some noise."""
        told = None
        if self.network.config.timestep_conditioning:
            # always the same noise: what is decoded does not depend on a draw of its own
            noise = torch.randn(raw_BCthw.shape, generator=torch.Generator().manual_seed(0)).to(raw_BCthw)
            raw_BCthw = torch.lerp(raw_BCthw, noise, DECODED_WITH)
            told = self.plain(raw_BCthw.new_full((len(raw_BCthw),), DECODED_AT))
        return self.network.decode(self.plain(raw_BCthw), told, return_dict=False)[0]
