"""Clips of a stranger's as data: found, cut, sized, sifted, batched; what cannot be used is named and nothing stops."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kineograph import default_runtime
from kineograph.graph_runtime.errors import InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.events import FileWritten, Metric
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.clip_files import FileBytes, shown, tree_digest
from kineograph.nodes.media import write_image, write_video
from kineograph.nodes.media.decode import read_frames
from kineograph.nodes.train import clip_report, clips, streams
from kineograph.nodes.train.sockets import ClipFile, Dataset

FINETUNE = Path(__file__).parent.parent / "workflows" / "finetune.json"


class Run:
    """A run that writes into a folder and remembers metrics."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.metrics, self.notes = folder, {}, []

    def progress(self, done: int, total: int) -> None:
        assert 0 < done <= total

    def metric(self, name: str, step: int, value: float) -> None:
        self.metrics[name] = value

    def note(self, reason: str) -> None:
        self.notes.append(reason)

    def output_path(self, relative: str) -> Path:
        return self.folder / relative

    def wrote(self, path: Path) -> None:
        assert path.is_file()


def moving(frames: int = 9, height: int = 32, width: int = 48, speed: int = 2, seed: int = 0) -> torch.Tensor:
    """(T, 3, H, W): a bright bar on a ground of its own colour."""
    ground = torch.rand(3, generator=torch.Generator().manual_seed(seed)) / 2
    video = ground.view(1, 3, 1, 1).repeat(frames, 1, height, width)
    for t in range(frames):
        video[t, :, :, (speed * t) % width : (speed * t) % width + 8] = 1
    return video


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, bytes]:
    """Files that decode, by name."""
    folder = tmp_path_factory.mktemp("sound")
    write_video(folder / "video.mp4", moving(), 8)
    write_video(folder / "other.mp4", moving(seed=1), 8)
    write_video(folder / "still.mp4", moving(speed=0), 8)
    write_image(folder / "picture.png", moving()[0])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def put(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def listed(folder: Path, **options) -> Dataset:
    return clips.clip_folder(str(folder), Run(), **options)


def reasons(dataset: Dataset) -> dict[str, str]:
    return {each.name: each.reason for each in dataset.left_out}


def made(sizes: list[tuple[int, int, int]]) -> Dataset:
    """A dataset of clips without files."""
    return Dataset(
        tuple(
            ClipFile(FileBytes(f"{n}"), f"{n}", f"clip {n}", frames, 8.0, height, width)
            for n, (frames, height, width) in enumerate(sizes)
        )
    )


# Folders


def test_a_folder_gives_its_clips_with_captions_from_beside_or_from_metadata(tmp_path: Path, sound) -> None:
    rows = [{"file_name": "deep/b.mp4", "text": "from  the\nroot"}, {"file_name": "d.png", "caption": "a picture"}]
    put(
        tmp_path,
        {
            "a.mp4": sound["video.mp4"],
            "a.txt": "\ufeff a bar\n moves \n",
            "deep/b.mp4": sound["other.mp4"],
            "deep/b.txt": "not this one",
            "deep/er/c.MP4": sound["still.mp4"],
            "deep/er/metadata.jsonl": '{"file_name": "c.MP4", "text": "a still"}',
            "d.png": sound["picture.png"],
            "metadata.jsonl": "\n".join(map(json.dumps, rows)),
            "notes.md": "no clip",
            ".hidden/x.mp4": b"",
            "._a.mp4": b"",
        },
    )
    dataset = listed(tmp_path)
    assert {clip.name: clip.caption for clip in dataset.clips} == {
        "a.mp4": "a bar moves",
        "d.png": "a picture",
        "deep/b.mp4": "from the root",
        "deep/er/c.MP4": "a still",
    }
    assert not dataset.left_out
    assert [(clip.frames, clip.fps, clip.height, clip.width) for clip in dataset.clips[:2]] == [
        (9, 8, 32, 48),
        (1, 1, 32, 48),
    ]


def test_a_hostile_folder_is_read_as_far_as_it_is_sound(tmp_path: Path, sound) -> None:
    outside = put(tmp_path / "outside", {"secret.mp4": sound["video.mp4"], "secret.txt": "a secret"})
    folder = put(
        tmp_path / "clips",
        {
            "good.mp4": sound["video.mp4"],
            "good.txt": "a bar",
            "cut.mp4": sound["video.mp4"][:-300],
            "cut.txt": "cut off",
            "text.mp4": "hello",
            "text.txt": "a text",
            "zero.mp4": b"",
            "zero.txt": "nothing",
            "silent.mp4": sound["video.mp4"],
            "blank.mp4": sound["video.mp4"],
            "blank.txt": " \n",
            "latin.mp4": sound["video.mp4"],
            "latin.txt": b"\xe9t\xe9",
            "long.mp4": sound["video.mp4"],
            "long.txt": "x" * 70_000,
            "film.avi": b"RIFF",
            "beside.mp4": sound["video.mp4"],
            "metadata.jsonl": b"\n".join(
                [
                    b'{"file_name": "../outside/secret.mp4", "text": "out"}',
                    json.dumps({"file_name": str(outside / "secret.mp4"), "text": "out"}).encode(),
                    b'{"file_name": "gone.mp4", "text": "gone"}',
                    b'{"file_name": "good.mp4", "text": "a bar"}',
                    b'{"file_name": "good.mp4", "text": "again"}',
                    b'{"file_name": "silent.mp4", "text": NaN}',
                    b'{"file_name": "silent.mp4", "text": 5}',
                    b'{"file_name": "a\\u0000b.mp4", "text": "zero"}',
                    b'{"file_name": "\\ud800.mp4", "text": "half a letter"}',
                    b'{"text": "no name"}',
                    b'["a list"]',
                    b'{"file_name": "\xe9t\xe9.mp4"}',
                    b"[" * 60_000,
                    b'{"file_name": "silent.mp4", "text": "' + b"x" * 200_000 + b'"}',
                    b'{"n": ' + b"9" * 5000 + b"}",
                    b"",
                    b'{"file_name": "late.mp4", "text": "after all that"}',
                ]
            ),
            "late.mp4": sound["other.mp4"],
        },
    )
    (folder / "link.mp4").symlink_to(outside / "secret.mp4")
    (folder / "link.txt").symlink_to(outside / "secret.txt")
    (folder / "beside.txt").symlink_to(outside / "secret.txt")
    (folder / "inner.mp4").symlink_to("good.mp4")
    (folder / "inner.txt").write_text("a link to one of us")
    (folder / "round.mp4").symlink_to("round.mp4")
    (folder / "loop").symlink_to(".")
    (folder / "away").symlink_to(outside)
    os.mkfifo(folder / "pipe.mp4")
    (folder / os.fsdecode(b"\xe9t\xe9\n\x1b[31m.mp4")).write_bytes(sound["video.mp4"])
    (folder / os.fsdecode(b"\xe9t\xe9\n\x1b[31m.txt")).write_text("a strange name")
    dataset = listed(folder)
    assert {clip.name: clip.caption for clip in dataset.clips} == {
        "\\udce9t\\udce9\\n\\x1b[31m.mp4": "a strange name",
        "good.mp4": "a bar",
        "inner.mp4": "a link to one of us",
        "late.mp4": "after all that",
    }
    found = reasons(dataset)
    lines = {name: found.pop(name) for name in list(found) if name.startswith("metadata.jsonl")}
    assert found == {
        "beside.mp4": "no caption",
        "blank.mp4": "empty caption",
        "cut.mp4": "does not decode",
        "film.avi": "another kind of file",
        "latin.mp4": "unreadable caption",
        "link.mp4": "no file of this folder",
        "long.mp4": "unreadable caption",
        "pipe.mp4": "no file of this folder",
        "round.mp4": "no file of this folder",
        "silent.mp4": "no caption",
        "text.mp4": "does not decode",
        "zero.mp4": "does not decode",
    }
    assert set(lines) == {f"metadata.jsonl, line {n}" for n in (1, 2, 3, *range(5, 16))}
    assert all(each.detail for each in dataset.left_out)
    assert all(shown(each.name + each.detail) == each.name + each.detail for each in dataset.left_out)
    tree_digest(str(folder))


def test_the_reason_is_the_first_that_a_caption_would_not_mend(tmp_path: Path, sound) -> None:
    put(tmp_path, {"rnd.mp4": b"x" * 99, "silent.mp4": sound["video.mp4"]})
    put(
        tmp_path, {"empty.mp4": sound["video.mp4"], "empty.txt": b" ", "good.mp4": sound["video.mp4"], "good.txt": b"a"}
    )
    dataset = listed(tmp_path)
    assert reasons(dataset) == {
        "empty.mp4": "empty caption", "rnd.mp4": "does not decode", "silent.mp4": "no caption",
    }  # fmt: skip
    run = Run(tmp_path)
    clip_report.report_clips(clips.cut_clips(dataset, frames=5, fps=8.0), run, pictures=0)  # many clips of one file
    assert run.notes == [
        "3 of 4 clips are left out: 1 x empty caption, 1 x does not decode, 1 x no caption; clips.json says which"
    ]


def test_captions_may_be_optional(tmp_path: Path, sound) -> None:
    put(tmp_path, {"a.mp4": sound["video.mp4"]})
    assert [clip.caption for clip in listed(tmp_path, captions="optional").clips] == [""]


def test_nothing_usable_is_an_error_that_counts_the_reasons(tmp_path: Path, sound) -> None:
    with pytest.raises(ValueError, match=r"no clip in .*: no MP4, MOV"):
        listed(tmp_path)
    put(tmp_path, {"a.mp4": b"x", "a.txt": "a", "b.mp4": sound["video.mp4"], "c.mp4": sound["video.mp4"]})
    with pytest.raises(ValueError, match=r"2 x no caption \(b\.mp4: Write one.*1 x does not decode \(a\.mp4 is no MP4"):
        listed(tmp_path)
    with pytest.raises(ValueError, match=r"no folder '.*none'"):
        listed(tmp_path / "none")


def test_the_key_of_a_folder_follows_its_files(tmp_path: Path) -> None:
    put(tmp_path, {"a.mp4": b"one", "a.txt": "a", "metadata.jsonl": "{}"})
    seen = {tree_digest(str(tmp_path))}
    assert seen == {tree_digest(str(tmp_path))}
    stamp = (tmp_path / "metadata.jsonl").stat().st_mtime_ns
    put(tmp_path, {"metadata.jsonl": "[]"})
    os.utime(tmp_path / "metadata.jsonl", ns=(stamp, stamp))  # same size, same time: read all the same
    seen.add(tree_digest(str(tmp_path)))
    put(tmp_path, {"a.mp4": b"longer"})
    seen.add(tree_digest(str(tmp_path)))
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    seen.add(tree_digest(str(tmp_path)))
    assert len(seen) == 4
    with pytest.raises(InvalidWorkflow, match=r"files.*no folder 'nowhere'"):
        default_runtime().plan(FINETUNE, {"folder": "nowhere"})


# Shards and tables


def write_shard(path: Path, members: dict[str, bytes | str]) -> None:
    with tarfile.open(path, "w") as shard:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("z.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        shard.addfile(link)


def test_shards_are_read_where_they_lie_whatever_their_members_are_called(tmp_path: Path, sound) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    write_shard(
        folder / "0.tar",
        {
            "a/1.mp4": sound["video.mp4"],
            "a/1.txt": "a bar",
            "../../up.json": '{"text": "out of here", "n": 1}',
            "../../up.mp4": sound["other.mp4"],
            "/abs.mp4": sound["still.mp4"],
            "/abs.txt": "at the root",
            "2.mp4": sound["video.mp4"],
            "3.mp4": b"hello",
            "3.txt": "no video",
            "4.json": '{"text": NaN}',
            "4.png": sound["picture.png"],
            "5.txt": b"\xe9t\xe9",
            "5.png": sound["picture.png"],
        },
    )
    write_shard(folder / "1.tar", {"1.png": sound["picture.png"], "1.json": '{"caption": "a picture"}'})
    data = (folder / "0.tar").read_bytes()
    (folder / "2.tar").write_bytes(data[: len(sound["video.mp4"]) // 2])
    (folder / "3.tar").write_bytes(gzip.compress(data))
    before = sorted(tmp_path.rglob("*"))
    dataset = clips.clip_shards(str(folder), Run())
    assert sorted(tmp_path.rglob("*")) == before
    assert {clip.name: clip.caption for clip in dataset.clips} == {
        "0.tar: a/1.mp4": "a bar",
        "0.tar: ../../up.mp4": "out of here",
        "0.tar: /abs.mp4": "at the root",
        "1.tar: 1.png": "a picture",
    }
    found = [(each.name, each.reason) for each in dataset.left_out]
    for fault in (
        ("0.tar: 2.mp4", "no caption"),
        ("0.tar: 3.mp4", "does not decode"),
        ("0.tar: 4.json", "unreadable caption"),
        ("0.tar: 5.txt", "unreadable caption"),
        ("0.tar: z.mp4", "no file of this shard"),
        ("2.tar", "damaged shard"),
        ("3.tar", "damaged shard"),
    ):
        assert fault in found
    put(tmp_path / "plain", {"1.mp4": sound["video.mp4"], "2.mp4": sound["other.mp4"]})
    plain = listed(tmp_path / "plain", captions="optional")
    for here, there in zip(dataset.clips[:2], plain.clips, strict=True):
        assert torch.equal(streams.decoded(here), streams.decoded(there))
    assert len(clips.clip_shards(str(folder / "1.tar"), Run()).clips) == 1
    with pytest.raises(ValueError, match=r"There is no \.tar"):
        clips.clip_shards(str(tmp_path / "plain"), Run())


def test_a_table_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    put(tmp_path, {"state.json": "{}"})
    with pytest.raises(ValueError, match=r"pip install 'kineograph\[data\]'"):
        clips.clip_table(str(tmp_path), Run())


def test_a_folder_that_is_no_table_is_refused(tmp_path: Path) -> None:
    put(tmp_path, {"train/state.json": "{}", "test/state.json": "{}"})
    with pytest.raises(ValueError, match="holds the splits test, train"):
        clips.clip_table(str(tmp_path), Run())


def test_a_table_gives_its_videos_from_bytes_or_from_paths_below_its_folder(tmp_path: Path, sound) -> None:
    import datasets

    put(tmp_path / "files", {"a.mp4": sound["video.mp4"]})
    put(tmp_path, {"secret.mp4": sound["video.mp4"]})
    videos = [sound["video.mp4"], sound["other.mp4"], b"hello", sound["video.mp4"]]
    paths = ["a.mp4", "../secret.mp4", "gone.mp4", None]
    media = [
        {"bytes": sound["still.mp4"], "path": None},
        {"bytes": None, "path": "a.mp4"},
        None,
        {"bytes": None, "path": None},
    ]
    captions = ["a bar", "another", "no video", None]
    rows = {"video": videos, "path": paths, "media": media, "caption": captions}
    table = str(tmp_path / "table")
    datasets.Dataset.from_dict(rows).save_to_disk(table)
    dataset = clips.clip_table(table, Run())
    assert [clip.caption for clip in dataset.clips] == ["a bar", "another"]
    assert reasons(dataset) == {"table, row 2": "does not decode", "table, row 3": "no caption"}
    files = str(tmp_path / "files")
    from_paths = clips.clip_table(table, Run(), video="path", files=files)
    assert [clip.name for clip in from_paths.clips] == ["table, row 0"]
    assert torch.equal(streams.decoded(from_paths.clips[0]), streams.decoded(dataset.clips[0]))
    from_media = clips.clip_table(table, Run(), video="media", files=files)
    assert [clip.name for clip in from_media.clips] == ["table, row 0", "table, row 1"]
    with pytest.raises(ValueError, match=r"no column 'text'; it has 'video'"):
        clips.clip_table(table, Run(), caption="text")
    assert clips.table_digest(table, "") != clips.table_digest(table, files)


# Cutting, sizing, sifting


def test_videos_are_cut_by_time_to_one_and_four_k_frames() -> None:
    dataset = Dataset((ClipFile(FileBytes("a"), "a", "", 240, 24.0, 100, 200), *made([(1, 50, 50)]).clips))
    cut = clips.cut_clips(dataset, frames=17, fps=8.0)
    assert [(clip.start, clip.frames, clip.fps) for clip in cut.clips] == [
        *((n * 17 / 8, 17, 8.0) for n in range(4)),
        (0.0, 1, 8.0),
    ]
    rests = clips.cut_clips(dataset, frames=17, fps=8.0, least=5)
    assert [clip.frames for clip in rests.clips] == [17, 17, 17, 17, 9, 1]
    steps = clips.cut_clips(dataset, frames=9, fps=24.0, stride=1.0)
    assert [clip.start for clip in steps.clips] == [*map(float, range(10)), 0.0]
    again = clips.cut_clips(clips.cut_clips(dataset, frames=33, fps=8.0), frames=9, fps=8.0)
    assert [clip.start for clip in again.clips[:4]] == [0.0, 1.125, 2.25, 33 / 8]
    with pytest.raises(ValueError, match="nearest is 17"):
        clips.cut_clips(dataset, frames=16)
    with pytest.raises(ValueError, match=r"1 x too short \(0: 1\.12 of 2\.12 seconds"):
        clips.cut_clips(made([(9, 32, 32)]), frames=17, fps=8.0)


def test_a_header_that_promises_a_million_hours_gives_a_bounded_number_of_clips() -> None:
    endless = Dataset((ClipFile(FileBytes("a"), "a", "", 10**12, 1.0, 32, 32),))
    cut = clips.cut_clips(endless, frames=1, fps=1.0)
    assert len(cut.clips) == clips.MOST_CUTS
    assert reasons(cut) == {"a": "too many clips"}


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(64, 200_000), st.sampled_from([1, 8, 16]))
def test_native_aspect_keeps_to_the_budget_and_loses_less_than_a_multiple(height, width, pixels, multiple) -> None:
    sized = clips.keep_aspect(made([(9, height, width)]), pixels, multiple).clips[0]
    assert sized.height % multiple == sized.width % multiple == 0
    if min(sized.height, sized.width) > multiple:
        assert sized.height * sized.width <= pixels
        assert sized.height <= height
        assert sized.width <= width
        scale = min(1.0, (pixels / (height * width)) ** 0.5)
        assert sized.height > height * scale - multiple - 1e-3
        assert sized.width > width * scale - multiple - 1e-3


def test_filters_say_what_they_leave_out_and_why(tmp_path: Path, sound) -> None:
    names = ("video.mp4", "still.mp4", "picture.png")
    put(
        tmp_path,
        {name: sound[name] for name in names} | {"video.txt": "a bar moves", "still.txt": "still", "picture.txt": "p"},
    )
    dataset = clips.cut_clips(listed(tmp_path), frames=9)
    assert not clips.filter_clips(dataset).left_out
    assert reasons(clips.filter_clips(dataset, least_seconds=2.0)) == dict.fromkeys(names[:2], "too short")
    assert reasons(clips.filter_clips(dataset, most_seconds=1.0)) == dict.fromkeys(names[:2], "too long")
    assert reasons(clips.filter_clips(dataset, least_words=2)) == dict.fromkeys(names[1:], "caption too short")
    assert reasons(clips.filter_clips(dataset, most_words=2)) == {"video.mp4": "caption too long"}
    with pytest.raises(ValueError, match=r"3 x too small .*32 of at least 33 pixels"):
        clips.filter_clips(dataset, least_side=33)
    assert reasons(clips.filter_motion(dataset, Run(), least=0.002)) == {"still.mp4": "too little motion"}
    assert reasons(clips.filter_motion(dataset, Run(), most=0.002)) == {"video.mp4": "too much motion"}
    (tmp_path / "video.mp4").write_bytes(b"gone since")
    sifted = clips.filter_motion(dataset, Run())
    assert reasons(sifted) == {"video.mp4": "does not decode"}
    run = Run(tmp_path)
    assert clip_report.report_clips(sifted, run) is sifted
    report = json.loads((tmp_path / "clips.json").read_text())
    assert (report["clips"], report["left_out"]) == (2, {"does not decode": 1})
    assert report["sizes"] == {"1x32x48": 1, "9x32x48": 1}
    assert report["files_left_out"][0]["name"] == "video.mp4"
    assert run.metrics == {"clips": 2, "left_out": 1}
    assert run.notes == ["1 of 3 clips are left out: 1 x does not decode; clips.json says which"]
    assert {each["name"]: each["caption"] for each in report["each"]} == {"still.mp4": "still", "picture.png": "p"}
    with (tmp_path / report["pictures"]["file"]).open("rb") as file:
        pictures = read_frames(file, "pictures", [0.0], 96, 2 * 96)[0]
    assert pictures.shape == (3, 96, 2 * 96)
    assert all(half.std() > 0 for half in pictures.chunk(2, dim=2))


# Streams


@pytest.fixture
def blank(monkeypatch) -> None:
    """Clips decode to black frames of their size: these tests look at who meets whom."""
    monkeypatch.setattr(streams, "decoded", lambda clip: torch.zeros(clip.frames, 3, clip.height, clip.width))


def test_every_pass_sees_every_clip_once_in_batches_of_equal_size(blank) -> None:
    dataset = made([(5, 8, 8)] * 8 + [(1, 8, 16)] * 4)
    batches = streams.clip_batches(dataset, batches=60, clips=2, seed=3)
    passes = [[batches[6 * epoch + place] for place in range(6)] for epoch in range(10)]
    for seen in passes:
        assert Counter(caption for batch in seen for caption in batch.captions) == Counter(
            clip.caption for clip in dataset.clips
        )
        assert Counter(tuple(batch.video.frames.shape) for batch in seen) == {(2, 5, 3, 8, 8): 4, (2, 1, 3, 8, 16): 2}
    mixtures = {frozenset(frozenset(batch.captions) for batch in seen) for seen in passes}
    assert len(mixtures) > 5
    assert [batch.captions for batch in streams.clip_batches(dataset, 10, 2, 3, skip=17)] == [
        batches[n].captions for n in range(17, 27)
    ]
    assert [b.captions for b in streams.clip_batches(dataset, 60, 2, 4)] != [b.captions for b in batches]


def test_a_size_with_fewer_clips_than_a_batch_repeats_them(blank) -> None:
    (batch,) = streams.clip_batches(made([(5, 8, 8)] * 3), batches=1, clips=8)
    assert Counter(Counter(batch.captions).values()) == {3: 2, 2: 1}


def test_clips_come_one_by_one_in_order_whatever_their_sizes(blank) -> None:
    dataset = made([(5, 8, 8), (1, 8, 8), (5, 8, 8), (9, 16, 8)])
    stream = streams.read_clips(dataset)
    assert [clip.captions for clip in stream] == [(clip.caption,) for clip in dataset.clips]
    assert [clip.video.frames.shape[1] for clip in stream] == [5, 1, 5, 9]


@given(st.integers(1, 40), st.integers(0, 2**40), st.integers(0, 120))
def test_a_shuffle_is_a_permutation_in_every_pass_and_the_same_wherever_it_is_entered(length, seed, items) -> None:
    stream = streams.shuffle_stream(Stream(length, lambda index: index), seed, items)
    seen = list(stream)
    assert len(seen) == (items or length)
    for first in range(0, len(seen) - length + 1, length):
        assert sorted(seen[first : first + length]) == list(range(length))
    assert [stream[index] for index in reversed(range(len(seen)))] == seen[::-1]


def test_passes_and_seeds_differ() -> None:
    numbers = Stream(100, lambda index: index)
    seen = list(streams.shuffle_stream(numbers, seed=1, items=300))
    orders = {tuple(seen[first : first + 100]) for first in (0, 100, 200)}
    assert len(orders | {tuple(streams.shuffle_stream(numbers, seed=2))}) == 4
    with pytest.raises(ValueError, match="no items cannot give 5"):
        streams.shuffle_stream(Stream(0, lambda index: index), items=5)


def test_shards_share_out_a_stream_and_skip_and_repeat_are_slices() -> None:
    numbers = Stream(10, lambda index: index)
    assert sorted(n for rank in range(4) for n in streams.shard_stream(numbers, rank, 4)) == list(range(10))
    assert list(streams.skip_stream(numbers, 7)) == [7, 8, 9]
    assert list(streams.repeat_stream(numbers, 23)) == [n % 10 for n in range(23)]
    with pytest.raises(ValueError, match="rank = 4"):
        streams.shard_stream(numbers, 4, 4)


def test_a_clip_that_breaks_during_the_run_is_named_once_and_the_next_stands_in(tmp_path: Path, sound, caplog) -> None:
    put(tmp_path, {f"{n}.mp4": sound["video.mp4"] for n in "abc"} | {f"{n}.txt": n for n in "abc"})
    stream = streams.read_clips(listed(tmp_path))
    (tmp_path / "b.mp4").write_bytes(sound["video.mp4"][:-300])
    with caplog.at_level(logging.WARNING):
        assert [stream[n].captions[0] for n in (0, 1, 1, 2)] == ["a", "c", "c", "c"]
    assert len([record for record in caplog.records if "b.mp4 is left out: b.mp4 " in record.message]) == 1
    for n in "abc":
        (tmp_path / f"{n}.mp4").unlink()
    with pytest.raises(
        ValueError, match=r"None of the 3 clips of 9 frames of 32 x 48 decodes; .*b\.mp4 cannot be read"
    ):
        stream[2]


# The workflow


def test_a_folder_of_clips_trains_the_embedded_model(tmp_path: Path, sound) -> None:
    folder = put(tmp_path / "clips", {name: sound[name] for name in ("video.mp4", "other.mp4", "picture.png")})
    put(folder, {"video.txt": "a bar", "other.txt": "another", "picture.txt": "one", "text.mp4": "x", "text.txt": "x"})
    raw = json.loads(FINETUNE.read_text())
    raw["nodes"]["cuts"]["params"]["frames"] = 9
    raw["nodes"]["sized"]["params"] = {"height": 32, "width": 32}
    raw["nodes"]["batches"]["params"]["clips"] = 2
    raw["nodes"]["train"]["body"]["nodes"]["record"]["params"]["every"] = 1
    events: list = []
    inputs = {"folder": str(folder), "steps": 2}
    default_runtime().run(raw, inputs, out=tmp_path / "out", listen=events.append)
    metrics = [event for event in events if isinstance(event, Metric)]
    assert [(event.name, event.value) for event in metrics[:2]] == [("clips", 3), ("left_out", 1)]
    losses = [event.value for event in metrics if event.name == "loss"]
    assert len(losses) == 2
    assert all(0 < loss < 5 for loss in losses)
    names = {Path(event.file).name for event in events if isinstance(event, FileWritten)}
    assert names == {"clips.json", "clips.png", "dit.safetensors", "vae.safetensors", "text_encoder.safetensors"}
    for name in ("video.mp4", "other.mp4", "picture.png"):
        (folder / name).unlink()
    with pytest.raises(NodeFailed, match=r"files.*1 x does not decode \(text\.mp4 is no"):
        default_runtime().run(raw, inputs, out=tmp_path / "none")
    assert not (tmp_path / "none" / "tuned").exists()
