"""Files of weights with no library's folder around them: what they hold, their tensors say, not their names.

Knows which files belong together: shards, halves of a VAE, a DiT and the text encoder beside it. Loads no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kineograph.nodes.clip_files import shown
from kineograph.nodes.families import folders, ltx
from kineograph.nodes.families.layouts.known import half, recognised
from kineograph.nodes.families.layouts.layout import Layout
from kineograph.nodes.families.parts import NAMES, Part, words
from kineograph.nodes.families.readers import part_of, read_by
from kineograph.nodes.families.schemas import read

WEIGHTS = (".safetensors", ".pth", ".pt")
TOKENIZERS = {
    "text_encoder": ("tokenizer", "google/umt5-xxl", "umt5-xxl", "."),
    "text_encoder_2": ("tokenizer_2",),
}
"""Where a tokenizer.json lies beside weights, in the folders that people have."""
REPOSITORIES = {"hunyuan-video-i2v-720p": {"image_condition_type": "token_replace"}}
"""What a folder of authors says of the DiT below, where its tensors are those of another."""


def of_folder(folder: Path, part: str, reader: str) -> Part:
    """The part that the files beside each other in a folder hold.

    Args:
        folder: where they lie.
        part: of a model.
        reader: the class of the DiT that reads a text encoder; empty where that shows in what lies beside it.

    Raises:
        ValueError: there is none, or more than one.
    """
    held = _held(folder)
    found = [group for group, networks in held if part in map(part_of, networks)]
    if len(found) == 1:
        return _of_weights(found[0], part, reader or (reader_in(folder) if part == "text_encoder" else ""))
    if found:
        names = ", ".join(shown(group[0].name) for group in found)
        way = "Give one file's path." if part != "text_encoder_2" else "Leave one beside the other text encoder."
        raise ValueError(f"{shown(folder.name)!r} holds more than one {NAMES[part]}: {names}. {way}")
    raise ValueError(
        f"There is no {NAMES[part]} in {shown(folder.name)!r}: neither is it a folder as diffusers writes it, nor is "
        f"one of its {len(_weights(folder))} files of weights what the authors of a model or ComfyUI call so."
    )


def of_file(path: Path, part: str, reader: str) -> Part:
    """The part that a file holds, with the other half of it where it is one; see :func:`of_folder`."""
    if _map(path).is_file():
        raise ValueError(
            f"The factors of {shown(path.name)} stand in {shown(_map(path).name)}, which is not read here. Take the "
            "same weights in bfloat16, and float8_e4m3fn as dtype."
        )
    halved = bool(_half(path))
    group = [each for each in _weights(path.parent) if _half(each)] if halved else [path]
    if part not in (found := [part_of(each) for each in _networks_in(group)]):
        held = " and ".join(f"a {NAMES[each]}" for each in found) or "nothing that is known here"
        held = "half of a VAE, with no other half beside it" if halved and not found else held
        raise ValueError(
            f"{shown(path.name)} holds {held}, and a {NAMES[part]} is needed. Put them beside each other into a folder "
            "and give its path, or load each part by a node of its own."
        )
    return _of_weights(group, part, reader)


def _held(folder: Path) -> list[tuple[list[Path], list[str]]]:
    """The files of weights in a folder that belong together, and which networks they hold."""
    groups = [folders.parts(index) for index in sorted(folder.glob("*.safetensors.index.json"))]
    taken = {path for group in groups for path in group}
    single = [path for path in _weights(folder) if path not in taken]
    return [(group, _networks_in(group)) for group in [*groups, *_whole(single)]]


def reader_in(folder: Path) -> str:
    """Who reads a text encoder: the class of the DiT that lies in a folder, in one of its files; empty without one."""
    for group, networks in _held(folder):
        if dits := [each for each in networks if part_of(each) == "dit"]:
            later = getattr(_of_weights(group, "dit", "").config, "causal_positions", False)
            return ltx.LATER if later else dits[0]
    return ""


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


def _networks_in(group: list[Path]) -> list[str]:
    """The networks that files hold, as far as they are known. A file that lies about itself is an error."""
    from kineograph.nodes.networks.mapped import shapes_in

    return [layout.kind for layout, _ in recognised(shapes_in(group, half))]


def _of_weights(group: list[Path], part: str, reader: str) -> Part:
    from kineograph.nodes.networks.mapped import shapes_in

    shapes = shapes_in(group, half)
    found = recognised(shapes)
    layout, prefix = next(each for each in found if part_of(each[0].kind) == part)
    folder = group[0].parent
    beside = folder / "config.json"
    said = _said(layout, group[0], beside)
    plain = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    kind = read_by(layout.kind, reader)
    assert kind is not None, "layouts are of known networks"
    try:
        config = kind.schema(**layout.sizes(plain, said).model_dump())
    except (ValueError, LookupError, TypeError, ZeroDivisionError):
        raise ValueError(
            f"The tensors of {shown(group[0].name)} have no shapes that {layout.about} can have."
        ) from None
    places = [folder / name for name in TOKENIZERS.get(part, ())]
    return Part(
        kind,
        config,
        tuple(group),
        (beside,) if beside.is_file() and layout.header is None else (),
        layout,
        prefix,
        tuple(each for _, each in found if each != prefix),
        words(places) if places else None,
        of_folder(folder, kind.beside, "") if kind.beside else None,
    )


def _said(layout: Layout, file: Path, beside: Path) -> Mapping[str, Any]:
    """What is said of a network whose files have a layout: in a header, or of a DiT by its folder and config.json."""
    if layout.header is not None:
        return read(layout.header, folders.header(file), f"The header of {shown(file.name)}").model_dump()
    if part_of(layout.kind) != "dit":
        return {}
    return REPOSITORIES.get(file.parent.parent.name, {}) | (folders.settings(beside) if beside.is_file() else {})
