"""LTX-Video as its authors and ComfyUI name it: transformer and three generations of its VAE, 0.9.0 to 0.9.8.

Often all in one file. Knows no file. The generations are those of github.com/Lightricks/LTX-Video: 0.9.0, whose
encoder and decoder are alike; 0.9.1, whose decoder hears of noise; and since 0.9.5 one whose encoder folds pixels too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import isqrt
from typing import Literal

from kineograph.nodes.families.layouts.layout import Layout, Said, Shapes, exchanged, layers, numbered
from kineograph.nodes.families.layouts.ltx_header import Header
from kineograph.nodes.families.schemas import LTXAutoencoder, LTXTransformer

OUTER = {each: each for each in ("caption_projection", "proj_out", "scale_shift_table")}
OUTER |= {"patchify_proj": "proj_in", "adaln_single": "time_embed"}
BLOCK = {each: each for each in ("ff", "scale_shift_table")}
for _attention in ("attn1", "attn2"):
    BLOCK |= {f"{_attention}.{each}": f"{_attention}.{each}" for each in ("to_q", "to_k", "to_v", "to_out")}
    BLOCK |= {f"{_attention}.{each}_norm": f"{_attention}.norm_{each}" for each in "qk"}


def dit_name(name: str) -> str | None:
    """A tensor of LTX-Video's transformer, in the names of diffusers."""
    block, rest = numbered(r"transformer_blocks\.\d+\.", name)
    found = exchanged(rest, BLOCK if block else OUTER)
    return None if found is None else block + found


ALIASES = {"patchify_proj": "proj_in", "adaln_single.linear": "time_embed.linear"}
for _layer in ("emb.timestep_embedder.linear_1", "emb.timestep_embedder.linear_2"):
    ALIASES[f"adaln_single.{_layer}"] = f"time_embed.{_layer}"
"""From the layers that the authors' files call otherwise than diffusers; those of the blocks have one name."""


def dit_sizes(shapes: Shapes, said: Said) -> LTXTransformer:
    """The sizes of LTX-Video's transformer. Its heads show nowhere; every published one has 32."""
    told = Header.model_validate(said).transformer
    width, channels = shapes["patchify_proj.weight"]
    if width % told.num_attention_heads:
        raise ValueError("heads of equal width are needed")
    return LTXTransformer(
        in_channels=channels,
        out_channels=shapes["proj_out.weight"][0],
        num_attention_heads=told.num_attention_heads,
        attention_head_dim=width // told.num_attention_heads,
        cross_attention_dim=shapes["transformer_blocks.0.attn2.to_k.weight"][1],
        num_layers=layers(shapes, r"transformer_blocks\.(\d+)\."),
        caption_channels=shapes["caption_projection.linear_1.weight"][1],
        causal_positions=told.causal_temporal_positioning,
    )


Places = Mapping[int, str]
"""From the number of a block in its authors' list, in which resamplers and changes of width count, to its place."""
FOLDED_DOWN = {2 * i: f"down_blocks.{i}" for i in range(4)} | {8: "mid_block"}
FOLDED_DOWN |= {2 * i + 1: f"down_blocks.{i}.downsamplers.0" for i in range(4)}
STRIDED_DOWN = {
    0: "down_blocks.0", 1: "down_blocks.0.downsamplers.0", 2: "down_blocks.0.conv_out",
    3: "down_blocks.1", 4: "down_blocks.1.downsamplers.0", 5: "down_blocks.1.conv_out",
    6: "down_blocks.2", 7: "down_blocks.2.downsamplers.0", 8: "down_blocks.3", 9: "mid_block",
}  # fmt: skip
FIRST_UP = {
    0: "mid_block", 1: "up_blocks.0", 2: "up_blocks.1.upsamplers.0", 3: "up_blocks.1", 4: "up_blocks.2.conv_in",
    5: "up_blocks.2.upsamplers.0", 6: "up_blocks.2", 7: "up_blocks.3.conv_in", 8: "up_blocks.3.upsamplers.0",
    9: "up_blocks.3",
}  # fmt: skip
LATER_UP = {0: "mid_block"} | {2 * i + 2: f"up_blocks.{i}" for i in range(3)}
LATER_UP |= {2 * i + 1: f"up_blocks.{i}.upsamplers.0" for i in range(3)}
HALF = {each: each for each in ("conv_in", "conv_out", "timestep_scale_multiplier")}
HALF |= {"last_time_embedder": "time_embedder", "last_scale_shift_table": "scale_shift_table"}
RESNET = {each: each for each in ("conv1", "conv2", "per_channel_scale1", "per_channel_scale2", "scale_shift_table")}
RESNET |= {"norm3.norm": "norm3", "conv_shortcut": "conv_shortcut.conv"}
STEP = RESNET | {each: each for each in ("conv", "time_embedder")}
STATISTICS = {
    "mean-of-means": "latents_mean", "std-of-means": "latents_std",
    "channel": "", "mean-of-stds": "", "mean-of-stds_over_std-of-means": "",
}  # fmt: skip
"""The last three are of the training, and no weights."""


