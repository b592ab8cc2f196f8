"""LTX-Video: its networks on the meta device. Knows no files."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kineograph.nodes.families.library import network_class
from kineograph.nodes.families.schemas import LTXAutoencoder, LTXTransformer

TEXT_TOKENS = 128
LATER_TEXT_TOKENS = 256
TRANSFORMER = "LTXVideoTransformer3DModel"
LATER = f"{TRANSFORMER} since 0.9.5"
"""The transformer of these, as who reads a T5: they read more tokens, and words do not look at the padding."""


def transformer(config: LTXTransformer) -> Any:
    """A ``LTXVideoTransformer3DModel`` without numbers."""
    import torch

    with torch.device("meta"):
        return network_class("diffusers", TRANSFORMER)(**config.model_dump(exclude={"causal_positions"}))


def autoencoder(config: LTXAutoencoder) -> Any:
    """An ``AutoencoderKLLTXVideo`` without numbers."""
    import torch

    with torch.device("meta"):
        return network_class("diffusers", "AutoencoderKLLTXVideo")(**config.model_dump())


def is_later(down_block_types: Collection[str]) -> bool:
    """Whether a VAE is that of 0.9.5 or later, whose transformers count time as it does and know pictures beside it."""
    return "LTXVideo095DownBlock3D" in down_block_types


def ratios(config: LTXAutoencoder) -> tuple[int, int]:
    """Frames and pixels per latent cell."""
    doubled = 2 ** sum(config.spatio_temporal_scaling)
    time, space = config.patch_size_t * doubled, config.patch_size * doubled
    return config.temporal_compression_ratio or time, config.spatial_compression_ratio or space
