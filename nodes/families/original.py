"""The layouts of weights that Wan's repository and ComfyUI's single files have: names, and sizes told by shapes.

A layout is recognised by tensors that it must have. Every name is renamed or is an error: a weight that nobody reads
would be one that nobody misses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kineograph.nodes.families.schemas import (
    CLIPVision,
    NetworkConfig,
    T5Encoder,
    VACETransformer,
    WanAutoencoder,
    WanTransformer,
)

if TYPE_CHECKING:
    from kineograph.nodes.networks.mapped import Placed

Shapes = Mapping[str, tuple[int, ...]]
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
"""Before the names of a DiT that was saved with what was around it."""
HEAD_WIDTH = 128
"""Of every published Wan model; its tensors do not tell it."""


@dataclass(frozen=True)
class Layout:
    """How a file names the weights of a kind of network.

    Attributes:
        about: the file, for people.
        kind: of network, a name in ``loading.NETWORKS``.
        marks: tensors by which it is known.
        rename: from a file's name to the network's; None where it is not known, empty where it is and is no weight.
        sizes: from shapes by the file's names, and the number of heads where a config.json beside it says it.
        split: makes several tensors of one, where the network has several, before they are renamed.
    """

    about: str
    kind: str
    marks: tuple[str, ...]
    rename: Callable[[str], str | None]
    sizes: Callable[[Shapes, int | None], NetworkConfig]
    split: Callable[[Mapping[str, Placed]], Mapping[str, Placed]] = lambda state: state


def recognised(names: Iterable[str]) -> tuple[Layout, str] | None:
    """The layout of a file by its tensors' names, and what stands before all of them."""
    known = set(names)
    for layout in LAYOUTS:
        for prefix in PREFIXES:
            if all(prefix + mark in known for mark in layout.marks):
                return layout, prefix
    return None


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
    block, rest = _numbered(r"blocks\.\d+\.", name)
    found = _exchanged(rest, WAN_BLOCK if block else WAN_OUTER)
    return None if found is None else block + found


VACE_BLOCK = WAN_BLOCK | {"before_proj": "proj_in", "after_proj": "proj_out"}


def vace_dit_name(name: str) -> str | None:
    """A tensor of VACE's transformer, in the names of diffusers."""
    block, rest = _numbered(r"vace_blocks\.\d+\.", name)
    if block:
        found = _exchanged(rest, VACE_BLOCK)
        return None if found is None else block + found
    return name if name.startswith("vace_patch_embedding.") else wan_dit_name(name)


def vace_dit_sizes(shapes: Shapes, heads: int | None) -> VACETransformer:
    """The sizes of VACE's transformer, whose blocks stand beside every so many of the others."""
    plain = wan_dit_sizes(shapes, heads)
    beside = _layers(shapes, r"vace_blocks\.(\d+)\.")
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


def wan_dit_sizes(shapes: Shapes, heads: int | None) -> WanTransformer:
    """The sizes of Wan's transformer."""
    width, channels, *patch = shapes["patch_embedding.weight"]
    image = shapes.get("img_emb.proj.0.weight")
    return WanTransformer(
        patch_size=patch,
        num_attention_heads=heads or width // HEAD_WIDTH,
        attention_head_dim=width // (heads or width // HEAD_WIDTH),
        in_channels=channels,
        out_channels=shapes["head.head.weight"][0] // math.prod(patch),
        text_dim=shapes["text_embedding.0.weight"][1],
        freq_dim=shapes["time_embedding.0.weight"][1],
        ffn_dim=shapes["blocks.0.ffn.0.weight"][0],
        num_layers=_layers(shapes, r"blocks\.(\d+)\."),
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
    half, rest = _numbered(r"encoder\.|decoder\.", name)
    if not half:
        return _exchanged(name, WAN_VAE_OUTER)
    step, inner = _numbered(r"(?:middle|downsamples|upsamples)\.\d+\.", rest)
    if not step or step == "middle.1.":
        found = _exchanged(rest, WAN_VAE_HALF)
        return None if found is None else half + found
    kind, number = step.split(".")[0], int(step.split(".")[1])
    resnet, sampler = _exchanged(inner, WAN_VAE_RESNET), _exchanged(inner, SAMPLERS)
    if kind == "downsamples":
        found = resnet or sampler
        return found and f"{half}down_blocks.{number}.{found}"
    if kind == "middle":
        return resnet and f"{half}mid_block.resnets.{number // 2}.{resnet}"
    level, place = divmod(number, PER_LEVEL)
    if resnet:
        return f"{half}up_blocks.{level}.resnets.{place}.{resnet}"
    return sampler and f"{half}up_blocks.{level}.upsamplers.0.{sampler}"


def wan_vae_sizes(shapes: Shapes, _: int | None) -> WanAutoencoder:
    """The sizes of Wan 2.1's VAE; all else about it is as published."""
    return WanAutoencoder(base_dim=shapes["encoder.conv1.weight"][0], z_dim=shapes["conv2.weight"][0])


T5_OUTER = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}
T5_BLOCK = {
    "norm1": "layer.0.layer_norm",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
} | {f"attn.{each}": f"layer.0.SelfAttention.{each}" for each in "qkvo"}


