"""Sampling of the flow as small pure nodes: noise, schedule, patches, velocity, step. Knows no network's inside."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.foretold import check_asked, noise_facts, same_facts
from kineograph.nodes.sockets import (
    VAE,
    DiT,
    Latent,
    LatentSpec,
    Patches,
    SigmaStep,
    TextEmbedding,
)

if TYPE_CHECKING:
    from torch import Tensor

    from kineograph.nodes.networks.diffusion import Preconditioning
    from kineograph.nodes.networks.dit import Batch, Through

Precision = Literal["float32", "bfloat16"]


def check_size(vae: VAE | LatentSpec, frames: int, height: int, width: int, loop: bool) -> None:
    """Refuse a size that a VAE, or the DiT it belongs to, cannot have.

    Raises:
        ValueError: what is wrong, all of it, each with the nearest that can be.
    """
    spec = vae if isinstance(vae, LatentSpec) else vae.spec
    wrong = [_wrong_frames(spec, frames, loop)]
    step = spec.space_ratio * spec.patch
    taken = [None, None] if spec.only is None else [cells * spec.space_ratio for cells in spec.only]
    for name, side, only in zip(("height", "width"), (height, width), taken, strict=True):
        if only is not None and side != only:
            wrong.append(f"{name} = {side}, and this model takes {only} alone, which it learned the places of.")
        elif side % step:
            nearest = max(1, round(side / step)) * step
            wrong.append(f"{name} = {side} is not a multiple of {step}; the nearest is {nearest}.")
    if told := " ".join(filter(None, wrong)):
        raise ValueError(told)


def _wrong_frames(spec: LatentSpec, frames: int, loop: bool) -> str:
    alone, step = frames % spec.time_ratio, spec.time_ratio * spec.together
    after_one = 1 + max(0, round((frames - 1) / step)) * step
    if loop and spec.causal:
        return (
            "This model's VAE begins with one frame alone and knows no circle: set loop to false, and take roll_latent "
            "as in workflows/loop_by_turning.json."
        )
    if loop and alone:
        nearest = max(1, round(frames / spec.time_ratio)) * spec.time_ratio
        return f"A loop of {frames} frames is no multiple of {spec.time_ratio}; the nearest is {nearest}."
    if spec.patch_time > 1:
        return _wrong_depth(spec, frames)
    if alone > 1 or (spec.causal and frames % step != 1 % step):
        return f"frames = {frames} is not 1 + a multiple of {step}; the nearest is {after_one}."
    return ""


def _wrong_depth(spec: LatentSpec, frames: int) -> str:
    """Of a DiT whose tokens hold several latent frames: whether a token would be left half full."""
    ratio, depth = spec.time_ratio, spec.patch_time
    groups = -(-(frames - 1) // ratio) + 1
    groups += -groups % depth
    fits = 1 + (groups - 1) * ratio
    if frames == fits:
        return ""
    return (
        f"frames = {frames}, and this model's tokens hold {depth} latent frames each: sample {fits}, of which "
        f"leave_out_padding before the decoder leaves {fits - (depth - 1) * ratio}."
    )


@node(fits=check_size, foretells=noise_facts)
def latent_noise(
    vae: VAE,
    frames: Annotated[int, Field(ge=1, le=1025)] = 17,
    height: Annotated[int, Field(ge=16, le=2048)] = 64,
    width: Annotated[int, Field(ge=16, le=2048)] = 64,
    fps: Annotated[float, Field(gt=0, le=240)] = 8.0,
    clips: Annotated[int, Field(ge=1, le=256)] = 1,
    seed: int = 0,
    loop: bool = False,
) -> Latent:
    """Gaussian noise in a VAE's latent space: where sampling starts when nothing is given.

    Args:
        vae: whose latent space.
        frames: frames of the video to come; 1 + a multiple of the VAE's time ratio, 1 is an image. A whole multiple is
            a piece of a longer video, or a loop.
        height: pixels; a multiple of the VAE's space ratio.
        width: pixels; a multiple of the VAE's space ratio.
        fps: frames per second; the model knows time in seconds.
        clips: how many videos at once.
        seed: same seed, same noise.
        loop: whether the last frame shall lead to the first.

    Raises:
        ValueError: a size that the VAE cannot have, with the nearest that it can.
    """
    import torch

    check_size(vae, frames, height, width, loop)
    spec = vae.spec
    groups, alone = divmod(frames, spec.time_ratio)
    t, h, w = groups + alone, height // spec.space_ratio, width // spec.space_ratio
    # drawn on the CPU: the same seed then gives the same video on every device
    noise = torch.randn(clips, spec.channels, t, h, w, generator=torch.Generator().manual_seed(seed))
    time = "line" if alone else "circle" if loop else "groups"
    return Latent(noise, torch.zeros_like(noise), torch.ones_like(noise[:, :1]), fps, spec, time)


@node
def shifted_sigmas(
    steps: Annotated[int, Field(ge=1, le=1000)] = 20, shift: Annotated[float, Field(gt=0, le=100)] = 3.0
) -> Stream[SigmaStep]:
    """Noise levels from 1 to 0, shifted towards noise: a s / (1 + (a - 1) s) (Esser et al. 2024, eq. 23).

    Args:
        steps: number of denoising steps.
        shift: 1 is linear; larger spends more steps at high noise.
    """
    from kineograph.nodes.networks import flow

    levels = flow.shifted_sigmas(steps, shift).tolist()
    return Stream.of([SigmaStep(*pair) for pair in pairwise(levels)])


@node(views=("latent",), foretells=same_facts)
def patchify(
    latent: Latent,
    time: Annotated[int, Field(ge=1)] = 1,
    height: Annotated[int, Field(ge=1)] = 1,
    width: Annotated[int, Field(ge=1)] = 1,
    dit: DiT | None = None,
) -> Patches:
    """Cut a latent into spacetime tokens with their positions in seconds and pixels (Peebles & Xie 2023).

    The tokens of keyframes come last, at level 0 and at times of their own; ``unpatchify`` leaves them out.

    Args:
        latent: what to cut.
        time: latent frames per token; 1 where the latent has keyframes.
        height: latent cells per token, downwards.
        width: latent cells per token, across.
        dit: a model, whose own patch is taken in place of time, height and width.
    """
    import torch

    from kineograph.nodes.networks import patches

    patch = time, height, width = (time, height, width) if dit is None else dit.patch
    tokens = patches.patchify(latent.x, patch)
    mask = patches.patchify(latent.mask, patch).amax(dim=-1)
    t, h, w = latent.x.shape[2:]
    grid = (t // time, h // height, w // width)
    frames = patches.frame_centres(t, latent.spec.time_ratio, latent.time).unflatten(0, (-1, time)).mean(dim=1)
    if latent.keyframes is not None:
        if time > 1:
            raise ValueError(f"Keyframes are single latent frames, but the tokens hold {time}: patchify with time 1.")
        given = patches.patchify(latent.keyframes.values, patch)
        tokens, mask = torch.cat([tokens, given], dim=1), torch.cat([mask, torch.zeros_like(given[..., 0])], dim=1)
        frames = torch.cat([frames, torch.tensor(latent.keyframes.frames)])
    positions = patches.token_positions(frames / latent.fps, grid[1:], patch, latent.spec.space_ratio)
    return Patches(tokens, positions[None], mask, grid, patch, latent)


@node
def unpatchify(patches: Patches) -> Latent:
    """Join tokens to the latent they were cut from, with their values in place of its own.

    Args:
        patches: tokens of any meaning: values or velocities.
    """
    from kineograph.nodes.networks.patches import unpatchify as join

    own = patches.tokens[:, : math.prod(patches.grid)]
    return replace(patches.latent, x=join(own, patches.grid, patches.patch))


@node(fits=check_asked)
def dit_velocity(
    dit: DiT,
    patches: Patches,
    text: TextEmbedding,
    sigma: Annotated[float, Field(ge=0, le=1)] = 1.0,
    precision: Precision = "float32",
    recompute: bool = False,
) -> Patches:
    """The velocity e - x0 that a DiT sees at every token: the node that samples and the node that trains.

    Whatever the network predicts (see ``start_dit``), what comes out is the velocity of the flow.

    Args:
        dit: the model.
        patches: noisy tokens; each token's level is min(sigma, its mask).
        text: what the video shows; one prompt for all clips, or one each.
        sigma: the sampler's noise level; 1 leaves every token at its mask, as in training.
        precision: of the matrix products.
        recompute: in training, compute each block again in the backward pass: less memory for a third more work.
    """
    from kineograph.nodes.networks.dit import in_turn, recomputed

    through = recomputed if recompute else in_turn
    return replace(patches, tokens=velocities(dit, [patches], [text], sigma, precision, through)[0])


@node
def packed_velocity(
    dit: DiT,
    patches: Stream[Patches],
    text: Stream[TextEmbedding],
    sigma: Annotated[float, Field(ge=0, le=1)] = 1.0,
    precision: Precision = "float32",
    recompute: bool = False,
) -> Stream[Patches]:
    """The velocities of clips of any durations and sizes in one forward pass: packed, without padding (NaViT).

    Each is what ``dit_velocity`` gives for the clip alone (Dehghani et al. 2023).

    Args:
        dit: the model.
        patches: noisy tokens of one clip each, or of a batch of equal ones; a level is min(sigma, its mask).
        text: what each of them shows, in the same order.
        sigma: the sampler's noise level; 1 leaves every token at its mask, as in training.
        precision: of the matrix products.
        recompute: in training, compute each block again in the backward pass: less memory for a third more work.
    """
    from kineograph.nodes.networks.dit import in_turn, recomputed

    if not len(patches) or len(patches) != len(text):
        raise ValueError(f"{len(patches)} clips and {len(text)} texts: give at least one clip, and one text for each.")
    parts = list(patches)
    found = velocities(dit, parts, text, sigma, precision, recomputed if recompute else in_turn)
    return Stream.of([replace(part, tokens=velocity) for part, velocity in zip(parts, found, strict=True)])


@node(fits=check_asked)
def guided_velocity(
    dit: DiT,
    patches: Patches,
    text: TextEmbedding,
    no_text: TextEmbedding,
    at: SigmaStep,
    scale: Annotated[float, Field(ge=0, le=50)] = 4.0,
    precision: Precision = "float32",
) -> Patches:
    """Classifier-free guidance: v_u + g (v_c - v_u), both in one forward pass (Ho & Salimans 2022).

    Args:
        dit: the model.
        patches: noisy tokens.
        text: what the video shows.
        no_text: what to lead away from; the empty prompt, or what shall not be seen.
        at: the step; its sigma is the noise level.
        scale: g; 1 is no guidance, for which the model is asked once. Larger follows the words more closely.
        precision: of the matrix products.
    """
    if scale == 1:
        return replace(patches, tokens=velocities(dit, [patches], [text], at.sigma, precision)[0])
    with_text, without = velocity_pair(dit, patches, text, no_text, at.sigma, precision)
    return replace(patches, tokens=without + scale * (with_text - without))


@node
def euler_step(latent: Latent, velocity: Latent, step: SigmaStep) -> Latent:
    """One Euler step of the flow's ODE, x + (sigma_next - sigma) v; given cells (mask 0) keep their bits.

    Args:
        latent: values at the step's sigma.
        velocity: e - x0 at every cell.
        step: from which level to which.
    """
    from kineograph.nodes.networks import flow

    return replace(latent, x=flow.euler_step(latent.x, velocity.x, step.sigma, step.sigma_next, latent.mask))


def velocity_pair(
    dit: DiT, patches: Patches, text: TextEmbedding, no_text: TextEmbedding, sigma: float, precision: Precision
) -> tuple[Tensor, Tensor]:
    """The velocities of the same tokens with one text and with another, from one forward pass: (B, N, D) each."""
    import torch

    from kineograph.nodes.networks.adapters.common import AdaptedDiT
    from kineograph.nodes.networks.adapters.experts import Experts

    if isinstance(dit.network, (AdaptedDiT, Experts)):  # nothing is won by putting clips together
        with_text, without = velocities(dit, [patches] * 2, [text, no_text], sigma, precision)
        return with_text, without
    clips = patches.tokens.shape[0]
    both = replace(patches, tokens=torch.cat([patches.tokens] * 2), mask=torch.cat([patches.mask] * 2))
    texts = _stack(_spread(text, clips), _spread(no_text, clips))
    with_text, without = velocities(dit, [both], [texts], sigma, precision)[0].chunk(2)
    return with_text, without


def velocities(
    dit: DiT,
    patches: Iterable[Patches],
    text: Iterable[TextEmbedding],
    sigma: float,
    precision: Precision,
    through: Through | None = None,
) -> list[Tensor]:
    """The velocities of batches of clips from one forward pass, (B, N, D) each, whatever the network predicts.

    Raises:
        NotFinite: while sampling, the network said nan or infinity.
    """
    import torch

    from kineograph.nodes.networks.finite import check_finite

    asked = [_asked(dit, *pair, sigma) for pair in zip(patches, text, strict=True)]
    device = asked[0].batch.tokens_BNC.device.type
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
        said = dit.network([each.batch for each in asked], through=through)
    check_finite(said)
    return [each.around.skip * each.tokens + each.around.out * word for each, word in zip(asked, said, strict=True)]


class _Asked(NamedTuple):
    """What a network is asked about some clips, and how its word becomes their velocity."""

    tokens: Tensor
    around: Preconditioning
    batch: Batch


def _asked(dit: DiT, patches: Patches, text: TextEmbedding, sigma: float) -> _Asked:
    from kineograph.nodes.networks import diffusion, flow
    from kineograph.nodes.networks.dit import Batch

    if dit.patch != patches.patch:
        raise ValueError(
            f"The tokens are patches of {patches.patch} cells, this DiT takes {dit.patch}: change patchify, or "
            "wire the DiT into it."
        )
    config = dit.network.config
    levels_BN1 = flow.token_levels(sigma, patches.mask)[..., None]
    around = diffusion.preconditioning(config.predicts, levels_BN1, config.data_std)
    frames = patches.tokens.shape[1] // math.prod(patches.grid[1:])
    levels = flow.fewest_levels(around.told[..., 0], frames)
    text = _spread(text, patches.tokens.shape[0])
    seen = around.into * patches.tokens
    latent = patches.latent
    cell = (latent.spec.time_ratio / latent.fps, float(latent.spec.space_ratio), float(latent.spec.space_ratio))
    places = patches.positions, text.tokens, text.mask
    batch = Batch(seen, levels, *places, period=latent.period, grid=patches.grid, cell=cell)
    if latent.shown is not None:
        beside = {"beside_BKthw": latent.shown.channels, "pictures_BPLE": latent.shown.pictures}
        batch = batch._replace(**beside, strength=latent.shown.strength)
    batch = batch._replace(pooled_BP=text.pooled, guidance=dit.guidance)
    return _Asked(patches.tokens, around, batch)


def _spread(text: TextEmbedding, clips: int) -> TextEmbedding:
    if text.tokens.shape[0] == clips:
        return text
    if text.tokens.shape[0] != 1:
        raise ValueError(f"{text.tokens.shape[0]} prompts for {clips} clips: give one for all, or one each.")
    pooled = None if text.pooled is None else text.pooled.expand(clips, -1)
    return TextEmbedding(text.tokens.expand(clips, -1, -1), text.mask.expand(clips, -1), pooled)


def _stack(first: TextEmbedding, second: TextEmbedding) -> TextEmbedding:
    import torch
    from torch.nn.functional import pad

    length = max(first.mask.shape[1], second.mask.shape[1])
    tokens = [pad(each.tokens, (0, 0, 0, length - each.tokens.shape[1])) for each in (first, second)]
    masks = [pad(each.mask, (0, length - each.mask.shape[1])) for each in (first, second)]
    return TextEmbedding(torch.cat(tokens), torch.cat(masks))
