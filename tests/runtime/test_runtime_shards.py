"""Values whose numbers several processes hold: each writes a shard, any number reads them. All in one process."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kineograph.graph_runtime.codecs import Buffer, codec, rows_of
from kineograph.graph_runtime.store import Store, StoreFault

SHAPES = st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=3).map(tuple), min_size=1, max_size=3)


@dataclass
class Rows:
    """The rows that a process has of a table of numbers; all of them, where ``whole`` is None."""

    numbers: array
    shape: tuple[int, ...]
    whole: tuple[int, ...] | None


@codec(f"{__name__}.Rows")
class RowsCodec:
    def take_apart(self, value: Rows) -> Buffer:
        return Buffer("F64", value.shape, memoryview(value.numbers).cast("B"), value.whole)

    def put_together(self, parts: Buffer) -> Rows:
        return Rows(array("d", parts.data.tobytes()), parts.shape, parts.whole)


def table(shape: tuple[int, ...], first: float, part: int = 0, parts: int = 1) -> Rows:
    """A part of a table that counts from ``first``."""
    begin, end = rows_of(shape[0], part, parts)
    stride = prod(shape[1:])
    numbers = array("d", [first + at for at in range(begin * stride, end * stride)])
    return Rows(numbers, (end - begin, *shape[1:]), shape if parts > 1 else None)


def value(shapes: list[tuple[int, ...]], first: float, part: int = 0, parts: int = 1) -> tuple[object, ...]:
    """Tables, and between them what is not shared out."""
    return tuple(each for shape in shapes for each in (table(shape, first, part, parts), {"plain": table((2, 2), 7.0)}))


def keep(store: Store, key: str, shapes: list[tuple[int, ...]], parts: int, first: float = 0.0) -> None:
    """As so many processes do it."""
    with ExitStack() as held:
        shards = [held.enter_context(store.shard(value(shapes, first, part, parts))) for part in range(parts)]
        named = [shard for shard in shards if shard is not None]
        assert len(named) == parts
        store.put(key, value(shapes, first, 0, parts), 1.0, shards=named)


def files(store: Store) -> set[Path]:
    return set((store.folder / "objects").rglob("*.*"))


def index_and_shards(store: Store) -> list[Path]:
    """The file of a value, and its shards in their order."""
    index, text = next((path, text) for path in files(store) if b"shards" in (text := path.read_bytes()))
    shards = [path for path in files(store) if path.stem.encode() in text]
    return [index, *sorted(shards, key=lambda path: text.index(path.stem.encode()))]


def nbytes(store: Store) -> int:
    return sum(path.stat().st_size for path in files(store))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store", 10**5, least_seconds=0.0)
    yield store
    store.close()


@settings(max_examples=50, deadline=None)
@given(shapes=SHAPES, parts=st.integers(2, 5), readers=st.integers(1, 5))
def test_any_cut_is_read_as_any_other(tmp_path_factory, shapes, parts, readers):
    store = Store(tmp_path_factory.mktemp("store") / "s", least_seconds=0.0)
    keep(store, "a", shapes, parts)
    assert store.used() == nbytes(store)
    for reader in range(readers):
        found = store.get_part("a", reader, readers)
        assert found is not None
        assert found[0] == value(shapes, 0.0, reader, readers)
    store.close()


def test_shards_go_with_their_value_and_stay_while_another_has_them(store):
    keep(store, "a", [(6, 4)], parts=2)
    before = files(store)
    keep(store, "b", [(6, 4)], parts=2)
    assert files(store) == before
    keep(store, "b", [(6, 4)], parts=2, first=1.0)
    assert before < files(store)
    store.put("a", (1,), 1.0)
    assert not before & files(store)
    assert store.get("b")[0] == value([(6, 4)], 1.0)
    store.prune(0)
    assert not files(store)
    assert store.used() == 0


def test_shards_without_a_value_go_and_nothing_goes_for_them(store):
    keep(store, "a", [(500, 10)], parts=2)
    before = files(store)
    with store.shard(value([(500, 10)], 1.0, 0, 2)):
        assert len(files(store) - before) == 1
        assert store.get("a") is not None
    assert files(store) == before
    with pytest.raises(StoreFault, match=r"the store has room for 0\.1 MB"):
        keep(store, "b", [(2000, 10)], parts=2)  # each shard would have room
    assert files(store) == before
    keep(store, "b", [(800, 10)], parts=2)
    assert store.get("a") is None
    assert nbytes(store) == store.used() < 10**5


@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_a_shard_that_cannot_be_read_is_a_miss(store, harm):
    keep(store, "a", [(6, 4)], parts=2)
    _, shard, *_ = index_and_shards(store)
    if harm == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-1] + b"?")
        assert store.get_part("a", 1, 2) is not None  # the other process is to check it
    assert store.get_part("a", 0, 2) is None
    assert (store.used(), files(store)) == (0, set())


def test_a_missing_shard_takes_its_value_along_when_nobody_is_there(store):
    keep(store, "a", [(6, 4)], parts=3)
    keep(store, "b", [(6, 4)], parts=3, first=1.0)
    _, _, shard, _ = index_and_shards(store)
    shard.unlink()
    store.close()
    again = Store(store.folder, least_seconds=0.0)
    assert len([key for key in "ab" if again.get(key)]) == 1
    assert len(files(again)) == 4
    assert again.used() == nbytes(again)
    again.close()
