"""Prompts, empty latents and samplers: what a KSampler does is a loop of small nodes here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kineograph.graph_runtime.workflow import MAX_INTEGER
from kineograph.interop.comfyui.pieces import Empty, Given, Model, Pictures, Wire, Words, spec
from kineograph.interop.comfyui.translation import At, CannotImport, Translation, rule

SAMPLERS = {
    "euler": "euler",
    "ddim": "euler",  # the flow's DDIM with eta 0 is Euler's step
    "euler_ancestral": "ancestral",
    "heun": "heun",
    "dpmpp_2m": "dpmpp_2m",
    "uni_pc": "unipc",
    "uni_pc_bh2": "unipc",
}
"""ComfyUI's sampler -> the step of ours."""
NEAREST_SAMPLER = "dpmpp_2m"
PLAIN_SHIFT = 3.0
SCHEDULERS = {"simple", "sgm_uniform", "linear_quadratic"}
"""Schedulers whose levels are those of a node of ours, to a thousandth."""


@dataclass(frozen=True)
class Guider:
    """What asks the model: with which words, and how far away from which."""

    model: Model
    positive: Any
    negative: Any
    scale: Any


@dataclass(frozen=True)
class Schedule:
    """Noise levels: how many steps of which kind, of which only the last are taken where denoise is below 1.

    ``made`` makes those that depend on the size, from the steps and the latent that sampling begins with.
    """

    kind: str
    steps: Any
    denoise: float
    shift: Any
    made: Callable[[Translation, Any, Wire], Wire] | None = None


@dataclass(frozen=True)
class Noise:
    """What is drawn, and its seed; None is none."""

    seed: Any


# prompts


@rule("CLIPTextEncode")
def _words(_t: Translation, at: At) -> Sequence[Any]:
    return [Words(at.wire("clip"), at.text("text"), at.node.id)]


@rule("ConditioningZeroOut")
def _zero(t: Translation, at: At) -> Sequence[Any]:
    words = at.get("conditioning")
    if not isinstance(words, Words):
        raise CannotImport("It is not wired to a prompt.")
    t.remark(at, "Zeros in place of words are not asked for here: the empty prompt is.")
    return [Words(words.encoder, "", at.node.id)]


@rule("FluxGuidance")
def _told_guidance(t: Translation, at: At) -> Sequence[Any]:
    t.remark(at, "A guidance that the model is told of has no counterpart here; it is left out.")
    return [at.get("conditioning")]


def embedding(t: Translation, words: Any, role: str) -> Wire:
    """The node that reads a prompt, made where it is first used; its words are an input of the workflow.

    Raises:
        CannotImport: it is no prompt.
    """
    if isinstance(words, Wire):
        return words
    if not isinstance(words, Words):
        raise CannotImport("What guides it is no prompt.")
    if words not in t.shared:
        about = "what shall be seen" if role == "prompt" else "what shall not be seen" if role == "negative" else ""
        text = t.setting(role, words.text, about) if words.text else None
        node = t.graph.nodes[words.node]
        name = {"prompt": "text", "negative": "no_text"}.get(role, role)
        t.shared[words] = t.wired("encode_text@1", name, node, encoder=words.encoder, prompt=text)
    return t.shared[words]


# latents


@rule("EmptyLatentImage", "EmptySD3LatentImage")
def _empty_image(t: Translation, at: At) -> Sequence[Any]:
    return [sized(t, at, frames=1)]


@rule(
    "EmptyHunyuanLatentVideo",
    "EmptyMochiLatentVideo",
    "EmptyLTXVLatentVideo",
    "EmptyCosmosLatentVideo",
)
def _empty_video(t: Translation, at: At) -> Sequence[Any]:
    return [sized(t, at, frames=1 if at.number("length", 1) == 1 else None)]  # one frame is a picture


@rule("HunyuanImageToVideo", "LTXVImgToVideo", "Wan22ImageToVideoLatent")
def _given_frames(t: Translation, at: At) -> Sequence[Any]:
    empty = sized(t, at)
    for port, from_end in (("start_image", False), ("image", False), ("end_image", True)):
        if at.node.links.get(port):
            size = {"height": empty.height, "width": empty.width}
            video = t.wired("resize_video@1", "fitted", video=at.wire(port), **size)
            empty = replace(empty, given=(*empty.given, Given(video, from_end)))
    empty = replace(empty, vae=at.wire("vae"))
    if any(port.startswith("clip_vision") and port in at.node.links for port in at.node.links):
        t.remark(at, "What CLIP sees in the picture is not told to the model here; the picture itself is given.")
    if at.number("strength", 1.0, float) != 1.0:
        t.remark(at, "The picture is given whole; a strength below 1 is not.")
    if at.node.type == "Wan22ImageToVideoLatent":
        return [empty]
    positive = [at.get("positive")] if at.has("positive") else []
    negative = [at.get("negative")] if at.has("negative") else []
    return [*positive, *negative, empty]


