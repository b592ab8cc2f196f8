"""VACE: Wan led by a clip, against diffusers' pipeline, tiny and in float32."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import PIL.Image
import tiny_families
from test_wan import NOT, SCALE, SHIFT, STEPS, WORDS, GivenLevels, sampled
from test_wan_files import LINEARS, dit_names, in_old_names

from kineograph import default_runtime
from kineograph.nodes import edit, hand_over, lora, sample, shown, splice, video, video_models
from kineograph.nodes.families.layouts.wan import vace_dit_name
from kineograph.nodes.networks.weights import save_weights
from kineograph.nodes.sockets import Video

pytestmark = pytest.mark.usefixtures("no_gradients")
WORKFLOWS = Path(__file__).parent.parent / "workflows"
CLIP = Video(torch.rand(1, 9, 3, 32, 32, generator=torch.Generator().manual_seed(7)), 16.0)
FIRST, LAST = (Video(CLIP.frames[:, place], 16.0) for place in (slice(1), slice(8, None)))
WHERE = Video(
    (torch.rand(1, 9, 1, 32, 32, generator=torch.Generator().manual_seed(8)) > 0.3).float().expand(-1, -1, 3, -1, -1),
    16.0,
)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_families.vace_pipeline()


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory) -> str:
    return tiny_families.saved(pipeline, tmp_path_factory.mktemp("wan") / "Wan2.1-VACE-tiny")


@pytest.fixture(scope="module")
def model(folder):
    return video_models.load_video_model(folder, dtype="float32")


@pytest.fixture
def noise(model):
    return sample.latent_noise(model.vae, frames=9, height=32, width=32, fps=16.0, seed=3)


def theirs(pipeline, noise, clip, mask, strength=1.0, references=None):
    pipeline.scheduler = GivenLevels()
    shown_words, not_shown = tiny_families.embedded(pipeline, WORDS, NOT)
    words = {"prompt_embeds": shown_words, "negative_prompt_embeds": not_shown, "guidance_scale": SCALE}
    size = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": STEPS}
    given = {"video": clip, "mask": mask, "conditioning_scale": strength, "reference_images": references}
    return pipeline(**given, **words, **size, latents=noise.x.clone(), output_type="latent").frames


def ours(model, latent):
    return sampled(model, edit.begin_sampling(latent), sample.shifted_sigmas(STEPS, SHIFT)).x


def test_a_control_clip_leads_as_in_the_pipeline(pipeline, model, noise):
    led = shown.show_control(noise, model.vae, CLIP, strength=0.7)
    reference = theirs(pipeline, noise, CLIP.frames, torch.ones_like(CLIP.frames), 0.7)
    assert (ours(model, led) - reference).abs().max() < 1e-5
    assert (ours(model, shown.show_control(noise, model.vae, CLIP, strength=1.5)) - reference).abs().max() > 1e-4


def test_a_part_of_a_clip_is_drawn_anew_as_in_the_pipeline(pipeline, model, noise):
    led = shown.show_control(noise, model.vae, CLIP, WHERE)
    assert (ours(model, led) - theirs(pipeline, noise, CLIP.frames, WHERE.frames)).abs().max() < 1e-5


def test_given_frames_are_kept_as_in_the_pipeline(pipeline, model, noise):
    """First and last frame, grey between, as VACE's authors prepare them."""
    given = edit.give_video(edit.give_video(noise, model.vae, FIRST), model.vae, LAST, from_end=True)
    clip, mask = torch.full_like(CLIP.frames, 0.5), torch.ones_like(CLIP.frames)
    clip[:, 0], clip[:, -1], mask[:, 0], mask[:, -1] = FIRST.frames[:, 0], LAST.frames[:, 0], 0, 0
    assert (ours(model, given) - theirs(pipeline, noise, clip, mask)).abs().max() < 1e-5


