"""Schedules of what stays on a device: laws that hold for all, brute force on small ones, and a device with a clock."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kineograph.graph_runtime.memory.device import OutOfMemory, SimDevice
from kineograph.graph_runtime.memory.residency import (
    NEVER,
    POLICIES,
    Schedule,
    Timeline,
    Use,
    moved,
    play,
    schedule,
)


def timeline(uses: list[set[str]], sizes: dict[str, int], reserves: list[int] | None = None) -> Timeline:
    given = reserves or [0] * len(uses)
    return Timeline([Use(frozenset(blocks), reserve) for blocks, reserve in zip(uses, given, strict=True)], sizes)


@st.composite
def timelines(draw: st.DrawFn, equal: bool = False, blocks: int = 6, length: int = 14) -> tuple[Timeline, int]:
    """Uses of up to three blocks with reserves, and a capacity in which the largest fits."""
    names = "abcdefgh"[: draw(st.integers(1, blocks))]
    sizes = {name: 1 if equal else draw(st.integers(1, 6)) for name in names}
    uses = draw(st.lists(st.sets(st.sampled_from(names), max_size=3), min_size=1, max_size=length))
    reserves = draw(st.lists(st.integers(0, 4), min_size=len(uses), max_size=len(uses)))
    made = timeline(uses, sizes, reserves)
    return made, made.need(made.largest()) + draw(st.integers(0, 6))


@dataclass(eq=False)
class Named:
    """A block of a toy network."""

    name: str
    nbytes: int
    network: str = "toy"

    def bring(self, device: str) -> None: ...

    def drop(self) -> None: ...


def follow(made: Timeline, capacity: int, plan: Schedule, device: SimDevice, seconds: float = 1.0) -> None:
    """Do what a schedule says, on a device that refuses what must not be."""
    blocks = {name: Named(name, size) for name, size in made.sizes.items()}
    for use, turn in zip(made.uses, plan.turns, strict=True):
        assert not set(turn.evict) & turn.pinned
        for name in turn.evict:
            device.drop(blocks[name])
        device.set_aside(use.reserve)
        for name in turn.upload:
            device.upload(blocks[name])
        mark = device.record()
        for name in turn.ahead:
            device.upload(blocks[name])
        device.wait(mark)
        device.use(blocks[name] for name in use.blocks)
        device.compute(seconds)
    assert device.peak <= capacity
    assert device.moved == plan.moved


@given(timelines(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_schedule_is_never_over_budget_and_uses_nothing_that_is_gone(case, prefetch) -> None:
    made, capacity = case  # feasible whenever the largest use fits
    for policy in POLICIES.values():
        turns = play(made, capacity, policy, prefetch=prefetch)
        follow(made, capacity, Schedule("", turns, moved(made, turns)), SimDevice(capacity))


@given(timelines())
@settings(max_examples=200, deadline=None)
def test_a_schedule_never_moves_more_than_lru_nor_less_than_each_block_once(case) -> None:
    made, capacity = case
    plan = schedule(made, capacity)
    assert plan.moved <= moved(made, play(made, capacity, POLICIES["LRU"]))
    assert plan.moved >= made.bytes_of({block for use in made.uses for block in use.blocks})


@given(timelines(equal=True))
@settings(max_examples=200, deadline=None)
def test_with_equal_blocks_both_beladys_move_no_more_than_lru(case) -> None:
    made, capacity = case
    lru = moved(made, play(made, capacity, POLICIES["LRU"]))
    plain = moved(made, play(made, capacity, POLICIES["Belady"]))
    assert plain == moved(made, play(made, capacity, POLICIES["size-aware Belady"])) <= lru


def fewest(made: Timeline, capacity: int) -> int:
    """The fewest bytes that any choice of victims moves, by trying them all."""
    best = {frozenset[str](): 0}
    for use in made.uses:
        after: dict[frozenset[str], int] = {}
        for resident, bytes_moved in best.items():
            cost = bytes_moved + made.bytes_of(use.blocks - resident)
            for count in range(len(resident) + 1):
                for kept in itertools.combinations(sorted(resident), count):
                    there = use.blocks.union(kept)
                    if made.bytes_of(there) + use.reserve <= capacity:
                        after[there] = min(after.get(there, math.inf), cost)
        best = after
    return min(best.values())


@given(timelines(equal=True, blocks=5, length=9))
@settings(max_examples=100, deadline=None)
def test_with_equal_blocks_the_schedule_is_the_best_there_is(case) -> None:
    made, capacity = case
    assert schedule(made, capacity).moved == fewest(made, capacity)


@given(timelines(blocks=4, length=8))
@settings(max_examples=150, deadline=None)
def test_with_any_blocks_the_schedule_is_within_twice_the_best_there_is(case) -> None:
    made, capacity = case
    assert fewest(made, capacity) <= schedule(made, capacity).moved <= 2 * fewest(made, capacity)


def test_a_scan_of_a_model_larger_than_the_device_keeps_a_prefix_and_streams_the_tail() -> None:
    names = [f"{number:02}" for number in range(10)]
    made = timeline([{name} for _ in range(20) for name in names], dict.fromkeys(names, 1))
    assert moved(made, play(made, 8, POLICIES["LRU"])) == 200  # each pass throws away what the next one needs first
    assert moved(made, play(made, 8, POLICIES["watermark"])) == 10 + 19 * 3  # seven stay, three share a place
    assert schedule(made, 8).moved <= 10 + 19 * 3


def test_the_next_use_is_found_and_dead_blocks_go_first() -> None:
    made = timeline([{"a"}, {"b"}, {"a"}, {"c"}, {"b"}], {"a": 1, "b": 1, "c": 1})
    assert [made.next_use("a", at) for at in range(4)] == [2, 2, NEVER, NEVER]
    assert play(made, 2, POLICIES["size-aware Belady"])[3].evict == ("a",)


def test_what_is_large_and_needed_late_goes_before_what_is_small_and_needed_later() -> None:
    sizes = {"large": 8, "small": 1, "other": 8, "new": 8}
    made = timeline([{"small"}, {"large"}, {"new"}, {"other"}, {"large"}, {"small"}], sizes)
    by_size = play(made, 17, POLICIES["size-aware Belady"])
    assert by_size[3].evict == ("new",)
    assert moved(made, by_size) == 8 + 1 + 8 + 8


def test_prefetch_hides_copies_behind_what_is_computed() -> None:
    names = list("abcdefgh")
    made = timeline([{name} for name in names], dict.fromkeys(names, 1))
    times: dict[bool, float] = {}
    for prefetch in (False, True):
        device = SimDevice(2, bandwidth=1.0)
        follow(made, 2, schedule(made, 2, prefetch=prefetch), device, seconds=1.0)
        times[prefetch] = device.clock()
    assert times == {False: 16.0, True: 9.0}  # only the first copy is waited for


def test_with_room_for_one_block_nothing_is_brought_ahead() -> None:
    made = timeline([{"a"}, {"b"}, {"a"}], {"a": 2, "b": 2})
    plan = schedule(made, 3, prefetch=True)
    assert [turn.ahead for turn in plan.turns] == [(), (), ()]
    follow(made, 3, plan, SimDevice(3))


def test_a_device_refuses_what_is_too_much_and_says_what_it_holds() -> None:
    device = SimDevice(10_000_000)
    device.upload(Named("a", 6_000_000, "dit"))
    with pytest.raises(
        OutOfMemory, match=r"5,000,000 bytes of vae. Of 10.0 MB: 6.0 MB weights of dit, 0.0 MB set aside"
    ):
        device.upload(Named("b", 5_000_000, "vae"))
    with pytest.raises(OutOfMemory, match="no room for 4,500,000 bytes to compute with"):
        device.set_aside(4_500_000)
    assert device.used() == 6_000_000


def test_a_block_must_be_there_and_its_copy_done_before_it_is_used() -> None:
    device, block = SimDevice(10), Named("a", 4)
    with pytest.raises(AssertionError, match="after it was dropped"):
        device.use([block])
    device.upload(block)
    with pytest.raises(AssertionError, match="before its copy has ended"):
        device.use([block])
    device.wait(device.record())
    device.use([block])
    assert device.clock() == 4.0
