"""What a layout of weights is, and what all layouts need to rename them. Knows no family.

A layout is recognised by tensors that it must have. Every name is renamed or is an error: a weight that nobody reads
would be one that nobody misses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kineograph.nodes.families.schemas import NetworkConfig

if TYPE_CHECKING:
    from kineograph.nodes.networks.mapped import Placed

Shapes = Mapping[str, tuple[int, ...]]
Said = Mapping[str, Any]
"""What a config.json beside a file says, or the file's own header; checked by whoever reads it."""


@dataclass(frozen=True)
class Layout:
    """How a file names the weights of a kind of network.

    Attributes:
        about: the file, for people.
        kind: of network, a name in ``loading.NETWORKS``.
        marks: tensors by which it is known.
        rename: from a file's name to the network's; None where it is not known, empty where it is and is no weight.
        sizes: from shapes by the file's names, and what is said of them.
        split: makes several tensors of one, where the network has several, before they are renamed.
        header: schema of what a file's header says of it under ``config``; then that is what ``sizes`` is told.
    """

    about: str
    kind: str
    marks: tuple[str, ...]
    rename: Callable[[str], str | None]
    sizes: Callable[[Shapes, Said], NetworkConfig]
    split: Callable[[Mapping[str, Placed]], Mapping[str, Placed]] = lambda state: state
    header: type[NetworkConfig] | None = None


def numbered(pattern: str, name: str) -> tuple[str, str]:
    """What a name begins with, and the rest."""
    found = re.match(pattern, name)
    end = found.end() if found else 0
    return name[:end], name[end:]


def exchanged(name: str, table: Mapping[str, str]) -> str | None:
    """A name whose beginning, whole parts of it, is replaced; None where the table does not have it."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        if (start := ".".join(parts[:count])) in table:
            return ".".join([table[start], *parts[count:]])
    return None


def layers(shapes: Shapes, pattern: str) -> int:
    return 1 + max(int(found[1]) for name in shapes if (found := re.match(pattern, name)))
