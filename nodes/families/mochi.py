"""Mochi: its networks on the meta device. Knows no files."""

from __future__ import annotations

from math import prod
from typing import Any

from kineograph.nodes.families import wan
from kineograph.nodes.families.encoder_schemas import MochiText, T5Encoder
from kineograph.nodes.families.library import network_class
from kineograph.nodes.families.schemas import MochiAutoencoder, MochiTransformer

TEXT_TOKENS = 256


def transformer(config: MochiTransformer) -> Any:
    """A ``MochiTransformer3DModel`` without numbers."""
    import torch

    with torch.device("meta"):
        return network_class("diffusers", "MochiTransformer3DModel")(**config.model_dump())


def autoencoder(config: MochiAutoencoder) -> Any:
    """An ``AutoencoderKLMochi`` without numbers, whose decoder can go on from the frames before.

    The library's convolutions repeat a clip's edges in time and space at once, and so know no frames before. Here those
    of the decoder repeat the edges in space by themselves, and are told to remember frames.
    """
    import torch

    with torch.device("meta"):
        network = network_class("diffusers", "AutoencoderKLMochi")(**config.model_dump())
        for causal in [each for each in network.decoder.modules() if hasattr(each, "time_causal_padding")]:
            around = (0, causal.height_pad, causal.width_pad)
            sizes = causal.conv.in_channels, causal.conv.out_channels, causal.conv.kernel_size
            causal.conv = torch.nn.Conv3d(*sizes, padding=around, padding_mode="replicate")
            causal.pad_mode = "constant"
    return network


def text_network(config: MochiText) -> Any:
    """A ``T5EncoderModel`` without numbers."""
    return wan.text_network(T5Encoder(**config.model_dump(include=set(T5Encoder.model_fields))), kind="T5")


def ratios(config: MochiAutoencoder) -> tuple[int, int]:
    """Frames and pixels per latent cell."""
    return prod(config.temporal_expansions), prod(config.spatial_expansions)
