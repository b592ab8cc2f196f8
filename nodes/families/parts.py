"""A part of a model as it was found, and what parts are called. Reads no file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kineograph.nodes.families.kinds import Kind
from kineograph.nodes.families.layouts.layout import Layout
from kineograph.nodes.families.schemas import NetworkConfig
from kineograph.nodes.families.tokens import TABLES

NAMES = {
    "dit": "DiT", "vae": "VAE", "text_encoder": "text encoder", "image_encoder": "image encoder",
    "text_encoder_2": "text encoder of CLIP",
}  # fmt: skip


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


def words(places: list[Path]) -> Path:
    """Where a tokenizer lies; where it should, if it does not."""
    return next((place for place in places if any((place / table).is_file() for table in TABLES)), places[0])
