"""The procedural captioned world as data, and the oracle that reads it back from pixels. Knows no model."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.scores import Score, Scores
from kineograph.nodes.sockets import Video
from kineograph.nodes.train.sockets import Clips

FORMAT = re.compile(r"(\d{1,4})x(\d{1,4})x(\d{1,4}):(\d{1,4})")


@node(counts=("batches",))
def world_clips(
    batches: Annotated[int, Field(ge=1)],
    formats: list[str],
    seed: int = 0,
    fps: Annotated[float, Field(gt=0)] = 8.0,
    captions: Literal["plain", "short", "long", "any"] = "any",
    skip: Annotated[int, Field(ge=0)] = 0,
) -> Stream[Clips]:
    """Batches of captioned clips of one object that moves on a plain background, rendered as they are asked for.

    Args:
        batches: how many.
        formats: taken in turn, each as frames x height x width : clips, like 17x64x64:4; 1 frame is an image.
        seed: of scenes and captions; a batch depends on the seed and its number alone.
        fps: frames per second.
        captions: plain (a red circle moves right), short, long, or any of those with synonyms and omissions.
        skip: number of the first batch, so that a training that goes on sees new ones.

    Raises:
        ValueError: a format that is none.
    """
    read = [FORMAT.fullmatch(each) for each in formats]
    if not formats or None in read:
        raise ValueError(f"formats = {formats}: each is frames x height x width : clips, like 17x64x64:4.")
    sizes = [tuple(map(int, found.groups())) for found in read if found]
    most = max(count for *_, count in sizes)

    def batch(number: int) -> Clips:
        from kineograph.nodes.networks.captions import caption_scenes
        from kineograph.nodes.networks.world import render, sample_scenes

        number += skip
        frames, height, width, count = sizes[number % len(sizes)]
        places = range(number * most, number * most + count)
        scenes = sample_scenes(seed, places, frames, fps, height, width)
        texts, said = caption_scenes(scenes, seed, places, captions)
        return Clips(Video(render(scenes, frames, height, width, fps), fps), tuple(texts), scenes.labels(), said)

    return Stream(batches, batch)


class WorldBatch(NamedTuple):
    """Clips with their captions and labels, their frames alone, and their captions alone."""

    clips: Clips
    video: Video
    captions: Stream[str]


@node
def world_batch(
    clips: Annotated[int, Field(ge=1, le=4096)] = 8,
    frames: Annotated[int, Field(ge=1)] = 17,
    height: Annotated[int, Field(ge=16)] = 64,
    width: Annotated[int, Field(ge=16)] = 64,
    fps: Annotated[float, Field(gt=0)] = 8.0,
    path: Literal["straight", "loop", "wall"] = "straight",
    prompts: Stream[str] | None = None,
    seed: int = 1_000_000,
) -> WorldBatch:
    """One batch of real clips to judge by, with plain captions; another seed than that of training.

    Args:
        clips: how many.
        frames: of each; 1 + a multiple of 4, or a multiple of 4.
        height: pixels.
        width: pixels.
        fps: frames per second.
        path: straight, a loop that ends as it began, or behind a wall.
        prompts: of ``world_prompts``, which the clips show in turn; without, anything that moves and may stay still.
        seed: of the scenes.
    """
    import torch

    from kineograph.nodes.networks.captions import GRID, caption_scenes, prompt_labels
    from kineograph.nodes.networks.world import render, sample_scenes

    known, given = {prompt.text: prompt for prompt in GRID}, None
    if prompts is not None:
        labels = prompt_labels([known[text] for text in prompts])
        given = {name: label[torch.arange(clips) % len(label)] for name, label in labels.items()}
    scenes = sample_scenes(seed, range(clips), frames, fps, height, width, given=given, path=path)
    texts, said = caption_scenes(scenes, seed, range(clips), "plain")
    video = Video(render(scenes, frames, height, width, fps), fps, loop=path == "loop")
    return WorldBatch(Clips(video, tuple(texts), scenes.labels(), said), video, Stream.of(texts))


@node(views=("clips",))
def change_prompts(
    clips: Clips, attribute: Literal["colour", "shape"] = "colour", by: Annotated[int, Field(ge=1)] = 4
) -> Clips:
    """Clips with captions that ask for another colour or shape; motion stays.

    Args:
        clips: whose plain captions are changed.
        attribute: what they shall ask for anew.
        by: places in the world's list of 8 colours or 3 shapes.

    Raises:
        ValueError: that many places on is the same again.
    """
    from kineograph.nodes.networks.captions import plain_text
    from kineograph.nodes.networks.world import ATTRIBUTES

    if by % len(ATTRIBUTES[attribute]) == 0:
        raise ValueError(f"by = {by} leaves every {attribute} as it is: there are {len(ATTRIBUTES[attribute])}.")
    said = dict(clips.said) | {attribute: (clips.labels[attribute] + by) % len(ATTRIBUTES[attribute])}
    asked = zip(*(said[name].tolist() for name in ("colour", "shape", "motion")), strict=True)
    return replace(clips, captions=tuple(plain_text(*each) for each in asked), said=said)


@node
def world_prompts(
    which: Literal["held out", "all"] = "held out", times: Annotated[int, Field(ge=1)] = 1
) -> Stream[str]:
    """Prompts like "a red circle moves right": all 96, or the 12 whose combination training never shows.

    Args:
        which: held out, or all.
        times: how often they come, one round after another, as for several seeds of each.
    """
    from kineograph.nodes.networks.captions import GRID, HELD_OUT

    return Stream.of([prompt.text for prompt in (HELD_OUT if which == "held out" else GRID)] * times)


class OracleScore(NamedTuple):
    """Shares of clips in which the oracle reads what the prompt says."""

    colour: float
    shape: float
    motion: float
    everything: float
    scores: Scores


@node
def oracle_score(videos: Stream[Video], prompts: Stream[str], run: RunContext, step: int = 0) -> OracleScore:
    """How many clips show what was asked, read from pixels by classical means (chance: 1/8, 1/3, 1/5).

    Args:
        videos: a clip for each prompt.
        prompts: of ``world_prompts``.
        step: of the training that is judged, for the metrics.
    """
    import torch

    from kineograph.nodes.networks import intervals
    from kineograph.nodes.networks.captions import GRID, prompt_labels
    from kineograph.nodes.networks.oracle import read, right
    from kineograph.nodes.networks.world import ATTRIBUTES

    known = {prompt.text: prompt for prompt in GRID}
    labels = prompt_labels([known[text] for text in prompts])
    reading = read(torch.cat([video.frames for video in videos]), videos[0].fps)
    shares = {name: intervals.share(hits) for name, hits in right(reading, labels).items()}
    for name, share in shares.items():
        run.metric(f"oracle_{name}", step, share.value)
    run.metric("oracle_found", step, reading.found.float().mean().item())
    run.metric("oracle_shape_iou", step, reading.shape_iou.amax(1).mean().item())

    chance = {name: 1 / len(ATTRIBUTES[name]) for name in labels}
    chance["all"] = math.prod(chance.values())
    about = "Share of clips in which it is what the prompt says, read from the pixels; unclear counts as wrong."
    rows = [Score(name, about, *share, real=1.0, broken=chance[name], how="guessed") for name, share in shares.items()]
    return OracleScore(*(row.value for row in rows), scores=Scores(tuple(rows)))


@node
def videos_as_batch(videos: Stream[Video]) -> Video:
    """The clips of a stream as one batch, for a contact sheet.

    Args:
        videos: clips of equal size.
    """
    import torch

    return Video(torch.cat([video.frames for video in videos]), videos[0].fps)
