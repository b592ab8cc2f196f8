"""LTX-Video behind the forward of ours: places in seconds and pixels, a timestep for every token. Knows no files.

LTX-Video: HaCohen et al. 2024 (arXiv 2501.00103). The networks are diffusers' ``LTXVideoTransformer3DModel`` and
``AutoencoderKLLTXVideo``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kineograph.nodes.networks.adapters.common import AdaptedDiT, AdapterConfig
from kineograph.nodes.networks.dit import Batch
from kineograph.nodes.networks.patches import Time, patchify, unpatchify

TIMESTEPS = 1000.0
DECODED_AT, DECODED_WITH = 0.05, 0.025
"""Level and share of noise that decoders with a timestep are given, as the model's authors do."""


class LTXDiT(AdaptedDiT):
    """LTX-Video's transformer: velocity of the flow, told a timestep 1000 s for the clip or per token."""

    name: ClassVar[str] = "LTX-Video"

    def __init__(self, network: Any) -> None:
        """Put an adapter around a ``LTXVideoTransformer3DModel``."""
        config = network.config
        patch = (config.patch_size_t, config.patch_size, config.patch_size)
        super().__init__(network, AdapterConfig(config.out_channels, patch))

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


class LTXVAE(nn.Module):
    """LTX-Video's autoencoder: 1 + 8k frames, in [0, 1] as ours. Its encoder is causal."""

    def __init__(self, network: Any) -> None:
        """Put an adapter around an ``AutoencoderKLLTXVideo``."""
        super().__init__()
        self.network = network

    def encode(self, video_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of a clip's latent, normalised: mean and log variance.

        Args:
            video_BCTHW: (B, 3, 1 + rk, H, W) in [0, 1], r the time ratio.

        Returns:
            mean and logvar, each (B, c, 1 + k, h, w).

        Raises:
            ValueError: another number of frames.
        """
        ratio, frames = self.network.temporal_compression_ratio, video_BCTHW.shape[2]
        if left := (frames - 1) % ratio:
            raise ValueError(
                f"This VAE is causal and begins with one frame alone: it encodes 1 + a multiple of {ratio} frames, and "
                f"not {frames}. trim_video to {frames - left} frames makes it fit."
            )
        posterior = self.network.encode(self._plain(2 * video_BCTHW - 1)).latent_dist
        shift, scale = self._moments()
        return (posterior.mean.float() - shift) / scale, posterior.logvar.float() - 2 * scale.log()

    def decode(self, latent_BCthw: Tensor, *, time: Time = "line") -> Tensor:
        """The clip of a normalised latent.

        Args:
            latent_BCthw: (B, c, t, h, w).
            time: a line; other clips have no first frame alone.

        Returns:
            (B, 3, 1 + r (t - 1), H, W) in [0, 1].

        Raises:
            ValueError: time is no line.
        """
        if time != "line":
            raise ValueError("LTX-Video's VAE begins with one frame alone: it decodes neither groups alone nor loops.")
        shift, scale = self._moments()
        whole, told = latent_BCthw * scale + shift, None
        if self.network.config.timestep_conditioning:
            # always the same noise: what is decoded does not depend on a draw of its own
            noise = torch.randn(whole.shape, generator=torch.Generator().manual_seed(0)).to(whole)
            whole = torch.lerp(whole, noise, DECODED_WITH)
            told = self._plain(whole.new_full((len(whole),), DECODED_AT))
        decoded = self.network.decode(self._plain(whole), told, return_dict=False)[0]
        return (decoded.float() / 2 + 0.5).clamp(0, 1)

    def _moments(self) -> tuple[Tensor, Tensor]:
        scaling = self.network.config.scaling_factor
        means, deviations = self.network.latents_mean.float(), self.network.latents_std.float() / scaling
        return means.view(1, -1, 1, 1, 1), deviations.view(1, -1, 1, 1, 1)

    def _plain(self, x: Tensor) -> Tensor:
        return x.to(self.network.latents_mean.dtype)
