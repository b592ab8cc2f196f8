"""Guidance as small pure nodes between a DiT's velocities and the sampler's step. Knows no network.

``guided_velocity`` is the plain case in one node. To build another, ask ``guidance_pair``, combine, and step. What is
said of given tokens (level 0) has no part in any mean or norm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import socket
from kineograph.nodes.foretold import check_asked, check_blocks
from kineograph.nodes.sample import Precision, velocities, velocity_pair
from kineograph.nodes.sockets import DiT, Patches, SigmaStep, TextEmbedding

if TYPE_CHECKING:
    from torch import Tensor

Scale = Annotated[float, Field(ge=0, le=50)]


@socket(family="latent")
@dataclass(frozen=True)
class GuidanceMomentum:
    """The updates of former passes that ``projected_guidance`` goes on adding.

    Attributes:
        update: (B, N, D), their weighted sum; None before the first pass.
    """

    update: Tensor | None = None


class VelocityPair(NamedTuple):
    """The velocities with words and without, at the same tokens."""

    with_text: Patches
    without: Patches


class Projected(NamedTuple):
    """A guided velocity, and what the next pass shall know."""

    velocity: Patches
    momentum: GuidanceMomentum


@node(fits=check_asked)
def guidance_pair(
    dit: DiT,
    patches: Patches,
    text: TextEmbedding,
    no_text: TextEmbedding,
    at: SigmaStep,
    precision: Precision = "float32",
) -> VelocityPair:
    """The velocities with words and without, from one forward pass: what every kind of guidance combines.

    Args:
        dit: the model.
        patches: noisy tokens.
        text: what the video shows.
        no_text: what to lead away from; the empty prompt, or what shall not be seen.
        at: the step; its sigma is the noise level.
        precision: of the matrix products.
    """
    with_text, without = velocity_pair(dit, patches, text, no_text, at.sigma, precision)
    return VelocityPair(replace(patches, tokens=with_text), replace(patches, tokens=without))


@node(fits=check_blocks)
def skipped_velocity(
    dit: DiT,
    patches: Patches,
    text: TextEmbedding,
    at: SigmaStep,
    skip: list[int],
    precision: Precision = "float32",
) -> Patches:
    """The velocity of the same model with some blocks left out: a weaker one, for ``add_guidance`` to lead away from.

    Skip-layer guidance is v + s (v_with_text - v_skipped), with v the velocity guided or not (Stable Diffusion 3.5; for
    video STG, Hyung et al. 2025).

    Args:
        dit: the model.
        patches: noisy tokens.
        text: what the video shows.
        at: the step; its sigma is the noise level.
        skip: numbers of the blocks to leave out, from 0; one or two in the middle.
        precision: of the matrix products.

    Raises:
        ValueError: the model has no such block.
    """
    from kineograph.nodes.networks.dit import skipping

    return replace(patches, tokens=velocities(dit, [patches], [text], at.sigma, precision, skipping(skip))[0])


@node
def add_guidance(velocity: Patches, toward: Patches, away: Patches, scale: Scale = 3.0) -> Patches:
    """Lead a velocity towards one and away from another: v + scale (toward - away).

    Classifier-free guidance of scale g (Ho & Salimans 2022) is velocity = away = without text, toward = with text and
    scale g. Put one behind the other for more conditions, or for ``skipped_velocity``.

    Args:
        velocity: what is changed.
        toward: the stronger velocity.
        away: the weaker one.
        scale: 0 changes nothing.
    """
    return replace(velocity, tokens=velocity.tokens + scale * (toward.tokens - away.tokens))


@node
def rescale_guidance(guided: Patches, with_text: Patches, share: Annotated[float, Field(ge=0, le=1)] = 0.7) -> Patches:
    """Give a guided velocity the deviation that it has without guidance, against harsh contrast (Lin et al. 2024, 3.4).

    Args:
        guided: a velocity behind guidance of a large scale.
        with_text: the velocity with words alone.
        share: phi, how much of that; 0 changes nothing.
    """
    from kineograph.nodes.networks import guidance

    return replace(guided, tokens=guidance.rescaled(guided.tokens, with_text.tokens, share, guided.mask > 0))


@node
def cfg_zero_guidance(
    with_text: Patches,
    without: Patches,
    index: Annotated[int, Field(ge=0)],
    scale: Scale = 4.0,
    zero_passes: Annotated[int, Field(ge=0)] = 1,
) -> Patches:
    """CFG-Zero*: classifier-free guidance from a v_u, with the a that brings it nearest to v_c (Fan et al. 2025).

    Args:
        with_text: v_c of ``guidance_pair``.
        without: v_u.
        index: number of the pass, the loop's $index.
        scale: g; 1 is no guidance.
        zero_passes: first passes in which nothing moves, as their velocities are the least sure; the paper takes 1.
    """
    import torch

    from kineograph.nodes.networks import guidance

    if index < zero_passes:
        return replace(with_text, tokens=torch.zeros_like(with_text.tokens))
    base = guidance.best_scale(with_text.tokens, without.tokens, with_text.mask > 0) * without.tokens
    return replace(with_text, tokens=base + scale * (with_text.tokens - base))


@node
def begin_momentum() -> GuidanceMomentum:
    """No momentum: what ``projected_guidance`` is given first, and the loop carries on."""
    return GuidanceMomentum()


@node
def projected_guidance(
    patches: Patches,
    with_text: Patches,
    without: Patches,
    at: SigmaStep,
    momentum: GuidanceMomentum,
    scale: Scale = 4.0,
    parallel: Annotated[float, Field(ge=0, le=1)] = 0.0,
    norm: Annotated[float, Field(ge=0)] = 0.0,
    keep: Annotated[float, Field(gt=-1, lt=1)] = 0.0,
) -> Projected:
    """APG: guidance without what only makes colours louder (Sadat et al. 2025), in clean values as there.

    The update d = x0 with words - x0 without (and ``keep`` of those before) is cut to length ``norm``; of what lies
    along x0 with words only the share ``parallel`` stays; then x0 = x0 with words + (scale - 1) d.

    Args:
        patches: the noisy tokens that the model was asked about.
        with_text: v_c of ``guidance_pair``.
        without: v_u.
        at: the step; its sigma is the noise level.
        momentum: of the passes before; ``begin_momentum`` at first.
        scale: g; 1 is no guidance. With parallel 1, norm 0 and keep 0 this is ``guided_velocity``.
        parallel: eta, the share that is kept of what lies along the clean value.
        norm: r, the most that an update's norm may be; it grows with the root of the clip's size. 0 is no bound.
        keep: beta, how much of the former updates is added; the paper takes -0.75 to -0.25.
    """
    import torch

    from kineograph.nodes.networks import flow, guidance

    levels = flow.token_levels(at.sigma, patches.mask)[..., None]
    clean = flow.clean_from(patches.tokens, with_text.tokens, levels)
    update = levels * (without.tokens - with_text.tokens)
    if momentum.update is not None:
        update = update + keep * momentum.update
    change = (scale - 1) * guidance.projected(update, clean, patches.mask > 0, parallel, norm)
    tokens = torch.where(levels > 0, with_text.tokens - change / levels, with_text.tokens)
    return Projected(replace(patches, tokens=tokens), GuidanceMomentum(update))
