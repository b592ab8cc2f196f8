"""Mochi's transformer and VAE as Genmo and ComfyUI name them. Knows no file.

Genmo's VAE is two files, in which the names of encoder and decoder begin alike; ComfyUI's is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kineograph.nodes.families.layouts.layout import Layout, Said, Shapes, exchanged, layers, numbered
from kineograph.nodes.families.schemas import MochiAutoencoder, MochiTransformer

if TYPE_CHECKING:
    from kineograph.nodes.networks.mapped import Placed

OUTER = {
    "x_embedder": "patch_embed",
    "t_embedder.mlp.0": "time_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_embed.timestep_embedder.linear_2",
    "t5_y_embedder": "time_embed.pooler",
    "t5_yproj": "time_embed.caption_proj",
    "final_layer.mod": "norm_out.linear",
    "final_layer.linear": "proj_out",
    "pos_frequencies": "pos_frequencies",
}
BLOCK = {
    "mod_x": "norm1.linear",
    "mod_y": "norm1_context.linear",
    "last_mod_y": "norm1_context.linear_1",
    "attn.proj_x": "attn1.to_out.0",
    "attn.proj_y": "attn1.to_add_out",
    "mlp_x.w1": "ff.net.0.proj",
    "mlp_x.w2": "ff.net.2",
    "mlp_y.w1": "ff_context.net.0.proj",
    "mlp_y.w2": "ff_context.net.2",
}
for _each in "qkv":
    BLOCK |= {f"attn.{_each}_x": f"attn1.to_{_each}", f"attn.{_each}_y": f"attn1.add_{_each}_proj"}
for _each in "qk":
    BLOCK |= {f"attn.{_each}_norm_x": f"attn1.norm_{_each}", f"attn.{_each}_norm_y": f"attn1.norm_added_{_each}"}


def dit_name(name: str) -> str | None:
    """A tensor of Mochi's transformer, after :func:`dit_split`, in the names of diffusers."""
    block, rest = numbered(r"blocks\.\d+\.", name)
    found = exchanged(rest, BLOCK if block else OUTER)
    return found and (f"transformer_{block}{found}" if block else found)


def dit_split(state: Mapping[str, Placed]) -> dict[str, Placed]:
    """The transformer's tensors: queries, keys and values apart, gates behind what they gate, scales before shifts.

    The last block leaves the text as it is, and so the layer of its levels has another name in diffusers.
    """
    numbers = [int(found[1]) for name in state if (found := re.search(r"(?:^|\.)blocks\.(\d+)\.", name))]
    last = f"blocks.{max(numbers)}.mod_y"
    apart: dict[str, Placed] = {}
    for name, placed in state.items():
        if ".attn.qkv_" in name:
            apart |= {name.replace("qkv", each): placed.rows(part, 3) for part, each in enumerate("qkv")}
        elif re.search(r"mlp_[xy]\.w1\.|final_layer\.mod\.", name):
            apart[name] = placed._replace(turned=True)
        else:
            apart[name.replace("mod_y", "last_mod_y") if last in name else name] = placed
    return apart


def dit_sizes(shapes: Shapes, _: Said) -> MochiTransformer:
    """The sizes of Mochi's transformer."""
    width, channels, patch = shapes["x_embedder.proj.weight"][:3]
    head = shapes["blocks.0.attn.q_norm_x.weight"][0]
    pooled, text = shapes["t5_yproj.weight"]
    return MochiTransformer(
        patch_size=patch,
        num_attention_heads=width // head,
        attention_head_dim=head,
        num_layers=layers(shapes, r"blocks\.(\d+)\."),
        pooled_projection_dim=pooled,
        in_channels=channels,
        text_embed_dim=text,
        time_embed_dim=shapes["t_embedder.mlp.0.weight"][1],
    )


