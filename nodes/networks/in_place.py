"""Activations computed over what they read, where no gradient is taken: same bits, less memory. Knows no library.

A feed-forward layer is the widest place of a diffusion transformer: its GELU, out of place, holds that width twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class InPlaceGELU(nn.Module):
    """A linear layer and GELU (Hendrycks & Gimpel 2016) over what it gives."""

    def __init__(self, proj: nn.Module, approximate: str) -> None:
        """Take over a layer.

        Args:
            proj: the linear layer.
            approximate: none or tanh, as torch's GELU takes it.
        """
        super().__init__()
        self.proj = proj
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """The same as out of place, to the bit."""
        wide = self.proj(x)
        if wide.requires_grad:
            return nn.functional.gelu(wide, approximate=self.approximate)
        return torch.ops.aten.gelu_(wide, approximate=self.approximate)


def gelu_in_place(network: Any) -> None:
    """Put ours in the place of every GELU that holds its linear layer, as those of diffusers do.

    Args:
        network: it is changed; its weights keep their names.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child).__name__ == "GELU" and hasattr(child, "proj") and hasattr(child, "approximate"):
                setattr(module, name, InPlaceGELU(child.proj, child.approximate))
