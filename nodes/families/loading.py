"""From a found part of a model to the value of a socket: built without numbers, filled from mapped files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kineograph.nodes.clip_files import shown
from kineograph.nodes.families.finding import Part, find
from kineograph.nodes.families.tokens import Unread, tokenizer

if TYPE_CHECKING:
    from torch import Tensor


def outline(path: str, part: str, dtype: str) -> Any:
    """The value of a part's socket without its numbers: of the files, only sizes are read."""
    return _outlined(find(path, part), dtype)


def _outlined(found: Part, dtype: str) -> Any:
    import torch

    from kineograph.nodes.networks.mapped import converted

    network = found.kind.build(found.config)
    network.load_state_dict(converted(network.state_dict(), getattr(torch, dtype), _kept(network, dtype)), assign=True)
    beside = [_outlined(found.beside, dtype)] if found.beside else []
    return found.kind.adapt(network.eval().requires_grad_(False), found.config, Unread(), *beside)


def load(path: str, part: str, dtype: str) -> Any:
    """The value of a part's socket; weights stay in their files, mapped, where their dtype is the one asked for.

    Raises:
        ValueError: no such model, or files that do not fit.
    """
    found = find(path, part)
    if not found.files:
        raise ValueError(
            f"Of {path!r} only the sizes are known here: `kineograph plan` can tell what it would cost. To run it, "
            "give the folder in which its weights lie."
        )
    return _loaded(found, dtype)


def _loaded(found: Part, dtype: str) -> Any:
    import torch

    from kineograph.nodes.networks.mapped import assign, mapped_weights, unscaled

    network = found.kind.build(found.config)
    numbers = getattr(torch, dtype)
    state = renamed(found, unscaled(mapped_weights(found.files), numbers))
    for name, same in _tied(network).items():
        if found_one := [state[each] for each in (same, name) if each in state]:
            state[name] = state[same] = found_one[0]
    assign(network, state, shown(found.files[0].name), numbers, _kept(network, dtype))
    words = None if found.tokenizer is None else tokenizer(found.tokenizer, found.kind.tokens)
    beside = [_loaded(found.beside, dtype)] if found.beside else []
    return found.kind.adapt(network, found.config, words, *beside)


def renamed(part: Part, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a part's files in the names of its network.

    Raises:
        ValueError: names that its layout does not have, all of them.
    """
    if part.layout is None:
        return dict(state)
    known: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, tensor in state.items():
        new = part.layout.rename(name.removeprefix(part.prefix)) if name.startswith(part.prefix) else None
        if new is None:
            unknown.append(name)
        elif new:
            known[new] = tensor
    if unknown:
        raise ValueError(
            f"{shown(part.files[0].name)} is {part.layout.about}, and {len(unknown)} of its tensors are not known: "
            + ", ".join(map(shown, unknown))
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
