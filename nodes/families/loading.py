"""From a found part of a model to the value of a socket: built without numbers, filled from mapped files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kineograph.nodes.clip_files import shown
from kineograph.nodes.families.finding import find
from kineograph.nodes.families.layouts.known import half
from kineograph.nodes.families.parts import Part
from kineograph.nodes.families.tokens import Later, Unread, tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from kineograph.nodes.networks.mapped import Placed
    from kineograph.nodes.networks.resident import Read

INNER = "network."
"""Before the names of a library's network in its adapter."""
BESIDE = "beside."
"""Before those of a second one."""
FP8 = "float8_e4m3fn"
BESIDE_FP8 = "bfloat16"
"""What is computed in, and kept in, where linear layers are kept in fp8."""


def outline(path: str, part: str, dtype: str, reads_as: str = "") -> Any:
    """The value of a part's socket without its numbers: of the files, only sizes are read.

    Its network has an attribute ``resident``: blocks of weights that can be brought from the files.

    Raises:
        ValueError: no such model, or files that do not fit.
    """

    def words(found: Part) -> Any:
        return Unread() if found.tokenizer is None else Later(found.tokenizer, found.kind.tokens)

    return _outlined(find(path, part, reads_as), path, dtype, words)


def load(path: str, part: str, dtype: str, reads_as: str = "") -> Any:
    """The value of a part's socket; weights stay in their files, mapped, where their dtype is the one asked for.

    Raises:
        ValueError: no such model, or files that do not fit.
    """

    def words(found: Part) -> Any:
        return None if found.tokenizer is None else tokenizer(found.tokenizer, found.kind.tokens)

    found = find(path, part, reads_as)
    if not found.files:
        raise ValueError(_only_sizes(path))
    made = _outlined(found, path, dtype, words)
    made.network.resident.fill()
    return made


def _outlined(found: Part, path: str, dtype: str, words: Callable[[Part], Any]) -> Any:
    from kineograph.nodes.networks.resident import Resident

    network, read = _network(found, path, dtype)
    given, reads = [network, found.config, words(found)], {INNER: read}
    if found.beside is not None:
        second, reads[BESIDE] = _network(found.beside, path, dtype)
        given += [second, words(found.beside)]
    assert found.kind.adapt is not None, "it stands beside another part"
    made = found.kind.adapt(*given)
    made.network.resident = Resident(made.network, type(network).__name__, _within(reads), as_in_file=True)
    return made


def _network(found: Part, path: str, dtype: str) -> tuple[Any, Read]:
    """A library's network without numbers, and what reads them."""
    import torch

    from kineograph.nodes.networks.fp8 import keep_in_fp8
    from kineograph.nodes.networks.in_place import gelu_in_place
    from kineograph.nodes.networks.mapped import Stored, converted

    network = found.kind.build(found.config)
    gelu_in_place(network)
    numbers, kept = getattr(torch, BESIDE_FP8 if dtype == FP8 else dtype), _kept(network, dtype)
    network.load_state_dict(converted(network.state_dict(), numbers, kept), assign=True)
    placed = _placed(found, network)
    if dtype == FP8:
        keep_in_fp8(network, placed, numbers, kept, getattr(network, "_skip_layerwise_casting_patterns", None) or ())
    read = Stored(network, placed, shown(found.files[0].name)).read if found.files else _unread(path)
    return network.eval().requires_grad_(False), read


def _within(reads: Mapping[str, Read]) -> Read:
    """For an adapter, from what reads the weights of the networks in it, by their names there."""

    def reading(outlines: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        for place, read in reads.items():
            inner = {name.removeprefix(place): each for name, each in outlines.items() if name.startswith(place)}
            yield from ((place + name, weight) for name, weight in read(inner))

    return reading


def _unread(path: str) -> Read:
    def reading(_: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        raise ValueError(_only_sizes(path))

    return reading


def _only_sizes(path: str) -> str:
    return (
        f"Of {path!r} only the sizes are known here: `kineograph plan` can tell what it would cost. To run it, "
        "give the folder in which its weights lie."
    )


def _placed(found: Part, network: Any) -> dict[str, Placed]:
    """Where the weights of a network stand in a part's files, by their names in it.

    Raises:
        ValueError: a file that lies, names that are not known, or numbers that are none of weights.
    """
    from kineograph.nodes.networks.mapped import placed_in, with_factors

    placed = renamed(found, with_factors(placed_in(found.files, half)))
    for name, same in _tied(network).items():
        if found_one := [placed[each] for each in (same, name) if each in placed]:
            placed[name] = placed[same] = found_one[0]
    for name, each in placed.items():
        if not each.dtype.is_floating_point:
            raise ValueError(f"{name} of {each.path.name} holds {each.dtype}, and weights are floating-point numbers.")
    return placed


def renamed(part: Part, state: Mapping[str, Placed]) -> dict[str, Placed]:
    """The tensors of a part's files in the names of its network.

    Raises:
        ValueError: names that its layout does not have.
    """
    from kineograph.nodes.networks.weights import listed

    if part.layout is None:
        return dict(state)
    known: dict[str, Placed] = {}
    unknown: list[str] = []
    own = {name: placed for name, placed in state.items() if not part.others or not name.startswith(part.others)}
    for name, placed in part.layout.split(own).items():
        new = part.layout.rename(name.removeprefix(part.prefix)) if name.startswith(part.prefix) else None
        if new is None:
            unknown.append(name)
        elif new:
            known[new] = placed
    if unknown:
        raise ValueError(
            f"{shown(part.files[0].name)} is {part.layout.about}, and {len(unknown)} of its tensors are not known: "
            + listed([*map(shown, unknown)], "that are not known", ", ")
        )
    return known


def _kept(network: Any, dtype: str) -> list[str]:
    """The parts of a network that its library keeps in float32: diffusers always, transformers in float16 alone."""
    if hasattr(network, "_keep_in_fp32_modules_strict") and dtype != "float16":
        return list(network._keep_in_fp32_modules_strict or [])
    return list(network._keep_in_fp32_modules or [])


def _tied(network: Any) -> dict[str, str]:
    """The weights of a network that are one, of which files hold one or both."""
    return getattr(network, "_tied_weights_keys", None) or {}
