"""CogVideoX behind the forward of ours: DDPM's timesteps for levels, v for velocity. Knows no files.

CogVideoX: Yang et al. 2024 (arXiv 2408.06072). The networks are diffusers' ``CogVideoXTransformer3DModel`` and
``AutoencoderKLCogVideoX``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from kineograph.nodes.networks.adapters.causal import CausalVAE
from kineograph.nodes.networks.adapters.common import AdaptedDiT, AdapterConfig, one_level
from kineograph.nodes.networks.dit import Batch
from kineograph.nodes.networks.levels import levels_of, without_signal_at_the_end
from kineograph.nodes.networks.patches import Triple

TIMESTEPS = 1000
BETAS = 0.00085, 0.012
OFFSET = 2.0
"""What CogVideoX 1.5's image to video is told in every step, beside the timestep."""


def training_levels(snr_divisor: float) -> Tensor:
    """The levels of CogVideoX's timesteps: (1000,) float64, rising to 1.

    Betas are even in their square roots; the SNR is divided, and then the last timestep made pure noise (Lin et al.
    2024).

    Args:
        snr_divisor: 3 for CogVideoX-2b, 1 for 5b.
    """
    betas = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, TIMESTEPS, dtype=torch.float64).square()
    signal = (1 - betas).cumprod(0)
    signal = signal / (snr_divisor + (1 - snr_divisor) * signal)
    return levels_of(without_signal_at_the_end(signal))


def dynamic_scale(timestep: int, steps: int, scale: float) -> float:
    """1 + g (1 - cos(pi ((N - t) / N)^5)) / 2, as CogVideoX's authors and diffusers compute it.

    Args:
        timestep: t, of a thousand, though the formula looks made for the number of the step.
        steps: N, of the whole schedule.
        scale: g.
    """
    return 1 + scale * (1 - math.cos(math.pi * ((steps - timestep) / steps) ** 5.0)) / 2


