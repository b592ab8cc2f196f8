"""A small video autoencoder: 4 frames x 8 x 8 pixels to one latent cell and back; knows no world, no text, no graph.

Every chunk (frame 0 alone, then groups of 4 frames) is encoded without any view of the others, so the latent of a given
group of frames is the same wherever it stands; the decoder mixes neighbouring chunks, so that motion crosses smoothly.
A clip of 4k frames has groups alone; the decoder may also be told that the last one is followed by the first.

Letters: B batch, T frames, H W pixels, C channels, t h w latent sides, N = B * t chunks, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kineograph.nodes.networks.frames import nearest_multiple
from kineograph.nodes.networks.patches import Time

TIME_RATIO = 4
SPACE_RATIO = 8
PATCH = 4  # the finest grid any layer sees: one place per 4 x 4 pixels
PATCH_FEATURES = 3 * TIME_RATIO * PATCH * PATCH
CELL_FEATURES = 3 * TIME_RATIO * SPACE_RATIO * SPACE_RATIO


@dataclass(frozen=True)
class VAEConfig:
    """The sizes of a :class:`VideoVAE`.

    Attributes:
        channels: numbers per latent cell.
        fine: features on the grid of 4 pixels.
        coarse: features on the grid of 8 pixels, that of the latent.
        encoder_blocks: residual blocks of the encoder, (fine, coarse).
        decoder_blocks: residual blocks of the decoder, (fine, coarse).
        noise: standard deviation of the posterior in training, before :func:`measure` scales the latent.
    """

    channels: int = 8
    fine: int = 64
    coarse: int = 192
    encoder_blocks: tuple[int, int] = (1, 3)
    decoder_blocks: tuple[int, int] = (2, 4)
    noise: float = 0.1

    def __post_init__(self) -> None:
        """Take lists for tuples, as JSON has them."""
        object.__setattr__(self, "encoder_blocks", tuple(self.encoder_blocks))
        object.__setattr__(self, "decoder_blocks", tuple(self.decoder_blocks))

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"encoder_blocks": list(self.encoder_blocks), "decoder_blocks": list(self.decoder_blocks)}

    @property
    def time_ratio(self) -> int:
        """Frames per latent frame after the first, which stands for one frame alone."""
        return TIME_RATIO

    @property
    def space_ratio(self) -> int:
        """Pixels per latent cell along each side."""
        return SPACE_RATIO


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
        shortcut_NhwC = functional.linear(_merge(patches_NhwD) - self.centre_D, self.into_CD)
        raw_NhwC = shortcut_NhwC + self.encoder(patches_NhwD)
        normal_NhwC = (raw_NhwC - self.mean_C) / self.scale_C
        mean = normal_NhwC.unflatten(0, (batch, -1)).permute(0, 4, 1, 2, 3)
        deviation_C = self.config.noise / self.scale_C
        return mean, (2 * deviation_C.log()).to(mean.dtype).view(-1, 1, 1, 1).expand_as(mean)

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
        if latent_BCthw.ndim != 5 or latent_BCthw.shape[1] != self.config.channels:
            raise ValueError(
                f"The latent is {tuple(latent_BCthw.shape)}, but this VAE decodes "
                f"(B, {self.config.channels}, t, h, w). Take a latent made by the same VAE."
            )
        latent_BthwC = latent_BCthw.permute(0, 2, 3, 4, 1) * self.scale_C + self.mean_C
        shortcut_NhwD = functional.linear(latent_BthwC.flatten(0, 1), self.outof_DC, self.centre_D)
        patches_NhwD = _split(shortcut_NhwD, PATCH_FEATURES) + self.decoder(latent_BthwC, circle=time == "circle")
        video = _from_patches(patches_NhwD, batch=len(latent_BCthw), alone=time == "line")
        return video.clamp(0, 1) if clamp else video


class Encoder(nn.Module):
    """The encoder's correction to the linear shortcut, one chunk at a time: (N, H/4, W/4, 192) -> (N, H/8, W/8, c)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        fine, coarse = config.encoder_blocks
        self.stem = nn.Linear(PATCH_FEATURES, config.fine)
        self.fine = nn.ModuleList(Block(config.fine) for _ in range(fine))
        self.down = nn.Linear(4 * config.fine, config.coarse)
        self.coarse = nn.ModuleList(Block(config.coarse) for _ in range(coarse))
        self.head = _zeroed(nn.Linear(config.coarse, config.channels))

    def forward(self, patches_NhwD: Tensor) -> Tensor:
        x_NhwD = self.stem(patches_NhwD)
        for block in self.fine:
            x_NhwD = block(x_NhwD)
        x_NhwD = self.down(_merge(x_NhwD))
        for block in self.coarse:
            x_NhwD = block(x_NhwD)
        return self.head(x_NhwD)


