"""What a training tells and keeps: losses as metrics, models as files. Knows no optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.paths import OUTPUT_FOLDER
from kineograph.nodes.lora import write_lora
from kineograph.nodes.sockets import VAE, DiT, LoRA, TextEncoder
from kineograph.nodes.train.sockets import Loss, TrainState, Weights

if TYPE_CHECKING:
    from pathlib import Path

    import torch


@node(effect=True)
def record_loss(
    loss: Loss,
    run: RunContext,
    step: int = 0,
    every: Annotated[int, Field(ge=1)] = 10,
    name: Annotated[str, Field(min_length=1)] = "loss",
) -> None:
    """Report the loss as a metric.

    Args:
        loss: of this pass.
        step: number of the pass.
        every: passes between two reports.
        name: of the metric.
    """
    if step % every == 0:
        run.metric(name, step, loss.value.detach().item())


@node(effect=True)
def record_number(
    value: float,
    run: RunContext,
    step: int = 0,
    every: Annotated[int, Field(ge=1)] = 10,
    name: Annotated[str, Field(min_length=1)] = "number",
) -> None:
    """Report a number as a metric: a norm, a learning rate, a score.

    Args:
        value: of this pass.
        step: number of the pass.
        every: passes between two reports.
        name: of the metric.
    """
    if step % every == 0:
        run.metric(name, step, value)


@node(effect=True)
def save_model(model: Any, run: RunContext, folder: Annotated[str, OUTPUT_FOLDER] = "model") -> None:
    """Write a DiT, VAE or text encoder into a model's folder, in half precision, with its configuration and workflow.

    Args:
        model: a DiT, VAE or TextEncoder.
        folder: below the output folder; ``load_model`` reads it.
    """
    write_model(model, run, folder)


@node(effect=True)
def save_checkpoint(
    state: TrainState,
    average: Weights,
    run: RunContext,
    step: int = 0,
    every: Annotated[int, Field(ge=1)] = 500,
    folder: Annotated[str, OUTPUT_FOLDER] = "checkpoint",
) -> None:
    """Write a DiT in training, with its averaged weights, so that a run that is cut off leaves a model.

    Args:
        state: of a DiT, after this pass's update.
        average: of its weights.
        step: number of the pass.
        every: passes between two files; each replaces the one before.
        folder: below the output folder.
    """
    if (step + 1) % every == 0:
        from kineograph.nodes.train.optimizer import trained_dit

        write_model(trained_dit(state, average), run, folder)


def write_model(model: Any, run: RunContext, folder: str, dtype: torch.dtype | None = None) -> Path:
    """Write a part of a model into a folder below the output folder, with its configuration and workflow.

    Args:
        model: a DiT, VAE or TextEncoder.
        run: whose output folder.
        folder: below it.
        dtype: of the numbers; half precision, where none is given.
    """
    from kineograph.nodes.networks.components import save

    if isinstance(model, LoRA):
        return write_lora(model, run, f"{folder}/lora.safetensors")
    kinds = {DiT: "dit", VAE: "vae", TextEncoder: "text_encoder"}
    kind = kinds.get(type(model))
    if kind is None:
        raise ValueError(f"A {type(model).__name__} is no part of a model; give a DiT, a VAE or a TextEncoder.")
    path = run.output_path(f"{folder}/{kind}.safetensors")
    save(path, kind, model.network, {"workflow": run.provenance}, dtype)
    run.wrote(path)
    return path
