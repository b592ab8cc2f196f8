"""A procedural world of one moving object on a plain background; knows no captions, no models, no files.

It is easy on purpose, for a tiny text-to-video model, and `oracle.py` reads every attribute back from pixels.

Units: lengths in short sides of the frame, time in seconds; (x, y) from the top left corner, y down.
Letters: B scenes, T frames, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SHAPES = ("circle", "square", "triangle")
MOTIONS = ("still", "left", "right", "up", "down")
SIZES = ("medium", "large")
BACKGROUNDS = ("black", "white", "gray", "navy")
ATTRIBUTES = {"colour": COLOURS, "shape": SHAPES, "motion": MOTIONS, "size": SIZES, "background": BACKGROUNDS}

COLOUR_RGB = (
    (0.90, 0.08, 0.10),
    (1.00, 0.52, 0.00),
    (1.00, 0.92, 0.10),
    (0.10, 0.66, 0.18),
    (0.10, 0.85, 0.92),
    (0.10, 0.30, 1.00),
    (0.52, 0.10, 0.72),
    (1.00, 0.50, 0.78),
)
BACKGROUND_RGB = ((0.02, 0.02, 0.02), (0.97, 0.97, 0.97), (0.42, 0.42, 0.42), (0.04, 0.06, 0.24))

RADIUS = (0.16, 0.23)
"""Radius of each size in short sides, before a jitter of 6 %."""
TRAVEL = (0.35, 0.5)
"""Distance in short sides that an object covers in `TRAVEL_SECONDS`; the upper one is also the most in any one clip."""
TRAVEL_SECONDS = 2.0
MARGIN = 0.02
"""Room in short sides that is always left between the object and the frame's border."""
HALF_EXTENT = ((1.0, 1.0), (0.886, 0.886), (1.083, 0.938))
"""Half width and half height of each shape's bounding box in radii; square and circle are equal in area."""
DIRECTION = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))
PATHS = ("straight", "loop", "wall")
"""straight: at constant velocity; loop: forth and back about a point, ending as it began; wall: straight, and hidden by
a bar across the way when half of it is done."""
SWING = (0.12, 0.22)
"""Distance in short sides between the middle of a loop and its ends."""
SMALL = 0.11
"""Radius in short sides of what a wall hides, before the jitter; it has no name among `SIZES`."""
WALL_WIDTH, WALL_TRAVEL, WALL_SECONDS = 0.28, 0.5, 1.8
"""A wall's width and the way past it, in short sides, and the shortest clip that has one."""
WALL_RGB = (0.55, 0.38, 0.22)

_DRAWS = 8  # uniform numbers per scene: combination, size, background, radius, travel, x, y, phase of a loop
_CHUNK_PIXELS = 1 << 18  # pixels rendered at once: the temporaries stay in the processor's cache


