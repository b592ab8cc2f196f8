"""Loaders, and what is said of models. Of a checkpoint one input names all parts; of open models, each file its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from kineograph.interop.comfyui.pieces import Looks, Model, Wire
from kineograph.interop.comfyui.translation import At, CannotImport, Translation, rule


@dataclass(frozen=True)
class Family:
    """Models of one kind.

    Attributes:
        name: for people; empty of models of our own.
        said: what a file's name, or the type of a CLIPLoader, says of them.
        shift: of the schedule where no node says another, as ComfyUI's page leaves it; None where that is not known.
        patch: latent cells per token, downwards and across.
        files: whether their single files are read here; else a folder as diffusers writes it.
        checkpoint: whether one of these files, a checkpoint, holds DiT and VAE.
        reader: who reads the T5 in a file of its own, see ``load_video_text_encoder``.
    """

    name: str
    said: str
    shift: float | None
    patch: int
    files: bool = False
    checkpoint: bool = False
    reader: str | None = None


FAMILIES = (
    Family("Wan", r"wan", 8.0, 2, files=True),
    Family("HunyuanVideo", r"hunyuan", 7.0, 2),
    Family("Mochi", r"mochi", 6.0, 2),
    Family("LTX-Video", r"ltx.*0\.9\.[5-9]", 2.37, 1, files=True, checkpoint=True, reader="ltx-video-0.9.5"),
    Family("LTX-Video", r"ltx", 2.37, 1, files=True, checkpoint=True, reader="ltx-video"),
    Family("CogVideoX", r"cogvideo", 3.0, 2),
)
OURS = Family("", "", None, 1)
LOADERS = {"UNETLoader": "unet_name", "CheckpointLoaderSimple": "ckpt_name", "ImageOnlyCheckpointLoader": "ckpt_name"}
LOADERS |= {"CLIPLoader": "type", "DualCLIPLoader": "type"}
"""Which input of a loader tells the family."""
FOLDERS = {"dit": "diffusion_models", "text_encoder": "text_encoders", "vae": "vae", "image_encoder": "clip_vision"}
"""Where ComfyUI keeps the files, below its folder of models."""
NODES = {"dit": "load_video_dit@1", "text_encoder": "load_video_text_encoder@1", "vae": "load_video_vae@1"}
NODES |= {"image_encoder": "load_image_encoder@1"}


def _family(t: Translation) -> Family:
    """The models that the graph is made for, by what its loaders name."""
    if "family" not in t.shared:
        named = [
            str(node.values.get(LOADERS[node.type], "")) for node in t.graph.nodes.values() if node.type in LOADERS
        ]
        found = (each for each in FAMILIES if any(re.search(each.said, name, re.IGNORECASE) for name in named))
        family = next(found, OURS)
        t.shared["family"] = replace(family, name="", patch=1) if t.model == "flipbook" else family
    return t.shared["family"]


def _checkpoint_node(t: Translation, at: At, file: str, which: str = "model") -> str:
    """The node that loads a whole model, one for all files of it; its name."""
    if which in t.shared:
        return t.shared[which]
    family = _family(t)
    stem = PurePosixPath(file.replace("\\", "/")).stem
    default = t.model or (stem if stem == "flipbook" else f"models/{stem}")
    about = f"a folder of {family.name}, as diffusers writes it" if family.name else "a model's folder, or flipbook"
    if default != stem:
        folder = "a folder with dit.safetensors, vae.safetensors and text_encoder.safetensors, or flipbook"
        if family.name:
            folder = "a folder as diffusers writes it, with transformer, vae, text_encoder and tokenizer"
        t.remark(at, f"A model is {folder}; {file!r} became the input {which} = {default!r}. Set it to yours.")
    kind, port = ("load_video_model@1", "path") if family.name else ("load_model@1", "name")
    t.shared[which] = t.add(kind, which, at.node, **{port: t.setting(which, default, about)})
    return t.shared[which]


def _part(t: Translation, at: At, file: str, part: str, which: str = "model", folder: str = "") -> Wire:
    """A part of a model: of open models from its own file, else of a whole model."""
    family = _family(t)
    if not family.files or t.model:
        return Wire(f"{_checkpoint_node(t, at, file, which)}.{part}")
    key = (part, file)
    if key not in t.shared:
        name = which if part == "dit" else part
        if (path := ("path", file)) not in t.shared:
            default = f"models/{folder or FOLDERS[part]}/{file}"
            t.shared[path] = t.setting(name, default, f"a file of {family.name}, or a folder that holds one")
            wish = t.shared[path].link.removeprefix("$")
            t.remark(at, f"{file!r} became the input {wish} = {default!r}. Set it to yours.")
        more = {"reads_as": family.reader} if part == "text_encoder" else {}
        t.shared[key] = t.wired(NODES[part], name, at.node, path=t.shared[path], **more)
    return t.shared[key]


def _model(t: Translation, dit: Wire) -> Model:
    return Model(dit, _family(t).shift, _family(t).patch)


@rule("CheckpointLoaderSimple", "ImageOnlyCheckpointLoader")
def _checkpoint(t: Translation, at: At) -> Sequence[Any]:
    file = str(at.text("ckpt_name"))
    if _family(t).checkpoint and not t.model:
        dit, vae = (_part(t, at, file, part, folder="checkpoints") for part in ("dit", "vae"))
        return [_model(t, dit), None, vae]
    name = _checkpoint_node(t, at, file)
    return [_model(t, Wire(f"{name}.dit")), Wire(f"{name}.text_encoder"), Wire(f"{name}.vae")]


@rule("UNETLoader")
def _unet(t: Translation, at: At) -> Sequence[Any]:
    known = t.shared.setdefault("unets", {})
    file = str(at.text("unet_name"))
    which = known.setdefault(file, "model" if not known else f"model_{len(known) + 1}")
    return [_model(t, _part(t, at, file, "dit", which))]


@rule("CLIPLoader", "DualCLIPLoader")
def _clip(t: Translation, at: At) -> Sequence[Any]:
    return [_part(t, at, str(at.get("clip_name", at.get("clip_name1", "model"))), "text_encoder")]


@rule("VAELoader")
def _vae(t: Translation, at: At) -> Sequence[Any]:
    return [_part(t, at, str(at.text("vae_name")), "vae")]


@rule("CLIPVisionLoader")
def _clip_vision(t: Translation, at: At) -> Sequence[Any]:
    """Only a model of single files has it apart."""
    alone = _family(t).files and not t.model
    return [Looks(_part(t, at, str(at.text("clip_name")), "image_encoder") if alone else None)]


@rule("ModelSamplingSD3", "ModelSamplingAuraFlow")
def _shifted(_t: Translation, at: At) -> Sequence[Any]:
    return [replace(at.model(), shift=at.number("shift", 3.0, float))]


@rule("LoraLoaderModelOnly", "LoraLoader")
def _lora(t: Translation, at: At) -> Sequence[Any]:
    model, strength = at.model(), at.number("strength_model", 1.0, float)
    if at.node.type == "LoraLoader" and at.number("strength_clip", 1.0, float) != 0:
        t.remark(at, "The text encoder stays as it is: a LoRA changes the model alone here.")
    if strength != 0:
        file = str(at.text("lora_name"))
        path = t.setting("lora", f"models/loras/{file}", "low-rank updates of the model, a safetensors file")
        strength = t.setting("lora_strength", strength, "0 is nothing, 1 as trained")
        dit = t.wired("apply_lora@1", "lora", at.node, dit=model.dit, path=path, strength=strength)
        model = replace(model, dit=dit)
    return [model, at.get("clip", None)]


@rule("CLIPSetLastLayer")
def _last_layer(_t: Translation, _at: At) -> Sequence[Any]:
    raise CannotImport("A text encoder's last layer cannot be chosen here: every model has its own.")
