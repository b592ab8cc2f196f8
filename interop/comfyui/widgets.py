"""Which values a node's ``widgets_values`` list holds, in which order: ComfyUI's page saves them by position.

Newer pages name them among the node's inputs (or in ``widgets_values_named``); the table is for files that do not. It
holds names of public inputs alone, for the nodes that can be imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

WIDGETS: dict[str, tuple[str, ...]] = {
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "CFGGuider": ("cfg",),
    "CLIPLoader": ("clip_name", "type", "device"),
    "CLIPTextEncode": ("text",),
    "CLIPVisionEncode": ("crop",),
    "CLIPVisionLoader": ("clip_name",),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "CreateVideo": ("fps",),
    "DualCLIPLoader": ("clip_name1", "clip_name2", "type", "device"),
    "EmptyCosmosLatentVideo": ("width", "height", "length", "batch_size"),
    "EmptyHunyuanLatentVideo": ("width", "height", "length", "batch_size"),
    "EmptyLTXVLatentVideo": ("width", "height", "length", "batch_size"),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptyMochiLatentVideo": ("width", "height", "length", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "FluxGuidance": ("guidance",),
    "GetNode": ("name",),
    "HunyuanImageToVideo": ("width", "height", "length", "batch_size", "guidance_type"),
    "ImageCrop": ("width", "height", "x", "y"),
    "ImageFromBatch": ("batch_index", "length"),
    "ImageOnlyCheckpointLoader": ("ckpt_name",),
    "ImageScale": ("upscale_method", "width", "height", "crop"),
    "ImageToMask": ("channel",),
    "KSampler": ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        *("add_noise", "noise_seed", "steps", "cfg", "sampler_name", "scheduler"),
        *("start_at_step", "end_at_step", "return_with_leftover_noise"),
    ),
    "KSamplerSelect": ("sampler_name",),
    "LTXVConditioning": ("frame_rate",),
    "LTXVImgToVideo": ("width", "height", "length", "batch_size", "strength"),
    "LTXVScheduler": ("steps", "max_shift", "base_shift", "stretch", "terminal"),
    "LoadImage": ("image", "upload"),
    "LoadVideo": ("file", "upload"),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "ModelSamplingAuraFlow": ("shift",),
    "ModelSamplingSD3": ("shift",),
    "PrimitiveBoolean": ("value",),
    "PrimitiveFloat": ("value",),
    "PrimitiveInt": ("value",),
    "PrimitiveString": ("value",),
    "PrimitiveStringMultiline": ("value",),
    "RandomNoise": ("noise_seed",),
    "RepeatImageBatch": ("amount",),
    "SamplerCustom": ("add_noise", "noise_seed", "cfg"),
    "SaveAnimatedPNG": ("filename_prefix", "fps", "compress_level"),
    "SaveAnimatedWEBP": ("filename_prefix", "fps", "lossless", "quality", "method"),
    "SaveImage": ("filename_prefix",),
    "SaveVideo": ("filename_prefix", "format", "codec"),
    "SaveWEBM": ("filename_prefix", "codec", "fps", "crf"),
    "SetNode": ("name",),
    "TrimVideoLatent": ("trim_amount",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "VAEDecodeTiled": ("tile_size", "overlap", "temporal_size", "temporal_overlap"),
    "VAEEncodeTiled": ("tile_size", "overlap", "temporal_size", "temporal_overlap"),
    "VAELoader": ("vae_name",),
    "VHS_LoadVideo": (
        *("video", "force_rate", "custom_width", "custom_height"),
        *("frame_load_cap", "skip_first_frames", "select_every_nth"),
    ),
    "VHS_VideoCombine": ("frame_rate", "loop_count", "filename_prefix", "format", "pingpong", "save_output"),
    "Wan22ImageToVideoLatent": ("width", "height", "length", "batch_size"),
    "WanFirstLastFrameToVideo": ("width", "height", "length", "batch_size"),
    "WanImageToVideo": ("width", "height", "length", "batch_size"),
    "WanVaceToVideo": ("width", "height", "length", "batch_size", "strength"),
}
"""Class -> its widgets, from top to bottom."""

_CONTROLS = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
"""What the page itself puts behind a seed: what happens to it after a run. No input of the node."""


def widget_values(kind: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """The typed-in values of a node of UI JSON, by name.

    Args:
        kind: its class.
        node: its JSON.
    """
    named, values = node.get("widgets_values_named"), node.get("widgets_values")
    for found in (named, values):
        if isinstance(found, dict):
            return {name: value for name, value in found.items() if name != "videopreview"}
    if not isinstance(values, list):
        return {}
    return _by_position(_names(kind, node), cast(list[Any], values))


def _names(kind: str, node: Mapping[str, Any]) -> Sequence[str]:
    """A node's widgets in order: as its inputs name them, if they name them all."""
    inputs = node.get("inputs")
    marked = [each.get("widget") for each in inputs if isinstance(each, dict)] if isinstance(inputs, list) else []
    said = [str(mark["name"]) for mark in marked if isinstance(mark, dict) and "name" in mark]
    known = WIDGETS.get(kind, ())
    return said if len(said) >= len(known) else known


def _by_position(names: Sequence[str], values: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    left = iter(values)
    value = next(left, None)
    for number, name in enumerate(names):
        if number and value in _CONTROLS and "seed" in names[number - 1]:
            value = next(left, None)
        found[name] = value
        value = next(left, None)
    return {name: value for name, value in found.items() if value is not None}