def test_what_is_given_and_what_leads_may_come_in_either_order(model, noise):
    led = shown.show_control(noise, model.vae, CLIP, WHERE, strength=0.6)
    one = edit.give_video(led, model.vae, FIRST)
    rest = Video(CLIP.frames[:, 1:], 16.0), Video(WHERE.frames[:, 1:], 16.0)
    other = shown.show_control(edit.give_video(noise, model.vae, FIRST), model.vae, *rest, at=1, strength=0.6)
    assert torch.equal(one.shown.channels, other.shown.channels)
    assert one.shown.strength == other.shown.strength == 0.6
    assert (one.shown.channels - led.shown.channels).abs().max() > 1e-2


def test_references_stand_before_the_video_as_in_the_pipeline(pipeline, model, noise):
    """A wide picture and a tall one, beside a clip that leads, in whatever order they are given; then decoded."""
    bytes_ = [torch.randint(256, (*size, 3), dtype=torch.uint8).numpy() for size in ((16, 40), (48, 24))]
    images = [PIL.Image.fromarray(each) for each in bytes_]
    pictures = [Video(torch.tensor(each).permute(2, 0, 1)[None, None] / 255, 16.0) for each in bytes_]
    one = shown.show_reference(noise, model.vae, pictures[0], seed=1)
    both = shown.show_reference(shown.show_control(one, model.vae, CLIP, WHERE), model.vae, pictures[1], seed=2)
    assert (both.references, both.x.shape[2], both.frames) == (2, 5, 9)
    reference = theirs(pipeline, both, CLIP.frames, WHERE.frames, references=images)
    made = sampled(model, edit.begin_sampling(both), sample.shifted_sigmas(STEPS, SHIFT))
    assert (made.x - reference).abs().max() < 1e-5
    unseen = both.shown.channels.clone()
    unseen[:, :, :2] = 0
    hidden = ours(model, replace(both, shown=replace(both.shown, channels=unseen)))
    assert (hidden - reference).abs().max() > 1e-3
    assert torch.equal(video.vae_decode(model.vae, made).frames, video.vae_decode(model.vae, cut(made)).frames)
    assert hand_over.fresh_noise(made).frames == splice.last_groups(made, leave_out=True).frames + 8 == 9
    assert torch.equal(splice.roll_latent(made, step=1).x[:, :, [0, 1, 3, 4, 2]], made.x)
    again, anew = (shown.show_reference(noise, model.vae, pictures[0], seed=seed) for seed in (1, 2))
    assert torch.equal(again.x, one.x)
    assert torch.equal(anew.x[:, :, 1:], noise.x)
    assert not torch.equal(anew.x, one.x)
    soft = edit.sdedit(noise, cut(made), 0.6)
    assert torch.equal(shown.show_reference(soft, model.vae, pictures[0]).mask[:, :, 1:], soft.mask)
    assert ours(model, shown.show_reference(soft, model.vae, pictures[0])).isfinite().all()  # one level for all
    with pytest.raises(ValueError, match="put show_reference behind this"):
        edit.sdedit(one, cut(made), 0.6)
    alone = theirs(pipeline, one, torch.full_like(CLIP.frames, 0.5), torch.ones_like(CLIP.frames), references=images[0])
    assert (ours(model, one) - alone).abs().max() < 1e-5


def cut(latent):
    """The video alone, which is told of no references."""
    return replace(latent, x=latent.x[:, :, latent.references :], shown=None)


def test_what_cannot_be_led_is_told(model, noise, folder):
    vae = video_models.load_video_vae(folder)
    plain = sample.latent_noise(vae, frames=9, height=32, width=32, fps=16.0)
    with pytest.raises(ValueError, match="Only VACE models are led by a clip"):
        shown.show_control(plain, vae, CLIP)
    with pytest.raises(ValueError, match="or shown references"):
        shown.show_reference(plain, vae, FIRST)
    with pytest.raises(ValueError, match="where has 3 frames"):
        shown.show_control(noise, model.vae, CLIP, Video(WHERE.frames[:, :3], 16.0))
    with pytest.raises(ValueError, match="it is shown none"):
        ours(model, noise)
    frames = shown.show_given_frames(vae)
    told = edit.give_video(sample.latent_noise(frames, frames=9, height=32, width=32, fps=16.0), frames, FIRST)
    with pytest.raises(ValueError, match="takes 96 channels beside the noise, and is shown frames in 20"):
        ours(model, told)
    soft = edit.sdedit_frames(edit.give_video(noise, model.vae, FIRST), plain, [0.2, 0.9])
    with pytest.raises(ValueError, match="one noise level for the whole clip"):
        ours(model, soft)