def vae_name(name: str, down: Places, up: Places) -> str | None:
    """A tensor of LTX-Video's VAE, in the names of diffusers.

    Args:
        name: in its authors' file.
        down: places of the encoder's blocks.
        up: places of the decoder's.
    """
    half, rest = numbered(r"encoder\.|decoder\.", name)
    if not half:
        statistics, rest = numbered(r"per_channel_statistics\.", name)
        return STATISTICS.get(rest) if statistics else None
    block, rest = numbered(r"down_blocks\.\d+\." if half == "encoder." else r"up_blocks\.\d+\.", rest)
    if not block:
        found = exchanged(rest, HALF)
        return None if found is None else half + found
    place = (down if half == "encoder." else up).get(int(block.split(".")[1]))
    resnet, rest = numbered(r"res_blocks\.\d+\.", rest)
    found = exchanged(rest, RESNET if resnet else STEP)
    return None if place is None or found is None else f"{half}{place}.{resnet.replace('res_blocks', 'resnets')}{found}"


Fold = Literal["conv", "spatial", "temporal", "spatiotemporal"]
FOLDS: dict[int, Fold] = {4: "spatial", 2: "temporal", 8: "spatiotemporal"}
"""How a downsampler folds, by how many cells it makes one of."""


def first_vae_sizes(shapes: Shapes, said: Said) -> LTXAutoencoder:
    """The sizes of the VAE of 0.9.0."""
    steps = (9, 6, 3, 1)
    return LTXAutoencoder(
        **_vae_ends(shapes, said),
        **_strided(shapes),
        decoder_block_out_channels=[_width(shapes, f"decoder.up_blocks.{i}") for i in steps],
        decoder_layers_per_block=[_depth(shapes, f"decoder.up_blocks.{i}") for i in (*steps, 0)],
    )


def noisy_vae_sizes(shapes: Shapes, said: Said) -> LTXAutoencoder:
    """The sizes of the VAE of 0.9.1, whose encoder is that of 0.9.0."""
    return LTXAutoencoder(**_vae_ends(shapes, said), **_strided(shapes), **_folded_up(shapes, said))


