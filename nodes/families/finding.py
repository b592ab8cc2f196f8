"""From a path to the parts of a model: which files hold it, in which layout, of which sizes. Loads no weights.

A path is a folder as diffusers writes it, a folder or a file with weights as authors or ComfyUI name them, or the name
of a published model, of which the sizes are known.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from kineograph.nodes.clip_files import shown
from kineograph.nodes.families import bare, folders, ltx, wan
from kineograph.nodes.families.encoder_schemas import CLIPVision, T5Encoder
from kineograph.nodes.families.kinds import NETWORKS
from kineograph.nodes.families.parts import Part, words
from kineograph.nodes.families.published import PUBLISHED
from kineograph.nodes.families.readers import APART, READERS, read_by
from kineograph.nodes.families.schemas import WanAutoencoder, read
from kineograph.nodes.families.tokens import TABLES

FOLDERS = {
    "dit": "transformer", "vae": "vae", "text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2",
    "image_encoder": "image_encoder",
}  # fmt: skip
KEPT = {
    "dit": (
        "hunyuan-video-t2v-720p/transformers", "hunyuan-video-i2v-720p/transformers", "transformers",
        "transformer/1", "transformer_t2v/1000", "transformer_i2v/1000",
    ),
    "vae": ("hunyuan-video-t2v-720p/vae", "hunyuan-video-i2v-720p/vae", "vae"),
    "text_encoder": ("text_encoder_i2v", "t5-v1_1-xxl"),
}  # fmt: skip
"""Where the repositories of HunyuanVideo and CogVideoX keep parts that a library keeps elsewhere."""
TOKENIZER = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
SAID_ELSEWHERE = {"snr_shift_scale", "force_zeros_for_empty_prompt"}
"""What a network must know that its own config.json does not say: its scheduler's does, or model_index.json."""


def find(path: str, part: str, reads_as: str = "") -> Part:
    """A part of a model.

    Args:
        path: see above.
        part: dit, vae, text_encoder or image_encoder.
        reads_as: who reads a text encoder that several families have, a name of ``readers.READERS``; empty where that
            shows in what lies beside it.

    Raises:
        ValueError: there is none; with what there could be.
    """
    place, reader = Path(path), READERS.get(reads_as, "")
    if "\0" not in path and place.is_file():
        return bare.of_file(place, part, reader)
    if "\0" not in path and place.is_dir():
        return _of_place(place, part, reader)
    if path in wan.SIZES:
        return {
            "dit": Part(NETWORKS[f"Wan{'VACE' if 'vace' in path else ''}Transformer3DModel"], wan.SIZES[path]),
            "vae": Part(NETWORKS["AutoencoderKLWan"], WanAutoencoder()),
            "text_encoder": Part(NETWORKS["UMT5EncoderModel"], T5Encoder()),
            "image_encoder": Part(NETWORKS["CLIPVisionModel"], CLIPVision()),
        }[part]
    if path in PUBLISHED:
        return _published(path, part)
    if path.lower().endswith(bare.WEIGHTS):
        raise ValueError(f"There is no file {shown(path)!r}; put it there.")
    raise ValueError(
        f"There is no model in {shown(path)!r}. Give a folder as diffusers writes it (with transformer, vae, "
        "text_encoder and tokenizer), or one with the files of Wan's repository. To plan without weights, give a name: "
        f"{', '.join([*wan.SIZES, *PUBLISHED])}."
    )


def files(path: str, part: str, reads_as: str = "") -> list[Path]:
    """Every file that decides what a part is: its weights, its configuration, its tokenizer."""
    found = find(path, part, reads_as)
    own = _files(found)
    if part != "dit" or (second := second_dit(path)) is None or not found.files:
        return own
    return [*own, Path(path) / folders.INDEX, *files(second[0], part)]


def _files(found: Part) -> list[Path]:
    tables = [] if found.tokenizer is None else [found.tokenizer / name for name in TABLES]
    beside = [] if found.beside is None else _files(found.beside)
    return [*found.files, *filter(Path.is_file, [*found.more, *tables]), *beside]