def test_a_single_file_in_wans_own_names_is_the_same_dit(pipeline, tmp_path):
    names = [*dit_names(4), *(f"vace_patch_embedding.{end}" for end in LINEARS)]
    names += [f"vace_{name}" for name in dit_names(2) if name.startswith("blocks.")]
    names += [
        f"vace_blocks.{place}.{end}" for place in ("0.before_proj", "0.after_proj", "1.after_proj") for end in LINEARS
    ]
    network = pipeline.transformer
    assert {vace_dit_name(name) for name in names} == set(network.state_dict())
    save_weights(tmp_path / "vace.safetensors", in_old_names(network, names, vace_dit_name))
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 2}))
    found = video_models.load_video_dit(str(tmp_path / "vace.safetensors"), "float32").network.network
    assert found.config.vace_layers == network.config.vace_layers
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in network.state_dict().items())


def test_a_lora_of_text_to_video_fits(model, noise):
    """In Wan's names, as trainers write it."""
    name = "diffusion_model.blocks.1.self_attn.q"
    state = {f"{name}.lora_down.weight": torch.ones(2, 24), f"{name}.lora_up.weight": torch.ones(24, 2)}
    changed = lora._applied(model.dit, state, None, "wan.safetensors", 1.0)
    given = edit.give_video(noise, model.vae, FIRST)
    assert (ours(model, given) - ours(model._replace(dit=changed), given)).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["image_to_video", "connect"])
def test_edits_run_with_the_embedded_models_own_files(name, folder, tmp_path):
    raw = json.loads((WORKFLOWS / f"{name}.json").read_text())
    del raw["inputs"]["model"]
    raw["nodes"]["model"] = {"type": "load_video_model@1", "params": {"path": folder, "dtype": "float32"}}
    raw["nodes"]["denoise"]["body"]["nodes"]["patches"]["params"] = {"height": 2, "width": 2}
    inputs = {"steps": 2, "height": 32, "width": 32, "frames": 17}
    ran = default_runtime().run(raw, inputs, out=tmp_path)
    assert next(iter(ran.outputs.values())).frames.shape[0] == 1


@pytest.mark.parametrize(("name", "count"), [("wan2.1-vace-1.3b", 2.2), ("wan2.1-vace-14b", 17.3)])
def test_published_sizes_can_be_planned(name, count):
    model = video_models.outlined_video_model(name, "bfloat16", "float32")
    assert round(sum(each.numel() for each in model.dit.network.parameters()) / 1e9, 1) == count


def test_the_workflow_file_runs_on_a_folder(folder, tmp_path):
    raw = json.loads((WORKFLOWS / "wan_control.json").read_text())
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    inputs = {"height": 32, "width": 32, "steps": 2, "model": folder}
    one, other = (
        default_runtime().run(raw, inputs | {"strength": strength}, out=tmp_path).outputs["video"].frames
        for strength in (1.0, 0.0)
    )
    assert one.shape == (1, 33, 3, 32, 32)
    assert (one - other).abs().max() > 1e-4


def test_the_workflow_file_of_references_runs_on_a_folder(folder, tmp_path):
    raw = json.loads((WORKFLOWS / "wan_reference.json").read_text())
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    inputs = {"height": 32, "width": 32, "frames": 5, "steps": 2, "model": folder}
    one, other = (
        default_runtime().run(raw, inputs | more, out=tmp_path, outputs=["video", "denoise"]).outputs
        for more in ({}, {"image": "workflows/clips/keyframe_a.png"})
    )
    assert one["video"].frames.shape == (1, 5, 3, 32, 32)
    assert (one["denoise.latent"].x - other["denoise.latent"].x).abs().max() > 1e-4
