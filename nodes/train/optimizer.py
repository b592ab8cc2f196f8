"""Training state, gradients and updates as values. Knows no loss and no data.

``begin_training`` copies, so the loaded model is never touched; ``apply_gradients`` donates the state it is given.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.nodes.sockets import VAE, DiT, LoRA, TextEncoder
from kineograph.nodes.train.sockets import (
    CaptionReader,
    Discriminator,
    Gradients,
    Loss,
    Optimizer,
    TrainState,
    Weights,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

M = TypeVar("M")


class Clipped(NamedTuple):
    """Gradients of a bounded norm, and the norm they had."""

    gradients: Gradients
    norm: float


@node
def begin_training(model: Any, optimizer: Optimizer | None = None) -> TrainState:
    """A copy of a model with a new optimizer over its weights, ready to be trained.

    Args:
        model: a DiT, LoRA, VAE, CaptionReader or Discriminator.
        optimizer: of ``adamw``, ``muon`` or ``sgd``; the first, where none is wired.
    """
    from copy import deepcopy

    from kineograph.nodes.train.recipe import adamw

    if not isinstance(model, (DiT, LoRA, VAE, CaptionReader, Discriminator)):
        raise ValueError(
            f"A {type(model).__name__} cannot be trained; "
            "give a DiT, a LoRA, a VAE, a CaptionReader or a Discriminator."
        )
    network = deepcopy(model.network).requires_grad_(True)
    return train_state(replace(model, network=network), adamw() if optimizer is None else optimizer)


def train_state(model: Any, recipe: Optimizer) -> TrainState:
    """A model with a new optimizer over its weights, which are sharded where several processes train (FSDP2).

    Muon makes whole matrices orthogonal, and models of other kinds are not called by ``forward`` alone, where FSDP2
    gathers: of these, every process holds all weights.

    Args:
        model: with a network of its own, which is changed.
        recipe: of the optimizer.
    """
    from kineograph.nodes.networks import ranks
    from kineograph.nodes.networks.optimizers import build_optimizer

    if isinstance(model, DiT) and "muon" not in recipe.parts:
        ranks.shard(model.network)
    return TrainState(model, build_optimizer(model.network, recipe.parts, recipe.scales), recipe)


@node(views=("state",))
def dit_in_training(state: TrainState) -> DiT:
    """The DiT of a training state, to compute a loss with.

    Args:
        state: of a DiT.
    """
    return _model(state, DiT)


@node(views=("state",))
def lora_in_training(state: TrainState) -> LoRA:
    """The LoRA of a training state: ``add_lora`` puts it beside the layers of a model, to compute a loss with.

    Args:
        state: of a LoRA.
    """
    return _model(state, LoRA)


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
    """The loss's gradient by every parameter, the mean over all processes; nothing is left on the parameters.

    Args:
        loss: computed with the state's model.
        state: whose parameters.
    """
    from kineograph.nodes.networks import ranks

    parameters = list(state.model.network.parameters())
    if not loss.value.requires_grad:
        raise ValueError(
            "The loss does not depend on this state's model; compute it with the model taken from the state."
        )
    found = ranks.gradients(loss.value, parameters)
    return Gradients(tuple(_laid_out(gradient, p) for gradient, p in zip(found, parameters, strict=True)))


def _laid_out(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    """A gradient in the memory layout of its parameter; zeros, where the loss does not depend on it.

    Torch's fused AdamW walks through memory and does not look at strides (2.13, CPU): a gradient that autograd gives
    transposed or expanded would update the wrong weights, without an error.
    """
    import torch

    if gradient is None:
        return torch.zeros_like(parameter)
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def scaled_gradients(gradients: Gradients, largest: float) -> Clipped:
    """What ``clip_gradients`` gives where it must scale, which takes more memory."""
    return Clipped(Gradients(tuple(value * largest for value in gradients.values), gradients.norm), largest)


@node(views=("gradients",), estimate=scaled_gradients)
def clip_gradients(gradients: Gradients, largest: Annotated[float, Field(gt=0)] = 1.0) -> Clipped:
    """Scale gradients down to a norm, all by one factor (Pascanu et al. 2013); gives the norm before, to be recorded.

    Args:
        gradients: of the loss.
        largest: norm of all gradients together; smaller ones pass as they are.
    """
    norm = gradients.norm
    if norm > largest:
        factor = largest / norm
        gradients = Gradients(tuple(value * factor for value in gradients.values), norm * factor)
    return Clipped(gradients, norm.item())


@node
def zero_gradients(state: TrainState) -> Gradients:
    """Gradients of zero: where an accumulation begins.

    Args:
        state: whose parameters.
    """
    import torch

    return Gradients(tuple(torch.zeros_like(parameter) for parameter in state.model.network.parameters()))


@node(donates=("total",))
def add_gradients(total: Gradients, gradients: Gradients) -> Gradients:
    """Add the gradients of a micro-batch to those so far: the carry of a loop in the training's loop.

    Args:
        total: so far; overwritten.
        gradients: of this micro-batch.
    """
    for whole, part in zip(total.values, gradients.values, strict=True):
        whole.add_(part)
    return Gradients(total.values)


@node
def mean_gradients(total: Gradients, parts: Annotated[int, Field(ge=1)]) -> Gradients:
    """Accumulated gradients over the number of micro-batches: those of one batch of them all, where they are equal.

    Args:
        total: added up.
        parts: how many were added.
    """
    return Gradients(tuple(value / parts for value in total.values))


def stepped(state: TrainState, gradients: Gradients, lr: float) -> TrainState:
    """A state after one step of its optimizer, which overwrites it."""
    for parameter, gradient in zip(state.model.network.parameters(), gradients.values, strict=True):
        parameter.grad = gradient
    state.optimizer.step(lr)
    return state


@node(donates=("state",), estimate=stepped)
def apply_gradients(
    state: TrainState, gradients: Gradients, run: RunContext, lr: Annotated[float, Field(ge=0)] = 1e-3
) -> TrainState:
    """One step of the state's optimizer.

    Args:
        state: overwritten: read it before this node, or read this node's output.
        gradients: of the loss.
        lr: learning rate; groups of parameters may scale it (``parameter_group``).

    Raises:
        ValueError: gradients are not finite. The step is not taken, and the model as it was before it is written into
            the folder ``last_good``.
    """
    import torch

    if not torch.isfinite(gradients.norm):
        raise ValueError(f"The gradients are not finite, so the step was not taken. {_keep_last_good(state, run)}")
    return stepped(state, gradients, lr)


def _keep_last_good(state: TrainState, run: RunContext) -> str:
    """Write the model of a state whose next step failed; a sentence that says where it is."""
    import torch

    from kineograph.nodes.train.record import write_model

    model = replace(state.model, network=_copy(state.model.network))
    if not all(torch.isfinite(parameter).all() for parameter in model.network.parameters()):
        return "Its weights are not finite already: go on from the last checkpoint, at a lower learning rate."
    if isinstance(model, CaptionReader):
        model = TextEncoder(model.network.encoder)
    path = write_model(model, run, "last_good", torch.float32)
    return (
        f"The model before it is in {path}: go on from there at a lower learning rate, or look for the first loss "
        "that is not finite."
    )


@node
def learning_rate(
    step: int,
    steps: Annotated[int, Field(ge=1)],
    peak: Annotated[float, Field(gt=0)] = 1e-3,
    warmup: Annotated[int, Field(ge=0)] = 50,
    decay: Annotated[float, Field(ge=0, le=1)] = 0.5,
    shape: Literal["linear", "cosine", "inverse sqrt", "constant"] = "linear",
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0,
) -> float:
    """A learning rate that rises linearly to its peak, stays, and falls to a floor.

    Args:
        step: k, number of the pass.
        steps: passes in all.
        peak: the highest rate.
        warmup: w, passes until the peak: min(1, (k + 1) / (w + 1)).
        decay: share of the passes, the last ones, in which it falls, linearly or as half a cosine.
        shape: linear, cosine, inverse sqrt (falls after the warm-up as sqrt((w + 1) / (k + 1)), whatever the number of
            passes), or constant.
        floor: what it falls to, as a share of the peak.
    """
    from math import cos, pi, sqrt

    left = min(1.0, max(0.0, (steps - step) / max(1.0, decay * steps)))
    falls = {
        "linear": left,
        "cosine": (1 - cos(pi * left)) / 2,
        "inverse sqrt": min(1.0, sqrt((warmup + 1) / (step + 1))),
        "constant": 1.0,
    }
    return peak * min(1.0, (step + 1) / (warmup + 1), floor + (1 - floor) * falls[shape])


@node
def begin_average(state: TrainState) -> Weights:
    """A copy of a state's weights: the start of a running average.

    Args:
        state: of the training.
    """
    return Weights({name: tensor.detach().clone() for name, tensor in state.model.network.state_dict().items()})


@node(donates=("average",))
def average_weights(
    average: Weights,
    state: TrainState,
    step: int,
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.998,
    power: Annotated[float, Field(ge=0, le=1000)] = 0.0,
) -> Weights:
    """Moving average of the weights: a + (1 - d)(w - a), with d = min(decay, (1 + k) / (10 + k)).

    Args:
        average: so far; overwritten.
        state: after this pass's update.
        step: k, number of the pass.
        decay: largest d.
        power: p; above 0, d = (1 - 1 / (k + 1))^(p + 1), whatever the decay: the weights of pass k then count about as
            much as k^p, so the average spans a share of the training (Karras et al. 2024; with 6.94, a tenth).
    """
    from kineograph.nodes.networks.ranks import sharded_like

    keep = (step / (step + 1)) ** (power + 1) if power else min(decay, (1 + step) / (10 + step))
    weight = 1 - keep
    for name, tensor in state.model.network.state_dict().items():
        average.values[name] = sharded_like(average.values[name], tensor)  # whole, where it was kept and is read again
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
    return _averaged(_model(state, DiT), average)


@node
def trained_lora(state: TrainState, average: Weights) -> LoRA:
    """The LoRA that a training ends with: its averaged weights, ready for use.

    Args:
        state: of a LoRA.
        average: of its weights.
    """
    return _averaged(_model(state, LoRA), average)


def _averaged(model: Any, average: Weights) -> Any:
    from kineograph.nodes.networks.ranks import whole

    network = _copy(model.network)
    network.load_state_dict({name: whole(tensor) for name, tensor in average.values.items()})
    return replace(model, network=network)


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
    """A copy for use, whole where the network is sharded."""
    from kineograph.nodes.networks.ranks import plain_copy

    return plain_copy(network).eval().requires_grad_(False)


def _model(state: TrainState, kind: type[M]) -> M:
    if not isinstance(state.model, kind):
        raise ValueError(f"This state trains a {type(state.model).__name__}, a {kind.__name__} is needed.")
    return state.model
