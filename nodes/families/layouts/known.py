"""All layouts that are known, and which of them a file has. Knows no file, only the names in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kineograph.nodes.families.layouts import clip, cogvideox, hunyuan, language, ltx, mochi, text, wan, wan22
from kineograph.nodes.families.layouts.layout import Layout

KINDS = (
    wan22,  # before wan: its VAE has the names of that one too
    wan,
    ltx,
    hunyuan,
    mochi,
    cogvideox,
    text,
    clip,
    language,
)
LAYOUTS: tuple[Layout, ...] = tuple(layout for kind in KINDS for layout in kind.LAYOUTS)
PREFIXES = ("model.diffusion_model.", "model.model.", "diffusion_model.", "vae.", "")
"""Before the names of a network that was saved with what was around it."""


def recognised(names: Iterable[str]) -> list[tuple[Layout, str]]:
    """The layouts of the networks in a file by its tensors' names, each with what stands before its own."""
    known = set(names)
    return [
        (layout, prefix)
        for prefix in PREFIXES
        if (layout := next((each for each in LAYOUTS if all(prefix + mark in known for mark in each.marks)), None))
    ]


def half(names: Collection[str]) -> str:
    """What stands before the names of a file in the whole network, of which it is a half; nothing of a whole one."""
    return next((start for start, marks in mochi.HALVES.items() if all(mark in names for mark in marks)), "")
