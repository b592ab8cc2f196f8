"""From a path to the parts of a model: which files hold it, in which layout, of which sizes. Loads no weights.

A path is a folder as diffusers writes it, a folder or a file with weights as Wan's repository or ComfyUI name them, or
the name of a published model, of which the sizes are known. What a file holds, its tensors say, not its name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kineograph.nodes.clip_files import shown
from kineograph.nodes.families import folders, wan
from kineograph.nodes.families.kinds import NETWORKS, Kind
from kineograph.nodes.families.layouts.known import half, recognised
from kineograph.nodes.families.layouts.layout import Layout
from kineograph.nodes.families.published import PUBLISHED
from kineograph.nodes.families.schemas import CLIPVision, NetworkConfig, T5Encoder, WanAutoencoder, read
from kineograph.nodes.families.tokens import TABLES

FOLDERS = {
    "dit": "transformer", "vae": "vae", "text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2",
    "image_encoder": "image_encoder",
}  # fmt: skip
NAMES = {
    "dit": "DiT", "vae": "VAE", "text_encoder": "text encoder", "image_encoder": "image encoder",
    "text_encoder_2": "text encoder of CLIP",
}  # fmt: skip
KEPT = {
    "dit": ("hunyuan-video-t2v-720p/transformers", "transformers", "transformer/1", "transformer_t2v/1000"),
    "vae": ("hunyuan-video-t2v-720p/vae", "vae"),
}
"""Where the repositories of HunyuanVideo and CogVideoX keep parts that are no folders of a library."""
TOKENIZER = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
WEIGHTS = (".safetensors", ".pth", ".pt")
SAID_ELSEWHERE = {"snr_shift_scale", "force_zeros_for_empty_prompt"}
"""What a network must know that its own config.json does not say: its scheduler's does, or model_index.json."""
TOKENIZERS = {
    "text_encoder": ("tokenizer", "google/umt5-xxl", "umt5-xxl", "."),
    "text_encoder_2": ("tokenizer_2",),
}
"""Where a tokenizer.json lies beside weights, in the folders that people have."""


@dataclass(frozen=True)
class Part:
    """A part of a model as it was found.

    Attributes:
        kind: what it is.
        config: its sizes.
        files: its weights; none where only the sizes are known.
        more: other files that decide what it is.
        layout: how its files name the weights; None where they do as its library.
        prefix: of its names in the files.
        others: prefixes of what else is in them, which other parts read.
        tokenizer: where its tokenizer.json should lie.
        beside: another part that its value holds.
    """

    kind: Kind
    config: NetworkConfig
    files: tuple[Path, ...] = ()
    more: tuple[Path, ...] = ()
    layout: Layout | None = None
    prefix: str = ""
    others: tuple[str, ...] = ()
    tokenizer: Path | None = None
    beside: Part | None = None


def find(path: str, part: str) -> Part:
    """A part of a model.

    Raises:
        ValueError: there is none; with what there could be.
    """
    place = Path(path)
    if "\0" not in path and place.is_file():
        return _of_files(place, part)
    if "\0" not in path and place.is_dir():
        return _of_place(place, part)
    if path in wan.SIZES:
        return {
            "dit": Part(NETWORKS[f"Wan{'VACE' if 'vace' in path else ''}Transformer3DModel"], wan.SIZES[path]),
            "vae": Part(NETWORKS["AutoencoderKLWan"], WanAutoencoder()),
            "text_encoder": Part(NETWORKS["UMT5EncoderModel"], T5Encoder()),
            "image_encoder": Part(NETWORKS["CLIPVisionModel"], CLIPVision()),
        }[part]
    if path in PUBLISHED:
        return _published(path, part)
    raise ValueError(
        f"There is no model in {shown(path)!r}. Give a folder as diffusers writes it (with transformer, vae, "
        "text_encoder and tokenizer), or one with the files of Wan's repository. To plan without weights, give a name: "
        f"{', '.join([*wan.SIZES, *PUBLISHED])}."
    )


def files(path: str, part: str) -> list[Path]:
    """Every file that decides what a part is: its weights, its configuration, its tokenizer."""
    found = find(path, part)
    own = _files(found)
    if part != "dit" or (second := second_dit(path)) is None or not found.files:
        return own
    return [*own, Path(path) / folders.INDEX, *files(second[0], part)]


def _files(found: Part) -> list[Path]:
    words = [] if found.tokenizer is None else [found.tokenizer / name for name in TABLES]
    beside = [] if found.beside is None else _files(found.beside)
    return [*found.files, *filter(Path.is_file, [*found.more, *words]), *beside]


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


def _of_place(place: Path, part: str) -> Part:
    """The part that a folder holds, of a library or of authors."""
    if folders.is_pipeline(place):
        return _of_part(place / FOLDERS[part], part)
    for below in (place / FOLDERS[part], place):
        if _is_part(below):
            return _of_part(below, part)
    kept = filter(Path.is_dir, (place / each for each in KEPT.get(part, ())))
    return _settled(_of_folder(next(kept, place), part), place)


def _settled(found: Part, place: Path) -> Part:
    """A part whose files leave out what its DiT tells, if that lies beside it."""
    if found.kind.settle is None:
        return found
    try:
        dit = _of_place(place, "dit")
    except ValueError:
        return found
    return replace(found, config=found.kind.settle(found.config, dit.config), more=(*found.more, *dit.files))


def _is_part(folder: Path) -> bool:
    """Whether a folder is one part of a model as its library writes it."""
    config = folder / "config.json"
    return config.is_file() and _class(folders.settings(config)) in NETWORKS


