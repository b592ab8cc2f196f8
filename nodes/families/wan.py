"""Wan 2.1 and 2.2: its networks on the meta device, and the sizes that were published. Knows no files."""

from __future__ import annotations

from typing import Any

from kineograph.nodes.families.encoder_schemas import CLIPVision, T5Encoder
from kineograph.nodes.families.library import network_class
from kineograph.nodes.families.schemas import VACETransformer, WanAutoencoder, WanTransformer

TEXT_TOKENS = 512

SIZES = {
    "wan2.1-t2v-1.3b": WanTransformer(num_attention_heads=12, ffn_dim=8960, num_layers=30),
    "wan2.1-t2v-14b": WanTransformer(),
    "wan2.1-vace-1.3b": VACETransformer(
        num_attention_heads=12, ffn_dim=8960, num_layers=30, vace_layers=[*range(0, 30, 2)]
    ),
    "wan2.1-vace-14b": VACETransformer(),
    "wan2.1-i2v-14b": WanTransformer(in_channels=36, image_dim=1280, added_kv_proj_dim=5120),
    "wan2.2-t2v-a14b": WanTransformer(),
    "wan2.2-i2v-a14b": WanTransformer(in_channels=36),
    "wan2.1-flf2v-14b": WanTransformer(in_channels=36, image_dim=1280, added_kv_proj_dim=5120, pos_embed_seq_len=514),
}
"""Of the models for text to video, image to video and control (Wan-Video/Wan2.1 and Wan2.2, wan/configs)."""


BOUNDARIES = {"wan2.2-t2v-a14b": 0.875, "wan2.2-i2v-a14b": 0.9}
"""Noise levels from which on the first of two transformers is asked (Wan-Video/Wan2.2, wan/configs)."""


def transformer(config: WanTransformer, name: str = "WanTransformer3DModel") -> Any:
    """A ``WanTransformer3DModel`` or ``WanVACETransformer3DModel`` without numbers."""
    import torch

    with torch.device("meta"):
        network = network_class("diffusers", name)(**config.model_dump())
    # its tables of angles are no weights, so no file has them
    network.rope = type(network.rope)(config.attention_head_dim, tuple(config.patch_size), config.rope_max_seq_len)
    return network


def autoencoder(config: WanAutoencoder) -> Any:
    """An ``AutoencoderKLWan`` without numbers."""
    import torch

    with torch.device("meta"):
        return network_class("diffusers", "AutoencoderKLWan")(**config.model_dump())


def image_network(config: CLIPVision) -> Any:
    """A ``CLIPVisionModel`` without numbers, of what older releases of transformers put one level deeper."""
    import torch

    made = network_class("transformers", "CLIPVisionConfig")(**config.model_dump())
    with torch.device("meta"):
        network = network_class("transformers", "CLIPVisionModel")(made)
    network = getattr(network, "vision_model", network)
    places = network.embeddings.position_ids
    network.embeddings.position_ids = torch.arange(places.shape[1], device="cpu")[None]  # no weight
    return network


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
