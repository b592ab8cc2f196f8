"""Steps of the flow's ODE and SDE beyond Euler's: knows levels of cells and clean values of former passes, no network.

Euler's step from level s to t leads to q x + (1 - q) x0 with q = t / s and x0 = x - s v. That is DDIM's step, and the
first order of DPM-Solver++ and UniPC too, because with alpha = 1 - s and sigma = s their exponential integrators are
exact in the same terms. So a solver of higher order is Euler's step towards a better x0, and what a network was trained
with does not matter: DDPM's scaling of x is another, its step the same.

A cell of mask m goes from min(sigma, m) to min(sigma_next, m). One that would not move keeps its bits. Solvers of many
passes count in log(alpha / sigma), from each cell's own levels: passes in which a cell did not move are none to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kineograph.nodes.networks.flow import like, token_levels

NEAREST = 1e-12
"""How near to 0 and 1 a level is counted in log(alpha / sigma), which is infinite there."""


def heun_step(
    x: Tensor, velocity: Tensor, velocity_next: Tensor, sigma: float, sigma_next: float, mask: Tensor
) -> Tensor:
    """Heun's second step: along the mean of the velocities at both ends (Karras et al. 2022, algorithm 1).

    Args:
        x: (B, ...) values at their levels.
        velocity: there.
        velocity_next: at the values and levels where Euler's step leads; not used by cells that become clean.
        sigma, sigma_next: the step's levels.
        mask: m in [0, 1], broadcast from the left.
    """
    now, then = _levels(x, sigma, sigma_next, mask)
    slope = torch.where(then > 0, (velocity + velocity_next) / 2, velocity)
    return torch.where(now == then, x, x + (then - now) * slope)


def step_towards(x: Tensor, clean: Tensor, sigma: float, sigma_next: float, mask: Tensor) -> Tensor:
    """Euler's step towards a clean value: x + (1 - s_next / s) (clean - x), every cell from its own level.

    Args:
        x: (B, ...) values at their levels.
        clean: x0, same shape.
        sigma, sigma_next: the step's levels.
        mask: m in [0, 1], broadcast from the left.
    """
    now, then = _levels(x, sigma, sigma_next, mask)
    return _towards(x, clean, now, then)


def stochastic_step(
    x: Tensor, velocity: Tensor, fresh: Tensor, sigma: float, sigma_next: float, mask: Tensor, eta: float, rule: str
) -> Tensor:
    """Euler's step in which a share of the noise is drawn anew: (1 - t) x0 + sqrt(t² - z²) e + z fresh.

    Args:
        x: (B, ...) values at their levels.
        velocity: there; x0 = x - s v and e = x + (1 - s) v.
        fresh: noise, same shape.
        sigma, sigma_next: the step's levels, s and t for a cell.
        mask: m in [0, 1], broadcast from the left.
        eta: how much; at 0 this is Euler's step to the bit.
        rule: z, see :func:`drawn_anew`.
    """
    now, then = _levels(x, sigma, sigma_next, mask)
    z = drawn_anew(now.double(), then.double(), eta, rule)
    kept = ((then.double().square() - z.square()).clamp_min(0).sqrt() - then).to(x.dtype)
    noise = x + (1 - now) * velocity
    stepped = x + (then - now) * velocity + kept * noise + z.to(x.dtype) * fresh
    return torch.where(now == then, x, stepped)


def toward_with_noise(x: Tensor, clean: Tensor, fresh: Tensor, sigma: float, sigma_next: float, mask: Tensor) -> Tensor:
    """A step towards a clean value with all noise drawn anew that DDPM's posterior allows: SDE-DPM-Solver++.

    Lu et al. 2022; with x0 as the clean value this is :func:`stochastic_step` of eta 1.

    Args:
        x: (B, ...) values at their levels.
        clean: what the step goes towards.
        fresh: noise, same shape.
        sigma, sigma_next: the step's levels.
        mask: m in [0, 1], broadcast from the left.
    """
    now = token_levels(sigma, like(mask, x))
    # x = (1 - s) clean + s e holds for this e, whatever the clean value is
    velocity = torch.where(now > 0, (x - clean) / now, 0.0)
    return stochastic_step(x, velocity, fresh, sigma, sigma_next, mask, 1.0, "ddpm")


def drawn_anew(now: Tensor, then: Tensor, eta: float, rule: str) -> Tensor:
    """The deviation z of the noise that is drawn anew in a step from level s to t.

    Args:
        now, then: s and t in [0, 1], t below s.
        eta: how much, in [0, 1].
        rule: ddpm, z = eta t sqrt(1 - (k_t / k_s)²) with k = s / (1 - s). In DDPM's scaling this is DDIM's sigma (Song
            et al. 2021, eq. 16), so eta 1 is DDPM's ancestral sampling with the posterior's variance (Ho et al. 2020);
            in EDM's it is the ancestral step of k-diffusion. flow, as LTX-Video and others have it for rectified flow:
            Euler to t (1 + (t / s - 1) eta), then up to t.
    """
    if rule == "ddpm":
        left = then * (1 - now) / (now * (1 - then))
    else:
        share = 1 + (then / now - 1) * eta
        left, eta = share * (1 - then) / (1 - share * then), 1.0
    return eta * then * (1 - left.square()).clamp_min(0).sqrt()


def extrapolated_clean(
    clean: Tensor,
    past_clean: Sequence[Tensor],
    past_levels: Sequence[Tensor],
    sigma: float,
    sigma_next: float,
    mask: Tensor,
    order: int,
) -> Tensor:
    """The clean value that a step shall go towards, seen from those of former passes: UniP with B(h) = e^h - 1.

    UniPC: Zhao et al. 2023, section 3; at order 2 this is DPM-Solver++ 2M (Lu et al. 2022, algorithm 2). A cell that
    has moved fewer times, or becomes clean in this step, takes the order that it can.

    Args:
        clean: (B, C, ...) x0 as the model sees it at this pass.
        past_clean: those of former passes, the newest first.
        past_levels: (B, 1, ...) the level of each cell then.
        sigma, sigma_next: the step's levels.
        mask: m in [0, 1], broadcast from the left.
        order: 1 is Euler's step, 2 or 3 the most that is used.
    """
    now, then = _levels(clean, sigma, sigma_next, mask)
    best, usable = clean, (then > 0) & (then < now)
    start, h = log_snr(now), log_snr(then) - log_snr(now)
    for count in range(1, min(order - 1, len(past_clean)) + 1):
        usable = usable & (past_levels[count - 1] > (past_levels[count - 2] if count > 1 else now))
        places = [(log_snr(level) - start) / h for level in past_levels[:count]]
        better = clean + _change(clean, past_clean[:count], places, h)
        best = torch.where(usable, better, best)
    return best


def corrected(
    x: Tensor,
    began: Tensor | None,
    clean: Tensor,
    past_clean: Sequence[Tensor],
    past_levels: Sequence[Tensor],
    sigma: float,
    mask: Tensor,
    order: int,
) -> Tensor:
    """The last step made again, now that the clean value at its end is known: UniC (Zhao et al. 2023, section 3).

    Args:
        x: (B, C, ...) where the last step led; what cells keep that did not move in it.
        began: where it began; None in the first pass.
        clean: x0 as the model sees it at x.
        past_clean: those of former passes, the newest first, which is that at ``began``.
        past_levels: (B, 1, ...) the level of each cell then.
        sigma: the level of x.
        mask: m in [0, 1], broadcast from the left.
        order: of the last step.
    """
    if began is None:
        return x
    before, now = past_levels[0], token_levels(sigma, like(mask, x))
    best, usable = x, before > now
    start, h = log_snr(before), log_snr(now) - log_snr(before)
    for count in range(min(order, len(past_clean))):
        older = range(1, count + 1)
        if count:
            usable = usable & (past_levels[count] > past_levels[count - 1])
        places = [torch.ones_like(h), *((log_snr(past_levels[i]) - start) / h for i in older)]
        better = past_clean[0] + _change(past_clean[0], [clean, *(past_clean[i] for i in older)], places, h)
        best = torch.where(usable, _towards(began, better, before, now), best)
    return best


def log_snr(levels: Tensor) -> Tensor:
    """log(alpha / sigma) = log((1 - s) / s) in float64, with s no nearer to 0 and 1 than NEAREST."""
    s = levels.double().clamp(NEAREST, 1 - NEAREST)
    return torch.log1p(-s) - s.log()


def _levels(x: Tensor, sigma: float, sigma_next: float, mask: Tensor) -> tuple[Tensor, Tensor]:
    m = like(mask, x)
    return token_levels(sigma, m), token_levels(sigma_next, m)


def _towards(x: Tensor, clean: Tensor, now: Tensor, then: Tensor) -> Tensor:
    return torch.where(now == then, x, torch.lerp(clean, x, then / now))


def _change(base: Tensor, others: Sequence[Tensor], places: Sequence[Tensor], h: Tensor) -> Tensor:
    """Sum of rho_j (x0_j - base) / r_j: the mean change of x0 in the step, from its values at the places r.

    The weights solve sum_j rho_j r_j^(i-1) = b_i (Zhao et al. 2023, eq. 5), by Lagrange's polynomials; where only one
    place is known, rho is 1/2, as the paper sets it.
    """
    if len(places) == 1:
        return (0.5 / places[0]).to(base.dtype) * (others[0] - base)
    moments = _moments(h, len(places))
    total = torch.zeros_like(base)
    for place, other in zip(places, others, strict=True):
        polynomial, scale = [torch.ones_like(h)], torch.ones_like(h)
        for root in places:
            if root is not place:  # times (r - root) / (place - root)
                shifted, constant = [torch.zeros_like(h), *polynomial], [*polynomial, torch.zeros_like(h)]
                polynomial = [a - root * b for a, b in zip(shifted, constant, strict=True)]
                scale = scale * (place - root)
        weight = sum(a * b for a, b in zip(polynomial, moments, strict=True)) / (scale * place)
        total = total + weight.to(base.dtype) * (other - base)
    return total


def _moments(h: Tensor, count: int) -> list[Tensor]:
    """b_1, b_2, ...: i! phi_{i+1}(-h) / phi_1(-h), the weight that an exact step gives to the i-th power of r."""
    first = phi = torch.expm1(-h) / -h
    factorial, moments = 1, []
    for i in range(1, count + 1):
        factorial *= i
        phi = (phi - 1 / factorial) / -h  # phi_{i+1} = (phi_i - 1 / i!) / -h
        moments.append(factorial * phi / first)
    return moments
