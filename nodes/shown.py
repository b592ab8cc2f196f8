"""Models that are told of given frames in channels beside the noise: Wan's and CogVideoX's image to video, VACE.

``give_video`` does so by itself where the VAE says it; nothing else of a workflow differs. Knows no network's inside.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.fit import check_given
from kineograph.nodes.foretold import given_facts
from kineograph.nodes.sockets import VAE, ImageEncoder, Latent, Shown, Video
from kineograph.nodes.train.data import step_generator
from kineograph.nodes.video import encoded_frames

if TYPE_CHECKING:
    from torch import Tensor


@node(views=("vae", "image_encoder"))
def show_given_frames(
    vae: VAE, image_encoder: ImageEncoder | None = None, kind: Literal["frames", "control", "first"] = "frames"
) -> VAE:
    """Let ``give_video`` tell the DiT of given frames in channels of their own, as Wan's image-to-video models need it.

    ``load_video_model`` does so by itself where the model's folder holds such a DiT. Frames may then be given anywhere:
    first, last, both, between; the clip is encoded with grey where nothing is given, and nothing is fixed, so put
    ``paste_video`` behind the decoder for the very pixels.

    Args:
        vae: of such a model, loaded alone.
        image_encoder: for models that are also told what the first picture shows: Wan 2.1's, not 2.2's.
        kind: frames for Wan's image to video, control for VACE, first for CogVideoX's and the first release of
            HunyuanVideo's, which are shown the first frame alone.

    Raises:
        ValueError: the VAE is of another kind.
    """
    if not vae.spec.causal:
        raise ValueError(
            "Frames are shown so to models of Wan and CogVideoX, whose VAE is causal. This one is given frames as they "
            "are."
        )
    return replace(vae, spec=replace(vae.spec, shows=kind), image_encoder=image_encoder)


@node(foretells=given_facts)
def show_control(
    latent: Latent,
    vae: VAE,
    video: Video,
    where: Video | None = None,
    at: Annotated[int, Field(ge=0)] = 0,
    strength: Annotated[float, Field(ge=0, le=10)] = 1.0,
) -> Latent:
    """Lead VACE by a clip: depth, poses or outlines to follow, or a video of which a part is drawn anew.

    Frames that stay as they are come by ``give_video``, before this node or behind it.

    Args:
        latent: of the video to come.
        vae: of a VACE model.
        video: the clip, of the size of the video to come.
        where: white where the model draws, led by the clip, and black where the clip stays; one frame, or one for each
            of the clip. Without it, everywhere. Make a clip grey where nothing of it shall lead.
        at: frames of the video to come before it.
        strength: how much the model heeds it, and all that is given; 1 as trained.

    Raises:
        ValueError: the model is no VACE, or the clip does not fit.
    """
    _check_vace(latent)
    count, first = video.frames.shape[1], check_given(latent, video, at, False)
    if where is None:
        drawn = video.frames.new_ones(1, count, 1, *video.frames.shape[3:])
    elif where.frames.shape[1] in (1, count) and where.frames.shape[3:] == video.frames.shape[3:]:
        drawn = where.frames.mean(dim=2, keepdim=True).expand(-1, count, -1, -1, -1)
    else:
        raise ValueError(
            f"where has {where.frames.shape[1]} frames of {tuple(where.frames.shape[3:])} pixels, the clip {count} of "
            f"{tuple(video.frames.shape[3:])}: give it one frame or as many, of the same size (resize_video)."
        )
    shown = with_shown(latent, vae, video, first, drawn)
    assert shown.shown is not None
    return replace(shown, shown=replace(shown.shown, strength=strength))


@node(foretells=given_facts)
def show_reference(latent: Latent, vae: VAE, image: Video, seed: int = 0) -> Latent:
    """Show VACE what somebody, something or a place looks like: a picture that is no frame of the video.

    The picture stands before the video while it is sampled, and ``vae_decode`` leaves it out. Chain this node for
    several pictures, before or behind ``show_control`` and ``give_video``.

    Args:
        latent: of the video to come.
        vae: of a VACE model.
        image: a picture, of any size: it is fitted into the video's, with white around; of a clip, each frame.
        seed: of the noise that it is drawn from; same seed, same noise, and never the latent's.

    Raises:
        ValueError: the model is no VACE.
    """
    import torch

    from kineograph.nodes.networks import shown

    _check_vace(latent)
    clips, ratio = latent.x.shape[0], latent.spec.space_ratio
    pictures = shown.on_white(image.frames, latent.x.shape[3] * ratio, latent.x.shape[4] * ratio).flip(1)
    each = [encoded_frames(vae, picture[:, None]) for picture in pictures.unbind(1)]
    values = torch.cat(each, dim=2).expand(clips, -1, -1, -1, -1)
    generator = step_generator(seed, latent.references, stream=10)
    noise = torch.randn(values.shape, generator=generator).to(latent.x)
    level = latent.mask.amax(dim=(2, 3, 4), keepdim=True).expand_as(values[:, :1])
    before = latent.shown or _nothing_shown(latent, vae, pictures)
    channels = torch.cat([shown.reference_channels(values, before.channels.shape[1]), before.channels], dim=2)
    parts = {"x": (noise, latent.x), "clean": (values, latent.clean), "mask": (level, latent.mask)}
    longer = {name: torch.cat(pair, dim=2) for name, pair in parts.items()}
    references = latent.references + values.shape[2]
    return replace(latent, **longer, shown=replace(before, channels=channels, references=references))


def _check_vace(latent: Latent) -> None:
    if latent.spec.shows != "control":
        raise ValueError(
            "Only VACE models are led by a clip or shown references: load one by load_video_model, or sdedit this "
            "one's."
        )


def _nothing_shown(latent: Latent, vae: VAE, like: Tensor) -> Shown:
    """Of a video of which nothing is given: grey, to be drawn everywhere. ``like`` has its size."""
    none = like[:, :0].expand(latent.x.shape[0], -1, -1, -1, -1)
    return Shown(_control(latent, vae, none, none[:, :, :1], ()), none, (), drawn=none[:, :, :1])


def _control(latent: Latent, vae: VAE, pixels: Tensor, drawn: Tensor, frames: tuple[int, ...]) -> Tensor:
    """The channels of a video's own latent frames, as VACE takes them."""
    import torch

    from kineograph.nodes.networks import shown

    stays, leads, mask = shown.control(pixels, drawn, frames, latent.frames)
    cells = shown.cell_mask(mask, latent.x.shape[2] - latent.references, latent.spec.space_ratio)
    return torch.cat([encoded_frames(vae, stays), encoded_frames(vae, leads), cells], dim=1)