def _of_part(below: Path, part: str) -> Part:
    folder = below.parent
    found = folders.settings(below / "config.json")
    name = _class(found)
    kind = NETWORKS.get(f"{name} of {_family(folder)}" if part == "text_encoder" else name) or NETWORKS.get(name)
    if kind is None or kind.part != part:
        known = ", ".join(sorted(name for name, each in NETWORKS.items() if each.part == part))
        raise ValueError(f"{shown(below.name)} of {shown(folder.name)!r} is a {shown(name)}; known here are {known}.")
    wanted = SAID_ELSEWHERE & kind.schema.model_fields.keys()
    elsewhere = [folder / "scheduler" / "scheduler_config.json", folder / folders.INDEX] if wanted else []
    for path in filter(Path.is_file, elsewhere):
        said = folders.settings(path)
        found |= {name: said[name] for name in wanted & said.keys()}
    return Part(
        kind,
        read(kind.schema, found, f"{shown(below.name)}/config.json of {shown(folder.name)!r}"),
        tuple(folders.weight_files(below)),
        (below / "config.json", *elsewhere),
        kind.layout,
        tokenizer=_words([folder / TOKENIZER[part], below]) if part in TOKENIZER else None,
        beside=_of_part(folder / FOLDERS[kind.beside], kind.beside) if kind.beside else None,
    )


def _words(places: list[Path]) -> Path:
    """Where a tokenizer lies; where it should, if it does not."""
    return next((place for place in places if any((place / table).is_file() for table in TABLES)), places[0])


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
    return _class(folders.settings(config)) if config.is_file() else ""


def _of_folder(folder: Path, part: str) -> Part:
    """The part that the files beside each other in a folder hold."""
    sharded = sorted(folder.glob("*.safetensors.index.json"))
    groups = [folders.parts(index) for index in sharded]
    taken = {path for group in groups for path in group}
    single = [path for path in _weights(folder) if path not in taken]
    found = [group for group in [*groups, *_whole(single)] if part in _parts_in(group)]
    if len(found) == 1:
        return _of_weights(found[0], part)
    if found:
        names = ", ".join(shown(group[0].name) for group in found)
        way = "Give one file's path." if part != "text_encoder_2" else "Leave one beside the other text encoder."
        raise ValueError(f"{shown(folder.name)!r} holds more than one {NAMES[part]}: {names}. {way}")
    raise ValueError(
        f"There is no {NAMES[part]} in {shown(folder.name)!r}: neither is it a folder as diffusers writes it, nor is "
        f"one of its {len(single)} files of weights what the authors of a model or ComfyUI call so."
    )


def _weights(folder: Path) -> list[Path]:
    """The files of weights in a folder, but those in fp8 whose factors stand in another file (HunyuanVideo's)."""
    found = [path for path in sorted(folder.iterdir()) if path.suffix in WEIGHTS]
    maps = {_map(path) for path in found} & set(found)
    return [path for path in found if path not in maps and _map(path) not in maps]


def _map(path: Path) -> Path:
    return path.with_stem(f"{path.stem}_map")


def _whole(single: list[Path]) -> list[list[Path]]:
    """Files that hold networks, each alone, and those that hold a half of one, together."""
    halves = [path for path in single if _half(path)]
    return [[path] for path in single if path not in halves] + ([halves] if halves else [])


def _half(path: Path) -> str:
    from kineograph.nodes.networks.mapped import placed_in

    return half(placed_in([path]))


def _of_files(path: Path, part: str) -> Part:
    if _map(path).is_file():
        raise ValueError(
            f"The factors of {shown(path.name)} stand in {shown(_map(path).name)}, which is not read here. Take the "
            "same weights in bfloat16, and float8_e4m3fn as dtype."
        )
    halved = bool(_half(path))
    group = [each for each in _weights(path.parent) if _half(each)] if halved else [path]
    if part not in (found := _parts_in(group)):
        held = " and ".join(f"a {NAMES[each]}" for each in found) or "nothing that is known here"
        held = "half of a VAE, with no other half beside it" if halved and not found else held
        raise ValueError(f"{shown(path.name)} holds {held}, and a {NAMES[part]} is needed.")
    return _of_weights(group, part)


def _parts_in(group: list[Path]) -> list[str]:
    """The parts of a model that files hold, as far as they are known. A file that lies about itself is an error."""
    from kineograph.nodes.networks.mapped import shapes_in

    return [NETWORKS[layout.kind].part for layout, _ in recognised(shapes_in(group, half))]


def _of_weights(group: list[Path], part: str) -> Part:
    from kineograph.nodes.networks.mapped import shapes_in

    shapes = shapes_in(group, half)
    found = recognised(shapes)
    layout, prefix = next(each for each in found if NETWORKS[each[0].kind].part == part)
    folder = group[0].parent
    beside = folder / "config.json"
    said = folders.settings(beside) if beside.is_file() and part == "dit" else {}
    plain = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    try:
        config = layout.sizes(plain, said)
    except (ValueError, LookupError, TypeError, ZeroDivisionError):
        raise ValueError(
            f"The tensors of {shown(group[0].name)} have no shapes that {layout.about} can have."
        ) from None
    kind, tokenizer = NETWORKS[layout.kind], None
    if part in TOKENIZERS:
        tokenizer = _words([folder / name for name in TOKENIZERS[part]])
    more = (beside,) if beside.is_file() else ()
    others = tuple(each for _, each in found if each != prefix)
    second = _of_folder(folder, kind.beside) if kind.beside else None
    return Part(kind, config, tuple(group), more, layout, prefix, others, tokenizer, second)
