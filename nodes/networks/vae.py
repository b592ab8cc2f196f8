"""A small video autoencoder: 4 frames x 8 x 8 pixels to one latent cell and back; knows no world, no text, no graph.

Every chunk (frame 0 alone, then groups of 4 frames) is encoded without any view of the others, so the latent of a given
group of frames is the same wherever it stands; the decoder mixes neighbouring chunks, so that motion crosses smoothly.
A clip of 4k frames has groups alone; the decoder may also be told that the last one is followed by the first.

Letters: B batch, T frames, H W pixels, C channels, t h w latent sides, N = B * t chunks, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from kineograph.nodes.networks.frames import nearest_multiple
from kineograph.nodes.networks.patches import Time
from kineograph.nodes.networks.tiles import Parts, Tile, tiles
from kineograph.nodes.networks.vae_blocks import (
    CELL_FEATURES,
    PATCH,
    PATCH_FEATURES,
    SPACE_RATIO,
    TIME_RATIO,
    Decoder,
    Encoder,
    VAEConfig,
    merge,
    split,
)

CELLS_AT_ONCE = 192
"""Latent cells that go through the network at once, where a clip is streamed: see docs/performance.md."""


class VideoVAE(nn.Module):
    """A chunk-local video autoencoder: a linear shortcut, fixed at principal components, plus nets that start at zero.

    The posterior has one fixed variance (config.noise), so the KL term is an energy penalty on the mean, and the latent
    keeps the order of a PCA: form has much energy, detail little (reverse water-filling). One scale normalises it all.
    """

    centre_D: Tensor
    into_CD: Tensor
    outof_DC: Tensor
    mean_C: Tensor
    scale_C: Tensor

    def __init__(self, config: VAEConfig) -> None:
        """Build with a random shortcut, which :func:`initialise_from` sets, and nets that add nothing yet.

        Args:
            config: the sizes.
        """
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        axes_CD = nn.init.orthogonal_(torch.empty(config.channels, CELL_FEATURES))
        self.register_buffer("centre_D", torch.full((CELL_FEATURES,), 0.5))
        self.register_buffer("into_CD", axes_CD)
        self.register_buffer("outof_DC", axes_CD.T.clone())
        self.register_buffer("mean_C", torch.zeros(config.channels))
        self.register_buffer("scale_C", torch.ones(config.channels))

    def encode(self, video_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of a clip's latent, normalised: mean and log variance.

        Args:
            video_BCTHW: (B, 3, 1 + 4k, H, W) in [0, 1], or (B, 3, 4k, H, W): groups of 4 frames without a first one
                alone; H and W are multiples of 8.

        Returns:
            mean and logvar, each (B, c, 1 + k, H / 8, W / 8), or (B, c, k, H / 8, W / 8).

        Raises:
            ValueError: the clip's sides do not fit the latent's grid.
        """
        batch = len(video_BCTHW)
        patches_NhwD = _to_patches(video_BCTHW)
        shortcut_NhwC = functional.linear(merge(patches_NhwD) - self.centre_D, self.into_CD)
        raw_NhwC = shortcut_NhwC + self.encoder(patches_NhwD)
        normal_NhwC = (raw_NhwC - self.mean_C) / self.scale_C
        mean = normal_NhwC.unflatten(0, (batch, -1)).permute(0, 4, 1, 2, 3)
        deviation_C = self.config.noise / self.scale_C
        return mean, (2 * deviation_C.log()).to(mean.dtype).view(-1, 1, 1, 1).expand_as(mean)

    def encode_pieces(self, video_BCTHW: Tensor) -> Iterator[Tensor]:
        """The pieces of :meth:`encode_tiles`, of whole frames."""
        return self.encode_tiles(video_BCTHW)[0][1]

    def decode_pieces(self, latent_BCthw: Tensor, time: Time = "line") -> Iterator[Tensor]:
        """The pieces of :meth:`decode_tiles`, of whole frames."""
        return self.decode_tiles(latent_BCthw, time)[0][1]

    def encode_tiles(self, video_BCTHW: Tensor, tile: int = 0) -> Parts:
        """The mean of :meth:`encode`, a few chunks at a time: each is encoded without view of the others.

        Args:
            video_BCTHW: as for :meth:`encode`.
            tile: most pixels of a tile's side, 0 encodes whole frames. Any size gives the same numbers.

        Returns:
            tiles, and of each its pieces (B, c, n, H / 8, W / 8), in order, computed when they are asked for.

        Raises:
            ValueError: the clip's sides do not fit the latent's grid.
        """
        _check_clip(video_BCTHW)
        height, width = (side // SPACE_RATIO for side in video_BCTHW.shape[3:])
        cut = tiles(height, width, _cells(tile), _reach(self.config.encoder_blocks))
        chunks = _chunks_at_once(cut, len(video_BCTHW))
        return [(each, self._encoded_in_order(each.seen(video_BCTHW, SPACE_RATIO), chunks)) for each in cut]

    def _encoded_in_order(self, video_BCTHW: Tensor, chunks: int) -> Iterator[Tensor]:
        """The means of a clip of which a few chunks are encoded at once; the first may be one frame alone."""
        frames = video_BCTHW.shape[2]
        ends = range((frames - 1) % TIME_RATIO + 1 + TIME_RATIO * (chunks - 1), frames, TIME_RATIO * chunks)
        for start, stop in pairwise((0, *ends, frames)):
            yield self.encode(video_BCTHW[:, :, start:stop])[0]

    def decode_tiles(self, latent_BCthw: Tensor, time: Time = "line", tile: int = 0) -> Parts:
        """The clip of :meth:`decode`, a few chunks at a time, in memory that does not grow with the clip's length.

        Nothing is computed twice: each block keeps one chunk until its neighbour is there (:class:`Stage`).

        Args:
            latent_BCthw: as for :meth:`decode`.
            time: as for :meth:`decode`.
            tile: most pixels of a tile's side, 0 decodes whole frames. Any size gives the same numbers; small ones
                compute more of their surroundings twice.

        Returns:
            tiles, and of each its pieces (B, 3, n, 8h, 8w) in [0, 1], in order, computed when they are asked for.

        Raises:
            ValueError: the latent has another number of channels.
        """
        self._check_latent(latent_BCthw)
        height, width = latent_BCthw.shape[3:]
        cut = tiles(height, width, _cells(tile), _reach(self.config.decoder_blocks))
        chunks = _chunks_at_once(cut, len(latent_BCthw))
        return [(each, self._decoded_in_order(each.seen(latent_BCthw), time, chunks)) for each in cut]

    def _decoded_in_order(self, latent_BCthw: Tensor, time: Time, chunks: int) -> Iterator[Tensor]:
        """The clip of a latent that is read a few chunks at a time."""
        if latent_BCthw.shape[2] <= chunks:
            yield self.decode(latent_BCthw, time=time)
            return
        circle, at = time == "circle", 0
        start = -self.decoder.delay % latent_BCthw.shape[2] if circle else 0
        turned = (*latent_BCthw[:, :, start:].split(chunks, 2), *latent_BCthw[:, :, :start].split(chunks, 2))
        parts = (self._raw(part_BCthw) for part_BCthw in turned if part_BCthw.numel())

        def clip(correction_NhwD: Tensor) -> Tensor:
            nonlocal at
            own_BCthw = latent_BCthw[:, :, at : at + len(correction_NhwD) // len(latent_BCthw)]
            alone = time == "line" and not at
            at += own_BCthw.shape[2]
            return self._clip(self._raw(own_BCthw), correction_NhwD, alone).clamp_(0, 1)

        # not a loop, whose variable would keep each piece while the next one is made
        yield from map(clip, filter(Tensor.numel, self.decoder.in_order(parts, circle, chunks)))

    def decode(self, latent_BCthw: Tensor, clamp: bool = True, time: Time = "line") -> Tensor:
        """The clip of a normalised latent.

        Args:
            latent_BCthw: (B, c, t, h, w).
            clamp: keep the values in [0, 1]; training does not, since beyond the ends a clamp has no gradient.
            time: whether the first latent frame stands for one frame, all for groups, or all for those of a loop.

        Returns:
            (B, 3, 4t - 3, 8h, 8w), or (B, 3, 4t, 8h, 8w) where time is no line.

        Raises:
            ValueError: the latent has another number of channels.
        """
        self._check_latent(latent_BCthw)
        latent_BthwC = self._raw(latent_BCthw)
        video = self._clip(latent_BthwC, self.decoder(latent_BthwC, circle=time == "circle"), alone=time == "line")
        return video.clamp(0, 1) if clamp else video

    def _check_latent(self, latent_BCthw: Tensor) -> None:
        if latent_BCthw.ndim != 5 or latent_BCthw.shape[1] != self.config.channels:
            raise ValueError(
                f"The latent is {tuple(latent_BCthw.shape)}, but this VAE decodes "
                f"(B, {self.config.channels}, t, h, w). Take a latent made by the same VAE."
            )

    def _raw(self, latent_BCthw: Tensor) -> Tensor:
        """A latent as the encoder gave it, before it was normalised: (B, t, h, w, c)."""
        return latent_BCthw.permute(0, 2, 3, 4, 1) * self.scale_C + self.mean_C

    def _clip(self, latent_BthwC: Tensor, correction_NhwD: Tensor, alone: bool) -> Tensor:
        """The linear shortcut and the decoder's correction as a clip (B, 3, T, H, W)."""
        patches_NhwD = split(
            functional.linear(latent_BthwC.flatten(0, 1), self.outof_DC, self.centre_D), PATCH_FEATURES
        ).add_(correction_NhwD)
        return _from_patches(patches_NhwD, batch=len(latent_BthwC), alone=alone)


def initialise_from(vae: VideoVAE, videos: Sequence[Tensor] | Tensor) -> None:
    """Set the linear shortcut to the principal components of the clips' cells; training leaves it there.

    Component i of standard deviation s_i is scaled by 1 / sqrt(s_i), so that it arrives with deviation sqrt(s_i); then
    all by one number, so that the mean energy per channel is 1.

    Args:
        vae: a new autoencoder; its shortcut and normalisation are overwritten.
        videos: clips (B, 3, T, H, W) in [0, 1], one tensor or several of different sizes.
    """
    cells_MD = torch.cat([merge(_to_patches(video)).flatten(0, 2) for video in _as_list(videos)]).double()
    mean_D = cells_MD.mean(0)
    centred_MD = cells_MD - mean_D
    energy_D, axes_DD = torch.linalg.eigh(centred_MD.T @ centred_MD / len(centred_MD))
    channels = vae.config.channels
    axes_CD = axes_DD.flip(1)[:, :channels].T
    deviation_C = energy_D.flip(0)[:channels].clamp(min=1e-8).sqrt()
    gain_C = deviation_C.rsqrt() / deviation_C.mean().sqrt()
    with torch.no_grad():
        vae.centre_D.copy_(mean_D)
        vae.into_CD.copy_(axes_CD * gain_C[:, None])
        vae.outof_DC.copy_((axes_CD / gain_C[:, None]).T)
        vae.mean_C.zero_()
        vae.scale_C.fill_(1)


def measure(vae: VideoVAE, videos: Sequence[Tensor] | Tensor) -> None:
    """Normalise the latent: each channel's mean to 0, and all channels by one scale, so that their mean energy is 1.

    One scale, not one per channel: whitening gives detail of little energy as much weight as form in a diffusion loss.

    Args:
        vae: a trained autoencoder; only its buffers change.
        videos: clips (B, 3, T, H, W) in [0, 1], one tensor or several of different sizes.
    """
    with torch.no_grad():
        vae.mean_C.zero_()
        vae.scale_C.fill_(1)
        raw_CM = torch.cat([vae.encode(video)[0].transpose(0, 1).flatten(1).double() for video in _as_list(videos)], 1)
        vae.mean_C.copy_(raw_CM.mean(1))
        vae.scale_C.copy_(raw_CM.var(1).mean().sqrt().expand(vae.config.channels))


def _as_list(videos: Sequence[Tensor] | Tensor) -> list[Tensor]:
    return [videos] if isinstance(videos, Tensor) else list(videos)


def _to_patches(video_BCTHW: Tensor) -> Tensor:
    """Cut a clip into chunks and those into patches of 4 x 4 pixels: (B * t, H/4, W/4, 3 * 4 * 4 * 4).

    Of 1 + 4k frames, the first is repeated 4 times: alone, it is a chunk in which nothing moves.
    """
    _check_clip(video_BCTHW)
    frames = video_BCTHW.shape[2]
    first = video_BCTHW[:, :, : frames % TIME_RATIO].expand(-1, -1, TIME_RATIO * (frames % TIME_RATIO), -1, -1)
    chunks = torch.cat([first, video_BCTHW[:, :, frames % TIME_RATIO :]], dim=2)
    cut = chunks.unflatten(4, (-1, PATCH)).unflatten(3, (-1, PATCH)).unflatten(2, (-1, TIME_RATIO))
    return cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(0, 1)  # B C t f h p w q -> (B t) h w (C f p q)


def _check_clip(video_BCTHW: Tensor) -> None:
    """Refuse what does not fit the latent's grid."""
    if video_BCTHW.ndim != 5 or video_BCTHW.shape[1] != 3:
        raise ValueError(f"The clip is {tuple(video_BCTHW.shape)}, but the VAE encodes (B, 3, T, H, W).")
    frames, height, width = video_BCTHW.shape[2:]
    if frames % TIME_RATIO > 1 or height % SPACE_RATIO or width % SPACE_RATIO or not frames * height * width:
        sides = f"{nearest_multiple(height, SPACE_RATIO)} x {nearest_multiple(width, SPACE_RATIO)}"
        raise ValueError(
            f"The video has {frames} frames of {height} x {width} pixels (height x width), but this VAE encodes "
            f"{TIME_RATIO}k or 1 + {TIME_RATIO}k frames with sides that are multiples of {SPACE_RATIO}. The nearest is "
            f"{1 + (frames - 1) // TIME_RATIO * TIME_RATIO} frames of {sides}, which the node fit_video makes of it."
        )


def _from_patches(patches_NhwD: Tensor, batch: int, alone: bool) -> Tensor:
    """The inverse of :func:`_to_patches`; a first frame alone is the mean of its chunk."""
    parts = patches_NhwD.unflatten(0, (batch, -1)).unflatten(4, (3, TIME_RATIO, PATCH, PATCH))
    chunks = parts.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6).flatten(4, 5)  # B t h w C f p q -> B C t f H W
    if not alone:
        return chunks.flatten(2, 3)
    return torch.cat([chunks[:, :, 0].mean(2, keepdim=True), chunks[:, :, 1:].flatten(2, 3)], dim=2)


def _reach(blocks: tuple[int, int]) -> int:
    """How many cells away a place can be that (fine, coarse) blocks look at: each looks one place of its grid away."""
    fine, coarse = blocks
    return coarse - (-fine * PATCH // SPACE_RATIO)


def _cells(pixels: int) -> int:
    """The cells along a tile's side of so many pixels."""
    return pixels and max(1, pixels // SPACE_RATIO)


def _chunks_at_once(cut: list[Tile], batch: int) -> int:
    """How many chunks of the largest tile go through the network at once."""
    return max(1, CELLS_AT_ONCE // (batch * max(tile.cells for tile in cut)))
