"""The noise levels that each family of models is sampled at by those who made it. Knows no files.

Wan: Wan-Video/Wan2.1 and Wan2.2, generate.py and wan/configs. LTX-Video: Lightricks/LTX-Video, its scheduler's
configuration. CogVideoX: THUDM/CogVideoX, DDIM with trailing timesteps. Mochi: genmoai/mochi. HunyuanVideo:
Tencent-Hunyuan/HunyuanVideo, --flow-shift.
"""

from __future__ import annotations

from typing import Any

from kineograph.nodes.networks import flow, schedules
from kineograph.nodes.networks.adapters.cogvideox import CogVideoXDiT
from kineograph.nodes.networks.adapters.experts import Experts
from kineograph.nodes.networks.adapters.hunyuan import HunyuanVideoDiT
from kineograph.nodes.networks.adapters.ltx import LTXDiT
from kineograph.nodes.networks.adapters.mochi import MochiDiT
from kineograph.nodes.networks.adapters.wan import VACEDiT, WanDiT
from kineograph.nodes.networks.patches import Triple

OWN_SHIFT = 3.0
"""Of Kineograph's own models, and of what is not known here."""
LTX_SHIFTS, LTX_TERMINAL = (0.95, 2.05), 0.1
HUNYUAN_SHIFT = 7.0
MOCHI_THRESHOLD = 0.025
SMALL_HEADS = 12
"""Attention heads of Wan 1.3B; its other sizes have more."""
CHANNELS_OF_5B = 48
LOW_PIXELS = 480 * 832
"""Of a frame in what is called 480p."""


def own_levels(network: Any, cells: Triple, space: int, steps: int) -> list[float]:
    """The levels that a network was made to be sampled at, falling from 1 to 0: (steps + 1).

    Args:
        network: of a DiT.
        cells: (t, h, w) of the latent.
        space: pixels per latent cell, along each side.
        steps: number of denoising steps.

    Raises:
        ValueError: fewer steps than the schedule has parts, or more than it has levels.
    """
    t, h, w = cells
    if isinstance(network, CogVideoXDiT):
        return schedules.timestep_levels(network.levels, steps, "trailing").tolist()
    if isinstance(network, MochiDiT) and steps > 1:
        return schedules.linear_quadratic_levels(steps, MOCHI_THRESHOLD).tolist()
    if isinstance(network, LTXDiT):
        levels = flow.shifted_sigmas(steps, schedules.shift_of_tokens(t * h * w, *LTX_SHIFTS)).tolist()
        return schedules.stretched(levels, LTX_TERMINAL) if steps > 1 else levels
    return flow.shifted_sigmas(steps, _shift(network, h * w * space * space)).tolist()


def _shift(network: Any, pixels: int) -> float:
    """The shift of a family that has one, for frames of so many pixels."""
    if isinstance(network, HunyuanVideoDiT):
        return HUNYUAN_SHIFT
    if isinstance(network, Experts):
        return 5.0 if network.config.shows else 12.0
    if isinstance(network, (WanDiT, VACEDiT)):
        return _wan_shift(network, pixels)
    return OWN_SHIFT


def _wan_shift(network: Any, pixels: int) -> float:
    config = network.network.config
    if config.out_channels == CHANNELS_OF_5B:
        return 5.0
    if config.num_attention_heads <= SMALL_HEADS:
        return 8.0
    return 3.0 if pixels <= LOW_PIXELS else 5.0
