"""The store: what was put is got, whatever happens on the way: kills, damage, full disks, others at the same time."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kineograph.graph_runtime import codecs
from kineograph.graph_runtime.codecs import CannotKeep, codec, decode, encode
from kineograph.graph_runtime.sockets import Stream, socket
from kineograph.graph_runtime.store import Store, StoreFault
from kineograph.nodes import codecs as _tensors  # noqa: F401  registers the codec of tensors


@socket(family="box")
@dataclass(frozen=True)
class Crate:
    label: str
    tensor: torch.Tensor


def there_and_back(value):
    text, buffers = encode(value)
    copies = [codecs.Buffer(each.dtype, each.shape, memoryview(bytearray(each.data))) for each in buffers]
    return decode(text, copies)


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    store = Store(tmp_path / "store", 10**6, least_seconds=0.0)
    yield store
    store.close()


def put(store: Store, key: str, *outputs, seconds: float = 1.0) -> None:
    assert store.put(key, outputs, seconds)


def got(store: Store, key: str):
    found = store.get(key)
    return None if found is None else found[0]


def the_file(store: Store) -> Path:
    (path,) = (store.folder / "objects").glob("*/*.safetensors")
    return path


# --- codecs

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(PLAIN)
def test_plain_values_come_back_with_their_types(value):
    assert repr(there_and_back(value)) == repr(value)


@given(st.data())
def test_tensors_come_back_bit_for_bit_with_their_strides(data):
    dtypes = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    dtype = getattr(torch, data.draw(st.sampled_from(dtypes)))
    shape = data.draw(st.lists(st.integers(0, 4), max_size=4))
    tensor = torch.randint(-100, 100, shape).to(dtype)
    if shape:
        tensor = tensor.permute(data.draw(st.permutations(range(len(shape)))))
        tensor = tensor[data.draw(st.integers(0, 2)) :: data.draw(st.integers(1, 3))]
        tensor = tensor[None].expand(data.draw(st.integers(1, 3)), *tensor.shape)
    back = there_and_back(tensor)
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert back.stride() == tensor.stride() or tensor.numel() == 0 or tensor.is_contiguous()
    assert torch.equal(back, tensor)


def test_what_is_the_same_value_twice_is_so_again():
    tensor = torch.rand(3).requires_grad_()
    one, other, crate = there_and_back((tensor, tensor, Crate("a", tensor)))
    assert one is other is crate.tensor
    assert one.requires_grad
    stream = there_and_back(Stream.of([tensor, 2]))
    assert (len(stream), stream[1]) == (2, 2)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Path("x"),
        Stream(3, lambda index: index),
        {1, 2},
        torch.rand(2, dtype=torch.complex64),
        torch.nn.ReLU(),
    ],
)
def test_what_has_no_codec_is_refused(value):
    with pytest.raises(CannotKeep):
        encode([value])


def test_a_file_names_no_code_that_is_run():
    text, _ = encode(Crate("a", 1))
    for module, name in (("os", "system"), (__name__, "Crate.__init__"), (__name__, "put"), ("subprocess", "Popen")):
        with pytest.raises((ValueError, KeyError)):
            decode(text.replace(f'["{__name__}","Crate"]', f'["{module}","{name}"]'), [])


def test_a_class_has_one_codec():
    with pytest.raises(ValueError, match="has a codec already"):
        codec("torch.Tensor")(type("Other", (), {}))


# --- put, get, evict


def test_equal_outputs_are_stored_once(store):
    put(store, "a", torch.zeros(100))
    put(store, "b", torch.zeros(100))
    assert torch.equal(got(store, "a")[0], got(store, "b")[0])
    assert the_file(store).stat().st_size == store.used()
    put(store, "a", "another")
    put(store, "b", "another")
    assert got(store, "a") == got(store, "b") == ("another",)
    assert the_file(store).stat().st_size == store.used()


def test_the_cheapest_per_byte_goes_first_and_what_is_read_stays_longer(store):
    for key, seconds in (("cheap", 1.0), ("dear", 100.0), ("read", 1.1)):
        put(store, key, torch.rand(75_000), seconds=seconds)
    put(store, "d", torch.rand(75_000), seconds=1.0)
    assert got(store, "cheap") is None
    assert got(store, "dear")
    assert store.used() <= store.max_bytes
    for at in range(6):
        assert got(store, "read")
        put(store, f"new{at}", torch.rand(75_000), seconds=1.0)


def test_what_is_larger_than_the_store_is_a_sentence_and_removes_nothing(store):
    put(store, "a", 1)
    with pytest.raises(StoreFault, match=r"it has 4\.0 MB, the store has room for 1\.0 MB"):
        store.put("b", (torch.zeros(1_000_000),), 9.0)
    assert got(store, "a") == (1,)


def test_what_is_computed_faster_than_written_is_not_kept(tmp_path, store):
    assert not store.put("a", (torch.zeros(100_000),), 0.001)
    assert store.put("b", (torch.zeros(100_000),), 0.001, always=True)
    assert not Store(tmp_path / "other").worth(0.01)


ACTIONS = st.tuples(
    st.sampled_from(["put", "get", "forget", "reopen"]), st.sampled_from("abcdef"), st.integers(0, 60), st.floats(0, 9)
)


@settings(deadline=None, max_examples=25)
@given(actions=st.lists(ACTIONS, max_size=25))
def test_whatever_is_done_to_it_a_store_tells_no_lies_and_keeps_its_size(tmp_path_factory, actions):
    folder = tmp_path_factory.mktemp("store")
    store, truth = Store(folder, 4000, least_seconds=0.0), {}
    for action, key, length, seconds in actions:
        if action == "put":
            truth[key] = (torch.full((length, 5), float(length)), key)
            put(store, key, *truth[key], seconds=seconds + 1)
        elif action == "forget":
            store.forget("", below=1)
        elif action == "reopen":
            store.close()
            store = Store(folder, 4000, least_seconds=0.0)
        found = got(store, key)
        if found is not None:
            assert torch.equal(found[0], truth[key][0])
            assert found[1] == key
        files = list((folder / "objects").glob("*/*"))
        assert sum(path.stat().st_size for path in files) == store.used() <= 4000
    store.close()


# --- damage


@pytest.mark.parametrize("how", ["cut", "empty", "flipped", "longer", "gone", "header", "folder"])
def test_a_damaged_file_is_a_miss_and_heals(store, how):
    put(store, "a", torch.arange(1000.0), "x")
    path = the_file(store)
    raw = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    else:
        flipped = raw[:2000] + bytes([raw[2000] ^ 1]) + raw[2001:]
        header = (2**62).to_bytes(8, "little") + raw[8:]
        changed = {"cut": raw[:100], "empty": b"", "flipped": flipped, "longer": raw + b"x", "header": header}
        path.write_bytes(changed[how])
    assert got(store, "a") is None
    if how == "folder":
        path.rmdir()
    put(store, "a", torch.arange(1000.0), "x")
    assert torch.equal(got(store, "a")[0], torch.arange(1000.0))


def test_another_file_under_the_name_is_a_miss(store):
    put(store, "a", "one")
    first = the_file(store)
    put(store, "b", "two")
    (second,) = set((store.folder / "objects").glob("*/*")) - {first}
    first.write_bytes(second.read_bytes())
    assert (got(store, "a"), got(store, "b")) == (None, ("two",))


def test_what_a_newer_version_wrote_is_a_miss(store, monkeypatch):
    monkeypatch.setattr("kineograph.graph_runtime.objects.FORMAT", "kineograph-999")
    put(store, "a", 1)
    monkeypatch.undo()
    assert got(store, "a") is None


@pytest.mark.parametrize("how", ["deleted", "garbage", "empty", "other tables"])
def test_without_a_good_index_a_store_begins_anew(store, how):
    put(store, "a", 1)
    store.close()
    index = store.folder / "index.sqlite"
    index.unlink()
    if how == "garbage":
        index.write_bytes(b"this is no index" * 1000)
    elif how == "empty":
        index.touch()
    elif how == "other tables":
        with sqlite3.connect(index) as made:
            made.execute("CREATE TABLE results (x)")
        made.close()
    again = Store(store.folder, least_seconds=0.0)
    assert got(again, "a") is None
    assert list((store.folder / "objects").glob("*/*")) == []
    put(again, "a", 2)
    assert got(again, "a") == (2,)
    again.close()


def test_an_index_that_is_damaged_while_it_is_used_tells_no_lies(store):
    put(store, "a", 1)
    store._index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (store.folder / "index.sqlite").write_bytes(b"no index" * 5000)
    assert got(store, "a") in (None, (1,))
    with contextlib.suppress(StoreFault):
        store.put("b", (2,), 1.0)
    assert got(store, "b") in (None, (2,))
    store.close()
    again = Store(store.folder, least_seconds=0.0)
    assert (got(again, "a"), got(again, "b")) in ((None, None), (None, (2,)), ((1,), (2,)))
    again.close()


def test_folders_that_cannot_be_are_sentences(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreFault, match="cannot be used"):
        Store(tmp_path / "file")
    (tmp_path / "s" / "objects" / "ab").mkdir(parents=True)
    with pytest.raises(StoreFault, match="holds other things"):
        Store(tmp_path / "s")
    (tmp_path / "s" / "users.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreFault, match="not a database"):
        Store(tmp_path / "s")


def test_what_a_killed_process_left_is_swept_when_nobody_is_there(store):
    put(store, "a", 1)
    put(store, "b", 2)
    objects = store.folder / "objects"
    kept = the_one = next(objects.glob("*/*"))
    (objects / "x.tmp").write_text("half")
    (objects / "ab").mkdir(exist_ok=True)
    (objects / "ab" / f"ab{'0' * 38}.safetensors").write_text("no row")
    second = Store(store.folder, least_seconds=0.0)  # somebody is there: it may be writing just now
    assert (objects / "x.tmp").exists()
    second.close()
    store.close()
    the_one.unlink()
    third = Store(store.folder, least_seconds=0.0)
    assert len(list(objects.glob("**/*.*"))) == 1
    assert len([key for key in "ab" if got(third, key)]) == 1
    assert third.used() == sum(path.stat().st_size for path in objects.glob("*/*") if path != kept)
    third.close()


# --- processes

WRITER = """
import sys, random, resource
from array import array
from kineograph.graph_runtime.codecs import Buffer, codec
from kineograph.graph_runtime.store import Store, StoreFault

