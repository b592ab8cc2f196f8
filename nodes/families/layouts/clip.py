"""CLIP's image encoder as transformers, ComfyUI and Wan's repository name it. Knows no file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kineograph.nodes.families.encoder_schemas import CLIPVision
from kineograph.nodes.families.layouts.layout import Layout, Said, Shapes, exchanged, layers, numbered

if TYPE_CHECKING:
    from kineograph.nodes.networks.mapped import Placed

CLIP_HEAD_WIDTH = 80
"""Of ViT-H/14, the image encoder of Wan; its tensors do not tell it."""


def clip_name(name: str) -> str | None:
    """A tensor of CLIP's image encoder, without the prefix that some releases of transformers save; no projection."""
    inner = name.removeprefix("vision_model.")
    if name == "visual_projection.weight" or inner == "embeddings.position_ids":
        return ""
    return inner if inner.startswith(("embeddings.", "pre_layrnorm.", "encoder.layers.", "post_layernorm.")) else None


def clip_sizes(shapes: Shapes, _said: Said) -> CLIPVision:
    """The sizes of CLIP's image encoder."""
    inner = {name.removeprefix("vision_model."): shape for name, shape in shapes.items()}
    width, _, patch, _ = inner["embeddings.patch_embedding.weight"]
    places = inner["embeddings.position_embedding.weight"][-2]
    return CLIPVision(
        hidden_size=width,
        intermediate_size=inner["encoder.layers.0.mlp.fc1.weight"][0],
        num_hidden_layers=layers(inner, r"encoder\.layers\.(\d+)\."),
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
    block, rest = numbered(r"transformer\.\d+\.", name.removeprefix("visual."))
    found = exchanged(rest, WAN_CLIP_BLOCK if block else WAN_CLIP_OUTER)
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


def wan_clip_sizes(shapes: Shapes, said: Said) -> CLIPVision:
    """The sizes of the image encoder of CLIP in Wan's repository."""
    return clip_sizes({new: shape for name, shape in shapes.items() if (new := wan_clip_name(name))}, said)


CLIP = Layout(
    "CLIP's image encoder", "CLIPVisionModel",
    ("vision_model.embeddings.class_embedding", "vision_model.embeddings.patch_embedding.weight",
     "vision_model.embeddings.position_embedding.weight", "vision_model.encoder.layers.0.mlp.fc1.weight"),
    clip_name, clip_sizes,
)  # fmt: skip
LAYOUTS = (
    CLIP,
    Layout("CLIP of Wan's repository", "CLIPVisionModel",
           ("visual.cls_embedding", "visual.pos_embedding", "visual.patch_embedding.weight",
            "visual.transformer.0.attn.to_qkv.weight", "visual.transformer.0.mlp.0.weight"),
           wan_clip_name, wan_clip_sizes, wan_clip_split),
)  # fmt: skip
