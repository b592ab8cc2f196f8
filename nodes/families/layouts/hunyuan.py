"""HunyuanVideo's transformer and VAE as its authors and ComfyUI name them. Knows no file.

The authors' VAE has the names of diffusers; ComfyUI's has those of latent diffusion (Rombach et al. 2022).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kineograph.nodes.families.layouts.layout import Layout, Said, Shapes, exchanged, layers, numbered
from kineograph.nodes.families.schemas import HunyuanAutoencoder, HunyuanTransformer

if TYPE_CHECKING:
    from kineograph.nodes.networks.mapped import Placed

OUTER = {
    "img_in": "x_embedder",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
    "final_layer.linear": "proj_out",
    "txt_in.input_embedder": "context_embedder.proj_in",
    "txt_in.c_embedder.linear_1": "context_embedder.time_text_embed.text_embedder.linear_1",
    "txt_in.c_embedder.linear_2": "context_embedder.time_text_embed.text_embedder.linear_2",
    "txt_in.c_embedder.in_layer": "context_embedder.time_text_embed.text_embedder.linear_1",
    "txt_in.c_embedder.out_layer": "context_embedder.time_text_embed.text_embedder.linear_2",
}
for _old, _new in (
    ("time_in", "time_text_embed.timestep_embedder"),
    ("guidance_in", "time_text_embed.guidance_embedder"),
    ("txt_in.t_embedder", "context_embedder.time_text_embed.timestep_embedder"),
):
    OUTER |= {f"{_old}.mlp.0": f"{_new}.linear_1", f"{_old}.mlp.2": f"{_new}.linear_2"}
    OUTER |= {f"{_old}.in_layer": f"{_new}.linear_1", f"{_old}.out_layer": f"{_new}.linear_2"}  # ComfyUI's

DOUBLE: dict[str, str] = {}
for _old, _norm, _q, _of, _out, _feed in (
    ("img", "norm1", "to_{}", "norm_{}", "to_out.0", "ff"),
    ("txt", "norm1_context", "add_{}_proj", "norm_added_{}", "to_add_out", "ff_context"),
):
    DOUBLE |= {f"{_old}_mod.{each}": f"{_norm}.linear" for each in ("linear", "lin")}
    DOUBLE |= {f"{_old}_attn{dot}proj": f"attn.{_out}" for dot in "_."}
    DOUBLE |= {f"{_old}_attn{dot}{each}": f"attn.{_q.format(each)}" for dot in "_." for each in "qkv"}
    DOUBLE |= {f"{_old}_attn_{each}_norm": f"attn.{_of.format(each)}" for each in "qk"}
    DOUBLE |= {
        f"{_old}_attn.norm.{long}_norm.scale": f"attn.{_of.format(each)}.weight"
        for long, each in (("query", "q"), ("key", "k"))
    }
    DOUBLE |= {f"{_old}_mlp.{each}": f"{_feed}.net.0.proj" for each in ("fc1", "0")}
    DOUBLE |= {f"{_old}_mlp.{each}": f"{_feed}.net.2" for each in ("fc2", "2")}

SINGLE = {"linear2": "proj_out", "linear1_mlp": "proj_mlp", "q_norm": "attn.norm_q", "k_norm": "attn.norm_k"}
SINGLE |= {f"linear1_{each}": f"attn.to_{each}" for each in "qkv"}
SINGLE |= {f"modulation.{each}": "norm.linear" for each in ("linear", "lin")}
SINGLE |= {"norm.query_norm.scale": "attn.norm_q.weight", "norm.key_norm.scale": "attn.norm_k.weight"}

REFINER = {"norm1": "norm1", "norm2": "norm2", "adaLN_modulation.1": "norm_out.linear"}
REFINER |= {f"self_attn{dot}proj": "attn.to_out.0" for dot in "_."}
REFINER |= {f"self_attn{dot}{each}": f"attn.to_{each}" for dot in "_." for each in "qkv"}
REFINER |= {"mlp.fc1": "ff.net.0.proj", "mlp.0": "ff.net.0.proj", "mlp.fc2": "ff.net.2", "mlp.2": "ff.net.2"}
BLOCKS = (
    ("double_blocks", DOUBLE, "transformer_blocks"),
    ("single_blocks", SINGLE, "single_transformer_blocks"),
    ("txt_in.individual_token_refiner.blocks", REFINER, "context_embedder.token_refiner.refiner_blocks"),
)


def dit_name(name: str) -> str | None:
    """A tensor of HunyuanVideo's transformer, after :func:`dit_split`, in the names of diffusers."""
    for old, table, new in BLOCKS:
        block, rest = numbered(rf"{re.escape(old)}\.\d+\.", name)
        if block:
            found = exchanged(rest, table)
            return found and f"{new}.{block.split('.')[-2]}.{found}"
    return exchanged(name, OUTER)


