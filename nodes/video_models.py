"""Open video models of others from files: Wan, LTX-Video, CogVideoX, Mochi, HunyuanVideo. ``families`` knows the files.

Nothing is downloaded, nothing of a folder is executed, and the networks are those of diffusers and transformers
(pip install 'kineograph[models]').
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.experts import join_experts
from kineograph.nodes.foretold import unpadded_facts
from kineograph.nodes.model import Model
from kineograph.nodes.sockets import (
    VAE,
    DiT,
    ImageEncoder,
    Latent,
    Levels,
    SigmaStep,
    TextEncoder,
)

Half = Literal["bfloat16", "float16", "float32"]
Numbers = Literal["bfloat16", "float16", "float32", "float8_e4m3fn"]
Reader = Literal["", "ltx-video", "ltx-video-0.9.5", "cogvideox", "mochi"]
Made = Callable[[str, str, Numbers], Any]
PARTS = ("dit", "vae", "text_encoder")


def _digest(path: str, *parts: str, reads_as: str = "") -> str:
    from kineograph.nodes.families import finding, folders

    return folders.digest(file for part in parts for file in finding.files(path, part, reads_as))


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a model; one that is told what pictures show has an image encoder."""
    from kineograph.nodes.families.finding import find

    return (*PARTS, "image_encoder") if getattr(find(path, "dit").config, "image_dim", None) else PARTS


def _dit(path: str, dtype: Numbers, made: Made) -> DiT:
    from kineograph.nodes.families.finding import second_dit

    dit, second = made(path, "dit", dtype), second_dit(path)
    return dit if second is None else join_experts(dit, made(second[0], "dit", dtype), second[1])


def _model(path: str, dtype: Numbers, vae_dtype: Half, made: Made) -> Model:
    dit, vae, text_encoder = _dit(path, dtype, made), made(path, "vae", vae_dtype), made(path, "text_encoder", dtype)
    looks = made(path, "image_encoder", vae_dtype) if "image_encoder" in _parts(path) else None
    spec = replace(vae.spec, shows=dit.shows, **_limits(path))
    return Model(dit, replace(vae, spec=spec, image_encoder=looks), text_encoder)


def _limits(path: str) -> dict[str, Any]:
    """Which sizes of a latent a model's DiT takes alone, as fields of its VAE's ``LatentSpec``."""
    from kineograph.nodes.families.finding import find

    found = find(path, "dit")
    return found.kind.limits(found.config)


def _outlined(path: str, part: str, dtype: Numbers, reads_as: str = "") -> Any:
    from kineograph.nodes.families.loading import outline

    return outline(path, part, dtype, reads_as)


def _loaded(path: str, part: str, dtype: Numbers, reads_as: str = "") -> Any:
    from kineograph.nodes.families.loading import load

    return load(path, part, dtype, reads_as)


def video_model_digest(path: str) -> str:
    """The digest of all files of a model."""
    return _digest(path, *_parts(path))


def video_dit_digest(path: str) -> str:
    """The digest of a model's DiT."""
    return _digest(path, "dit")


def video_vae_digest(path: str) -> str:
    """The digest of a model's VAE."""
    return _digest(path, "vae")


def video_text_digest(path: str, reads_as: Reader) -> str:
    """The digest of a model's text encoder and tokenizer."""
    return _digest(path, "text_encoder", reads_as=reads_as)


def image_encoder_digest(path: str) -> str:
    """The digest of a model's image encoder."""
    return _digest(path, "image_encoder")


def foretold_video_model(path: str) -> Model:
    """Of the model, what its sizes must fit and what its DiT can be told."""
    nothing: Any = None
    dit, spec = foretold_video_dit(path), foretold_video_vae(path)
    return Model(dit, replace(spec, shows=dit.shows, **_limits(path)), nothing)


def foretold_video_dit(path: str) -> Any:
    """Of a DiT, what it can be told, from its configuration."""
    from kineograph.nodes.families.finding import find

    found = find(path, "dit")
    return found.kind.foretell(found.config)


def foretold_video_vae(path: str) -> Any:
    """The sizes of a VAE's latent, from its configuration."""
    from kineograph.nodes.families.finding import find

    found = find(path, "vae")
    return found.kind.foretell(found.config)


def outlined_video_model(path: str, dtype: Numbers, vae_dtype: Half) -> Model:
    """What ``load_video_model`` loads, without its weights."""
    return _model(path, dtype, vae_dtype, _outlined)


def outlined_video_dit(path: str, dtype: Numbers) -> DiT:
    """What ``load_video_dit`` loads, without its weights."""
    return _dit(path, dtype, _outlined)


