"""The VAE of Wan 2.2 5B as Wan's repository and ComfyUI name it: blocks of blocks, pixels cut first. Knows no file.

Wan-Video/Wan2.2, wan/modules/vae2_2.py: its moments are in no file of weights.
"""

from __future__ import annotations

import math

from kineograph.nodes.families.layouts.layout import Layout, Said, Shapes, exchanged, layers, numbered
from kineograph.nodes.families.layouts.wan import SAMPLERS, WAN_VAE_RESNET, wan_vae_name
from kineograph.nodes.families.schemas import WanAutoencoder

MEANS = [-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891]
MEANS += [0.157, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502]
MEANS += [-0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123, -0.0313, -0.1649, 0.0117, 0.0723]
MEANS += [-0.2839, -0.2083, -0.052, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667]
DEVIATIONS = [0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901]
DEVIATIONS += [0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659]
DEVIATIONS += [0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944]
DEVIATIONS += [0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744]
HALVES = {"encoder.downsamples.": ("encoder.down_blocks", "downsampler")}
HALVES |= {"decoder.upsamples.": ("decoder.up_blocks", "upsampler")}
FIRST = "encoder.downsamples.0.downsamples.0.residual.2.weight"


def wan22_vae_name(name: str) -> str | None:
    """A tensor of the VAE of Wan 2.2 5B, in the names of diffusers."""
    half, rest = numbered(r"encoder\.downsamples\.|decoder\.upsamples\.", name)
    if not half:
        return wan_vae_name(name)
    level, rest = numbered(r"\d+\.", rest)
    place, inner = numbered(r"(?:down|up)samples\.\d+\.", rest)
    if not (level and place):
        return None
    blocks, sampler = HALVES[half]
    if resnet := exchanged(inner, WAN_VAE_RESNET):
        return f"{blocks}.{level}resnets.{place.split('.')[1]}.{resnet}"
    found = exchanged(inner, SAMPLERS)
    return found and f"{blocks}.{level}{sampler}.{found}"


def wan22_vae_sizes(shapes: Shapes, _: Said) -> WanAutoencoder:
    """The sizes of the VAE of Wan 2.2 5B; its moments are as published."""
    width, channels = shapes["encoder.conv1.weight"][:2]
    levels = range(layers(shapes, r"encoder\.downsamples\.(\d+)\."))
    inside = [f"encoder.downsamples.{level}.downsamples" for level in levels]
    resnets = layers(shapes, r"encoder\.downsamples\.0\.downsamples\.(\d+)\.residual\.")
    in_time = [f"{place}.{resnets}.time_conv.weight" in shapes for place in inside[:-1]]
    patch = math.isqrt(channels // 3)
    if shapes["conv2.weight"][0] != len(MEANS):
        raise ValueError("the moments of other latents are not known")
    return WanAutoencoder(
        base_dim=width,
        decoder_base_dim=shapes["decoder.head.2.weight"][1],
        z_dim=len(MEANS),
        dim_mult=[shapes[f"{place}.0.residual.2.weight"][0] // width for place in inside],
        num_res_blocks=resnets,
        temperal_downsample=in_time,
        latents_mean=MEANS,
        latents_std=DEVIATIONS,
        is_residual=True,
        in_channels=channels,
        out_channels=shapes["decoder.head.2.weight"][0],
        patch_size=patch,
        scale_factor_temporal=2 ** sum(in_time),
        scale_factor_spatial=patch * 2 ** len(in_time),
    )


LAYOUTS = (
    Layout("the VAE of Wan 2.2 5B", "AutoencoderKLWan",
           (FIRST, "encoder.conv1.weight", "decoder.middle.0.residual.0.gamma", "decoder.head.2.weight",
            "conv2.weight"),
           wan22_vae_name, wan22_vae_sizes),
)  # fmt: skip
