"""Models that are told of given frames in channels beside the noise, as Wan's image-to-video models are.

``give_video`` does so by itself where the VAE says it; nothing else of a workflow differs. Knows no network's inside.
"""

from __future__ import annotations

from dataclasses import replace

from kineograph.graph_runtime.node import node
from kineograph.nodes.sockets import VAE, ImageEncoder, Latent, Shown, Video
from kineograph.nodes.video import encoded_frames


@node(views=("vae", "image_encoder"))
def show_given_frames(vae: VAE, image_encoder: ImageEncoder | None = None) -> VAE:
    """Let ``give_video`` tell the DiT of given frames in channels of their own, as Wan's image-to-video models need it.

    ``load_video_model`` does so by itself where the model's folder holds such a DiT. Frames may then be given anywhere:
    first, last, both, between; the clip is encoded with grey where nothing is given, and nothing is fixed, so put
    ``paste_video`` behind the decoder for the very pixels.

    Args:
        vae: of such a model, loaded alone.
        image_encoder: for models that are also told what the first picture shows: Wan 2.1's, not 2.2's.

    Raises:
        ValueError: the VAE is of another kind.
    """
    if not vae.spec.causal:
        raise ValueError(
            "Frames are shown so to models with a causal VAE, Wan's; this one is given frames as they are."
        )
    return replace(vae, spec=replace(vae.spec, shows=True), image_encoder=image_encoder)


def with_shown(latent: Latent, vae: VAE, video: Video, first: int) -> Latent:
    """A latent with the frames of a clip shown from ``first`` on, beside those that were shown before."""
    from kineograph.nodes.networks import shown

    if latent.time != "line":
        raise ValueError(
            "This model is shown frames of a whole video, which begins with one frame alone: give latent_noise 1 + a "
            f"multiple of {latent.spec.time_ratio} frames."
        )
    count, clips = video.frames.shape[1], latent.x.shape[0]
    given = video.frames.expand(clips, -1, -1, -1, -1), range(first, first + count)
    before = (given[0][:, :0], ()) if latent.shown is None else (latent.shown.pixels, latent.shown.frames)
    pixels, frames = shown.merged(before, given)
    values = encoded_frames(vae, shown.grey_clip(pixels, frames, latent.frames))
    pictures = None
    if vae.image_encoder is not None:
        pictures = shown.looked_at(vae.image_encoder.network, pixels, frames)
    channels = shown.beside(values, frames, latent.spec.time_ratio)
    return replace(latent, shown=Shown(channels, pixels, frames, pictures))
