"""CogVideoX: its networks on the meta device. Knows no files."""

from __future__ import annotations

from typing import Any

from kineograph.nodes.families.library import network_class
from kineograph.nodes.families.schemas import CogVideoXAutoencoder, CogVideoXTransformer

TEXT_TOKENS = 226


def transformer(config: CogVideoXTransformer) -> Any:
    """A ``CogVideoXTransformer3DModel`` without numbers."""
    import torch

    with torch.device("meta"):
        network = network_class("diffusers", "CogVideoXTransformer3DModel")(
            **config.model_dump(exclude={"snr_shift_scale"})
        )
    if config.use_rotary_positional_embeddings:
        return network
    # the table of places is no weight, so no file has it
    size = config.sample_height, config.sample_width, config.sample_frames
    network.patch_embed.pos_embedding = network.patch_embed._get_positional_embeddings(*size, device="cpu")
    return network


def autoencoder(config: CogVideoXAutoencoder) -> Any:
    """An ``AutoencoderKLCogVideoX`` without numbers."""
    import torch

    with torch.device("meta"):
        return network_class("diffusers", "AutoencoderKLCogVideoX")(**config.model_dump())
