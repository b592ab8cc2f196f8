"""What each family's DiT is, but for its network: known from a configuration alone. Knows no files and no library."""

from __future__ import annotations

from typing import Any

from kineograph.nodes.families.schemas import (
    CogVideoXTransformer,
    HunyuanTransformer,
    LTXTransformer,
    MochiTransformer,
    VACETransformer,
    WanTransformer,
)
from kineograph.nodes.sockets import DiT

NO_NETWORK: Any = None


def wan(config: WanTransformer) -> DiT:
    """Wan, for words or for pictures beside the noise."""
    patch = config.patch_size[0], config.patch_size[1], config.patch_size[2]
    shows = "frames" if config.in_channels != config.out_channels else ""
    return DiT(NO_NETWORK, patch, family="Wan", shows=shows)


def vace(config: VACETransformer) -> DiT:
    """VACE, led by a clip."""
    patch = config.patch_size[0], config.patch_size[1], config.patch_size[2]
    return DiT(NO_NETWORK, patch, family="VACE", one_level=True, shows="control")


def ltx(config: LTXTransformer) -> DiT:
    """LTX-Video, told a level for each token."""
    return DiT(NO_NETWORK, (config.patch_size_t, config.patch_size, config.patch_size), family="LTX-Video")


def cogvideox(config: CogVideoXTransformer) -> DiT:
    """CogVideoX, for words or for a first picture beside the noise."""
    patch = config.patch_size_t or 1, config.patch_size, config.patch_size
    shows = "first" if config.in_channels != config.out_channels else ""
    return DiT(NO_NETWORK, patch, family="CogVideoX", one_level=True, shows=shows)


def mochi(config: MochiTransformer) -> DiT:
    """Mochi."""
    return DiT(NO_NETWORK, (1, config.patch_size, config.patch_size), family="Mochi", one_level=True)


def hunyuan(config: HunyuanTransformer) -> DiT:
    """HunyuanVideo, for words or for a first picture: beside the noise, or as a first latent frame without any."""
    patch = config.patch_size_t, config.patch_size, config.patch_size
    one_level = config.image_condition_type != "token_replace"
    shows = "first" if config.image_condition_type == "latent_concat" else ""
    return DiT(NO_NETWORK, patch, family="HunyuanVideo", one_level=one_level, shows=shows)
