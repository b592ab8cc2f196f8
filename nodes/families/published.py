"""Published models of which the sizes are known here, so that they can be planned without files. Knows no files.

Mochi 1: Genmo 2024 (github.com/genmoai/mochi). HunyuanVideo: Kong et al. 2024 (arXiv 2412.03603).
"""

from __future__ import annotations

from kineograph.nodes.families.schemas import (
    ClipTextEncoder,
    HunyuanAutoencoder,
    HunyuanTransformer,
    LlamaEncoder,
    LlavaEncoder,
    MochiAutoencoder,
    MochiText,
    MochiTransformer,
    NetworkConfig,
)

PUBLISHED: dict[str, dict[str, tuple[str, NetworkConfig]]] = {
    "mochi-1": {
        "dit": ("MochiTransformer3DModel", MochiTransformer()),
        "vae": ("AutoencoderKLMochi", MochiAutoencoder()),
        "text_encoder": ("T5EncoderModel of MochiTransformer3DModel", MochiText(vocab_size=32128)),
    },
    "hunyuanvideo": {
        "dit": ("HunyuanVideoTransformer3DModel", HunyuanTransformer()),
        "vae": ("AutoencoderKLHunyuanVideo", HunyuanAutoencoder()),
        "text_encoder": ("LlamaModel", LlamaEncoder()),
        "text_encoder_2": ("CLIPTextModel", ClipTextEncoder()),
    },
    "hunyuanvideo-i2v": {
        "dit": ("HunyuanVideoTransformer3DModel", HunyuanTransformer(image_condition_type="token_replace")),
        "vae": ("AutoencoderKLHunyuanVideo", HunyuanAutoencoder()),
        "text_encoder": ("LlavaForConditionalGeneration", LlavaEncoder()),
        "text_encoder_2": ("CLIPTextModel", ClipTextEncoder()),
    },
}
"""By name and part: the kind of network, a name in ``kinds.NETWORKS``, and its sizes."""
