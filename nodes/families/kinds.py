"""The kinds of networks that are known: their schema, how they are built, and the adapter that puts them into a socket.

Knows no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kineograph.nodes.families import cogvideox, declared, hunyuan, ltx, mochi, wan
from kineograph.nodes.families.encoder_schemas import (
    ClipTextEncoder,
    CLIPVision,
    LlamaEncoder,
    LlavaEncoder,
    MochiText,
    T5Encoder,
    WholeClip,
)
from kineograph.nodes.families.layouts.clip import CLIP
from kineograph.nodes.families.layouts.cogvideox import settled
from kineograph.nodes.families.layouts.language import CLIP as CLIP_TEXT
from kineograph.nodes.families.layouts.language import LLAMA, LLAVA, WHOLE_CLIP
from kineograph.nodes.families.layouts.layout import Layout
from kineograph.nodes.families.schemas import (
    CogVideoXAutoencoder,
    CogVideoXTransformer,
    HunyuanAutoencoder,
    HunyuanTransformer,
    LTXAutoencoder,
    LTXTransformer,
    MochiAutoencoder,
    MochiTransformer,
    NetworkConfig,
    VACETransformer,
    WanAutoencoder,
    WanTransformer,
)
from kineograph.nodes.sockets import VAE, DiT, ImageEncoder, LatentSpec, TextEncoder


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Attributes:
        part: what it is of a model: dit, vae, text_encoder or image_encoder; text_encoder_2 stands beside another text
            encoder.
        schema: of its configuration.
        build: from a configuration to the library's network without numbers.
        adapt: from that network, its configuration and a tokenizer, where it needs one, to the value of a socket; where
            a part stands beside it, from that one's network and tokenizer too. None of what only stands beside.
        foretell: from a configuration to what is known without a network: of a VAE what its latents mean, of a DiT all
            but the network.
        settle: of a part whose bare files leave something out, from its configuration and its DiT's to the whole.
        limits: of a DiT, from a configuration to fields of ``LatentSpec`` that say which sizes alone it takes.
        tokens: of a text encoder, of every prompt with its padding.
        beside: a part of a model that this one cannot do without.
        layout: how its library's files name the weights, where that is not as the network does.
    """

    part: str
    schema: type[NetworkConfig]
    build: Callable[[Any], Any]
    adapt: Callable[..., Any] | None
    foretell: Callable[[Any], LatentSpec | DiT | None] = lambda _: None
    tokens: int = 0
    beside: str | None = None
    layout: Layout | None = None
    settle: Callable[[Any, Any], NetworkConfig] | None = None
    limits: Callable[[Any], dict[str, Any]] = lambda _: {}


def _wan_dit(network: Any, config: WanTransformer, _: Any) -> DiT:
    from kineograph.nodes.networks.adapters.wan import WanDiT

    made: Any = WanDiT(network)
    return replace(declared.wan(config), network=made)


def _vace_dit(network: Any, config: VACETransformer, _: Any) -> DiT:
    from kineograph.nodes.networks.adapters.wan import VACEDiT

    made: Any = VACEDiT(network)
    return replace(declared.vace(config), network=made)


def _wan_vae(network: Any, config: WanAutoencoder, _: Any) -> VAE:
    from kineograph.nodes.networks.adapters.wan import WanVAE

    made: Any = WanVAE(network)
    return VAE(made, _wan_spec(config))


def _wan_spec(config: WanAutoencoder) -> LatentSpec:
    ratios = config.scale_factor_temporal, config.scale_factor_spatial
    return LatentSpec(config.z_dim, *ratios, patch=2, causal=True)


def _ltx_dit(network: Any, config: LTXTransformer, _: Any) -> DiT:
    from kineograph.nodes.networks.adapters.ltx import LTXDiT

    made: Any = LTXDiT(network, causal=config.causal_positions)
    return replace(declared.ltx(config), network=made)


def _ltx_vae(network: Any, config: LTXAutoencoder, _: Any) -> VAE:
    from kineograph.nodes.networks.adapters.ltx import LTXVAE

    made: Any = LTXVAE(network)
    return VAE(made, _ltx_spec(config))


def _ltx_spec(config: LTXAutoencoder) -> LatentSpec:
    return LatentSpec(
        config.latent_channels, *ltx.ratios(config), causal=True, passes=ltx.is_later(config.down_block_types)
    )


def _cogvideox_dit(network: Any, config: CogVideoXTransformer, _: Any) -> DiT:
    from kineograph.nodes.networks.adapters.cogvideox import CogVideoXDiT, training_levels

    made: Any = CogVideoXDiT(network, training_levels(config.snr_shift_scale))
    return replace(declared.cogvideox(config), network=made)


