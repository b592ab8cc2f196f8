"""Wan 2.1 behind the forward of ours: its timesteps, its latents' mean and deviation. Knows no files.

Wan: Wan Team 2025 (arXiv 2503.20314). The networks are diffusers' ``WanTransformer3DModel`` and ``AutoencoderKLWan``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from kineograph.nodes.networks.adapters.causal import CausalVAE, borrowed, check_begins, check_frames, pixels
from kineograph.nodes.networks.adapters.common import AdaptedDiT, AdapterConfig, one_level
from kineograph.nodes.networks.dit import Batch
from kineograph.nodes.networks.patches import Time

TIMESTEPS = 1000.0


class WanDiT(AdaptedDiT):
    """Wan's transformer: velocity of the flow, told a timestep 1000 s for the clip or, as in Wan 2.2 5B, per token."""

    name: ClassVar[str] = "Wan"

    def __init__(self, network: Any) -> None:
        """Put an adapter around a ``WanTransformer3DModel``; of image to video, where it takes more than it gives."""
        config = network.config
        beside = config.in_channels - config.out_channels
        shows = {"beside": beside, "shows": "frames"} if beside else {}
        super().__init__(network, AdapterConfig(config.out_channels, tuple(config.patch_size), **shows))

    def ask(self, x_1CthW: Tensor, levels_K: Tensor, text_1LE: Tensor, mask_1L: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        """See :meth:`AdaptedDiT.ask`. Padding is heard, as in training: an encoder of text leaves zeros there."""
        dtype = self.network.patch_embedding.weight.dtype
        told = levels_K * TIMESTEPS
        if len(told) > 1:  # a level for every token, in rows
            told = told.repeat_interleave(batch.tokens_BNC.shape[1] // len(told))[None]
        if batch.beside_BKthw is not None:
            x_1CthW = torch.cat([x_1CthW, batch.beside_BKthw.to(x_1CthW)], dim=1)
        asked = {"hidden_states": x_1CthW.to(dtype), "encoder_hidden_states": text_1LE.to(dtype), "timestep": told}
        if self.network.config.image_dim is not None:
            asked["encoder_hidden_states_image"] = self._pictures(batch).to(dtype)
        return self.network(**asked, return_dict=False)[0]

    def _pictures(self, batch: Batch) -> Tensor:
        """What this clip's pictures show, (P, L, E): of the first, or of first and last where both are asked for."""
        pictures, needed = batch.pictures_BPLE, 1 if self.network.config.pos_embed_seq_len is None else 2
        if pictures is None:
            raise ValueError(
                "This Wan model is also told what the given picture shows, and nothing says it: load_video_model finds "
                "the image_encoder in a folder of diffusers; where parts are loaded alone, load_image_encoder into "
                "show_given_frames."
            )
        if pictures.shape[1] < needed:
            raise ValueError(
                "This Wan model goes from a first picture to a last one, and only one is given: give the last by a "
                "second give_video with from_end."
            )
        return pictures[0, :needed]


class VACEDiT(AdaptedDiT):
    """Wan's transformer beside a second one that hears a control clip: VACE (Jiang et al. 2025, arXiv 2503.07598)."""

    name: ClassVar[str] = "VACE"

    def __init__(self, network: Any) -> None:
        """Put an adapter around a ``WanVACETransformer3DModel``."""
        config = network.config
        shows = {"beside": config.vace_in_channels, "shows": "control"}
        super().__init__(network, AdapterConfig(config.out_channels, tuple(config.patch_size), **shows))

    def ask(self, x_1CthW: Tensor, levels_K: Tensor, text_1LE: Tensor, mask_1L: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        """See :meth:`AdaptedDiT.ask`."""
        assert batch.beside_BKthw is not None
        dtype = self.network.patch_embedding.weight.dtype
        layers = len(self.network.config.vace_layers)
        return self.network(
            hidden_states=x_1CthW.to(dtype),
            timestep=one_level(levels_K, self.name) * TIMESTEPS,
            encoder_hidden_states=text_1LE.to(dtype),
            control_hidden_states=batch.beside_BKthw.to(x_1CthW.device, dtype),
            control_hidden_states_scale=torch.full((layers,), batch.strength, device=x_1CthW.device, dtype=dtype),
            return_dict=False,
        )[0]


class WanVAE(CausalVAE):
    """Wan's causal autoencoder: 1 + 4k frames; its latents with mean 0 and deviation 1."""

    name: ClassVar[str] = "Wan"
    mean_C: Tensor
    deviation_C: Tensor

    def __init__(self, network: Any) -> None:
        """Put an adapter around an ``AutoencoderKLWan``."""
        super().__init__(network)
        # float32 and not on the meta device, whatever the network is: 16 numbers of its configuration
        self.register_buffer("mean_C", torch.tensor(network.config.latents_mean, device="cpu"), persistent=False)
        self.register_buffer("deviation_C", torch.tensor(network.config.latents_std, device="cpu"), persistent=False)

    @property
    def ratio(self) -> int:
        """See :attr:`CausalVAE.ratio`."""
        return self.network.config.scale_factor_temporal

    @property
    def space(self) -> int:
        """See :attr:`CausalVAE.space`."""
        return self.network.config.scale_factor_spatial

    def moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`CausalVAE.moments`."""
        shift, scale = (each.to(like.device).view(1, -1, 1, 1, 1) for each in (self.mean_C, self.deviation_C))
        return shift, scale

    def _encoded(self, video_BCTHW: Tensor) -> Iterator[Tensor]:
        return self.encode_pieces(video_BCTHW)

    def _decoded(self, latent_BCthw: Tensor, time: Time) -> Iterator[Tensor]:
        return self.decode_pieces(latent_BCthw, time)

    def encode_pieces(self, video_BCTHW: Tensor) -> Iterator[Tensor]:
        """The mean of :meth:`encode`, one latent frame after another, in memory that does not grow with the clip.

        Args:
            video_BCTHW: as for :meth:`encode`.

        Yields:
            (B, c, 1, H / 8, W / 8), in order.
        """
        check_frames(video_BCTHW.shape[2], self.ratio)
        if self.network.config.patch_size is not None:  # Wan 2.2 5B, whose pixels the library cuts first
            yield self.encode(video_BCTHW)[0]
            return
        shift, scale = self.moments(video_BCTHW)
        seen = [None] * self.network._cached_conv_counts["encoder"]
        start = 0
        while start < video_BCTHW.shape[2]:
            stop = start + (self.ratio if start else 1)
            part = self.plain(2 * video_BCTHW[:, :, start:stop] - 1)
            moments = self.network.quant_conv(self.network.encoder(part, feat_cache=seen, feat_idx=[0]))
            yield (moments.chunk(2, dim=1)[0].float() - shift) / scale
            start = stop

    def decode_pieces(self, latent_BCthw: Tensor, time: Time = "line") -> Iterator[Tensor]:
        """The clip of :meth:`decode`, one latent frame after another, in memory that does not grow with the clip.

        Args:
            latent_BCthw: as for :meth:`decode`.
            time: as for :meth:`decode`.

        Yields:
            (B, 3, n, 8h, 8w) in [0, 1], in order.
        """
        check_begins(time, self.ratio)
        before = borrowed(latent_BCthw, time)
        shift, scale = self.moments(latent_BCthw)
        raw = self.plain(torch.cat([before, latent_BCthw], dim=2) * scale + shift)
        left_out = before.shape[2]
        if self.network.config.patch_size is not None:
            clip = self.network.decode(raw, return_dict=False)[0]
            yield pixels(clip[:, :, self.ratio * (left_out - 1) + 1 if left_out else 0 :])
            return
        x = self.network.post_quant_conv(raw)
        seen = [None] * self.network._cached_conv_counts["decoder"]
        for number in range(x.shape[2]):
            part = x[:, :, number : number + 1]
            clip = self.network.decoder(part, feat_cache=seen, feat_idx=[0], first_chunk=number == 0)
            if number >= left_out:
                yield pixels(clip)
