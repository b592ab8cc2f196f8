"""Values as small pictures, shown while a run goes on: a strip of frames. Knows pixels, not who looks at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from kineograph.nodes.sockets import Latent, Video

FRAMES = 8
HEIGHT = 72
"""Pixels of a frame in a strip; smaller ones are shown in whole multiples."""


def video_strip(video: Video) -> bytes:
    """Up to eight frames of the first clip, side by side, as a PNG."""
    return _strip(video.frames[0])


def latent_strip(latent: Latent) -> bytes | None:
    """The same of a latent in the colours its channels stand for, noise included; None where they are not known."""
    from kineograph.nodes.networks.preview import latent_colours

    return _strip(latent_colours(latent.x[0], latent.spec.colours)) if latent.spec.colours else None


def _strip(frames_TCHW: Tensor) -> bytes:
    import torch
    from torch.nn import functional

    from kineograph.nodes.media import contact_sheet, image_bytes

    count = len(frames_TCHW)
    chosen = torch.linspace(0, count - 1, min(count, FRAMES)).round().long()
    frames = frames_TCHW[chosen].detach().float().cpu()
    times = HEIGHT // frames.shape[2]
    if times > 1:
        frames = frames.repeat_interleave(times, 2).repeat_interleave(times, 3)
    elif not times:
        width = max(1, round(frames.shape[3] * HEIGHT / frames.shape[2]))
        frames = functional.interpolate(frames, (HEIGHT, width), mode="area")
    return image_bytes(contact_sheet([frames], columns=FRAMES, gap=1, background=0.0))