def outlined_video_vae(path: str, dtype: Half) -> VAE:
    """What ``load_video_vae`` loads, without its weights."""
    return _outlined(path, "vae", dtype)


def outlined_video_text(path: str, dtype: Numbers, reads_as: Reader) -> TextEncoder:
    """What ``load_video_text_encoder`` loads, without its weights."""
    return _outlined(path, "text_encoder", dtype, reads_as)


def outlined_image_encoder(path: str, dtype: Half) -> ImageEncoder:
    """What ``load_image_encoder`` loads, without its weights."""
    return _outlined(path, "image_encoder", dtype)


@node(fingerprint=video_model_digest, estimate=outlined_video_model, foretells=foretold_video_model)
def load_video_model(path: str = "wan2.1-t2v-1.3b", dtype: Numbers = "bfloat16", vae_dtype: Half = "float32") -> Model:
    """Load an open video model from your disk: Wan 2.1 and 2.2, LTX-Video, CogVideoX, Mochi or HunyuanVideo.

    Weights are mapped: those of the dtype that the files have take no memory of their own. Patchify latents with height
    2 and width 2, but with 1 for LTX-Video. Needs diffusers and transformers (pip install 'kineograph[models]');
    nothing is downloaded.

    Args:
        path: a folder as diffusers writes it (transformer, vae, text_encoder, tokenizer), one with the files of the
            authors' repository (Wan, HunyuanVideo, Mochi), or one with a file of LTX-Video, a t5xxl file and a
            tokenizer.json. The name of a published model (wan2.1-t2v-1.3b, wan2.1-t2v-14b, wan2.1-i2v-14b,
            wan2.1-flf2v-14b, wan2.2-t2v-a14b, wan2.2-i2v-a14b, ltx-video-2b-0.9, -2b-0.9.1, -2b-0.9.5, -13b-0.9.7,
            mochi-1, hunyuanvideo, hunyuanvideo-i2v, cogvideox-2b, cogvideox-5b, cogvideox-5b-i2v, cogvideox-1.5-5b,
            cogvideox-1.5-5b-i2v) can be planned, not run.
        dtype: of the DiT's and the text encoder's numbers; parts that need float32 keep it. float8_e4m3fn keeps linear
            layers in eight bits and computes in bfloat16.
        vae_dtype: of the numbers of the VAE, and of the image encoder where there is one.

    Raises:
        ValueError: there is no such model, or files that are not what they say.
    """
    return _model(path, dtype, vae_dtype, _loaded)


@node(fingerprint=video_dit_digest, estimate=outlined_video_dit, foretells=foretold_video_dit)
def load_video_dit(path: str = "wan2.1-t2v-1.3b", dtype: Numbers = "bfloat16") -> DiT:
    """Load the diffusion transformer of an open video model alone, from a ComfyUI file for instance.

    Args:
        path: as for ``load_video_model``, the folder of one part (transformer_2, for instance), or one file of weights:
            a safetensors file, or a .pth.
        dtype: of its numbers; parts that need float32 keep it. float8_e4m3fn is as for ``load_video_model``.

    Raises:
        ValueError: it holds none, or is not what it says.
    """
    return _dit(path, dtype, _loaded)


@node(fingerprint=video_vae_digest, estimate=outlined_video_vae, foretells=foretold_video_vae)
def load_video_vae(path: str = "wan2.1-t2v-1.3b", dtype: Half = "float32") -> VAE:
    """Load the VAE of an open video model alone.

    Args:
        path: as for ``load_video_dit``.
        dtype: of its numbers.

    Raises:
        ValueError: it holds none, or is not what it says.
    """
    return _loaded(path, "vae", dtype)


@node(fingerprint=video_text_digest, estimate=outlined_video_text)
def load_video_text_encoder(
    path: str = "wan2.1-t2v-1.3b", dtype: Numbers = "bfloat16", reads_as: Reader = ""
) -> TextEncoder:
    """Load the text encoder of an open video model alone.

    Args:
        path: as for ``load_video_dit``. A tokenizer.json is looked for beside the file, and in tokenizer or
            google/umt5-xxl there; for HunyuanVideo's language model a file of CLIP too, with its own in tokenizer_2.
        dtype: of its numbers; parts that need float32 keep it. float8_e4m3fn is as for ``load_video_model``.
        reads_as: who reads a T5, where no DiT lies beside it (t5xxl_fp16.safetensors): ltx-video, from 0.9.5 on
            ltx-video-0.9.5, cogvideox or mochi. Each gives it another length or treats its padding in another way.

    Raises:
        ValueError: it holds none, or is not what it says; or there is no tokenizer.
    """
    return _loaded(path, "text_encoder", dtype, reads_as)