def second_dit(path: str) -> tuple[str, float] | None:
    """The DiT that a model has for low noise, and the level below which it is asked; None of models with one for all.

    Raises:
        ValueError: there are two, and nothing says where one follows the other.
    """
    if path in wan.BOUNDARIES:
        return path, wan.BOUNDARIES[path]
    below = Path(path) / "transformer_2"
    if "\0" in path or not (below / "config.json").is_file():
        return None
    boundary = folders.settings(Path(path) / folders.INDEX).get("boundary_ratio")
    if not isinstance(boundary, float) or not 0 < boundary < 1:
        raise ValueError(
            f"{shown(below.parent.name)!r} has two transformers, but boundary_ratio of its {folders.INDEX} is "
            f"{shown(str(boundary))} and not a level between 0 and 1. Load each by load_video_dit, and give "
            "join_experts the level."
        )
    return str(below), boundary


def _of_place(place: Path, part: str, reader: str) -> Part:
    """The part that a folder holds, of a library or of authors."""
    if folders.is_pipeline(place):
        return _of_part(place / FOLDERS[part], part, reader)
    kept = [place / each for each in KEPT.get(part, ())]
    for below in (place / FOLDERS[part], *kept, place):
        if _is_part(below):
            return _of_part(below, part, reader)
    return _settled(bare.of_folder(next(filter(Path.is_dir, kept), place), part, reader), place)


def _settled(found: Part, place: Path) -> Part:
    """A part whose files leave out what its DiT tells, if that lies beside it."""
    if found.kind.settle is None:
        return found
    try:
        dit = _of_place(place, "dit", "")
    except ValueError:
        return found
    return replace(found, config=found.kind.settle(found.config, dit.config), more=(*found.more, *dit.files))


def _is_part(folder: Path) -> bool:
    """Whether a folder is one part of a model as its library writes it."""
    config = folder / "config.json"
    return config.is_file() and _class(folders.settings(config)) in {name.split(APART)[0] for name in NETWORKS}


def _of_part(below: Path, part: str, reader: str = "") -> Part:
    folder = below.parent
    found = folders.settings(below / "config.json")
    name = _class(found)
    kind = read_by(name, reader or (_family(folder) if part == "text_encoder" else ""))
    if kind is None or kind.part != part:
        known = ", ".join(sorted(name for name, each in NETWORKS.items() if each.part == part))
        raise ValueError(f"{shown(below.name)} of {shown(folder.name)!r} is a {shown(name)}; known here are {known}.")
    wanted = SAID_ELSEWHERE & kind.schema.model_fields.keys()
    elsewhere = [folder / "scheduler" / "scheduler_config.json", folder / folders.INDEX] if wanted else []
    for path in filter(Path.is_file, elsewhere):
        said = folders.settings(path)
        found |= {name: said[name] for name in wanted & said.keys()}
    if "causal_positions" in kind.schema.model_fields:
        elsewhere.append(folder / FOLDERS["vae"] / "config.json")
        found["causal_positions"] = ltx.is_later(_vae_blocks(folder))
    return Part(
        kind,
        read(kind.schema, found, f"{shown(below.name)}/config.json of {shown(folder.name)!r}"),
        tuple(folders.weight_files(below)),
        (below / "config.json", *elsewhere),
        kind.layout,
        tokenizer=words([folder / TOKENIZER[part], below]) if part in TOKENIZER else None,
        beside=_of_part(folder / FOLDERS[kind.beside], kind.beside) if kind.beside else None,
    )


def _published(name: str, part: str) -> Part:
    kind, config = PUBLISHED[name][part]
    beside = NETWORKS[kind].beside
    return Part(NETWORKS[kind], config, beside=_published(name, beside) if beside else None)


def _class(found: dict[str, Any]) -> str:
    """The class of a library that a configuration names."""
    listed = found.get("architectures")
    return str(found.get("_class_name") or (listed[0] if isinstance(listed, list) and listed else None))


def _family(folder: Path) -> str:
    """The class of a model's DiT, which says how it reads a text encoder that others have too."""
    config = folder / FOLDERS["dit"] / "config.json"
    if not config.is_file():
        places = [folder, *filter(Path.is_dir, (folder / each for each in KEPT["dit"]))]
        return next(filter(None, map(bare.reader_in, places)), "")
    name = _class(folders.settings(config))
    return ltx.LATER if name == ltx.TRANSFORMER and ltx.is_later(_vae_blocks(folder)) else name


def _vae_blocks(folder: Path) -> list[Any]:
    """The kinds of blocks of a model's VAE, which tell generations of LTX-Video apart."""
    config = folder / FOLDERS["vae"] / "config.json"
    found = folders.settings(config).get("down_block_types") if config.is_file() else None
    return found if isinstance(found, list) else []
