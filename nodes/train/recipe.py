"""Which optimizer a training uses, as a value that is wired into ``begin_training``. Knows no weights.

The learning rate is no part of it: a node of its own gives it to ``apply_gradients``, pass by pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.train.sockets import Optimizer

Decay = Annotated[float, Field(ge=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


@node
def adamw(
    beta1: Momentum = 0.9,
    beta2: Momentum = 0.95,
    epsilon: Annotated[float, Field(gt=0)] = 1e-8,
    weight_decay: Decay = 0.01,
) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019): each weight moves by its mean gradient over the root of its mean square.

    Args:
        beta1: decay of the mean gradient.
        beta2: decay of the mean squared gradient.
        epsilon: added to the root.
        weight_decay: share of each weight taken off in a step, times the learning rate.
    """
    return Optimizer({"adamw": {"betas": [beta1, beta2], "eps": epsilon, "weight_decay": weight_decay}})


@node
def sgd(momentum: Momentum = 0.9, nesterov: bool = False, weight_decay: Decay = 0.0) -> Optimizer:
    """Stochastic gradient descent with momentum (Polyak 1964).

    Args:
        momentum: share of the last step that goes on.
        nesterov: look ahead by the momentum (Nesterov 1983); needs one above 0.
        weight_decay: times the weight, added to its gradient.
    """
    if nesterov and not momentum:
        raise ValueError("momentum = 0 leaves Nesterov's method nothing to look ahead by; give it a momentum above 0.")
    return Optimizer({"sgd": {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}})


@node
def muon(momentum: Momentum = 0.95, weight_decay: Decay = 0.1, rest: Optimizer | None = None) -> Optimizer:
    """Muon (Jordan et al. 2024) for the hidden matrices: their momentum, made orthogonal by Newton-Schulz steps.

    Its step is scaled to the size of AdamW's (Liu et al. 2025), so that one learning rate serves all parameters.

    Args:
        momentum: decay of the mean gradient.
        weight_decay: share of each hidden weight taken off in a step, times the learning rate.
        rest: for all other parameters; ``adamw``, where none is wired.
    """
    rest = adamw() if rest is None else rest
    if "muon" in rest.parts:
        raise ValueError("Muon takes matrices alone; wire adamw or sgd into rest.")
    return replace(rest, parts={**rest.parts, "muon": {"momentum": momentum, "weight_decay": weight_decay}})


@node
def parameter_group(
    optimizer: Optimizer,
    tag: Literal["hidden", "edge", "embedding", "norm", "bias"],
    lr_scale: Annotated[float, Field(ge=0)] = 1.0,
    decay_scale: Annotated[float, Field(ge=0)] = 1.0,
) -> Optimizer:
    """Another learning rate or weight decay for one kind of parameters.

    Args:
        optimizer: to change; several of these nodes in a row change several kinds.
        tag: hidden (matrices inside the stack of blocks), edge (other matrices and convolutions), embedding (tables
            of rows), norm (weights of normalisations) or bias (all that is added).
        lr_scale: factor of the learning rate; 0 keeps these parameters as they are.
        decay_scale: factor of the weight decay; 0 is usual for norm and bias.
    """
    return replace(optimizer, scales={**optimizer.scales, tag: {"lr": lr_scale, "decay": decay_scale}})
