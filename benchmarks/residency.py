"""Bytes that policies move to a device which is too small, on four graphs of video work. Simulated: no torch, no GPU.

    python benchmarks/residency.py

Sizes are those of Wan 2.2 A14B (two experts of 28.6 GB in bf16, UMT5-XXL of 11.4 GB, CLIP of 1.3 GB, a VAE of 0.5 GB),
or half of that in fp8. A network moves as a whole, or block by block. A host copy stays, so letting go costs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kineograph.graph_runtime.memory.residency import NEVER, POLICIES, Timeline, Use, moved, play

MB = 10**6
GB = 10**9
SIZES = {"text": 11_400, "clip": 1_300, "high": 28_600, "low": 28_600, "vae": 500, "draft": 2_840, "upscale": 10_000}
BLOCKS = {"text": 24, "clip": 1, "high": 40, "low": 40, "vae": 1, "draft": 30, "upscale": 30}
RESERVES = {"text": 1_000, "clip": 1_000, "high": 3_720, "low": 3_720, "vae": 5_000, "draft": 1_590, "upscale": 6_000}
"""Megabytes; those of the DiTs are estimates of 480p and 81 frames, the others are assumed."""

Passes = list[tuple[str, int]]
"""Networks, and how often each is read in a row."""

GRAPHS: dict[str, Passes] = {
    "two experts, one prompt": [("text", 1), ("high", 20), ("low", 20), ("vae", 1)],
    "eight prompts": [("text", 1), ("high", 20), ("low", 20), ("vae", 1)] * 8,
    "six segments": [("vae", 1), ("clip", 1), ("text", 1), ("high", 20), ("low", 20), ("vae", 1)] * 6,
    "draft, edit, upscale, x 4": [
        ("text", 1), ("draft", 30), ("vae", 2), ("low", 10), ("vae", 2), ("upscale", 8), ("vae", 1),
    ] * 4,
}  # fmt: skip


def timeline(passes: Passes, *, half: bool, whole: bool) -> Timeline:
    """What a graph reads: networks as a whole, or one block after another."""
    uses: list[Use] = []
    sizes: dict[str, int] = {}
    for name, times in passes:
        count = 1 if whole else BLOCKS[name]
        blocks = [f"{name}.{number:02}" for number in range(count)]
        size = SIZES[name] * MB // (2 if half and name not in ("vae", "clip") else 1) // count
        sizes |= dict.fromkeys(blocks, size)
        uses += [Use(frozenset([block]), RESERVES[name] * MB) for _ in range(times) for block in blocks]
    return Timeline(uses, sizes, lambda block: block.partition(".")[0])


def streamed(made: Timeline) -> int:
    """Bytes where nothing stays: each use brings what the one before did not leave."""
    pairs = zip([Use(frozenset()), *made.uses], made.uses, strict=False)
    return sum(made.bytes_of(use.blocks - before.blocks) for before, use in pairs)


def bound(made: Timeline, capacity: int) -> int:
    """Fewest bytes if any part of a block could go: Belady over its bytes. No schedule of whole blocks moves less."""
    there: dict[str, int] = {}
    total = 0
    for at, use in enumerate(made.uses):
        total += sum(made.sizes[block] - there.get(block, 0) for block in use.blocks)
        there |= {block: made.sizes[block] for block in use.blocks}
        over = sum(there.values()) + use.reserve - capacity
        for block in sorted(there.keys() - use.blocks, key=lambda block: -made.next_use(block, at)):
            gone = min(max(over, 0), there[block])
            there[block] -= gone
            over -= gone
    return total


def optimum(made: Timeline, capacity: int) -> int:
    """Fewest bytes, by trying every choice of what stays; for few blocks."""
    best = {frozenset[str](): 0}
    for at, use in enumerate(made.uses):
        after: dict[frozenset[str], int] = {}
        for resident, cost in best.items():
            cost += made.bytes_of(use.blocks - resident)
            useful = [block for block in resident - use.blocks if made.next_use(block, at) < NEVER]
            for kept in _subsets(useful):
                there = use.blocks.union(kept)
                if made.bytes_of(there) + use.reserve <= capacity:
                    after[there] = min(after.get(there, cost), cost)
        best = after
    return min(best.values())


def _subsets(blocks: list[str]) -> Iterator[Iterable[str]]:
    for count in range(len(blocks) + 1):
        yield from combinations(blocks, count)


def table(whole: bool, rows: list[tuple[str, int, bool]], least: Callable[[Timeline, int], int]) -> None:
    """Print a row for each graph, device and precision."""
    last = "optimum" if whole else "bound"
    names = ["stream all", "LRU", "watermark", "Belady", "size-aware Belady"]
    heads = ["graph", "device", *names, f"{last}, GB"]
    print("\n| " + " | ".join(heads) + " |\n|---|---|" + "---:|" * (len(heads) - 2))
    for graph, gigabytes, half in rows:
        made = timeline(GRAPHS[graph], half=half, whole=whole)
        capacity = gigabytes * GB
        fewest = least(made, capacity)
        found = {name: moved(made, play(made, capacity, policy)) for name, policy in POLICIES.items()}
        found["stream all"] = streamed(made)
        cells = [f"{found[name] / fewest:.2f}" for name in names]
        kind = ", fp8" if half else ""
        print(f"| {graph}{kind} | {gigabytes} GB | {' | '.join(cells)} | {fewest / GB:,.1f} |", flush=True)


def main() -> None:
    """Print both tables."""
    two, eight, six, draft = GRAPHS
    print("Networks as a whole; how many times as many bytes as the exact optimum:")
    sizes = [
        (two, 48, False),
        (eight, 48, False),
        (eight, 32, True),
        (six, 32, True),
        (draft, 24, True),
        (draft, 32, True),
    ]
    table(True, sizes, optimum)
    print("\nBlocks; how many times as many bytes as a bound that no schedule can be below:")
    small = [(two, 24, False), (two, 32, False), (eight, 24, True), (eight, 32, True), (six, 32, True)]
    table(False, [*small, (draft, 12, True), (draft, 24, True)], bound)


if __name__ == "__main__":
    main()
