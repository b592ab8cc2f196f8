"""Reads the state of `world.py` back from pixels by classical means; knows no labels, no captions, no learned weights.

It is meant for generated clips too, so it refuses (-1) rather than guesses: no object, a colour far from the palette,
a blob that fits no shape, a track that jumps or follows neither axis. A refusal counts as wrong in `score`.

Letters: B clips, T frames, H W pixels, S shapes. Lengths in short sides of the frame, time in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .world import (
    ATTRIBUTES,
    BACKGROUND_RGB,
    COLOUR_RGB,
    HALF_EXTENT,
    RADIUS,
    SHAPES,
    TRAVEL,
    TRAVEL_SECONDS,
    coverage,
)

AREA_RANGE = (0.02, 0.35)
"""Squared short sides that an object covers in a frame where it counts as found; the world's own: 0.046 to 0.187."""
LEAST_CONTRAST = 0.2
"""Least RGB distance between object and background; the world's own have 0.45 and more."""
LEAST_FOUND = 0.8
"""Share of the frames in which the object must be found."""
LEAST_IOU = 0.75
"""Least mean overlap with the best template."""
FARTHEST_COLOUR = 0.13
"""Greatest OKLab distance to the nearest colour or background of the palette."""
STRAIGHT = 0.5
"""Greatest ratio of the two axes' displacements for a track to count as along one axis."""
MOST_RESIDUAL = 0.06
"""Greatest root mean square distance of a track from its constant velocity; a jump over 0.4 short sides has 0.1."""

_BORDER = 2  # pixels
_CORE = 0.75  # share of the contrast above which a pixel is wholly the object's
_CHUNK_PIXELS = 1 << 22
_BOX_FILLED = (torch.pi, 4.0, 2.0)  # area over the product of half width and half height
_AREA_OVER_RADIUS_SQUARED = tuple(filled * x * y for filled, (x, y) in zip(_BOX_FILLED, HALF_EXTENT, strict=True))
_CENTROID_BELOW_CENTRE = (0.0, 0.0, HALF_EXTENT[2][1] / 3)  # radii


@dataclass(frozen=True)
class Reading:
    """What the pixels of B clips say; indices are places in `world.ATTRIBUTES`, -1 where nothing is clear."""

    colour: Tensor  # (B,) long
    shape: Tensor  # (B,) long
    motion: Tensor  # (B,) long; -1 for images
    size: Tensor  # (B,) long
    background: Tensor  # (B,) long
    centroid: Tensor  # (B, T, 2) centre of mass (x, y), short sides from the top left corner; nan where not found
    area: Tensor  # (B, T) squared short sides
    found: Tensor  # (B, T) bool
    shape_iou: Tensor  # (B, S) mean overlap with each shape's template, over the found frames
    velocity: Tensor  # (B, 2) short sides per second, fitted to the track
    track_residual: Tensor  # (B,) root mean square distance of the track from a constant velocity, short sides
    colour_distance: Tensor  # (B,) OKLab distance of the object to the nearest colour
    contrast: Tensor  # (B,) RGB distance between object and background

    def attributes(self) -> dict[str, Tensor]:
        """Every attribute's index, each (B,) long."""
        return {name: getattr(self, name) for name in ATTRIBUTES}


