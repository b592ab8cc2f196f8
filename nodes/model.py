"""Models from files, and new ones with random weights. Knows folders and names, not what the networks compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import Field

from kineograph.digests import file_digest
from kineograph.graph_runtime.node import node
from kineograph.nodes.sockets import VAE, DiT, LatentSpec, TextEncoder

PRETRAINED = Path(__file__).parent / "pretrained"
T = TypeVar("T")
FILES = ("dit", "vae", "text_encoder")


class Model(NamedTuple):
    """The three networks of a text-to-video model."""

    dit: DiT
    vae: VAE
    text_encoder: TextEncoder


def model_file(name: str, kind: str) -> Path:
    """The file of one network of a model: an embedded model's by name, or in a folder of the user's.

    Raises:
        ValueError: there is no such file.
    """
    folder = PRETRAINED / name if name.isidentifier() and (PRETRAINED / name).is_dir() else Path(name)
    path = folder / f"{kind}.safetensors"
    if not path.is_file():
        embedded = ", ".join(
            sorted(each.name for each in PRETRAINED.iterdir() if each.is_dir() and each.name.isidentifier())
        )
        raise ValueError(
            f"There is no {kind} of a model {name!r} ({path}). Embedded: {embedded}; or give a model's folder."
        )
    return path


def model_digest(name: str) -> str:
    """The digest of all files of a model."""
    return "".join(file_digest(model_file(name, kind)) for kind in FILES)


def vae_digest(name: str) -> str:
    """The digest of a model's VAE."""
    return file_digest(model_file(name, "vae"))


def text_encoder_digest(name: str) -> str:
    """The digest of a model's text encoder."""
    return file_digest(model_file(name, "text_encoder"))


def start_digest(start: str) -> str:
    """The digest of the DiT to start from, if one is named."""
    return file_digest(model_file(start, "dit")) if start else ""


def outlined_model(name: str) -> Model:
    """What ``load_model`` loads, without its weights."""
    return Model(_outlined_dit(name), outlined_vae(name), outlined_text_encoder(name))


def outlined_vae(name: str) -> VAE:
    """What ``load_vae`` loads, without its weights."""
    from kineograph.nodes.networks.components import outline

    return _vae(outline(model_file(name, "vae"), "vae"))


def outlined_text_encoder(name: str) -> TextEncoder:
    """What ``load_text_encoder`` loads, without its weights."""
    from kineograph.nodes.networks.components import outline

    return _text_encoder(outline(model_file(name, "text_encoder"), "text_encoder"))


def foretold_vae(name: str) -> Any:  # noqa: ARG001  all VAEs of ours are alike in this
    """What the sizes of a clip must fit, before a file is opened."""
    return LatentSpec(channels=0, time_ratio=4, space_ratio=8)


def foretold_model(name: str) -> Model:
    """Of the model, what the sizes of a clip must fit."""
    nothing: Any = None
    return Model(nothing, foretold_vae(name), nothing)


@node(fingerprint=model_digest, estimate=outlined_model, foretells=foretold_model)
def load_model(name: str = "flipbook") -> Model:
    """Load a text-to-video model: DiT, VAE and text encoder.

    Args:
        name: an embedded model (flipbook), or a folder with dit.safetensors, vae.safetensors, text_encoder.safetensors.
    """
    return Model(_load_dit(name), load_vae(name), load_text_encoder(name))


@node(fingerprint=vae_digest, estimate=outlined_vae, foretells=foretold_vae)
def load_vae(name: str = "flipbook") -> VAE:
    """Load a model's VAE alone.

    Args:
        name: an embedded model (flipbook), or a folder with vae.safetensors.
    """
    from kineograph.nodes.networks.components import load

    return _vae(load(model_file(name, "vae"), "vae"))


@node(fingerprint=text_encoder_digest, estimate=outlined_text_encoder)
def load_text_encoder(name: str = "flipbook") -> TextEncoder:
    """Load a model's text encoder alone.

    Args:
        name: an embedded model (flipbook), or a folder with text_encoder.safetensors.
    """
    from kineograph.nodes.networks.components import load

    return _text_encoder(load(model_file(name, "text_encoder"), "text_encoder"))


def outlined_start(start: str, **sizes: Any) -> DiT:
    """What ``start_dit`` makes, without its weights."""
    return _outlined_dit(start) if start else _on_meta(start_dit, start=start, **sizes)


