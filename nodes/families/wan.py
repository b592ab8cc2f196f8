"""Wan 2.1: its networks on the meta device, and the sizes that were published. Knows no files."""

from __future__ import annotations

from typing import Any

from kineograph.nodes.families.library import network_class
from kineograph.nodes.families.schemas import T5Encoder, WanAutoencoder, WanTransformer

TEXT_TOKENS = 512

SIZES = {
    "wan2.1-t2v-1.3b": WanTransformer(num_attention_heads=12, ffn_dim=8960, num_layers=30),
    "wan2.1-t2v-14b": WanTransformer(),
}
"""Of the text-to-video models (Wan-Video/Wan2.1, wan/configs)."""


def transformer(config: WanTransformer) -> Any:
    """A ``WanTransformer3DModel`` without numbers."""
    import torch

    with torch.device("meta"):
        network = network_class("diffusers", "WanTransformer3DModel")(**config.model_dump())
    # its tables of angles are no weights, so no file has them
    network.rope = type(network.rope)(config.attention_head_dim, tuple(config.patch_size), config.rope_max_seq_len)
    return network


def autoencoder(config: WanAutoencoder) -> Any:
    """An ``AutoencoderKLWan`` without numbers."""
    import torch

    with torch.device("meta"):
        return network_class("diffusers", "AutoencoderKLWan")(**config.model_dump())


def text_network(config: T5Encoder, kind: str = "UMT5") -> Any:
    """A ``UMT5EncoderModel`` or ``T5EncoderModel`` without numbers."""
    import torch

    made = network_class("transformers", f"{kind}Config")(
        **config.model_dump(), is_encoder_decoder=False, use_cache=False, tie_word_embeddings=False
    )
    with torch.device("meta"):
        network = network_class("transformers", f"{kind}EncoderModel")(made)
    network.encoder.embed_tokens = network.shared  # one table, which is then counted once
    return network
