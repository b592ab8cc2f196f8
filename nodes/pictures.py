"""Image to video of HunyuanVideo: the prompt read with the picture, and noise that leans on it. Knows no files."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.sockets import Latent, TextEmbedding, TextEncoder, Video


@node
def encode_text_with_picture(
    encoder: TextEncoder, picture: Video, prompt: str = "", every: Annotated[int, Field(ge=1, le=16)] = 4
) -> TextEmbedding:
    """Read a prompt together with the picture that a video begins with, as HunyuanVideo's image to video does (LLaVA).

    Args:
        encoder: of such a model.
        picture: a single frame, of any size; its middle square is looked at.
        prompt: what shall happen, in plain words.
        every: of the words that stand for the picture, each how many-th is given on: 4 as trained, 2 for the first
            release, which has channels for the picture.

    Raises:
        ValueError: the encoder reads words alone, or the clip has more frames than one.
    """
    from kineograph.nodes.networks.adapters.hunyuan_pictures import HunyuanVideoPictureText

    network: Any = encoder.network
    if not isinstance(network, HunyuanVideoPictureText):
        raise ValueError("This text encoder reads words alone: take encode_text.")
    if picture.frames.shape[:2] != (1, 1):
        raise ValueError(
            f"One picture is read with the prompt, and {picture.frames.shape[0]} clips of {picture.frames.shape[1]} "
            "frames are given: take the first frame (trim_video)."
        )
    return TextEmbedding(*network([prompt], picture.frames[:, 0], every))


@node
def steady_noise(latent: Latent, share: Annotated[float, Field(ge=0, le=1)] = 0.001) -> Latent:
    """Let the noise lean on the first given frame everywhere: (1 - share) e + share x0, which moves less.

    HunyuanVideo's authors call it stability; diffusers does so always. Put it between give_video and begin_sampling.

    Args:
        latent: noise, with its first latent frame given.
        share: of that frame; 0.001 as its authors take it.

    Raises:
        ValueError: the first latent frame is not given.
    """
    if latent.shown is None and latent.mask[:, :, 0].any():
        raise ValueError("No first frame is given that noise could lean on: put give_video before this node.")
    first = latent.clean if latent.shown is None else latent.shown.channels[:, : latent.x.shape[1]]
    return replace(latent, x=(1 - share) * latent.x + share * first[:, :, :1])
