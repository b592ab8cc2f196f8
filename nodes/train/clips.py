"""The user's clips: listed, cut, sized and sifted before they are decoded. Knows no model and no step of training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.nodes.train.sockets import ClipFile, Dataset, LeftOut

if TYPE_CHECKING:
    from kineograph.nodes.clip_files import Found

Name = Annotated[str, Field(min_length=1)]
Captions = Literal["needed", "optional"]
MOST_CUTS = 10_000
"""Most clips of one file: its length is what a stranger's header says."""
MOTION_SIDE = 64
"""Short side in pixels of the frames whose motion is measured."""


def folder_digest(folder: str) -> str:
    """The digest of the files of a folder of clips."""
    from kineograph.nodes.clip_files import tree_digest

    return tree_digest(folder)


def shards_digest(path: str) -> str:
    """The digest of a tar shard, or of a folder of them."""
    return folder_digest(path)


def table_digest(folder: str, files: str) -> str:
    """The digest of a table and of the folder its paths lead to."""
    return folder_digest(folder) + (folder_digest(files) if files else "")


def outlined_folder(folder: str, captions: Captions) -> Dataset:
    """What ``clip_folder`` gives: records, for which no video is decoded beyond its first frame."""
    from kineograph.nodes.clip_files import folder_clips

    return _probed(folder_clips(folder), folder, captions)


@node(fingerprint=folder_digest, estimate=outlined_folder)
def clip_folder(folder: Name, run: RunContext, captions: Captions = "needed") -> Dataset:
    """The videos and pictures of a folder and the folders in it: MP4, MOV, MKV, WebM, PNG, JPEG, WebP.

    Args:
        folder: clip.mp4 has its caption beside it in clip.txt, or in a metadata.jsonl of lines like {"file_name":
            "clip.mp4", "text": "a red circle"}. Links that lead out of the folder, and links to folders, are left out.
        captions: needed leaves out what has none; optional is for training without text.

    Raises:
        ValueError: no file can be used; the reasons are counted.
    """
    from kineograph.nodes.clip_files import folder_clips

    return _probed(folder_clips(folder), folder, captions, run)


@node(fingerprint=shards_digest)
def clip_shards(path: Name, run: RunContext, captions: Captions = "needed") -> Dataset:
    """The videos and pictures of WebDataset shards. Nothing is unpacked: a clip is read where it lies.

    Args:
        path: an uncompressed .tar file or a folder of some, with members like 0001.mp4 and 0001.txt (or 0001.json with
            "text" or "caption").
        captions: needed leaves out what has none; optional is for training without text.

    Raises:
        ValueError: no clip can be used; the reasons are counted.
    """
    from kineograph.nodes.clip_archives import shard_clips

    return _probed(shard_clips(path), path, captions, run)


@node(fingerprint=table_digest)
def clip_table(
    folder: Name,
    run: RunContext,
    video: Name = "video",
    caption: str = "caption",
    files: str = "",
    captions: Captions = "needed",
) -> Dataset:
    """The rows of a table that the library `datasets` saved to disk (pip install 'kineograph[data]').

    Args:
        folder: as ``save_to_disk`` wrote it; of one split.
        video: column of the videos: their bytes, or paths.
        caption: column of the captions; empty where there is none.
        files: folder that paths lie below; empty is the table's own.
        captions: needed leaves out what has none; optional is for training without text.

    Raises:
        ValueError: no row can be used, or there is no such column.
    """
    from kineograph.nodes.clip_archives import table_clips

    return _probed(table_clips(folder, video, caption, files), folder, captions, run)


def _probed(
    listed: Iterable[Found | LeftOut], where: str, captions: Captions, run: RunContext | None = None
) -> Dataset:
    """Look into each file for its length, rate and size."""
    everything = list(listed)
    results: list[ClipFile | LeftOut] = []
    for each in everything:
        results.append(each if isinstance(each, LeftOut) else _probe(each, captions))
        if run is not None:
            run.progress(len(results), len(everything))
    clips = tuple(each for each in results if isinstance(each, ClipFile))
    return _some(Dataset(clips, tuple(each for each in results if isinstance(each, LeftOut))), f"in {where!r}")


