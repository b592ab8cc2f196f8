"""LTX-Video: its networks on the meta device. Knows no files."""

from __future__ import annotations

from typing import Any

from kineograph.nodes.families.library import network_class
from kineograph.nodes.families.schemas import LTXAutoencoder, LTXTransformer

TEXT_TOKENS = 128


def transformer(config: LTXTransformer) -> Any:
    """A ``LTXVideoTransformer3DModel`` without numbers."""
    import torch

    with torch.device("meta"):
        return network_class("diffusers", "LTXVideoTransformer3DModel")(
            **config.model_dump(exclude={"causal_positions"})
        )


def autoencoder(config: LTXAutoencoder) -> Any:
    """An ``AutoencoderKLLTXVideo`` without numbers."""
    import torch

    with torch.device("meta"):
        return network_class("diffusers", "AutoencoderKLLTXVideo")(**config.model_dump())


def ratios(config: LTXAutoencoder) -> tuple[int, int]:
    """Frames and pixels per latent cell."""
    doubled = 2 ** sum(config.spatio_temporal_scaling)
    time, space = config.patch_size_t * doubled, config.patch_size * doubled
    return config.temporal_compression_ratio or time, config.spatial_compression_ratio or space
