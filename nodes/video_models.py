"""Open video models of others from files on disk: Wan 2.1. Knows their nodes' names; ``families`` knows the files.

Nothing is downloaded, nothing of a folder is executed, and the networks are those of diffusers and transformers
(pip install 'kineograph[models]').
"""

from __future__ import annotations

from typing import Any, Literal

from kineograph.graph_runtime.node import node
from kineograph.nodes.model import Model
from kineograph.nodes.sockets import VAE

Numbers = Literal["bfloat16", "float16", "float32"]
PARTS = ("dit", "vae", "text_encoder")


def _digest(path: str, *parts: str) -> str:
    from kineograph.nodes.families import folders, loading

    return folders.digest(file for part in parts for file in loading.files(path, part))


def _outlined(path: str, part: str, dtype: Numbers) -> Any:
    from kineograph.nodes.families.loading import outline

    return outline(path, part, dtype)


def video_model_digest(path: str) -> str:
    """The digest of all files of a model."""
    return _digest(path, *PARTS)


def video_vae_digest(path: str) -> str:
    """The digest of a model's VAE."""
    return _digest(path, "vae")


def outlined_video_model(path: str, dtype: Numbers, vae_dtype: Numbers) -> Model:
    """What ``load_video_model`` loads, without its weights."""
    return Model(
        _outlined(path, "dit", dtype), _outlined(path, "vae", vae_dtype), _outlined(path, "text_encoder", dtype)
    )


def outlined_video_vae(path: str, dtype: Numbers) -> VAE:
    """What ``load_video_vae`` loads, without its weights."""
    return _outlined(path, "vae", dtype)


@node(fingerprint=video_model_digest, estimate=outlined_video_model)
def load_video_model(
    path: str = "wan2.1-t2v-1.3b", dtype: Numbers = "bfloat16", vae_dtype: Numbers = "float32"
) -> Model:
    """Load an open video model from your disk: Wan 2.1, text to video.

    Weights are mapped: those of the dtype that the files have take no memory of their own. Patchify its latents with
    height 2 and width 2. Needs diffusers and transformers (pip install 'kineograph[models]'); nothing is downloaded.

    Args:
        path: a folder as diffusers writes it, with transformer, vae, text_encoder and tokenizer. The name of a known
            model (wan2.1-t2v-1.3b, wan2.1-t2v-14b) can be planned, without weights, and not run.
        dtype: of the DiT's and the text encoder's numbers; parts that need float32 keep it.
        vae_dtype: of the VAE's numbers.

    Raises:
        ValueError: there is no such model, or files that are not what they say.
    """
    from kineograph.nodes.families.loading import load

    dit, text_encoder = load(path, "dit", dtype), load(path, "text_encoder", dtype)
    return Model(dit, load(path, "vae", vae_dtype), text_encoder)


@node(fingerprint=video_vae_digest, estimate=outlined_video_vae)
def load_video_vae(path: str = "wan2.1-t2v-1.3b", dtype: Numbers = "float32") -> VAE:
    """Load the VAE of an open video model alone.

    Args:
        path: as for ``load_video_model``.
        dtype: of its numbers.

    Raises:
        ValueError: there is no such model, or files that are not what they say.
    """
    from kineograph.nodes.families.loading import load

    return load(path, "vae", dtype)
