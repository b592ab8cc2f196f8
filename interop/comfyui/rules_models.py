"""Loaders and what is said of models. DiT, VAE and text encoder are one folder here: one input names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from kineograph.interop.comfyui.translation import At, CannotImport, Model, Translation, Wire, rule

SHIFTS = {"wan": 8.0, "hunyuan_video": 7.0, "mochi": 6.0, "ltxv": 2.37, "sd3": 3.0}
"""The shift of a family's schedule where no node says another, as ComfyUI's page leaves it."""


def load(t: Translation, at: At, file: str, which: str = "model") -> str:
    """The node that loads a model, one for all files of it; its name.

    Args:
        t: the workflow.
        at: the loader.
        file: the file that it names.
        which: model, or another name for a further one.
    """
    if which in t.shared:
        return t.shared[which]
    stem = PurePosixPath(file.replace("\\", "/")).stem
    default = t.model or (stem if stem == "flipbook" else f"models/{stem}")
    if default != stem:
        folder = "a folder with dit.safetensors, vae.safetensors and text_encoder.safetensors, or flipbook"
        t.remark(at, f"A model is {folder}; {file!r} became the input {which} = {default!r}. Set it to yours.")
    name = t.add("load_model@1", which, at.node, name=t.setting(which, default, "a model's folder, or flipbook"))
    t.shared[which] = name
    return name


@rule("CheckpointLoaderSimple", "ImageOnlyCheckpointLoader")
def _checkpoint(t: Translation, at: At) -> Sequence[Any]:
    name = load(t, at, str(at.text("ckpt_name")))
    return [Model(Wire(f"{name}.dit")), Wire(f"{name}.text_encoder"), Wire(f"{name}.vae")]


@rule("UNETLoader")
def _unet(t: Translation, at: At) -> Sequence[Any]:
    known = t.shared.setdefault("unets", {})
    file = str(at.text("unet_name"))
    which = known.setdefault(file, "model" if not known else f"model_{len(known) + 1}")
    return [Model(Wire(f"{load(t, at, file, which)}.dit"))]


@rule("CLIPLoader", "DualCLIPLoader")
def _clip(t: Translation, at: At) -> Sequence[Any]:
    family = at.text("type", "")
    if family in SHIFTS:
        t.shared["shift"] = SHIFTS[family]
    name = load(t, at, str(at.get("clip_name", at.get("clip_name1", "model"))))
    return [Wire(f"{name}.text_encoder")]


@rule("VAELoader")
def _vae(t: Translation, at: At) -> Sequence[Any]:
    return [Wire(f"{load(t, at, str(at.text('vae_name')))}.vae")]


@rule("ModelSamplingSD3", "ModelSamplingAuraFlow")
def _shifted(_t: Translation, at: At) -> Sequence[Any]:
    return [replace(at.model(), shift=at.number("shift", 3.0, float))]


@rule("LoraLoaderModelOnly", "LoraLoader")
def _lora(_t: Translation, at: At) -> Sequence[Any]:
    strength = at.number("strength_model", 1.0, float)
    if strength != 0:
        raise CannotImport("A LoRA cannot be loaded here yet; bypass it, or merge it into the model.")
    return [at.get("model"), at.get("clip", None)]


@rule("CLIPSetLastLayer")
def _last_layer(_t: Translation, _at: At) -> Sequence[Any]:
    raise CannotImport("A text encoder's last layer cannot be chosen here: every model has its own.")
