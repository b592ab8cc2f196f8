"""Values of ours as a node written for ComfyUI takes them, and back. Public shapes only; knows no node.

IMAGE is (B, H, W, C) in [0, 1], where B counts the frames of a video; MASK is (B, H, W); LATENT is a dict with
``samples``; CONDITIONING is a list of [tokens, dict]. What a node is given is a copy: it may write into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from kineograph.graph_runtime.sockets import ANY, BOOL, FLOAT, INT, STR, SocketType, socket, socket_type
from kineograph.nodes.sockets import (
    VAE,
    DiT,
    Latent,
    TextEmbedding,
    TextEncoder,
    Video,
)

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_FPS = 8.0
_OWN = "kineograph"
"""Where a LATENT keeps what ComfyUI's dict does not hold: the rate, the VAE's cells, what is given."""


@socket(family="frames")
@dataclass(frozen=True)
class Mask:
    """Which part of each frame is meant.

    Attributes:
        values: (T, H, W) in [0, 1].
    """

    values: Tensor


@dataclass(frozen=True)
class Kind:
    """A type of ComfyUI's as a socket of ours, and how values cross."""

    socket: SocketType
    enter: Callable[[Any], Any] = lambda value: value
    leave: Callable[[Any, Mapping[str, Any]], Any] = lambda value, _given: value


def images_of(video: Video) -> Tensor:
    """(T, H, W, 3): a video as an IMAGE.

    Raises:
        ValueError: it is a batch of several clips.
    """
    if video.frames.shape[0] != 1:
        raise ValueError(f"A node of ComfyUI takes one clip, this is a batch of {video.frames.shape[0]}.")
    return video.frames[0].permute(0, 2, 3, 1).clone(memory_format=_contiguous())


def video_of(images: Any, given: Mapping[str, Any]) -> Video:
    """An IMAGE as a video, at the rate of the first video that the node was given.

    Raises:
        ValueError: it is no (B, H, W, 3) tensor.
    """
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) != 4 or shape[3] not in (1, 3) or not shape[0]:
        raise ValueError(f"An IMAGE is a tensor (B, H, W, 3), this is {shape or type(images).__name__}.")
    frames = images.float().permute(0, 3, 1, 2).clamp(0, 1)
    fps = next((value.fps for value in given.values() if isinstance(value, Video)), DEFAULT_FPS)
    return Video(frames.expand(-1, 3, -1, -1)[None].contiguous(), fps)


def mask_of(values: Any, _given: Mapping[str, Any]) -> Mask:
    """A MASK as a mask of ours.

    Raises:
        ValueError: it is no (B, H, W) or (H, W) tensor.
    """
    shape = tuple(getattr(values, "shape", ()))
    if len(shape) not in (2, 3):
        raise ValueError(f"A MASK is a tensor (B, H, W), this is {shape or type(values).__name__}.")
    return Mask(values.float()[None] if len(shape) == 2 else values.float())


def samples_of(latent: Latent) -> dict[str, Any]:
    """A latent as a LATENT; its values are those of our VAE, of mean 0 and energy 1."""
    made: dict[str, Any] = {"samples": latent.x.clone(), _OWN: latent}
    if bool((latent.mask < 1).any()):
        made["noise_mask"] = latent.mask.clone()
    return made


def latent_of(made: Any, given: Mapping[str, Any]) -> Latent:
    """A LATENT as a latent of ours: what its dict does not hold is that of the latent that it was made of.

    Raises:
        ValueError: it was made of none, or holds no samples.
    """
    found = cast(dict[str, Any], made) if isinstance(made, dict) else {}
    own = found.get(_OWN) or next((value for value in given.values() if isinstance(value, Latent)), None)
    samples = found.get("samples")
    if samples is None or not isinstance(own, Latent):
        raise ValueError(
            "A LATENT that a node makes must be made of one that it is given: its rate and VAE are in that."
        )
    samples = samples.unsqueeze(2) if samples.ndim == 4 else samples
    if samples.shape == own.x.shape:
        return replace(own, x=samples)
    clean, mask = samples.new_zeros(samples.shape), samples.new_ones(samples[:, :1].shape)
    return replace(own, x=samples, clean=clean, mask=mask, keyframes=None, shown=None)


def conditioning_of(text: TextEmbedding) -> list[Any]:
    """A text embedding as a CONDITIONING."""
    return [[text.tokens.clone(), {"attention_mask": text.mask.clone()}]]


