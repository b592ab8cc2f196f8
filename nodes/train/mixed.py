"""Clips of many durations, sizes and aspects in one training step. Knows no network's inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.sockets import VAE, Video
from kineograph.nodes.train.data import Share
from kineograph.nodes.train.sockets import Clips

Captions = Literal["plain", "short", "long", "any"]
WINDOW = 16
"""Groups that are balanced together: the more, the more nearly equal they are."""
FRAME_STEP = 4
"""Frames between two durations: what the embedded VAE takes."""


class Size(NamedTuple):
    """One clip to be made: its number in the world, its size, and how its object goes."""

    place: int
    frames: int
    height: int
    width: int
    path: str = "straight"


class Mix(NamedTuple):
    """Of what sizes clips are, and the shares of those that are no plain clips of 1 + 4k frames."""

    longest: int
    smallest: int
    largest: int
    side_step: int
    pieces: float
    loops: float
    walls: float


Cost = Callable[[Size], float]


@node(counts=("groups",))
def mixed_clips(
    vae: VAE,
    groups: Annotated[int, Field(ge=1)],
    budget: Annotated[int, Field(ge=1)] = 2560,
    knee: Annotated[int, Field(ge=1)] = 1536,
    longest: Annotated[int, Field(ge=1, le=1025)] = 33,
    smallest: Annotated[int, Field(ge=16, multiple_of=8)] = 32,
    largest: Annotated[int, Field(ge=16, multiple_of=8)] = 96,
    seed: int = 0,
    fps: Annotated[float, Field(gt=0)] = 8.0,
    captions: Captions = "any",
    skip: Annotated[int, Field(ge=0)] = 0,
    side_step: Annotated[int, Field(ge=8, multiple_of=8)] = 8,
    pieces: Share = 0.0,
    loops: Share = 0.0,
    walls: Share = 0.0,
) -> Stream[Stream[Clips]]:
    """Groups of captioned clips of the world, of all durations, sizes and aspects, of nearly equal compute each.

    A clip of n tokens costs n + n² / knee; sixteen groups at a time are balanced by that, and not by tokens. Long and
    short clips are in every group.

    Args:
        vae: whose latent cells are counted as tokens.
        groups: how many; each is a stream of clips for one ``packed_velocity``.
        budget: compute of a group, in tokens of very short clips.
        knee: tokens at which a clip's attention costs as much as all else; 6 times the DiT's width, by operations.
        longest: frames of the longest clips; 1 makes images alone.
        smallest: pixels of the shortest side.
        largest: pixels of the longest side.
        seed: of sizes, scenes and captions.
        fps: frames per second.
        captions: as in ``world_clips``.
        skip: number of the first group, so that a training that goes on sees new ones.
        side_step: pixels between two sizes of a side, so that some are never seen.
        pieces: share of clips of 4k frames, as from the middle of a longer video.
        loops: share of clips of 4k frames that end as they began.
        walls: share of clips in which a wall hides the object for a while; short clips have none.

    Raises:
        ValueError: sizes that cannot be, shares of more than 1, or a budget that the largest clip does not fit into.
    """
    from kineograph.nodes.networks.packing import compute

    if smallest > largest:
        raise ValueError(f"smallest = {smallest} is larger than largest = {largest}.")
    if pieces + loops + walls > 1 + 1e-9:
        raise ValueError(f"The shares of clips are {pieces + loops + walls:.3g} together, but all clips are 1.")
    if longest < FRAME_STEP and pieces + loops > 0:
        raise ValueError(f"Pieces and loops have at least {FRAME_STEP} frames, but longest = {longest}.")

    def cost(size: Size) -> float:
        cells = size.height // vae.spec.space_ratio * (size.width // vae.spec.space_ratio)
        return compute(-(-size.frames // vae.spec.time_ratio) * cells, knee)

    most = cost(Size(0, longest, largest, largest))
    if most > budget:
        raise ValueError(
            f"A clip of {longest} frames of {largest} x {largest} pixels costs {most:,.0f}, more than the budget of "
            f"{budget:,}: raise the budget, or lower longest or largest."
        )

    mix = Mix(longest, smallest, largest, side_step, pieces, loops, walls)

    @lru_cache(maxsize=4)
    def window(number: int) -> list[list[Size]]:
        return _window(number, seed, mix, cost, budget)

    def group(number: int) -> Stream[Clips]:
        at, place = divmod(number + skip, WINDOW)
        sizes = window(at)[place]
        return Stream(len(sizes), lambda index: _clip(sizes[index], seed, fps, captions))

    return Stream(groups, group)


def _window(number: int, seed: int, mix: Mix, cost: Cost, budget: float) -> list[list[Size]]:
    """WINDOW groups of sizes: drawn until together they would cost more than all groups may, then shared out."""
    import torch

    from kineograph.nodes.networks.packing import balance
    from kineograph.nodes.networks.world import scene_seed

    generator = torch.Generator().manual_seed(scene_seed(seed, number, stream=4))

    def draw(low: int, high: int, step: int) -> int:
        return low + step * int(torch.randint(0, (high - low) // step + 1, (1,), generator=generator))

    def size(place: int) -> Size:
        kind = float(torch.rand(1, generator=generator))
        whole = kind < mix.pieces + mix.loops
        path = "loop" if mix.pieces <= kind and whole else "wall" if kind >= 1 - mix.walls else "straight"
        frames = draw(FRAME_STEP, mix.longest, FRAME_STEP) if whole else draw(1, mix.longest, FRAME_STEP)
        sides = (mix.smallest, mix.largest, mix.side_step)
        return Size(place, frames, draw(*sides), draw(*sides), path)

    sizes: list[Size] = []
    costs: list[float] = []
    while sum(costs) <= WINDOW * budget:
        sizes.append(size((number << 20) + len(sizes)))
        costs.append(cost(sizes[-1]))
    return [[sizes[place] for place in group] for group in balance(costs[:-1], WINDOW, budget)]


def _clip(size: Size, seed: int, fps: float, captions: Captions) -> Clips:
    from kineograph.nodes.networks.captions import caption_scenes
    from kineograph.nodes.networks.world import render, sample_scenes

    place, frames, height, width, path = size
    scenes = sample_scenes(seed, [place], frames, fps, height, width, path=path)
    texts, said = caption_scenes(scenes, seed, [place], captions)
    video = Video(render(scenes, frames, height, width, fps), fps, loop=path == "loop")
    return Clips(video, tuple(texts), scenes.labels(), said)


@node(views=("clips",))
def group_clips(clips: Stream[Clips], size: Annotated[int, Field(ge=1)] = 8) -> Stream[Stream[Clips]]:
    """Neighbours in a stream as groups for ``packed_velocity``, whatever their sizes; a last group may be smaller.

    Args:
        clips: clips of any durations and sizes.
        size: items of the stream in each group.
    """
    groups = -(-len(clips) // size)

    def group(number: int) -> Stream[Clips]:
        first = number * size
        return Stream(min(size, len(clips) - first), lambda index: clips[first + index], clips.held)

    return Stream(groups, group, clips.held)
