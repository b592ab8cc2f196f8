"""Schedules against the papers' formulas, diffusers, and the table of what a strength means."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes import schedules
from kineograph.nodes.networks.levels import alpha_bar
from kineograph.nodes.sample import shifted_sigmas
from kineograph.nodes.sockets import Latent, LatentSpec, SigmaStep
from kineograph.nodes.train.noise import ddpm_levels

SCHEDULES = {
    "shifted": shifted_sigmas(12, 3.0),
    "karras": schedules.karras_sigmas(12),
    "linear_quadratic": schedules.linear_quadratic_sigmas(13),
    "ddim": schedules.ddim_sigmas(ddpm_levels(), 12),
    "leading": schedules.ddim_sigmas(ddpm_levels(), 12, "leading"),
    "stretched": schedules.stretch_sigmas(shifted_sigmas(12, 3.0)),
    "started": schedules.sigmas_from(shifted_sigmas(20, 3.0), 0.77),
}


def levels(sigmas: Stream[SigmaStep]) -> list[float]:
    return [step.sigma for step in sigmas] + [sigmas[len(sigmas) - 1].sigma_next]


def latent(frames: int, side: int) -> Latent:
    x = torch.zeros(1, 4, frames, side, side)
    return Latent(x, x, x[:, :1], 8.0, LatentSpec(4, 4, 8))


@pytest.mark.parametrize("name", SCHEDULES)
def test_steps_join_and_fall_to_zero(name: str) -> None:
    steps = list(SCHEDULES[name])
    assert all(first.sigma_next == second.sigma for first, second in pairwise(steps))
    assert all(1 >= step.sigma > step.sigma_next for step in steps)
    assert steps[-1].sigma_next == 0


def test_karras_levels_are_edms_sigmas() -> None:
    found = torch.tensor(levels(schedules.karras_sigmas(18)), dtype=torch.float64)[:-1]
    sigmas = found / (1 - found)
    i = torch.arange(18, dtype=torch.float64)
    torch.testing.assert_close(sigmas, (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7)
    with pytest.raises(ValueError, match=r"sigma_max = 1\.0 must be above"):
        schedules.karras_sigmas(sigma_min=2.0, sigma_max=1.0)


def test_linear_quadratic_is_even_and_then_a_parabola_without_a_bend() -> None:
    found = torch.tensor(levels(schedules.linear_quadratic_sigmas(64)), dtype=torch.float64)
    assert found[32].item() == pytest.approx(1 - 0.025)
    first, second = found.diff(), found.diff().diff()
    torch.testing.assert_close(first[:32], torch.full_like(first[:32], -0.025 / 32))
    torch.testing.assert_close(second[32:], torch.full_like(second[32:], second[40].item()))
    assert first[32].item() == pytest.approx(first[31].item() + second[40].item() / 2)  # the slope goes on at the joint


def test_trailing_timesteps_begin_at_the_tables_end_and_leading_ones_end_at_its_beginning() -> None:
    table = ddpm_levels()
    trailing, leading = (levels(schedules.ddim_sigmas(table, 50, how)) for how in ("trailing", "leading"))
    assert trailing[:-1] == table.values[19::20].flip(0).tolist()
    assert leading[:-1] == table.values[::20].flip(0).tolist()
    signal = alpha_bar("linear", 1000)[999]
    assert (1 / trailing[0] - 1) ** 2 == pytest.approx((signal / (1 - signal)).item())
    with pytest.raises(ValueError, match="1000 steps cannot be taken from 20 levels"):
        schedules.ddim_sigmas(ddpm_levels(timesteps=20), 1000)


def test_a_stretched_schedule_ends_at_its_terminal_level_and_still_begins_at_one() -> None:
    found = levels(schedules.stretch_sigmas(shifted_sigmas(8, 2.0), terminal=0.1))
    assert found[0] == 1
    assert found[-2] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="more steps"):
        schedules.stretch_sigmas(shifted_sigmas(1))


def test_a_schedule_starts_exactly_where_it_is_told() -> None:
    whole = shifted_sigmas(10, 1.0)
    assert levels(schedules.sigmas_from(whole, 0.55))[:2] == [0.55, 0.5]
    assert levels(schedules.sigmas_from(whole, 1.0)) == levels(whole)
    assert len(schedules.sigmas_from(whole, 0.0)) == 0
    assert levels(schedules.sigmas_from(schedules.karras_sigmas(5), 1.0))[:2] == pytest.approx([1.0, 80 / 81])


# the level of diffusers' strength at 50 steps, for strengths .3 .5 .7 .9 (run with its WanVideoToVideoPipeline)
STRENGTHS = {
    1: (0.30, 0.50, 0.70, 0.90),
    3: (0.56, 0.75, 0.88, 0.96),
    5: (0.68, 0.83, 0.92, 0.98),
    7: (0.75, 0.88, 0.94, 0.98),
    12: (0.84, 0.92, 0.97, 0.99),
}


@pytest.mark.parametrize("shift", STRENGTHS)
def test_a_strength_is_another_level_in_every_schedule(shift: int) -> None:
    sigmas = shifted_sigmas(50, float(shift))
    for strength, level in zip((0.3, 0.5, 0.7, 0.9), STRENGTHS[shift], strict=True):
        at = schedules.strength_sigma(sigmas, strength)
        assert at == pytest.approx(level, abs=0.0051)
        assert len(schedules.sigmas_from(sigmas, at)) == round(50 * strength)
    assert schedules.strength_sigma(sigmas, 0.0) == 0
    assert schedules.strength_sigma(sigmas, 1.0) == 1


def test_the_shift_by_tokens_has_its_published_ends() -> None:
    assert schedules.token_shift(latent(4, 16)) == pytest.approx(math.exp(0.95))
    assert schedules.token_shift(latent(16, 32), cells=4) == pytest.approx(math.exp(2.05))


def test_the_shift_by_size_grows_with_the_root_of_pixels_and_frames() -> None:
    assert schedules.size_shift(latent(1, 64)) == pytest.approx(1.0)
    assert schedules.size_shift(latent(4, 64), scale=3.0) == pytest.approx(6.0)
    assert schedules.size_shift(latent(1, 128)) == pytest.approx(2.0)


# diffusers


def test_the_shift_by_tokens_and_the_stretch_are_those_of_ltx_in_diffusers() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1)
    shift = schedules.token_shift(latent(8, 20))
    even = torch.linspace(1, 0, 13, dtype=torch.float64)[:-1].tolist()
    scheduler.set_timesteps(sigmas=even, mu=math.log(shift))
    found = levels(schedules.stretch_sigmas(shifted_sigmas(12, shift)))
    assert found == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)


def test_karras_levels_are_those_of_edm_in_diffusers() -> None:
    from diffusers import EDMEulerScheduler

    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    scheduler.set_timesteps(15)
    found = torch.tensor(levels(schedules.karras_sigmas(15)), dtype=torch.float64)
    torch.testing.assert_close((found / (1 - found)).float(), scheduler.sigmas)


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("zero_terminal", [False, True])
def test_ddims_timesteps_are_those_of_diffusers(spacing: str, zero_terminal: bool) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(timestep_spacing=spacing, rescale_betas_zero_snr=zero_terminal)
    scheduler.set_timesteps(25)
    found = torch.tensor(levels(schedules.ddim_sigmas(ddpm_levels(zero_terminal=zero_terminal), 25, spacing)))
    signal = scheduler.alphas_cumprod[scheduler.timesteps].double()
    sigma, alpha = (1 - signal).sqrt(), signal.sqrt()
    torch.testing.assert_close(found[:-1].double(), sigma / (alpha + sigma), atol=1e-4, rtol=0)  # theirs is float32
