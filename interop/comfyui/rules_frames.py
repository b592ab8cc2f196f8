"""Pictures and videos: read, fitted, and written. A file's rate stands at its end there, and with its frames here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from kineograph.interop.comfyui.graph import ComfyGraph
from kineograph.interop.comfyui.pieces import Film, Pictures, Wire
from kineograph.interop.comfyui.translation import At, CannotImport, Translation, rule

RATES = {"CreateVideo": "fps", "VHS_VideoCombine": "frame_rate", "SaveAnimatedWEBP": "fps", "SaveAnimatedPNG": "fps"}
RATES |= {"SaveWEBM": "fps"}
"""Classes that say at which rate frames are played, and in which input."""
INPUTS, OUTPUTS = "uploads", "outputs"


def written_rate(graph: ComfyGraph) -> float | None:
    """Frames per second of the videos that a graph writes, where that is typed in."""
    found = (node.values.get(RATES[node.type]) for node in graph.nodes.values() if node.type in RATES)
    return next((float(rate) for rate in found if isinstance(rate, (int, float)) and rate > 0), None)


# what is read


@rule("LoadImage")
def _load_image(t: Translation, at: At) -> Sequence[Any]:
    path = t.setting("image", _file(at, "image"), "a PNG, JPEG or WebP")
    return [Pictures(t.wired("load_image@1", "image", at.node, path=path, fps=t.fps), single=True)]


@rule("LoadVideo")
def _load_video(t: Translation, at: At) -> Sequence[Any]:
    path = t.setting("clip", _file(at, "file"), "a video")
    return [Film(t.wired("load_video@1", "clip", at.node, path=path), None)]


@rule("VHS_LoadVideo", "VHS_LoadVideoPath")
def _vhs_load(t: Translation, at: At) -> Sequence[Any]:
    if at.number("select_every_nth", 1) != 1:
        raise CannotImport("Only every frame can be read (select_every_nth 1); give force_rate instead.")
    rate, skipped = at.number("force_rate", 0, float), at.number("skip_first_frames", 0)
    if skipped and not rate:
        raise CannotImport("skip_first_frames counts frames of a rate that is not said; set force_rate.")
    path = t.setting("clip", _file(at, "video"), "a video")
    size = {"height": at.number("custom_height", 0), "width": at.number("custom_width", 0)}
    start = skipped / rate if skipped else 0.0
    frames = at.number("frame_load_cap", 0)
    given = {name: value for name, value in {**size, "start": start, "frames": frames, "fps": rate}.items() if value}
    return [Pictures(t.wired("load_video@1", "clip", at.node, path=path, **given))]


@rule("GetVideoComponents")
def _components(_t: Translation, at: At) -> Sequence[Any]:
    film = at.get("video")
    if not isinstance(film, Film):
        raise CannotImport("Its video comes from a node that has no counterpart here.")
    return [Pictures(film.video), None, film.fps]


def _file(at: At, port: str) -> Any:
    """A file below ComfyUI's input folder as one below ours; ``name.png [output]`` is one below its output folder."""
    value = at.text(port)
    if isinstance(value, Wire):
        return value
    name, _, folder = value.partition(" [")
    if "/" in name[:1] or "\\" in name or ".." in name.split("/"):
        raise CannotImport(f"Its {port} = {value[:60]!r} is no name of an uploaded file.")
    return f"{OUTPUTS if folder.startswith('output') else INPUTS}/{name}"


# what is done with frames


@rule("ImageScale")
def _scaled(t: Translation, at: At) -> Sequence[Any]:
    how = "crop" if at.text("crop", "disabled") == "center" else "stretch"
    methods = {"nearest-exact": "nearest", "bicubic": "bicubic", "lanczos": "bicubic"}
    method = methods.get(str(at.text("upscale_method", "bilinear")), "bilinear")
    given = {"height": at.number("height"), "width": at.number("width"), "how": how, "interpolation": method}
    return [
        Pictures(t.wired("resize_video@1", "resized", at.node, video=at.wire("image"), **given), _single(at, "image"))
    ]


@rule("ImageCrop")
def _cropped(t: Translation, at: At) -> Sequence[Any]:
    given = {"height": at.number("height"), "width": at.number("width"), "top": at.number("y"), "left": at.number("x")}
    return [
        Pictures(t.wired("crop_video@1", "cropped", at.node, video=at.wire("image"), **given), _single(at, "image"))
    ]


@rule("ImageFromBatch")
def _part(t: Translation, at: At) -> Sequence[Any]:
    count = at.number("length", 1)
    given = {"start": at.number("batch_index", 0), "frames": count}
    return [Pictures(t.wired("trim_video@1", "part", at.node, video=at.wire("image"), **given), count == 1)]


@rule("ImageBatch")
def _batch(t: Translation, at: At) -> Sequence[Any]:
    return [Pictures(t.wired("concat_videos@1", "joined", at.node, first=at.wire("image1"), second=at.wire("image2")))]


@rule("RepeatImageBatch")
def _repeated(t: Translation, at: At) -> Sequence[Any]:
    return [Pictures(t.wired("repeat_video@1", "repeated", at.node, video=at.wire("image"), times=at.number("amount")))]