class Decoder(nn.Module):
    """The decoder's correction to the linear shortcut, all chunks at once: (B, t, h, w, c) -> (N, 2h, 2w, 192)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        fine, coarse = config.decoder_blocks
        self.stem = nn.Linear(config.channels, config.coarse)
        self.coarse = nn.ModuleList(Block(config.coarse) for _ in range(coarse))
        self.up = nn.Linear(config.coarse, 4 * config.fine)
        self.fine = nn.ModuleList(Block(config.fine) for _ in range(fine))
        self.head = _zeroed(nn.Linear(config.fine, PATCH_FEATURES))
        self.fine_features = config.fine

    def forward(self, latent_BthwC: Tensor, circle: bool) -> Tensor:
        batch = len(latent_BthwC)
        x_NhwD = self.stem(latent_BthwC.flatten(0, 1))
        for block in self.coarse:
            x_NhwD = block(x_NhwD, batch, circle)
        x_NhwD = _split(self.up(x_NhwD), self.fine_features)
        for block in self.fine:
            x_NhwD = block(x_NhwD, batch, circle)
        return self.head(x_NhwD)


class Block(nn.Module):
    """A residual block: a 3 x 3 depthwise convolution, then a two-layer net per place (Liu et al. 2022, ConvNeXt).

    Told the number of clips, a quarter of the features come from the chunk before and a quarter from the one after
    (Lin et al. 2019, TSM): mixing in time at no arithmetic. Beyond the ends are zeros, or in a circle the other end.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.mix = nn.Conv2d(features, features, 3, padding=1, groups=features)
        self.widen = nn.Linear(features, 2 * features)
        self.narrow = _zeroed(nn.Linear(2 * features, features))

    def forward(self, x_NhwD: Tensor, batch: int | None = None, circle: bool = False) -> Tensor:
        inner = self.norm(x_NhwD)
        if batch is not None:
            inner = _shift_in_time(inner, batch, circle)
        inner = self.mix(inner.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x_NhwD + self.narrow(functional.silu(self.widen(inner)))


def initialise_from(vae: VideoVAE, videos: Sequence[Tensor] | Tensor) -> None:
    """Set the linear shortcut to the principal components of the clips' cells; training leaves it there.

    Component i of standard deviation s_i is scaled by 1 / sqrt(s_i), so that it arrives with deviation sqrt(s_i); then
    all by one number, so that the mean energy per channel is 1.

    Args:
        vae: a new autoencoder; its shortcut and normalisation are overwritten.
        videos: clips (B, 3, T, H, W) in [0, 1], one tensor or several of different sizes.
    """
    cells_MD = torch.cat([_merge(_to_patches(video)).flatten(0, 2) for video in _as_list(videos)]).double()
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
    first = video_BCTHW[:, :, : frames % TIME_RATIO].expand(-1, -1, TIME_RATIO * (frames % TIME_RATIO), -1, -1)
    chunks = torch.cat([first, video_BCTHW[:, :, frames % TIME_RATIO :]], dim=2)
    cut = chunks.unflatten(4, (-1, PATCH)).unflatten(3, (-1, PATCH)).unflatten(2, (-1, TIME_RATIO))
    return cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(0, 1)  # B C t f h p w q -> (B t) h w (C f p q)


def _from_patches(patches_NhwD: Tensor, batch: int, alone: bool) -> Tensor:
    """The inverse of :func:`_to_patches`; a first frame alone is the mean of its chunk."""
    parts = patches_NhwD.unflatten(0, (batch, -1)).unflatten(4, (3, TIME_RATIO, PATCH, PATCH))
    chunks = parts.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6).flatten(4, 5)  # B t h w C f p q -> B C t f H W
    if not alone:
        return chunks.flatten(2, 3)
    return torch.cat([chunks[:, :, 0].mean(2, keepdim=True), chunks[:, :, 1:].flatten(2, 3)], dim=2)


def _merge(x_NhwD: Tensor) -> Tensor:
    """2 x 2 places become one with four times the features."""
    return x_NhwD.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 5, 2, 4).flatten(3)


def _split(x_NhwD: Tensor, features: int) -> Tensor:
    """The inverse of :func:`_merge`: one place becomes 2 x 2 with ``features`` each."""
    return x_NhwD.unflatten(3, (features, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2)


def _shift_in_time(x_NhwD: Tensor, batch: int, circle: bool) -> Tensor:
    """A quarter of the features from the chunk before, a quarter from the one after.

    Beyond the ends are zeros, or in a circle the other end.
    """
    x_BthwD = x_NhwD.unflatten(0, (batch, -1))
    quarter = x_BthwD.shape[-1] // 4
    if circle:
        before, after, rest = x_BthwD.split([quarter, quarter, x_BthwD.shape[-1] - 2 * quarter], dim=-1)
        return torch.cat([before.roll(1, dims=1), after.roll(-1, dims=1), rest], dim=-1).flatten(0, 1)
    before = functional.pad(x_BthwD[:, :-1, ..., :quarter], (0, 0, 0, 0, 0, 0, 1, 0))
    after = functional.pad(x_BthwD[:, 1:, ..., quarter : 2 * quarter], (0, 0, 0, 0, 0, 0, 0, 1))
    return torch.cat([before, after, x_BthwD[..., 2 * quarter :]], dim=-1).flatten(0, 1)


def _zeroed(layer: nn.Linear) -> nn.Linear:
    """Set a layer to zero, so that its branch starts as nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
