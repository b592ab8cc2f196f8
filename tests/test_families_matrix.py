"""Every edit's workflow file on open families, by ``--set model=FOLDER`` alone: it runs, or ``check`` refuses it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families

from kineograph import default_runtime
from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.nodes import any_model, edit, replacement, sample, schedules, video, video_models
from kineograph.nodes.sockets import SigmaStep, Video

WORKFLOWS = Path(__file__).parent.parent / "workflows"
MAKE = {
    "image_to_video": tiny_families.wan_image_pipeline,
    "levels": tiny_families.ltx_pipeline,
    "one_level": tiny_families.hunyuan_pipeline,
}
"""A family of each kind: told of given frames in channels, by a level for each token, and by one level for all."""
EDITS = [
    ("text_to_video", 9, 9), ("text_to_image", 1, 1), ("image_to_video", 9, 9), ("sdedit", 9, 9),
    ("sdedit_frames", 9, 9), ("flow_edit", 9, 9), ("extend_forward", 21, 21), ("extend_backward", 25, 25),
    ("loop_by_turning", 9, 12), ("connect", 25, 43), ("morph", 9, 9), ("keyframes", 17, 17),
    ("long_video_by_frames", 9, 25), ("image_to_video_by_replacement", 9, 9),
]  # fmt: skip
FROM_A_PICTURE = {
    "image_to_video",
    "image_to_video_by_replacement",
    "extend_forward",
    "extend_backward",
    "connect",
    "keyframes",
}
MADE_FOR_OTHERS = {"loop": "knows no circle", "long_video": "long_video_by_frames", "samplers": "skipped or cached"}


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    """The files name their example clips from the repository's root."""
    monkeypatch.chdir(WORKFLOWS.parent)


@pytest.fixture(scope="module")
def runtime():
    return default_runtime()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {name: tiny_families.saved(make(), root / name) for name, make in MAKE.items()}


def asked(name: str, frames: int, folder: str) -> dict:
    """What a user would --set."""
    small = {"height": 32, "width": 32, "steps": 2, "frames": frames, "window": 17, "windows": 2, "model": folder}
    return {
        key: value
        for key, value in small.items()
        if key in json.loads((WORKFLOWS / f"{name}.json").read_text())["inputs"]
    }


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize(("name", "frames", "made"), EDITS, ids=[name for name, *_ in EDITS])
def test_an_edit_runs_on_an_open_model_or_is_refused_when_it_is_checked(kind, name, frames, made, folders, runtime):
    path, inputs = WORKFLOWS / f"{name}.json", asked(name, frames, folders[kind])
    if kind == "image_to_video" and name not in FROM_A_PICTURE:
        with pytest.raises(InvalidWorkflow, match=r"denoise/.*: This Wan model makes videos of pictures"):
            runtime.plan(path, inputs)
        return
    frames = runtime.run(path, inputs, outputs=["video"]).outputs["video"].frames
    assert frames.shape == (1, made, 3, 32, 32)
    assert frames.isfinite().all()


def test_what_is_given_in_a_loop_is_known_behind_it(folders, runtime):
    raw = json.loads((WORKFLOWS / "image_to_video.json").read_text())
    give = {"type": "give_video@1", "links": {"latent": "$latent", "vae": "$vae", "video": "$image"}}
    raw["nodes"]["twice"] = {"type": "repeat@1", "params": {"times": 2}}
    raw["nodes"]["given"] = {
        "type": "loop@1", "each": "twice", "carry": {"latent": "noise"},
        "links": {"vae": "model.vae", "image": "image"},
        "body": {"nodes": {"give": give}, "outputs": {"latent": "give"}},
    }  # fmt: skip
    raw["nodes"]["start"]["links"]["latent"] = "given.latent"
    runtime.plan(raw, asked("image_to_video", 9, folders["image_to_video"]))
    patches = raw["nodes"]["denoise"]["body"]["nodes"]["patches"]
    patches["links"]["latent"] = "$latent"
    with pytest.raises(InvalidWorkflow, match=r"denoise/guided: A HunyuanVideo model is told one noise level"):
        runtime.plan(raw, asked("image_to_video", 9, folders["one_level"]))


@pytest.mark.parametrize("name", MADE_FOR_OTHERS)
def test_what_only_models_of_ours_can_do_is_refused_when_it_is_checked(name, folders, runtime):
    frames = 16 if name == "loop" else 9
    with pytest.raises(InvalidWorkflow, match=MADE_FOR_OTHERS[name]):
        runtime.plan(WORKFLOWS / f"{name}.json", asked(name, frames, folders["levels"]))


