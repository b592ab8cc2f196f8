"""How well clips hold together in time, a number for every clip: joins, loops, identity, framing, drift, edits.

Knows no model: it sees pixels, and what `oracle.py` reads from them. A clip that cannot be measured is nan.

Letters: B clips, T frames, H W pixels, M joins. Lengths in short sides of the frame, time in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import oracle
from .oracle import Reading
from .spoil import blur
from .world import ATTRIBUTES

SEEN_BEFORE, SEEN_AFTER = 6, 4
"""Frames on this side of a join that a constant velocity is fitted to, and frames beyond it that it predicts."""
LEAST_SEEN = 2
"""Frames on each side of a join in which the object must be found."""
COVERED = 0.5
"""Share of the contrast from which a pixel counts as the object's."""
TOUCHING = 0.03
"""Greatest share of a border line that a whole object may cover: some pixels that a decoder smears."""


class Ratio(NamedTuple):
    """Two numbers for each clip; the ratio is that of their means (`intervals.ratio`)."""

    over: Tensor  # (B,)
    under: Tensor  # (B,)


class Track(NamedTuple):
    """What is read from every frame by itself; indices as in `oracle.Reading`, -1 where nothing is clear."""

    colour: Tensor  # (B, T) long
    shape: Tensor  # (B, T) long
    centroid: Tensor  # (B, T, 2), nan where not found
    area: Tensor  # (B, T), nan where not found


def track(video: Tensor, fps: float) -> Track:
    """Read every frame as a picture of its own, so that one frame says nothing of another."""
    clips, frames = video.shape[:2]
    read = oracle.read(video.flatten(0, 1)[:, None], fps)
    area = read.area.where(read.found, torch.nan)
    parts = (read.colour, read.shape, read.centroid[:, 0], area[:, 0])
    return Track(*(part.unflatten(0, (clips, frames)) for part in parts))


# Joins and loops


def _change(video: Tensor, order: int) -> Tensor:
    """(B, T - order): mean absolute first or second difference from frame to frame."""
    return video.diff(n=order, dim=1).abs_().mean((2, 3, 4))


def _at_and_inside(change_BT: Tensor, at: Sequence[int], order: int) -> Ratio:
    across = sorted({place - 1 - back for place in at for back in range(order)} & set(range(change_BT.shape[1])))
    inside = [place for place in range(change_BT.shape[1]) if place not in across]
    if not across or not inside:
        frames = change_BT.shape[1] + order
        raise ValueError(f"{frames} frames with joins before {list(at)}: each is one of the frames 1 to {frames - 1}.")
    return Ratio(change_BT[:, across].mean(1), change_BT[:, inside].median(1).values)


def join_step(video: Tensor, at: Sequence[int]) -> Ratio:
    """How much the picture changes across a join, |x_t - x_{t-1}|, over the median of all other steps.

    Args:
        video: (B, T, 3, H, W).
        at: for each join, the number of the first frame after it.
    """
    return _at_and_inside(_change(video, 1), at, 1)


