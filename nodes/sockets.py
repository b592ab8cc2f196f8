"""The values that travel between video nodes, as frozen dataclasses: knows their shapes, not how they are made.

Where a network of ours stands, one of another library may, behind an adapter that gives it the same forward.

Letters: B batch, T frames, H W pixels, C channels, t h w latent sides, N tokens, L text tokens, D features.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from kineograph.graph_runtime.sockets import socket

if TYPE_CHECKING:
    from torch import Tensor

    from kineograph.nodes.networks import dit, lora, text, vae
    from kineograph.nodes.networks.patches import Time


@socket(family="frames", preview="kineograph.nodes.previews:video_strip")
@dataclass(frozen=True)
class Video:
    """Frames with their rate.

    Attributes:
        frames: (B, T, 3, H, W) in [0, 1].
        fps: frames per second.
        loop: whether the first frame follows the last one.
    """

    frames: Tensor
    fps: float
    loop: bool = False


Shows = Literal["", "frames", "control", "first"]


@dataclass(frozen=True)
class LatentSpec:
    """What a VAE's latents mean: needed to place tokens in seconds and pixels.

    Attributes:
        channels: C of the latent.
        time_ratio: frames per latent frame after the first, which stands for one frame alone.
        space_ratio: pixels per latent cell, along each side.
        colours: red, green and blue of zeros, then what one in each channel adds; empty where nobody looked.
        patch: cells along each side of a token, for a DiT that takes no others; sides are multiples of both.
        causal: whether what a latent frame holds depends on all frames before it: no clip then has the same latent
            elsewhere than first, and none is without a first frame alone.
        shows: how the DiT is told of given frames beside the noise (:class:`Shown`): frames (Wan's image to video),
            control (VACE) or first (CogVideoX's and HunyuanVideo's, the first frame alone); empty for one that is given
            cells of level 0.
        together: latent frames behind the first that a VAE decodes at a time; there is a multiple of them.
        patch_time: latent frames of a token, for a DiT that takes no others; there is a multiple of them, of which
            ``leave_out_padding`` leaves what the VAE decodes.
        only: latent cells down and across, for a DiT that takes no others.
        passes: whether a DiT behind a causal VAE was trained to pass through what is encoded by itself and stands
            beside the video (:class:`Keyframes`): pictures, and beginnings of clips.
    """

    channels: int
    time_ratio: int
    space_ratio: int
    colours: tuple[tuple[float, float, float], ...] = field(default=(), compare=False)
    patch: int = 1
    causal: bool = False
    shows: Shows = ""
    together: int = 1
    patch_time: int = 1
    only: tuple[int, int] | None = None
    passes: bool = False


@dataclass(frozen=True)
class Keyframes:
    """Pictures that are given at points in time: tokens beside those of the video, never part of the result.

    Attributes:
        values: (B, C, n, h, w), each encoded alone.
        frames: n places in the video, counted in frames from 0.
    """

    values: Tensor
    frames: tuple[float, ...]


@dataclass(frozen=True)
class Shown:
    """Frames that a DiT is told of in channels beside the noise: nothing is fixed, the model was trained to keep them.

    Attributes:
        channels: (B, K, t, h, w), as the DiT takes them; see ``networks.shown``.
        pixels: (B, n, 3, H, W), the frames.
        frames: n places in the video, rising, counted in frames from 0.
        pictures: (B, 1 or 2, L, D), what the VAE's image encoder says of the first frame and of the last; None where
            it has none.
        drawn: (B, n, 1, H, W), of control: 1 where the frames only lead what is drawn, 0 where they stay.
        strength: of control.
        references: latent frames before the video's in ``channels``, a picture each that is no part of the video.
    """

    channels: Tensor
    pixels: Tensor
    frames: tuple[int, ...]
    pictures: Tensor | None = None
    drawn: Tensor | None = None
    strength: float = 1.0
    references: int = 0


@socket(family="latent", preview="kineograph.nodes.previews:latent_strip")
@dataclass(frozen=True)
class Latent:
    """A video in latent space, with a noise level of its own for every cell.

    The level the model is told is ``min(sigma, mask)``: 0 is given and never moves, 1 is free, between is soft.

    Attributes:
        x: (B, C, t, h, w), the current values.
        clean: (B, C, t, h, w), what the given cells hold; zeros where nothing is given.
        mask: (B, 1, t, h, w) in [0, 1].
        fps: frames per second of the video it stands for.
        spec: what one cell covers.
        time: what its latent frames stand for. line: the first for one frame, the others for ``spec.time_ratio`` each;
            groups: all for so many, as in a piece of a longer video; circle: as groups, and the first follows the last.
        keyframes: pictures given beside it, at points in time.
        shown: frames given in channels, where ``spec.shows``.
    """

    x: Tensor
    clean: Tensor
    mask: Tensor
    fps: float
    spec: LatentSpec
    time: Time = "line"
    keyframes: Keyframes | None = None
    shown: Shown | None = None

    @property
    def frames(self) -> int:
        """Frames of the video it stands for."""
        groups = self.x.shape[2] - self.references
        return groups * self.spec.time_ratio - (self.spec.time_ratio - 1) * (self.time == "line")

    @property
    def references(self) -> int:
        """Latent frames before those of the video: pictures that the DiT is shown and that are no part of it."""
        return self.shown.references if self.shown else 0

    def without_references(self) -> Latent:
        """The video's own latent frames: what is decoded, and handed on."""
        if self.shown is None or not self.references:
            return self
        cut = {name: getattr(self, name)[:, :, self.references :] for name in ("x", "clean", "mask")}
        shown = replace(self.shown, channels=self.shown.channels[:, :, self.references :], references=0)
        return replace(self, **cut, shown=shown)

    @property
    def period(self) -> float | None:
        """Seconds after which a circle comes round; None where time does not."""
        return self.frames / self.fps if self.time == "circle" else None


@socket(family="latent")
@dataclass(frozen=True)
class Patches:
    """A latent cut into spacetime tokens (Peebles & Xie 2023; Sora report).

    Attributes:
        tokens: (B, N, D), D = C * pt * ph * pw; those of the latent's keyframes come last.
        positions: (1, N, 3), the centre of each token in seconds, pixels down, pixels right.
        mask: (B, N) in [0, 1], the token's highest noise level.
        grid: (t, h, w) tokens along each axis; N = t * h * w, and h * w more for each keyframe.
        patch: (pt, ph, pw) latent cells per token.
        latent: the latent it was cut from, to join it again.
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor
    grid: tuple[int, int, int]
    patch: tuple[int, int, int]
    latent: Latent

    @property
    def token_count(self) -> int:
        """Tokens of all clips."""
        return self.tokens.shape[0] * self.tokens.shape[1]


@socket(family="text")
@dataclass(frozen=True)
class TextEmbedding:
    """Prompts as the DiT reads them.

    Attributes:
        tokens: (B, L, D).
        mask: (B, L) bool, True where a token stands.
        pooled: (B, P), each prompt in one vector, for a DiT that reads it beside the tokens.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor | None = None


@socket(family="schedule")
@dataclass(frozen=True)
class SigmaStep:
    """One step of the sampler: from noise level ``sigma`` to ``sigma_next``, both in [0, 1]."""

    sigma: float
    sigma_next: float


@socket(family="schedule")
@dataclass(frozen=True)
class Levels:
    """A distribution of noise levels to train at.

    Attributes:
        values: (M,) float64, equally likely levels s = sigma / (alpha + sigma) in [0, 1], the noise's share of x.
    """

    values: Tensor


@socket(family="model")
@dataclass(frozen=True)
class TextEncoder:
    """A network from prompts to a :class:`TextEmbedding`."""

    network: text.TextEncoder


@socket(family="model")
@dataclass(frozen=True)
class LanguageModel:
    """A causal language model of the library transformers, and its tokenizer."""

    network: Any
    tokenizer: Any


@socket(family="model")
@dataclass(frozen=True)
class CaptionModel:
    """A model of the library transformers that writes about pictures, and its processor."""

    network: Any
    processor: Any


@socket(family="model")
@dataclass(frozen=True)
class ImageEncoder:
    """A network from pictures (B, 3, H, W) in [0, 1] to tokens (B, L, D) that say what they show."""

    network: Any


@socket(family="codec")
@dataclass(frozen=True)
class VAE:
    """A network between video and latent, what its latents mean, and who looks at pictures that the DiT is shown."""

    network: vae.VideoVAE
    spec: LatentSpec
    image_encoder: ImageEncoder | None = None


@socket(family="model")
@dataclass(frozen=True)
class DiT:
    """A diffusion transformer; ``network.config.predicts`` says what of, and ``dit_velocity`` makes a velocity of it.

    Attributes:
        network: forward(batches) -> what it predicts, at every token of each.
        patch: (pt, ph, pw) latent cells per token it was trained on.
        guidance: what a model that was trained to know guidance as a number is told.
        family: whose it is, for people; empty for Kineograph's own.
        one_level: whether it is told one noise level for the whole clip, and not of each token its own.
        shows: how it is told of given frames beside the noise, as in :class:`LatentSpec`.
    """

    network: dit.DiT
    patch: tuple[int, int, int]
    guidance: float | None = None
    family: str = ""
    one_level: bool = False
    shows: Shows = ""


@socket(family="model")
@dataclass(frozen=True)
class LoRA:
    """Low-rank updates of a DiT's layers (Hu et al. 2021), apart from the DiT."""

    network: lora.LowRankUpdates