def sized(t: Translation, at: At, frames: Any = None) -> Empty:
    """A latent of the size that a node says, whose numbers are inputs of the workflow."""
    length = at.number("length", 1) if frames is None else frames
    clips = at.number("batch_size", 1)
    width, height = t.setting("width", at.number("width")), t.setting("height", at.number("height"))
    length = length if frames is not None else t.setting("frames", length, "frames of the video; 1 is an image")
    return Empty(width, height, length, None if clips == 1 else clips)


# samplers


@rule("KSampler")
def _sampler(t: Translation, at: At) -> Sequence[Any]:
    denoise = at.number("denoise", 1.0, float)
    schedule = Schedule(at.text("scheduler"), at.number("steps"), denoise, at.model().shift)
    guider = Guider(at.model(), at.get("positive"), at.get("negative"), at.number("cfg", kind=float))
    return [_denoised(t, at, guider, schedule, at.text("sampler_name"), Noise(at.number("seed")))]


@rule("KSamplerAdvanced")
def _advanced_sampler(t: Translation, at: At) -> Sequence[Any]:
    schedule = Schedule(at.text("scheduler"), at.number("steps"), 1.0, at.model().shift)
    guider = Guider(at.model(), at.get("positive"), at.get("negative"), at.number("cfg", kind=float))
    seed = at.number("noise_seed") if at.text("add_noise", "enable") == "enable" else None
    first, last = at.number("start_at_step", 0), at.number("end_at_step", 10000)
    stops_early = isinstance(last, Wire) or isinstance(schedule.steps, Wire) or last < schedule.steps
    if stops_early and at.text("return_with_leftover_noise", "disable") != "enable":
        raise CannotImport("It ends before its last step without leftover noise; set return_with_leftover_noise.")
    part = (first, last if stops_early else None)
    return [_denoised(t, at, guider, schedule, at.text("sampler_name"), Noise(seed), part)]


@rule("KSamplerSelect")
def _sampler_name(_t: Translation, at: At) -> Sequence[Any]:
    return [at.text("sampler_name")]


@rule("RandomNoise")
def _random_noise(_t: Translation, at: At) -> Sequence[Any]:
    return [Noise(at.number("noise_seed"))]


@rule("DisableNoise")
def _no_noise(_t: Translation, _at: At) -> Sequence[Any]:
    return [Noise(None)]


@rule("BasicScheduler")
def _basic_schedule(_t: Translation, at: At) -> Sequence[Any]:
    return [Schedule(at.text("scheduler"), at.number("steps"), at.number("denoise", 1.0, float), at.model().shift)]


@rule("CFGGuider")
def _cfg_guider(_t: Translation, at: At) -> Sequence[Any]:
    return [Guider(at.model(), at.get("positive"), at.get("negative"), at.number("cfg", kind=float))]


@rule("BasicGuider")
def _basic_guider(_t: Translation, at: At) -> Sequence[Any]:
    return [Guider(at.model(), at.get("conditioning"), None, 1.0)]


@rule("SamplerCustom")
def _custom_sampler(t: Translation, at: At) -> Sequence[Any]:
    guider = Guider(at.model(), at.get("positive"), at.get("negative"), at.number("cfg", kind=float))
    seed = at.number("noise_seed") if at.get("add_noise", True) else None
    made = _denoised(t, at, guider, at.get("sigmas"), at.get("sampler"), Noise(seed))
    return [made, made]


@rule("SamplerCustomAdvanced")
def _custom_sampler_advanced(t: Translation, at: At) -> Sequence[Any]:
    made = _denoised(t, at, at.get("guider"), at.get("sigmas"), at.get("sampler"), at.get("noise"))
    return [made, made]


