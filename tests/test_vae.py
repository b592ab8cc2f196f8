"""The video autoencoder against what must hold by construction: shapes, chunk-locality, PCA, normalisation."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from kineograph.nodes.networks import world
from kineograph.nodes.networks.vae import VAEConfig, VideoVAE, initialise_from, measure

SMALL = VAEConfig(channels=4, fine=16, coarse=24, encoder_blocks=(1, 1), decoder_blocks=(1, 2))


def clips(count: int, frames: int, height: int, width: int, seed: int = 0) -> Tensor:
    scenes = world.sample_scenes(seed, range(count), frames, 8.0, height, width)
    return world.render(scenes, frames, height, width, 8.0).transpose(1, 2)


def lively_vae(config: VAEConfig = SMALL) -> VideoVAE:
    """A VAE without the zeros that it starts with, so that everything reaches the output."""
    torch.manual_seed(0)
    vae = VideoVAE(config)
    with torch.no_grad():
        for weight in vae.parameters():
            if weight.count_nonzero() == 0:
                weight.normal_(std=0.1)
    return vae.eval()


def fresh_vae(config: VAEConfig = SMALL) -> VideoVAE:
    torch.manual_seed(0)
    return VideoVAE(config).eval()


@torch.no_grad()
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 8, 8), (5, 16, 40), (17, 24, 8)])
def test_any_length_and_size_comes_back_with_its_shape(frames, height, width):
    vae, video = lively_vae(), torch.rand(2, 3, frames, height, width)
    mean, logvar = vae.encode(video)
    assert mean.shape == logvar.shape == (2, 4, 1 + (frames - 1) // 4, height // 8, width // 8)
    decoded = vae.decode(mean)
    assert decoded.shape == video.shape
    assert decoded.min() >= 0 and decoded.max() <= 1
    torch.testing.assert_close(vae.decode(mean, clamp=False).clamp(0, 1), decoded, rtol=0, atol=0)


@torch.no_grad()
def test_a_group_of_frames_has_the_same_latent_wherever_it_stands():
    vae, video = lively_vae(), torch.rand(1, 3, 13, 24, 32)
    whole = vae.encode(video)[0]
    moved = torch.cat([torch.rand(1, 3, 5, 24, 32), video[:, :, 9:13], video[:, :, 1:5]], dim=2)
    again = vae.encode(moved)[0]
    torch.testing.assert_close(again[:, :, 2], whole[:, :, 3], rtol=0, atol=1e-6)
    torch.testing.assert_close(again[:, :, 3], whole[:, :, 1], rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_first_frame_is_encoded_alone_as_a_group_that_stands_still():
    vae, video = lively_vae(), torch.rand(1, 3, 9, 16, 16)
    whole = vae.encode(video)[0]
    torch.testing.assert_close(vae.encode(video[:, :, :1])[0], whole[:, :, :1], rtol=0, atol=1e-6)
    still = vae.encode(video[:, :, :1].expand(-1, -1, 5, -1, -1))[0]
    torch.testing.assert_close(still[:, :, 1], whole[:, :, 0], rtol=0, atol=1e-6)


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix():
    vae, video = lively_vae(), torch.rand(3, 3, 9, 16, 16)
    latent = vae.encode(video)[0]
    torch.testing.assert_close(vae.encode(video[1:2])[0], latent[1:2], rtol=0, atol=1e-6)
    torch.testing.assert_close(vae.decode(latent[1:2]), vae.decode(latent)[1:2], rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_decoder_mixes_neighbouring_groups_both_ways():
    vae, latent = lively_vae(), torch.randn(1, 4, 4, 2, 2)
    other = latent.clone()
    other[:, :, 2] += 1
    changed = (vae.decode(latent, clamp=False) - vae.decode(other, clamp=False)).abs().amax((0, 1, 3, 4))
    assert (changed[5:9] > 1e-5).all() and (changed[13:] > 1e-5).all()


@torch.no_grad()
def test_the_shortcut_starts_as_the_principal_components():
    videos = [clips(24, 5, 32, 32), clips(24, 1, 24, 40)]
    errors = []
    for channels in (1, 4, 16):
        vae = fresh_vae(VAEConfig(channels=channels, fine=16, coarse=24))
        initialise_from(vae, videos)
        decoded = [vae.decode(vae.encode(video)[0], clamp=False) for video in videos]
        errors.append(float((decoded[0] - videos[0]).square().mean()))
    assert errors[0] > errors[1] > errors[2]
    still = torch.rand(2, 3, 1, 16, 16)
    vae = fresh_vae(VAEConfig(channels=192, fine=16, coarse=24))  # a frame alone has 192 numbers per cell
    initialise_from(vae, torch.rand(64, 3, 1, 16, 16))
    torch.testing.assert_close(vae.decode(vae.encode(still)[0]), still, rtol=0, atol=1e-3)


@torch.no_grad()
def test_measuring_sets_one_scale_and_changes_no_reconstruction():
    vae, videos = lively_vae(), [clips(8, 9, 32, 32), clips(8, 1, 32, 32)]
    before = vae.decode(vae.encode(videos[0])[0])
    deviation = vae.encode(videos[0])[1].mul(0.5).exp()
    torch.testing.assert_close(deviation, torch.full_like(deviation, SMALL.noise))
    measure(vae, videos)
    latent = torch.cat([vae.encode(video)[0].transpose(0, 1).flatten(1) for video in videos], dim=1)
    torch.testing.assert_close(latent.mean(1), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(latent.var(1).mean(), torch.tensor(1.0), rtol=0, atol=1e-4)
    assert vae.scale_C.unique().numel() == 1
    mean, logvar = vae.encode(videos[0])
    torch.testing.assert_close(vae.decode(mean), before, rtol=0, atol=1e-5)
    torch.testing.assert_close(logvar[0, :, 0, 0, 0].mul(0.5).exp(), SMALL.noise / vae.scale_C)


def test_every_weight_learns():
    vae, video = lively_vae(), clips(2, 9, 32, 32)
    mean, logvar = vae.encode(video)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    loss = (vae.decode(mean + noise * logvar.mul(0.5).exp(), clamp=False) - video).square().mean()
    gradients = torch.autograd.grad(loss, list(vae.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_a_few_steps_beat_the_principal_components():
    vae, video = fresh_vae(), clips(8, 5, 32, 32)
    initialise_from(vae, video)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=1e-3)
    losses = []
    for _ in range(80):
        loss = (vae.decode(vae.encode(video)[0], clamp=False) - video).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    "shape", [(1, 3, 6, 16, 16), (1, 3, 0, 16, 16), (1, 3, 5, 12, 16), (1, 3, 5, 16, 20), (1, 3, 1, 0, 8)]
)
def test_a_clip_off_the_grid_is_refused_with_its_numbers(shape):
    with pytest.raises(ValueError, match=f"{shape[2]} frames of {shape[3]} x {shape[4]} pixels"):
        fresh_vae().encode(torch.zeros(shape))


def test_what_is_no_clip_or_no_latent_is_refused():
    with pytest.raises(ValueError, match="encodes"):
        fresh_vae().encode(torch.zeros(1, 5, 3, 16, 16))
    with pytest.raises(ValueError, match="decodes"):
        fresh_vae().decode(torch.zeros(1, 7, 1, 2, 2))


def test_the_config_goes_through_json():
    config = VAEConfig(encoder_blocks=(1, 2))
    assert VAEConfig(**json.loads(json.dumps(config.to_json()))) == config
    assert (config.time_ratio, config.space_ratio) == (4, 8)


def test_the_default_fits_its_budget():
    assert sum(weight.numel() for weight in VideoVAE(VAEConfig()).parameters()) < 2.5e6