@dataclass(frozen=True)
class Scenes:
    """B scenes. Attribute indices are places in the tuples above, or -1 where there is none of them: the motion of an
    image or a loop, the size of what a wall hides.
    """

    colour: Tensor  # (B,) long
    shape: Tensor  # (B,) long
    motion: Tensor  # (B,) long
    size: Tensor  # (B,) long
    background: Tensor  # (B,) long
    centre_start: Tensor  # (B, 2) centre of the bounding box in the first frame, or the middle of a loop, short sides
    velocity: Tensor  # (B, 2) short sides per second
    radius: Tensor  # (B,) short sides
    swing: Tensor  # (B, 2) from the middle of a loop to one end, short sides; 0 on a straight path
    phase: Tensor  # (B,) share of a loop that is done in the first frame
    period: Tensor  # (B,) seconds of a loop
    wall: Tensor  # (B, 2) middle of a wall (x, y), short sides; inf along its length, and where there is none

    def __len__(self) -> int:
        return self.colour.shape[0]

    def labels(self) -> dict[str, Tensor]:
        """Every attribute's index, each (B,) long; -1 where a scene has none (the motion of an image)."""
        return {name: getattr(self, name) for name in ATTRIBUTES}

    def take(self, chosen: Tensor | slice) -> Scenes:
        """The chosen scenes, by index tensor, boolean mask or slice."""
        return replace(self, **{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


def is_held_out(colour: int, shape: int, motion: int) -> bool:
    """Whether training never shows this combination: 12 of the 96 moving ones.

    Half of the (colour, shape) pairs lack one direction: every shape lacks 4 pairings, every direction 3, every
    colour 1 or 2. Nothing still is held out.
    """
    return motion > 0 and (colour + shape) % 2 == 0 and motion - 1 == (colour // 2 + shape) % 4


COMBINATIONS = tuple((c, s, m) for c in range(len(COLOURS)) for s in range(len(SHAPES)) for m in range(len(MOTIONS)))
HELD_OUT_COMBINATIONS = tuple(triple for triple in COMBINATIONS if is_held_out(*triple))
"""The (colour, shape, motion) indices that `sample_scenes(..., hold_out=True)` never generates together."""
_SHOWN_COMBINATIONS = tuple(triple for triple in COMBINATIONS if not is_held_out(*triple))


def scene_seed(seed: int, index: int, stream: int = 0) -> int:
    """A well-mixed 32-bit seed for one item (splitmix64, Steele et al. 2014); torch's CPU generator uses 32 bits.

    Args:
        seed: seed of the whole stream, any integer.
        index: the item's place in the stream.
        stream: tells apart independent draws for the same item (0 scenes, others captions).
    """
    state = (seed * 0xD1342543DE82EF95 + index * 0x9E3779B97F4A7C15 + stream * 0x8CB92BA72F3D8DD7) & (2**64 - 1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = ((state ^ (state >> shift)) * factor) & (2**64 - 1)
    return (state ^ (state >> 31)) & 0xFFFFFFFF


def uniform_draws(seed: int, indices: Sequence[int], count: int, stream: int = 0) -> Tensor:
    """(B, count) float64 in [0, 1); row i depends on (seed, indices[i], stream) only."""
    generator = torch.Generator()
    draws = torch.empty(len(indices), count, dtype=torch.float64)
    for row, index in zip(draws, indices, strict=True):
        row.uniform_(generator=generator.manual_seed(scene_seed(seed, int(index), stream)))
    return draws


def _check_clip(frames: int, height: int, width: int, fps: float) -> None:
    problems = []
    if frames < 1 or frames % 4 > 1:
        problems.append(f"frames = {frames} is neither 4k nor 1 + 4k; take {4 * (max(frames - 1, 0) // 4) + 1}")
    if min(height, width) < 16:
        problems.append(f"{height} x {width} pixels is too small to tell shapes apart; take at least 16 x 16")
    if not fps > 0:
        problems.append(f"fps = {fps} is not above 0; take 8")
    if problems:
        raise ValueError("; ".join(problems))


def _choose(draw_B: Tensor, count: int) -> Tensor:
    return (draw_B * count).long().clamp_(max=count - 1)


def _attributes(
    draws: Tensor, frames: int, hold_out: bool, given: Mapping[str, Tensor], walled: bool
) -> dict[str, Tensor]:
    allowed = torch.tensor(_SHOWN_COMBINATIONS if hold_out else COMBINATIONS)
    if walled:
        allowed = allowed[allowed[:, 2] > 0]
    colour, shape, motion = allowed[_choose(draws[:, 0], len(allowed))].unbind(1)
    drawn = {"colour": colour, "shape": shape, "motion": motion}
    drawn |= {"size": _choose(draws[:, 1], len(SIZES)), "background": _choose(draws[:, 2], len(BACKGROUNDS))}
    for name, index_B in given.items():
        if name not in ATTRIBUTES:
            raise ValueError(f"'{name}' is no attribute of this world; it has {', '.join(ATTRIBUTES)}")
        index_B = torch.as_tensor(index_B).expand(len(draws))
        if (index_B < 0).any() or (index_B >= len(ATTRIBUTES[name])).any():
            raise ValueError(f"{name} runs from 0 to {len(ATTRIBUTES[name]) - 1}, given {index_B.tolist()}")
        drawn[name] = index_B.long()
    if frames == 1:
        drawn["motion"] = torch.full_like(motion, -1)
    if walled:
        drawn["size"] = torch.full_like(drawn["size"], -1)
    return drawn


def sample_scenes(
    seed: int,
    indices: Sequence[int],
    frames: int,
    fps: float,
    height: int,
    width: int,
    hold_out: bool = True,
    given: Mapping[str, Tensor] | None = None,
    path: str = "straight",
) -> Scenes:
    """Scenes whose object stays inside the frame for the whole clip; scene i depends on (seed, i) and the format only.

    Speeds are physical, 0.175 to 0.25 short sides per second, and slower where a long clip would exceed `TRAVEL[1]`.

    Args:
        seed: seed of the stream, any integer.
        indices: places in the stream, one scene each.
        frames: 1 + 4k, or 4k; 1 is an image, without motion.
        fps: frames per second.
        height, width: pixels.
        hold_out: never draw `HELD_OUT_COMBINATIONS` (what training wants).
        given: attributes that are not drawn but taken, by name: (B,) or scalar indices. Combinations that arise so
            are not checked against the held-out ones.
        path: one of `PATHS`. What would move left or right goes forth and back in a loop, what would move up or down
            goes up and down; behind a wall everything moves, and a clip of less than `WALL_SECONDS` has none.

    Raises:
        ValueError: where frames, fps or the sides cannot be, or `given` names what the world does not have.
    """
    _check_clip(frames, height, width, fps)
    draws = uniform_draws(seed, indices, _DRAWS)
    duration = (frames - 1) / fps
    walled = path == "wall" and duration >= WALL_SECONDS
    attributes = _attributes(draws, frames, hold_out, given or {}, walled)
    radius = torch.tensor((*RADIUS, SMALL), dtype=torch.float64)[attributes["size"]] * (0.94 + 0.12 * draws[:, 3])
    half = radius[:, None] * torch.tensor(HALF_EXTENT, dtype=torch.float64)[attributes["shape"]]  # (B, 2)
    sides = torch.tensor([width, height], dtype=torch.float64) / min(height, width)
    room = sides - 2 * half - 2 * MARGIN  # (B, 2): where the centre may be

    direction = torch.tensor(DIRECTION, dtype=torch.float64)[attributes["motion"].clamp(min=0)]
    most = room.amin(1).clamp(max=TRAVEL[1])
    travel = TRAVEL[0] + (most - TRAVEL[0]) * draws[:, 4]  # in TRAVEL_SECONDS
    velocity = direction * (travel / max(TRAVEL_SECONDS, duration))[:, None]
    if walled:
        velocity = direction * (WALL_TRAVEL / duration)
    shift, swing = velocity * duration, torch.zeros_like(velocity)
    if path == "loop":
        most = (room.amin(1) / 2).clamp(max=SWING[1])
        swing = direction.abs() * (SWING[0] + (most - SWING[0]) * draws[:, 4])[:, None]
        velocity, shift = torch.zeros_like(velocity), torch.zeros_like(shift)
        attributes["motion"] = attributes["motion"].where(attributes["motion"] == 0, -1)
    low = half + MARGIN + swing + (-shift).clamp(min=0)
    start = low + (room - shift.abs() - 2 * swing) * draws[:, 5:7]
    wall = torch.full_like(start, torch.inf)
    if walled:
        wall = (start + shift / 2).where(direction != 0, torch.inf)
    placed = {"centre_start": start, "velocity": velocity, "radius": radius, "swing": swing, "phase": draws[:, 7]}
    placed |= {"period": torch.full_like(radius, frames / fps), "wall": wall}
    return Scenes(**attributes, **{name: value.float() for name, value in placed.items()})


def centres(scenes: Scenes, frames: int, fps: float) -> Tensor:
    """Where each object's bounding box is centred: (B, T, 2) as (x, y) in short sides."""
    seconds = torch.arange(frames, dtype=torch.float32) / fps
    turns = seconds / scenes.period[:, None] + scenes.phase[:, None]
    straight = scenes.centre_start[:, None] + scenes.velocity[:, None] * seconds[:, None]
    return straight + scenes.swing[:, None] * (2 * math.pi * turns).sin()[..., None]


def coverage(shape: int, centre_NM2: Tensor, radius_N: Tensor, height: int, width: int) -> Tensor:
    """How much of each pixel the shape covers, anti-aliased over one pixel by its signed distance.

    Args:
        shape: place in `SHAPES`.
        centre_NM2: (N, M, 2) centres of the bounding boxes, (x, y) in pixels from the frame's top left corner.
        radius_N: (N,) radii, pixels.

    Returns: (N, M, H, W) in [0, 1].
    """
    x = torch.arange(width) + 0.5 - centre_NM2[..., 0, None]  # (N, M, W)
    y = torch.arange(height) + 0.5 - centre_NM2[..., 1, None]  # (N, M, H)
    radius = radius_N[:, None, None]
    half_x, half_y = HALF_EXTENT[shape]
    if SHAPES[shape] == "circle":
        squared = (x * x)[..., None, :] + (y * y)[..., :, None]
        return squared.sqrt_().neg_().add_(radius[..., None] + 0.5).clamp_(0, 1)
    if SHAPES[shape] == "square":
        inside_x = (half_x * radius + 0.5 - x.abs()).clamp_(0, 1)
        inside_y = (half_y * radius + 0.5 - y.abs()).clamp_(0, 1)
        return inside_x[..., None, :] * inside_y[..., :, None]
    steep = math.hypot(2 * half_y, half_x)
    side_x = 0.5 - x.abs() * (2 * half_y / steep)
    side_y = (y + half_y * radius) * (half_x / steep)
    base = (half_y * radius + 0.5 - y).clamp_(0, 1)
    return (side_x[..., None, :] + side_y[..., :, None]).clamp_(min=0).minimum(base[..., :, None])


def render(scenes: Scenes, frames: int, height: int, width: int, fps: float) -> Tensor:
    """Frames of every scene, (B, T, 3, H, W) float32 in [0, 1]; give the format the scenes were sampled for.

    Raises:
        ValueError: where frames, fps or the sides cannot be.
    """
    _check_clip(frames, height, width, fps)
    short = min(height, width)
    centre_px, radius_px = centres(scenes, frames, fps) * short, scenes.radius * short
    ink = torch.tensor(COLOUR_RGB)[scenes.colour]  # (B, 3)
    paper = torch.tensor(BACKGROUND_RGB)[scenes.background]
    video = torch.empty(len(scenes), frames, 3, height, width)
    chunk = max(1, _CHUNK_PIXELS // (frames * height * width))
    for shape in range(len(SHAPES)):
        for chosen in (scenes.shape == shape).nonzero()[:, 0].split(chunk):
            if len(chosen) == 0:
                continue
            mask = coverage(shape, centre_px[chosen], radius_px[chosen], height, width)[:, :, None]
            difference = (ink - paper)[chosen][:, None, :, None, None]
            video[chosen] = (mask * difference).add_(paper[chosen][:, None, :, None, None])
    for axis, pixels in enumerate((torch.arange(width), torch.arange(height)[:, None])):
        for clip in scenes.wall[:, axis].isfinite().nonzero()[:, 0].tolist():
            inside = WALL_WIDTH / 2 * short + 0.5 - (pixels + 0.5 - scenes.wall[clip, axis] * short).abs()
            video[clip].lerp_(torch.tensor(WALL_RGB)[:, None, None], inside.clamp(0, 1).expand(3, height, width))
    return video
