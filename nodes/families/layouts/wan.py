"""Wan's transformer, VACE and VAE as Wan's repository and ComfyUI name them. Knows no file."""

from __future__ import annotations

import math

from kineograph.nodes.families.layouts.layout import Layout, Said, Shapes, exchanged, layers, numbered
from kineograph.nodes.families.schemas import VACETransformer, WanAutoencoder, WanTransformer

HEAD_WIDTH = 128
"""Of every published Wan model; its tensors do not tell it."""
WAN_OUTER = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
    "head.modulation": "scale_shift_table",
    "head.head": "proj_out",
}
WAN_BLOCK = {
    "modulation": "scale_shift_table",
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
}
for _old, _new in (("self_attn", "attn1"), ("cross_attn", "attn2")):
    WAN_BLOCK |= {f"{_old}.{each}": f"{_new}.to_{each}" for each in "qkv"} | {f"{_old}.o": f"{_new}.to_out.0"}
    WAN_BLOCK |= {f"{_old}.norm_{each}": f"{_new}.norm_{each}" for each in "qk"}


def wan_dit_name(name: str) -> str | None:
    """A tensor of Wan's transformer, in the names of diffusers."""
    block, rest = numbered(r"blocks\.\d+\.", name)
    found = exchanged(rest, WAN_BLOCK if block else WAN_OUTER)
    return None if found is None else block + found


VACE_BLOCK = WAN_BLOCK | {"before_proj": "proj_in", "after_proj": "proj_out"}


def vace_dit_name(name: str) -> str | None:
    """A tensor of VACE's transformer, in the names of diffusers."""
    block, rest = numbered(r"vace_blocks\.\d+\.", name)
    if block:
        found = exchanged(rest, VACE_BLOCK)
        return None if found is None else block + found
    return name if name.startswith("vace_patch_embedding.") else wan_dit_name(name)


def vace_dit_sizes(shapes: Shapes, said: Said) -> VACETransformer:
    """The sizes of VACE's transformer, whose blocks stand beside every so many of the others."""
    plain = wan_dit_sizes(shapes, said)
    beside = layers(shapes, r"vace_blocks\.(\d+)\.")
    step = plain.num_layers // beside
    return VACETransformer(
        **plain.model_dump(),
        vace_layers=[*range(0, step * beside, step)],
        vace_in_channels=shapes["vace_patch_embedding.weight"][1],
    )


def wan_aliases(layers: int) -> dict[str, str]:
    """From the names of the layers of Wan's transformer in its own repository to those of diffusers."""
    inner = {f"blocks.{i}.{old}": f"blocks.{i}.{new}" for i in range(layers) for old, new in WAN_BLOCK.items()}
    return WAN_OUTER | inner


def wan_dit_sizes(shapes: Shapes, said: Said) -> WanTransformer:
    """The sizes of Wan's transformer."""
    width, channels, *patch = shapes["patch_embedding.weight"]
    image = shapes.get("img_emb.proj.0.weight")
    told = said.get("num_heads")
    heads = told if type(told) is int and told > 0 else width // HEAD_WIDTH
    return WanTransformer(
        patch_size=patch,
        num_attention_heads=heads,
        attention_head_dim=width // heads,
        in_channels=channels,
        out_channels=shapes["head.head.weight"][0] // math.prod(patch),
        text_dim=shapes["text_embedding.0.weight"][1],
        freq_dim=shapes["time_embedding.0.weight"][1],
        ffn_dim=shapes["blocks.0.ffn.0.weight"][0],
        num_layers=layers(shapes, r"blocks\.(\d+)\."),
        cross_attn_norm="blocks.0.norm3.weight" in shapes,
        image_dim=image[0] if image else None,
        added_kv_proj_dim=width if image else None,
        pos_embed_seq_len=shapes["img_emb.emb_pos"][1] if "img_emb.emb_pos" in shapes else None,
    )


WAN_VAE_OUTER = {"conv1": "quant_conv", "conv2": "post_quant_conv"}
WAN_VAE_HALF = {"conv1": "conv_in", "head.0": "norm_out", "head.2": "conv_out", "middle.1": "mid_block.attentions.0"}
WAN_VAE_RESNET = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}
SAMPLERS = {"resample.1": "resample.1", "time_conv": "time_conv"}
PER_LEVEL = 4
"""Steps of a level of Wan's decoder: three residual blocks and a sampler."""


def wan_vae_name(name: str) -> str | None:
    """A tensor of Wan's VAE, in the names of diffusers."""
    half, rest = numbered(r"encoder\.|decoder\.", name)
    if not half:
        return exchanged(name, WAN_VAE_OUTER)
    step, inner = numbered(r"(?:middle|downsamples|upsamples)\.\d+\.", rest)
    if not step or step == "middle.1.":
        found = exchanged(rest, WAN_VAE_HALF)
        return None if found is None else half + found
    kind, number = step.split(".")[0], int(step.split(".")[1])
    resnet, sampler = exchanged(inner, WAN_VAE_RESNET), exchanged(inner, SAMPLERS)
    if kind == "downsamples":
        found = resnet or sampler
        return found and f"{half}down_blocks.{number}.{found}"
    if kind == "middle":
        return resnet and f"{half}mid_block.resnets.{number // 2}.{resnet}"
    level, place = divmod(number, PER_LEVEL)
    if resnet:
        return f"{half}up_blocks.{level}.resnets.{place}.{resnet}"
    return sampler and f"{half}up_blocks.{level}.upsamplers.0.{sampler}"


def wan_vae_sizes(shapes: Shapes, _: Said) -> WanAutoencoder:
    """The sizes of Wan 2.1's VAE; all else about it is as published."""
    return WanAutoencoder(base_dim=shapes["encoder.conv1.weight"][0], z_dim=shapes["conv2.weight"][0])


LAYOUTS = (
    Layout("VACE's transformer", "WanVACETransformer3DModel",
           ("vace_patch_embedding.weight", "vace_blocks.0.before_proj.weight", "patch_embedding.weight",
            "head.modulation", "time_projection.1.weight", "text_embedding.0.weight", "time_embedding.0.weight",
            "head.head.weight", "blocks.0.ffn.0.weight"),
           vace_dit_name, vace_dit_sizes),
    Layout("Wan's transformer", "WanTransformer3DModel",
           ("patch_embedding.weight", "head.modulation", "time_projection.1.weight", "text_embedding.0.weight",
            "time_embedding.0.weight", "head.head.weight", "blocks.0.ffn.0.weight"),
           wan_dit_name, wan_dit_sizes),
    Layout("Wan's VAE", "AutoencoderKLWan",
           ("encoder.conv1.weight", "decoder.middle.0.residual.0.gamma", "conv2.weight"), wan_vae_name, wan_vae_sizes),
)  # fmt: skip