def rotary_tables(grid: Triple, width: int, base: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
    """Cosines and sines that turn queries and keys to their places, in CogVideoX-5b and 1.5 (Su et al. 2021).

    Args:
        grid: (t, h, w) tokens.
        width: of a head; a quarter tells time, the rest rows and columns.
        base: rows and columns of the trained grid that any other is stretched over, as in 5b; None counts cells, as in
            1.5.

    Returns:
        Two tables (t h w, width) in float32.
    """
    t, h, w = grid
    rows, columns = _counted(h), _counted(w)
    if base is not None:
        scale = min(base[0] / h, base[1] / w)
        rows, columns = (_spread(*each, scale) for each in zip((h, w), base, strict=True))
    widths = width // 4, width // 8 * 3, width // 8 * 3
    places = torch.meshgrid(_counted(t), rows, columns, indexing="ij")
    angles = [
        torch.outer(place.flatten(), 10000.0 ** -(torch.arange(0, each, 2) / each)).repeat_interleave(2, dim=1)
        for place, each in zip(places, widths, strict=True)
    ]
    whole = torch.cat(angles, dim=1)
    return whole.cos(), whole.sin()


def _counted(cells: int) -> Tensor:
    return torch.arange(cells, dtype=torch.float32)


def _spread(cells: int, base: int, scale: float) -> Tensor:
    """Places of cells in the middle of a trained side, scaled and cut to whole cells of it, as in training."""
    side = round(cells * scale)
    first = round((base - side) / 2)
    return torch.linspace(first, (first + side) * (cells - 1) / cells, cells)


class CogVideoXDiT(AdaptedDiT):
    """CogVideoX's transformer: asked for v of DDPM's x, told the whole timestep of a level."""

    name: ClassVar[str] = "CogVideoX"

    def __init__(self, network: Any, levels: Tensor) -> None:
        """Put an adapter around a ``CogVideoXTransformer3DModel``.

        Args:
            network: of the library.
            levels: (T,) of its timesteps, rising.
        """
        config = network.config
        patch = (config.patch_size_t or 1, config.patch_size, config.patch_size)
        beside = config.in_channels - config.out_channels
        shows = {"beside": beside, "shows": "first"} if beside else {}
        super().__init__(network, AdapterConfig(config.out_channels, patch, predicts="v", **shows))
        self.levels = levels

    def ask(self, x_1CthW: Tensor, levels_K: Tensor, text_1LE: Tensor, mask_1L: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        """See :meth:`AdaptedDiT.ask`. Padding is heard, as in training."""
        assert batch.grid is not None
        dtype = self.network.patch_embed.proj.weight.dtype
        level = one_level(levels_K, self.name)
        timestep = (self.levels.to(level.device) - level).abs().argmin()[None]
        config = self.network.config
        self._check_size(x_1CthW)
        if batch.beside_BKthw is not None:
            x_1CthW = torch.cat([x_1CthW, batch.beside_BKthw.to(x_1CthW)], dim=1)
        frames_first = x_1CthW.transpose(1, 2).to(dtype)
        asked: dict[str, Any] = {"hidden_states": frames_first, "timestep": timestep}
        asked["encoder_hidden_states"] = text_1LE.to(dtype)
        if config.ofs_embed_dim is not None:
            asked["ofs"] = x_1CthW.new_full((1,), OFFSET)
        if config.use_rotary_positional_embeddings:
            trained = config.sample_height // config.patch_size, config.sample_width // config.patch_size
            tables = rotary_tables(batch.grid, config.attention_head_dim, None if config.patch_size_t else trained)
            asked["image_rotary_emb"] = tuple(table.to(x_1CthW.device) for table in tables)
        return self.network(**asked, return_dict=False)[0].transpose(1, 2)

    def _check_size(self, x_1CthW: Tensor) -> None:
        config = self.network.config
        only, found = (config.sample_height, config.sample_width), tuple(x_1CthW.shape[3:])
        if config.use_learned_positional_embeddings and only != found:
            raise ValueError(
                f"This CogVideoX model knows the places of {only[0]} x {only[1]} latent cells alone, and the video has "
                f"{found[0]} x {found[1]}: give latent_noise {8 * only[0]} and {8 * only[1]} as height and width."
            )


class CogVideoXVAE(CausalVAE):
    """CogVideoX's causal autoencoder: 1 + 4k frames; its latents are scaled."""

    name: ClassVar[str] = "CogVideoX"

    @property
    def space(self) -> int:
        """See :attr:`CausalVAE.space`."""
        return 2 ** (len(self.network.config.block_out_channels) - 1)

    def moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`CausalVAE.moments`."""
        scale = torch.tensor(1 / self.network.config.scaling_factor, device=like.device)
        return torch.zeros_like(scale), scale

    @property
    def shown_scale(self) -> float:
        """See :attr:`CausalVAE.shown_scale`: 1.5's DiT was trained on a latent divided by the factor."""
        config = self.network.config
        return config.scaling_factor**-2 if config.invert_scale_latents else 1.0

    def clips(self, raw_BCthw: Tensor) -> Iterator[Tensor]:
        """See :meth:`CausalVAE.clips`: a few latent frames after others, in memory that does not grow with the clip.

        As the library cuts them, since groups are normalised over all frames of a piece.
        """
        frames, piece = raw_BCthw.shape[2], self.network.num_latent_frames_batch_size
        if left := (frames - 1) % piece:
            raise ValueError(
                f"CogVideoX's VAE decodes one latent frame and pairs behind it, and here are {frames}. Give "
                f"latent_noise 1 + a multiple of {piece * self.ratio} frames; what CogVideoX 1.5 sampled needs "
                f"leave_out_padding with groups {left}."
            )
        seen = None
        for stop in range(1 if frames == 1 else 1 + piece, frames + 1, piece):
            start = 0 if seen is None else stop - piece
            clip, seen = self.network.decoder(self.plain(raw_BCthw[:, :, start:stop]), conv_cache=seen)
            yield clip