def umt5_name(name: str) -> str | None:
    """A tensor of the text encoder in Wan's repository, in the names of transformers."""
    block, rest = _numbered(r"blocks\.\d+\.", name)
    if not block:
        return _exchanged(rest, T5_OUTER)
    found = _exchanged(rest, T5_BLOCK)
    return found and f"encoder.block.{block.split('.')[1]}.{found}"


def t5_name(name: str) -> str | None:
    """A tensor of a text encoder in the names of transformers; ComfyUI's files hold the tokenizer too."""
    return "" if name == "spiece_model" else name


def umt5_sizes(shapes: Shapes, _: int | None) -> T5Encoder:
    """The sizes of the text encoder in Wan's repository."""
    return _t5_sizes(
        shapes, "token_embedding.weight", "blocks.0.attn.q.weight", "blocks.0.ffn.fc1.weight",
        "blocks.0.pos_embedding.embedding.weight", r"blocks\.(\d+)\.",
    )  # fmt: skip


def t5_sizes(shapes: Shapes, _: int | None) -> T5Encoder:
    """The sizes of a text encoder in the names of transformers."""
    first = "encoder.block.0.layer"
    return _t5_sizes(
        shapes, "shared.weight", f"{first}.0.SelfAttention.q.weight", f"{first}.1.DenseReluDense.wi_1.weight",
        f"{first}.0.SelfAttention.relative_attention_bias.weight", r"encoder\.block\.(\d+)\.",
    )  # fmt: skip


def _t5_sizes(shapes: Shapes, table: str, query: str, feed: str, bias: str, block: str) -> T5Encoder:
    vocabulary, width = shapes[table]
    buckets, heads = shapes[bias]
    return T5Encoder(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=shapes[query][0] // heads,
        d_ff=shapes[feed][0],
        num_layers=_layers(shapes, block),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
    )


CLIP_HEAD_WIDTH = 80
"""Of ViT-H/14, the image encoder of Wan; its tensors do not tell it."""


def clip_name(name: str) -> str | None:
    """A tensor of CLIP's image encoder, without the prefix that some releases of transformers save; no projection."""
    inner = name.removeprefix("vision_model.")
    if name == "visual_projection.weight" or inner == "embeddings.position_ids":
        return ""
    return inner if inner.startswith(("embeddings.", "pre_layrnorm.", "encoder.layers.", "post_layernorm.")) else None


def clip_sizes(shapes: Shapes, _: int | None) -> CLIPVision:
    """The sizes of CLIP's image encoder."""
    inner = {name.removeprefix("vision_model."): shape for name, shape in shapes.items()}
    width, _, patch, _ = inner["embeddings.patch_embedding.weight"]
    places = inner["embeddings.position_embedding.weight"][-2]
    return CLIPVision(
        hidden_size=width,
        intermediate_size=inner["encoder.layers.0.mlp.fc1.weight"][0],
        num_hidden_layers=_layers(inner, r"encoder\.layers\.(\d+)\."),
        num_attention_heads=width // CLIP_HEAD_WIDTH,
        image_size=math.isqrt(places - 1) * patch,
        patch_size=patch,
    )


