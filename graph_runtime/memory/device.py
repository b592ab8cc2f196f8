"""A device with a ledger: how much it may hold, what it holds, what is set aside to compute with. Imports no torch.

``SimDevice`` moves nothing and has a clock of its own, so that schedules can be tested to the byte and the second.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Protocol


class OutOfMemory(MemoryError):
    """A device would hold more than it may. Its text is a sentence with the numbers."""


class HostBlock(Protocol):
    """Weights that have a copy on the host: a few layers of a network."""

    @property
    def network(self) -> str:
        """Of what it is a part, for people."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that it takes on a device."""
        ...

    def bring(self, device: str) -> None:
        """Put it on a device, as torch names it."""
        ...

    def drop(self) -> None:
        """Let go of the device's copy."""
        ...


class Device:
    """The ledger that all devices have; this one is the processor, whose blocks are there when ``upload`` returns.

    Attributes:
        overlaps: copies run beside what is computed.
        peak: the most that was used at once. uploads: how many blocks came. moved: their bytes.
    """

    overlaps = False

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: dict[HostBlock, None] = {}
        self._blocks = self._aside = 0
        self.peak = self.uploads = self.moved = 0

    def capacity(self) -> int:
        """Bytes that it may hold."""
        return self._capacity

    def used(self) -> int:
        """Bytes that it holds, with what is set aside."""
        return self._blocks + self._aside

    def held(self) -> list[HostBlock]:
        """The blocks on it; that used longest ago comes first."""
        return list(self._held)

    def set_aside(self, nbytes: int) -> None:
        """Keep so much free of blocks, to compute with.

        Raises:
            OutOfMemory: blocks have the room.
        """
        self._check(self._blocks + nbytes, f"{nbytes:,} bytes to compute with")
        self._aside = nbytes
        self._note()

    def upload(self, block: HostBlock) -> None:
        """Begin to bring a block; ``wait`` for a mark that was recorded after it before it is read.

        Raises:
            OutOfMemory: there is no room for it.
        """
        assert block not in self._held, "it is there"
        self._check(self.used() + block.nbytes, f"{block.nbytes:,} bytes of {block.network}")
        self._held[block] = None
        self._blocks += block.nbytes
        self.uploads += 1
        self.moved += block.nbytes
        self._note()
        self._copy(block)

    def use(self, blocks: Iterable[HostBlock]) -> None:
        """Blocks are read now: they must be there."""
        for block in blocks:
            assert block in self._held, "a block is used after it was dropped"
            del self._held[block]
            self._held[block] = None

    def drop(self, block: HostBlock) -> None:
        """Let go of a block."""
        del self._held[block]
        self._blocks -= block.nbytes
        self._free(block)

    def forget(self, block: HostBlock) -> None:
        """A block's network is no more, or takes care of its weights itself from now on."""
        if self._held.pop(block, self) is None:
            self._blocks -= block.nbytes

    def record(self) -> Any:
        """A mark behind all copies that have begun."""
        return None

    def wait(self, mark: Any) -> None:
        """Do not read on before a mark."""

    def clock(self) -> float:
        """Seconds, since some beginning."""
        return time.perf_counter()

    def report(self) -> str:
        """The ledger as a sentence."""
        networks: dict[str, int] = {}
        for block in self._held:
            networks[block.network] = networks.get(block.network, 0) + block.nbytes
        parts = [f"{_mb(nbytes)} weights of {name}" for name, nbytes in networks.items()]
        parts.append(f"{_mb(self._aside)} set aside to compute with")
        return f"Of {_mb(self._capacity)}: {', '.join(parts)}; {_mb(self._capacity - self.used())} free."

    def _check(self, nbytes: int, what: str) -> None:
        if nbytes > self._capacity:
            raise OutOfMemory(f"There is no room for {what}. {self.report()}")

    def _note(self) -> None:
        self.peak = max(self.peak, self.used())

    def _copy(self, block: HostBlock) -> None:
        block.bring("cpu")

    def _free(self, block: HostBlock) -> None:
        block.drop()


class SimDevice(Device):
    """A device that holds nothing: a ledger and a clock. Copies run one after another, beside what is computed.

    It refuses what a real one would not notice: reading a block before its copy has ended.

    Args:
        capacity: bytes.
        bandwidth: bytes a second that a copy moves.
    """

    overlaps = True

    def __init__(self, capacity: int, bandwidth: float = 1.0) -> None:
        super().__init__(capacity)
        self._bandwidth = bandwidth
        self._now = self._copied = 0.0
        self._ready: dict[HostBlock, float] = {}

    def use(self, blocks: Iterable[HostBlock]) -> None:
        """As for any device; their copies must have ended, too."""
        blocks = list(blocks)
        super().use(blocks)
        assert all(self._ready[block] <= self._now for block in blocks), "a block is used before its copy has ended"

    def record(self) -> float:
        """When the last copy that has begun will have ended."""
        return self._copied

    def wait(self, mark: float) -> None:
        """Time goes on to a mark."""
        self._now = max(self._now, mark)

    def clock(self) -> float:
        """Seconds since it was made."""
        return self._now

    def compute(self, seconds: float) -> None:
        """Time goes on while something is computed."""
        self._now += seconds

    def _copy(self, block: HostBlock) -> None:
        self._copied = max(self._copied, self._now) + block.nbytes / self._bandwidth
        self._ready[block] = self._copied

    def _free(self, block: HostBlock) -> None:
        del self._ready[block]


def _mb(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.1f} MB"
