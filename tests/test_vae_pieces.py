"""Clips through the VAE in pieces: the numbers of the whole, in memory that does not grow with the clip's length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import methodcaller
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kineograph import default_runtime
from kineograph.nodes import save, video
from kineograph.nodes.media.decode import read_video
from kineograph.nodes.networks import vae as networks_vae
from kineograph.nodes.networks.pieces import decoded_pieces
from kineograph.nodes.networks.tiles import filled, tiles
from kineograph.nodes.networks.vae import VAEConfig, VideoVAE
from kineograph.nodes.sockets import VAE, Latent, LatentSpec, Video
from kineograph.trial import Ledger

SMALL = VAEConfig(channels=4, fine=16, coarse=24, encoder_blocks=(1, 2), decoder_blocks=(1, 2))
TIMES = ("line", "groups", "circle")


def lively_vae(config: VAEConfig = SMALL) -> VAE:
    """A VAE without the zeros that it starts with, so that everything reaches the output."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VideoVAE(config).eval().requires_grad_(False)
        for weight in network.parameters():
            if weight.count_nonzero() == 0:
                weight.normal_(std=0.2)
    return VAE(network, LatentSpec(config.channels, 4, 8))


LIVELY = lively_vae()


def drawn(*sides: int, seed: int = 0) -> Tensor:
    return torch.rand(sides, generator=torch.Generator().manual_seed(seed))


def as_latent(x: Tensor, time="line", spec=LIVELY.spec) -> Latent:
    return Latent(x, x, torch.zeros_like(x[:, :1]), 8.0, spec, time)


def whole_decode(x: Tensor, time) -> Tensor:
    return LIVELY.network.decode(x, time=time).transpose(1, 2)


def drain(x: Tensor, time) -> list[int]:
    """Decode and keep none; the frames of each piece."""
    return list(map(methodcaller("size", 2), decoded_pieces(LIVELY.network, x, time)))


# --- the numbers of the whole


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 2),
    length=st.integers(1, 11),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    time=st.sampled_from(TIMES),
    cells=st.integers(1, 150),
    tile=st.sampled_from((0, 8, 20, 40)),
)
def test_pieces_and_tiles_give_the_numbers_of_the_whole(batch, length, height, width, time, cells, tile):
    x = drawn(batch, 4, length, height, width) * 4 - 2
    whole = whole_decode(x, time)
    frames = drawn(*whole.shape, seed=1)
    mean = LIVELY.network.encode(frames.transpose(1, 2))[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks_vae, "CELLS_AT_ONCE", cells)
        decoded = video.vae_decode(LIVELY, as_latent(x, time), tile)
        encoded = video.vae_encode(LIVELY, Video(frames, 8.0, loop=time == "circle"), tile)
        pieces = torch.cat(list(decoded_pieces(LIVELY.network, x, time)), dim=2).transpose(1, 2)
    torch.testing.assert_close(decoded.frames, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(encoded.x, mean, rtol=0, atol=1e-6)
    assert encoded.time == time
    assert decoded.loop == (time == "circle")


def test_many_pieces_come_out_and_each_in_its_turn(monkeypatch):
    monkeypatch.setattr(networks_vae, "CELLS_AT_ONCE", 8)
    x = drawn(1, 4, 9, 2, 2)
    pieces = drain(x, "line")
    assert sum(pieces) == 33
    assert max(pieces) <= 12
    assert pieces[0] % 4 == 1
    assert all(frames % 4 == 0 for frames in pieces[1:])


@pytest.mark.parametrize("blocks", [(1, 2), (2, 3), (3, 1)])
def test_a_tile_sees_just_as_far_as_its_pixels_do(blocks):
    network = lively_vae(
        VAEConfig(channels=4, fine=16, coarse=24, encoder_blocks=blocks, decoder_blocks=blocks)
    ).network
    reach = networks_vae._reach(blocks)
    x, other = drawn(1, 4, 2, 1, 20), drawn(1, 4, 2, 1, 20)
    other[..., 0] += 1
    apart = (network.decode(x) - network.decode(other)).abs().amax((0, 1, 2, 3)).view(-1, 8).amax(1)
    assert apart[reach] > 0
    assert (apart[reach + 1 :] == 0).all()
    frames, changed = drawn(1, 3, 4, 8, 160), drawn(1, 3, 4, 8, 160)
    changed[..., 7] += 1
    apart = (network.encode(frames)[0] - network.encode(changed)[0]).abs().amax((0, 1, 2, 3))
    assert apart[reach] > 0
    assert (apart[reach + 1 :] == 0).all()


def test_a_tile_that_saw_less_would_leave_a_seam(monkeypatch):
    x = drawn(1, 4, 3, 6, 6) * 4 - 2
    monkeypatch.setattr(networks_vae, "_reach", lambda blocks: blocks[1] - 1)
    seam = (video.vae_decode(LIVELY, as_latent(x), 24).frames - whole_decode(x, "line")).abs().max()
    assert seam > 1e-4


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 12), st.integers(0, 5))
def test_tiles_cover_a_frame_once_and_no_two_differ_much(height, width, size, around):
    cut = tiles(height, width, size, around)
    ramp = torch.arange(height * width, dtype=torch.float32).view(1, 1, 1, height, width)
    doubled = ramp.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.equal(filled([(each, iter([each.seen(doubled, 2)])) for each in cut], height, width, 1), doubled)
    assert sum(each.own(each.seen(ramp)).numel() for each in cut) == ramp.numel()
    assert max(each.rows.stop - each.rows.start for each in cut) <= (size or height)


