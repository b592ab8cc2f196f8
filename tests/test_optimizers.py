"""Optimizers as recipes: equal to torch's own, restored to the bit, in groups; schedules, averages, the NaN alarm."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from kineograph.nodes import model
from kineograph.nodes.networks.components import load
from kineograph.nodes.networks.optimizers import TAGS, build_optimizer, parameter_tags
from kineograph.nodes.train.optimizer import (
    add_gradients,
    apply_gradients,
    average_weights,
    begin_average,
    begin_training,
    clip_gradients,
    gradients,
    learning_rate,
    mean_gradients,
    zero_gradients,
)
from kineograph.nodes.train.recipe import adamw, muon, parameter_group, sgd
from kineograph.nodes.train.sockets import Gradients, Loss, Optimizer, TrainState, Weights

DIT = model.start_dit(channels=4, width=32, depth=1, heads=2, seed=2)
ENCODER = model.new_text_encoder(width=48, seed=3)
RECIPES = {
    "adamw": adamw(beta2=0.99),
    "sgd": sgd(momentum=0.8, nesterov=True, weight_decay=0.02),
    "muon": muon(rest=adamw(weight_decay=0.0)),
    "muon and sgd": muon(rest=sgd()),
    "grouped": parameter_group(parameter_group(muon(), "bias", 2.0, 0.0), "hidden", 0.5, 3.0),
}


class Run:
    """A run that writes into a folder."""

    provenance = "{}"

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, []

    def output_path(self, relative: str) -> Path:
        return self.folder / relative

    def wrote(self, path: Path) -> None:
        self.files.append(path)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def drawn(state: TrainState, step: int) -> Gradients:
    """Gradients that depend on the pass alone."""
    generator = torch.Generator().manual_seed(step)
    return Gradients(
        tuple(torch.randn(weight.shape, generator=generator) for weight in state.model.network.parameters())
    )


@torch.no_grad()
def trained(state: TrainState, steps: range, run: Run) -> TrainState:
    for step in steps:
        state = apply_gradients(state, drawn(state, step), run, lr=1e-2 / (step + 1))
    return state


def weights(state: TrainState) -> list[torch.Tensor]:
    return list(state.model.network.state_dict().values())


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def by_hand(state: TrainState, name: str) -> list[torch.optim.Optimizer]:
    """Torch's optimizers over a state's weights, as a script would write them."""
    named = dict(state.model.network.named_parameters())
    hidden = [
        weight
        for key, weight in named.items()
        if key.startswith("blocks.") and key.endswith(".weight") and weight.ndim == 2
    ]
    rest = [weight for weight in named.values() if not any(weight is matrix for matrix in hidden)]
    if name == "adamw":
        return [torch.optim.AdamW(named.values(), betas=(0.9, 0.99), weight_decay=0.01)]
    if name == "sgd":
        return [torch.optim.SGD(named.values(), momentum=0.8, nesterov=True, weight_decay=0.02)]
    return [
        torch.optim.Muon(hidden, momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, betas=(0.9, 0.95), weight_decay=0.0),
    ]


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_an_optimizer_does_what_torchs_own_does_with_the_same_gradients(name: str, run: Run) -> None:
    state, script = begin_training(DIT, RECIPES[name]), begin_training(DIT)
    written = by_hand(script, name)
    for step in range(4):
        apply_gradients(state, drawn(state, step), run, lr=0.01 * (step + 1))
        for weight, gradient in zip(script.model.network.parameters(), drawn(script, step).values, strict=True):
            weight.grad = gradient
        for each in written:
            for group in each.param_groups:
                group["lr"] = 0.01 * (step + 1)
            each.step()
    for ours, theirs in zip(weights(state), weights(script), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)
    assert not same(weights(state), list(DIT.network.state_dict().values()))


@pytest.mark.parametrize("name", RECIPES)
def test_a_state_that_is_built_again_goes_on_to_the_same_bits(name: str, run: Run) -> None:
    through = trained(begin_training(DIT, RECIPES[name]), range(6), run)
    half = trained(begin_training(DIT, RECIPES[name]), range(3), run)
    kept = half.optimizer.state_dict()
    groups = json.loads(json.dumps(kept["param_groups"]))
    recipe = Optimizer(**json.loads(json.dumps(asdict(half.recipe), sort_keys=True)))
    assert recipe == RECIPES[name]
    again = begin_training(half.model, recipe)
    again.optimizer.load_state_dict({"state": kept["state"], "param_groups": groups})
    assert same(weights(trained(again, range(3, 6), run)), weights(through))
    fresh = begin_training(half.model, recipe)
    assert not same(weights(trained(fresh, range(3, 6), run)), weights(through))


def test_the_state_of_one_optimizer_has_the_form_of_torchs(run: Run) -> None:
    state = trained(begin_training(DIT, RECIPES["muon"]), range(2), run)
    kept = state.optimizer.state_dict()
    count = len(list(state.model.network.parameters()))
    assert sorted(kept["state"]) == list(range(count))
    assert sorted(number for group in kept["param_groups"] for number in group["params"]) == list(range(count))


def test_a_state_of_another_optimizer_is_refused() -> None:
    kept = begin_training(DIT, adamw()).optimizer.state_dict()
    with pytest.raises(ValueError, match="another network or with another optimizer"):
        begin_training(DIT, muon()).optimizer.load_state_dict(kept)


def test_every_parameter_is_in_one_group_and_frozen_ones_in_none() -> None:
    network = begin_training(DIT).model.network
    network.token_in.requires_grad_(False)
    built = build_optimizer(network, muon().parts, {})
    grouped = [id(weight) for group in built.param_groups for weight in group["params"]]
    wanted = [id(weight) for weight in network.parameters() if weight.requires_grad]
    assert sorted(grouped) == sorted(wanted)


def test_tags_say_what_a_parameter_is() -> None:
    tags = parameter_tags(DIT.network) | parameter_tags(ENCODER.network)
    assert tags["blocks.0.up.weight"] == "hidden"
    assert tags["token_in.weight"] == tags["modulation.weight"] == "edge"
    assert tags["grams.weight"] == "embedding"
    assert tags["blocks.0.q_norm.weight"] == tags["norm.weight"] == "norm"
    assert tags["blocks.0.table"] == tags["token_in.bias"] == tags["norm.bias"] == "bias"
    assert set(tags.values()) == set(TAGS)
    assert parameter_tags(nn.Sequential(nn.Conv2d(1, 1, 3)))["0.weight"] == "edge"


def test_a_group_scales_its_learning_rate_and_weight_decay(run: Run) -> None:
    recipe = parameter_group(parameter_group(sgd(momentum=0.0, weight_decay=0.5), "bias", 3.0, 0.0), "norm", 0.0, 1.0)
    state = begin_training(DIT, recipe)
    before = {name: weight.detach().clone() for name, weight in state.model.network.named_parameters()}
    found = drawn(state, 0)
    apply_gradients(state, found, run, lr=0.1)
    tags = parameter_tags(state.model.network)
    for (name, weight), gradient in zip(state.model.network.named_parameters(), found.values, strict=True):
        w = before[name]
        moved = {"bias": w - 0.3 * gradient, "norm": w}.get(tags[name], w - 0.1 * (gradient + 0.5 * w))
        torch.testing.assert_close(weight.detach(), moved, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_leaves_the_gradients_as_they_are_and_nothing_on_the_parameters(name: str, run: Run) -> None:
    state = begin_training(DIT, RECIPES[name])
    for step in range(2):  # momentum begins in the second
        found = drawn(state, step)
        apply_gradients(state, found, run)
        assert same(list(found.values), list(drawn(state, step).values))
    assert all(weight.grad is None for weight in state.model.network.parameters())


def test_gradients_that_come_transposed_or_expanded_update_the_right_weights(run: Run) -> None:
    """Torch's fused AdamW does not look at the strides of a gradient."""
    state, script = begin_training(DIT, adamw(weight_decay=0.0)), begin_training(DIT)
    factor = torch.randn(32, 128, generator=torch.Generator().manual_seed(1))

    def loss(one: TrainState) -> torch.Tensor:
        up, down = (one.model.network.get_parameter(f"blocks.0.{name}.weight") for name in ("up", "down"))
        return (up.T * factor).sum() + down.sum()

    weights_up = [state.model.network.get_parameter("blocks.0.up.weight")]
    assert torch.autograd.grad(loss(state), weights_up)[0].stride() != weights_up[0].stride()
    apply_gradients(state, gradients(Loss(loss(state)), state), run, lr=0.1)
    plain = torch.optim.AdamW(script.model.network.parameters(), weight_decay=0.0, fused=False)
    plain.param_groups[0]["lr"] = 0.1
    loss(script).backward()
    plain.step()
    for ours, theirs in zip(weights(state), weights(script), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_clipping_is_one_factor_and_tells_the_norm_before() -> None:
    found = Gradients((torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])))
    clipped, norm = clip_gradients(found, largest=1.0)
    assert norm == 5.0
    torch.testing.assert_close(clipped.norm, torch.tensor(1.0))
    torch.testing.assert_close(clipped.values[1], torch.tensor([[0.0, 0.8]]))
    assert clip_gradients(found, largest=6.0).gradients is found


