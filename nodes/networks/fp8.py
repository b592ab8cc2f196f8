"""Linear layers whose weights are kept in eight bits and read in sixteen. Knows no file and no model.

float8_e4m3fn (Micikevicius et al. 2022, arXiv 2209.05433) has 3 bits of mantissa and reaches to 448. Nothing is
computed in it: a layer's weight is cast each time that it is used, so that the numbers are those of the same weights
cast beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from kineograph.nodes.networks.mapped import FP8, Placed


class Fp8Linear(nn.Linear):
    """A linear layer that keeps its weight in eight bits."""

    def __init__(self, linear: nn.Linear, stored: torch.dtype, dtype: torch.dtype, factor: Tensor | None) -> None:
        """Stand in the place of a layer.

        Args:
            linear: the layer, on the meta device.
            stored: the dtype its weight is kept in.
            dtype: the dtype it computes in.
            factor: () float32 on the CPU, what its weight is to be multiplied by; None where a file has none.
        """
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = dtype
        self.factor = factor
        self._parameters["weight"] = nn.Parameter(linear.weight.to(stored), requires_grad=False)
        self._parameters["bias"] = linear.bias

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """Its shape and the dtype it computes in, at which networks look, and no numbers."""
        return torch.empty((self.out_features, self.in_features), dtype=self.dtype, device="meta")

    def read(self) -> Tensor:
        """The weight in the dtype it computes in."""
        stored = self._parameters["weight"]
        assert stored is not None
        weight = stored.to(self.dtype)
        return weight if self.factor is None else weight.mul_(self.factor)  # by a single number torch rounds once

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  as torch's is called
        return nn.functional.linear(input, self.read(), self.bias)


def keep_in_fp8(
    network: nn.Module,
    placed: Mapping[str, Placed],
    dtype: torch.dtype,
    kept: Collection[str],
    skipped: Collection[str],
) -> None:
    """Keep the weights of the linear layers in a network's lists of modules in eight bits; all else stays as it is.

    Args:
        network: on the meta device; it is changed.
        placed: where its weights stand in files: those in fp8 there keep their kind and their factor.
        dtype: that layers compute in.
        kept: parts of names that keep float32.
        skipped: patterns of names that its library does not keep in eight bits.
    """
    listed = [name for name, module in network.named_modules() if isinstance(module, nn.ModuleList)]
    for name, module in list(network.named_modules()):
        inside = any(name.startswith(f"{each}.") for each in listed)
        small = set(kept).isdisjoint(name.split(".")) and not any(re.search(each, name) for each in skipped)
        if type(module) is nn.Linear and inside and small:
            place = placed.get(f"{name}.weight")
            factor = None if place is None else place.scale
            if factor is not None and factor.numel() > 1:
                continue
            stored = place.dtype if place is not None and place.dtype in FP8 else torch.float8_e4m3fn
            above, _, leaf = name.rpartition(".")
            one = None if factor is None else factor.reshape(())
            setattr(network.get_submodule(above), leaf, Fp8Linear(module, stored, dtype, one))
