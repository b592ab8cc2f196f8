"""From a path to networks behind our sockets: finds the parts of a model, builds them without numbers, fills them.

Knows which class of a library makes which part; each kind is a row of ``NETWORKS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kineograph.nodes.clip_files import shown
from kineograph.nodes.families import folders, wan
from kineograph.nodes.families.schemas import NetworkConfig, T5Encoder, WanAutoencoder, WanTransformer, read
from kineograph.nodes.sockets import VAE, DiT, LatentSpec, TextEncoder

FOLDERS = {"dit": "transformer", "vae": "vae", "text_encoder": "text_encoder"}
DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Attributes:
        part: what it is of a model: dit, vae or text_encoder.
        schema: of its configuration.
        build: from a configuration to the library's network without numbers.
        adapt: from that network, its configuration and the model's path to the value of a socket.
    """

    part: str
    schema: type[NetworkConfig]
    build: Callable[[Any], Any]
    adapt: Callable[[Any, Any, Path | None], Any]


@dataclass(frozen=True)
class Part:
    """A part of a model as it was found.

    Attributes:
        kind: what it is.
        config: its sizes.
        files: its weights; none where only the sizes are known.
        folder: the model's folder.
    """

    kind: Kind
    config: NetworkConfig
    files: tuple[Path, ...] = ()
    folder: Path | None = None


def find(path: str, part: str) -> Part:
    """A part of a model: of a folder, or of a model whose sizes are known by name.

    Raises:
        ValueError: there is none; with what there could be.
    """
    folder = Path(path)
    if "\0" not in path and folder.is_dir() and folders.is_pipeline(folder):
        return _of_pipeline(folder, part)
    if path in wan.SIZES:
        return {
            "dit": Part(NETWORKS["WanTransformer3DModel"], wan.SIZES[path]),
            "vae": Part(NETWORKS["AutoencoderKLWan"], WanAutoencoder()),
            "text_encoder": Part(NETWORKS["UMT5EncoderModel"], T5Encoder()),
        }[part]
    raise ValueError(
        f"There is no model in {shown(path)!r}. Give a folder as diffusers writes it (with transformer, vae, "
        f"text_encoder and tokenizer). To plan without weights, give a name: {', '.join(wan.SIZES)}."
    )


def files(path: str, part: str) -> list[Path]:
    """Every file that decides what a part is: its weights, its configuration, its tokenizer."""
    found = find(path, part)
    if found.folder is None:
        return []
    more = [found.folder / FOLDERS[part] / "config.json"]
    if part == "text_encoder":
        more.append(found.folder / "tokenizer" / "tokenizer.json")
    return [*found.files, *(each for each in more if each.is_file())]


def outline(path: str, part: str, dtype: str) -> Any:
    """The value of a part's socket without its numbers: of the files, only the configuration is read."""
    import torch

    from kineograph.nodes.networks.mapped import converted

    found = find(path, part)
    network = found.kind.build(found.config)
    network.load_state_dict(converted(network.state_dict(), getattr(torch, dtype), _kept(network)), assign=True)
    return found.kind.adapt(network.eval().requires_grad_(False), found.config, None)


def load(path: str, part: str, dtype: str) -> Any:
    """The value of a part's socket; weights stay in their files, mapped, where their dtype is the one asked for.

    Raises:
        ValueError: no such model, or files that do not fit.
    """
    import torch

    from kineograph.nodes.networks.mapped import assign, mapped_weights

    found = find(path, part)
    if not found.files:
        raise ValueError(
            f"Of {path!r} only the sizes are known here: `kineograph plan` can tell what it would cost. To run it, "
            "give the folder in which its weights lie."
        )
    network = found.kind.build(found.config)
    state = mapped_weights(found.files)
    for name, same in _tied(network).items():
        if found_one := [state[each] for each in (same, name) if each in state]:
            state[name] = state[same] = found_one[0]
    assign(network, state, shown(found.files[0].name), getattr(torch, dtype), _kept(network))
    return found.kind.adapt(network, found.config, found.folder)


def _kept(network: Any) -> list[str]:
    """The parts of a network that its library keeps in float32."""
    return getattr(network, "_keep_in_fp32_modules", None) or []


def _tied(network: Any) -> dict[str, str]:
    """The weights of a network that are one, of which files hold one or both."""
    return getattr(network, "_tied_weights_keys", None) or {}


def _of_pipeline(folder: Path, part: str) -> Part:
    below = folder / FOLDERS[part]
    found = folders.settings(below / "config.json")
    name = found.get("_class_name") or (found.get("architectures") or [None])[0]
    kind = NETWORKS.get(str(name))
    if kind is None or kind.part != part:
        known = ", ".join(sorted(name for name, each in NETWORKS.items() if each.part == part))
        raise ValueError(f"{FOLDERS[part]} of {shown(folder.name)!r} is a {shown(str(name))}; known here are {known}.")
    config = read(kind.schema, found, f"{FOLDERS[part]}/config.json of {shown(folder.name)!r}")
    return Part(kind, config, tuple(folders.weight_files(below)), folder)


def _wan_dit(network: Any, config: WanTransformer, _: Path | None) -> DiT:
    from kineograph.nodes.networks.adapters.wan import WanDiT

    made: Any = WanDiT(network)
    return DiT(made, (config.patch_size[0], config.patch_size[1], config.patch_size[2]))


def _wan_vae(network: Any, config: WanAutoencoder, _: Path | None) -> VAE:
    from kineograph.nodes.networks.adapters.wan import WanVAE

    ratios = config.scale_factor_temporal, config.scale_factor_spatial
    made: Any = WanVAE(network)
    return VAE(made, LatentSpec(config.z_dim, *ratios, patch=2, causal=True))


def _wan_text(network: Any, _: T5Encoder, folder: Path | None) -> TextEncoder:
    from kineograph.nodes.families.tokens import Unread, tokenizer
    from kineograph.nodes.networks.adapters.text import T5Text

    words = Unread() if folder is None else tokenizer(folder / "tokenizer", wan.TEXT_TOKENS)
    made: Any = T5Text(network, words, wan.TEXT_TOKENS)
    return TextEncoder(made)


NETWORKS = {
    "WanTransformer3DModel": Kind("dit", WanTransformer, wan.transformer, _wan_dit),
    "AutoencoderKLWan": Kind("vae", WanAutoencoder, wan.autoencoder, _wan_vae),
    "UMT5EncoderModel": Kind("text_encoder", T5Encoder, wan.text_network, _wan_text),
}
