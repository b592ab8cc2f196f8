"""Clips are captioned: what the oracle says is true, files are named, and a training reads what was written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kineograph import default_runtime
from kineograph.graph_runtime.errors import Cancelled
from kineograph.graph_runtime.resume import KeepEvery
from kineograph.graph_runtime.sockets import Stream
from kineograph.graph_runtime.store import Store
from kineograph.nodes import caption
from kineograph.nodes.clip_files import FileBytes
from kineograph.nodes.media import write_image, write_video
from kineograph.nodes.networks import world
from kineograph.nodes.networks.prompts import read_prompt
from kineograph.nodes.sockets import Video
from kineograph.nodes.train import clips, streams
from kineograph.nodes.train.sockets import ClipFile, Dataset

WORKFLOW = Path(__file__).parent.parent / "workflows" / "caption.json"
FPS = 8.0


class Run:
    """A run that writes into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.metrics, self.files = folder, {}, []

    def progress(self, done: int, total: int) -> None: ...

    def metric(self, name: str, step: int, value: float) -> None:
        self.metrics[name] = value

    def output_path(self, relative: str) -> Path:
        return self.folder / relative

    def wrote(self, path: Path) -> None:
        self.files.append(path.name)


def rendered(count: int, frames: int, height: int = 64, width: int = 64, seed: int = 3) -> tuple[Video, dict]:
    scenes = world.sample_scenes(seed, range(count), frames, FPS, height, width, hold_out=False)
    labels = {name: index_B.tolist() for name, index_B in scenes.labels().items()}
    return Video(world.render(scenes, frames, height, width, FPS), FPS), labels


@pytest.mark.parametrize(("frames", "height", "width"), [(17, 64, 64), (9, 48, 80), (1, 64, 64)])
@pytest.mark.parametrize("style", ["short", "long"])
def test_new_captions_say_the_truth_about_nearly_everything(style, frames, height, width) -> None:
    count = 48
    video, truth = rendered(count, frames, height, width)
    clips, text = caption.caption_world(video, style, seed=5)
    assert text == "\n".join(clips.captions)
    names = ["colour", "shape"] + ["motion"] * (frames > 1) + ["size", "background"] * (style == "long")
    right = wrong = 0
    for place, sentence in enumerate(clips.captions):
        said = read_prompt(sentence).attributes
        assert said == {name: int(index_B[place]) for name, index_B in clips.said.items()}, sentence
        assert all(said[name] < 0 for name in set(said) - set(names)), sentence
        right += sum(said[name] == truth[name][place] for name in names)
        wrong += sum(said[name] not in (-1, truth[name][place]) for name in names)
    assert right >= 0.97 * count * len(names)
    assert wrong <= 0.01 * count * len(names)


def test_what_cannot_be_read_is_not_said() -> None:
    noise = Video(torch.rand(2, 9, 3, 32, 32, generator=torch.Generator().manual_seed(1)), FPS)
    clips, text = caption.caption_world(noise)
    assert (clips.captions, text) == (("", ""), "\n")
    assert all((index_B == -1).all() for index_B in clips.said.values())
    video, truth = rendered(1, 9)
    frames = video.frames.clone()
    frames[:, 5:] = frames[:, 5:].flip(-1, -2)  # it jumps: neither direction is true
    (sentence,) = caption.caption_world(Video(frames, FPS)).clips.captions
    said = read_prompt(sentence).attributes
    assert said["motion"] == -1
    assert said["colour"] == truth["colour"][0]


def test_frames_are_spread_over_the_whole_clip() -> None:
    assert caption.spread(17, 5) == [0, 4, 8, 12, 16]
    assert caption.spread(17, 1) == [8]
    assert caption.spread(3, 8) == [0, 1, 2]
    whole = Dataset(
        (
            ClipFile(FileBytes("a"), "a", "", 241, 24.0, 64, 64, start=2.0),
            ClipFile(FileBytes("b"), "b", "", 1, 24.0, 64, 64),
            ClipFile(FileBytes("c"), "c", "", 3, 8.0, 64, 64),
        )
    )
    thin = caption.spread_frames(whole, 5).clips
    assert [(clip.frames, clip.fps, clip.start) for clip in thin] == [(5, 0.4, 2.0), (1, 24.0, 0.0), (3, 8.0, 0.0)]
    assert thin[0].start + (thin[0].frames - 1) / thin[0].fps == 2.0 + 240 / 24
    assert caption.spread_frames(whole, 1).clips[0].start == 2.0 + 120 / 24