@codec("array.array")
class ArrayCodec:
    def take_apart(self, value):
        return Buffer("F64", (len(value),), memoryview(value).cast("B"))
    def put_together(self, parts):
        return array("d", parts.data.tobytes())

def check(store):
    for kept in store.rows():
        found = store.get(kept.key)
        if found is not None:  # another process may just have let it go
            numbers, n = found[0]
            assert kept.key == f"key{n}" and set(numbers) == {float(n)}, "a lie"

folder, seed, limit, count = sys.argv[1], *map(int, sys.argv[2:])
store, chance = Store(folder, 3_000_000, least_seconds=0.0), random.Random(seed)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
print("ready", flush=True)
for at in range(count):
    n = chance.randrange(1, 100)
    try:
        store.put(f"key{n}", (array("d", [n]) * (n * 500), n), 1.0 + chance.random())
    except StoreFault as fault:
        print(fault, flush=True)
    if at % 10 == 0:
        check(store)
check(store)
print(len(store.rows()), flush=True)
"""


def writer(folder: Path, seed: int, limit: int = 0, count: int = 10**9) -> subprocess.Popen:
    call = [sys.executable, "-c", WRITER, str(folder), str(seed), str(limit), str(count)]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check(folder: Path) -> int:
    """Everything that the index promises is there and right; returns how much that is."""
    out, err = writer(folder, seed=0, count=0).communicate(timeout=60)
    assert err == ""
    store = Store(folder)
    files = list((folder / "objects").rglob("*.*"))
    assert sum(path.stat().st_size for path in files) == store.used() <= 3_000_000
    count = len(store.rows())
    store.close()
    assert out == f"ready\n{count}\n"
    return count


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_two_writers_at_once_killed_at_any_moment_leave_a_store_without_lies(tmp_path):
    chance = random.Random(0)
    for turn in range(3):
        processes = [writer(tmp_path / "s", seed=turn * 2 + side) for side in (0, 1)]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            time.sleep(chance.uniform(0.1, 0.5))
            process.send_signal(signal.SIGKILL)
            assert process.communicate()[1] == ""
        assert check(tmp_path / "s") > 0


@pytest.mark.skipif(os.name == "nt", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("limit", [200_000, 100])
def test_a_disk_that_refuses_is_a_sentence_and_no_lie(tmp_path, limit):
    out, err = writer(tmp_path / "s", seed=1, limit=limit, count=30).communicate(timeout=60)
    assert err == ""
    assert "cannot be written" in out
    assert check(tmp_path / "s") > 0 or limit == 100


def test_many_may_open_a_new_store_at_the_same_moment(tmp_path: Path) -> None:
    def opened(folder: Path, together: threading.Barrier) -> None:
        together.wait()
        Store(folder).close()

    for attempt in range(10):
        with ThreadPoolExecutor(8) as pool:
            together = threading.Barrier(8)
            done = [pool.submit(opened, tmp_path / str(attempt), together) for _ in range(8)]
            assert [each.exception() for each in done] == [None] * 8
