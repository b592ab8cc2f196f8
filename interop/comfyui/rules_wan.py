"""How graphs for Wan show it pictures: first and last frames, a clip that leads, references, and what CLIP sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kineograph.interop.comfyui.pieces import Empty, Given, Looks, Pictures, Shown, Trim, Wire
from kineograph.interop.comfyui.rules_frames import at_rate
from kineograph.interop.comfyui.rules_sampling import sized
from kineograph.interop.comfyui.translation import At, CannotImport, Translation, rule


@rule("CLIPVisionEncode")
def _seen(t: Translation, at: At) -> Sequence[Any]:
    t.remark(at, "CLIP looks at the middle square of the picture as it is given to the model, not at the whole.")
    return [at.get("clip_vision")]


@rule("WanImageToVideo", "WanFirstLastFrameToVideo")
def _first_and_last(t: Translation, at: At) -> Sequence[Any]:
    empty = sized(t, at)
    for port, from_end in (("start_image", False), ("end_image", True)):
        if port in at.node.links:
            video = _fitted(t, at, port, empty, "resize_video@1")
            empty = replace(empty, given=(*empty.given, Given(video, from_end)))
    seen = [at.get(port) for port in at.node.links if port.startswith("clip_vision")]
    encoder = next((each.encoder for each in seen if isinstance(each, Looks)), None)
    vae = _shown_vae(t, at, image_encoder=encoder)
    return [at.get("positive"), at.get("negative"), replace(empty, vae=vae)]


@rule("WanVaceToVideo")
def _vace(t: Translation, at: At) -> Sequence[Any]:
    empty, strength = sized(t, at), at.number("strength", 1.0, float)
    vae = _shown_vae(t, at, kind="control")
    shown: list[Shown] = []
    if "control_video" in at.node.links:
        size = {"vae": vae, "frames": empty.frames}
        led = {"video": _fitted(t, at, "control_video", empty, "fit_video@1", **size), "strength": strength}
        if "control_masks" in at.node.links:
            led["where"] = _fitted(t, at, "control_masks", empty, "fit_video@1", **size)
        shown.append(Shown("show_control@1", led))
    elif "control_masks" in at.node.links or strength != 1.0:
        raise CannotImport("Its control_masks and strength need a control_video here.")
    if "reference_image" in at.node.links:
        t.remark(
            at, "The noise of the reference is drawn apart from the video's, so the same seed makes another video."
        )
        shown.append(Shown("show_reference@1", {"image": _fitted(t, at, "reference_image", empty, "resize_video@1")}))
    return [at.get("positive"), at.get("negative"), replace(empty, vae=vae, shown=tuple(shown)), Trim()]


@rule("TrimVideoLatent")
def _without_references(_t: Translation, at: At) -> Sequence[Any]:
    if not isinstance(at.get("trim_amount"), Trim) and at.number("trim_amount") != 0:
        raise CannotImport("Only the reference of WanVaceToVideo is cut off here, and vae_decode does so by itself.")
    return [at.get("samples")]


@rule("ImageToMask", "MaskToImage")
def _mask(_t: Translation, at: At) -> Sequence[Any]:
    """A mask is a video here, white where it is 1."""
    return [at.get("image" if at.node.type == "ImageToMask" else "mask")]


def _fitted(t: Translation, at: At, port: str, empty: Empty, kind: str, **more: Any) -> Wire:
    """Pictures of an input in the size of the video to come; of several, its frames one by one."""
    pictures, video = at.get(port), at.wire(port)
    if not (isinstance(pictures, Pictures) and pictures.single):
        video = at_rate(t, video, t.fps)
    return t.wired(kind, "fitted", video=video, height=empty.height, width=empty.width, **more)


def _shown_vae(t: Translation, at: At, **how: Any) -> Wire:
    """The VAE that tells the DiT of given frames; the one of a whole model knows by itself."""
    vae = at.wire("vae")
    if t.nodes.get(vae.link, {}).get("type") != "load_video_vae@1":
        return vae
    key = (vae, *how.items())
    if key not in t.shared:
        t.shared[key] = t.wired("show_given_frames@1", "shown", vae=vae, **how)
    return t.shared[key]