def join_bend(video: Tensor, at: Sequence[int]) -> Ratio:
    """How much the change itself changes across a join, |x_{t+1} - 2 x_t + x_{t-1}|, over the median elsewhere.

    Seen through a blur of an eighth of the short side: a sharp edge changes as much as it can in every frame, and an
    object that turns back at the join stands out by 1.1 only; blurred, by 3.5.
    """
    blurred = blur(video, max(1, min(video.shape[-2:]) // 8) // 2 * 2 + 1)
    return _at_and_inside(_change(blurred, 2), at, 2)


def around(video: Tensor) -> Tensor:
    """A loop with its first two frames once more behind its last: its seam is a join at T."""
    return torch.cat([video, video[:, :2]], 1)


def predicted_place_error(centroid_BT2: Tensor, at: Sequence[int]) -> Tensor:
    """(B,): how far an object is from where a constant velocity takes it across a join, short sides; 0 is perfect.

    A line is fitted to the frames before the join and compared with those after it, and the other way round.
    """
    backwards = centroid_BT2.flip(1)
    frames = centroid_BT2.shape[1]
    errors = [_error_beyond(centroid_BT2, place) for place in at]
    errors += [_error_beyond(backwards, frames - place) for place in at]
    return torch.stack(errors).mean(0)


def _error_beyond(centroid_BT2: Tensor, at: int) -> Tensor:
    known = centroid_BT2[:, max(0, at - SEEN_BEFORE) : at]
    beyond = centroid_BT2[:, at : at + SEEN_AFTER]
    predicted, fitted = extrapolate(known, torch.arange(known.shape[1], known.shape[1] + beyond.shape[1]))
    distance = (predicted - beyond).norm(dim=-1)
    seen = distance.isfinite()
    root = (distance.nan_to_num().square().sum(1) / seen.sum(1).clamp(min=1)).sqrt()
    return root.where(fitted & (seen.sum(1) >= min(LEAST_SEEN, beyond.shape[1])), torch.nan)


def extrapolate(known_BT2: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Places (B, len(times), 2) on the least-squares line through those that are not nan, and (B,) whether it is one.

    Args:
        known_BT2: places at the times 0, 1, ..., T - 1.
        times: at which to ask.
    """
    weight = known_BT2.isfinite().all(-1).float()
    count = weight.sum(1, keepdim=True).clamp(min=1)
    time = torch.arange(known_BT2.shape[1]).float()
    mean_time = weight @ time[:, None] / count  # (B, 1)
    place = known_BT2.nan_to_num() * weight[..., None]
    mean_place = place.sum(1) / count  # (B, 2)
    offset = (time - mean_time) * weight  # (B, T)
    slope = (offset[..., None] * place).sum(1) / offset.square().sum(1, keepdim=True).clamp(min=1e-9)
    predicted = mean_place[:, None] + (times - mean_time)[..., None] * slope[:, None]
    return predicted, weight.sum(1) >= LEAST_SEEN


def same_thing(before: Reading, after: Reading) -> Tensor:
    """(B,) bool: on both sides there is an object, of the same colour and shape."""
    pairs = [(getattr(before, name), getattr(after, name)) for name in ("colour", "shape")]
    return torch.stack([(one == other) & (one >= 0) for one, other in pairs]).all(0)


# Identity, steadiness, framing


def constancy(index_BT: Tensor) -> Tensor:
    """(B,): share of the frames that show what most of them show; where nothing is clear (-1) nothing is shown."""
    kinds = index_BT.amax().clamp(min=0) + 1
    counts = torch.stack([(index_BT == kind).sum(1) for kind in range(int(kinds))])
    return counts.amax(0) / index_BT.shape[1]


def area_variation(area_BT: Tensor) -> Tensor:
    """(B,): standard deviation of the object's area over time, divided by its mean; 0 is a size that stays."""
    seen = area_BT.isfinite()
    count = seen.sum(1)
    mean = area_BT.nan_to_num().sum(1) / count
    deviation = (area_BT - mean[:, None]).nan_to_num() * seen
    return ((deviation.square().sum(1) / count).sqrt() / mean).where(count >= LEAST_SEEN, torch.nan)


def step_deviation(centroid_BT2: Tensor) -> Tensor:
    """(B,): root mean square difference of the object's steps from their mean step, short sides; 0 is even motion."""
    step = centroid_BT2.diff(dim=1)
    seen = step.isfinite().all(-1)
    count = seen.sum(1).clamp(min=1)
    mean = step.nan_to_num().sum(1) / count[:, None]
    squared = (step - mean[:, None]).nan_to_num().square().sum(-1) * seen
    return (squared.sum(1) / count).sqrt().where(seen.sum(1) >= LEAST_SEEN, torch.nan)


def flicker(video: Tensor, tracked: Track) -> Tensor:
    """(B,): mean absolute change, from frame to frame, of pixels where neither frame's object is; 0 is calm.

    Within 1.2 roots of its area, and a tenth of the short side, around an object's centre all pixels count as its own.
    """
    height, width = video.shape[-2:]
    short = min(height, width)
    y, x = (torch.arange(side) + 0.5 for side in (height, width))
    centre = tracked.centroid * short
    reach = (1.2 * tracked.area.sqrt() + 0.1) * short
    far_y = (y - centre[..., 1:]).square()  # (B, T, H)
    far_x = (x - centre[..., :1]).square()  # (B, T, W)
    clear = ~(far_y[..., None] + far_x[..., None, :] <= reach.square()[..., None, None])  # where nan, all is clear
    calm = clear[:, 1:] & clear[:, :-1]
    change = video.diff(dim=1).abs().mean(2)
    return (change * calm).sum((1, 2, 3)) / calm.sum((1, 2, 3)).clamp(min=1)


def framed(video: Tensor, fps: float) -> Tensor:
    """(B,) bool: in every frame there is an object, and it does not touch the frame's border."""
    reading = oracle.read(video, fps)
    lines = _border_lines(video)
    paper = torch.cat(lines, -1).transpose(1, 2).flatten(2).median(2).values  # (B, 3)
    least = (COVERED * reading.contrast)[:, None, None]
    covered = [((line - paper[:, None, :, None]).norm(dim=2) > least).float().mean(2) for line in lines]
    return reading.found.all(1) & (torch.stack(covered).amax((0, 2)) <= TOUCHING)


def _border_lines(video: Tensor) -> list[Tensor]:
    """The outermost lines, each (B, T, 3, H or W)."""
    return [video[..., 0, :], video[..., -1, :], video[..., 0], video[..., -1]]


def motion(video: Tensor) -> Tensor:
    """(B,): root mean square change of the pixels from frame to frame."""
    return video.diff(dim=1).square().mean((1, 2, 3, 4)).sqrt()


def contrast(video: Tensor) -> Tensor:
    """(B,): standard deviation of all pixels of a clip, colour by colour."""
    return video.var((1, 3, 4), unbiased=False).mean(1).sqrt()


# Over long times, and against a source


def drift(values_BK: Tensor, seconds_K: Tensor) -> Tensor:
    """(B,): least-squares slope of values over time, per second."""
    time = seconds_K - seconds_K.mean()
    return (values_BK * time).sum(1) / time.square().sum()


def colour_drift(video: Tensor, fps: float) -> Tensor:
    """(B,): how fast the mean colour of the background runs away, OKLab distance per second; 0 stays.

    Of the border's pixels: a mean over the whole picture follows an object that leaves it.
    """
    lab = oracle.oklab(torch.cat(_border_lines(video), -1).median(-1).values)  # (B, T, 3)
    seconds = torch.arange(video.shape[1]) / fps
    slopes = [drift(lab[..., channel], seconds) for channel in range(3)]
    return torch.stack(slopes).norm(dim=0)


def structure_kept(source: Track, edited: Track) -> Tensor:
    """(B,): 1 - d / c for the root mean square distance d of two tracks; 1 is the same place in every frame, 0 chance.

    c is the distance between the tracks of neighbours in the batch. (The correlation of two tracks says less: that of
    any two straight lines of one direction is 1.) Frames in which the object is lost keep nothing.
    """
    chance = _distance(source.centroid, source.centroid.roll(1, 0))
    distance = _distance(source.centroid, edited.centroid)
    kept = (1 - distance / chance[chance.isfinite()].mean()).clamp(min=0).nan_to_num()
    return kept * edited.area.isfinite().float().mean(1)


def _distance(one_BT2: Tensor, other_BT2: Tensor) -> Tensor:
    squared = (one_BT2 - other_BT2).square().sum(-1)
    return squared.nanmean(1).sqrt()


def dominated_area(kept: Sequence[float], edited: Sequence[float]) -> float:
    """Area under the best that can be had: for each share of structure kept, the most that is edited (Zitzler 1998).

    1 is an edit that keeps all and changes all that was asked; it needs no order of the points.
    """
    area, reached = 0.0, 0.0
    for x, y in sorted(zip(kept, edited, strict=True), reverse=True):
        if y > reached:
            area, reached = area + x * (y - reached), y
    return area


def attributes_right(video: Tensor, labels: Mapping[str, Tensor], fps: float) -> dict[str, Tensor]:
    """(B,) bool for each attribute that some clip is labelled with, and `all`; see `oracle.right`."""
    asked = {name: label for name, label in labels.items() if name in ATTRIBUTES and (label >= 0).any()}
    return oracle.right(oracle.read(video, fps), asked)
