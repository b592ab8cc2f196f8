"""A CUDA device: weights are copied on a stream of their own, beside what is computed. It has not been run so far.

Nothing chooses it yet: values of a run lie on the processor. Loads torch when it is made.
"""

from __future__ import annotations

from typing import Any

from kineograph.graph_runtime.memory.device import Device, HostBlock


class CudaDevice(Device):
    """One GPU.

    Args:
        capacity: bytes that weights and steps may take.
        index: which GPU, as torch counts them.
    """

    overlaps = True

    def __init__(self, capacity: int, index: int = 0) -> None:
        import torch

        super().__init__(capacity)
        self._cuda: Any = torch.cuda
        self._name = f"cuda:{index}"
        self._copies: Any = torch.cuda.Stream(self._name)

    def record(self) -> Any:
        """A mark behind all copies that have begun."""
        mark = self._cuda.Event()
        mark.record(self._copies)
        return mark

    def wait(self, mark: Any) -> None:
        """What is computed from now on waits for a mark; this thread does not."""
        self._cuda.current_stream(self._name).wait_event(mark)

    def _copy(self, block: HostBlock) -> None:
        with self._cuda.stream(self._copies):  # its memory is this stream's, also when it is given back
            block.bring(self._name)

    def _free(self, block: HostBlock) -> None:
        # what was computed with it may still run: copies that take its place wait for that
        self._copies.wait_stream(self._cuda.current_stream(self._name))
        with self._cuda.stream(self._copies):
            block.drop()
