"""Solvers against a Gaussian target, of which the whole path is known, and diffusers; what they promise to cells."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kineograph.nodes import schedules, solvers
from kineograph.nodes.networks import flow
from kineograph.nodes.networks import solvers as maths
from kineograph.nodes.networks.schedules import started_at
from kineograph.nodes.sample import euler_step
from kineograph.nodes.sockets import Latent, LatentSpec, SigmaStep
from kineograph.nodes.train.data import step_generator
from kineograph.nodes.train.noise import ddpm_levels

MEAN, STD = 0.7, 0.4
SPEC = LatentSpec(2, 4, 8)


def exact(noise: Tensor, level: float) -> Tensor:
    """The value at a level of the path that comes from this noise, for x0 ~ N(MEAN, STD²)."""
    return (1 - level) * MEAN + math.hypot(STD * (1 - level), level) * noise


def velocity_of(latent: Latent, sigma: float) -> Latent:
    """E[e - x0 | x] at every cell, at its own level: the model that needs no training."""
    s = latent.mask.clamp_max(sigma)
    seen = (latent.x - (1 - s) * MEAN) / ((STD * (1 - s)).square() + s.square())
    velocity = s * seen - (MEAN + STD**2 * (1 - s) * seen)
    return Latent(velocity, latent.clean, latent.mask, latent.fps, latent.spec)


def noise(seed: int = 0, clips: int = 2) -> Tensor:
    return torch.randn(clips, 2, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def latent_of(x: Tensor, mask: Tensor | None = None) -> Latent:
    mask = torch.ones_like(x[:, :1]) if mask is None else mask
    return Latent(x, torch.zeros_like(x), mask, 8.0, SPEC)


def euler(latent: Latent, step: SigmaStep, state, index: int):
    return euler_step(latent, velocity_of(latent, step.sigma), step), state


def heun(latent: Latent, step: SigmaStep, state, index: int):
    velocity = velocity_of(latent, step.sigma)
    predicted, at = solvers.predict_step(latent, velocity, step)
    return solvers.heun_step(latent, velocity, velocity_of(predicted, at.sigma), step), state


def dpmpp(latent: Latent, step: SigmaStep, state, index: int):
    return solvers.dpmpp_2m_step(latent, velocity_of(latent, step.sigma), step, state)


def unipc(order: int):
    def step_of(latent: Latent, step: SigmaStep, state, index: int):
        return solvers.unipc_step(latent, velocity_of(latent, step.sigma), step, state, order)

    return step_of


def ancestral(eta: float, rule: str = "ddpm"):
    def step_of(latent: Latent, step: SigmaStep, state, index: int):
        return solvers.ancestral_step(latent, velocity_of(latent, step.sigma), step, index, eta, rule, seed=3), state

    return step_of


SOLVERS = {
    "euler": euler,
    "heun": heun,
    "dpmpp": dpmpp,
    "unipc1": unipc(1),
    "unipc2": unipc(2),
    "unipc3": unipc(3),
    "ddim": ancestral(0.5),
    "ddpm": ancestral(1.0),
    "flow": ancestral(0.7, "flow"),
}


def solve(solver: Callable, latent: Latent, levels: list[float]) -> Latent:
    state = solvers.begin_history()
    for index, pair in enumerate(pairwise(levels)):
        latent, state = solver(latent, SigmaStep(*pair), state, index)
    return latent


def even_in_log_snr(steps: int, first: float = 0.9, last: float = 0.1) -> list[float]:
    ends = [math.log(s / (1 - s)) for s in (first, last)]
    return torch.sigmoid(torch.linspace(*ends, steps + 1, dtype=torch.float64)).tolist()


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("dpmpp", 2), ("unipc1", 2), ("unipc2", 3)])
def test_halving_the_steps_divides_the_error_by_two_to_the_order(name: str, order: int) -> None:
    def error(steps: int) -> float:
        levels = even_in_log_snr(steps)
        found = solve(SOLVERS[name], latent_of(exact(noise(), levels[0])), levels)
        return (found.x - exact(noise(), levels[-1])).abs().max().item()

    assert math.log2(error(40) / error(80)) == pytest.approx(order, abs=0.15)


def test_order_three_of_unipc_is_its_best_and_from_noise_to_clean_all_beat_euler() -> None:
    def error(name: str, levels: list[float]) -> float:
        found = solve(SOLVERS[name], latent_of(exact(noise(), levels[0])), levels)
        return (found.x - exact(noise(), levels[-1])).abs().max().item()

    middle = even_in_log_snr(40)
    assert error("unipc3", middle) < 0.5 * error("unipc2", middle)
    whole = flow.shifted_sigmas(20, 1.0).tolist()
    plain = error("euler", whole)
    assert all(error(name, whole) < 0.3 * plain for name in ("heun", "dpmpp", "unipc2", "unipc3"))


@pytest.mark.parametrize("name", SOLVERS)
def test_given_cells_keep_their_bits_and_soft_ones_wait_for_their_level(name: str) -> None:
    mask = torch.ones(2, 1, 3, 2, 2, dtype=torch.float64)
    mask[:, :, 0], mask[:, :, 1] = 0.0, 0.5
    begun = latent_of(noise(1), mask)
    levels = [1.0, 0.9, 0.75, 0.6, 0.4, 0.2, 0.0]
    waited = solve(SOLVERS[name], begun, levels[:4])
    assert torch.equal(waited.x[:, :, :2], begun.x[:, :, :2])
    assert not (waited.x[:, :, 2] == begun.x[:, :, 2]).any()
    done = solve(SOLVERS[name], begun, levels)
    assert torch.equal(done.x[:, :, 0], begun.x[:, :, 0])
    assert not (done.x[:, :, 1] == begun.x[:, :, 1]).any()
    assert torch.isfinite(done.x).all()


@pytest.mark.parametrize("name", [name for name in SOLVERS if name not in ("ddim", "ddpm", "flow")])
@pytest.mark.parametrize("level", [0.5, 0.55])
def test_a_soft_cell_goes_the_way_of_a_free_one_that_starts_at_its_level(name: str, level: float) -> None:
    levels = [1.0, 0.9, 0.7, 0.5, 0.4, 0.25, 0.1, 0.0]
    soft = torch.full((2, 1, 3, 2, 2), level, dtype=torch.float64)
    late = solve(SOLVERS[name], latent_of(exact(noise(), level), soft), levels)
    alone = solve(SOLVERS[name], latent_of(exact(noise(), level)), started_at(levels, level))
    torch.testing.assert_close(late.x, alone.x, atol=1e-12, rtol=1e-12)


def test_order_one_is_eulers_step_and_so_is_eta_zero_to_the_bit() -> None:
    latent = latent_of(noise().float())
    velocity, step = velocity_of(latent, 0.8), SigmaStep(0.8, 0.6)
    plain = euler_step(latent, velocity, step)
    first = solvers.dpmpp_2m_step(latent, velocity, step, solvers.begin_history()).latent
    torch.testing.assert_close(first.x, plain.x)
    for rule in ("ddpm", "flow"):
        assert torch.equal(solvers.ancestral_step(latent, velocity, step, 0, eta=0.0, rule=rule).x, plain.x)


def test_dpmpp_2m_is_unipc_of_order_two_without_its_corrector() -> None:
    clean, before = noise(1), noise(2)
    past = [before], [torch.full_like(clean[:, :1], 0.9)]
    aim = maths.extrapolated_clean(clean, *past, 0.7, 0.4, torch.ones_like(clean[:, :1]), 2)
    lam = [math.log((1 - s) / s) for s in (0.9, 0.7, 0.4)]
    ratio = (lam[1] - lam[0]) / (lam[2] - lam[1])
    torch.testing.assert_close(aim, (1 + 1 / (2 * ratio)) * clean - 1 / (2 * ratio) * before)


@pytest.mark.parametrize("rule", ["ddpm", "flow"])
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_drawing_noise_anew_keeps_the_level(rule: str, eta: float) -> None:
    drawn = noise(4, clips=20_000)
    latent = latent_of(exact(drawn, 0.9))
    stepped = solvers.ancestral_step(latent, velocity_of(latent, 0.9), SigmaStep(0.9, 0.89), 0, eta, rule)
    wanted = exact(drawn, 0.89)  # equal in distribution up to the step's error, which falls with its square
    assert stepped.x.mean().item() == pytest.approx(wanted.mean().item(), abs=0.01)
    assert stepped.x.std().item() == pytest.approx(wanted.std().item(), rel=0.01)
    assert not torch.allclose(stepped.x, wanted, atol=0.05)


def test_noise_depends_on_seed_and_pass() -> None:
    latent = latent_of(noise())
    velocity, step = velocity_of(latent, 0.9), SigmaStep(0.9, 0.7)
    found = [solvers.ancestral_step(latent, velocity, step, *which).x for which in ((0,), (1,), (0, 1.0, "ddpm", 1))]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_ancestral_at_eta_one_is_k_diffusions_in_edms_scaling_and_ddpms_posterior_in_its_own() -> None:
    s, t = torch.tensor(0.8, dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)
    z = maths.drawn_anew(s, t, 1.0, "ddpm")
    k_s, k_t = s / (1 - s), t / (1 - t)
    torch.testing.assert_close(z / (1 - t), (k_t**2 * (k_s**2 - k_t**2) / k_s**2).sqrt())
    bar_s, bar_t = 1 / (1 + k_s**2), 1 / (1 + k_t**2)  # alpha-bar
    posterior = (1 - bar_t) / (1 - bar_s) * (1 - bar_s / bar_t)
    torch.testing.assert_close((z / torch.hypot(t, 1 - t)).square(), posterior)


# diffusers


def schedulers() -> dict[str, tuple]:
    """Schedulers of diffusers, which sampler of ours each is, and how many of its steps are compared."""
    import diffusers

    flow_sigmas = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    dpm, uni = diffusers.DPMSolverMultistepScheduler, diffusers.UniPCMultistepScheduler
    return {
        "FlowMatchEulerDiscrete": (diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), "euler", 12),
        "FlowMatchHeunDiscrete": (diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0), "heun", 12),
        "DPMSolverMultistep": (dpm(**flow_sigmas, final_sigmas_type="zero"), "dpmpp", 12),
        "UniPCMultistep 2": (uni(**flow_sigmas, solver_order=2), "unipc2", 12),
        # with order 3, its last step but one is of order 2: ours does not know that one more is to come
        "UniPCMultistep 3": (uni(**flow_sigmas, solver_order=3), "unipc3", 10),
    }


def scheduler_steps(scheduler, x: Tensor, most: int) -> tuple[Tensor, list[float]]:
    """The value after so many steps of the scheduler's own loop, and the levels that it went through."""
    scheduler.set_timesteps(12)
    levels = [float(sigma) for sigma in scheduler.sigmas]
    passed = list(dict.fromkeys(levels))[: most + 1]
    for timestep in scheduler.timesteps:
        at = levels[scheduler.step_index or 0]
        if at == passed[-1]:
            break
        x = scheduler.step(velocity_of(latent_of(x), at).x, timestep, x, return_dict=False)[0]
    return x, passed


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers 0.42.1 with NumPy 2
@pytest.mark.parametrize(
    "name",
    [
        "FlowMatchEulerDiscrete",
        "FlowMatchHeunDiscrete",
        "DPMSolverMultistep",
        "UniPCMultistep 2",
        "UniPCMultistep 3",
    ],
)
def test_diffusers_goes_the_same_way(name: str) -> None:
    scheduler, ours, most = schedulers()[name]
    start = noise().float()
    theirs, levels = scheduler_steps(scheduler, start, most)
    assert len(levels) > most - 1
    found = solve(SOLVERS[ours], latent_of(start), levels)
    torch.testing.assert_close(found.x, theirs, atol=1e-5, rtol=0)


