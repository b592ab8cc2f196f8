"""Noise for training in three steps: which levels, which frames stay given, the noise itself. Knows no network.

A level is the noise's share of x, 0 clean and 1 pure noise; a latent's mask holds that of each cell, and the steps hand
the latent on. So any node that edits a mask fits between them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.sockets import VAE, Keyframes, Latent, Levels, Video
from kineograph.nodes.train.data import Share, step_generator

Shift = Annotated[float, Field(gt=0)]


class NoisePair(NamedTuple):
    """A noisy latent (its mask holds each cell's level) and the velocity that leads back."""

    noisy: Latent
    target: Latent


@node
def logit_normal_levels(
    mean: float = 0.0, std: Annotated[float, Field(gt=0)] = 1.0, shift: Shift = 1.0, uniform: Share = 0.1
) -> Levels:
    """Levels sigmoid(mean + std n), n ~ N(0, 1): most in the middle (Esser et al. 2024, Stable Diffusion 3).

    These are EDM's log-normal sigmas too (Karras et al. 2022): sigma / data_std = s / (1 - s), so the paper's
    P_mean -1.2, P_std 1.2 at data_std 0.5 are mean -0.507, std 1.2, uniform 0.

    Args:
        mean: of the logit; above 0 trains more at high noise.
        std: of the logit.
        shift: multiplies noise over signal, s / (1 - s); larger trains more at high noise.
        uniform: share of levels drawn evenly instead, not shifted, so that the ends are seen too (LTX-2).
    """
    import torch

    from kineograph.nodes.networks import flow, levels

    even = round(uniform * levels.COUNT)
    shifted = flow.shift_levels(levels.logit_normal(mean, std, levels.COUNT - even), shift)
    return Levels(torch.cat([shifted, levels.uniform(even)]))


@node
def uniform_levels(shift: Shift = 1.0) -> Levels:
    """Levels drawn evenly from 0 to 1 (Liu et al. 2022, rectified flow).

    Args:
        shift: multiplies noise over signal, s / (1 - s); larger trains more at high noise.
    """
    from kineograph.nodes.networks import flow, levels

    return Levels(flow.shift_levels(levels.uniform(), shift))


@node
def ddpm_levels(
    schedule: Literal["linear", "cosine"] = "linear",
    timesteps: Annotated[int, Field(ge=2, le=100_000)] = 1000,
    shift: Shift = 1.0,
    zero_terminal: bool = False,
) -> Levels:
    """The levels of DDPM's timesteps: sigma / (alpha + sigma) with alpha² = alpha-bar, sigma² = 1 - alpha-bar.

    Args:
        schedule: linear (Ho et al. 2020) or cosine (Nichol & Dhariwal 2021).
        timesteps: T; every timestep is equally likely.
        shift: multiplies sigma / alpha; CogVideoX divides the SNR by 3, that is a shift of 1.732.
        zero_terminal: stretch the schedule so that the last timestep is pure noise (Lin et al. 2024); a network that
            predicts noise has nothing to learn there, ask for v.
    """
    from kineograph.nodes.networks import flow, levels

    signal = levels.alpha_bar(schedule, timesteps)
    if zero_terminal:
        signal = levels.without_signal_at_the_end(signal)
    return Levels(flow.shift_levels(levels.levels_of(signal), shift))


@node
def draw_levels(latent: Latent, levels: Levels, per_frame: Share = 0.0, seed: int = 0, step: int = 0) -> Latent:
    """Give each clip a noise level, or each of its latent frames one (Chen et al. 2024, diffusion forcing).

    Args:
        latent: clean latents; the result's mask holds the levels.
        levels: the distribution.
        per_frame: share of clips whose latent frames have levels of their own.
        seed: same seed and step, same levels.
        step: number of the pass.
    """
    from kineograph.nodes.networks.levels import draw

    clips, _, frames = latent.x.shape[:3]
    drawn_Bt = draw(levels.values, clips, frames, per_frame, step_generator(seed, step, stream=4))
    return replace(latent, mask=drawn_Bt[:, None, :, None, None].expand_as(latent.mask).contiguous())


@node
def given_frames(
    latent: Latent,
    first: Share = 0.05,
    prefix: Share = 0.05,
    suffix: Share = 0.05,
    both: Share = 0.05,
    random: Share = 0.0,
    every_second: Share = 0.0,
    seed: int = 0,
    step: int = 0,
) -> Latent:
    """Leave some latent frames clean, at level 0 and without a loss: the model learns to go on from what is given.

    Lengths are drawn evenly from one frame to all but one; clips of one latent frame stay as they are.

    Args:
        latent: with its levels drawn.
        first: share of clips whose first latent frame is given (image to video).
        prefix: share with given frames at the start (extend forward).
        suffix: share with given frames at the end (extend backward).
        both: share with given frames at both ends (connect).
        random: share with given frames anywhere.
        every_second: share with frames 0, 2, 4, ... given (interpolate).
        seed: same seed and step, same frames.
        step: number of the pass.

    Raises:
        ValueError: the shares are more than 1 together.
    """
    from kineograph.nodes.networks import levels

    shares = (first, prefix, suffix, both, random, every_second)
    if sum(shares) > 1 + 1e-9:
        raise ValueError(f"The shares of given frames are {sum(shares):.3g} together; clips are at most 1.")
    clips, _, frames = latent.x.shape[:3]
    given_Bt = levels.given_frames(shares, clips, frames, step_generator(seed, step, stream=5))
    return replace(latent, mask=latent.mask.masked_fill(given_Bt[:, None, :, None, None], 0.0))


@node
def given_keyframes(
    latent: Latent,
    vae: VAE,
    video: Video,
    share: Share = 0.1,
    most: Annotated[int, Field(ge=1, le=64)] = 2,
    seed: int = 0,
    step: int = 0,
) -> Latent:
    """Give some pictures of the clip as keyframes: the model learns to pass through a picture at a point in time.

    Args:
        latent: of the clips.
        vae: that encoded them.
        video: the clips; all of a batch are given at the same frames.
        share: of batches that have keyframes; images have none.
        most: the number of keyframes is drawn evenly from 1 to this.
        seed: same seed and step, same frames.
        step: number of the pass.
    """
    import torch

    generator = step_generator(seed, step, stream=7)
    if latent.frames == 1 or float(torch.rand(1, generator=generator)) >= share:
        return latent
    count = int(torch.randint(1, most + 1, (1,), generator=generator))
    frames = torch.randperm(latent.frames, generator=generator)[:count].sort().values.tolist()
    alone = [vae.network.encode(video.frames[:, at : at + 1].transpose(1, 2))[0] for at in frames]
    return replace(latent, keyframes=Keyframes(torch.cat(alone, dim=2), tuple(map(float, frames))))


@node
def add_noise(latent: Latent, seed: int = 0, step: int = 0) -> NoisePair:
    """Noise at each cell's level: x = (1 - s) x0 + s e; the velocity is e - x0 (Liu et al. 2022; Lipman et al. 2023).

    DDPM's and EDM's noisy values are the same up to a factor that depends on s, and ``dit_velocity`` applies it.

    Args:
        latent: clean latents with their levels drawn.
        seed: same seed and step, same noise.
        step: number of the pass.

    Raises:
        ValueError: every cell is given, so there is nothing to learn.
    """
    import torch

    from kineograph.nodes.networks import flow

    if not latent.mask.any():
        raise ValueError("Every cell of this latent is given (level 0); draw_levels comes before add_noise.")
    noise = torch.randn(latent.x.shape, generator=step_generator(seed, step, stream=6))
    x, velocity = flow.noise_pair(latent.x, noise, latent.mask)
    noisy = replace(latent, x=x, clean=latent.x)
    return NoisePair(noisy, replace(noisy, x=velocity))
