"""Judges: how well clips hold together, follow, keep and loop, each beside real clips and clips broken on purpose.

Knows pixels and what the oracle reads from them, no model. Every judge says numbers to wire on, and ``Scores`` for a
report. Wire real clips of the same size into ``real``: a number alone says little.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.nodes.scores import Name, Question, Scores, answer, teller
from kineograph.nodes.sockets import Video

if TYPE_CHECKING:
    from kineograph.nodes.networks.intervals import Estimate

Joins = Annotated[list[int], Field(min_length=1)]


class JoinScores(NamedTuple):
    """How a join looks; the rows of the scores say what each number means."""

    step: float
    bend: float
    place_error: float
    same: float
    scores: Scores


@node
def join_scores(
    video: Video, at: Joins, run: RunContext, real: Video | None = None, name: Name = "join", step: int = 0
) -> JoinScores:
    """How well one piece of a video goes on from another: in pixels, in the object's place, in what the object is.

    Args:
        video: clips with their joins at the same frames.
        at: for each join, the number of the first frame after it.
        real: real clips of the same length, which have no join.
        name: of the metrics.
        step: of the training that is judged, for the metrics.
    """
    import torch

    from kineograph.nodes.networks import intervals, measures, oracle, spoil

    def measure(clips: Video) -> Mapping[str, Estimate]:
        frames, fps = clips.frames, clips.fps
        ends = zip([0, *at], [*at, frames.shape[1]], strict=True)
        first, *others = [oracle.read(frames[:, start:end], fps) for start, end in ends]
        same = [measures.same_thing(first, other) for other in others]
        return {
            "step": intervals.ratio(*measures.join_step(frames, at)),
            "bend": intervals.ratio(*measures.join_bend(frames, at)),
            "place_error": intervals.mean(measures.predicted_place_error(measures.track(frames, fps).centroid, at)),
            "same": intervals.share(torch.stack(same).all(0)),
        }

    jump, turn, switch = (partial(spoil, at=at[0]) for spoil in (spoil.jump, spoil.turn, spoil.switch_clip))
    # before frame 1 there is no velocity that could turn
    bent = ("all turns back at the join", turn) if at[0] > 1 else ("a jump at the join", jump)
    step_about = "Change of the pixels across the join, over the median of other steps: 1 is best, up to 1.1 is good."
    bend_about = "Change of that change, seen through a blur: 1 is best, up to 1.2 is good."
    place_about = "Distance of the object from where its velocity takes it, in short sides of the frame: 0 is best."
    same_about = "Share of clips with an object of one colour and shape in every piece: 1 is best."
    questions = [
        Question("step", "step at the join", step_about, "a jump at the join", jump),
        Question("bend", "velocity at the join", bend_about, *bent),
        Question("place_error", "place after the join", place_about, "all turns back at the join", turn),
        Question("same", "same thing", same_about, "another clip goes on", switch),
    ]
    scores = answer(questions, measure, video, real, teller(run, name, step))
    return JoinScores(*scores.values, scores=scores)


class LoopScores(NamedTuple):
    """How a loop closes; the rows of the scores say what each number means."""

    step: float
    bend: float
    motion: float
    contrast: float
    scores: Scores


@node
def loop_scores(
    video: Video, plain: Video, run: RunContext, real: Video | None = None, name: Name = "loop", step: int = 0
) -> LoopScores:
    """Whether the last frame goes on into the first, and whether the loop paid for it with motion or contrast.

    Args:
        video: clips that shall be loops.
        plain: as many clips of the same prompts that need not be loops.
        real: real loops of the same length.
        name: of the metrics.
        step: of the training that is judged, for the metrics.
    """
    from kineograph.nodes.networks import intervals, measures, spoil

    if len(video.frames) != len(plain.frames):
        raise ValueError(f"{len(video.frames)} loops and {len(plain.frames)} plain clips: give as many, for pairs.")

    def measure(clips: Video) -> Mapping[str, Estimate]:
        other = (plain if clips is video or real is None else real).frames
        frames, seam = clips.frames, [clips.frames.shape[1]]
        return {
            "step": intervals.ratio(*measures.join_step(measures.around(frames), seam)),
            "bend": intervals.ratio(*measures.join_bend(measures.around(frames), seam)),
            "motion": intervals.ratio(measures.motion(frames), measures.motion(other)),
            "contrast": intervals.ratio(measures.contrast(frames), measures.contrast(other)),
        }

    step_about = "Change of the pixels from the last frame to the first, over the median of other steps: 1 is best."
    bend_about = "Change of that change, seen through a blur: 1 is best, up to 1.2 is good."
    motion_about = "Change from frame to frame, over that of clips that need not be loops: 1 is best, 0 is still."
    contrast_about = "Standard deviation of the pixels, over that of clips that need not be loops: 1 is best."
    questions = [
        Question("step", "step at the seam", step_about, "half of a loop", spoil.half),
        Question("bend", "velocity at the seam", bend_about, "half of a loop", spoil.half),
        Question("motion", "motion kept", motion_about, "frozen", spoil.freeze),
        Question("contrast", "contrast kept", contrast_about, "blurred", spoil.smear),
    ]
    scores = answer(questions, measure, video, real, teller(run, name, step))
    return LoopScores(*scores.values, scores=scores)


class IdentityScores(NamedTuple):
    """How the object stays what it is; the rows of the scores say what each number means."""

    colour: float
    shape: float
    area_variation: float
    step_deviation: float
    flicker: float
    scores: Scores


@node
def identity_scores(
    video: Video, run: RunContext, real: Video | None = None, name: Name = "identity", step: int = 0
) -> IdentityScores:
    """Whether the object keeps colour, shape, size and speed from frame to frame, and the background its calm.

    Args:
        video: clips of one object.
        real: real clips of the same size.
        name: of the metrics.
        step: of the training that is judged, for the metrics.
    """
    from kineograph.nodes.networks import intervals, measures, spoil

    def measure(clips: Video) -> Mapping[str, Estimate]:
        track = measures.track(clips.frames, clips.fps)
        return {
            "colour": intervals.mean(measures.constancy(track.colour)),
            "shape": intervals.mean(measures.constancy(track.shape)),
            "area_variation": intervals.mean(measures.area_variation(track.area)),
            "step_deviation": intervals.mean(measures.step_deviation(track.centroid)),
            "flicker": intervals.mean(measures.flicker(clips.frames, track)),
        }

    middle = video.frames.shape[1] // 2
    colour, switch = (partial(spoil, at=middle) for spoil in (spoil.switch_colour, spoil.switch_clip))
    same = "Share of the frames that show what most show; a frame that shows nothing clear counts as wrong: 1 is best."
    area_about = "Standard deviation of the object's area over time, divided by its mean: 0 is best."
    step_about = "Deviation of the object's steps from their mean, in short sides of the frame: 0 is even motion."
    flicker_about = "Mean change of the pixels around which there is no object: 0 is best, 1 is black to white."
    questions = [
        Question("colour", "colour stays", same, "another colour from the middle on", colour),
        Question("shape", "shape stays", same, "another clip from the middle on", switch),
        Question("area_variation", "area varies", area_about, "another clip from the middle on", switch),
        Question("step_deviation", "steps vary", step_about, "frames in another order", spoil.shuffle),
        Question("flicker", "flicker", flicker_about, "noise", spoil.noise),
    ]
    scores = answer(questions, measure, video, real, teller(run, name, step))
    return IdentityScores(*scores.values, scores=scores)


class FramingScores(NamedTuple):
    """How subjects fit into the frame; the rows of the scores say what the number means."""

    inside: float
    scores: Scores


@node
def framing_scores(
    video: Video, run: RunContext, real: Video | None = None, name: Name = "framing", step: int = 0
) -> FramingScores:
    """In how many clips the whole subject is in the frame, all the time.

    Args:
        video: clips of one object.
        real: real clips of the same size.
        name: of the metrics.
        step: of the training that is judged, for the metrics.
    """
    from kineograph.nodes.networks import intervals, measures, spoil

    def measure(clips: Video) -> Mapping[str, Estimate]:
        return {"inside": intervals.share(measures.framed(clips.frames, clips.fps))}

    height, width = video.frames.shape[-2:]
    about = "Share of clips whose object touches no border of the frame: 1 is best."
    inside = Question("inside", f"inside {width} x {height}", about, "moved to the left", spoil.crop)
    scores = answer([inside], measure, video, real, teller(run, name, step))
    return FramingScores(*scores.values, scores=scores)


class PermanenceScores(NamedTuple):
    """What becomes of an object behind a wall; the rows of the scores say what each number means."""

    returns: float
    same: float
    place_error: float
    scores: Scores


@node
def permanence_scores(
    video: Video, run: RunContext, real: Video | None = None, name: Name = "permanence", step: int = 0
) -> PermanenceScores:
    """Whether what passes behind a wall comes out again, as what it was, when and where it should.

    Args:
        video: clips of one object and a wall.
        real: real clips of the same length (``world_batch`` with path = wall).
        name: of the metrics.
        step: of the training that is judged, for the metrics.
    """
    from kineograph.nodes.networks import intervals, spoil
    from kineograph.nodes.networks.permanence import permanence

    def measure(clips: Video) -> Mapping[str, Estimate]:
        found = permanence(clips.frames)
        return {
            "returns": intervals.share(found.returns),
            "same": intervals.share(found.same),
            "place_error": intervals.mean(found.place_error),
        }

    middle = video.frames.shape[1] // 2
    turn, colour, wait = (partial(spoil, at=middle) for spoil in (spoil.turn, spoil.switch_colour, spoil.wait))
    returns_about = "Share of clips in which the object is on the other side of the wall at last, as large: 1 is best."
    same_about = "Share of clips in which it is, and has its colour: 1 is best."
    place_about = "Distance of its front from where its velocity takes it, in short sides of the frame: 0 is best."
    questions = [
        Question("returns", "comes out again", returns_about, "turns back behind the wall", turn),
        Question("same", "as what it was", same_about, "other colours from the middle on", colour),
        Question("place_error", "place when it is out", place_about, "waits behind the wall", wait),
    ]
    scores = answer(questions, measure, video, real, teller(run, name, step))
    return PermanenceScores(*scores.values, scores=scores)