def aliases(double: int, single: int, refiner: int) -> dict[str, str | tuple[str, ...]]:
    """From the names of the transformer's layers in both of its other namings to those of diffusers, for LoRA.

    Args:
        double: blocks of text and video apart. single: blocks of both together. refiner: blocks that read text alone.

    Returns:
        Those of a layer that is several in diffusers in the order of its rows. No layer whose rows stand turned.
    """
    found: dict[str, str | tuple[str, ...]] = {old: new for old, new in OUTER.items() if "adaLN" not in old}
    for (old, table, new), count in zip(BLOCKS, (double, single, refiner), strict=True):
        inner: dict[str, tuple[str, ...]] = {name: (each,) for name, each in table.items()}
        for name in (each for each in table if re.search(r"attn[._]q$", each)):
            inner[f"{name}kv"] = tuple(table[name[:-1] + each] for each in "qkv")
        if table is SINGLE:
            inner["linear1"] = tuple(table[f"linear1_{each}"] for each in (*"qkv", "mlp"))
        for i in range(count):
            found |= {f"{old}.{i}.{name}": tuple(f"{new}.{i}.{one}" for one in each) for name, each in inner.items()}
    return found


def dit_split(state: Mapping[str, Placed]) -> dict[str, Placed]:
    """The transformer's tensors: queries, keys, values and the feed-forward's apart, scales before shifts."""
    width = next(placed.entry.shape[0] for name, placed in state.items() if name.endswith("img_in.proj.weight"))
    apart: dict[str, Placed] = {}
    for name, placed in state.items():
        if re.search(r"attn[._]qkv\.", name):
            apart |= {name.replace("qkv", each): placed.rows(part, 3) for part, each in enumerate("qkv")}
        elif ".linear1." in name:
            for part, each in enumerate("qkv"):
                apart[name.replace("linear1", f"linear1_{each}")] = placed.span(part * width, (part + 1) * width)
            apart[name.replace("linear1", "linear1_mlp")] = placed.span(3 * width, placed.entry.shape[0])
        else:
            apart[name] = placed._replace(turned=True) if "final_layer.adaLN_modulation." in name else placed
    return apart


def dit_sizes(shapes: Shapes, said: Said) -> HunyuanTransformer:
    """The sizes of HunyuanVideo's transformer."""
    width, channels, time, patch = shapes["img_in.proj.weight"][:4]
    first = "double_blocks.0.img_"
    norm = next(each for each in ("attn_q_norm.weight", "attn.norm.query_norm.scale") if first + each in shapes)
    feed = next(each for each in ("mlp.fc1.weight", "mlp.0.weight") if first + each in shapes)
    head = shapes[first + norm][0]
    given = shapes["final_layer.linear.weight"][0] // (time * patch**2)
    if channels not in (given, 2 * given + 1):
        raise ValueError("these are the channels of another model")
    return HunyuanTransformer(
        in_channels=channels,
        out_channels=given,
        num_attention_heads=width // head,
        attention_head_dim=head,
        num_layers=layers(shapes, r"double_blocks\.(\d+)\."),
        num_single_layers=layers(shapes, r"single_blocks\.(\d+)\."),
        num_refiner_layers=layers(shapes, r"txt_in\.individual_token_refiner\.blocks\.(\d+)\."),
        mlp_ratio=shapes[first + feed][0] / width,
        patch_size=patch,
        patch_size_t=time,
        guidance_embeds=any(name.startswith("guidance_in.") for name in shapes),
        text_embed_dim=shapes["txt_in.input_embedder.weight"][1],
        pooled_projection_dim=shapes["vector_in.in_layer.weight"][1],
        image_condition_type="latent_concat" if channels > given else said.get("image_condition_type"),
    )


