"""CogVideoX's transformer and VAE in single files: as its authors name them, and as diffusers does. Knows no file.

Names and the order of rows are those of diffusers' script convert_cogvideox_to_diffusers. Shapes do not tell whether
places are rotary: of what was published, they are in all but 2b.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kineograph.nodes.families.layouts.layout import Layout, Said, Shapes, exchanged, layers, numbered
from kineograph.nodes.families.schemas import CogVideoXAutoencoder, CogVideoXTransformer

if TYPE_CHECKING:
    from kineograph.nodes.networks.mapped import Placed

PATCH = 2
"""Cells along each side of a token, and latent frames of one in 1.5; of every published CogVideoX."""
WIDTH_2B = 1920
SNR = {True: 1.0, False: 3.0}
"""What the SNR of a schedule is divided by, by whether places are rotary."""
FACTORS = {True: 0.7, False: 1.15258426}
"""What latents are multiplied by, by whether the transformer's places are rotary."""
TABLE = CogVideoXTransformer(use_rotary_positional_embeddings=True, use_learned_positional_embeddings=True)
"""The sizes at which 5b-I2V learned its places; its tensor tells their number alone."""
OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "ofs_embed.0": "ofs_embedding.linear_1",
    "ofs_embed.2": "ofs_embedding.linear_2",
    "mixins.patch_embed": "patch_embed",
    "mixins.pos_embed.pos_embedding": "patch_embed.pos_embedding",
    "mixins.final_layer.norm_final": "norm_out.norm",
    "mixins.final_layer.linear": "proj_out",
    "mixins.final_layer.adaLN_modulation.1": "norm_out.linear",
    "transformer.final_layernorm": "norm_final",
}
BLOCK = {
    "input_layernorm": "norm1.norm",
    "post_attention_layernorm": "norm2.norm",
    "attention.dense": "attn1.to_out.0",
    "mlp.dense_h_to_4h": "ff.net.0.proj",
    "mlp.dense_4h_to_h": "ff.net.2",
} | {f"attention.{each}": f"attn1.to_{each}" for each in "qkv"}
MIXED = (
    (r"mixins\.adaln_layer\.query_layernorm_list\.(\d+)\.", "attn1.norm_q."),
    (r"mixins\.adaln_layer\.key_layernorm_list\.(\d+)\.", "attn1.norm_k."),
    (r"mixins\.adaln_layer\.adaLN_modulations\.(\d+)\.1\.(?=norm)", ""),
)
"""What the authors keep outside of blocks, and its place in one."""
NO_WEIGHTS = r"transformer\.(word|position)_embeddings\.|.*freqs_(sin|cos)$|.*embed_tokens"


def dit_name(name: str) -> str | None:
    """A tensor of the authors' transformer, after :func:`dit_split`, in the names of diffusers."""
    if re.match(NO_WEIGHTS, name):
        return ""
    for pattern, new in MIXED:
        if found := re.match(pattern, name):
            return f"transformer_blocks.{found[1]}.{new}{name[found.end() :]}"
    block, rest = numbered(r"transformer\.layers\.\d+\.", name)
    if not block:
        return exchanged(name, OUTER)
    inner = exchanged(rest, BLOCK)
    return inner and f"transformer_blocks.{block.split('.')[2]}.{inner}"


def dit_split(state: Mapping[str, Placed]) -> dict[str, Placed]:
    """The transformer's tensors: queries, keys and values apart, and what changes the two norms of a block.

    Of the twelve parts of a layer of levels, three for the video and three for the words belong to each norm. The table
    of places that is computed, 2b's, is left out.
    """
    from kineograph.nodes.networks.mapped import joined

    apart: dict[str, Placed] = {}
    for name, placed in state.items():
        if ".query_key_value." in name:
            apart |= {name.replace("query_key_value", each): placed.rows(part, 3) for part, each in enumerate("qkv")}
        elif ".adaLN_modulations." in name:
            start, _, end = name.rpartition(".")
            for norm in range(2):
                apart[f"{start}.norm{norm + 1}.linear.{end}"] = joined(placed.rows(norm, 4), placed.rows(norm + 2, 4))
        elif not name.endswith("mixins.pos_embed.pos_embedding") or placed.entry.shape[-1] != WIDTH_2B:
            apart[name] = placed
    return apart


def own_dit_sizes(shapes: Shapes, said: Said) -> CogVideoXTransformer:
    """The sizes of the authors' transformer."""
    return dit_sizes({dit_name(name) or name: shape for name, shape in shapes.items()}, said)


def dit_sizes(shapes: Shapes, said: Said) -> CogVideoXTransformer:
    """The sizes of a transformer in the names of diffusers."""
    width, *inner = shapes["patch_embed.proj.weight"]
    deep = len(inner) == 1  # 1.5 has a linear layer there, over all cells of a token
    cells = PATCH**3 if deep else PATCH**2
    head = shapes["transformer_blocks.0.attn1.norm_q.weight"][0]
    rotary = bool(said.get("use_rotary_positional_embeddings", width != WIDTH_2B))
    learned = rotary and "patch_embed.pos_embedding" in shapes
    if learned and shapes["patch_embed.pos_embedding"][1] != _places(TABLE):
        raise ValueError("a learned table of another size")
    ofs = shapes.get("ofs_embedding.linear_1.weight")
    whole: dict[str, Any] = {"patch_size_t": PATCH, "patch_bias": False, "sample_frames": 81} if deep else {}
    return CogVideoXTransformer(
        num_attention_heads=width // head,
        attention_head_dim=head,
        in_channels=inner[0] // cells if deep else inner[0],
        out_channels=shapes["proj_out.weight"][0] // cells,
        time_embed_dim=shapes["time_embedding.linear_1.weight"][0],
        ofs_embed_dim=None if ofs is None else ofs[0],
        text_embed_dim=shapes["patch_embed.text_proj.weight"][1],
        num_layers=layers(shapes, r"transformer_blocks\.(\d+)\."),
        use_rotary_positional_embeddings=rotary,
        use_learned_positional_embeddings=learned,
        snr_shift_scale=SNR[rotary],
        **whole,
    )


