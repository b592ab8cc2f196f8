"""What becomes of an object that passes behind a wall: does it come out again, as what, and where? Knows no model.

The world of `world.py` has walls of one colour across the whole frame; a wall is found by that, and painted over in the
background's colour, so that the oracle sees nothing but the object.

Letters: B clips, T frames, H W pixels. Lengths in short sides of the frame.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import oracle
from .measures import extrapolate
from .world import WALL_RGB

LEAST_WALL = 0.85
"""Share of a line's pixels that have the wall's colour where the line belongs to a wall."""
SEEN = 0.5
"""Share of the contrast from which a pixel counts as the object's."""
LEAST_AREA = 0.005
"""Squared short sides of an object that must be seen on one side of a wall for it to be there."""
SIZE_KEPT = (0.6, 1.6)
"""Least and greatest ratio of the object's areas in the last and in the first frame."""


class Permanence(NamedTuple):
    """What became of the object, for every clip."""

    returns: Tensor  # (B,) bool: in the last frame it is on the other side, about as large as at first
    same: Tensor  # (B,) bool: it returns, and has the colour that it had
    place_error: Tensor  # (B,) distance from where its velocity before the wall takes it; nan where it is not seen


def permanence(video: Tensor) -> Permanence:
    """Judge clips in which an object passes behind a wall from one side of it to the other.

    A clip without a wall, or with nothing beside it, has lost what it should show: it counts as wrong.
    """
    found = [_one(clip[None]) for clip in video]
    return Permanence(*(torch.cat([getattr(each, name) for each in found]) for name in Permanence._fields))


def _one(video: Tensor) -> Permanence:
    nothing = Permanence(torch.tensor([False]), torch.tensor([False]), torch.tensor([torch.nan]))
    paper = oracle.paper_colour(video)
    wall = _wall(video, paper)
    if wall is None:
        return nothing
    axis, lines = wall
    if axis == "down":  # let every wall stand upright
        video = video.transpose(-1, -2)
    clear = video.clone()
    clear[..., lines] = paper[:, None, :, None, None]
    seen_THW = oracle.object_share(clear, paper)[0][0] >= SEEN
    short, middle = min(seen_THW.shape[-2:]), int(lines.nonzero().double().mean().round())
    area_T2 = torch.stack([side.sum((1, 2)) for side in (seen_THW[..., :middle], seen_THW[..., middle:])], 1) / short**2
    if area_T2[0].amax() < LEAST_AREA:
        return nothing
    if area_T2[0, 1] > area_T2[0, 0]:  # let every object come from the left
        seen_THW, area_T2 = seen_THW.flip(-1), area_T2.flip(1)
    size = area_T2[-1, 1] / area_T2[0, 0]
    returns = ((size >= SIZE_KEPT[0]) & (size <= SIZE_KEPT[1]))[None]
    colours = [oracle.oklab(oracle.object_share(clear[:, [at]], paper)[1]) for at in (0, -1)]
    same = returns & ((colours[0] - colours[1]).norm(dim=1) <= oracle.FARTHEST_COLOUR)
    return Permanence(returns, same, _place_error(seen_THW, area_T2, short))


def _wall(video: Tensor, paper: Tensor) -> tuple[str, Tensor] | None:
    """Along which side a clip's wall is found, and which lines it covers."""
    to_wall = (video - torch.tensor(WALL_RGB)[:, None, None]).norm(dim=2)
    of_wall = (to_wall < (video - paper[:, None, :, None, None]).norm(dim=2)) & (to_wall < 0.25)
    across, down = (of_wall.float().mean((0, 1, side)) >= LEAST_WALL for side in (2, 3))
    if not across.any() and not down.any():
        return None
    side, lines = ("across", across) if across.sum() >= down.sum() else ("down", down)
    covered = lines.clone()  # and the lines beside it, which a wall covers in part
    covered[1:] |= lines[:-1]
    covered[:-1] |= lines[1:]
    return side, covered


def _place_error(seen_THW: Tensor, area_T2: Tensor, short: int) -> Tensor:
    """(1,): how far the leading edge beyond the wall is from where the trailing edge before it says, short sides."""
    seen_TW = seen_THW.any(1)
    columns = torch.arange(seen_TW.shape[1])
    trailing = columns.where(seen_TW, len(columns)).amin(1) / short
    leading = (columns + 1).where(seen_TW, 0).amax(1) / short
    before, beyond = (area_T2 >= LEAST_AREA).unbind(1)
    known = torch.stack([trailing, trailing], -1).where((before & ~beyond)[:, None], torch.nan)[None]
    predicted, fitted = extrapolate(known, torch.arange(len(trailing)))
    error = (leading - predicted[0, :, 0] - (leading[0] - trailing[0]))[beyond & ~before]
    if not len(error) or not fitted.all():
        return torch.tensor([torch.nan])
    return error.square().mean().sqrt()[None]
