"""Two diffusion transformers as one: who is asked, the noise level says. Knows no one network.

Wan 2.2 A14B (Wan-Video/Wan2.2): an expert for high noise, where a clip gets its layout, and one for low, for detail.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from kineograph.nodes.networks.adapters.common import AdaptedDiT
from kineograph.nodes.networks.dit import Batch


class Experts(AdaptedDiT):
    """Asks the first of two networks about clips whose highest level is at the boundary or above, else the second."""

    def __init__(self, high: AdaptedDiT, low: AdaptedDiT, boundary: float) -> None:
        """Put two adapters together; they take and give the same.

        Args:
            high: for noise levels from the boundary to 1.
            low: for those below.
            boundary: in [0, 1].
        """
        super().__init__(nn.ModuleList([high, low]), high.config)
        self.boundary = boundary
        self.name = high.name  # type: ignore[misc]  of the model, for errors

    def ask(self, x_1CthW: Tensor, levels_K: Tensor, text_1LE: Tensor, mask_1L: Tensor, batch: Batch) -> Tensor:
        """See :meth:`AdaptedDiT.ask`."""
        below = bool(levels_K.max() < self.boundary)
        return self.network[below].ask(x_1CthW, levels_K, text_1LE, mask_1L, batch)

    @contextmanager
    def _recomputing(self, wanted: bool) -> Iterator[None]:
        with ExitStack() as both:
            for expert in self.network:
                both.enter_context(expert._recomputing(wanted))
            yield
