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

from kineograph.nodes.networks.adapters.causal import CausalVAE
from kineograph.nodes.networks.adapters.common import AdaptedDiT, AdapterConfig, one_level
from kineograph.nodes.networks.dit import Batch
from kineograph.nodes.networks.patches import Time
from kineograph.nodes.networks.tiles import Faded, Parts, tiles

TIMESTEPS = 1000.0
GUIDANCE = 6.0
"""What its authors take, where nobody says another."""
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

    It was distilled to follow the guidance in one pass (Meng et al. 2023).
    """

    name: ClassVar[str] = "HunyuanVideo"

    def __init__(self, network: Any) -> None:
        """Put an adapter around a ``HunyuanVideoTransformer3DModel``."""
        config = network.config
        patch = (config.patch_size_t, config.patch_size, config.patch_size)
        shown = config.image_condition_type == "latent_concat"
        shows = {"beside": config.out_channels, "shows": "first"} if shown else {}
        super().__init__(network, AdapterConfig(config.out_channels, patch, **shows))

    def ask(self, x_1CthW: Tensor, levels_K: Tensor, text_1LE: Tensor, mask_1L: Tensor, batch: Batch) -> Tensor:
        """See :meth:`AdaptedDiT.ask`."""
        if batch.pooled_BP is None:
            raise ValueError(
                "A HunyuanVideo model reads its prompt's pooled vector too, and this text has none: take encode_text "
                "with the text encoder of the same folder."
            )
        dtype = self.network.x_embedder.proj.weight.dtype
        replaces = self.network.config.image_condition_type == "token_replace"
        level = behind_the_first(levels_K) if replaces else one_level(levels_K, self.name)
        if batch.beside_BKthw is not None:
            given = torch.zeros_like(x_1CthW[:, :1])
            given[:, :, 0] = 1  # where the picture stands, in a channel of its own
            x_1CthW = torch.cat([x_1CthW, batch.beside_BKthw.to(x_1CthW), given], dim=1)
        guidance = GUIDANCE if batch.guidance is None else batch.guidance
        told = torch.full_like(level, guidance, dtype=dtype) * 1000.0
        return self.network(
            hidden_states=x_1CthW.to(dtype),
            timestep=level * TIMESTEPS,
            encoder_hidden_states=text_1LE.to(dtype),
            encoder_attention_mask=mask_1L.to(dtype),
            pooled_projections=batch.pooled_BP.to(dtype),
            guidance=told if self.network.config.guidance_embeds else None,
            return_dict=False,
        )[0]


def behind_the_first(levels_K: Tensor) -> Tensor:
    """The level of a clip whose first latent frame is given, (1,): such a network takes that one as clean.

    Raises:
        ValueError: it is not given, or others have levels of their own.
    """
    first, others = levels_K[:1], levels_K[1:]
    if not len(others) or first.item() != 0 or not torch.equal(others, others[:1].expand_as(others)):
        raise ValueError(
            "This HunyuanVideo model makes videos of a picture, which is their first frame, and knows no other: put "
            "one give_video at 0 with a single picture between latent_noise and begin_sampling."
        )
    return others[:1]


class HunyuanVideoText(nn.Module):
    """A language model that reads the prompt in a template, and CLIP's text encoder for the prompt in one vector."""

    def __init__(self, network: Any, tokenizer: Any, length: int, beside: Any, beside_tokenizer: Any) -> None:
        """Put an adapter around both.

        Args:
            network: a ``LlamaModel``.
            tokenizer: ``encode_batch(prompts)`` gives token ids with the beginning's mark, cut to ``length``.
            length: tokens of the template, the prompt and its padding.
            beside: a ``CLIPTextModel``.
            beside_tokenizer: as ``tokenizer``, with the end's mark last.
        """
        super().__init__()
        self.network, self.beside = network, beside
        self.tokenizer, self.beside_tokenizer = tokenizer, beside_tokenizer
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
        ids_BL, mask_BL = _padded([each.ids for each in read], self.length, self.network)
        states = self.network(ids_BL, attention_mask=mask_BL.long(), output_hidden_states=True, use_cache=False)
        mask_BL = mask_BL[:, TEMPLATE_TOKENS:]
        said = states.hidden_states[-1 - LAYERS_ABOVE][:, TEMPLATE_TOKENS:].float() * mask_BL[..., None]
        return said, mask_BL, self._pooled(prompts)

    def _pooled(self, prompts: list[str]) -> Tensor:
        """What CLIP says at each prompt's end; it looks back only, so what pads it does not matter."""
        ids = [each.ids for each in self.beside_tokenizer.encode_batch(prompts)]
        ids_BL, _ = _padded(ids, max(map(len, ids)), self.beside)
        return self.beside(ids_BL).pooler_output.float()


