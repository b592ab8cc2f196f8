"""Published models of which the sizes are known here, so that they can be planned without files. Knows no files.

Mochi 1: Genmo 2024 (github.com/genmoai/mochi). HunyuanVideo: Kong et al. 2024 (arXiv 2412.03603). CogVideoX: Yang et
al. 2024 (arXiv 2408.06072), sizes of 5b and 1.5 as their folders on the hub say.
"""

from __future__ import annotations

from typing import Any

from kineograph.nodes.families.schemas import (
    ClipTextEncoder,
    CogVideoXAutoencoder,
    CogVideoXTransformer,
    HunyuanAutoencoder,
    HunyuanTransformer,
    LlamaEncoder,
    MochiAutoencoder,
    MochiText,
    MochiTransformer,
    NetworkConfig,
    T5Encoder,
)

COG_5B: dict[str, Any] = {
    "num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True, "snr_shift_scale": 1.0,
}  # fmt: skip
COG_15 = COG_5B | {
    "patch_size_t": 2, "patch_bias": False, "sample_frames": 81, "sample_height": 300, "sample_width": 300,
}  # fmt: skip
COG_SHOWN: dict[str, Any] = {"in_channels": 32}


def _cogvideox(factor: float = 0.7, inverted: bool = False, **dit: Any) -> dict[str, tuple[str, NetworkConfig]]:
    vae = CogVideoXAutoencoder(scaling_factor=factor, invert_scale_latents=inverted)
    return {
        "dit": ("CogVideoXTransformer3DModel", CogVideoXTransformer(**dit)),
        "vae": ("AutoencoderKLCogVideoX", vae),
        "text_encoder": ("T5EncoderModel of CogVideoXTransformer3DModel", T5Encoder(vocab_size=32128)),
    }


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
    "cogvideox-2b": _cogvideox(1.15258426),
    "cogvideox-5b": _cogvideox(**COG_5B),
    "cogvideox-5b-i2v": _cogvideox(**COG_5B, **COG_SHOWN, use_learned_positional_embeddings=True),
    "cogvideox-1.5-5b": _cogvideox(**COG_15),
    "cogvideox-1.5-5b-i2v": _cogvideox(inverted=True, **COG_15, **COG_SHOWN, ofs_embed_dim=512),
}
"""By name and part: the kind of network, a name in ``kinds.NETWORKS``, and its sizes."""