def _probe(found: Found, captions: Captions) -> ClipFile | LeftOut:
    from kineograph.nodes.media.decode import probe

    try:
        with found.source.open() as file:
            what = probe(file, found.name)
    except ValueError as error:
        return LeftOut(found.name, "does not decode", str(error))
    if captions == "needed" and found.caption is None:
        return LeftOut(found.name, "no caption", "Write one into a text file of the same name.")
    if captions == "needed" and not found.caption:
        return LeftOut(found.name, "empty caption", "Its caption is there and holds no word; write what it shows.")
    return ClipFile(found.source, found.name, found.caption or "", what.frames, what.fps, what.height, what.width)


def _some(dataset: Dataset, where: str) -> Dataset:
    """The dataset, if a clip is left.

    Raises:
        ValueError: none is, with how many were left out for what, and an example of each.
    """
    if dataset.clips:
        return dataset
    if not dataset.left_out:
        raise ValueError(f"There is no clip {where}: no MP4, MOV, MKV, WebM, PNG, JPEG or WebP.")
    example = {each.reason: each for each in reversed(dataset.left_out)}
    counts = Counter(each.reason for each in dataset.left_out)
    why = "; ".join(f"{count} x {reason} ({_told(example[reason])})" for reason, count in counts.most_common())
    raise ValueError(f"No clip {where} can be used. {why}")


def _told(example: LeftOut) -> str:
    return example.detail if example.name in example.detail else f"{example.name}: {example.detail}".rstrip(": ")


@node
def filter_clips(
    dataset: Dataset,
    least_seconds: Annotated[float, Field(ge=0)] = 0.0,
    most_seconds: Annotated[float, Field(ge=0)] = 0.0,
    least_side: Annotated[int, Field(ge=0)] = 0,
    least_words: Annotated[int, Field(ge=0)] = 0,
    most_words: Annotated[int, Field(ge=0)] = 0,
) -> Dataset:
    """Leave out clips by length, size and caption, at once: nothing is decoded. Before cut_clips it judges whole files.

    Args:
        dataset: clips.
        least_seconds: shortest video that stays; pictures always do.
        most_seconds: longest that stays; 0 is no bound.
        least_side: pixels of the short side.
        least_words: words of the caption.
        most_words: words of the caption; 0 is no bound.

    Raises:
        ValueError: no clip is left.
    """

    def judge(clip: ClipFile) -> LeftOut | None:
        words, side = len(clip.caption.split()), min(clip.height, clip.width)
        if clip.frames > 1 and clip.seconds < least_seconds:
            return LeftOut(clip.name, "too short", f"{clip.seconds:.3g} of at least {least_seconds:g} seconds.")
        if clip.frames > 1 and most_seconds and clip.seconds > most_seconds:
            return LeftOut(clip.name, "too long", f"{clip.seconds:.3g} of at most {most_seconds:g} seconds.")
        if side < least_side:
            return LeftOut(clip.name, "too small", f"{side} of at least {least_side} pixels.")
        if words < least_words:
            return LeftOut(clip.name, "caption too short", f"{words} of at least {least_words} words.")
        if most_words and words > most_words:
            return LeftOut(clip.name, "caption too long", f"{words} of at most {most_words} words.")
        return None

    return _sifted(dataset, judge)


@node
def filter_motion(
    dataset: Dataset,
    run: RunContext,
    least: Annotated[float, Field(ge=0, le=1)] = 0.0,
    most: Annotated[float, Field(ge=0, le=1)] = 1.0,
) -> Dataset:
    """Decode every clip once; leave out what breaks off, moves too little, or too much (a cut, a flicker).

    Args:
        dataset: clips, after cut_clips.
        least: smallest mean difference of neighbouring frames, in shares of the range from black to white; 0.002 drops
            stills. Pictures stay.
        most: largest mean difference.

    Raises:
        ValueError: no clip is left.
    """
    done = 0

    def judge(clip: ClipFile) -> LeftOut | None:
        nonlocal done
        from kineograph.nodes.train.streams import decoded

        scale = min(1.0, MOTION_SIDE / min(clip.height, clip.width))
        small = replace(clip, height=max(1, round(clip.height * scale)), width=max(1, round(clip.width * scale)))
        try:
            frames = decoded(small)
        except ValueError as error:
            return LeftOut(clip.name, "does not decode", str(error))
        finally:
            done += 1
            run.progress(done, len(dataset.clips))
        motion = float((frames[1:] - frames[:-1]).abs().mean()) if len(frames) > 1 else None
        if motion is not None and not least <= motion <= most:
            reason = "too little motion" if motion < least else "too much motion"
            return LeftOut(clip.name, reason, f"{motion:.4f} of {least:g} to {most:g}, from second {clip.start:.3g}.")
        return None

    return _sifted(dataset, judge)