def embedding_of(conditioning: Any, _given: Mapping[str, Any]) -> TextEmbedding:
    """A CONDITIONING as a text embedding.

    Raises:
        ValueError: it is not one list of tokens.
    """
    parts = cast(Sequence[Any], conditioning) if isinstance(conditioning, (list, tuple)) else []
    if len(parts) != 1:
        raise ValueError(f"A CONDITIONING of {len(parts)} parts cannot be told to a model here; one part can.")
    import torch

    tokens, more = parts[0]
    mask = more.get("attention_mask")
    return TextEmbedding(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask.bool())


class Film:
    """A video as a VIDEO: what its public methods give."""

    def __init__(self, video: Video) -> None:
        self._video = video

    def get_components(self) -> Any:
        """Frames, rate and sound; there is no sound."""
        from types import SimpleNamespace

        return SimpleNamespace(images=images_of(self._video), frame_rate=self._video.fps, audio=None)

    def get_dimensions(self) -> tuple[int, int]:
        """Width and height."""
        return self._video.frames.shape[-1], self._video.frames.shape[-2]

    def get_duration(self) -> float:
        """Seconds."""
        return self._video.frames.shape[1] / self._video.fps


def film_of(film: Any, given: Mapping[str, Any]) -> Video:
    """A VIDEO as a video of ours.

    Raises:
        ValueError: it has no components.
    """
    components = film.get_components() if hasattr(film, "get_components") else None
    if components is None:
        raise ValueError(f"A VIDEO has get_components(), this {type(film).__name__} has not.")
    return replace(video_of(components.images, given), fps=float(components.frame_rate))


class Codec:
    """A VAE as a node of ComfyUI's uses it: ``encode`` of an IMAGE, ``decode`` of samples."""

    def __init__(self, vae: VAE) -> None:
        self.own = vae

    def encode(self, pixels: Any) -> Any:
        """(1, C, t, h, w) samples of (T, H, W, 3) frames."""
        return self.own.network.encode(pixels[..., :3].permute(3, 0, 1, 2)[None])[0]

    def decode(self, samples: Any) -> Any:
        """(T, H, W, 3) frames of samples."""
        return self.own.network.decode(samples)[0].permute(1, 2, 3, 0)


def _contiguous() -> Any:
    import torch

    return torch.contiguous_format


def _unwrapped(value: Any, _given: Mapping[str, Any]) -> Any:
    return value.own if isinstance(value, Codec) else value


KINDS: dict[str, Kind] = {
    "INT": Kind(INT),
    "FLOAT": Kind(FLOAT),
    "STRING": Kind(STR),
    "BOOLEAN": Kind(BOOL),
    "COMBO": Kind(STR),
    "IMAGE": Kind(socket_type(Video), images_of, video_of),
    "VIDEO": Kind(socket_type(Video), Film, film_of),
    "MASK": Kind(socket_type(Mask), lambda mask: mask.values.clone(), mask_of),
    "LATENT": Kind(socket_type(Latent), samples_of, latent_of),
    "CONDITIONING": Kind(socket_type(TextEmbedding), conditioning_of, embedding_of),
    "VAE": Kind(socket_type(VAE), Codec, _unwrapped),
    "MODEL": Kind(socket_type(DiT)),
    "CLIP": Kind(socket_type(TextEncoder)),
    "*": Kind(ANY),
}
"""Class of ComfyUI's values -> ours. MODEL and CLIP pass through as they are: a node can hand them on, not look in."""


def kind_of(name: Any) -> Kind:
    """The kind of a type by its name; one that nothing here knows passes through untouched, to others of its name."""
    if not isinstance(name, str):  # a list of choices
        return KINDS["COMBO"]
    if name in KINDS:
        return KINDS[name]
    if "," in name or not name:
        return KINDS["*"]
    return Kind(SocketType(f"COMFYUI_{name}", "custom", object))


def crossing(value: Any, given: Mapping[str, Any]) -> Any:
    """A value of a wildcard output, as what it looks like."""
    if isinstance(value, dict):
        return latent_of(value, given) if "samples" in value else _unwrapped(value, given)
    shape = getattr(value, "shape", None)
    if shape is not None and len(shape) == 4 and shape[-1] == 3:
        return video_of(value, given)
    if shape is not None and len(shape) == 3 and cast(Any, value).is_floating_point():
        return mask_of(value, given)
    return _unwrapped(value, given)


def entering(value: Any) -> Any:
    """A value of ours at a wildcard input, as ComfyUI would have it."""
    for kind, enter in ((Video, images_of), (Latent, samples_of), (TextEmbedding, conditioning_of), (VAE, Codec)):
        if isinstance(value, kind):
            return enter(cast(Any, value))
    return value.values.clone() if isinstance(value, Mask) else value


KINDS["*"] = Kind(ANY, entering, crossing)
