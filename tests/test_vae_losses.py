"""Losses of the VAE by what must hold: closed forms, what they see and do not see, and two optimizers in one graph."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from kineograph import default_runtime
from kineograph.graph_runtime.events import Metric
from kineograph.nodes import model
from kineograph.nodes.networks import adversarial as networks
from kineograph.nodes.networks import perceptual
from kineograph.nodes.networks.batches import part_of
from kineograph.nodes.networks.weights import load_weights
from kineograph.nodes.sockets import LatentSpec, Video
from kineograph.nodes.train import adversarial, loss, optimizer
from kineograph.nodes.train.sockets import Loss, Posterior

WORKFLOWS = Path(__file__).parent.parent / "workflows"


def random_video(seed: int, clips: int = 2, frames: int = 5, side: int = 16) -> Video:
    made = torch.Generator().manual_seed(seed)
    return Video(torch.rand(clips, frames, 3, side, side, generator=made), 8.0)


def changed(video: Video, by: Tensor | float) -> Video:
    return Video(video.frames + by, video.fps)


# KL and reconstruction


def test_kl_is_that_of_torchs_own_gaussians() -> None:
    made = torch.Generator().manual_seed(0)
    mean, logvar = torch.randn(2, 2, 3, 1, 4, 4, generator=made)
    found = loss.kl_loss(Posterior(mean, logvar, 8.0, LatentSpec(3, 4, 8))).value
    posterior = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(found, expected)


def test_a_reconstruction_without_posterior_counts_pixels_alone() -> None:
    video = random_video(1)
    assert loss.reconstruction_loss(changed(video, 0.1), video).value.item() == pytest.approx(0.01)


def test_parts_of_a_batch_are_drawn_as_the_batch_is() -> None:
    made = torch.Generator().manual_seed(0)
    whole = Posterior(*torch.randn(2, 6, 3, 1, 4, 4, generator=made), 8.0, LatentSpec(3, 4, 8))
    parts = [loss.sample_posterior(part_of(whole, part, 3), seed=1, step=2, part=part, parts=3) for part in range(3)]
    assert torch.equal(torch.cat([part.x for part in parts]), loss.sample_posterior(whole, seed=1, step=2).x)


# what the eye sees


def test_the_laplacian_loss_of_a_flat_change_is_its_size() -> None:
    video = random_video(2)
    assert loss.laplacian_loss(changed(video, -0.2), video).value.item() == pytest.approx(0.2, rel=1e-5)
    assert loss.laplacian_loss(video, video).value == 0


VGG = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
WIDTHS = (4, 4, 5, 5, 6, 6, 6, 7, 7, 7, 3, 3, 3)


def vgg(heads: bool = False, slices: bool = False) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(3)
    weights, width = {}, 3
    for layer, features in zip(VGG, WIDTHS, strict=True):
        block = sum(layer > last for last in (2, 7, 14, 21))
        name = f"net.slice{block + 1}.{layer}" if slices else f"features.{layer}"
        weights[f"{name}.weight"] = 0.3 * torch.randn(features, width, 3, 3, generator=made)
        weights[f"{name}.bias"] = 0.1 * torch.randn(features, generator=made)
        width = features
    if heads:
        for at, features in enumerate((4, 5, 6, 7, 3)):
            weights[f"lin{at}.model.1.weight"] = torch.rand(1, features, 1, 1, generator=made)
    return weights


def lpips(made: Tensor, real: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Written out from the paper, layer by layer."""
    total = torch.zeros(())
    pictures = [(each - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) for each in (made, real)]
    x, y = [each / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) for each in pictures]
    for layer in range(30):
        if layer in VGG:
            kernel, bias = weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"]
            x, y = (functional.conv2d(each, kernel, bias, padding=1).relu() for each in (x, y))
        elif layer in (4, 9, 16, 23):
            x, y = (functional.max_pool2d(each, 2) for each in (x, y))
        if layer in (2, 7, 14, 21, 28):
            lengths = [each / (each.norm(dim=1, keepdim=True) + 1e-10) for each in (x, y)]
            gap = (lengths[0] - lengths[1]).square()
            head = weights.get(f"lin{(2, 7, 14, 21, 28).index(layer)}.model.1.weight", torch.ones(()))
            total = total + (gap * head).sum(1).mean()
    return total


@pytest.mark.parametrize("heads", [False, True])
def test_the_perceptual_loss_is_lpips(heads: bool, tmp_path: Path) -> None:
    save_file(vgg(heads), tmp_path / "vgg.safetensors")
    features = loss.load_features(str(tmp_path / "vgg.safetensors"))
    made, real = random_video(4), random_video(5)
    found = loss.perceptual_loss(made, real, features).value
    expected = lpips(made.frames.flatten(0, 1), real.frames.flatten(0, 1), vgg(heads))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert loss.perceptual_loss(real, real, features).value == 0
    assert not any(parameter.requires_grad for parameter in features.network.parameters())


