"""Captions of what the oracle reads from pixels: what it cannot read is not said. Knows no truth but that."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .captions import tell
from .oracle import read
from .world import ATTRIBUTES, scene_seed

SAYS = {"short": ("colour", "shape", "motion"), "long": tuple(ATTRIBUTES)}


def recaption(
    video: Tensor, fps: float, style: Literal["short", "long"], seed: int
) -> tuple[list[str], dict[str, Tensor]]:
    """A sentence about each clip; an empty one where neither colour, shape nor motion can be read.

    Args:
        video: (B, T, 3, H, W) in [0, 1].
        fps: frames per second.
        style: short tells colour, shape and motion, long size and background too.
        seed: of the wording.

    Returns: B sentences, and per attribute what they say: (B,) long, -1 where nothing.
    """
    reading = read(video, fps)
    is_told = torch.stack([getattr(reading, name) >= 0 for name in SAYS["short"]]).any(0)
    said = {
        name: getattr(reading, name).where(is_told, -1) if name in SAYS[style] else torch.full_like(reading.colour, -1)
        for name in ATTRIBUTES
    }
    speeds, is_image = reading.velocity.norm(dim=1).tolist(), video.shape[1] == 1
    texts = [
        tell({name: int(index_B[i]) for name, index_B in said.items()}, style, scene_seed(seed, i, 7), speed, is_image)
        if is_told[i]
        else ""
        for i, speed in enumerate(speeds)
    ]
    return texts, said