def folding_vae_sizes(shapes: Shapes, said: Said) -> LTXAutoencoder:
    """The sizes of the VAE since 0.9.5."""
    widths = [_width(shapes, f"encoder.down_blocks.{i}") for i in range(0, 10, 2)]
    made = [shapes[f"encoder.down_blocks.{i}.conv.conv.weight"][0] for i in range(1, 9, 2)]
    folds: list[Fold] = [FOLDS[out // own] for out, own in zip(widths[1:], made, strict=True)]
    ends = _vae_ends(shapes, said)
    return LTXAutoencoder(
        **ends,
        **_folded_up(shapes, said),
        block_out_channels=widths,
        layers_per_block=[_depth(shapes, f"encoder.down_blocks.{i}") for i in range(0, 10, 2)],
        down_block_types=["LTXVideo095DownBlock3D"] * 4,
        downsample_type=folds,
        spatio_temporal_scaling=[True] * 4,
        spatial_compression_ratio=ends["patch_size"] * 2 ** sum(each != "temporal" for each in folds),
        temporal_compression_ratio=2 ** sum(each != "spatial" for each in folds),
    )


def _vae_ends(shapes: Shapes, said: Said) -> dict:
    patch = isqrt(shapes["encoder.conv_in.conv.weight"][1] // 3)
    return {
        "latent_channels": shapes["decoder.conv_in.conv.weight"][1],
        "patch_size": patch,
        "timestep_conditioning": "decoder.last_scale_shift_table" in shapes,
        "decoder_causal": Header.model_validate(said).vae.causal_decoder,
    }


def _strided(shapes: Shapes) -> dict:
    """The encoder of 0.9.0 and 0.9.1."""
    return {
        "block_out_channels": [_width(shapes, f"encoder.down_blocks.{i}") for i in (0, 3, 6, 8)],
        "layers_per_block": [_depth(shapes, f"encoder.down_blocks.{i}") for i in (0, 3, 6, 8, 9)],
    }


def _folded_up(shapes: Shapes, said: Said) -> dict:
    """The decoder since 0.9.1, listed from the pixels' side as the library does."""
    convolutions = [shapes[f"decoder.up_blocks.{i}.conv.conv.weight"] for i in (5, 3, 1)]
    steps = [f"decoder.up_blocks.{i}" for i in (6, 4, 2, 0)]
    residual = Header.model_validate(said).vae.residuals() or [True] * 3
    return {
        "decoder_block_out_channels": [taken for _, taken, *_ in convolutions],
        "decoder_layers_per_block": [_depth(shapes, each) for each in steps],
        "decoder_spatio_temporal_scaling": [True] * 3,
        "decoder_inject_noise": [f"{each}.res_blocks.0.per_channel_scale1" in shapes for each in steps],
        "upsample_residual": [each for each, _ in zip(residual, convolutions, strict=True)],
        "upsample_factor": [8 * taken // made for made, taken, *_ in convolutions],
    }


def _width(shapes: Shapes, block: str) -> int:
    return shapes[f"{block}.res_blocks.0.conv1.conv.weight"][0]


def _depth(shapes: Shapes, block: str) -> int:
    return layers(shapes, block.replace(".", r"\.") + r"\.res_blocks\.(\d+)\.")


def _vae(
    generation: str, down: Places, up: Places, sizes: Callable[[Shapes, Said], LTXAutoencoder], *marks: str
) -> Layout:
    ends = ("per_channel_statistics.std-of-means", "encoder.conv_in.conv.weight", "decoder.conv_in.conv.weight")
    rename = partial(vae_name, down=down, up=up)
    about = f"LTX-Video's VAE of {generation}"
    return Layout(about, "AutoencoderKLLTXVideo", (*ends, *marks), rename, sizes, header=Header)


STRIDED = ("encoder.down_blocks.1.conv.weight", "encoder.down_blocks.9.res_blocks.0.conv1.conv.weight")
FOLDED = "decoder.up_blocks.1.conv.conv.weight"
FIRST, NOISY, FOLDING = (
    _vae("0.9.0", STRIDED_DOWN, FIRST_UP, first_vae_sizes, *STRIDED, "decoder.up_blocks.2.conv.conv.weight"),
    _vae("0.9.1", STRIDED_DOWN, LATER_UP, noisy_vae_sizes, *STRIDED, FOLDED),
    _vae("0.9.5 or later", FOLDED_DOWN, LATER_UP, folding_vae_sizes, FOLDED, "encoder.down_blocks.1.conv.conv.weight"),
)
LAYOUTS = (
    Layout("LTX-Video's transformer", "LTXVideoTransformer3DModel",
           ("patchify_proj.weight", "adaln_single.linear.weight", "caption_projection.linear_1.weight",
            "transformer_blocks.0.attn2.to_k.weight", "proj_out.weight"),
           dit_name, dit_sizes, header=Header),
    FIRST, NOISY, FOLDING,
)  # fmt: skip
