"""Streams of clips: decoded, batched and shuffled by pure functions of an index. Knows no kind of file and no model.

A shuffled stream holds an order of numbers, 8 bytes an item, and no clip: a run resumes anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from kineograph.graph_runtime import sockets
from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.sockets import Video
from kineograph.nodes.train.sockets import ClipFile, Clips, Dataset

if TYPE_CHECKING:
    from torch import Tensor

Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
ORDER_OF_ITEMS, ORDER_OF_CLIPS = 4, 5
"""Which of a seed's independent draws decide an order (``scene_seed``)."""


@node
def read_clips(dataset: Dataset) -> Stream[Clips]:
    """The clips one by one, decoded when they are asked for: to be shuffled, or packed whatever their sizes.

    Args:
        dataset: clips. Where one does not decode, it is named on the error output and the next of its size stands in.
    """
    places = {clip: (group, place) for group in _by_size(dataset) for place, clip in enumerate(group)}

    def item(index: int) -> Clips:
        group, place = places[dataset.clips[index]]
        return _batch(group, [place])

    return Stream(len(dataset.clips), item, held=dataset)


@node(counts=("batches",))
def clip_batches(
    dataset: Dataset, batches: Positive, clips: Positive = 4, seed: int = 0, skip: Natural = 0
) -> Stream[Clips]:
    """Batches of clips of equal length, size and rate, in an order and mixture of its own in each pass over the data.

    Args:
        dataset: clips of any sizes; each size has batches in proportion to its clips. Where a clip does not decode, it
            is named on the error output and the next of its size stands in.
        batches: how many; the data is gone through as often as that takes.
        clips: of a batch; a size that has fewer repeats them.
        seed: of the order.
        skip: number of the first batch, so that a training that goes on sees new ones.
    """
    groups = _by_size(dataset)

    def batch(number: int) -> Clips:
        group, places = batch_places([len(group) for group in groups], clips, seed, number + skip)
        return _batch(groups[group], places)

    return Stream(batches, batch, held=dataset)


@node
def shuffle_stream(stream: Stream[Any], seed: int = 0, items: Natural = 0) -> Stream[Any]:
    """A stream in another order, a new one for each pass over it.

    Args:
        stream: of anything.
        seed: of the orders.
        items: length of the result, which goes through the stream as often as that takes; 0 is once.
    """
    length = len(stream)

    def item(index: int) -> Any:
        epoch, place = divmod(index, length)
        return stream[int(_order(length, seed, epoch, ORDER_OF_ITEMS)[place])]

    return Stream(_length(stream, items), item, stream.held)


@node
def repeat_stream(stream: Stream[Any], items: Positive) -> Stream[Any]:
    """A stream from its beginning again and again.

    Args:
        stream: of anything.
        items: length of the result.
    """
    length = len(stream)
    return Stream(_length(stream, items), lambda index: stream[index % length], stream.held)


@node
def skip_stream(stream: Stream[Any], items: Natural) -> Stream[Any]:
    """A stream without its first items.

    Args:
        stream: of anything.
        items: how many are left out.
    """
    return sockets.skip(stream, items)


@node
def shard_stream(stream: Stream[Any], rank: Natural, world: Positive) -> Stream[Any]:
    """The part of a stream that one of several processes sees: items rank, rank + world, rank + 2 world, ...

    Args:
        stream: of anything.
        rank: number of the process, 0 to world - 1.
        world: number of processes.
    """
    return sockets.shard(stream, rank, world)


@node(views=("stream",))
def stream_item(stream: Stream[Any], index: Annotated[int, Field(ge=0)] = 0) -> Any:
    """One item of a stream: what belongs to this pass, where a loop runs over another stream.

    Args:
        stream: items.
        index: number of the item, from 0.
    """
    if index >= len(stream):
        raise ValueError(f"There is no item {index} in a stream of {len(stream)}; the last is {len(stream) - 1}.")
    return stream[index]


def decoded(clip: ClipFile) -> Tensor:
    """A clip's frames: (T, 3, H, W) in [0, 1].

    Raises:
        ValueError: it cannot be decoded.
    """
    from kineograph.nodes.media.decode import read_frames

    times = [clip.start + number / clip.fps for number in range(clip.frames)]
    with clip.source.open() as file:
        return read_frames(file, clip.name, times, clip.height, clip.width)


def batch_places(sizes: Sequence[int], count: int, seed: int, number: int) -> tuple[int, list[int]]:
    """Which group a batch is of, and which places in it: all groups are mixed anew in each pass over them.

    Args:
        sizes: members of each group; a group has batches in proportion to them.
        count: places of a batch; a smaller group repeats its members.
        seed: of the order.
        number: of the batch.
    """
    starts = [(group, first) for group, size in enumerate(sizes) for first in range(0, size, count)]
    epoch, place = divmod(number, len(starts))
    group, first = starts[int(_order(len(starts), seed, epoch, ORDER_OF_ITEMS)[place])]
    mixed = _order(sizes[group], seed, epoch, ORDER_OF_CLIPS)
    return group, [int(mixed[(first + i) % sizes[group]]) for i in range(count)]


def _by_size(dataset: Dataset) -> list[list[ClipFile]]:
    """The clips in groups that stack, in the order in which their sizes come first."""
    groups: dict[tuple[int, int, int, float], list[ClipFile]] = {}
    for clip in dataset.clips:
        groups.setdefault((clip.frames, clip.height, clip.width, clip.fps), []).append(clip)
    return list(groups.values())


def _batch(group: Sequence[ClipFile], places: Sequence[int]) -> Clips:
    """The clips of a group at these places, or those after them that decode."""
    import torch

    read = [_next_sound(group, place) for place in places]
    frames = torch.stack([frames_T3HW for frames_T3HW, _ in read])
    return Clips(Video(frames, group[0].fps), tuple(clip.caption for _, clip in read))


def _next_sound(group: Sequence[ClipFile], place: int) -> tuple[Tensor, ClipFile]:
    fault = ""
    for step in range(len(group)):
        clip = group[(place + step) % len(group)]
        try:
            return decoded(clip), clip
        except ValueError as error:
            fault = str(error)
            _say_once(f"{clip.name} is left out: {fault}")
    size = f"{group[0].frames} frames of {group[0].height} x {group[0].width}"
    raise ValueError(f"None of the {len(group)} clips of {size} decodes; of the last: {fault}")


@lru_cache(maxsize=10_000)
def _say_once(sentence: str) -> None:
    logging.getLogger(__name__).warning(sentence)


@lru_cache(maxsize=64)
def _order(length: int, seed: int, epoch: int, draw: int) -> Tensor:
    """(length,) a permutation that depends on the arguments alone."""
    import torch

    from kineograph.nodes.networks.world import scene_seed

    return torch.randperm(length, generator=torch.Generator().manual_seed(scene_seed(seed, epoch, draw)))


def _length(stream: Stream[Any], items: int) -> int:
    if items and not len(stream):
        raise ValueError(f"A stream of no items cannot give {items}.")
    return items or len(stream)