def test_gradients_go_through_pieces(monkeypatch):
    monkeypatch.setattr(networks_vae, "CELLS_AT_ONCE", 8)

    def gradient(decode: Callable[[Tensor], Tensor]) -> Tensor:
        x = drawn(1, 4, 6, 2, 2).requires_grad_()
        return torch.autograd.grad(decode(x).square().sum(), x)[0]

    found = gradient(lambda x: video.vae_decode(LIVELY, as_latent(x)).frames)
    torch.testing.assert_close(found, gradient(lambda x: whole_decode(x, "line")), rtol=0, atol=1e-5)


def test_what_does_not_fit_is_refused_with_the_numbers_of_the_whole():
    with pytest.raises(ValueError, match="102 frames of 12 x 16 pixels"):
        video.vae_encode(LIVELY, Video(torch.zeros(1, 102, 3, 12, 16), 8.0), tile=8)
    with pytest.raises(ValueError, match=r"\(1, 7, 3, 2, 2\), but this VAE decodes"):
        video.vae_decode(LIVELY, as_latent(torch.zeros(1, 7, 3, 2, 2)), tile=8)


class WholeOnly:
    """An autoencoder that knows no pieces."""

    def encode(self, video_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        return LIVELY.network.encode(video_BCTHW)

    def decode(self, latent_BCthw: Tensor, *, time) -> Tensor:
        return LIVELY.network.decode(latent_BCthw, time=time)


def test_an_autoencoder_without_pieces_gives_the_whole_and_says_that_it_has_no_tiles():
    vae = replace(LIVELY, network=WholeOnly())
    latent = as_latent(drawn(1, 4, 3, 2, 2))
    decoded = video.vae_decode(vae, latent)
    assert torch.equal(decoded.frames, whole_decode(latent.x, "line"))
    assert torch.equal(video.vae_encode(vae, decoded).x, video.vae_encode(LIVELY, decoded).x)
    for call in (lambda: video.vae_decode(vae, latent, tile=8), lambda: video.vae_encode(vae, decoded, tile=8)):
        with pytest.raises(ValueError, match="WholeOnly has no tiles"):
            call()


# --- memory


def peak(call: Callable[[], object]) -> int:
    """The most bytes of tensors at once in a real run, above those that it was given."""
    with torch.no_grad(), Ledger() as ledger:
        call()
    return ledger.peak


@pytest.fixture
def streamed(monkeypatch):
    monkeypatch.setattr(networks_vae, "CELLS_AT_ONCE", 64)


def latent_of(length: int, time="line") -> Latent:
    return as_latent(drawn(1, 4, length, 4, 4), time)


class Run:
    """A run that writes into a folder."""

    provenance = "{}"

    def __init__(self, folder: Path) -> None:
        self.folder, self.told, self.files = folder, [], []

    def progress(self, done: int, total: int) -> None:
        self.told.append((done, total))

    def preview(self, value: object, done: int = 0) -> None:
        assert isinstance(value, Video)

    def output_path(self, relative: str) -> Path:
        return self.folder / relative

    def wrote(self, path: Path) -> None:
        self.files.append(path)


@pytest.mark.parametrize("time", TIMES)
def test_a_file_of_four_times_the_frames_needs_no_more_memory(time, streamed, tmp_path):
    def used(length: int) -> int:
        latent = latent_of(length, time)
        return peak(lambda: save.decode_to_file(LIVELY, latent, Run(tmp_path), f"{length}.mp4", 1))

    assert used(68) < 1.15 * used(17)


@pytest.mark.parametrize("time", TIMES)
def test_decoding_16_times_the_frames_needs_no_more_memory_beside_them(time, streamed):
    def used(length: int) -> int:
        latent = latent_of(length, time)
        given = latent.x.untyped_storage().nbytes()
        return peak(lambda: drain(latent.x, time)) - given

    base = used(17)
    assert used(68) < 1.15 * base
    assert used(272) < 1.15 * base
    latent = latent_of(68, time)
    assert peak(lambda: video.vae_decode(LIVELY, latent)) < 1.15 * base + 4 * 3 * 32 * 32 * latent.frames
    assert peak(lambda: LIVELY.network.decode(latent.x, time=time)) > 3 * base


def test_encoding_needs_no_more_memory_beside_the_video_itself(streamed):
    def work(length: int, encode: Callable[[Video], object]) -> float:
        clip = Video(torch.zeros(1, 4 * length, 3, 32, 32), 8.0)
        return peak(lambda: encode(clip)) - clip.frames.untyped_storage().nbytes()

    base = work(8, lambda clip: video.vae_encode(LIVELY, clip))
    assert work(32, lambda clip: video.vae_encode(LIVELY, clip)) < 1.15 * base
    assert work(32, lambda clip: LIVELY.network.encode(clip.frames.transpose(1, 2))) > 3 * base


def test_tiles_of_a_large_frame_need_less_memory_beside_the_video_itself(streamed):
    latent = as_latent(drawn(1, 4, 4, 48, 48))
    decoded = video.vae_decode(LIVELY, latent)

    def used(call: Callable[..., object], given: Latent | Video, tile: int) -> int:
        return peak(lambda: call(LIVELY, given, tile)) - decoded.frames.untyped_storage().nbytes()

    assert used(video.vae_decode, latent, 96) < 0.25 * used(video.vae_decode, latent, 0)
    assert used(video.vae_encode, decoded, 96) < 0.25 * used(video.vae_encode, decoded, 0)


# --- the node that writes a file, and the plan


@pytest.mark.parametrize("time", TIMES)
def test_a_latent_becomes_the_file_that_its_video_would(time, streamed, tmp_path):
    latent, run = as_latent(drawn(2, 4, 9, 4, 4), time), Run(tmp_path)
    save.decode_to_file(LIVELY, latent, run, "straight.mp4")
    save.save_video(video.vae_decode(LIVELY, latent), run, "video.mp4")
    assert (tmp_path / "straight.mp4").read_bytes() == (tmp_path / "video.mp4").read_bytes()
    assert run.files == [tmp_path / "straight.mp4", tmp_path / "video.mp4"]
    assert run.told[-1] == (latent.frames, latent.frames)
    assert len(run.told) > 2
    frames, fps = read_video(tmp_path / "straight.mp4")
    assert (len(frames), fps) == (latent.frames, 8.0)


def graph(frames: int) -> dict:
    return {
        "format": 1,
        "nodes": {
            "vae": {"type": "new_vae@1", "params": {"channels": 4}},
            "noise": {
                "type": "latent_noise@1",
                "params": {"frames": frames, "height": 64, "width": 64},
                "links": {"vae": "vae"},
            },
            "file": {"type": "decode_to_file@1", "params": {"upscale": 1}, "links": {"vae": "vae", "latent": "noise"}},
        },
        "outputs": {"noise": "noise"},
    }


def test_a_plan_tells_the_peak_of_what_is_streamed(tmp_path):
    found = {}
    for frames in (33, 129):
        estimate = default_runtime().estimate(graph(frames))
        with Ledger() as ledger:
            default_runtime().run(graph(frames), out=tmp_path)
        assert ledger.peak == pytest.approx(estimate.peak_bytes, rel=0.02)
        found[frames] = estimate
    assert not [row.unknown for row in found[129].nodes if row.unknown]
    assert found[129].peak_bytes < 1.15 * found[33].peak_bytes
    short, long = (found[frames].nodes[-1].flops for frames in (33, 129))
    assert long == pytest.approx(33 / 9 * short, rel=0.01)