@node(fingerprint=image_encoder_digest, estimate=outlined_image_encoder)
def load_image_encoder(path: str = "wan2.1-i2v-14b", dtype: Half = "float32") -> ImageEncoder:
    """Load the image encoder (CLIP) of Wan 2.1's image-to-video models alone, for ``show_given_frames``.

    Args:
        path: as for ``load_video_dit``; ComfyUI calls the file clip_vision_h.safetensors.
        dtype: of its numbers.

    Raises:
        ValueError: it holds none, or is not what it says.
    """
    return _loaded(path, "image_encoder", dtype)


@node
def cogvideox_levels(snr_divisor: Annotated[float, Field(gt=0, le=100)] = 3.0, dit: DiT | None = None) -> Levels:
    """The noise levels of CogVideoX's timesteps: wire them into ``ddim_sigmas``.

    Args:
        snr_divisor: 3 for CogVideoX-2b, 1 for 5b and 1.5; its scheduler_config.json says it as snr_shift_scale.
        dit: a CogVideoX model, which knows its own: ``snr_divisor`` then has no part in it.

    Raises:
        ValueError: the model is none of CogVideoX.
    """
    from kineograph.nodes.networks.adapters.cogvideox import CogVideoXDiT, training_levels

    network: Any = None if dit is None else dit.network
    if network is None:
        return Levels(training_levels(snr_divisor))
    if not isinstance(network, CogVideoXDiT):
        raise ValueError("This model is none of CogVideoX: it has a schedule of its own, see docs/models.md.")
    return Levels(network.levels)


@node
def cogvideox_scale(
    at: SigmaStep,
    levels: Levels,
    steps: Annotated[int, Field(ge=1, le=1000)] = 50,
    scale: Annotated[float, Field(ge=0, le=49)] = 6.0,
) -> float:
    """The guidance scale of a step as CogVideoX's own examples have it (``use_dynamic_cfg``): wire it into guidance.

    It is 1 + g (1 - cos(pi ((N - t) / N)^5)) / 2 at timestep t. With t of a thousand it leaps between 1 and 1 + g from
    step to step, and rests at 1 in the last ones; a constant scale is guided_velocity's own.

    Args:
        at: the step, the loop's $item.
        levels: as ``ddim_sigmas`` was given them: they tell t.
        steps: N, of the whole schedule.
        scale: g.
    """
    from kineograph.nodes.networks.adapters.cogvideox import dynamic_scale

    timestep = int((levels.values.sort().values - at.sigma).abs().argmin())
    return dynamic_scale(timestep, steps, scale)


@node(views=("latent",), foretells=unpadded_facts)
def leave_out_padding(latent: Latent, groups: Annotated[int, Field(ge=0, le=8)] | None = None) -> Latent:
    """Leave out latent frames before a video, with which CogVideoX 1.5 fills up its tokens of two latent frames.

    What is left begins with a frame alone again: for 81 frames (21 latent frames), sample 85 and leave out one group.

    Args:
        latent: a sampled video.
        groups: how many latent frames; without it as many as the model needs that ``load_video_model`` loaded, none
            for others.

    Raises:
        ValueError: no latent frame would be left.
    """
    groups = latent.spec.patch_time - 1 if groups is None else groups
    if groups >= latent.x.shape[2]:
        raise ValueError(f"This latent has {latent.x.shape[2]} latent frames: {groups} cannot be left out.")
    cut = {name: getattr(latent, name)[:, :, groups:] for name in ("x", "clean", "mask")}
    return replace(latent, **cut)


@node(views=("dit",))
def embedded_guidance(dit: DiT, scale: Annotated[float, Field(ge=1, le=50)] = 6.0) -> DiT:
    """Tell a HunyuanVideo model how closely to follow the words, in one pass and without a second prompt.

    The model was distilled to know guidance as a number (Meng et al. 2023), so its velocity is ``dit_velocity``. The
    model that was given stays as it was.

    Args:
        dit: a HunyuanVideo model.
        scale: larger follows the words more closely; its authors take 6.

    Raises:
        ValueError: a model that was not trained to be told.
    """
    from kineograph.nodes.networks.adapters.hunyuan import HunyuanVideoDiT

    network: Any = dit.network
    if not isinstance(network, HunyuanVideoDiT) or not network.network.config.guidance_embeds:
        raise ValueError("This model is not told its guidance: take guided_velocity and its scale.")
    return replace(dit, guidance=scale)