# Files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos and a picture of the world, one of them captioned by hand, and one that does not decode."""
    place = tmp_path / "clips"
    (place / "deep").mkdir(parents=True)
    video, _ = rendered(2, 17)
    write_video(place / "one.mp4", video.frames[0], fps=8)
    write_video(place / "deep" / "two öäü.mp4", video.frames[1], fps=8)
    write_image(place / "picture.png", video.frames[0, 0])
    (place / "one.txt").write_text("what somebody wrote")
    (place / "broken.mp4").write_bytes(b"no video")
    return place


def test_a_folder_is_captioned_and_read_back_with_its_captions(folder: Path) -> None:
    _, truth = rendered(2, 17)
    default_runtime().run(WORKFLOW, {"folder": str(folder)}, out=folder)
    captions = {clip.name: clip.caption for clip in clips.clip_folder(str(folder), Run(folder)).clips}
    assert set(captions) == {"one.mp4", "deep/two öäü.mp4", "picture.png"}
    for name, place in (("one.mp4", 0), ("deep/two öäü.mp4", 1)):
        assert read_prompt(captions[name]).attributes == {each: truth[each][place] for each in truth}
    assert read_prompt(captions["picture.png"]).attributes == {each: truth[each][0] for each in truth} | {"motion": -1}


def test_captions_that_were_there_are_kept_once(folder: Path, tmp_path: Path) -> None:
    by_hand = json.dumps({"file_name": "one.mp4", "text": "by hand"}) + "\n"
    (folder / "metadata.jsonl").write_text(by_hand)
    run = Run(folder)
    dataset = clips.clip_folder(str(folder), run, "optional")
    for attempt in ("first", "second"):
        caption.save_captions(dataset, Stream.of([attempt, "", f"{attempt} ä"]), run)
    assert (folder / "metadata.jsonl.old").read_text() == by_hand
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert rows == [
        {"file_name": dataset.clips[0].name, "text": "second"},
        {"file_name": dataset.clips[2].name, "text": "second ä"},
    ]
    assert run.metrics == {"captions": 2}


def test_captions_that_fit_no_file_are_refused_with_the_way_out(folder: Path) -> None:
    run = Run(folder)
    dataset = clips.clip_folder(str(folder), run, "optional")
    with pytest.raises(ValueError, match="2 captions for 3 clips"):
        caption.save_captions(dataset, Stream.of(["a", "b"]), run)
    with pytest.raises(ValueError, match="None of the 3 clips"):
        caption.save_captions(dataset, Stream.of(["", "", ""]), run)
    cut = clips.cut_clips(dataset, frames=5)
    with pytest.raises(ValueError, match="before cut_clips"):
        caption.save_captions(cut, Stream.of(["a"] * len(cut.clips)), run)
    shard = replace(dataset.clips[0], source=FileBytes("shard.tar", 512, 100))
    with pytest.raises(ValueError, match="shard or table"):
        caption.save_captions(Dataset((shard,)), Stream.of(["a"]), run)
    assert not (folder / "metadata.jsonl").exists()


def test_a_captioning_that_is_cut_off_goes_on_with_the_clip_it_was_at(
    folder: Path, tmp_path: Path, monkeypatch
) -> None:
    looked: list[str] = []
    decoded = streams.decoded

    def counted(clip: ClipFile) -> torch.Tensor:
        if min(clip.height, clip.width) == 64:  # the look; the filter sees the clips first, no larger than this either
            looked.append(clip.name)
            if len(looked) == 6:
                raise KeyboardInterrupt
        return decoded(clip)

    monkeypatch.setattr(streams, "decoded", counted)

    def run():
        runtime = default_runtime(store=Store(tmp_path / "store", least_seconds=0.0))
        return runtime.run(WORKFLOW, {"folder": str(folder)}, out=tmp_path, keep_every=KeepEvery(passes=1))

    with pytest.raises((KeyboardInterrupt, Cancelled)):
        run()
    assert len(looked) == 6  # three by the filter, two captioned, and the one that was interrupted
    captions = run().outputs["captions"]
    assert len(captions) == 3
    assert looked[6:] == [*looked[:3], looked[5]]
