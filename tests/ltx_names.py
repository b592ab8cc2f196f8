"""LTX-Video's files as its authors write them: their names and their list of blocks, for tiny networks.

The names are spelled here from the list of blocks, as the authors' code builds networks of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tiny_families
import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from torch import Tensor, nn

from kineograph.nodes.families.layouts import ltx
from kineograph.nodes.networks.weights import save_weights

LINEARS = ("weight", "bias")
RESIDUAL = {"residual": True, "multiplier": 2}
FIRST = [
    ["res_x", 2], ["compress_all", 1], ["res_x_y", 1], ["res_x", 1], ["compress_all", 1], ["res_x_y", 1],
    ["res_x", 1], ["compress_all", 1], ["res_x", 1], ["res_x", 2],
]  # fmt: skip
FOLDING_DOWN = [
    ["res_x", {"num_layers": 2}], ["compress_space_res", {"multiplier": 2}],
    ["res_x", {"num_layers": 1}], ["compress_time_res", {"multiplier": 2}],
    ["res_x", {"num_layers": 3}], ["compress_all_res", {"multiplier": 2}],
    ["res_x", {"num_layers": 1}], ["compress_all_res", {"multiplier": 2}], ["res_x", {"num_layers": 2}],
]  # fmt: skip
OF_FIRST: dict[str, Any] = {"block_out_channels": (4, 8, 16, 16), "layers_per_block": (2, 1, 1, 1, 2)}
LATER: dict[str, Any] = {
    "decoder_block_out_channels": (8, 16, 32), "decoder_spatio_temporal_scaling": (True,) * 3,
    "upsample_residual": (True,) * 3, "upsample_factor": (2,) * 3, "timestep_conditioning": True,
}  # fmt: skip


def up(inject: tuple[bool, ...], depths: tuple[int, ...]) -> list[Any]:
    res = [["res_x", {"num_layers": n, "inject_noise": noisy}] for n, noisy in zip(depths, inject, strict=True)]
    return [res[0]] + [each for more in res[1:] for each in (["compress_all", RESIDUAL], more)]


NOISY, PLAIN = (True, True, True, False), (False,) * 4
GENERATIONS: dict[str, tuple[Any, list[Any], list[Any], dict[str, Any]]] = {
    "0.9.0": (ltx.FIRST, FIRST, FIRST, OF_FIRST | {
        "decoder_block_out_channels": (4, 8, 16, 16), "decoder_layers_per_block": (2, 1, 1, 1, 2),
    }),
    "0.9.1": (ltx.NOISY, FIRST, up(NOISY, (1, 2, 1, 3)), OF_FIRST | LATER | {
        "decoder_layers_per_block": (1, 2, 1, 3), "decoder_inject_noise": NOISY,
    }),
    "0.9.5": (ltx.FOLDING, FOLDING_DOWN, up(PLAIN, (2, 1, 1, 2)), LATER | {
        "block_out_channels": (4, 8, 16, 32, 64), "layers_per_block": (2, 1, 3, 1, 2),
        "down_block_types": ("LTXVideo095DownBlock3D",) * 4, "spatio_temporal_scaling": (True,) * 4,
        "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        "decoder_layers_per_block": (2, 1, 1, 2), "decoder_inject_noise": PLAIN,
        "spatial_compression_ratio": 32, "temporal_compression_ratio": 8,
    }),
}  # fmt: skip
"""Of each version: its layout, its authors' blocks of encoder and decoder, and the same in the library's words."""


def vae(version: str) -> AutoencoderKLLTXVideo:
    torch.manual_seed(0)
    made = AutoencoderKLLTXVideo(latent_channels=8, **GENERATIONS[version][3]).eval()
    made.latents_mean.copy_(torch.randn(8))
    made.latents_std.copy_(torch.rand(8) + 0.5)
    for name, each in made.named_parameters():
        if "per_channel_scale" in name:
            nn.init.normal_(each)
    return made


def transformer(**sizes: Any) -> LTXVideoTransformer3DModel:
    torch.manual_seed(1)
    return LTXVideoTransformer3DModel(**tiny_families.LTX_DIT | {"num_layers": 2} | sizes).eval()


def _both(*places: str) -> list[str]:
    return [f"{place}.{end}" for place in places for end in LINEARS]


def dit_names(blocks: int) -> list[str]:
    timestep = [f"adaln_single.emb.timestep_embedder.linear_{i}" for i in (1, 2)]
    captions = [f"caption_projection.linear_{i}" for i in (1, 2)]
    names = ["scale_shift_table", *_both("patchify_proj", "proj_out", "adaln_single.linear", *timestep, *captions)]
    for i in range(blocks):
        attention = [f"{each}.{way}" for each in ("attn1", "attn2") for way in ("to_q", "to_k", "to_v", "to_out.0")]
        norms = [f"{each}.{way}_norm.weight" for each in ("attn1", "attn2") for way in "qk"]
        inner = ["scale_shift_table", *norms, *_both(*attention, "ff.net.0.proj", "ff.net.2")]
        names += [f"transformer_blocks.{i}.{each}" for each in inner]
    return names


def vae_names(version: str) -> list[str]:
    _, down, blocks, sizes = GENERATIONS[version]
    hears = sizes.get("timestep_conditioning", False)
    names = [f"per_channel_statistics.{each}-of-means" for each in ("mean", "std")]
    names += _both(*(f"{half}.conv_{end}.conv" for half in ("encoder", "decoder") for end in ("in", "out")))
    embedder = [f"timestep_embedder.linear_{i}" for i in (1, 2)]
    if hears:
        names += ["decoder.last_scale_shift_table", "decoder.timestep_scale_multiplier"]
        names += _both(*(f"decoder.last_time_embedder.{each}" for each in embedder))
    for half, listed in (("encoder.down_blocks", down), ("decoder.up_blocks", blocks[::-1])):
        for i, (kind, more) in enumerate(listed):
            place, up_side = f"{half}.{i}", half.startswith("decoder")
            if kind == "res_x_y":
                names += _both(*(f"{place}.{each}" for each in ("conv1.conv", "conv2.conv", "norm3.norm")))
                names += _both(f"{place}.conv_shortcut")
            elif kind == "res_x":
                told = {"num_layers": more} if isinstance(more, int) else more
                inner = [f"{place}.res_blocks.{n}" for n in range(told["num_layers"])]
                names += _both(*(f"{each}.conv{n}.conv" for each in inner for n in (1, 2)))
                if told.get("inject_noise"):
                    names += [f"{each}.per_channel_scale{n}" for each in inner for n in (1, 2)]
                if hears and up_side:
                    names += [f"{each}.scale_shift_table" for each in inner]
                    names += _both(*(f"{place}.time_embedder.{each}" for each in embedder))
            else:
                names += _both(f"{place}.conv.conv" if up_side or kind.endswith("_res") else f"{place}.conv")
    return names


def in_old_names(network: nn.Module, names: list[str], rename: Any) -> dict[str, Tensor]:
    state = network.state_dict()
    return {name: state[rename(name)].clone() for name in names}


def header(version: str, **more: Any) -> dict[str, Any]:
    _, down, blocks, sizes = GENERATIONS[version]
    listed = {"blocks": down} if version == "0.9.0" else {"encoder_blocks": down, "decoder_blocks": blocks}
    own = {
        "_class_name": "CausalVideoAutoencoder", "dims": 3, "in_channels": 3, "out_channels": 3, "latent_channels": 8,
        "norm_layer": "pixel_norm", "patch_size": 4, "latent_log_var": "uniform", "use_quant_conv": False,
        "causal_decoder": False, "timestep_conditioning": sizes.get("timestep_conditioning", False),
        "scaling_factor": 1.0,
    }  # fmt: skip
    dit = {
        "_class_name": "Transformer3DModel", "num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 2,
        "positional_embedding_max_pos": [20, 2048, 2048], "positional_embedding_theta": 10000.0, "norm_eps": 1e-6,
        "positional_embedding_type": "rope", "qk_norm": "rms_norm", "standardization_norm": "rms_norm",
        "timestep_scale_multiplier": 1000, "causal_temporal_positioning": version == "0.9.5", "num_vector_embeds": None,
    }  # fmt: skip
    return {"transformer": dit, "vae": own | listed | more, "allowed_inference_steps": None}


def old_state(version: str, **sizes: Any) -> dict[str, Tensor]:
    """Transformer and VAE under the names of a published file, with what it keeps of its training."""
    dit = in_old_names(transformer(**sizes), dit_names(2), ltx.dit_name)
    parts = {f"model.diffusion_model.{name}": each for name, each in dit.items()}
    own = in_old_names(vae(version), vae_names(version), GENERATIONS[version][0].rename)
    own |= {f"per_channel_statistics.{name}": torch.ones(8) for name in ("channel", "mean-of-stds")}
    return parts | {f"vae.{name}": each for name, each in own.items()}


def write(path: Path, version: str, said: dict[str, Any] | None = None, **sizes: Any) -> Path:
    told = header(version) if said is None else said
    save_weights(path, old_state(version, **sizes), {"config": json.dumps(told)} if told else None)
    return path
