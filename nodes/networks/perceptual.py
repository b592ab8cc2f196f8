"""Distances between pictures beyond the squared error of pixels. Knows no video and no VAE."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from kineograph.nodes.networks.weights import load_weights

BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""The convolutions of VGG-16, as torchvision numbers its layers; a pooling stands before each block but the first."""
CONVOLUTION = re.compile(r"(?:net\.slice\d+|features)\.(\d+)\.(weight|bias)")
HEAD = re.compile(r"lin(\d)\.model\.1\.weight")


def laplacian_distance(made_BCHW: Tensor, real_BCHW: Tensor, levels: int) -> Tensor:
    """Lap1: the absolute differences at every level of a Laplacian pyramid, means summed (Bojanowski et al. 2018).

    A level holds what a blur takes away: edges first, then coarser form, and what is left last. The published factor of
    level j, 2^2j on sums, makes means of equal weight. The pyramid is linear, so that of the difference is enough.

    Args:
        made_BCHW: (B, C, H, W).
        real_BCHW: same shape.
        levels: of the pyramid; fewer where the picture is small.

    Returns:
        A number.
    """
    rest = made_BCHW - real_BCHW
    total = rest.new_zeros(())
    for _ in range(levels - 1):
        if min(rest.shape[-2:]) < 4:
            break
        coarse = _blurred(rest)[..., ::2, ::2]
        up = functional.interpolate(coarse, rest.shape[-2:], mode="bilinear", align_corners=False)
        total = total + (rest - up).abs().mean()
        rest = coarse
    return total + rest.abs().mean()


def _blurred(x_BCHW: Tensor) -> Tensor:
    """The binomial filter 1 4 6 4 1 along both sides (Burt & Adelson 1983)."""
    taps = x_BCHW.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (taps[:, None] * taps).expand(x_BCHW.shape[1], 1, 5, 5)
    return functional.conv2d(functional.pad(x_BCHW, (2, 2, 2, 2), mode="reflect"), kernel, groups=x_BCHW.shape[1])


class Features(nn.Module):
    """The perceptual distance of Zhang et al. 2018 (LPIPS) on a VGG-16 that somebody else has trained.

    The features after each block's last relu, normalised along channels; squared differences weighed by the learned
    heads where the file has them, else summed; mean over places, summed over blocks.
    """

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take the weights of the convolutions, and of the heads if they are there.

        Args:
            state: torchvision's names (features.0.weight) or LPIPS's (net.slice1.0.weight, lin0.model.1.weight).
            source: the file's name, for the error.

        Raises:
            ValueError: convolutions are missing, or do not follow one another.
        """
        super().__init__()
        # of ImageNet, in [0, 1]: what VGG was trained with
        self.register_buffer("mean_C11", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std_C11", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))
        found = {f"{m[1]}.{m[2]}": tensor for name, tensor in state.items() if (m := CONVOLUTION.fullmatch(name))}
        wanted = [f"{layer}.{part}" for block in BLOCKS for layer in block for part in ("weight", "bias")]
        if missing := [name for name in wanted if name not in found]:
            raise ValueError(f"{source} is no VGG-16: it has no features.{', features.'.join(missing)}.")
        self.blocks = nn.ModuleList()
        width = 3
        for block in BLOCKS:
            layers: list[nn.Module] = [] if block is BLOCKS[0] else [nn.MaxPool2d(2)]
            for layer in block:
                weight, bias = found[f"{layer}.weight"].float(), found[f"{layer}.bias"].float()
                if weight.shape[1:] != (width, 3, 3) or bias.shape != weight.shape[:1]:
                    found_shape = tuple(weight.shape)
                    raise ValueError(f"{source}: features.{layer} is {found_shape}, but takes {width} channels, 3 x 3.")
                convolution = nn.Conv2d(width, width := len(weight), 3, padding=1)
                convolution.load_state_dict({"weight": weight, "bias": bias})
                layers += [convolution, nn.ReLU()]
            self.blocks.append(nn.Sequential(*layers))
        heads = {int(m[1]): tensor.float() for name, tensor in state.items() if (m := HEAD.fullmatch(name))}
        if heads and sorted(heads) != list(range(len(BLOCKS))):
            raise ValueError(
                f"{source} has the heads lin{', lin'.join(map(str, sorted(heads)))}; LPIPS has lin0 to lin4."
            )
        self.heads = nn.ParameterList([heads[at] for at in sorted(heads)])
        self.eval().requires_grad_(False)

    def forward(self, made_BCHW: Tensor, real_BCHW: Tensor) -> Tensor:
        """The distance, mean over pictures.

        Args:
            made_BCHW: (B, 3, H, W), about [0, 1], at least 16 pixels a side.
            real_BCHW: same shape.
        """
        x, y = ((each - self.mean_C11) / self.std_C11 for each in (made_BCHW, real_BCHW))
        total = x.new_zeros(())
        for at, block in enumerate(self.blocks):
            x, y = block(x), block(y)
            squared = (functional.normalize(x, dim=1, eps=1e-10) - functional.normalize(y, dim=1, eps=1e-10)).square()
            total = total + (squared * self.heads[at] if len(self.heads) else squared).sum(1).mean()
        return total


def load_features(path: str) -> Features:
    """Read a safetensors file of a VGG-16, with LPIPS's heads or without.

    Raises:
        ValueError: no such file, one that lies, or no VGG-16.
    """
    state, _ = load_weights(path)
    return Features(state, path)
