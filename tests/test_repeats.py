"""Blocks that a trial does not walk again: it says what walking them would, and walks what is not alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kineograph.graph_runtime.memory.reads import Reads
from kineograph.trial import trial
from kineograph.trial.repeats import Repeats

WIDTH = 8


class Block(nn.Module):
    """As blocks of causal autoencoders are: it keeps what it saw in a list that it is given, and gives a view."""

    def __init__(self, width: int = WIDTH, factor: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.factor = factor
        self.walked = 0

    def forward(self, x: Tensor, seen: list[Any] | None = None, at: list[int] | None = None, **_: Any) -> Any:
        Block.count += 1
        wide = torch.cat([self.linear(x)] * 3) * self.factor
        if seen is not None and at is not None:
            before, seen[at[0]] = seen[at[0]], wide[:1].clone()
            at[0] += 1
            wide = wide if before is None else wide + before
        return wide[: len(x)]

    count = 0


class Stateful(Block):
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.walked += 1
        return super().forward(x, *args, **kwargs)


class Marking(Block):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mask += 1
        return super().forward(x)


class Network(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, *more: Any) -> Tensor:
        for block in self.blocks:
            x = block(x, *more)
        return x


def tried(use: Callable[[Network, Tensor], Any], *blocks: nn.Module, watched: bool = True) -> tuple[Any, ...]:
    """What a trial says of a use of a network on the meta device, and how many blocks it walked."""
    with torch.device("meta"):
        network = Network(*blocks)
    Block.count = 0
    with trial() as (one, ledger), torch.no_grad():
        repeats = Repeats(one, ledger)
        network = one.settle(network, repeats.watch if watched else lambda _: None)
        x = one.settle(torch.empty(5, WIDTH, device="meta"))
        ledger.hold([x, *network.parameters()])
        out = use(network, x)
        told = [(made.shape, made.stride(), made.storage_offset(), one.is_unknown(made)) for made in out]
        return told, ledger.peak, ledger.live, ledger.flops, Block.count


def meta(*blocks: Callable[[], nn.Module]) -> list[nn.Module]:
    with torch.device("meta"):
        return [block() for block in blocks]


def frames(network: Network, x: Tensor) -> list[Tensor]:
    """Seven frames, one after another, as Wan's VAE decodes them."""
    seen: list[Any] = [None] * 3
    out = [network(x, seen, [0]) for _ in range(7)]
    return [*out, *seen]


def test_equal_blocks_and_frames_are_walked_once_and_nothing_that_is_told_changes() -> None:
    *told, count = tried(frames, *meta(Block, Block, Block))
    *walked, all_of_them = tried(frames, *meta(Block, Block, Block), watched=False)
    assert told == walked
    assert all_of_them == 21
    assert count < 12


@pytest.mark.parametrize("kind", [Block, lambda: Block(factor=2.0)])
def test_blocks_of_other_numbers_are_other_blocks(kind) -> None:
    *told, count = tried(lambda network, x: [network(x)], *meta(Block, kind, Block, kind))
    *walked, _ = tried(lambda network, x: [network(x)], *meta(Block, kind, Block, kind), watched=False)
    assert told == walked
    assert count == (2 if kind is Block else 3)  # the first is given a whole tensor, the others a view


def test_a_block_that_keeps_something_or_marks_what_is_known_is_walked_each_time() -> None:
    assert tried(lambda network, x: [network(x), network(x)], *meta(Stateful, Stateful))[-1] == 4
    known = torch.zeros(3)
    tried(lambda network, x: [network(x, known)], *meta(Marking, Marking))
    assert known.tolist() == [2, 2, 2]


def test_where_gradients_are_recorded_every_block_is_walked() -> None:
    def use(network: Network, x: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            return [network(x)]

    assert tried(use, *meta(Block, Block))[-1] == 2


def test_known_numbers_that_a_block_is_given_tell_calls_apart() -> None:
    def use(network: Network, x: Tensor) -> list[Tensor]:
        return [network(x, None, None), *(network.blocks[0](x, mask=torch.full((2,), each)) for each in (1, 1, 2))]

    assert tried(use, *meta(Block))[-1] == 3


def test_those_who_listen_hear_of_every_block_and_weight_that_would_be_read() -> None:
    class Part:
        network = ""

        def __init__(self, name: str, weights: dict[str, Tensor], block: nn.Module) -> None:
            self.name, self.names, self.block = name, list(weights), block
            self.nbytes = sum(weight.nbytes for weight in weights.values())

        def modules(self) -> list[nn.Module]:
            return [self.block]

    class Resident:
        def __init__(self, network: Network) -> None:
            states = {f"blocks.{at}": block for at, block in enumerate(network.blocks)}
            self.parts = [
                Part(name, {f"{name}.{key}": each for key, each in block.state_dict(keep_vars=True).items()}, block)
                for name, block in states.items()
            ]

    entered = []
    for watched in (True, False):
        network = Network(*meta(Block, Block, Block))
        with trial() as (one, ledger), torch.no_grad():
            reads, repeats = Reads(), Repeats(one, ledger)
            network = one.settle(network, repeats.watch if watched else lambda _: None)
            network.resident = Resident(network)
            with reads.of(ledger):
                reads.adopt("model", network)
                reads.begin()
                x = one.settle(torch.empty(5, WIDTH, device="meta"))
                network(x), network(x)
                entered.append((list(reads._entered), reads._read, reads._outside))
    assert entered[0] == entered[1]
    assert len(entered[0][0]) == 6
