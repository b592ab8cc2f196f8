"""Clips get captions: by the oracle of the embedded world, or by a model that looks at them. Knows no training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.paths import output_file
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.clip_files import METADATA, FileBytes
from kineograph.nodes.language_models import model_digest
from kineograph.nodes.sockets import CaptionModel, Video
from kineograph.nodes.train.sockets import ClipFile, Clips, Dataset

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Positive = Annotated[int, Field(ge=1)]

INSTRUCTION = (
    "The pictures are frames of one video clip, in order. Describe the clip so that somebody could film it again: who "
    "or what is seen and how it looks; what moves, how, and in which direction; where it is, in what light; how the "
    "camera stands or moves; the style. Say only what can be seen, in 40 to 100 words of plain English in the present "
    "tense. Do not speak of frames, pictures or yourself, and do not guess names. Answer with the description alone."
)


class Captioned(NamedTuple):
    """Clips with new captions, and these captions as text, one a line."""

    clips: Clips
    text: str


@node
def caption_world(video: Video, style: Literal["short", "long"] = "long", seed: int = 0) -> Captioned:
    """Say of clips of the embedded world what is read from their pixels. What cannot be read is not said.

    Args:
        video: clips; of something else than a plain shape on a plain ground, little or nothing is said.
        style: short tells colour, shape and motion; long tells size and background too.
        seed: of the wording.
    """
    from kineograph.nodes.networks.recaptions import recaption

    texts, said = recaption(video.frames, video.fps, style, seed)
    return Captioned(Clips(video, tuple(texts), said=said), "\n".join(texts))


@node(fingerprint=model_digest)
def load_caption_model(folder: Annotated[str, Field(min_length=1)]) -> CaptionModel:
    """Load a model of the library transformers that writes about pictures. Nothing is downloaded.

    Args:
        folder: on your disk, with config.json, a tokenizer, settings of a processor and weights as safetensors; LLaVA,
            Idefics3 and others (pip install 'kineograph[words]'). Its own code is never run.

    Raises:
        ValueError: it holds no such model, or pickles, or asks for code of its own.
    """
    from kineograph.nodes.language_models import load

    return CaptionModel(*load(folder, sees=True))


@node
def caption_clips_with_model(
    model: CaptionModel,
    video: Video,
    run: RunContext,
    frames: Positive = 8,
    instruction: str = INSTRUCTION,
    new_tokens: Annotated[int, Field(ge=1, le=8192)] = 192,
    temperature: Annotated[float, Field(ge=0)] = 0.0,
    seed: int = 0,
) -> Captioned:
    """A model looks at some frames of each clip and describes it.

    Args:
        model: of load_caption_model.
        video: clips.
        frames: how many are looked at, spread evenly over the clip; each costs the model hundreds of tokens.
        instruction: what the model is told to do.
        new_tokens: most that it writes about a clip; a word is one or two.
        temperature: 0 takes the likeliest word each time; higher draws.
        seed: of the draws.

    Raises:
        ValueError: the model has no room for so many frames, or says nothing.
    """
    from kineograph.nodes.language_models import answer, read_pictures

    texts = []
    for clip in video.frames:
        inputs = read_pictures(model.processor, _pictures(clip[spread(len(clip), frames)]), instruction)
        texts.append(answer(model.network, inputs, model.processor.decode, new_tokens, temperature, seed, run.progress))
    return Captioned(Clips(video, tuple(texts)), "\n".join(texts))


def spread(count: int, wanted: int) -> list[int]:
    """Places spread evenly over so many, first and last among them; of one, the middle."""
    wanted = min(wanted, count)
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)] if wanted > 1 else [count // 2]


def _pictures(frames_T3HW: Tensor) -> list[Image]:
    from PIL.Image import fromarray

    bytes_THW3 = (frames_T3HW * 255).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return [fromarray(each) for each in bytes_THW3]


# Captions of files


@node
def spread_frames(dataset: Dataset, frames: Positive = 16) -> Dataset:
    """Read each clip as a few frames, spread evenly over it: enough to see what it shows. Nothing is decoded yet.

    Args:
        dataset: clips.
        frames: of each; a shorter clip keeps all of its own.
    """

    def thinned(clip: ClipFile) -> ClipFile:
        count = min(frames, clip.frames)
        if count == 1:
            return replace(clip, frames=1, start=clip.start + (clip.frames // 2) / clip.fps)
        return replace(clip, frames=count, fps=clip.fps * (count - 1) / (clip.frames - 1))

    return replace(dataset, clips=tuple(map(thinned, dataset.clips)))


@node
def clip_videos(dataset: Dataset) -> Stream[Video]:
    """The clips one by one, in order, decoded when they are asked for. Every one must decode: see filter_motion.

    Args:
        dataset: clips.
    """

    def video(index: int) -> Video:
        from kineograph.nodes.train.streams import decoded

        clip = dataset.clips[index]
        return Video(decoded(clip)[None], clip.fps)

    return Stream(len(dataset.clips), video, held=dataset)


@node(effect=True)
def save_captions(
    dataset: Dataset,
    captions: Stream[str],
    run: RunContext,
    path: Annotated[str, output_file(METADATA)] = METADATA,
) -> None:
    """Write captions into a metadata.jsonl, which clip_folder reads where it lies in the folder of the clips.

    Args:
        dataset: of clip_folder, one clip a file.
        captions: of each clip, in order; a clip whose caption is empty is left out.
        path: below the output folder. A file that is there already is kept as metadata.jsonl.old, once.

    Raises:
        ValueError: the captions are not those of the dataset's files, or all are empty.
    """
    if len(captions) != len(dataset.clips):
        raise ValueError(f"There are {len(captions)} captions for {len(dataset.clips)} clips; one for each is needed.")
    known = {_file_name(clip): caption for clip, caption in zip(dataset.clips, captions, strict=True)}
    if len(known) < len(dataset.clips):
        raise ValueError("Several clips are cut from one file, which has one caption. Caption files before cut_clips.")
    rows = {name: caption for name, caption in known.items() if caption}
    if not rows:
        raise ValueError(f"None of the {len(captions)} clips has a caption: nothing in them was recognised.")
    target = run.output_path(path)
    kept = target.with_name(f"{METADATA}.old")
    if target.exists() and not kept.exists():
        target.replace(kept)
    with target.open("w", encoding="utf-8") as file:
        for name, caption in rows.items():
            row = {"file_name": name, "text": caption}
            file.write(json.dumps(row, ensure_ascii=not name.isprintable()) + "\n")
    run.wrote(target)
    run.metric("captions", 0, len(rows))


def _file_name(clip: ClipFile) -> str:
    """The path of a clip's file below the folder that was listed; its name is written as people can read it."""
    if not isinstance(clip.source, FileBytes) or clip.source.size is not None:
        raise ValueError(f"{clip.name} lies in a shard or table; captions can be written beside files alone.")
    return "/".join(Path(clip.source.path).parts[-len(Path(clip.name).parts) :])
