"""What is known of a latent before anything runs, and what a model cannot be asked then. Knows no tensor.

Nodes that make or change a latent hand these facts on (``foretells``), through loops too, and the nodes that ask a
model refuse what it cannot do (``fits``), when the workflow is checked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kineograph.nodes.sockets import DiT, LatentSpec


@dataclass(frozen=True)
class LatentFacts:
    """Of a latent, or of the tokens it is cut into, before it is made.

    Attributes:
        spec: what one cell covers.
        shown: whether frames are given in channels beside it.
        uneven: whether some cells are under less noise than others.
    """

    spec: LatentSpec
    shown: bool = False
    uneven: bool = False


def noise_facts(vae: LatentSpec) -> LatentFacts:
    """Of noise."""
    return LatentFacts(vae)


def given_facts(latent: LatentFacts) -> LatentFacts:
    """Of a latent that frames are given to."""
    return replace(latent, shown=True) if latent.spec.shows else uneven_facts(latent)


def uneven_facts(latent: LatentFacts) -> LatentFacts:
    """Of a latent whose cells stand under noise of several levels."""
    return replace(latent, uneven=True)


def same_facts(latent: LatentFacts) -> LatentFacts:
    """Of a latent that stays as it is in all this."""
    return latent


def even_facts(dit: DiT, latent: LatentFacts) -> LatentFacts:
    """Of a latent as a model is told of it."""
    return replace(latent, uneven=False) if dit.one_level else latent


def check_asked(dit: DiT, patches: LatentFacts) -> None:
    """Refuse what a model cannot be asked.

    Raises:
        ValueError: what it cannot do, and the way out.
    """
    from kineograph.nodes.networks.adapters import cannot

    if dit.one_level and patches.uneven:
        raise ValueError(cannot.one_level_only(dit.family))
    if dit.shows and not patches.shown:
        raise ValueError(cannot.shown_nothing(dit.family))


def check_blocks(dit: DiT, patches: LatentFacts) -> None:
    """Refuse to skip or cache blocks of a model whose blocks are another library's, and what ``check_asked`` refuses.

    Raises:
        ValueError: what it cannot do, and the way out.
    """
    from kineograph.nodes.networks.adapters import cannot

    if dit.family:
        raise ValueError(cannot.no_blocks(dit.family))
    check_asked(dit, patches)
