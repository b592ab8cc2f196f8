"""What adapters of causal autoencoders share: 1 + rk frames in [0, 1], latents shifted and scaled. Knows no network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kineograph.nodes.networks.patches import Time
from kineograph.nodes.networks.tiles import Parts, Tile, blended

BORROWED = 3
"""Latent frames that a loop is decoded behind: as many as a causal decoder of Wan's kind looks back over, nearly."""
AROUND = 32
"""Pixels that a tile sees beside its own: two are blended over twice as many, as those of diffusers are."""


class CausalVAE(nn.Module):
    """A library's autoencoder that begins with one frame alone, with the forward of ours."""

    name: ClassVar[str] = ""

    def __init__(self, network: Any) -> None:
        """Put an adapter around a network of the library."""
        super().__init__()
        self.network: Any = network

    @property
    def ratio(self) -> int:
        """r, frames per latent frame but the first."""
        return self.network.config.temporal_compression_ratio

    @property
    def shown_scale(self) -> float:
        """What a latent is multiplied by before a DiT is shown it beside the noise."""
        return 1.0

    @property
    def space(self) -> int:
        """Pixels per latent cell, along each side."""
        raise NotImplementedError

    def moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """What a latent is normalised by, and where ``like`` is: shift and scale, which (B, C, t, h, w) broadcasts."""
        raise NotImplementedError

    def clip(self, raw_BCthw: Tensor) -> Tensor:
        """The clip of a latent that is not normalised, in [-1, 1]."""
        return self.network.decode(self.plain(raw_BCthw), return_dict=False)[0]

    def clips(self, raw_BCthw: Tensor) -> Iterator[Tensor]:
        """The clip of a latent that is not normalised, in pieces in order; one, where a network knows no others."""
        yield self.clip(raw_BCthw)

    def encode(self, video_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of a clip's latent, normalised: mean and log variance.

        Args:
            video_BCTHW: (B, 3, 1 + rk, H, W) in [0, 1].

        Returns:
            mean and logvar, each (B, c, 1 + k, h, w).

        Raises:
            ValueError: another number of frames.
        """
        check_frames(video_BCTHW.shape[2], self.ratio)
        posterior = self.network.encode(self.plain(2 * video_BCTHW - 1)).latent_dist
        shift, scale = self.moments(posterior.mean)
        return (posterior.mean.float() - shift) / scale, posterior.logvar.float() - 2 * scale.log()

    def decode(self, latent_BCthw: Tensor, *, time: Time = "line") -> Tensor:
        """The clip of a normalised latent.

        A loop is decoded behind its own last latent frames, whose clip is left out: every frame then has frames before
        it, and none is one alone.

        Args:
            latent_BCthw: (B, c, t, h, w).
            time: a line, or a circle.

        Returns:
            (B, 3, 1 + r (t - 1), H, W) in [0, 1], or (B, 3, r t, H, W) of a circle.

        Raises:
            ValueError: time is of groups alone.
        """
        return torch.cat(list(self.decode_pieces(latent_BCthw, time)), dim=2)

    def decode_pieces(self, latent_BCthw: Tensor, time: Time = "line") -> Iterator[Tensor]:
        """The clip of :meth:`decode` in pieces, each made when it is asked for.

        Args:
            latent_BCthw: as for :meth:`decode`.
            time: as for :meth:`decode`.

        Yields:
            (B, 3, n, H, W) in [0, 1], in order.
        """
        check_begins(time, self.ratio)
        before = borrowed(latent_BCthw, time)
        left_out = 1 + self.ratio * (before.shape[2] - 1) if before.shape[2] else 0
        shift, scale = self.moments(latent_BCthw)
        for clip in self.clips(torch.cat([before, latent_BCthw], dim=2) * scale + shift):
            if clip.shape[2] > left_out:
                yield pixels(clip[:, :, left_out:])
            left_out = max(0, left_out - clip.shape[2])

    def encode_tiles(self, video_BCTHW: Tensor, tile: int) -> Parts:
        """The mean of :meth:`encode`, of a tile after another; tiles are blended over what two of them see.

        Networks of this kind look at the whole frame, so the numbers are not those of the whole, but near.

        Args:
            video_BCTHW: as for :meth:`encode`.
            tile: most pixels of a tile's side.

        Returns:
            tiles, and of each its pieces (B, c, n, h, w) in order, computed when they are asked for.
        """
        height, width = (side // self.space for side in video_BCTHW.shape[3:])
        return [(each, self._encoded(each.seen(video_BCTHW, self.space))) for each in self._cut(height, width, tile)]

    def decode_tiles(self, latent_BCthw: Tensor, time: Time, tile: int) -> Parts:
        """The clip of :meth:`decode`, of a tile after another, as :meth:`encode_tiles` does.

        Args:
            latent_BCthw: as for :meth:`decode`.
            time: as for :meth:`decode`.
            tile: most pixels of a tile's side.

        Returns:
            tiles, and of each its pieces (B, 3, n, H, W) in [0, 1] in order, computed when they are asked for.
        """
        height, width = latent_BCthw.shape[3:]
        return [(each, self._decoded(each.seen(latent_BCthw), time)) for each in self._cut(height, width, tile)]

    def _cut(self, height: int, width: int, tile: int) -> list[Tile]:
        size = max(1, tile // self.space)
        return blended(height, width, size, min(AROUND // self.space, size // 4))

    def _encoded(self, video_BCTHW: Tensor) -> Iterator[Tensor]:
        yield self.encode(video_BCTHW)[0]

    def _decoded(self, latent_BCthw: Tensor, time: Time) -> Iterator[Tensor]:
        yield self.decode(latent_BCthw, time=time)

    def plain(self, x: Tensor) -> Tensor:
        """A tensor in the numbers of the network's weights."""
        return x.to(next(self.network.parameters()).dtype)


def borrowed(latent_BCthw: Tensor, time: Time) -> Tensor:
    """The latent frames that a loop is decoded behind, its own last ones; none of a line."""
    return latent_BCthw[:, :, -BORROWED:] if time == "circle" else latent_BCthw[:, :, :0]


def check_begins(time: Time, ratio: int) -> None:
    """Whether a causal autoencoder can decode a latent of this time.

    Raises:
        ValueError: it is of groups alone.
    """
    if time == "groups":
        raise ValueError(
            "This VAE is causal: what it decodes begins with one frame alone. Give latent_noise 1 + a multiple of "
            f"{ratio} frames."
        )


def check_frames(frames: int, ratio: int) -> None:
    """Whether a causal autoencoder can encode so many frames.

    Raises:
        ValueError: they are not 1 + a multiple of its time ratio.
    """
    if left := (frames - 1) % ratio:
        raise ValueError(
            f"This VAE is causal and begins with one frame alone: it encodes 1 + a multiple of {ratio} frames, and not "
            f"{frames}. trim_video to {frames - left} frames makes it fit."
        )


def pixels(clip: Tensor) -> Tensor:
    """From [-1, 1], and what lies beyond, to [0, 1] in float32."""
    return (clip.float() / 2 + 0.5).clamp(0, 1)