@pytest.mark.parametrize(
    ("path", "step", "frames", "side"),
    [
        ("flipbook", 4, 81, 8), ("wan2.1-t2v-14b", 4, 81, 16), ("ltx-video-2b-0.9", 8, 81, 32),
        ("cogvideox-5b", 8, 81, 16), ("mochi-1", 6, 85, 16), ("hunyuanvideo", 4, 81, 16),
    ],
)  # fmt: skip
def test_sizes_are_judged_when_a_workflow_is_checked_each_with_the_nearest(path, step, frames, side, runtime):
    with pytest.raises(InvalidWorkflow) as refused:
        runtime.plan(WORKFLOWS / "text_to_video.json", {"model": path, "frames": 83, "height": 100, "width": 100})
    told = [f"frames = 83 is not 1 + a multiple of {step}; the nearest is {frames}."]
    told += [f"{name} = 100 is not a multiple of {side}; the nearest is 96." for name in ("height", "width")]
    assert all(sentence in str(refused.value) for sentence in told)


@pytest.fixture(scope="module")
def models(folders):
    return {name: any_model.load_any_model(folder, "float32") for name, folder in folders.items()}


def test_what_is_foretold_of_a_dit_is_what_is_loaded(folders, models):
    for name, folder in folders.items():
        foretold = video_models.foretold_video_model(folder)
        assert foretold.dit == replace(models[name].dit, network=None)
        assert foretold.vae.shows == models[name].vae.spec.shows


def test_a_model_is_sampled_at_its_own_levels(models):
    for name, theirs in {
        "image_to_video": lambda _: sample.shifted_sigmas(5, 8.0),
        "levels": lambda latent: schedules.stretch_sigmas(sample.shifted_sigmas(5, schedules.token_shift(latent))),
        "one_level": lambda _: sample.shifted_sigmas(5, 7.0),
    }.items():
        latent = sample.latent_noise(models[name].vae, 9, 32, 32)
        assert list(schedules.model_sigmas(models[name].dit, latent, 5)) == list(theirs(latent))
        assert list(schedules.model_sigmas(models[name].dit, latent, 5, 2.0)) == list(sample.shifted_sigmas(5, 2.0))


def test_given_cells_are_shown_under_the_noise_that_sampling_began_with(models):
    model, generator = models["one_level"], torch.Generator().manual_seed(3)
    noise = sample.latent_noise(model.vae, 9, 32, 32, seed=1)
    latent = edit.give_video(noise, model.vae, Video(torch.rand(1, 5, 3, 32, 32, generator=generator), 8.0))
    begun = edit.begin_sampling(latent)
    for sigma in (1.0, 0.6, 0.0):
        shown = replacement.renoise_given(model.dit, begun, noise, SigmaStep(sigma, 0.0))
        given, free = shown.x[:, :, :2], shown.x[:, :, 2:]
        assert (given - ((1 - sigma) * latent.clean + sigma * noise.x)[:, :, :2]).abs().max() < 1e-6
        assert torch.equal(free, begun.x[:, :, 2:])
        assert (shown.mask == 1).all()
    assert replacement.renoise_given(models["levels"].dit, begun, noise, SigmaStep(0.6, 0.0)) is begun


def test_near_a_clip_is_filled_up_with_stills(models):
    vae, generator = models["one_level"].vae, torch.Generator().manual_seed(4)
    noise = sample.latent_noise(vae, 17, 32, 32)
    clip = Video(torch.rand(1, 8, 3, 32, 32, generator=generator), 8.0)
    first, last = clip.frames[:, :1], clip.frames[:, -1:]

    def clean(frames, *place, near=False):
        given = edit.give_video(noise, vae, Video(frames, 8.0), *place, near=near)
        assert ((given.mask == 0) == (given.clean != 0).any(1, keepdim=True)).all()
        return given.clean

    whole = torch.cat([clip.frames, last], dim=1)
    assert torch.equal(clean(clip.frames, near=True), clean(whole))
    assert torch.equal(clean(whole, near=True), clean(whole))
    behind = video.vae_encode(vae, Video(torch.cat([first.expand(-1, 9, -1, -1, -1), clip.frames], dim=1), 8.0)).x
    assert torch.equal(clean(clip.frames, 0, True, near=True)[:, :, 3:], behind[:, :, 3:])
    still = first.expand(-1, 4, -1, -1, -1)
    assert torch.equal(clean(first, 14, near=True), clean(still, 13, near=True))