def test_the_names_of_lpips_own_file_are_known_too(tmp_path: Path) -> None:
    one, other = (perceptual.Features(vgg(slices=slices), "file") for slices in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_file_that_is_no_vgg_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    weights = vgg()
    del weights["features.7.weight"]
    save_file(weights, tmp_path / "some.safetensors")
    with pytest.raises(ValueError, match=r"is no VGG-16: it has no features\.7\.weight\."):
        loss.load_features(str(tmp_path / "some.safetensors"))
    with pytest.raises(ValueError, match="takes 4 channels"):
        perceptual.Features(vgg() | {"features.2.weight": torch.zeros(4, 9, 3, 3)}, "file")
    with pytest.raises(ValueError, match="heads lin1; LPIPS has lin0 to lin4"):
        perceptual.Features(vgg() | {"lin1.model.1.weight": torch.ones(1, 5, 1, 1)}, "file")


# the discriminator


CRITIC = adversarial.new_discriminator(width=8, depth=2, seed=1)


@pytest.mark.parametrize(("frames", "side"), [(1, 16), (5, 16), (17, 24)])
def test_the_discriminator_scores_patches_of_images_and_clips(frames: int, side: int) -> None:
    video = random_video(6, frames=frames, side=side)
    scores = CRITIC.network(video.frames.transpose(1, 2))
    assert scores.shape == (2, 1, (frames + 1) // 2, side // 8, side // 8)
    alone = CRITIC.network(video.frames[:1].transpose(1, 2))
    torch.testing.assert_close(alone, scores[:1])  # a clip's score is its own


def test_the_hinge_rests_where_both_are_told_apart_by_one() -> None:
    assert networks.hinge_loss(torch.full((3,), 1.5), torch.full((3,), -1.0)) == 0
    assert networks.hinge_loss(torch.zeros(3), torch.zeros(3)) == 1


def test_the_gradient_penalty_of_a_linear_critic_is_half_its_squared_slope() -> None:
    slope = torch.tensor([0.5, -1.0, 2.0])

    class Linear(torch.nn.Module):
        def forward(self, video: Tensor) -> Tensor:
            return torch.einsum("bcthw,c->bthw", video, slope)

    video = random_video(7).frames.transpose(1, 2)
    places = video[0, 0].numel()
    expected = 0.5 * slope.square().sum() * places / places**2  # the score is a mean over places
    torch.testing.assert_close(networks.gradient_penalty(Linear(), video), expected)


def test_a_discriminator_learns_to_tell_clips_apart_and_gives_nothing_back() -> None:
    state = optimizer.begin_training(CRITIC)
    made = changed(random_video(8), 0.0)
    made.frames.requires_grad_(True)
    real = Video(random_video(9).frames.round(), 8.0)
    told = []
    for _ in range(25):
        found = adversarial.discriminator_loss(adversarial.discriminator_in_training(state), real, made, penalty=0.01)
        told.append(found.value.item())
        with pytest.raises(RuntimeError, match="not have been used"):
            torch.autograd.grad(found.value, made.frames, retain_graph=True)
        run = None  # asked only where a step fails
        state = optimizer.apply_gradients(state, optimizer.gradients(found, state), run, lr=3e-3)
    assert told[-1] < 0.6 * told[0]


def judged(adaptive: bool, weight: float = 0.5, **more: int) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients at the decoder's last layer of the loss before, and with the adversarial term."""
    vae = optimizer.begin_training(model.new_vae(channels=4, seed=2)).model
    last = vae.network.decoder.head.weight
    latent = torch.randn(2, 4, 2, 2, 2, generator=torch.Generator().manual_seed(10))
    frames = vae.network.decode(latent, clamp=False).transpose(1, 2)
    made = Video(frames, 8.0)
    before = loss.reconstruction_loss(made, random_video(11))
    after = adversarial.adversarial_loss(CRITIC, made, before, vae, weight, adaptive, **more)
    unreal = -CRITIC.network(frames.transpose(1, 2)).mean()
    return tuple(torch.autograd.grad(each, last, retain_graph=True)[0] for each in (before.value, after.value, unreal))


def test_the_adaptive_weight_makes_both_gradients_equally_long() -> None:
    before, after, _ = judged(adaptive=True, weight=0.5)
    assert ((after - before).norm() / before.norm()).item() == pytest.approx(0.5, rel=0.05)


def test_a_fixed_weight_is_kept_and_nothing_is_added_before_the_start() -> None:
    before, after, unreal = judged(adaptive=False, weight=0.5)
    torch.testing.assert_close(after - before, 0.5 * unreal, atol=1e-6, rtol=1e-4)
    before, after, _ = judged(adaptive=True, start=100, step=99)
    assert torch.equal(before, after)


def test_losses_add() -> None:
    total = loss.add_loss(Loss(torch.tensor(2.0)), Loss(torch.tensor(3.0)), weight=0.5)
    assert total.value == 3.5


def test_a_state_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="trains a VAE, a Discriminator is needed"):
        adversarial.discriminator_in_training(optimizer.begin_training(model.new_vae(channels=4)))


def test_two_optimizers_train_in_one_graph_and_the_encoder_stays(tmp_path: Path) -> None:
    raw = json.loads((WORKFLOWS / "train_vae_gan.json").read_text())
    raw["nodes"]["clips"]["params"]["formats"] = ["5x16x16:2", "1x16x16:4"]
    for name in ("record", "record_critic"):
        raw["nodes"]["train"]["body"]["nodes"][name]["params"]["every"] = 1
    raw["outputs"]["critic"] = "train.critic"
    events = []
    outputs = default_runtime().run(raw, {"steps": 3, "start": 1}, out=tmp_path, listen=events.append).outputs
    found = {
        name: [event.value for event in events if isinstance(event, Metric) and event.name == name]
        for name in ("loss", "critic")
    }
    assert len(found["loss"]) == len(found["critic"]) == 3
    before, _ = load_weights(model.model_file("flipbook", "vae"))
    after, _ = load_weights(tmp_path / "flipbook" / "vae.safetensors")
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"decoder"}
    fresh = adversarial.new_discriminator().network.state_dict()
    learned = outputs["critic"].model.network.state_dict()
    assert all(not torch.equal(fresh[name], learned[name]) for name in fresh)
