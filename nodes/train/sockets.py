"""The values that travel between the nodes of a training graph, as frozen dataclasses: data, losses, optimizers.

Letters as in ``nodes.sockets``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kineograph.graph_runtime.sockets import socket
from kineograph.nodes.sockets import LatentSpec, Video

if TYPE_CHECKING:
    from torch import Tensor

    from kineograph.nodes.clip_files import Source
    from kineograph.nodes.networks import adversarial, caption_reader, optimizers, perceptual


@socket(family="dataset")
@dataclass(frozen=True)
class Clips:
    """A batch of captioned clips.

    Attributes:
        video: the clips.
        captions: one per clip.
        labels: what is true of each clip, where the data knows it (attribute name -> (B,) integers).
        said: what its caption says of it, -1 where it leaves an attribute out (same names and shapes).
    """

    video: Video
    captions: tuple[str, ...]
    labels: dict[str, Tensor] = field(default_factory=dict)
    said: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClipFile:
    """A captioned clip that is decoded when it is asked for: which part of which file, and at which rate and size.

    Attributes:
        source: where its bytes lie.
        name: of the file, for people.
        caption: what it shows; empty where nothing is known.
        frames: how many are read; 1 is a picture.
        fps: frames per second they are read at.
        height, width: pixels they are read at.
        start: seconds from the file's first frame to the clip's.
    """

    source: Source
    name: str
    caption: str
    frames: int
    fps: float
    height: int
    width: int
    start: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / self.fps


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or clip that is not used.

    Attributes:
        name: of the file, for people.
        reason: in a few words, the same for all of a kind.
        detail: a sentence with the numbers; may be empty.
    """

    name: str
    reason: str
    detail: str = ""


@socket(family="dataset")
@dataclass(frozen=True)
class Dataset:
    """Captioned clips in files. It holds no frames: they are decoded when a stream of it is read.

    Attributes:
        clips: those that are used, in order.
        left_out: those that are not, and why.
    """

    clips: tuple[ClipFile, ...]
    left_out: tuple[LeftOut, ...] = ()


@socket(family="model")
@dataclass(frozen=True)
class CaptionReader:
    """A text encoder with heads that say what a caption said: how the encoder is trained."""

    network: caption_reader.CaptionReader


@socket(family="latent")
@dataclass(frozen=True)
class Posterior:
    """What a VAE's encoder believes of a clip's latent.

    Attributes:
        mean: (B, C, t, h, w).
        logvar: log variance, same shape.
        fps: frames per second of the clip.
        spec: what one cell covers.
    """

    mean: Tensor
    logvar: Tensor
    fps: float
    spec: LatentSpec


@socket(family="model")
@dataclass(frozen=True)
class Discriminator:
    """A network that says of patches of a clip how real they look."""

    network: adversarial.Discriminator


@socket(family="model")
@dataclass(frozen=True)
class Features:
    """A trained picture network whose features tell how alike pictures look."""

    network: perceptual.Features


@socket(family="metrics")
@dataclass(frozen=True)
class Loss:
    """A loss.

    Attributes:
        value: a tensor of no dimensions, with its history where somebody differentiates it.
        weight: how many numbers it is the mean of, where shares of a batch may hold different ones.
    """

    value: Tensor
    weight: Tensor | None = None


@socket(family="optimizer")
@dataclass(frozen=True)
class Optimizer:
    """How a training updates weights, before there are any: plain values, equal to what they are after JSON.

    Attributes:
        parts: by kind (adamw, muon, sgd), the arguments of torch's class; muon, where it stands beside another, takes
            the hidden matrices.
        scales: by tag of parameters, the factors ``lr`` and ``decay`` of learning rate and weight decay.
    """

    parts: dict[str, dict[str, Any]]
    scales: dict[str, dict[str, float]] = field(default_factory=dict)


@socket(family="optimizer")
@dataclass(frozen=True)
class TrainState:
    """Everything that a training step changes.

    ``begin_training(model, recipe)`` and ``optimizer.load_state_dict`` make an equal one, to the bit.

    Attributes:
        model: a DiT, LoRA, VAE, CaptionReader or Discriminator with weights of its own.
        optimizer: over those weights.
        recipe: what the optimizer was built from.
    """

    model: Any
    optimizer: optimizers.Optimizers
    recipe: Optimizer


@socket(family="optimizer")
@dataclass(frozen=True)
class Gradients:
    """One gradient for each trained parameter, in the order and memory layout of the model's parameters.

    Attributes:
        values: the gradients.
        known_norm: their norm, where whoever made them knows it.
    """

    values: tuple[Tensor, ...]
    known_norm: Tensor | None = None

    @cached_property
    def norm(self) -> Tensor:
        """The norm of all of them together; not finite where one number is not."""
        from torch.nn.utils import get_total_norm

        from kineograph.nodes.networks.ranks import whole

        return whole(get_total_norm(self.values)) if self.known_norm is None else self.known_norm


@socket(family="optimizer")
@dataclass(frozen=True)
class Weights:
    """Weights by name: a running average, for example."""

    values: dict[str, Tensor]
