"""Published models of which the sizes are known here, so that they can be planned without files. Knows no files.

Mochi 1: Genmo 2024 (github.com/genmoai/mochi). HunyuanVideo: Kong et al. 2024 (arXiv 2412.03603). LTX-Video: HaCohen et
al. 2024 (arXiv 2501.00103) and the versions since, to 0.9.8 (github.com/Lightricks/LTX-Video). CogVideoX: Yang et al.
2024 (arXiv 2408.06072), sizes of 5b and 1.5 as their folders on the hub say.
"""

from __future__ import annotations

from typing import Any

from kineograph.nodes.families import ltx
from kineograph.nodes.families.encoder_schemas import ClipTextEncoder, LlamaEncoder, LlavaEncoder, MochiText, T5Encoder
from kineograph.nodes.families.schemas import (
    CogVideoXAutoencoder,
    CogVideoXTransformer,
    HunyuanAutoencoder,
    HunyuanTransformer,
    LTXAutoencoder,
    LTXTransformer,
    MochiAutoencoder,
    MochiTransformer,
    NetworkConfig,
)

LTX_2B = LTXTransformer(causal_positions=True)
LTX_13B = LTXTransformer(attention_head_dim=128, cross_attention_dim=4096, num_layers=48, causal_positions=True)
LTX_FOLDED_UP = {
    "decoder_block_out_channels": [256, 512, 1024],
    "decoder_spatio_temporal_scaling": [True] * 3,
    "upsample_residual": [True] * 3,
    "upsample_factor": [2] * 3,
    "timestep_conditioning": True,
}
"""Of the decoder since 0.9.1."""
LTX_NOISY = LTXAutoencoder(
    **LTX_FOLDED_UP, decoder_layers_per_block=[5, 6, 7, 8], decoder_inject_noise=[True, True, True, False]
)
LTX_FOLDING = LTXAutoencoder(
    **LTX_FOLDED_UP,
    block_out_channels=[128, 256, 512, 1024, 2048],
    layers_per_block=[4, 6, 6, 2, 2],
    down_block_types=["LTXVideo095DownBlock3D"] * 4,
    spatio_temporal_scaling=[True] * 4,
    downsample_type=["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
    decoder_layers_per_block=[5, 5, 5, 5],
    decoder_inject_noise=[False] * 4,
    spatial_compression_ratio=32,
    temporal_compression_ratio=8,
)


def _ltx(dit: LTXTransformer, vae: LTXAutoencoder) -> dict[str, tuple[str, NetworkConfig]]:
    reader = ltx.LATER if dit.causal_positions else ltx.TRANSFORMER
    return {
        "dit": (ltx.TRANSFORMER, dit),
        "vae": ("AutoencoderKLLTXVideo", vae),
        "text_encoder": (f"T5EncoderModel of {reader}", T5Encoder(vocab_size=32128)),
    }


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
    "ltx-video-2b-0.9": _ltx(LTXTransformer(), LTXAutoencoder()),
    "ltx-video-2b-0.9.1": _ltx(LTXTransformer(), LTX_NOISY),
    "ltx-video-2b-0.9.5": _ltx(LTX_2B, LTX_FOLDING),
    "ltx-video-13b-0.9.7": _ltx(LTX_13B, LTX_FOLDING),
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
    "hunyuanvideo-i2v": {
        "dit": ("HunyuanVideoTransformer3DModel", HunyuanTransformer(image_condition_type="token_replace")),
        "vae": ("AutoencoderKLHunyuanVideo", HunyuanAutoencoder()),
        "text_encoder": ("LlavaForConditionalGeneration", LlavaEncoder()),
        "text_encoder_2": ("CLIPTextModel", ClipTextEncoder()),
    },
}
"""By name and part: the kind of network, a name in ``kinds.NETWORKS``, and its sizes."""