WAN_CLIP_OUTER = {
    "patch_embedding": "embeddings.patch_embedding",
    "cls_embedding": "embeddings.class_embedding",
    "pos_embedding": "embeddings.position_embedding.weight",
    "pre_norm": "pre_layrnorm",
    "post_norm": "post_layernorm",
}
WAN_CLIP_BLOCK = {"norm1": "layer_norm1", "norm2": "layer_norm2", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
WAN_CLIP_BLOCK |= {"attn.proj": "self_attn.out_proj"} | {f"attn.to_{each}": f"self_attn.{each}_proj" for each in "qkv"}


def wan_clip_name(name: str) -> str | None:
    """A tensor of CLIP in Wan's repository, in the names of transformers; the half that reads words is not used."""
    if name in ("log_scale", "visual.head") or name.startswith("textual."):
        return ""
    if not name.startswith("visual."):
        return None
    block, rest = _numbered(r"transformer\.\d+\.", name.removeprefix("visual."))
    found = _exchanged(rest, WAN_CLIP_BLOCK if block else WAN_CLIP_OUTER)
    return found and block.replace("transformer.", "encoder.layers.") + found


def wan_clip_split(state: Mapping[str, Placed]) -> dict[str, Placed]:
    """The tensors of CLIP in Wan's repository, queries, keys and values apart, and embeddings without a batch."""
    apart: dict[str, Placed] = {}
    for name, placed in state.items():
        if ".to_qkv." in name:
            apart |= {name.replace("qkv", each): placed.rows(part, 3) for part, each in enumerate("qkv")}
        else:
            axes = {"visual.cls_embedding": 2, "visual.pos_embedding": 1}.get(name, 0)
            apart[name] = placed.without(axes) if axes else placed
    return apart


def wan_clip_sizes(shapes: Shapes, heads: int | None) -> CLIPVision:
    """The sizes of the image encoder of CLIP in Wan's repository."""
    return clip_sizes({new: shape for name, shape in shapes.items() if (new := wan_clip_name(name))}, heads)


def _numbered(pattern: str, name: str) -> tuple[str, str]:
    """What a name begins with, and the rest."""
    found = re.match(pattern, name)
    end = found.end() if found else 0
    return name[:end], name[end:]


def _exchanged(name: str, table: Mapping[str, str]) -> str | None:
    """A name whose beginning, whole parts of it, is replaced; None where the table does not have it."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        if (start := ".".join(parts[:count])) in table:
            return ".".join([table[start], *parts[count:]])
    return None


def _layers(shapes: Shapes, pattern: str) -> int:
    return 1 + max(int(found[1]) for name in shapes if (found := re.match(pattern, name)))


CLIP = Layout(
    "CLIP's image encoder", "CLIPVisionModel",
    ("vision_model.embeddings.class_embedding", "vision_model.embeddings.patch_embedding.weight",
     "vision_model.embeddings.position_embedding.weight", "vision_model.encoder.layers.0.mlp.fc1.weight"),
    clip_name, clip_sizes,
)  # fmt: skip
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
    Layout("Wan's text encoder", "UMT5EncoderModel",
           ("token_embedding.weight", "blocks.0.attn.q.weight", "blocks.0.ffn.fc1.weight",
            "blocks.0.pos_embedding.embedding.weight"), umt5_name, umt5_sizes),
    Layout("the text encoder UMT5", "UMT5EncoderModel",
           ("shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight",
            "encoder.block.0.layer.1.DenseReluDense.wi_1.weight",
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"),  # T5 has it in block 0 alone
           t5_name, t5_sizes),
    CLIP,
    Layout("CLIP of Wan's repository", "CLIPVisionModel",
           ("visual.cls_embedding", "visual.pos_embedding", "visual.patch_embedding.weight",
            "visual.transformer.0.attn.to_qkv.weight", "visual.transformer.0.mlp.0.weight"),
           wan_clip_name, wan_clip_sizes, wan_clip_split),
)  # fmt: skip