def _places(config: CogVideoXTransformer) -> int:
    """Rows of a table of places, those of words among them."""
    rows, columns = config.sample_height // config.patch_size, config.sample_width // config.patch_size
    frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
    return config.max_text_seq_length + rows * columns * frames


def same_name(name: str) -> str:
    """A tensor in the names of diffusers."""
    return name


VAE_INNER = {
    "mid.block_1.": "mid_block.resnets.0.",
    "mid.block_2.": "mid_block.resnets.1.",
    "downsample.": "downsamplers.0.",
    "upsample.": "upsamplers.0.",
    "nin_shortcut.": "conv_shortcut.",
}
VAE_LEVELS = 4
"""The authors number the decoder's from the finest on, diffusers from the coarsest."""


def vae_name(name: str) -> str | None:
    """A tensor of the authors' VAE, in the names of diffusers; their judges are not used."""
    if name.startswith("loss."):
        return ""
    if not name.startswith(("encoder.", "decoder.")):
        return None
    name = re.sub(r"\.down\.(\d+)\.", r".down_blocks.\1.", name)
    name = re.sub(r"\.up\.(\d+)\.", lambda found: f".up_blocks.{VAE_LEVELS - 1 - int(found[1])}.", name)
    name = re.sub(r"\.block\.(\d+)\.", r".resnets.\1.", name)
    for old, new in VAE_INNER.items():
        name = name.replace(f".{old}", f".{new}")
    return name


def own_vae_sizes(shapes: Shapes, said: Said) -> CogVideoXAutoencoder:
    """The sizes of the authors' VAE."""
    return vae_sizes({vae_name(name) or name: shape for name, shape in shapes.items()}, said)


def vae_sizes(shapes: Shapes, _: Said) -> CogVideoXAutoencoder:
    """The sizes of a VAE in the names of diffusers; what its latents are multiplied by, :func:`settled` knows."""
    first = "encoder.down_blocks.{}.resnets.0.conv1.conv.weight"
    levels = layers(shapes, r"encoder\.down_blocks\.(\d+)\.")
    return CogVideoXAutoencoder(
        in_channels=shapes["encoder.conv_in.conv.weight"][1],
        out_channels=shapes["decoder.conv_out.conv.weight"][0],
        down_block_types=["CogVideoXDownBlock3D"] * levels,
        up_block_types=["CogVideoXUpBlock3D"] * levels,
        block_out_channels=[shapes[first.format(level)][0] for level in range(levels)],
        latent_channels=shapes["decoder.conv_in.conv.weight"][1],
        layers_per_block=layers(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        scaling_factor=FACTORS[True],
    )


def settled(config: CogVideoXAutoencoder, dit: Any) -> CogVideoXAutoencoder:
    """A VAE's configuration with what its file does not say: the same weights serve 2b and 5b, scaled otherwise."""
    if not isinstance(dit, CogVideoXTransformer):
        return config
    factor = FACTORS[dit.use_rotary_positional_embeddings]
    return config.model_copy(update={"scaling_factor": factor, "invert_scale_latents": dit.ofs_embed_dim is not None})


LAYOUTS = (
    Layout("CogVideoX's transformer", "CogVideoXTransformer3DModel",
           ("mixins.patch_embed.proj.weight", "mixins.patch_embed.text_proj.weight", "time_embed.0.weight",
            "mixins.final_layer.linear.weight", "mixins.adaln_layer.query_layernorm_list.0.weight",
            "transformer.layers.0.attention.query_key_value.weight"), dit_name, own_dit_sizes, dit_split),
    Layout("CogVideoX's transformer", "CogVideoXTransformer3DModel",
           ("patch_embed.proj.weight", "patch_embed.text_proj.weight", "time_embedding.linear_1.weight",
            "proj_out.weight", "transformer_blocks.0.norm1.linear.weight", "transformer_blocks.0.attn1.norm_q.bias",
            "norm_final.weight"), same_name, dit_sizes),
    Layout("CogVideoX's VAE", "AutoencoderKLCogVideoX",
           ("encoder.conv_in.conv.weight", "encoder.down.0.block.0.conv1.conv.weight",
            "decoder.up.0.block.0.norm1.conv_y.conv.weight", "decoder.conv_out.conv.weight"), vae_name, own_vae_sizes),
    Layout("CogVideoX's VAE", "AutoencoderKLCogVideoX",
           ("encoder.conv_in.conv.weight", "encoder.down_blocks.0.resnets.0.conv1.conv.weight",
            "decoder.up_blocks.0.resnets.0.norm1.conv_y.conv.weight", "decoder.conv_out.conv.weight"),
           same_name, vae_sizes),
)  # fmt: skip