RESNET = {
    "stack.0": "resnets.{}.norm1.norm_layer",
    "stack.2": "resnets.{}.conv1.conv",
    "stack.3": "resnets.{}.norm2.norm_layer",
    "stack.5": "resnets.{}.conv2.conv",
    "attn_block.norm": "norms.{}.norm_layer",
    "attn_block.attn.out": "attentions.{}.to_out.0",
} | {f"attn_block.attn.{each}": f"attentions.{{}}.to_{each}" for each in "qkv"}
ENDS = {
    "encoder.layers.0": "encoder.proj_in",
    "encoder.output_norm": "encoder.norm_out.norm_layer",
    "encoder.output_proj": "encoder.proj_out",
    "decoder.blocks.0.0": "decoder.conv_in",
    "decoder.output_proj": "decoder.proj_out",
}
FIRST = 3
"""Residual blocks of Mochi's encoder before it makes the frame smaller; they stand in one row with all others."""
LEVELS = 3
"""How often Mochi's VAE makes a frame smaller."""
SAMPLERS = (
    (r"encoder\.layers\.([4-6])\.layers\.0\.", "encoder.down_blocks.{}.conv_in.conv.", 4),
    (r"decoder\.blocks\.([1-3])\.proj\.", "decoder.up_blocks.{}.proj.", 1),
)
"""Pattern, name in diffusers, and the number of the first level."""
RESNETS = (
    (r"encoder\.layers\.()([1-3])\.", "encoder.block_in.", 0, 1),
    (r"encoder\.layers\.([4-6])\.layers\.(\d+)\.", "encoder.down_blocks.{}.", 4, 1),
    (r"encoder\.layers\.()(\d+)\.", "encoder.block_out.", 0, 7),
    (r"decoder\.blocks\.()0\.(\d+)\.", "decoder.block_in.", 0, 1),
    (r"decoder\.blocks\.([1-3])\.blocks\.(\d+)\.", "decoder.up_blocks.{}.", 1, 0),
    (r"decoder\.blocks\.()4\.(\d+)\.", "decoder.block_out.", 0, 0),
)
"""Pattern, name in diffusers, and the numbers of the first level and of the first residual block."""


def vae_name(name: str) -> str | None:
    """A tensor of Mochi's VAE, after :func:`vae_split`, in the names of diffusers."""
    if end := exchanged(name, ENDS):
        return end
    for pattern, new, first in SAMPLERS:
        if found := re.match(pattern, name):
            return new.format(int(found[1]) - first) + name[found.end() :]
    for pattern, new, first, begin in RESNETS:
        if found := re.match(pattern, name):
            inner = exchanged(name[found.end() :], RESNET)
            return inner and new.format(int(found[1] or 0) - first) + inner.format(int(found[2]) - begin)
    return None


def vae_split(state: Mapping[str, Placed]) -> dict[str, Placed]:
    """The VAE's tensors, queries, keys and values apart."""
    apart: dict[str, Placed] = {}
    for name, placed in state.items():
        if ".attn.qkv." in name:
            apart |= {name.replace("qkv", each): placed.rows(part, 3) for part, each in enumerate("qkv")}
        else:
            apart[name] = placed
    return apart


def vae_sizes(shapes: Shapes, _: Said) -> MochiAutoencoder:
    """The sizes of Mochi's VAE; what its latents are normalised by is as published."""
    samplers = [shapes[f"encoder.layers.{FIRST + 1 + level}.layers.0.weight"] for level in range(LEVELS)]
    depths = [layers(shapes, rf"encoder\.layers\.{FIRST + 1 + level}\.layers\.(\d+)\.") - 1 for level in range(LEVELS)]
    ups = [shapes[f"decoder.blocks.{level}.blocks.0.stack.0.weight"][0] for level in range(LEVELS, 0, -1)]
    return MochiAutoencoder(
        in_channels=shapes["encoder.layers.0.weight"][1],
        out_channels=shapes["decoder.output_proj.weight"][0],
        encoder_block_out_channels=[shapes["encoder.layers.0.weight"][0], *(each[0] for each in samplers)],
        decoder_block_out_channels=[shapes[f"decoder.blocks.{LEVELS + 1}.0.stack.0.weight"][0], *ups],
        latent_channels=shapes["decoder.blocks.0.0.weight"][1],
        layers_per_block=[FIRST, *depths, layers(shapes, r"decoder\.blocks\.0\.(\d+)\.") - 1],
        temporal_expansions=[each[2] for each in samplers],
        spatial_expansions=[each[3] for each in samplers],
    )


HALVES = {
    "encoder.": ("layers.0.weight", "layers.4.layers.0.weight", "layers.1.stack.0.weight", "output_norm.weight"),
    "decoder.": ("blocks.0.0.weight", "blocks.1.proj.weight", "blocks.0.1.stack.0.weight", "output_proj.weight"),
}
"""Of a VAE in two files: what stands before their names in the whole, and tensors by which each is known."""
LAYOUTS = (
    Layout("Mochi's transformer", "MochiTransformer3DModel",
           ("x_embedder.proj.weight", "t5_yproj.weight", "t5_y_embedder.to_q.weight", "pos_frequencies",
            "blocks.0.attn.qkv_x.weight", "blocks.0.attn.q_norm_x.weight", "t_embedder.mlp.0.weight"),
           dit_name, dit_sizes, dit_split),
    Layout("Mochi's VAE", "AutoencoderKLMochi",
           tuple(start + mark for start, marks in HALVES.items() for mark in marks), vae_name, vae_sizes, vae_split),
)  # fmt: skip