def _cogvideox_limits(config: CogVideoXTransformer) -> dict[str, Any]:
    only = (config.sample_height, config.sample_width) if config.use_learned_positional_embeddings else None
    return {"patch_time": config.patch_size_t or 1, "only": only}


def _cogvideox_vae(network: Any, config: CogVideoXAutoencoder, _: Any) -> VAE:
    from kineograph.nodes.networks.adapters.cogvideox import CogVideoXVAE

    made: Any = CogVideoXVAE(network)
    return VAE(made, _cogvideox_spec(config))


def _cogvideox_spec(config: CogVideoXAutoencoder) -> LatentSpec:
    space = 2 ** (len(config.block_out_channels) - 1)
    return LatentSpec(
        config.latent_channels, config.temporal_compression_ratio, space, patch=2, causal=True, together=2
    )


def _cogvideox_text(network: Any, _: T5Encoder, tokenizer: Any) -> TextEncoder:
    from kineograph.nodes.networks.adapters.text import T5Text

    made: Any = T5Text(network, tokenizer, cogvideox.TEXT_TOKENS, hears_padding=True, says_padding=True)
    return TextEncoder(made)


def _mochi_dit(network: Any, config: MochiTransformer, _: Any) -> DiT:
    from kineograph.nodes.networks.adapters.mochi import MochiDiT

    made: Any = MochiDiT(network)
    return replace(declared.mochi(config), network=made)


def _mochi_vae(network: Any, config: MochiAutoencoder, _: Any) -> VAE:
    from kineograph.nodes.networks.adapters.mochi import MochiVAE

    made: Any = MochiVAE(network)
    return VAE(made, _mochi_spec(config))


def _mochi_spec(config: MochiAutoencoder) -> LatentSpec:
    return LatentSpec(config.latent_channels, *mochi.ratios(config), patch=2, causal=True)


def _mochi_text(network: Any, config: MochiText, tokenizer: Any) -> TextEncoder:
    from kineograph.nodes.networks.adapters.text import T5Text

    nothing = config.force_zeros_for_empty_prompt
    made: Any = T5Text(network, tokenizer, mochi.TEXT_TOKENS, empty_is_nothing=nothing)
    return TextEncoder(made)


def _hunyuan_dit(network: Any, config: HunyuanTransformer, _: Any) -> DiT:
    from kineograph.nodes.networks.adapters.hunyuan import HunyuanVideoDiT

    made: Any = HunyuanVideoDiT(network)
    return replace(declared.hunyuan(config), network=made)


def _hunyuan_vae(network: Any, config: HunyuanAutoencoder, _: Any) -> VAE:
    from kineograph.nodes.networks.adapters.hunyuan import HunyuanVideoVAE

    made: Any = HunyuanVideoVAE(network)
    return VAE(made, _hunyuan_spec(config))


def _hunyuan_spec(config: HunyuanAutoencoder) -> LatentSpec:
    ratios = config.temporal_compression_ratio, config.spatial_compression_ratio
    return LatentSpec(config.latent_channels, *ratios, patch=2, causal=True)


def _hunyuan_text(network: Any, _: LlamaEncoder, tokenizer: Any, clip: Any, clip_tokenizer: Any) -> TextEncoder:
    from kineograph.nodes.networks.adapters.hunyuan import HunyuanVideoText

    made: Any = HunyuanVideoText(network, tokenizer, hunyuan.TEXT_TOKENS, clip, clip_tokenizer)
    return TextEncoder(made)


def _hunyuan_picture_text(network: Any, _: LlavaEncoder, tokenizer: Any, clip: Any, clip_tokenizer: Any) -> TextEncoder:
    from kineograph.nodes.networks.adapters.hunyuan_pictures import HunyuanVideoPictureText

    made: Any = HunyuanVideoPictureText(network, tokenizer, hunyuan.PICTURE_TEXT_TOKENS, clip, clip_tokenizer)
    return TextEncoder(made)


def _ltx_text(network: Any, _: T5Encoder, tokenizer: Any) -> TextEncoder:
    from kineograph.nodes.networks.adapters.text import T5Text

    made: Any = T5Text(network, tokenizer, ltx.TEXT_TOKENS, hears_padding=True)
    return TextEncoder(made)


def _later_ltx_text(network: Any, _: T5Encoder, tokenizer: Any) -> TextEncoder:
    from kineograph.nodes.networks.adapters.text import T5Text

    made: Any = T5Text(network, tokenizer, ltx.LATER_TEXT_TOKENS)
    return TextEncoder(made)