def _sifted(dataset: Dataset, judge: Callable[[ClipFile], LeftOut | None]) -> Dataset:
    judged = [(clip, judge(clip)) for clip in dataset.clips]
    kept = tuple(clip for clip, fault in judged if fault is None)
    faults = tuple(fault for _, fault in judged if fault is not None)
    return _some(Dataset(kept, dataset.left_out + faults), "after this filter")


@node
def cut_clips(
    dataset: Dataset,
    frames: Annotated[int, Field(ge=1)] = 17,
    fps: Annotated[float, Field(gt=0, le=1000)] = 8.0,
    stride: Annotated[float, Field(ge=0)] = 0.0,
    least: Annotated[int, Field(ge=0)] = 0,
) -> Dataset:
    """Cut videos into clips of a length and rate. A picture stays one frame.

    Args:
        dataset: whole files.
        frames: of each clip, 1 + 4k.
        fps: frames per second they are read at; of those in between, the nearest.
        stride: seconds from the start of a clip to the start of the next; 0 is a clip's length.
        least: a rest of fewer frames is left out, a longer one is cut to 1 + 4k; 0 leaves out every rest.

    Raises:
        ValueError: frames is not 1 + 4k, or no clip is left.
    """
    if frames % 4 != 1:
        raise ValueError(f"frames = {frames} is not 1 + 4k; the nearest is {4 * round((frames - 1) / 4) + 1}.")
    step = stride or frames / fps
    clips: list[ClipFile] = []
    left_out = list(dataset.left_out)
    for clip in dataset.clips:
        if clip.frames == 1:
            clips.append(replace(clip, fps=fps))
            continue
        cuts = _cuts(clip, frames, fps, step, least or frames)
        clips += cuts
        if not cuts:
            needed = (least or frames) / fps
            left_out.append(LeftOut(clip.name, "too short", f"{clip.seconds:.3g} of {needed:.3g} seconds of a clip."))
        elif len(cuts) == MOST_CUTS:
            left_out.append(LeftOut(clip.name, "too many clips", f"Only its first {MOST_CUTS:,} are used."))
    return _some(Dataset(tuple(clips), tuple(left_out)), f"of {frames} frames at {fps:g} per second")


def _cuts(clip: ClipFile, frames: int, fps: float, step: float, least: int) -> list[ClipFile]:
    """A clip for each start; the frame at its end is shown until the file's."""
    found: list[ClipFile] = []
    while len(found) < MOST_CUTS:
        start = len(found) * step
        there = math.floor((clip.seconds - start) * fps + 0.01)  # rates are rounded: 29.97
        whole = min(frames, there - (there - 1) % 4)
        if whole < least:
            break
        found.append(replace(clip, frames=whole, fps=fps, start=clip.start + start))
    return found


@node
def resize_clips(
    dataset: Dataset,
    height: Annotated[int, Field(ge=8, multiple_of=8)] = 64,
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 64,
) -> Dataset:
    """Read all clips at one size: scaled until they cover it, and cut to the middle.

    Args:
        dataset: clips.
        height, width: pixels, multiples of 8.
    """
    return replace(dataset, clips=tuple(replace(clip, height=height, width=width) for clip in dataset.clips))


@node
def keep_aspect(
    dataset: Dataset, pixels: Annotated[int, Field(ge=64)] = 4096, multiple: Annotated[int, Field(ge=1)] = 8
) -> Dataset:
    """Read each clip at its own aspect, made smaller to fit a number of pixels; never larger than it is.

    Args:
        dataset: clips.
        pixels: most pixels of a frame, height times width.
        multiple: sides are multiples of it; less than one multiple is cut off.
    """

    def sized(clip: ClipFile) -> ClipFile:
        scale = min(1.0, math.sqrt(pixels / (clip.height * clip.width)))
        height, width = (
            max(multiple, multiple * math.floor(side * scale / multiple + 1e-6)) for side in (clip.height, clip.width)
        )
        return replace(clip, height=height, width=width)

    return replace(dataset, clips=tuple(map(sized, dataset.clips)))