def oklab(rgb: Tensor) -> Tensor:
    """sRGB in [0, 1] with channels last to OKLab (Ottosson 2020), where distances follow what people see."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0) + 0.055) / 1.055) ** 2.4)
    to_cones = torch.tensor(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = torch.tensor(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return (linear @ to_cones.T).clamp(min=0) ** (1 / 3) @ to_lab.T


def _nearest(rgb_B3: Tensor, palette: tuple[tuple[float, float, float], ...]) -> tuple[Tensor, Tensor]:
    distance, index = torch.cdist(oklab(rgb_B3), oklab(torch.tensor(palette))).min(1)
    return index, distance


def paper_colour(video: Tensor) -> Tensor:
    """(B, 3): median over the border of all frames, where the object is in the minority."""
    edge = torch.zeros(video.shape[-2:], dtype=torch.bool)
    edge[:_BORDER], edge[-_BORDER:], edge[:, :_BORDER], edge[:, -_BORDER:] = True, True, True, True
    return video[..., edge].transpose(1, 2).flatten(2).median(2).values


def object_share(video: Tensor, paper_B3: Tensor) -> tuple[Tensor, Tensor]:
    """How much of each pixel is not background, (B, T, H, W) in [0, 1], and the object's colour, (B, 3).

    The colour is the median of the pixels that differ nearly as much as the most different hundredth does; what differs
    as much as that colour is wholly the object's.
    """
    difference = (video - paper_B3[:, None, :, None, None]).square_().sum(2).sqrt_()  # torch's norm takes far longer
    ink_B3 = torch.empty_like(paper_B3)
    for i, pixels in enumerate(difference.flatten(1)):
        most = pixels.kthvalue(len(pixels) - len(pixels) // 100).values
        ink_B3[i] = video[i].transpose(0, 1)[:, difference[i] >= _CORE * most].median(1).values
    contrast = (ink_B3 - paper_B3).norm(dim=1).clamp(min=1e-6)
    return (difference / contrast[:, None, None, None]).clamp_(0, 1), ink_B3


def _sharpened(share: Tensor) -> Tensor:
    return ((share - 0.5) * 3 + 0.5).clamp(0, 1)  # the same edge for a sharp render and a decoder's blur


def _centroids(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Centre of mass (B, T, 2) in pixels and area (B, T) in pixels."""
    height, width = mask.shape[-2:]
    columns, lines = mask.sum(-2), mask.sum(-1)  # (B, T, W), (B, T, H)
    area = columns.sum(-1)
    x, y = columns @ (torch.arange(width) + 0.5), lines @ (torch.arange(height) + 0.5)
    return torch.stack((x, y), -1) / area.clamp(min=1e-6)[..., None], area


def _shape_overlaps(mask: Tensor, centroid: Tensor, area: Tensor, found: Tensor) -> Tensor:
    """(B, S): soft intersection over union with each shape of the same area and centre, averaged over found frames."""
    frames, (height, width) = mask[found], mask.shape[-2:]  # (n, H, W)
    clip_of_frame = found.nonzero()[:, 0]
    overlaps = torch.zeros(len(mask), len(SHAPES))
    for shape in range(len(SHAPES)):
        radius = (area[found] / _AREA_OVER_RADIUS_SQUARED[shape]).sqrt()
        centre = centroid[found].clone()
        centre[:, 1] -= _CENTROID_BELOW_CENTRE[shape] * radius
        template = _sharpened(coverage(shape, centre[:, None], radius, height, width)[:, 0])
        iou = torch.minimum(frames, template).sum((1, 2)) / torch.maximum(frames, template).sum((1, 2))
        overlaps[:, shape].index_add_(0, clip_of_frame, iou)
    return overlaps / found.sum(1).clamp(min=1)[:, None]


def _fit_track(centroid: Tensor, found: Tensor, fps: float) -> tuple[Tensor, Tensor]:
    """Least squares velocity (B, 2) over the found frames and the root mean square residual (B,)."""
    weight = found.float()
    count = weight.sum(1).clamp(min=1)
    seconds = torch.arange(found.shape[1]) / fps
    time = (seconds - (weight @ seconds / count)[:, None]) * weight
    place = (centroid - (centroid * weight[..., None]).sum(1, keepdim=True) / count[:, None, None]) * weight[..., None]
    velocity = (time[..., None] * place).sum(1) / time.square().sum(1).clamp(min=1e-9)[:, None]
    residual = place - time[..., None] * velocity[:, None]
    return velocity, (residual.square().sum((1, 2)) / count).sqrt()


def _motion(velocity: Tensor, frames: int, fps: float) -> Tensor:
    """Index in `MOTIONS`: still below half the world's least speed, else the dominant axis's direction, else -1."""
    if frames == 1:
        return torch.full(velocity.shape[:1], -1)
    least = 0.5 * TRAVEL[0] / max(TRAVEL_SECONDS, (frames - 1) / fps)
    along, axis = velocity.abs().max(1)
    forward = velocity.gather(1, axis[:, None])[:, 0] > 0
    direction = 1 + 2 * axis + forward.long()  # left right up down
    direction = torch.where(velocity.abs().amin(1) <= STRAIGHT * along, direction, -1)
    return torch.where(along < least, 0, direction)


