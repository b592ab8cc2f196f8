"""All layouts that are known, and which of them a file has. Knows no file, only the names in it."""

from __future__ import annotations

from collections.abc import Iterable

from kineograph.nodes.families.layouts import clip, text, wan, wan22
from kineograph.nodes.families.layouts.layout import Layout

LAYOUTS = (*wan22.LAYOUTS, *wan.LAYOUTS, *text.LAYOUTS, *clip.LAYOUTS)
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "vae.", "")
"""Before the names of a network that was saved with what was around it."""


def recognised(names: Iterable[str]) -> list[tuple[Layout, str]]:
    """The layouts of the networks in a file by its tensors' names, each with what stands before its own."""
    known = set(names)
    return [
        (layout, prefix)
        for prefix in PREFIXES
        if (layout := next((each for each in LAYOUTS if all(prefix + mark in known for mark in each.marks)), None))
    ]
