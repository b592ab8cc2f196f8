"""What one ComfyUI node hands to the next on its way to ours: wires, and what has no counterpart until it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Wire:
    """A link of ours: ``node``, ``node.port`` or ``$input``.

    Attributes:
        link: as it is written.
        many: whether it is a list as ComfyUI knows them: what is declared for one item runs once for each.
    """

    link: str
    many: bool = False


@dataclass(frozen=True)
class Model:
    """A DiT, and what the nodes around it must know of it.

    Attributes:
        dit: the network.
        shift: of ``shifted_sigmas``; None where nothing said so.
        patch: latent cells per token, downwards and across.
    """

    dit: Wire
    shift: float | Wire | None = None
    patch: int = 1


@dataclass(frozen=True)
class Words:
    """A prompt that nobody has read yet.

    Attributes:
        encoder: the text encoder.
        text: the words, or where they come from.
        node: the id of the node that holds them.
    """

    encoder: Wire
    text: Any
    node: str


@dataclass(frozen=True)
class Given:
    """A picture or clip that a video to come begins or ends with."""

    video: Wire
    from_end: bool = False


@dataclass(frozen=True)
class Shown:
    """What a model that hears more than words is shown of a video to come: a node of ours, and what it is given."""

    kind: str
    given: Mapping[str, Any]


@dataclass(frozen=True)
class Looks:
    """Who looks at pictures for the model; None where the model brings it along."""

    encoder: Wire | None


class Trim:
    """How many latent frames of references stand before a video: nobody need know, since no decoder shows them."""


@dataclass(frozen=True)
class Empty:
    """A latent of nothing: its size, as the sampler's noise will have it."""

    width: Any
    height: Any
    frames: Any = 1
    clips: Any = 1
    given: tuple[Given, ...] = ()
    shown: tuple[Shown, ...] = ()
    vae: Wire | None = None


@dataclass(frozen=True)
class Pictures:
    """Frames, and whether they are known to be a single one."""

    video: Wire
    single: bool = False


@dataclass(frozen=True)
class Film:
    """Frames with the rate that they are played at."""

    video: Wire
    fps: Any


def as_wire(value: Any) -> Wire | None:
    """The one wire that a value goes by, or None."""
    if isinstance(value, Wire):
        return value
    return value.video if isinstance(value, (Pictures, Film)) else value.dit if isinstance(value, Model) else None


def spec(kind: str, /, **given: Any) -> dict[str, Any]:
    """A node of ours as JSON."""
    params = {name: value for name, value in given.items() if value is not None and not isinstance(value, Wire)}
    links = {name: value.link for name, value in given.items() if isinstance(value, Wire)}
    return {"type": kind} | ({"params": params} if params else {}) | ({"links": links} if links else {})