def vae_sizes(shapes: Shapes, _: Said) -> HunyuanAutoencoder:
    """The sizes of HunyuanVideo's VAE by the names of diffusers; all else about it is as published."""
    levels = layers(shapes, r"encoder\.down_blocks\.(\d+)\.")
    first = "encoder.down_blocks.{}.resnets.0.conv1.conv.weight"
    return HunyuanAutoencoder(
        latent_channels=shapes["decoder.conv_in.conv.weight"][1],
        block_out_channels=[shapes[first.format(level)][0] for level in range(levels)],
        layers_per_block=layers(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
    )


LATENT_OUTER = {
    "conv_in": "conv_in",
    "conv_out": "conv_out",
    "norm_out": "conv_norm_out",
    "mid.block_1": "mid_block.resnets.0",
    "mid.block_2": "mid_block.resnets.1",
    "mid.attn_1.norm": "mid_block.attentions.0.group_norm",
    "mid.attn_1.proj_out": "mid_block.attentions.0.to_out.0",
} | {f"mid.attn_1.{each}": f"mid_block.attentions.0.to_{each}" for each in "qkv"}
LEVELS = 4


def latent_vae_name(name: str) -> str | None:
    """A tensor of HunyuanVideo's VAE in ComfyUI's file, in the names of diffusers."""
    if name.startswith(("quant_conv.", "post_quant_conv.")):
        return name
    half, rest = numbered(r"encoder\.|decoder\.", name)
    level = re.match(r"(down|up)\.([0-3])\.(?:block\.(\d+)\.|(down|up)sample\.)", rest)
    if not half or not level:
        found = exchanged(rest, LATENT_OUTER) if half else None
        return found and half + found
    way, number, block, _ = level.groups()
    number = int(number) if way == "down" else LEVELS - 1 - int(number)
    step = f"resnets.{block}" if block else f"{way}samplers.0"
    inner = rest[level.end() :].replace("nin_shortcut.", "conv_shortcut.")
    return f"{half}{way}_blocks.{number}.{step}.{inner}"


def latent_vae_split(state: Mapping[str, Placed]) -> dict[str, Placed]:
    """The VAE's tensors, with the matrices of its attention, which are convolutions there, as matrices."""
    return {
        name: placed.without_last(3) if ".mid.attn_1." in name and len(placed.entry.shape) == 5 else placed
        for name, placed in state.items()
    }


def latent_vae_sizes(shapes: Shapes, said: Said) -> HunyuanAutoencoder:
    """The sizes of HunyuanVideo's VAE in ComfyUI's file."""
    return vae_sizes({new: shape for name, shape in shapes.items() if (new := latent_vae_name(name))}, said)


LAYOUTS = (
    Layout("HunyuanVideo's transformer", "HunyuanVideoTransformer3DModel",
           ("img_in.proj.weight", "txt_in.individual_token_refiner.blocks.0.norm1.weight", "vector_in.in_layer.weight",
            "double_blocks.0.img_mlp.fc1.weight", "double_blocks.0.img_attn_q_norm.weight",
            "single_blocks.0.linear1.weight", "final_layer.linear.weight"),
           dit_name, dit_sizes, dit_split),
    Layout("HunyuanVideo's transformer as ComfyUI names it", "HunyuanVideoTransformer3DModel",
           ("img_in.proj.weight", "txt_in.individual_token_refiner.blocks.0.norm1.weight", "vector_in.in_layer.weight",
            "double_blocks.0.img_mlp.0.weight", "double_blocks.0.img_attn.norm.query_norm.scale",
            "single_blocks.0.linear1.weight", "final_layer.linear.weight"),
           dit_name, dit_sizes, dit_split),
    Layout("HunyuanVideo's VAE", "AutoencoderKLHunyuanVideo",
           ("encoder.down_blocks.0.resnets.0.conv1.conv.weight", "decoder.up_blocks.0.resnets.0.conv1.conv.weight",
            "decoder.mid_block.attentions.0.to_q.weight", "decoder.conv_in.conv.weight", "quant_conv.weight"),
           lambda name: name, vae_sizes),
    Layout("HunyuanVideo's VAE as ComfyUI names it", "AutoencoderKLHunyuanVideo",
           ("encoder.down.0.block.0.conv1.conv.weight", "decoder.up.0.block.0.conv1.conv.weight",
            "decoder.mid.attn_1.q.weight", "decoder.conv_in.conv.weight", "quant_conv.weight"),
           latent_vae_name, latent_vae_sizes, latent_vae_split),
)  # fmt: skip