def _read(video: Tensor, fps: float) -> Reading:
    _, frames, _, height, width = video.shape
    short = min(height, width)
    paper = paper_colour(video)
    share, ink = object_share(video, paper)
    contrast = (ink - paper).norm(dim=1)
    mask = _sharpened(share)
    centroid_px, area_px = _centroids(mask)
    area = area_px / short**2
    found = (area >= AREA_RANGE[0]) & (area <= AREA_RANGE[1]) & (contrast >= LEAST_CONTRAST)[:, None]
    there = found.float().mean(1) >= LEAST_FOUND

    overlaps = _shape_overlaps(mask, centroid_px, area_px, found)
    best, shape = overlaps.max(1)
    mean_area = (area * found).sum(1) / found.sum(1).clamp(min=1)
    radius = (mean_area / torch.tensor(_AREA_OVER_RADIUS_SQUARED)[shape]).sqrt()
    colour, colour_distance = _nearest(ink, COLOUR_RGB)
    background, background_distance = _nearest(paper, BACKGROUND_RGB)
    centroid = centroid_px / short
    velocity, residual = _fit_track(centroid, found, fps)
    return Reading(
        colour=colour.where(there & (colour_distance <= FARTHEST_COLOUR), -1),
        shape=shape.where(there & (best >= LEAST_IOU), -1),
        motion=_motion(velocity, frames, fps).where(there & (residual <= MOST_RESIDUAL), -1),
        size=(radius > sum(RADIUS) / 2).long().where(there, -1),
        background=background.where(background_distance <= FARTHEST_COLOUR, -1),
        centroid=centroid.where(found[..., None], torch.nan),
        area=area,
        found=found,
        shape_iou=overlaps,
        velocity=velocity,
        track_residual=residual,
        colour_distance=colour_distance,
        contrast=contrast,
    )


@torch.no_grad()
def read(video: Tensor, fps: float) -> Reading:
    """The state of every clip.

    Args:
        video: (B, T, 3, H, W) in [0, 1].
        fps: frames per second.

    Raises:
        ValueError: where the video is no (B, T, 3, H, W) or empty.
    """
    if video.ndim != 5 or video.shape[2] != 3 or min(video.shape) < 1:
        raise ValueError(f"the oracle reads (B, T, 3, H, W) with at least one clip, given {tuple(video.shape)}")
    video = video.detach().float().cpu().nan_to_num(0.0).clamp(0, 1)
    parts = [_read(part, fps) for part in video.split(max(1, _CHUNK_PIXELS // video[0, :, 0].numel()))]
    return Reading(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Reading)})


def right(reading: Reading, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Which clips were read as labelled: (B,) bool per labelled attribute, and `all` for those right in every one.

    A label of -1 asks for nothing, so any reading is right there.
    """
    unknown = set(labels) - set(ATTRIBUTES)
    if unknown:
        raise ValueError(f"no attribute of this world: {', '.join(sorted(unknown))}; it has {', '.join(ATTRIBUTES)}")
    if not labels:
        raise ValueError(f"there are no labels to score by; give some of {', '.join(ATTRIBUTES)}")
    hits = {name: (getattr(reading, name) == label.cpu()) | (label.cpu() < 0) for name, label in labels.items()}
    return hits | {"all": torch.stack(list(hits.values())).all(0)}


def score(video: Tensor, labels: Mapping[str, Tensor], fps: float = 8.0) -> dict[str, float]:
    """Accuracy per labelled attribute, over the clips that have a label (not -1) for it, and of `all` of them together.

    Adds `found`, the share of frames with an object, and `shape_iou`, the mean overlap with the best template of any
    shape. An attribute that no clip is labelled with is left out.

    Args:
        video: (B, T, 3, H, W) in [0, 1].
        labels: (B,) indices by attribute, some or all of `world.ATTRIBUTES`; -1 asks for nothing.
        fps: frames per second.
    """
    reading = read(video, fps)
    hits = right(reading, labels)
    result = {}
    for name, label in labels.items():
        asked = label.cpu() >= 0
        if asked.any():
            result[name] = hits[name][asked].float().mean().item()
    result["all"] = hits["all"].float().mean().item()
    return result | {
        "found": reading.found.float().mean().item(),
        "shape_iou": reading.shape_iou.amax(1).mean().item(),
    }
