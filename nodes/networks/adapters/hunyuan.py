"""HunyuanVideo behind the forward of ours: guidance is told to the model, a prompt is read twice. Knows no files.

HunyuanVideo: Kong et al. 2024 (arXiv 2412.03603). The networks are diffusers' ``HunyuanVideoTransformer3DModel`` and
``AutoencoderKLHunyuanVideo``, and transformers' ``LlamaModel`` and ``CLIPTextModel``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kineograph.nodes.networks.adapters.common import AdaptedDiT, AdapterConfig, one_level
from kineograph.nodes.networks.dit import Batch
from kineograph.nodes.networks.patches import Time
from kineograph.nodes.networks.tiles import Parts, tiles

TIMESTEPS = 1000.0
GUIDANCE = 6.0
"""What its authors take."""
ASPECTS = (
    "1. The main content and theme of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects."
    "4. background environment, light, style and atmosphere."
    "5. camera angles, movements, and transitions used in the video:"
)
TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following aspects: "
    f"{ASPECTS}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{{}}<|eot_id|>"
)
"""What the prompt stands in for the language model, to the letter as in training."""
TEMPLATE_TOKENS = 95
"""Tokens of the template before the prompt, which the DiT is not given."""
LAYERS_ABOVE = 2
"""Layers of the language model above the one whose states are read."""


class HunyuanVideoDiT(AdaptedDiT):
    """HunyuanVideo's transformer: velocity of the flow, told a timestep 1000 s and a guidance 1000 g.

    Attributes:
        guidance: g, which the model was distilled to follow in one pass (Meng et al. 2023).
    """

    name: ClassVar[str] = "HunyuanVideo"

    def __init__(self, network: Any) -> None:
        """Put an adapter around a ``HunyuanVideoTransformer3DModel``."""
        config = network.config
        patch = (config.patch_size_t, config.patch_size, config.patch_size)
        super().__init__(network, AdapterConfig(config.out_channels, patch))
        self.guidance = GUIDANCE

    def guided(self, scale: float) -> HunyuanVideoDiT:
        """The same network, told another guidance.

        Raises:
            ValueError: this one was not trained to be told any.
        """
        if not self.network.config.guidance_embeds:
            raise ValueError(
                "This HunyuanVideo model was not trained to be told a guidance: take guided_velocity with its scale."
            )
        made = copy.copy(self)
        made.guidance = scale
        return made

    def ask(self, x_1CthW: Tensor, levels_K: Tensor, text_1LE: Tensor, mask_1L: Tensor, batch: Batch) -> Tensor:
        """See :meth:`AdaptedDiT.ask`."""
        if batch.pooled_BP is None:
            raise ValueError(
                "A HunyuanVideo model reads its prompt's pooled vector too, and this text has none: take encode_text "
                "with the text encoder of the same folder."
            )
        dtype = self.network.proj_out.weight.dtype
        level = one_level(levels_K, self.name)
        told = torch.full_like(level, self.guidance, dtype=dtype) * 1000.0
        return self.network(
            hidden_states=x_1CthW.to(dtype),
            timestep=level * TIMESTEPS,
            encoder_hidden_states=text_1LE.to(dtype),
            encoder_attention_mask=mask_1L.to(dtype),
            pooled_projections=batch.pooled_BP.to(dtype),
            guidance=told if self.network.config.guidance_embeds else None,
            return_dict=False,
        )[0]


class HunyuanVideoText(nn.Module):
    """A language model that reads the prompt in a template, and CLIP's text encoder for the prompt in one vector."""

    def __init__(self, llama: nn.Module, tokenizer: Any, length: int, clip: nn.Module, clip_tokenizer: Any) -> None:
        """Put an adapter around both.

        Args:
            llama: a ``LlamaModel``.
            tokenizer: ``encode_batch(prompts)`` gives token ids with the beginning's mark, cut to ``length``.
            length: tokens of the template, the prompt and its padding.
            clip: a ``CLIPTextModel``.
            clip_tokenizer: as ``tokenizer``, with the end's mark last.
        """
        super().__init__()
        self.llama, self.clip = llama, clip
        self.tokenizer, self.clip_tokenizer = tokenizer, clip_tokenizer
        self.length = length

    def forward(self, prompts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Read prompts.

        Args:
            prompts: B texts.

        Returns:
            Embeddings (B, L, D) in float32, zero where nothing stands, mask (B, L) bool, True where a token stands, and
            pooled (B, P) in float32.
        """
        read = self.tokenizer.encode_batch([TEMPLATE.format(prompt) for prompt in prompts])
        ids_BL, mask_BL = _padded([each.ids for each in read], self.length, self.llama)
        states = self.llama(ids_BL, attention_mask=mask_BL.long(), output_hidden_states=True, use_cache=False)
        mask_BL = mask_BL[:, TEMPLATE_TOKENS:]
        said = states.hidden_states[-1 - LAYERS_ABOVE][:, TEMPLATE_TOKENS:].float() * mask_BL[..., None]
        return said, mask_BL, self._pooled(prompts)

    def _pooled(self, prompts: list[str]) -> Tensor:
        """What CLIP says at each prompt's end; it looks back only, so what pads it does not matter."""
        ids = [each.ids for each in self.clip_tokenizer.encode_batch(prompts)]
        ids_BL, _ = _padded(ids, max(map(len, ids)), self.clip)
        return self.clip(ids_BL).pooler_output.float()


def _padded(ids: list[list[int]], length: int, network: nn.Module) -> tuple[Tensor, Tensor]:
    """Token ids (B, L) with 0 behind them, and where they stand (B, L), on a network's device."""
    lengths = torch.tensor([len(each) for each in ids])
    padded = torch.tensor([[*each, *[0] * (length - len(each))] for each in ids])
    device = next(network.parameters()).device
    return padded.to(device), (torch.arange(length) < lengths[:, None]).to(device)


class HunyuanVideoVAE(nn.Module):
    """HunyuanVideo's autoencoder: 1 + 4k frames, in [0, 1] as ours.

    Long clips go through it in stretches of time that overlap and are blended, large frames in tiles if asked for: so
    its library and its authors run it, as its normalisation and its attention see whatever is there at once.
    """

    def __init__(self, network: Any) -> None:
        """Put an adapter around an ``AutoencoderKLHunyuanVideo``."""
        super().__init__()
        self.network = network

    def encode(self, video_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of a clip's latent, scaled: mean and log variance.

        Args:
            video_BCTHW: (B, 3, 1 + 4k, H, W) in [0, 1].

        Returns:
            mean and logvar, each (B, c, 1 + k, H / 8, W / 8).

        Raises:
            ValueError: another number of frames.
        """
        return self._encoded(video_BCTHW, self.network)

    def encode_tiles(self, video_BCTHW: Tensor, tile: int) -> Parts:
        """The mean of :meth:`encode`, computed of tiles that are blended.

        Args:
            video_BCTHW: as for :meth:`encode`.
            tile: pixels of a tile's side.
        """
        mean, _ = self._encoded(video_BCTHW, self._tiling(tile))
        return [(tiles(*mean.shape[-2:])[0], iter([mean]))]

    def decode(self, latent_BCthw: Tensor, *, time: Time = "line") -> Tensor:
        """The clip of a scaled latent.

        Args:
            latent_BCthw: (B, c, t, h, w).
            time: a line; other clips have no first frame alone.

        Returns:
            (B, 3, 1 + 4 (t - 1), 8h, 8w) in [0, 1].

        Raises:
            ValueError: time is no line.
        """
        return torch.cat(list(self.decode_pieces(latent_BCthw, time)), dim=2)

    def decode_pieces(self, latent_BCthw: Tensor, time: Time = "line") -> Iterator[Tensor]:
        """The clip of :meth:`decode`, one stretch of time after another, in memory that does not grow with the clip.

        Args:
            latent_BCthw: as for :meth:`decode`.
            time: as for :meth:`decode`.

        Yields:
            (B, 3, n, 8h, 8w) in [0, 1], in order.
        """
        return self._decoded(latent_BCthw, time, self.network)

    def decode_tiles(self, latent_BCthw: Tensor, time: Time, tile: int) -> Parts:
        """The clip of :meth:`decode`, computed of tiles that are blended.

        Args:
            latent_BCthw: as for :meth:`decode`.
            time: as for :meth:`decode`.
            tile: pixels of a tile's side.
        """
        return [(tiles(*latent_BCthw.shape[-2:])[0], self._decoded(latent_BCthw, time, self._tiling(tile)))]

    def _encoded(self, video_BCTHW: Tensor, network: Any) -> tuple[Tensor, Tensor]:
        ratio, frames = network.temporal_compression_ratio, video_BCTHW.shape[2]
        if left := (frames - 1) % ratio:
            raise ValueError(
                f"This VAE is causal and begins with one frame alone: it encodes 1 + a multiple of {ratio} frames, and "
                f"not {frames}. trim_video to {frames - left} frames makes it fit."
            )
        posterior = network.encode(self._plain(2 * video_BCTHW - 1)).latent_dist
        scale = torch.tensor(network.config.scaling_factor)
        return posterior.mean.float() * scale, posterior.logvar.float() + 2 * scale.log()

    def _decoded(self, latent_BCthw: Tensor, time: Time, network: Any) -> Iterator[Tensor]:
        if time != "line":
            raise ValueError(
                "HunyuanVideo's VAE begins with one frame alone: it decodes neither groups alone nor loops."
            )
        ratio, scale = network.temporal_compression_ratio, network.config.scaling_factor
        long, step = network.tile_sample_min_num_frames, network.tile_sample_stride_num_frames
        before = None
        for start in range(0, max(1, latent_BCthw.shape[2] - 1), step // ratio):
            # one latent frame more than a stretch has, as the first of each stands for a single frame
            part = self._plain(latent_BCthw[:, :, start : start + long // ratio + 1] / scale)
            clip = network.tiled_decode(part).sample if network.use_tiling else _untiled(network, part)
            if before is None:
                yield _pixels(clip[:, :, : step + 1])
            else:
                clip = network.blend_t(before, clip[:, :, 1:], long - step)
                yield _pixels(clip[:, :, :step])
            before = clip[:, :, step - long :].clone()

    def _tiling(self, tile: int) -> Any:
        """The same network with tiles, each of which shares a quarter of its side with the next."""
        network: Any = copy.copy(self.network)
        least = 4 * network.spatial_compression_ratio
        side = -(-tile // least) * least
        network.enable_tiling(side, side, None, 3 * side // 4, 3 * side // 4)
        return network

    def _plain(self, x: Tensor) -> Tensor:
        return x.to(self.network.decoder.conv_in.conv.weight.dtype)


def _pixels(decoded: Tensor) -> Tensor:
    return (decoded.float() / 2 + 0.5).clamp(0, 1)


def _untiled(network: Any, latent: Tensor) -> Tensor:
    return network.decoder(network.post_quant_conv(latent))