def test_eulers_ancestral_step_for_flow_is_that_of_ltx() -> None:
    from diffusers import LTXEulerAncestralRFScheduler

    levels, theirs = flow.shifted_sigmas(10, 2.0).tolist(), noise().float()
    ours = solve(ancestral(0.7, "flow"), latent_of(theirs), levels)
    scheduler = LTXEulerAncestralRFScheduler(eta=0.7)
    scheduler.set_timesteps(sigmas=levels)
    for index, timestep in enumerate(scheduler.timesteps[:-1]):
        velocity = velocity_of(latent_of(theirs), levels[index]).x
        generator = step_generator(3, index, stream=7)
        theirs = scheduler.step(velocity, timestep, theirs, generator=generator, return_dict=False)[0]
    torch.testing.assert_close(ours.x, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("spacing", "eta"), [("trailing", 0.0), ("trailing", 0.6), ("leading", 1.0)])
def test_ddim_in_ddpms_scaling_is_our_step(predicts: str, spacing: str, eta: float) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(timestep_spacing=spacing, prediction_type=predicts, clip_sample=False)
    ours, theirs = with_ddpm(scheduler, predicts, spacing, eta, eta=eta)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_ddpms_ancestral_step_in_its_own_scaling_is_ours_at_eta_one(predicts: str) -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(timestep_spacing="leading", prediction_type=predicts, clip_sample=False)
    ours, theirs = with_ddpm(scheduler, predicts, "leading", 1.0)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def with_ddpm(scheduler, predicts: str, spacing: str, ours_eta: float, **given: float) -> tuple[Tensor, Tensor]:
    """Ours and theirs from the same noise: they hold x / r, r² = (1 - s)² + s², and are told e or v."""
    steps = schedules.ddim_sigmas(ddpm_levels(), 20, spacing)
    x = noise().float()
    ours = latent_of(x * math.hypot(1 - steps[0].sigma, steps[0].sigma))
    scheduler.set_timesteps(20)
    for index, (step, timestep) in enumerate(zip(steps, scheduler.timesteps, strict=True)):
        ours = solvers.ancestral_step(ours, velocity_of(ours, step.sigma), step, index, ours_eta, seed=3)
        s, r = step.sigma, math.hypot(1 - step.sigma, step.sigma)
        velocity = velocity_of(latent_of(r * x), s).x
        clean, drawn = r * x - s * velocity, r * x + (1 - s) * velocity
        said = drawn if predicts == "epsilon" else ((1 - s) * drawn - s * clean) / r
        generator = step_generator(3, index, stream=7)
        x = scheduler.step(said, timestep, x, generator=generator, return_dict=False, **given)[0]
    return ours.x, x
