"""Training state, gradients and updates as values. Knows no loss and no data.

``begin_training`` copies, so the loaded model is never touched; ``apply_gradients`` donates the state it is given.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.sockets import (
    VAE,
    CaptionReader,
    Discriminator,
    DiT,
    Gradients,
    Loss,
    TextEncoder,
    TrainState,
    Weights,
)

if TYPE_CHECKING:
    from torch import nn

M = TypeVar("M")


@node
def begin_training(model: Any) -> TrainState:
    """A copy of a model with an AdamW optimizer, ready to be trained.

    Args:
        model: a DiT, VAE, CaptionReader or Discriminator.
    """
    from copy import deepcopy

    import torch

    if not isinstance(model, (DiT, VAE, CaptionReader, Discriminator)):
        raise ValueError(
            f"A {type(model).__name__} cannot be trained; give a DiT, a VAE, a CaptionReader or a Discriminator."
        )
    network = deepcopy(model.network).requires_grad_(True)
    return TrainState(replace(model, network=network), torch.optim.AdamW(network.parameters(), fused=True))


@node(views=("state",))
def dit_in_training(state: TrainState) -> DiT:
    """The DiT of a training state, to compute a loss with.

    Args:
        state: of a DiT.
    """
    return _model(state, DiT)


@node(views=("state",))
def vae_in_training(state: TrainState) -> VAE:
    """The VAE of a training state, to compute a loss with.

    Args:
        state: of a VAE.
    """
    return _model(state, VAE)


@node(views=("state",))
def reader_in_training(state: TrainState) -> CaptionReader:
    """The caption reader of a training state, to compute a loss with.

    Args:
        state: of a CaptionReader.
    """
    return _model(state, CaptionReader)


@node(differentiates=("loss",))
def gradients(loss: Loss, state: TrainState) -> Gradients:
    """The loss's gradient by every parameter (torch.autograd.grad: nothing is left on the parameters).

    Args:
        loss: computed with the state's model.
        state: whose parameters.
    """
    import torch

    parameters = list(state.model.network.parameters())
    if not loss.value.requires_grad:
        raise ValueError(
            "The loss does not depend on this state's model; compute it with the model taken from the state."
        )
    found = torch.autograd.grad(loss.value, parameters, allow_unused=True)
    return Gradients(tuple(torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)))


@node(donates=("state",))
def apply_gradients(
    state: TrainState,
    gradients: Gradients,
    lr: Annotated[float, Field(ge=0)] = 1e-3,
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95,
    weight_decay: Annotated[float, Field(ge=0)] = 0.01,
    clip: Annotated[float, Field(gt=0)] = 1.0,
) -> TrainState:
    """One AdamW step (Loshchilov & Hutter 2019) on gradients clipped by their common norm.

    Args:
        state: overwritten: read it before this node, or read this node's output.
        gradients: of the loss.
        lr: learning rate.
        beta1: decay of the mean gradient.
        beta2: decay of the mean squared gradient.
        weight_decay: share of each weight taken off, times lr.
        clip: largest norm of all gradients together.

    Raises:
        ValueError: gradients are not finite: the step is not taken.
    """
    import torch

    parameters = list(state.model.network.parameters())
    norm = torch.nn.utils.get_total_norm(gradients.values)
    if not torch.isfinite(norm):
        raise ValueError(
            "The gradients are not finite; lower the learning rate, or look for the first loss that is not."
        )
    factor = (clip / norm.clamp_min(1e-12)).clamp_max(1.0)
    for parameter, gradient in zip(parameters, gradients.values, strict=True):
        parameter.grad = gradient * factor
    for group in state.optimizer.param_groups:
        group.update(lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    return state


@node
def learning_rate(
    step: int,
    steps: Annotated[int, Field(ge=1)],
    peak: Annotated[float, Field(gt=0)] = 1e-3,
    warmup: Annotated[int, Field(ge=0)] = 50,
    decay: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> float:
    """A learning rate that rises linearly, stays, and falls linearly to zero.

    Args:
        step: number of the pass.
        steps: passes in all.
        peak: the highest rate.
        warmup: passes until the peak.
        decay: share of the passes, the last ones, in which it falls.
    """
    falling = (steps - step) / max(1.0, decay * steps)
    return peak * min(1.0, (step + 1) / (warmup + 1), falling)


@node
def begin_average(state: TrainState) -> Weights:
    """A copy of a state's weights: the start of a running average.

    Args:
        state: of the training.
    """
    return Weights({name: tensor.detach().clone() for name, tensor in state.model.network.state_dict().items()})


@node(donates=("average",))
def average_weights(
    average: Weights, state: TrainState, step: int, decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
) -> Weights:
    """Exponential moving average of the weights: a + (1 - d)(w - a), with d = min(decay, (1 + k) / (10 + k)).

    Args:
        average: so far; overwritten.
        state: after this pass's update.
        step: k, number of the pass.
        decay: largest d.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for name, tensor in state.model.network.state_dict().items():
        if tensor.is_floating_point():
            average.values[name].lerp_(tensor, weight)
        else:
            average.values[name].copy_(tensor)
    return average


@node
def trained_dit(state: TrainState, average: Weights) -> DiT:
    """The DiT that a training ends with: its averaged weights, ready for use.

    Args:
        state: of a DiT.
        average: of its weights.
    """
    dit = _model(state, DiT)
    network = _copy(dit.network)
    network.load_state_dict(average.values)
    return replace(dit, network=network)


@node
def trained_vae(state: TrainState) -> VAE:
    """The VAE that a training ends with, ready for use.

    Args:
        state: of a VAE.
    """
    vae = _model(state, VAE)
    return replace(vae, network=_copy(vae.network))


@node
def trained_text_encoder(state: TrainState) -> TextEncoder:
    """The text encoder of a trained caption reader, ready for use; the heads are dropped.

    Args:
        state: of a CaptionReader.
    """
    return TextEncoder(_copy(_model(state, CaptionReader).network.encoder))  # type: ignore[arg-type]


def _copy(network: Any) -> nn.Module:
    from copy import deepcopy

    return deepcopy(network).eval().requires_grad_(False)


def _model(state: TrainState, kind: type[M]) -> M:
    if not isinstance(state.model, kind):
        raise ValueError(f"This state trains a {type(state.model).__name__}, a {kind.__name__} is needed.")
    return state.model
