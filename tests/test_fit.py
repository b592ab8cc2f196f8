"""Videos made to fit: identities of cutting, scaling and time, closed forms, and errors that name the node to use."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kineograph.nodes import model
from kineograph.nodes.fit import (
    concat_videos,
    crop_video,
    fit_video,
    repeat_video,
    resample_video,
    resize_video,
    reverse_video,
    trim_video,
)
from kineograph.nodes.media import write_image
from kineograph.nodes.media.decode import read_frames
from kineograph.nodes.sockets import Video
from kineograph.nodes.video import join_videos, vae_encode

VAE = model.new_vae(channels=4, seed=1)


def noise(frames: int = 5, height: int = 24, width: int = 32, fps: float = 8.0, clips: int = 1, loop=False) -> Video:
    made = torch.Generator().manual_seed(frames)
    return Video(torch.rand(clips, frames, 3, height, width, generator=made), fps, loop)


def counted(frames: int, fps: float = 8.0, loop: bool = False) -> Video:
    """Frame i is of level i: seen by ``numbers``."""
    return Video(torch.arange(float(frames)).view(1, -1, 1, 1, 1).expand(1, -1, 3, 8, 8), fps, loop)


def numbers(video: Video) -> list[float]:
    return video.frames[0, :, 0, 0, 0].tolist()


def same(first: Video, second: Video) -> bool:
    return (first.fps, first.loop) == (second.fps, second.loop) and torch.equal(first.frames, second.frames)


# Space


def test_a_size_that_is_there_already_changes_nothing() -> None:
    video = noise()
    assert same(resize_video(video, 24, 32), video)
    assert same(crop_video(video, 24, 32), video)


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(12, 16), (48, 20), (7, 91), (1, 1), (0, 8), (8, 0)])
def test_every_way_gives_the_size_and_keeps_a_flat_colour(how: str, height: int, width: int) -> None:
    flat = Video(torch.full((2, 3, 3, 24, 32), 0.25), 8.0, loop=True)
    made = resize_video(flat, height, width, how)
    wanted = (height or round(24 * width / 32), width or round(32 * height / 24))
    assert made.frames.shape == (2, 3, 3, *wanted)
    assert made.loop
    if how == "pad":
        shown = made.frames > 0
        assert torch.allclose(made.frames, 0.25 * shown, atol=1e-6)
        assert shown[0, 0, 0].any(0).all() or shown[0, 0, 0].any(1).all()  # from side to side, or from top to bottom
    else:
        assert torch.allclose(made.frames, torch.tensor(0.25), atol=1e-6)


def test_crop_keeps_the_middle_and_pad_all_of_it() -> None:
    frames = torch.zeros(1, 1, 3, 8, 24)
    frames[..., 8:16] = 1
    wide = Video(frames, 8.0)
    assert torch.equal(resize_video(wide, 8, 8).frames, torch.ones(1, 1, 3, 8, 8))
    padded = resize_video(wide, 24, 24, "pad").frames
    assert torch.equal(padded[..., 8:16, :], frames)
    assert padded.sum() == frames.sum()
    assert torch.equal(crop_video(wide, 4, 8, top=0, left=0).frames, torch.zeros(1, 1, 3, 4, 8))
    assert torch.equal(crop_video(wide, 4, 8).frames, torch.ones(1, 1, 3, 4, 8))


def test_scaling_down_does_not_alias() -> None:
    """A grid finer than the pixels becomes grey; without antialiasing it would become stripes."""
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 3, 64, 64)
    for interpolation in ("bicubic", "bilinear"):
        small = resize_video(Video(stripes, 8.0), 16, 16, interpolation=interpolation).frames[..., 2:-2]
        assert (small - 0.5).abs().max() < 0.02
    assert set(resize_video(Video(stripes, 8.0), 16, 16, interpolation="nearest").frames.unique().tolist()) <= {0, 1}
    grown = resize_video(noise(1), 48, 64, interpolation="nearest").frames
    assert torch.equal(grown[..., ::2, 1::2], noise(1).frames)


def test_scaling_agrees_with_that_of_clips_while_they_are_decoded(tmp_path) -> None:
    rows, columns = torch.meshgrid(torch.linspace(0, 9, 120), torch.linspace(0, 12, 160), indexing="ij")
    picture = torch.stack([rows.sin(), columns.cos(), (rows + columns).sin()]) / 2 + 0.5
    write_image(tmp_path / "x.png", picture)
    with open(tmp_path / "x.png", "rb") as file:
        decoded = read_frames(file, "x.png", [0.0], 48, 48)
    resized = resize_video(Video(picture[None, None], 8.0), 48, 48).frames[0]
    assert float(-10 * torch.log10((decoded - resized).square().mean())) > 40


def test_a_rectangle_that_leaves_the_frames_names_the_way_out() -> None:
    for height, width, top, left in ((25, 8, -1, -1), (8, 33, -1, -1), (8, 8, 17, 0), (8, 8, 0, 25)):
        with pytest.raises(ValueError, match=r"leave frames of 32 x 24\. .* resize_video"):
            crop_video(noise(), height, width, top, left)
    with pytest.raises(ValueError, match="32 x 24 pixels; say which height or width"):
        resize_video(noise())


# Time


def test_parts_by_number_from_either_end() -> None:
    video = counted(9)
    assert numbers(trim_video(video)) == list(range(9))
    assert numbers(trim_video(video, 2, 3)) == [2, 3, 4]
    assert numbers(trim_video(video, -3)) == [6, 7, 8]
    assert numbers(trim_video(video, -3, 2)) == [6, 7]
    assert numbers(trim_video(video, 2, -3)) == [2, 3, 4, 5]
    assert numbers(trim_video(video, 0, 1)) == [0]
    for start, frames in ((9, 0), (-10, 0), (5, 5), (-1, 2)):
        with pytest.raises(ValueError, match=r"has 9 frames, numbered 0 to 8; .* repeat_video or concat_videos"):
            trim_video(video, start, frames)


@given(st.integers(1, 12), st.integers(1, 12))
def test_a_video_cut_in_two_and_joined_is_itself(first: int, second: int) -> None:
    video = noise(first + second, 8, 8)
    parts = trim_video(video, 0, first), trim_video(video, first)
    assert same(concat_videos(*parts), video)
    backwards = concat_videos(reverse_video(parts[1]), reverse_video(parts[0]))
    assert same(reverse_video(backwards), video)
    assert same(repeat_video(video, 2), concat_videos(video, video))


def test_only_a_whole_loop_stays_one() -> None:
    loop = counted(8, loop=True)
    assert trim_video(loop).loop
    assert reverse_video(loop).loop
    assert repeat_video(loop, 2).loop
    assert crop_video(loop, 4, 4).loop
    assert not trim_video(loop, 1).loop
    assert not concat_videos(loop, loop).loop


def test_rates_double_and_halve_from_the_first_frame_to_the_last() -> None:
    video = counted(17)
    assert same(resample_video(video, 8.0), video)
    assert same(resample_video(video, 8.0, "blend"), video)
    assert numbers(resample_video(video, 4.0)) == list(range(0, 17, 2))
    assert numbers(resample_video(video, 16.0)) == [(n + (n % 2) * -1) / 2 for n in range(33)]
    assert numbers(resample_video(video, 16.0, "blend")) == [n / 2 for n in range(33)]
    assert len(numbers(resample_video(counted(60, 29.97), 23.976))) == 48
    halved = numbers(resample_video(counted(9), 4.0, "blend"))
    assert halved[1:-1] == [2, 4, 6]
    assert halved[0] == pytest.approx(1 / 3)  # (0 + 1 / 2) / (1 + 1 / 2): nothing comes before the first


def test_a_loop_keeps_its_round_at_another_rate() -> None:
    loop = counted(8, loop=True)
    assert numbers(resample_video(loop, 4.0)) == [0, 2, 4, 6]
    assert numbers(resample_video(loop, 16.0, "blend"))[-2:] == [7.0, 3.5]  # between the last frame and the first
    assert numbers(resample_video(loop, 12.0)) == [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7]
    turned = Video(loop.frames.roll(2, 1), 8.0, loop=True)
    for rate in (4.0, 16.0):
        slower = resample_video(turned, rate, "blend").frames
        assert torch.allclose(slower, resample_video(loop, rate, "blend").frames.roll(int(2 * rate / 8), 1))


def test_a_picture_stands_still_for_as_long_as_it_is_repeated() -> None:
    picture = noise(1, fps=24.0)
    still = repeat_video(picture, 5)
    assert (still.frames == picture.frames).all()
    joined = concat_videos(picture, noise(4, fps=8.0))  # a single frame has no rate of its own
    assert (joined.frames.shape[1], joined.fps) == (5, 8.0)
    assert concat_videos(noise(1), noise(4, clips=3)).frames.shape[:2] == (3, 5)


# What fits a VAE


@pytest.mark.parametrize(
    ("video", "asked", "frames", "size"),
    [
        (noise(5, 24, 32), {}, 5, (24, 32)),
        (noise(8, 27, 37), {}, 5, (24, 40)),
        (noise(4, 3, 3), {}, 1, (8, 8)),
        (noise(30, 54, 96), {"frames": 17, "height": 24}, 17, (24, 40)),
        (noise(30, 54, 96), {"frames": 19, "width": 64, "height": 64}, 17, (64, 64)),
        (noise(33, 24, 32, fps=16.0), {"fps": 8.0}, 17, (24, 32)),
        (noise(3, 24, 32), {"frames": 99}, 1, (24, 32)),
        (noise(10, 24, 32, loop=True), {"frames": 5}, 8, (24, 32)),
        (noise(3, 24, 32, loop=True), {}, 4, (24, 32)),
    ],
)
def test_whatever_is_fitted_can_be_encoded(video: Video, asked: dict, frames: int, size: tuple) -> None:
    made = fit_video(video, VAE, **asked)
    assert (made.frames.shape[1], tuple(made.frames.shape[-2:]), made.loop) == (frames, size, video.loop)
    assert made.fps == asked.get("fps", video.fps)
    assert vae_encode(VAE, made).frames == frames
    assert same(fit_video(made, VAE), made)


# Errors that offer the node


def test_a_video_that_no_vae_takes_is_told_which_node_helps() -> None:
    sentence = r"19 frames of 24 x 30 pixels .*4k or 1 \+ 4k.*nearest is 17 frames of 24 x 32, which the node fit_video"
    with pytest.raises(ValueError, match=sentence):
        vae_encode(VAE, noise(19, 24, 30))


def test_videos_that_do_not_go_together_are_told_which_node_helps() -> None:
    for join in (concat_videos, join_videos):
        with pytest.raises(
            ValueError, match=r"32 x 24 pixels, the second 16 x 24\. .* resize_video, with height 24 and"
        ):
            join(noise(), noise(5, 24, 16))
        with pytest.raises(ValueError, match=r"8 frames per second, the second 12\. .* resample_video, with fps 8"):
            join(noise(), noise(fps=12.0))
    with pytest.raises(ValueError, match=r"5 frames, the second 9\. .* trim_video, with frames 5"):
        join_videos(noise(), noise(9))
    with pytest.raises(ValueError, match="2 clips cannot be followed by 3"):
        concat_videos(noise(clips=2), noise(clips=3))
