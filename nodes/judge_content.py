"""Judges of what is in clips: what was asked, what an edit kept and changed, and how far all of it is from real clips.

Knows pixels and what the oracle reads from them, no model. See ``judge`` for how a clip holds together in time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.scores import Name, Question, Score, Scores, answer, teller
from kineograph.nodes.sockets import Video
from kineograph.nodes.train.sockets import Clips

if TYPE_CHECKING:
    from kineograph.nodes.networks.intervals import Estimate


class CaptionScores(NamedTuple):
    """Share of clips that show all that their captions say; the rows of the scores have each attribute."""

    everything: float
    scores: Scores


@node
def caption_scores(video: Video, clips: Clips, run: RunContext, name: Name = "words", step: int = 0) -> CaptionScores:
    """How many clips show what their captions say, read from pixels by classical means.

    Args:
        video: a clip for each caption.
        clips: whose captions were asked for; what they leave out is not judged.
        name: of the metrics.
        step: of the training that is judged, for the metrics.
    """
    from kineograph.nodes.networks import intervals, measures
    from kineograph.nodes.networks.world import ATTRIBUTES

    right = measures.attributes_right(video.frames, clips.said, video.fps)
    chance = {attribute: 1 / len(ATTRIBUTES[attribute]) for attribute in right if attribute != "all"}
    chance["all"] = math.prod(chance.values())
    about = "Share of clips in which it is what the caption says, read from the pixels; unclear counts as wrong."
    rows, tell = [], teller(run, name, step)
    for attribute, hits in right.items():
        share = intervals.share(hits)
        tell(attribute, share.value)
        rows.append(Score(attribute, about, *share, real=1.0, broken=chance[attribute], how="guessed"))
    return CaptionScores(rows[-1].value, Scores(tuple(rows)))


class EditScores(NamedTuple):
    """How well edits keep and change; the rows of the scores have every level."""

    area: float
    scores: Scores


@node
def edit_scores(
    source: Video,
    edited: Stream[Video],
    levels: Stream[float],
    asked: Clips,
    run: RunContext,
    attribute: Literal["colour", "shape"] = "colour",
    name: Name = "edit",
    step: int = 0,
) -> EditScores:
    """What edits at several noise levels keep of where things are, and how often they change what was asked.

    Args:
        source: the clips before.
        edited: the same clips after, for each level.
        levels: of noise, as they were given to ``sdedit``.
        asked: whose captions say what they shall become, as ``change_prompts`` gives them.
        attribute: which was to change.
        name: of the metrics.
        step: of the training that is judged, for the metrics.
    """
    import torch

    from kineograph.nodes.networks import intervals, measures

    kept_about = "One less the distance of the tracks, over that of different clips: 1 is the same place all the time."
    edited_about = f"Share of clips with the {attribute} that was asked for: 1 is best."
    before = measures.track(source.frames, source.fps)
    rows, kept, done = [], [], []
    for level, video in zip(levels, edited, strict=True):
        kept.append(measures.structure_kept(before, measures.track(video.frames, video.fps)))
        right = measures.attributes_right(video.frames, {attribute: asked.said[attribute]}, video.fps)
        done.append(right[attribute].float())
        row = partial(Score, real=1.0, broken=0.0)
        rows.append(row(f"kept at {level:g}", kept_about, *intervals.mean(kept[-1]), how="another clip"))
        rows.append(row(f"edited at {level:g}", edited_about, *intervals.share(done[-1]), how="left as it was"))
    count = len(kept)
    area = intervals.of_means(
        torch.stack(kept + done), lambda means: measures.dominated_area(means[:count], means[count:])
    )
    teller(run, name, step)("area", area.value)
    about = "The most that is edited, averaged over how much is kept: 1 keeps all and changes all that was asked."
    rows.append(Score("area", about, *area, real=1.0, broken=0.0, how="left as it was"))
    return EditScores(area.value, Scores(tuple(rows)))


class DistanceScores(NamedTuple):
    """How far clips are from real ones; the rows of the scores say what each number means."""

    scene: float
    pixels: float
    scores: Scores


@node
def distance_scores(
    video: Video, real: Video, run: RunContext, name: Name = "distance", step: int = 0
) -> DistanceScores:
    """Kernel distances between clips and real ones of the same words (Binkowski et al. 2018): scenes, and pixels.

    Args:
        video: clips; 4 at least, some dozens for a narrow interval.
        real: real clips of the same prompts and size, as many or more; 8 at least.
        name: of the metrics.
        step: of the training that is judged, for the metrics.
    """
    from dataclasses import replace

    from kineograph.nodes.networks import distances, spoil

    if len(real.frames) < 2 * distances.LEAST_CLIPS:
        raise ValueError(f"{len(real.frames)} real clips are too few to tell a distance; give 8 at least.")
    halves = [replace(real, frames=real.frames[half::2]) for half in (0, 1)]

    def measure(clips: Video) -> Mapping[str, Estimate]:
        other = real if clips is video else halves[1]
        pairs = {
            "scene": [distances.scene_features(each.frames, each.fps) for each in (clips, other)],
            "pixels": [distances.pixel_features(each.frames) for each in (clips, other)],
        }
        return {key: distances.kernel_distance(*pair) for key, pair in pairs.items()}

    scene_about = "Kernel distance to real clips, of what is seen where and how it moves: 0 is best, and may be passed."
    pixel_about = "The same of sharpness, noise and texture, by random filters: 0 is best, and may be passed."
    questions = [
        Question("scene", "distance of scenes", scene_about, "frames in another order", spoil.shuffle),
        Question("pixels", "distance of pixels", pixel_about, "a little blurred", partial(spoil.blur, side=3)),
    ]
    scores = answer(questions, measure, video, halves[0], teller(run, name, step))
    return DistanceScores(*scores.values, scores=scores)


class DriftScores(NamedTuple):
    """How long videos change; the rows of the scores say what each number means."""

    colour: float
    right_first: float
    right_last: float
    scores: Scores


@node
def drift_scores(
    video: Video,
    clips: Clips,
    run: RunContext,
    window: Annotated[int, Field(ge=5)] = 16,
    name: Name = "drift",
    step: int = 0,
) -> DriftScores:
    """Whether a long video runs away: its background's colour, and what is still right in its last window.

    Args:
        video: long clips, a caption each.
        clips: whose captions were asked for; colour and shape are judged, as nothing moves one way for ever.
        window: frames that are judged together.
        name: of the metrics.
        step: of the training that is judged, for the metrics.
    """
    from dataclasses import replace

    from kineograph.nodes.networks import intervals, measures, spoil

    stays = {attribute: clips.said[attribute] for attribute in ("colour", "shape")}

    def measure(long: Video) -> Mapping[str, Estimate]:
        ends = long.frames[:, :window], long.frames[:, -window:]
        first, last = (measures.attributes_right(end, stays, long.fps)["all"] for end in ends)
        return {
            "colour": intervals.mean(measures.colour_drift(long.frames, long.fps)),
            "right_first": intervals.share(first),
            "right_last": intervals.share(last),
        }

    colour_about = "How fast the background's mean colour runs away, OKLab distance per second: 0 is best."
    right_about = "Share of clips with the colour and shape that were asked for: 1 is best."
    still = replace(clips.video, frames=clips.video.frames[:, :1].expand(-1, video.frames.shape[1], -1, -1, -1))
    fades = "fading to red"
    questions = [
        Question("colour", "colour drift", colour_about, fades, spoil.fade),
        Question("right_first", "right at first", right_about, fades, spoil.fade),
        Question("right_last", "right at last", right_about, fades, spoil.fade),
    ]
    scores = answer(questions, measure, video, still, teller(run, name, step))
    return DriftScores(*scores.values, scores=scores)