def with_shown(latent: Latent, vae: VAE, video: Video, first: int, drawn: Tensor | None = None) -> Latent:
    """A latent with the frames of a clip shown from ``first`` on, beside those that were shown before.

    Args:
        latent: of the video to come.
        vae: that it belongs to.
        video: the clip.
        first: its place.
        drawn: (1 or B, n, 1, H, W), of control, 1 where the clip only leads; it stays where there is none.
    """
    import torch

    from kineograph.nodes.networks import shown

    if latent.time != "line":
        raise ValueError(
            "This model is shown frames of a whole video, which begins with one frame alone: give latent_noise 1 + a "
            f"multiple of {latent.spec.time_ratio} frames."
        )
    clips, total, ratio = latent.x.shape[0], latent.frames, latent.spec.time_ratio
    given = video.frames.expand(clips, -1, -1, -1, -1)
    if latent.spec.shows == "first":
        return _with_first(latent, vae, given, first)
    drawn = torch.zeros_like(given[:, :, :1]) if drawn is None else drawn.expand(clips, -1, -1, -1, -1)
    places = range(first, first + given.shape[1])
    before = latent.shown or Shown(given[:, :0], given[:, :0], (), drawn=drawn[:, :0])
    pixels, frames = shown.merged((before.pixels, before.frames), (given, places))
    if latent.spec.shows == "frames":
        values = encoded_frames(vae, shown.grey_clip(pixels, frames, total))
        channels, drawn = shown.beside(values, frames, ratio), None
    else:
        assert before.drawn is not None
        drawn, _ = shown.merged((before.drawn, before.frames), (drawn, places))
        channels = _control(latent, vae, pixels, drawn, frames)
        if latent.shown is not None:
            channels = torch.cat([latent.shown.channels[:, :, : latent.references], channels], dim=2)
    looks = vae.image_encoder
    pictures = None if looks is None else shown.looked_at(looks.network, pixels, frames)
    return replace(latent, shown=Shown(channels, pixels, frames, pictures, drawn, before.strength, before.references))


def _with_first(latent: Latent, vae: VAE, given_BnCHW: Tensor, first: int) -> Latent:
    """The encoding of the first frame alone, and zeros behind it, as CogVideoX and HunyuanVideo were trained."""
    import torch

    if first or given_BnCHW.shape[1] > 1:
        raise ValueError(
            f"This model is shown the first frame of a video alone, and {given_BnCHW.shape[1]} from frame {first} on "
            "are given: trim_video to one frame, and give it at 0."
        )
    network: Any = vae.network
    values = encoded_frames(vae, given_BnCHW) * network.shown_scale
    channels = torch.cat([values, torch.zeros_like(latent.x[:, :, 1:])], dim=2)
    return replace(latent, shown=Shown(channels, given_BnCHW, (0,)))
