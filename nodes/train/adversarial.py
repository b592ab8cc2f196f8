"""A discriminator that trains beside a VAE, with an optimizer of its own. Knows no optimizer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.sample import Precision
from kineograph.nodes.sockets import VAE, Video
from kineograph.nodes.train.sockets import Discriminator, Loss, TrainState


@node
def new_discriminator(
    width: Annotated[int, Field(ge=1)] = 16, depth: Annotated[int, Field(ge=1, le=6)] = 2, seed: int = 0
) -> Discriminator:
    """A small discriminator of patches of clips, with random weights (Isola et al. 2017, in three dimensions).

    Args:
        width: features of the first layer; each layer down doubles them.
        depth: layers down; the clips' sides are multiples of 2 ** (depth + 1).
        seed: of the random weights.
    """
    from kineograph.nodes.networks.components import build

    network = build("discriminator", {"width": width, "depth": depth}, seed)
    return Discriminator(network.eval().requires_grad_(False))  # type: ignore[arg-type]


@node(views=("state",))
def discriminator_in_training(state: TrainState) -> Discriminator:
    """The discriminator of a training state, to compute a loss with.

    Args:
        state: of a Discriminator.
    """
    if not isinstance(state.model, Discriminator):
        raise ValueError(f"This state trains a {type(state.model).__name__}, a Discriminator is needed.")
    return state.model


@node
def discriminator_loss(
    discriminator: Discriminator,
    video: Video,
    made: Video,
    penalty: Annotated[float, Field(ge=0)] = 0.0,
    precision: Precision = "float32",
) -> Loss:
    """The hinge loss of telling real clips from made ones; nothing flows back into what made them.

    Args:
        discriminator: in training.
        video: real clips.
        made: reconstructions, for example.
        penalty: weight of R1, half the squared gradient of a real clip's score by its pixels (Mescheder et al. 2018).
        precision: of the convolutions.
    """
    import torch

    from kineograph.nodes.networks import adversarial

    real, fake = video.frames.transpose(1, 2), made.frames.detach().transpose(1, 2)
    network = discriminator.network
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        value = adversarial.hinge_loss(network(real), network(fake))
        if penalty:
            value = value + penalty * adversarial.gradient_penalty(network, real)
    return Loss(value)


@node(differentiates=("loss", "made"))
def adversarial_loss(
    discriminator: Discriminator,
    made: Video,
    loss: Loss,
    vae: VAE,
    weight: Annotated[float, Field(ge=0)] = 0.5,
    adaptive: bool = True,
    start: Annotated[int, Field(ge=0)] = 0,
    step: int = 0,
    precision: Precision = "float32",
) -> Loss:
    """A reconstruction's loss, plus how unreal the discriminator finds it: loss - w a mean(D(made)).

    Args:
        discriminator: after its update of this pass.
        made: the reconstruction.
        loss: of the reconstruction, all other terms together.
        vae: in training, whose decoder made it.
        weight: w.
        adaptive: a makes both gradients equally long at the decoder's last layer (Esser et al. 2021); else it is 1.
        start: passes before the term sets in: a new discriminator has nothing to say.
        step: number of the pass.
        precision: of the convolutions.
    """
    import torch

    from kineograph.nodes.networks import adversarial

    if step < start or not weight:
        return loss
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        unreal = -discriminator.network(made.frames.transpose(1, 2)).mean()
    balance = adversarial.balance(loss.value, unreal, vae.network.decoder.head.weight) if adaptive else 1.0
    return Loss(loss.value + weight * balance * unreal)
