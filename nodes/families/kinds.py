"""The kinds of networks that are known: their schema, how they are built, and the adapter that puts them into a socket.

Knows no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kineograph.nodes.families import cogvideox, ltx, wan
from kineograph.nodes.families.original import CLIP, Layout
from kineograph.nodes.families.schemas import (
    CLIPVision,
    CogVideoXAutoencoder,
    CogVideoXTransformer,
    LTXAutoencoder,
    LTXTransformer,
    NetworkConfig,
    T5Encoder,
    VACETransformer,
    WanAutoencoder,
    WanTransformer,
)
from kineograph.nodes.sockets import VAE, DiT, ImageEncoder, LatentSpec, TextEncoder


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Attributes:
        part: what it is of a model: dit, vae, text_encoder or image_encoder.
        schema: of its configuration.
        build: from a configuration to the library's network without numbers.
        adapt: from that network, its configuration and a tokenizer, where it needs one, to the value of a socket.
        foretell: of a VAE, from a configuration to what its latents mean.
        tokens: of a text encoder, of every prompt with its padding.
        layout: how its library's files name the weights, where that is not as the network does.
    """

    part: str
    schema: type[NetworkConfig]
    build: Callable[[Any], Any]
    adapt: Callable[[Any, Any, Any], Any]
    foretell: Callable[[Any], LatentSpec | None] = lambda _: None
    tokens: int = 0
    layout: Layout | None = None


def _wan_dit(network: Any, config: WanTransformer, _: Any) -> DiT:
    from kineograph.nodes.networks.adapters.wan import WanDiT

    made: Any = WanDiT(network)
    return DiT(made, (config.patch_size[0], config.patch_size[1], config.patch_size[2]))


def _vace_dit(network: Any, config: VACETransformer, _: Any) -> DiT:
    from kineograph.nodes.networks.adapters.wan import VACEDiT

    made: Any = VACEDiT(network)
    return DiT(made, (config.patch_size[0], config.patch_size[1], config.patch_size[2]))


def _wan_vae(network: Any, config: WanAutoencoder, _: Any) -> VAE:
    from kineograph.nodes.networks.adapters.wan import WanVAE

    made: Any = WanVAE(network)
    return VAE(made, _wan_spec(config))


def _wan_spec(config: WanAutoencoder) -> LatentSpec:
    ratios = config.scale_factor_temporal, config.scale_factor_spatial
    return LatentSpec(config.z_dim, *ratios, patch=2, causal=True)


def _ltx_dit(network: Any, config: LTXTransformer, _: Any) -> DiT:
    from kineograph.nodes.networks.adapters.ltx import LTXDiT

    made: Any = LTXDiT(network)
    return DiT(made, (config.patch_size_t, config.patch_size, config.patch_size))


def _ltx_vae(network: Any, config: LTXAutoencoder, _: Any) -> VAE:
    from kineograph.nodes.networks.adapters.ltx import LTXVAE

    made: Any = LTXVAE(network)
    return VAE(made, _ltx_spec(config))


def _ltx_spec(config: LTXAutoencoder) -> LatentSpec:
    return LatentSpec(config.latent_channels, *ltx.ratios(config), causal=True)


def _cogvideox_dit(network: Any, config: CogVideoXTransformer, _: Any) -> DiT:
    from kineograph.nodes.networks.adapters.cogvideox import CogVideoXDiT, training_levels

    made: Any = CogVideoXDiT(network, training_levels(config.snr_shift_scale))
    return DiT(made, (1, config.patch_size, config.patch_size))


def _cogvideox_vae(network: Any, config: CogVideoXAutoencoder, _: Any) -> VAE:
    from kineograph.nodes.networks.adapters.cogvideox import CogVideoXVAE

    made: Any = CogVideoXVAE(network)
    return VAE(made, _cogvideox_spec(config))


def _cogvideox_spec(config: CogVideoXAutoencoder) -> LatentSpec:
    space = 2 ** (len(config.block_out_channels) - 1)
    return LatentSpec(config.latent_channels, config.temporal_compression_ratio, space, patch=2, causal=True)


def _cogvideox_text(network: Any, _: T5Encoder, tokenizer: Any) -> TextEncoder:
    from kineograph.nodes.networks.adapters.text import T5Text

    made: Any = T5Text(network, tokenizer, cogvideox.TEXT_TOKENS, hears_padding=True, says_padding=True)
    return TextEncoder(made)


def _t5_text(network: Any, _: T5Encoder, tokenizer: Any) -> TextEncoder:
    from kineograph.nodes.networks.adapters.text import T5Text

    made: Any = T5Text(network, tokenizer, ltx.TEXT_TOKENS, hears_padding=True)
    return TextEncoder(made)


def _wan_text(network: Any, _: T5Encoder, tokenizer: Any) -> TextEncoder:
    from kineograph.nodes.networks.adapters.text import T5Text

    made: Any = T5Text(network, tokenizer, wan.TEXT_TOKENS)
    return TextEncoder(made)


def _clip_pictures(network: Any, config: CLIPVision, _: Any) -> ImageEncoder:
    from kineograph.nodes.networks.adapters.clip import CLIPPictures

    return ImageEncoder(CLIPPictures(network, config.image_size))


_vace = partial(wan.transformer, name="WanVACETransformer3DModel")
_t5 = partial(wan.text_network, kind="T5")
NETWORKS = {
    "WanTransformer3DModel": Kind("dit", WanTransformer, wan.transformer, _wan_dit),
    "WanVACETransformer3DModel": Kind("dit", VACETransformer, _vace, _vace_dit),
    "AutoencoderKLWan": Kind("vae", WanAutoencoder, wan.autoencoder, _wan_vae, _wan_spec),
    "UMT5EncoderModel": Kind("text_encoder", T5Encoder, wan.text_network, _wan_text, tokens=wan.TEXT_TOKENS),
    "CLIPVisionModel": Kind("image_encoder", CLIPVision, wan.image_network, _clip_pictures, layout=CLIP),
    "LTXVideoTransformer3DModel": Kind("dit", LTXTransformer, ltx.transformer, _ltx_dit),
    "AutoencoderKLLTXVideo": Kind("vae", LTXAutoencoder, ltx.autoencoder, _ltx_vae, _ltx_spec),
    "T5EncoderModel": Kind("text_encoder", T5Encoder, _t5, _t5_text, tokens=ltx.TEXT_TOKENS),
    "CogVideoXTransformer3DModel": Kind("dit", CogVideoXTransformer, cogvideox.transformer, _cogvideox_dit),
    "AutoencoderKLCogVideoX": Kind("vae", CogVideoXAutoencoder, cogvideox.autoencoder, _cogvideox_vae, _cogvideox_spec),
    "T5EncoderModel of CogVideoXTransformer3DModel": Kind(
        "text_encoder", T5Encoder, _t5, _cogvideox_text, tokens=cogvideox.TEXT_TOKENS
    ),
}
"""By the class's name in its library; where families read the same encoder otherwise, with the DiT's behind it."""