@node(fingerprint=start_digest, estimate=outlined_start)
def start_dit(
    start: str = "",
    channels: Annotated[int, Field(ge=1)] = 8,
    width: Annotated[int, Field(ge=16)] = 256,
    depth: Annotated[int, Field(ge=1)] = 6,
    heads: Annotated[int, Field(ge=1)] = 4,
    seed: int = 0,
    predicts: Literal["velocity", "noise", "clean", "v", "edm"] = "velocity",
    data_std: Annotated[float, Field(gt=0)] = 1.0,
) -> DiT:
    """The DiT that a training starts from: a model's, or a new one with random weights.

    Args:
        start: a model to go on from (flipbook, or a folder); empty builds a new one of the sizes below.
        channels: channels of the VAE's latent.
        width: features of a token.
        depth: number of blocks.
        heads: attention heads; width is a multiple of 16 times their number.
        seed: of the random weights.
        predicts: what the network is asked for: velocity (e - x0 of the flow), noise (DDPM's epsilon), clean (x0), v
            (Salimans & Ho 2022), or edm (the preconditioned target of Karras et al. 2022).
        data_std: sigma_data of edm; the embedded VAE's latents have 1.
    """
    from kineograph.nodes.networks.components import build

    if start:
        return _load_dit(start)
    config = {"channels": channels, "width": width, "depth": depth, "heads": heads}
    config |= {"predicts": predicts, "data_std": data_std}
    return _dit(build("dit", config, seed).eval().requires_grad_(False))


@node
def gaussian_prior(seconds: Annotated[float, Field(gt=0)] = 2.0, kernel: Literal["smooth", "markov"] = "smooth") -> DiT:
    """A model that is known in closed form: every latent cell is a Gaussian process in time. It shows nothing.

    What a sampler, an edit or a workflow of yours must give with it can be calculated, so errors of the wiring show:
    the conditional mean and covariance given the known frames. It reads no text.

    Args:
        seconds: over which a cell forgets its value.
        kernel: smooth, exp(-d² / (2 seconds²)); or markov, exp(-|d| / seconds), whose paths are rough.
    """
    from kineograph.nodes.networks.components import build

    return _dit(build("gaussian_prior", {"seconds": seconds, "kernel": kernel}).eval())


@node(estimate=lambda **sizes: _on_meta(new_vae, **sizes))
def new_vae(channels: Annotated[int, Field(ge=1)] = 8, seed: int = 0) -> VAE:
    """A spatio-temporal VAE with random weights: 4 frames x 8 x 8 pixels per latent cell.

    Args:
        channels: numbers per latent cell.
        seed: of the random weights.
    """
    from kineograph.nodes.networks.components import build

    return _vae(build("vae", {"channels": channels}, seed).eval().requires_grad_(False))


@node(estimate=lambda **sizes: _on_meta(new_text_encoder, **sizes))
def new_text_encoder(width: Annotated[int, Field(ge=6, multiple_of=6)] = 192, seed: int = 0) -> TextEncoder:
    """A small text encoder with random weights: words as bags of hashed character n-grams, two transformer layers.

    Args:
        width: features per token.
        seed: of the random weights.
    """
    from kineograph.nodes.networks.components import build

    return _text_encoder(build("text_encoder", {"width": width}, seed).eval().requires_grad_(False))


def _load_dit(name: str) -> DiT:
    from kineograph.nodes.networks.components import load

    return _dit(load(model_file(name, "dit"), "dit"))


def _outlined_dit(name: str) -> DiT:
    from kineograph.nodes.networks.components import outline

    return _dit(outline(model_file(name, "dit"), "dit"))


def _on_meta(make: Callable[..., T], **sizes: Any) -> T:
    """A new network without its weights."""
    import torch

    import kineograph.nodes.networks.components  # noqa: F401  not inside: the tables of its modules are real

    with torch.device("meta"):
        return make(**sizes)


def _dit(network: Any) -> DiT:
    return DiT(network, network.config.patch)


def _vae(network: Any) -> VAE:
    from kineograph.nodes.networks.preview import linear_colours

    config = network.config
    colours = linear_colours(network, config.channels)
    return VAE(network, LatentSpec(config.channels, config.time_ratio, config.space_ratio, colours))


def _text_encoder(network: Any) -> TextEncoder:
    return TextEncoder(network)
