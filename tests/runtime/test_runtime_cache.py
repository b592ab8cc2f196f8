"""The memory cache: bytes, and who goes first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from kineograph.graph_runtime.cache import MemoryCache, nbytes
from kineograph.graph_runtime.sockets import Stream


@dataclass
class Clip:
    frames: torch.Tensor
    again: torch.Tensor


def near(value: object, wanted: int) -> bool:
    return wanted <= nbytes(value) <= wanted + 512


def test_bytes_are_those_of_storages_each_once():
    frames = torch.zeros(1000)
    assert near(frames[:10], 4000)
    assert near(Clip(frames, frames[1:]), 4000)
    assert near({"a": [frames, frames], "b": np.zeros(1000)}, 12_000)
    assert near(torch.nn.Linear(100, 10), 4040)
    assert near(Stream.of([frames]), 4000)
    assert near(Stream.of([frames]).map(lambda x: x), 4000)
    assert nbytes("x" * 1000) >= 1000
    assert nbytes(Clip) < 512


def test_a_value_that_holds_itself_has_bytes():
    ring: list[object] = []
    ring.append(ring)
    assert nbytes(ring) < 512


def test_the_cheapest_per_byte_goes_first():
    cache = MemoryCache(300)
    for key, size, seconds in (("cheap", 100, 1), ("dear", 100, 9), ("small", 50, 1)):
        cache.put(key, (), size, seconds)
    cache.put("new", (), 100, 5)
    assert cache.get("cheap") is None
    assert cache.get("dear") and cache.get("small") and cache.get("new")


def test_what_is_read_stays_longer():
    cache = MemoryCache(200)
    cache.put("a", (), 100, 1)
    for at in range(20):
        assert cache.get("a")
        cache.put(f"x{at}", (), 100, 0.9)
    for at in range(20):
        cache.put(f"y{at}", (), 100, 0.9)
    assert cache.get("a") is None


def test_what_is_larger_than_the_budget_is_not_kept():
    cache = MemoryCache(10)
    cache.put("a", (1,), 5, 1)
    cache.put("b", (2,), 11, 1)
    assert cache.get("a") and cache.get("b") is None
    cache.clear()
    assert (len(cache), cache.used) == (0, 0)


@given(
    st.integers(1, 200),
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 120), st.floats(0, 10), st.booleans()), max_size=60),
)
def test_the_cache_never_exceeds_its_budget(budget, actions):
    cache = MemoryCache(budget)
    for key, size, seconds, read in actions:
        if read:
            cache.get(key)
        else:
            cache.put(key, (key,), size, seconds)
            entry = cache.get(key)
            assert entry is None or entry.outputs == (key,)
        kept = [entry for name in "abcdefgh" if (entry := cache.get(name))]
        assert sum(entry.nbytes for entry in kept) == cache.used <= budget
