"""Who reads a network: most belong to one family, a T5 is read by three, each in its own way. Knows no files."""

from __future__ import annotations

from kineograph.nodes.families import ltx
from kineograph.nodes.families.kinds import NETWORKS, Kind

READERS = {
    "ltx-video": ltx.TRANSFORMER,
    "ltx-video-0.9.5": ltx.LATER,
    "cogvideox": "CogVideoXTransformer3DModel",
    "mochi": "MochiTransformer3DModel",
}
"""Families that share a text encoder, by the names that people give, with their DiT's class."""
APART = " of "
"""Between a network's name and its reader's in ``kinds.NETWORKS``."""


def part_of(network: str) -> str:
    """What a network is of a model, by its class's name, whoever reads it."""
    return next(kind.part for name, kind in NETWORKS.items() if name.split(APART)[0] == network)


def read_by(network: str, reader: str) -> Kind | None:
    """A network as a family reads it.

    Args:
        network: its class's name.
        reader: the class of the family's DiT; empty where nobody knows.

    Raises:
        ValueError: several families read it, and the reader is none of them.
    """
    found = NETWORKS.get(f"{network}{APART}{reader}") or NETWORKS.get(network)
    if found is None and any(name.startswith(network + APART) for name in NETWORKS):
        raise ValueError(
            f"This is a {network}, and several families read it, each in its own way; none of their DiTs lies beside "
            f"it. Say who reads it: load_video_text_encoder with reads_as {', '.join(READERS)}."
        )
    return found