def _denoised(
    t: Translation, at: At, guider: Any, schedule: Any, sampler: Any, noise: Any, part: tuple[Any, Any] = (0, None)
) -> Wire:
    if not (isinstance(guider, Guider) and isinstance(schedule, Schedule) and isinstance(noise, Noise)):
        raise CannotImport("Its guider, sigmas or noise come from a node that has no counterpart here.")
    step = _step(t, at, sampler)
    text = embedding(t, guider.positive, "prompt")
    guided = guider.negative is not None and guider.scale != 1.0
    no_text = embedding(t, guider.negative, "negative") if guided else None
    shift = schedule.shift if schedule.shift is not None else _unknown_shift(t, at)
    scheduled = replace(schedule, shift=shift)
    start = _start(t, at, at.get("latent_image"), noise, scheduled)
    links: dict[str, str] = {"dit": guider.model.dit.link, "text": text.link}
    if no_text is not None:
        scale = t.setting("guidance", guider.scale, "larger follows the words more closely")
        links["no_text"] = no_text.link
    else:
        scale = None
    if isinstance(scale, Wire):
        links["guidance"] = scale.link
    carry = {"latent": start.link}
    if step in ("dpmpp_2m", "unipc"):
        carry["history"] = t.wired("begin_history@1", "history").link
    seed = None
    if step == "ancestral":
        seed = t.shared.get(("seed", at.node.id), noise.seed)
        if isinstance(seed, Wire):
            links["seed"], seed = seed.link, Wire("$seed")
    loop = {
        "type": "loop@1",
        "each": _sigmas(t, at, scheduled, part, start).link,
        "carry": carry,
        "links": links,
        "body": _body(step, seed, guider.model.patch, guided=guided),
    }
    name = t.free("denoise", t.nodes)
    t.nodes[name] = loop
    if at.node.position is not None:
        t.positions[name] = list(at.node.position)
    made = Wire(f"{name}.latent" if len(carry) > 1 else name)
    latent = at.get("latent_image")
    t.shared["single", made] = isinstance(latent, Empty) and latent.frames == 1
    return made


def _unknown_shift(t: Translation, at: At) -> float:
    t.remark(at, f"Nothing says how its schedule is shifted: {PLAIN_SHIFT:g} is taken.")
    return PLAIN_SHIFT


def _step(t: Translation, at: At, sampler: Any) -> str:
    if sampler in SAMPLERS:
        return SAMPLERS[sampler]
    if not isinstance(sampler, str):
        raise CannotImport("Its sampler comes from a node that has no counterpart here.")
    t.remark(at, f"There is no sampler {sampler!r} here; {NEAREST_SAMPLER} stands in its place: another video.")
    return SAMPLERS[NEAREST_SAMPLER]


def _sigmas(t: Translation, at: At, schedule: Schedule, part: tuple[Any, Any], start: Wire) -> Wire:
    """The levels of a schedule, and of these the part that is taken."""
    if schedule.made is None and schedule.kind not in SCHEDULERS:
        t.remark(at, f"There is no scheduler {schedule.kind!r} here; evenly shifted levels stand in its place.")
    total = _total(schedule)
    skipped = total - schedule.steps if schedule.denoise < 1 else 0
    steps = t.setting("steps", total) if schedule.denoise == 1 else total
    key = ("sigmas", schedule, part == (0, None))
    if key not in t.shared:
        if schedule.made is not None:
            t.shared[key] = schedule.made(t, steps, start)
        elif schedule.kind == "linear_quadratic":
            t.shared[key] = t.wired("linear_quadratic_sigmas@1", "sigmas", steps=steps)
        else:
            t.shared[key] = t.wired("shifted_sigmas@1", "sigmas", steps=steps, shift=schedule.shift)
    sigmas = t.shared[key]
    first, last = part
    if (first, last) == (0, None) and not skipped:
        return sigmas
    return t.wired("sigmas_between@1", "steps", sigmas=sigmas, first=first + skipped if skipped else first, last=last)


def _total(schedule: Schedule) -> Any:
    """How many steps the whole schedule has of which only the last are taken (a denoise of 0.5 takes half of them)."""
    if isinstance(schedule.denoise, Wire) or (schedule.denoise < 1 and isinstance(schedule.steps, Wire)):
        raise CannotImport("A denoise below 1 needs steps and denoise that are typed in.")
    return schedule.steps if schedule.denoise >= 1 else int(schedule.steps / max(schedule.denoise, 1e-3))


def _start(t: Translation, at: At, latent: Any, noise: Noise, schedule: Schedule) -> Wire:
    """The latent that sampling begins with."""
    seed = noise.seed
    if isinstance(seed, int) and seed >= MAX_INTEGER:
        t.remark(at, f"A seed has 63 bits here: {seed} became {seed % MAX_INTEGER}, which is other noise.")
        seed %= MAX_INTEGER
    seed = None if seed is None else t.setting("seed", seed)
    t.shared["seed", at.node.id] = seed
    if isinstance(latent, Empty):
        return _from_nothing(t, at, latent, seed, schedule)
    if not isinstance(latent, Wire):
        raise CannotImport("Its latent_image comes from a node that has no counterpart here.")
    if seed is None:
        return latent
    fresh = t.wired("fresh_noise@1", "noise", latent=latent, seed=seed)
    if schedule.denoise >= 1:
        return fresh
    part = schedule.steps / _total(schedule)
    if isinstance(schedule.shift, Wire) or schedule.kind == "linear_quadratic":
        raise CannotImport("A denoise below 1 needs a shift that is typed in, and a scheduler that is shifted.")
    level = schedule.shift * part / (1 + (schedule.shift - 1) * part)
    noisy = t.wired("sdedit@1", "noisy", latent=fresh, source=latent, level=level)
    return t.wired("begin_sampling@1", "start", latent=noisy)


