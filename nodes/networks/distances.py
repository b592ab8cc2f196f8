"""How far a set of clips is from another: the kernel distance of their features, with its interval. Knows no model.

Two kinds of features, because each is blind to what the other sees: `scene_features` are what the oracle reads (what
moves where, how fast, in which colours), `pixel_features` those of a small random network (sharpness, noise, texture).
The kernel distance is unbiased for few clips, where a Frechet distance says 2.35 of 64 clips that are as real as the
other 64.

Letters: B clips, n and m clips of either set, T frames, F features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import measures, oracle
from .intervals import UNKNOWN, Estimate, Z
from .spoil import blur
from .world import BACKGROUNDS, COLOURS, SHAPES

WIDTHS = (16, 32, 64)
LEAST_CLIPS = 4
FAINT = 0.01
"""Strength of an answer that is as good as none."""
_CHUNK = 16


def kernel_distance(features_nF: Tensor, real_mF: Tensor) -> Estimate:
    """The unbiased squared maximum mean discrepancy of the kernel (x y / F + 1)^3 (Binkowski et al. 2018, KID).

    0 is no distance; an unbiased estimate may lie below. The interval is that of the delete-one jackknife over the
    clips of both sets: a bootstrap would draw clips twice, and a clip is nearest to itself.
    """
    n, m = len(features_nF), len(real_mF)
    if min(n, m) < LEAST_CLIPS:
        return UNKNOWN
    x, y = features_nF.double(), real_mF.double()
    within_x, within_y, across = _kernel(x, x).fill_diagonal_(0), _kernel(y, y).fill_diagonal_(0), _kernel(x, y)

    def distance(sum_x: Tensor, sum_y: Tensor, sum_across: Tensor, n: int, m: int) -> Tensor:
        return sum_x / (n * (n - 1)) + sum_y / (m * (m - 1)) - 2 * sum_across / (n * m)

    all_x, all_y, all_across = within_x.sum(), within_y.sum(), across.sum()
    value = distance(all_x, all_y, all_across, n, m).item()
    without_x = distance(all_x - 2 * within_x.sum(1), all_y, all_across - across.sum(1), n - 1, m)
    without_y = distance(all_x, all_y - 2 * within_y.sum(1), all_across - across.sum(0), n, m - 1)
    variance = sum((k - 1) * each.var(unbiased=False) for k, each in ((n, without_x), (m, without_y)))
    half = Z * math.sqrt(float(variance))
    return Estimate(value, value - half, value + half, n)


def _kernel(x_nF: Tensor, y_mF: Tensor) -> Tensor:
    return (x_nF @ y_mF.T / x_nF.shape[1] + 1) ** 3


def scene_features(video: Tensor, fps: float) -> Tensor:
    """(B, F) in [-1, 1]: what the oracle reads of a clip; what is not found is 0.

    Place, velocity and how far the track is from it, steps and area and how they vary, overlap with each shape, and
    in which share of the frames it is which colour, shape and background. Each number is divided by what makes a
    difference in this world, and bounded by tanh: an object that is lost shall not outweigh everything.
    """
    reading, track = oracle.read(video, fps), measures.track(video, fps)
    step = track.centroid.diff(dim=1).norm(dim=-1) * fps
    numbers = [
        (reading.centroid.nanmean(1) - 0.5) / 0.25,
        reading.velocity / 0.2,
        reading.track_residual[:, None] / 0.05,
        measures.step_deviation(track.centroid)[:, None] / 0.05,
        (step.nanmean(1, keepdim=True) - 0.1) / 0.1,
        track.area.nanmean(1, keepdim=True) / 0.1 - 1,
        measures.area_variation(track.area)[:, None] / 0.2,
        (reading.shape_iou - 0.8) / 0.1,
        reading.contrast[:, None] - 0.8,
    ]
    kinds = ((track.colour, COLOURS), (track.shape, SHAPES), (reading.background[:, None], BACKGROUNDS))
    for index_BT, names in kinds:
        numbers.append(F.one_hot(index_BT + 1, len(names) + 1).float().mean(1) * 2)
    return torch.cat(numbers, 1).nan_to_num().tanh()


@torch.no_grad()
def pixel_features(video: Tensor, seed: int = 0) -> Tensor:
    """(B, F): the logarithm of how strongly a random convolutional network answers to what is finer than a blur.

    Any length and size will do. Random filters tell textures apart nearly as well as trained ones (Saxe et al. 2011);
    without the blur's part, colours and sizes of things, which differ from clip to clip, would hide all else.
    """
    network = _random_network(seed)
    kept = []
    for part in video.float().split(_CHUNK):
        x, found = (part - blur(part, 5)).transpose(1, 2), []
        for layer in network:
            x = layer(x)
            # the first follows the strong answers, which are edges, the second the many weak ones
            found.append((x.square().mean((2, 3, 4)) + FAINT**2).sqrt().log())
            found.append((x.abs() + FAINT).log().mean((2, 3, 4)))
        kept.append(torch.cat(found, 1))
    return torch.cat(kept) + 3


def _random_network(seed: int) -> list[nn.Module]:
    made = torch.Generator().manual_seed(seed)
    layers, width = [], 3
    for number, wider in enumerate(WIDTHS):
        convolution = nn.Conv3d(width, wider, 3, stride=(1, 2, 2) if number == 0 else 2, padding=1)
        convolution.weight.normal_(0, math.sqrt(2 / (27 * width)), generator=made)
        convolution.bias.normal_(0, 0.1, generator=made)  # pyright: ignore[reportOptionalMemberAccess]
        layers.append(nn.Sequential(convolution, nn.ReLU()))
        width = wider
    return layers
