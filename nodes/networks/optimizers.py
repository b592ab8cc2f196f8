"""Optimizers over parameters grouped by what they are: knows kinds of layers, no loss, no schedule and no graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn

from kineograph.nodes.networks.ranks import sharded_like

Tag = Literal["hidden", "edge", "embedding", "norm", "bias"]
"""What a parameter is:

hidden: the matrix of a linear layer inside a stack of blocks (``nn.ModuleList``), what Muon is made for;
edge: the weights of every other linear layer and of convolutions: what leads into the stack and out of it;
embedding: a table of rows that are looked up;
norm: the weight of a normalisation;
bias: all the rest, numbers that are added: biases, tables of modulation.
"""
TAGS: tuple[Tag, ...] = get_args(Tag)

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

# Muon's step is scaled to the size of AdamW's (Liu et al. 2025), so one learning rate serves both.
# SGD over lists of tensors (foreach) would add its momentum into the gradients, which are somebody's value.
_CLASSES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "muon": (torch.optim.Muon, {"adjust_lr_fn": "match_rms_adamw"}),
    "sgd": (torch.optim.SGD, {"foreach": False}),
}


class Optimizers:
    """Torch optimizers over different parameters, used as one; ``state_dict`` has the form of a single one's."""

    def __init__(self, members: Sequence[torch.optim.Optimizer]) -> None:
        """Take optimizers that share no parameter.

        Args:
            members: in the order in which ``state_dict`` numbers their parameters.
        """
        self.members = tuple(members)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """All groups; each also holds its ``tag`` and the factor ``lr_scale`` of its learning rate."""
        return [group for member in self.members for group in member.param_groups]

    def step(self, lr: float) -> None:
        """Update every parameter by its ``.grad``, which is then taken off.

        Args:
            lr: learning rate; each group multiplies it by its ``lr_scale``.
        """
        for group in self.param_groups:
            group["lr"] = lr * group["lr_scale"]
        for member in self.members:
            member.step()
            member.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """The state by number of parameter, and the groups, as of one torch optimizer."""
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        for member, first in self._numbered():
            own = member.state_dict()
            state |= {first + number: value for number, value in own["state"].items()}
            groups += [_renumbered(group, first) for group in own["param_groups"]]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Put back what ``state_dict`` gave, to the bit.

        Args:
            state_dict: of an optimizer built from an equal recipe over an equal network.

        Raises:
            ValueError: its groups are others.
        """
        groups = list(state_dict["param_groups"])
        sizes, own_sizes = ([len(group["params"]) for group in side] for side in (groups, self.param_groups))
        if sizes != own_sizes:
            raise ValueError(
                f"The state has groups of {sizes} parameters, this optimizer of {own_sizes}: it was saved by a "
                "training of another network or with another optimizer."
            )
        for member, first in self._numbered():
            own, groups = groups[: len(member.param_groups)], groups[len(member.param_groups) :]
            numbers = range(first, first + _count(member))
            state = {number - first: value for number, value in state_dict["state"].items() if number in numbers}
            member.load_state_dict({"state": state, "param_groups": [_renumbered(group, -first) for group in own]})
            for parameter, values in member.state.items():  # of whole parameters, where they are sharded now
                values.update({name: sharded_like(value, parameter) for name, value in values.items()})

    def _numbered(self) -> Iterator[tuple[torch.optim.Optimizer, int]]:
        """Each member with the number of its first parameter."""
        first = 0
        for member in self.members:
            yield member, first
            first += _count(member)


def build_optimizer(
    network: nn.Module, parts: Mapping[str, Mapping[str, Any]], scales: Mapping[str, Mapping[str, float]]
) -> Optimizers:
    """Optimizers over a network's parameters, a group for each tag.

    Args:
        network: whose parameters; those that need no gradient are left out.
        parts: by kind (adamw, muon, sgd), the arguments of torch's class. Muon, where it stands beside another, takes
            the hidden matrices and leaves it the rest.
        scales: by tag, the factors ``lr`` and ``decay`` of its learning rate and weight decay; 1 where none is given.
    """
    tagged: dict[str, list[nn.Parameter]] = {tag: [] for tag in TAGS}
    for name, tag in parameter_tags(network).items():
        parameter = network.get_parameter(name)
        if parameter.requires_grad:
            tagged[tag].append(parameter)
    members: list[torch.optim.Optimizer] = []
    for kind in sorted(parts):
        make, fixed = _CLASSES[kind]
        groups = [
            {
                "params": tagged[tag],
                "tag": tag,
                "lr_scale": scales.get(tag, {}).get("lr", 1.0),
                "weight_decay": parts[kind]["weight_decay"] * scales.get(tag, {}).get("decay", 1.0),
            }
            for tag in TAGS
            if tagged[tag] and ("muon" not in parts or (tag == "hidden") == (kind == "muon"))
        ]
        if groups:
            members.append(make(groups, **parts[kind], **fixed))
    return Optimizers(members)


def parameter_tags(network: nn.Module) -> dict[str, Tag]:
    """What each parameter is, by name, in the order of the network's parameters; see :data:`Tag` for the rule.

    Args:
        network: made of torch's own layers.
    """
    stacks = [f"{name}." for name, module in network.named_modules() if isinstance(module, nn.ModuleList)]
    modules = dict(network.named_modules())

    def tag(name: str) -> Tag:
        owner, _, own_name = name.rpartition(".")
        module = modules[owner]
        if own_name != "weight":
            return "bias"
        if isinstance(module, _EMBEDDINGS):
            return "embedding"
        if isinstance(module, _NORMS):
            return "norm"
        if isinstance(module, nn.Linear) and any(name.startswith(stack) for stack in stacks):
            return "hidden"
        return "edge" if isinstance(module, (nn.Linear, *_CONVOLUTIONS)) else "bias"

    return {name: tag(name) for name, _ in network.named_parameters()}


def _count(optimizer: torch.optim.Optimizer) -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)


def _renumbered(group: dict[str, Any], by: int) -> dict[str, Any]:
    return group | {"params": [number + by for number in group["params"]]}
