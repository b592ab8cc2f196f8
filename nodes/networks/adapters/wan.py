"""Wan 2.1 behind the forward of ours: its timesteps, its latents' mean and deviation. Knows no files.

Wan: Wan Team 2025 (arXiv 2503.20314). The networks are diffusers' ``WanTransformer3DModel`` and ``AutoencoderKLWan``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kineograph.nodes.networks.adapters.common import AdaptedDiT, AdapterConfig
from kineograph.nodes.networks.dit import Batch
from kineograph.nodes.networks.patches import Time

TIMESTEPS = 1000.0
BORROWED = 3
"""Latent frames that a loop is decoded behind: as many as a causal decoder of Wan's kind looks back over, nearly."""


class WanDiT(AdaptedDiT):
    """Wan's transformer: velocity of the flow, told a timestep 1000 s for the clip or, as in Wan 2.2 5B, per token."""

    name: ClassVar[str] = "Wan"

    def __init__(self, network: Any) -> None:
        """Put an adapter around a ``WanTransformer3DModel``."""
        super().__init__(network, AdapterConfig(network.config.out_channels, tuple(network.config.patch_size)))

    def ask(self, x_1CthW: Tensor, levels_K: Tensor, text_1LE: Tensor, mask_1L: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        """See :meth:`AdaptedDiT.ask`. Padding is heard, as in training: an encoder of text leaves zeros there."""
        dtype = self.network.patch_embedding.weight.dtype
        told = levels_K * TIMESTEPS
        if len(told) > 1:  # a level for every token, in rows
            told = told.repeat_interleave(batch.tokens_BNC.shape[1] // len(told))[None]
        asked = {"hidden_states": x_1CthW.to(dtype), "encoder_hidden_states": text_1LE.to(dtype), "timestep": told}
        return self.network(**asked, return_dict=False)[0]


class WanVAE(nn.Module):
    """Wan's causal autoencoder: 1 + 4k frames, in [0, 1] as ours; its latents with mean 0 and deviation 1."""

    mean_C: Tensor
    deviation_C: Tensor

    def __init__(self, network: Any) -> None:
        """Put an adapter around an ``AutoencoderKLWan``."""
        super().__init__()
        self.network = network
        # float32 and not on the meta device, whatever the network is: 16 numbers of its configuration
        self.register_buffer("mean_C", torch.tensor(network.config.latents_mean, device="cpu"), persistent=False)
        self.register_buffer("deviation_C", torch.tensor(network.config.latents_std, device="cpu"), persistent=False)

    def encode(self, video_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of a clip's latent, normalised: mean and log variance.

        Args:
            video_BCTHW: (B, 3, 1 + 4k, H, W) in [0, 1]; H and W are multiples of 8.

        Returns:
            mean and logvar, each (B, c, 1 + k, H / 8, W / 8).

        Raises:
            ValueError: another number of frames.
        """
        ratio = self.network.config.scale_factor_temporal
        if left := (video_BCTHW.shape[2] - 1) % ratio:
            frames = video_BCTHW.shape[2]
            raise ValueError(
                f"This VAE is causal and begins with one frame alone: it encodes 1 + a multiple of {ratio} frames, and "
                f"not {frames}. trim_video to {frames - left} frames makes it fit."
            )
        posterior = self.network.encode(self._plain(2 * video_BCTHW - 1)).latent_dist
        shift, scale = self._like(posterior.mean)
        return (posterior.mean.float() - shift) / scale, posterior.logvar.float() - 2 * scale.log()

    def decode(self, latent_BCthw: Tensor, *, time: Time = "line") -> Tensor:
        """The clip of a normalised latent.

        A loop is decoded behind its own last latent frames, whose clip is left out: every frame then has frames before
        it, and none is one alone.

        Args:
            latent_BCthw: (B, c, t, h, w).
            time: a line, or a circle.

        Returns:
            (B, 3, 4t - 3, 8h, 8w) in [0, 1], or (B, 3, 4t, 8h, 8w) of a circle.

        Raises:
            ValueError: time is of groups alone.
        """
        ratio = self.network.config.scale_factor_temporal
        if time == "groups":
            raise ValueError(
                "This VAE is causal: what it decodes begins with one frame alone. Give latent_noise 1 + a multiple of "
                f"{ratio} frames."
            )
        borrowed = latent_BCthw[:, :, -BORROWED:] if time == "circle" else latent_BCthw[:, :, :0]
        shift, scale = self._like(latent_BCthw)
        whole = torch.cat([borrowed, latent_BCthw], dim=2) * scale + shift
        decoded = self.network.decode(self._plain(whole), return_dict=False)[0]
        left_out = ratio * (borrowed.shape[2] - 1) + 1 if borrowed.shape[2] else 0
        return (decoded[:, :, left_out:].float() / 2 + 0.5).clamp(0, 1)

    def _like(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale = (each.to(latent.device).view(1, -1, 1, 1, 1) for each in (self.mean_C, self.deviation_C))
        return shift, scale

    def _plain(self, x: Tensor) -> Tensor:
        return x.to(self.network.decoder.conv_in.weight.dtype)
