"""Files in keys: the digest that stands in keys, found again while a file stays as it is."""

from __future__ import annotations

import os
import time
from pathlib import Path

from blake3 import blake3

from kineograph import default_runtime, digests
from kineograph.nodes import model

WORKFLOWS = Path(__file__).parent.parent / "workflows"


def test_the_digest_is_that_of_the_bytes_and_a_settled_file_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    assert digests.file_digest(path) == blake3(b"one").hexdigest(20)
    monkeypatch.setattr(digests, "COARSEST_CLOCK", -1e9)  # as if it had lain there for long
    opened = []
    monkeypatch.setattr(Path, "open", lambda self, mode, keep=Path.open: opened.append(self) or keep(self, mode))
    for _ in range(3):
        assert digests.file_digest(path) == blake3(b"one").hexdigest(20)
    assert opened == [path]
    before = path.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the time of the last change cannot be set back
    assert digests.file_digest(path) == blake3(b"two").hexdigest(20)


def test_another_process_knows_the_digest_of_a_large_file_while_it_stays_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    monkeypatch.setattr(digests, "COARSEST_CLOCK", -1e9)
    monkeypatch.setattr(digests, "LARGE", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read = []
    monkeypatch.setattr(digests, "_read", lambda path, keep=digests._read: read.append(path) or keep(path))
    for _ in range(2):
        digests._bytes_digest.cache_clear()  # as in a new process
        assert digests.file_digest(path) == blake3(b"one").hexdigest(20)
    assert read == [path]
    (known,) = (tmp_path / "cache/kineograph-digests").iterdir()
    known.write_text("no digest")
    digests._bytes_digest.cache_clear()
    assert digests.file_digest(path) == blake3(b"one").hexdigest(20)
    time.sleep(0.02)
    path.write_bytes(b"two")
    assert digests.file_digest(path) == blake3(b"two").hexdigest(20)
    assert len(read) == 3
    monkeypatch.setattr(digests, "REMEMBERED", 1)
    (tmp_path / "b.bin").write_bytes(b"three")
    digests.file_digest(tmp_path / "b.bin")
    assert len([*(tmp_path / "cache/kineograph-digests").iterdir()]) == 1


def test_a_file_that_has_just_changed_is_read_every_time(tmp_path):
    path = tmp_path / "a.bin"
    for content in (b"one", b"two", b"three"):
        path.write_bytes(content)
        os.utime(path, (1e9, 1e9))
        assert digests.file_digest(path) == blake3(content).hexdigest(20)


def test_a_size_that_a_model_cannot_have_is_told_before_its_files_are_opened():
    told = default_runtime().problems(WORKFLOWS / "text_to_video.json", {"height": 63, "frames": 18})
    assert [problem.place for problem in told] == ["noise"]
    assert "the nearest is 17" in told[0].message
    assert "the nearest is 64" in told[0].message
    foretold, spec = model.foretold_vae("flipbook"), model.load_vae().spec
    assert (foretold.time_ratio, foretold.space_ratio) == (spec.time_ratio, spec.space_ratio)
