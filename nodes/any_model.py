"""A text-to-video model, whoever made it: one loader for embedded models and for open ones. Knows no files itself."""

from __future__ import annotations

from typing import NamedTuple

from kineograph.graph_runtime.node import node
from kineograph.nodes import model, video_models
from kineograph.nodes.model import Model
from kineograph.nodes.sockets import DiT
from kineograph.nodes.video_models import Half, Numbers


class PatchSides(NamedTuple):
    """Latent cells per token along each axis."""

    time: int
    height: int
    width: int


def any_model_digest(path: str) -> str:
    """The digest of all files of a model."""
    return model.model_digest(path) if _is_own(path) else video_models.video_model_digest(path)


def outlined_any_model(path: str, dtype: Numbers, vae_dtype: Half) -> Model:
    """What ``load_any_model`` loads, without its weights."""
    return model.outlined_model(path) if _is_own(path) else video_models.outlined_video_model(path, dtype, vae_dtype)


def foretold_any_model(path: str) -> Model:
    """Of the model, what the sizes of a clip must fit."""
    return model.foretold_model(path) if _is_own(path) else video_models.foretold_video_model(path)


@node(fingerprint=any_model_digest, estimate=outlined_any_model, foretells=foretold_any_model)
def load_any_model(path: str = "flipbook", dtype: Numbers = "bfloat16", vae_dtype: Half = "float32") -> Model:
    """Load a text-to-video model: an embedded one, one that you trained, or an open one (see ``load_video_model``).

    ``dit_patch`` says into what patches its latents are cut.

    Args:
        path: an embedded model (flipbook), a folder with dit.safetensors, vae.safetensors and text_encoder.safetensors,
            or a folder of an open video model.
        dtype: of the numbers of an open model's DiT and text encoder.
        vae_dtype: of the numbers of an open model's VAE.

    Raises:
        ValueError: there is no such model, or files that are not what they say.
    """
    return model.load_model(path) if _is_own(path) else video_models.load_video_model(path, dtype, vae_dtype)


@node
def dit_patch(dit: DiT) -> PatchSides:
    """Into what patches a DiT's latents are cut: wire it into ``patchify``.

    Args:
        dit: the model.
    """
    return PatchSides(*dit.patch)


def _is_own(path: str) -> bool:
    try:
        return model.model_file(path, "dit").is_file()
    except ValueError:
        return False
