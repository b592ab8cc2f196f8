"""What adapters of diffusion transformers share: from our batches of tokens to latents and back. Knows no one network.

A library's network is given in, so that nothing here imports a library. It is asked for one clip at a time: a real
model's clip fills the device by itself, and two beside each other (with words and without) would double what a step
holds at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from kineograph.nodes.networks.adapters import cannot
from kineograph.nodes.networks.adapters.attention import dispatch
from kineograph.nodes.networks.dit import Batch, Through, in_turn, recomputed
from kineograph.nodes.networks.patches import Triple, patchify, unpatchify

OF_CLIPS = ("tokens_BNC", "levels_BK", "text_BLE", "text_mask_BL", "pooled_BP", "beside_BKthw", "pictures_BPLE")
"""What a batch holds of each of its clips; its places are those of all."""


@dataclass(frozen=True)
class AdapterConfig:
    """What our nodes ask of a network's configuration.

    Attributes:
        channels: C of the latent.
        patch: (pt, ph, pw) latent cells per token.
        predicts: what the network is asked for, see :func:`diffusion.preconditioning`.
        data_std: deviation of the data, where ``predicts`` is edm.
        beside: channels beside the noisy ones, in which the network is told of given frames.
        shows: what stands in them, see ``LatentSpec``.
    """

    channels: int
    patch: Triple
    predicts: str = "velocity"
    data_std: float = 1.0
    beside: int = 0
    shows: Literal["", "frames", "control", "first"] = ""


class AdaptedDiT(nn.Module):
    """A library's diffusion transformer with the forward of ours."""

    name: ClassVar[str] = ""

    def __init__(self, network: nn.Module, config: AdapterConfig) -> None:
        """Put an adapter around a network.

        Args:
            network: of the library; not copied.
            config: what it takes and gives.
        """
        super().__init__()
        self.network: Any = network
        self.config = config

    def forward(self, batches: list[Batch], *, through: Through | None = None) -> list[Tensor]:
        """What the network predicts at every token of clips of any sizes.

        Args:
            batches: clips of one size each, with the ``grid`` of their tokens.
            through: ``recomputed`` in training; nothing else that leads through blocks is known to such a network.

        Returns:
            (B, N, C) in float32, for each batch.

        Raises:
            ValueError: a batch holds what this kind of model was not made for; with what can be done instead.
        """
        if through not in (None, in_turn, recomputed):
            raise ValueError(cannot.no_blocks(self.name))
        dispatch(self.network, batches[0].tokens_BNC)
        with self._recomputing(through is recomputed):
            return [self._clips(batch) for batch in batches]

    def ask(self, x_1CthW: Tensor, levels_K: Tensor, text_1LE: Tensor, mask_1L: Tensor, batch: Batch) -> Tensor:
        """Ask the network for one clip.

        Args:
            x_1CthW: (1, C, t, h, w) noisy latent, float32.
            levels_K: (K,) noise levels of the clip: one, one per latent frame, or one per token.
            text_1LE: (1, L, E) text tokens.
            mask_1L: (1, L) bool, True where a text token stands.
            batch: the clip alone, for what else it says.

        Returns:
            (1, C, t, h, w).
        """
        raise NotImplementedError

    def _clips(self, batch: Batch) -> Tensor:
        grid = batch.grid
        if grid is None or (batch.tokens_BNC.shape[1] != math.prod(grid) and not self.passes):
            raise ValueError(
                f"A {self.name} model knows no pictures at points in time beside the video. Give whole groups of "
                "frames from the first one on, or a single picture as the first frame."
            )
        if batch.period is not None:
            raise ValueError(
                f"A {self.name} model knows no circular time: for a loop, take roll_latent as in "
                "workflows/loop_by_turning.json, with 1 + a multiple of the VAE's time ratio of frames."
            )
        self._check_beside(batch)
        return torch.cat([self.tokens(clip) for clip in clips_of(batch)]).float()

    def tokens(self, clip: Batch) -> Tensor:
        """Ask the network for the tokens of one clip, (1, N, C)."""
        assert clip.grid is not None
        x_1CthW = unpatchify(clip.tokens_BNC, clip.grid, self.config.patch)
        said_1CthW = self.ask(x_1CthW, clip.levels_BK[0], clip.text_BLE, clip.text_mask_BL, clip)
        return patchify(said_1CthW, self.config.patch)

    def _check_beside(self, batch: Batch) -> None:
        told = 0 if batch.beside_BKthw is None else batch.beside_BKthw.shape[1]
        if told == self.config.beside:
            return
        if not told:
            raise ValueError(cannot.shown_nothing(self.name))
        raise ValueError(
            f"This {self.name} model takes {self.config.beside} channels beside the noise, and is shown frames in "
            f"{told}: they are made for another model. Leave show_given_frames out, or load the DiT they belong to."
        )

    @property
    def passes(self) -> bool:
        """Whether it knows tokens of pictures beside those of the video, see ``LatentSpec``."""
        return False

    @contextmanager
    def _recomputing(self, wanted: bool) -> Iterator[None]:
        if not wanted:
            yield
            return
        self.network.enable_gradient_checkpointing()
        try:
            yield
        finally:
            self.network.disable_gradient_checkpointing()


def clips_of(batch: Batch) -> Iterator[Batch]:
    """The clips of a batch, as batches of one."""
    for i in range(len(batch.tokens_BNC)):
        own = {name: each[i : i + 1] for name in OF_CLIPS if (each := getattr(batch, name)) is not None}
        yield batch._replace(**own)


def one_level(levels_K: Tensor, name: str) -> Tensor:
    """The level of a clip that has a single one, (1,).

    Raises:
        ValueError: it has several, and the model knows but one.
    """
    if len(levels_K) > 1:
        raise ValueError(cannot.one_level_only(name))
    return levels_K
