"""A critic of clips and its losses: knows real and made frames, not what made them.

Letters: B batch, T frames, H W pixels, C channels, t h w the critic's grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The sizes of a :class:`Discriminator`.

    Attributes:
        width: features of the first layer; each layer down doubles them.
        depth: layers down, each halving height and width, and time too but for the first.
    """

    width: int = 16
    depth: int = 2


class Discriminator(nn.Module):
    """Says of every patch of a clip how real it looks (Isola et al. 2017, PatchGAN), in three dimensions.

    Pixels are unshuffled by 2 first: a convolution over three channels leaves a CPU idle. No normalisation mixes clips,
    so a clip's score is its own, and the gradient penalty is exact (Mescheder et al. 2018).
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        """Build with random weights.

        Args:
            config: the sizes.
        """
        super().__init__()
        self.config = config
        widths = [config.width * 2**layer for layer in range(config.depth + 1)]
        self.stem = nn.Conv3d(12, config.width, 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv3d(before, after, (3, 4, 4), stride=(1 if layer == 0 else 2, 2, 2), padding=1)
            for layer, (before, after) in enumerate(pairwise(widths))
        )
        self.head = nn.Conv3d(widths[-1], 1, 3, padding=1)

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        """How real each patch looks; above 0 is more real than made.

        Args:
            video_BCTHW: (B, 3, T, H, W), about [0, 1]; H and W are multiples of 2 ** (depth + 1).

        Returns:
            (B, 1, t, h, w).
        """
        frames = functional.pixel_unshuffle(2 * video_BCTHW.transpose(1, 2) - 1, 2)
        x = self.stem(frames.transpose(1, 2))
        for layer in self.down:
            x = layer(functional.leaky_relu(x, 0.2))
        return self.head(functional.leaky_relu(x, 0.2)).float()


def hinge_loss(real: Tensor, made: Tensor) -> Tensor:
    """The critic's loss: relu(1 - D(real)) and relu(1 + D(made)), means, halved (Lim & Ye 2017; Esser et al. 2021)."""
    return 0.5 * (functional.relu(1 - real).mean() + functional.relu(1 + made).mean())


def gradient_penalty(network: nn.Module, real_BCTHW: Tensor) -> Tensor:
    """R1: half the squared gradient of a real clip's score by its pixels, mean of clips (Mescheder et al. 2018, eq. 9).

    The score is the mean over patches, and the gradient's square is summed over the clip.
    """
    with torch.enable_grad():
        pixels = real_BCTHW.detach().requires_grad_(True)
        score = network(pixels).flatten(1).mean(1).sum()
        (slope,) = torch.autograd.grad(score, pixels, create_graph=True)
    return 0.5 * slope.square().flatten(1).sum(1).mean()


def balance(loss: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """The adaptive weight |d loss / d L| / (|d adversarial / d L| + 1e-4), at most 1e4 (Esser et al. 2021, eq. 7).

    Args:
        loss: of the reconstruction, with its history.
        adversarial: with its history.
        last_layer: L, the decoder's last weight.

    Returns:
        A number without history.
    """
    norms = [torch.autograd.grad(each, last_layer, retain_graph=True)[0].norm() for each in (loss, adversarial)]
    return (norms[0] / (norms[1] + 1e-4)).clamp(max=1e4).detach()