def test_sums_and_means_of_gradients() -> None:
    state = begin_training(DIT)
    total = zero_gradients(state)
    for step in range(4):
        total = add_gradients(total, drawn(state, step))
    mean = mean_gradients(total, 4)
    expected = [sum(parts) / 4 for parts in zip(*(drawn(state, step).values for step in range(4)), strict=True)]
    for ours, theirs in zip(mean.values, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


# --- the NaN alarm


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_gradients_that_are_not_finite_stop_the_step_and_keep_the_model_before_it(poison: float, run: Run) -> None:
    state = trained(begin_training(DIT), range(1), run)
    before = [weight.clone() for weight in weights(state)]
    moments = [value.clone() for each in state.optimizer.state_dict()["state"].values() for value in each.values()]
    broken = list(drawn(state, 1).values)
    broken[3] = torch.full_like(broken[3], poison)
    clipped = clip_gradients(Gradients(tuple(broken))).gradients
    with pytest.raises(ValueError, match=r"not finite.*last_good/dit.safetensors.*lower learning rate"):
        apply_gradients(state, clipped, run)
    assert same(weights(state), before)
    after = [value for each in state.optimizer.state_dict()["state"].values() for value in each.values()]
    assert same(after, moments)
    (kept,) = run.files
    assert same(list(load(kept, "dit").state_dict().values()), before)


def test_weights_that_are_not_finite_overwrite_nothing(run: Run) -> None:
    state = begin_training(DIT)
    with torch.no_grad():
        state.model.network.token_in.weight[0, 0] = math.inf
    broken = Gradients(tuple(torch.full_like(weight, math.nan) for weight in state.model.network.parameters()))
    with pytest.raises(ValueError, match="last checkpoint"):
        apply_gradients(state, broken, run)
    assert not run.files


def test_a_caption_reader_leaves_its_text_encoder(run: Run) -> None:
    from kineograph.nodes.train.loss import caption_reader

    state = begin_training(caption_reader(ENCODER))
    broken = Gradients(tuple(torch.full_like(weight, math.nan) for weight in state.model.network.parameters()))
    with pytest.raises(ValueError, match=r"last_good/text_encoder.safetensors"):
        apply_gradients(state, broken, run)
    assert same(list(load(run.files[0], "text_encoder").state_dict().values()), weights_of(ENCODER))


def weights_of(thing) -> list[torch.Tensor]:
    return list(thing.network.state_dict().values())


# --- schedules and averages


def test_the_learning_rate_has_its_closed_forms() -> None:
    def rates(**given) -> list[float]:
        return [learning_rate(step, 100, peak=2.0, warmup=9, **given) for step in range(100)]

    for shape in ("linear", "cosine", "inverse sqrt", "constant"):
        assert rates(shape=shape)[:9] == pytest.approx([2.0 * (step + 1) / 10 for step in range(9)])
    assert rates(shape="constant")[9:] == [2.0] * 91
    assert rates(decay=0.4)[59:] == pytest.approx([2.0, *(2.0 * (100 - step) / 40 for step in range(60, 100))])
    assert rates(shape="cosine", decay=0.5, floor=0.1)[75] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert rates(shape="inverse sqrt")[39] == pytest.approx(2.0 * math.sqrt(10 / 40))
    assert min(rates(floor=0.25)[10:]) > 0.5
    assert learning_rate(500, 100, floor=0.25) == pytest.approx(0.25e-3)  # past the end it stays at the floor


def test_an_average_has_its_closed_forms() -> None:
    state = begin_training(DIT)
    bias = state.model.network.token_in.bias

    @torch.no_grad()
    def averaged(**given) -> float:
        bias.zero_()
        average: Weights = begin_average(state)
        for step in range(20):
            bias.fill_(step + 1.0)
            average = average_weights(average, state, step, **given)
        return float(average.values["token_in.bias"][0])

    expected, keep = 0.0, 0.5
    for step in range(20):
        now = min(keep, (1 + step) / (10 + step))
        expected = now * expected + (1 - now) * (step + 1)
    assert averaged(decay=keep) == pytest.approx(expected, rel=1e-5)
    assert averaged(power=1e-9) == pytest.approx(10.5, rel=1e-5)  # power 0 in the limit: the plain mean of 1 to 20
    # d = ((k - 1) / k)^2, with k from 1: pass k counts k^2 - (k - 1)^2 = 2k - 1
    assert averaged(power=1.0) == pytest.approx(sum((2 * k - 1) * k for k in range(1, 21)) / 400, rel=1e-5)
