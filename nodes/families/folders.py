"""Folders of a model, as the library diffusers writes them: which files there are. Trusts none, runs nothing of them.

What a part is, its own config.json says, which is read by our schemas; ``model_index.json`` names no class here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kineograph.digests import file_digest
from kineograph.nodes.clip_files import as_sentence, shown, strict_json

SETTINGS_BYTES = 2**24
INDEX = "model_index.json"
STEMS = ("diffusion_pytorch_model", "model")
"""How diffusers and transformers call the weights of a part."""


def is_pipeline(path: Path) -> bool:
    """Whether a folder is a model as diffusers writes it."""
    return (path / INDEX).is_file() or (path / "transformer" / "config.json").is_file()


def settings(path: Path) -> dict[str, Any]:
    """A JSON file of a model.

    Raises:
        ValueError: it is missing, large or no JSON object.
    """
    where = f"{shown(path.name)} of {shown(path.parent.name)!r}"
    if not path.is_file():
        raise ValueError(f"There is no {where}.")
    if path.stat().st_size > SETTINGS_BYTES:
        raise ValueError(f"{where} has more than {SETTINGS_BYTES:,} bytes.")
    try:
        return strict_json(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} cannot be read: {as_sentence(error)}") from None


def header(path: Path) -> dict[str, Any]:
    """What the header of a file of weights says under ``config``, a JSON object; empty where it says nothing.

    Raises:
        ValueError: it is no JSON object.
    """
    from kineograph.nodes.networks.mapped import is_archive
    from kineograph.nodes.networks.weights import read_header

    said = None if is_archive(path) else read_header(path).metadata.get("config")
    if said is None:
        return {}
    try:
        return strict_json(said.encode())
    except (ValueError, RecursionError) as error:
        where = f"The config in the header of {shown(path.name)}"
        raise ValueError(f"{where} cannot be read: {as_sentence(error)}") from None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a part of a model, all there; their headers are not looked at yet.

    Raises:
        ValueError: there are none, some are missing, or they are pickles.
    """
    for stem in STEMS:
        if (single := folder / f"{stem}.safetensors").is_file():
            return [single]
        if (index := folder / f"{stem}.safetensors.index.json").is_file():
            return parts(index)
    pickles = sorted(each.name for each in folder.glob("*") if each.suffix in {".bin", ".pt", ".pth", ".ckpt"})
    if pickles:
        raise ValueError(
            f"The weights in {shown(folder.name)!r} are pickles ({shown(pickles[0])}), which can run code when they "
            "are read. Convert them where you trust them: save_pretrained(..., safe_serialization=True) of diffusers."
        )
    names = " and no ".join(f"{stem}.safetensors" for stem in STEMS)
    raise ValueError(f"There are no weights in {shown(folder.name)!r}: no {names}.")


def parts(index: Path) -> list[Path]:
    """The files that an index names, all there and beside it."""
    named = settings(index).get("weight_map")
    files = sorted(set(map(str, named.values()))) if isinstance(named, dict) else []
    for file in files:
        if Path(file).name != file or "\\" in file or not file.endswith(".safetensors"):
            raise ValueError(f"{index.name} names {shown(file)!r}, which is no file of its folder.")
        if not (index.parent / file).is_file():
            raise ValueError(f"{shown(file)} is missing in {shown(index.parent.name)!r}: {index.name} names it.")
    if not files:
        raise ValueError(f"{index.name} of {shown(index.parent.name)!r} names no files.")
    return [index.parent / file for file in files]


def digest(files: Iterable[Path]) -> str:
    """The digest of files by name and content."""
    from blake3 import blake3

    made = blake3()
    for path in files:
        made.update(f"{path.name}\0{file_digest(path)}\n".encode("utf-8", "surrogateescape"))
    return made.hexdigest(20)
