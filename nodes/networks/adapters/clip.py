"""CLIP's image encoder: pictures to tokens that say what they show. Knows no files and no library.

CLIP: Radford et al. 2021. Wan 2.1's image-to-video models hear its last layer but one (Wan Team 2025, section 5.1).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of the pixels that CLIP was trained on, red, green and blue."""


class CLIPPictures(nn.Module):
    """An image encoder of CLIP's kind: the middle square of a picture, at the size it was trained on."""

    def __init__(self, network: Any, side: int) -> None:
        """Put an adapter around an encoder.

        Args:
            network: forward(pixels) gives ``hidden_states``.
            side: pixels of the square it looks at.
        """
        super().__init__()
        self.network = network
        self.side = side

    def forward(self, pictures_B3HW: Tensor) -> Tensor:
        """Look at pictures in [0, 1]: (B, L, D), L = 1 + (side / patch) squared."""
        pixels = middle_square(pictures_B3HW, self.side)
        mean, deviation = (pixels.new_tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
        dtype = self.network.embeddings.patch_embedding.weight.dtype
        seen = self.network(((pixels - mean) / deviation).to(dtype), output_hidden_states=True)
        return seen.hidden_states[-2].float()


def middle_square(pictures_B3HW: Tensor, side: int) -> Tensor:
    """The middle of pictures whose shorter side is made ``side`` pixels long: (B, 3, side, side)."""
    height, width = pictures_B3HW.shape[2:]
    size = [int(side * each / min(height, width)) for each in (height, width)]
    if size != [height, width]:
        pictures_B3HW = nn.functional.interpolate(
            pictures_B3HW, size, mode="bicubic", antialias=True, align_corners=False
        ).clamp(0, 1)
    top, left = ((each - side) // 2 for each in size)
    return pictures_B3HW[:, :, top : top + side, left : left + side]