def _from_nothing(t: Translation, at: At, empty: Empty, seed: Any, schedule: Schedule) -> Wire:
    if seed is None or schedule.denoise < 1:
        raise CannotImport("An empty latent is sampled from full noise here: enable its noise, set denoise to 1.")
    vae = empty.vae
    if vae is None:
        source = t.decoder_of(at.node.id)
        made = t.made.get(source[0], ()) if source else ()
        vae = made[source[1]] if source and source[1] < len(made) else None
    if not isinstance(vae, Wire):
        raise CannotImport("No VAE is wired behind it, so the size of its latents is not known.")
    size = {"frames": empty.frames, "height": empty.height, "width": empty.width, "clips": empty.clips}
    latent = t.wired("latent_noise@1", "noise", at.node, vae=vae, seed=seed, fps=t.fps, **size)
    for given in empty.given:
        from_end = True if given.from_end else None
        latent = t.wired("give_video@1", "given", latent=latent, vae=vae, video=given.video, from_end=from_end)
    for shown in empty.shown:
        drawn = {"seed": seed} if shown.kind == "show_reference@1" else {}
        latent = t.wired(shown.kind, "shown", latent=latent, vae=vae, **shown.given, **drawn)
    return t.wired("begin_sampling@1", "start", latent=latent) if empty.given or empty.shown else latent


def _body(step: str, seed: Any, patch: int, *, guided: bool) -> dict[str, Any]:
    """The graph of one pass of the sampler."""
    nodes = _asked("", "$latent", "$item", patch, guided=guided)
    given: dict[str, Any] = {"latent": Wire("$latent"), "velocity": Wire("velocity"), "step": Wire("$item")}
    outputs = {"latent": "step"}
    if step == "heun":
        nodes["there"] = spec("predict_step@1", **given)
        nodes |= _asked("_there", "there.latent", "there.at", patch, guided=guided)
        nodes["step"] = spec("heun_step@1", **given, velocity_next=Wire("velocity_there"))
    elif step in ("dpmpp_2m", "unipc"):
        nodes["step"] = spec(f"{step}_step@1", **given, history=Wire("$history"))
        outputs = {"latent": "step.latent", "history": "step.history"}
    elif step == "ancestral":
        nodes["step"] = spec("ancestral_step@1", **given, index=Wire("$index"), rule="flow", seed=seed)
    else:
        nodes["step"] = spec("euler_step@1", **given)
    return {"nodes": nodes, "outputs": outputs}


def _asked(mark: str, latent: str, at: str, patch: int, *, guided: bool) -> dict[str, Any]:
    """The nodes that ask the model for the velocity of a latent."""
    asks: dict[str, Any] = {"dit": Wire("$dit"), "patches": Wire(f"patches{mark}"), "text": Wire("$text")}
    cells = {"height": patch, "width": patch} if patch > 1 else {}
    nodes = {f"patches{mark}": spec("patchify@1", latent=Wire(latent), **cells)}
    if guided:
        asks |= {"no_text": Wire("$no_text"), "at": Wire(at), "scale": Wire("$guidance")}
        nodes[f"guided{mark}"] = spec("guided_velocity@1", **asks)
    else:
        nodes[f"level{mark}"] = spec("step_level@1", step=Wire(at))
        nodes[f"guided{mark}"] = spec("dit_velocity@1", **asks, sigma=Wire(f"level{mark}"))
    nodes[f"velocity{mark}"] = spec("unpatchify@1", patches=Wire(f"guided{mark}"))
    return nodes


# between latents and frames


@rule("VAEDecode", "VAEDecodeTiled")
def _decoded(t: Translation, at: At) -> Sequence[Any]:
    latent = at.get("samples")
    if isinstance(latent, Empty):
        raise CannotImport("An empty latent is decoded; there is nothing to see.")
    video = t.wired("vae_decode@1", "video", at.node, vae=at.wire("vae"), latent=at.wire("samples"))
    return [Pictures(video, t.shared.get(("single", latent), False))]


@rule("VAEEncode", "VAEEncodeTiled")
def _encoded(t: Translation, at: At) -> Sequence[Any]:
    return [t.wired("vae_encode@1", "encoded", at.node, vae=at.wire("vae"), video=at.wire("pixels"))]