def _padded(ids: list[list[int]], length: int, network: nn.Module) -> tuple[Tensor, Tensor]:
    """Token ids (B, L) with 0 behind them, and where they stand (B, L), on a network's device."""
    lengths = torch.tensor([len(each) for each in ids])
    padded = torch.tensor([[*each, *[0] * (length - len(each))] for each in ids])
    device = next(network.parameters()).device
    return padded.to(device), (torch.arange(length) < lengths[:, None]).to(device)


class HunyuanVideoVAE(CausalVAE):
    """HunyuanVideo's autoencoder: 1 + 4k frames; its latents are scaled.

    Long clips go through it in stretches of time that overlap and are blended, large frames in tiles if asked for: so
    its library and its authors run it, as its normalisation and its attention see whatever is there at once.
    """

    name: ClassVar[str] = "HunyuanVideo"

    def moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`CausalVAE.moments`."""
        scale = torch.tensor(1 / self.network.config.scaling_factor, device=like.device)
        return torch.zeros_like(scale), scale

    def clips(self, raw_BCthw: Tensor) -> Iterator[Tensor]:
        """See :meth:`CausalVAE.clips`: stretches of time, in memory that does not grow with the clip."""
        network = self.network
        long, step = network.tile_sample_min_num_frames, network.tile_sample_stride_num_frames
        before = None
        for start in range(0, max(1, raw_BCthw.shape[2] - 1), step // self.ratio):
            # one latent frame more than a stretch has, as the first of each stands for a single frame
            part = self.plain(raw_BCthw[:, :, start : start + long // self.ratio + 1])
            clip = network.tiled_decode(part).sample if network.use_tiling else _untiled(network, part)
            if before is None:
                yield clip[:, :, : step + 1]
            else:
                clip = network.blend_t(before, clip[:, :, 1:], long - step)
                yield clip[:, :, :step]
            before = clip[:, :, step - long :].clone()

    def encode_tiles(self, video_BCTHW: Tensor, tile: int) -> Parts:
        """The mean of :meth:`encode`, computed of tiles that are blended.

        Args:
            video_BCTHW: as for :meth:`encode`.
            tile: pixels of a tile's side.
        """
        mean, _ = self._tiling(tile).encode(video_BCTHW)
        return [(tiles(*mean.shape[-2:])[0], iter([mean]))]

    def decode_tiles(self, latent_BCthw: Tensor, time: Time, tile: int) -> Parts:
        """The clip of :meth:`decode`, computed of tiles that are blended.

        Args:
            latent_BCthw: as for :meth:`decode`.
            time: as for :meth:`decode`.
            tile: pixels of a tile's side.
        """
        return [(tiles(*latent_BCthw.shape[-2:])[0], self._tiling(tile).decode_pieces(latent_BCthw, time))]

    def _tiling(self, tile: int) -> HunyuanVideoVAE:
        """The same weights in tiles, each of which shares a quarter of its side with the next."""
        network = copy.copy(self.network)
        least = 4 * network.spatial_compression_ratio
        side = -(-tile // least) * least
        network.enable_tiling(side, side, None, 3 * side // 4, 3 * side // 4)
        network.blend_v, network.blend_h = Faded(axis=3), Faded(axis=4)
        return HunyuanVideoVAE(network)


def _untiled(network: Any, latent: Tensor) -> Tensor:
    return network.decoder(network.post_quant_conv(latent))