def _wan_text(network: Any, _: T5Encoder, tokenizer: Any) -> TextEncoder:
    from kineograph.nodes.networks.adapters.text import T5Text

    made: Any = T5Text(network, tokenizer, wan.TEXT_TOKENS)
    return TextEncoder(made)


def _clip_pictures(network: Any, config: CLIPVision, _: Any) -> ImageEncoder:
    from kineograph.nodes.networks.adapters.clip import CLIPPictures

    return ImageEncoder(CLIPPictures(network, config.image_size))


_LLAMA = Kind(
    "text_encoder",
    LlamaEncoder,
    hunyuan.language_network,
    _hunyuan_text,
    tokens=hunyuan.TEXT_TOKENS,
    beside="text_encoder_2",
    layout=LLAMA,
)
_CLIP_TEXT = Kind(
    "text_encoder_2", ClipTextEncoder, hunyuan.clip_network, None, tokens=hunyuan.CLIP_TOKENS, layout=CLIP_TEXT
)
_vace = partial(wan.transformer, name="WanVACETransformer3DModel")
_t5 = partial(wan.text_network, kind="T5")
NETWORKS = {
    "WanTransformer3DModel": Kind("dit", WanTransformer, wan.transformer, _wan_dit, declared.wan),
    "WanVACETransformer3DModel": Kind("dit", VACETransformer, _vace, _vace_dit, declared.vace),
    "AutoencoderKLWan": Kind("vae", WanAutoencoder, wan.autoencoder, _wan_vae, _wan_spec),
    "UMT5EncoderModel": Kind("text_encoder", T5Encoder, wan.text_network, _wan_text, tokens=wan.TEXT_TOKENS),
    "CLIPVisionModel": Kind("image_encoder", CLIPVision, wan.image_network, _clip_pictures, layout=CLIP),
    "LTXVideoTransformer3DModel": Kind("dit", LTXTransformer, ltx.transformer, _ltx_dit, declared.ltx),
    "AutoencoderKLLTXVideo": Kind("vae", LTXAutoencoder, ltx.autoencoder, _ltx_vae, _ltx_spec),
    "T5EncoderModel of LTXVideoTransformer3DModel": Kind(
        "text_encoder", T5Encoder, _t5, _ltx_text, tokens=ltx.TEXT_TOKENS
    ),
    f"T5EncoderModel of {ltx.LATER}": Kind(
        "text_encoder", T5Encoder, _t5, _later_ltx_text, tokens=ltx.LATER_TEXT_TOKENS
    ),
    "CogVideoXTransformer3DModel": Kind(
        "dit", CogVideoXTransformer, cogvideox.transformer, _cogvideox_dit, declared.cogvideox, limits=_cogvideox_limits
    ),
    "AutoencoderKLCogVideoX": Kind(
        "vae", CogVideoXAutoencoder, cogvideox.autoencoder, _cogvideox_vae, _cogvideox_spec, settle=settled
    ),
    "T5EncoderModel of CogVideoXTransformer3DModel": Kind(
        "text_encoder", T5Encoder, _t5, _cogvideox_text, tokens=cogvideox.TEXT_TOKENS
    ),
    "MochiTransformer3DModel": Kind("dit", MochiTransformer, mochi.transformer, _mochi_dit, declared.mochi),
    "AutoencoderKLMochi": Kind("vae", MochiAutoencoder, mochi.autoencoder, _mochi_vae, _mochi_spec),
    "T5EncoderModel of MochiTransformer3DModel": Kind(
        "text_encoder", MochiText, mochi.text_network, _mochi_text, tokens=mochi.TEXT_TOKENS
    ),
    "HunyuanVideoTransformer3DModel": Kind(
        "dit", HunyuanTransformer, hunyuan.transformer, _hunyuan_dit, declared.hunyuan
    ),
    "AutoencoderKLHunyuanVideo": Kind("vae", HunyuanAutoencoder, hunyuan.autoencoder, _hunyuan_vae, _hunyuan_spec),
    "LlamaModel": _LLAMA,
    "LlamaForCausalLM": _LLAMA,
    "LlavaForConditionalGeneration": Kind(
        "text_encoder",
        LlavaEncoder,
        hunyuan.picture_network,
        _hunyuan_picture_text,
        tokens=hunyuan.PICTURE_TEXT_TOKENS,
        beside="text_encoder_2",
        layout=LLAVA,
    ),
    "CLIPTextModel": _CLIP_TEXT,
    "CLIPModel": replace(_CLIP_TEXT, schema=WholeClip, layout=WHOLE_CLIP),
}
"""By the class's name in its library; where families read the same encoder otherwise, with the DiT's behind it."""