@rule("ReverseImageBatch")
def _reversed(t: Translation, at: At) -> Sequence[Any]:
    return [Pictures(t.wired("reverse_video@1", "reversed", at.node, video=at.wire("images")))]


def _single(at: At, port: str) -> bool:
    pictures = at.get(port)
    return isinstance(pictures, Pictures) and pictures.single


# plain values


@rule("PrimitiveInt", "PrimitiveFloat", "PrimitiveString", "PrimitiveStringMultiline", "PrimitiveBoolean")
def _plain(t: Translation, at: At) -> Sequence[Any]:
    return [t.setting(at.node.title or at.node.type.removeprefix("Primitive"), at.get("value"))]


# what is written


@rule("CreateVideo")
def _film(t: Translation, at: At) -> Sequence[Any]:
    if "audio" in at.node.links:
        t.remark(at, "Videos have no sound here yet; the sound is left out.")
    return [Film(at.wire("images"), at.number("fps", t.fps, float))]


@rule("SaveVideo", sink=True)
def _save_film(t: Translation, at: At) -> Sequence[Any]:
    film = at.get("video")
    if not isinstance(film, Film):
        raise CannotImport("Its video comes from a node that has no counterpart here.")
    _write(t, at, "save_video@1", ".mp4", at_rate(t, film.video, film.fps))
    return []


@rule("SaveWEBM", sink=True)
def _save_webm(t: Translation, at: At) -> Sequence[Any]:
    t.remark(at, "The file is an MP4 here, not a WebM.")
    _write(t, at, "save_video@1", ".mp4", at_rate(t, at.wire("images"), at.number("fps", t.fps, float)))
    return []


@rule("SaveAnimatedWEBP", "SaveAnimatedPNG", sink=True)
def _save_animation(t: Translation, at: At) -> Sequence[Any]:
    if at.node.type == "SaveAnimatedPNG":
        t.remark(at, "The file is a WebP here, not an animated PNG.")
    lossless = at.get("lossless", at.node.type == "SaveAnimatedPNG")
    quality = 100 if lossless is True else at.number("quality", 90)
    video = at_rate(t, at.wire("images"), at.number("fps", t.fps, float))
    _write(t, at, "save_animation@1", ".webp", video, quality=quality)
    return []


@rule("VHS_VideoCombine", sink=True)
def _combine(t: Translation, at: At) -> Sequence[Any]:
    video = at_rate(t, at.wire("images"), at.number("frame_rate", t.fps, float))
    if at.get("pingpong", False) is True:
        back = t.wired(
            "trim_video@1", "back", video=t.wired("reverse_video@1", "reversed", video=video), start=1, frames=-1
        )
        video = t.wired("concat_videos@1", "there_and_back", first=video, second=back)
    if "audio" in at.node.links:
        t.remark(at, "Videos have no sound here yet; the sound is left out.")
    kind = str(at.text("format", "video/h264-mp4"))
    if kind.startswith("image/"):
        _write(t, at, "save_animation@1", ".gif" if kind == "image/gif" else ".webp", video)
    else:
        if kind != "video/h264-mp4":
            t.remark(at, f"The file is an MP4 with H.264 here, not {kind[:60]}.")
        _write(t, at, "save_video@1", ".mp4", video)
    return [None]


@rule("SaveImage", sink=True)
def _save_image(t: Translation, at: At) -> Sequence[Any]:
    if _single(at, "images"):
        _write(t, at, "save_image@1", ".png", at.wire("images"))
    else:
        if not t.problems:  # what could not be had may have made a single one
            t.remark(at, "All frames are written as one MP4, not as a picture each.")
        _write(t, at, "save_video@1", ".mp4", at.wire("images"))
    return []


@rule("PreviewImage", sink=True)
def _preview(t: Translation, at: At) -> Sequence[Any]:
    t.outputs[t.free("preview", t.outputs)] = at.wire("images").link
    return []


def at_rate(t: Translation, video: Wire, fps: Any) -> Wire:
    """Frames at the rate that a file says; those that this graph makes have it from the beginning."""
    made_here = not any(node["type"] == "load_video@1" for node in t.nodes.values())
    if fps is None or (fps == t.fps and made_here):
        return video
    return t.wired("play_at@1", "played", video=video, fps=fps)


def _write(t: Translation, at: At, kind: str, ending: str, video: Wire, **given: Any) -> None:
    """A file, called as there, without the words between % that its name is made of."""
    prefix = at.text("filename_prefix", "video")
    prefix = re.sub(r"%[^%]*%", "", prefix) if isinstance(prefix, str) else "video"
    parts = [re.sub(r"[^A-Za-z0-9._ -]+", "_", part).strip(" ._-") for part in prefix.split("/")]
    wish = "/".join(part for part in parts if part) or "video"
    path = t.free_path(wish, ending)
    t.add(kind, "file", at.node, video=video, path=path, upscale=1, **given)
    t.outputs[t.free("image" if ending == ".png" else "video", t.outputs)] = video.link
