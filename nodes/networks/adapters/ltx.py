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

TIMESTEPS = 1000.0
RATIO = 8
"""Frames per latent frame of every LTX-Video."""
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

    @property
    def passes(self) -> bool:
        """See :attr:`AdaptedDiT.passes`: models that count time as their VAE does were trained so."""
        return self.causal

    def tokens(self, clip: Batch) -> Tensor:
        """See :meth:`AdaptedDiT.tokens`: tokens are the network's own."""
        assert clip.grid is not None
        x_1NC = clip.tokens_BNC.to(self.network.proj_in.weight.dtype)
        told = clip.levels_BK * TIMESTEPS
        if told.shape[1] > 1:  # a level for every token
            told = told.repeat_interleave(x_1NC.shape[1] // told.shape[1], dim=1)
        else:
            told = told[0]
        places = {"video_coords": starts(clip)} if self.causal else {"rope_interpolation_scale": clip.cell}
        t, h, w = clip.grid
        return self.network(
            hidden_states=x_1NC,
            encoder_hidden_states=clip.text_BLE.to(x_1NC.dtype),
            encoder_attention_mask=clip.text_mask_BL,
            timestep=told,
            num_frames=t,
            height=h,
            width=w,
            return_dict=False,
            **places,
        )[0]


def starts(clip: Batch) -> Tensor:
    """Where the tokens of a clip begin, as models since 0.9.5 count: the first latent frame lasts one frame.

    Args:
        clip: one clip; tokens beyond its grid are pictures at points in time.

    Returns:
        (1, 3, N): seconds, pixels down, pixels right.
    """
    assert clip.grid is not None and clip.cell is not None
    t, h, w = clip.grid
    seconds = clip.cell[0] / RATIO  # of a frame
    device = clip.positions_BN3.device
    own_t = (torch.arange(t, device=device) * RATIO + 1 - RATIO).clamp(min=0)
    beside_n = clip.positions_BN3[0, t * h * w :: h * w, 0] / seconds
    frames = torch.cat([own_t, beside_n.round()]).float()
    down, right = (torch.arange(count, device=device) * size for count, size in ((h, clip.cell[1]), (w, clip.cell[2])))
    return torch.stack([each.flatten() for each in torch.meshgrid(frames * seconds, down, right, indexing="ij")])[None]


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
        where = [raw_BCthw.device] if raw_BCthw.is_cuda else []
        with torch.random.fork_rng(where):  # the decoder of 0.9.1 draws noise in its blocks, and takes no generator
            torch.manual_seed(0)
            return self.network.decode(self.plain(raw_BCthw), told, return_dict=False)[0]
