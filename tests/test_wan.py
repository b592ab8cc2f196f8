"""Wan 2.1 from folders and files, against diffusers' own pipelines, with tiny random weights in float32."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanVideoToVideoPipeline

from kineograph import default_runtime
from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.nodes import edit, lora, sample, schedules, solvers, text, video, video_models
from kineograph.nodes.networks.adapters import causal
from kineograph.nodes.networks.weights import load_weights, save_weights
from kineograph.nodes.sockets import Video
from kineograph.trial import Ledger

pytestmark = pytest.mark.usefixtures("no_gradients")
WORKFLOW = Path(__file__).parent.parent / "workflows" / "wan_text_to_video.json"
WORDS, NOT = "a red  circle &amp; a square", "blurred"
SIZE = {"frames": 9, "height": 32, "width": 32}
STEPS, SHIFT, SCALE = 5, 3.0, 6.0


@pytest.fixture(scope="module")
def pipeline():
    return tiny_families.wan_pipeline()


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory) -> str:
    return tiny_families.saved(pipeline, tmp_path_factory.mktemp("wan") / "Wan2.1-tiny")


@pytest.fixture(scope="module")
def model(folder):
    return video_models.load_video_model(folder, dtype="float32")


@pytest.fixture
def noise(model):
    return sample.latent_noise(model.vae, **SIZE, fps=16.0, seed=3)


def levels(shift: float = SHIFT) -> list[float]:
    return [step.sigma for step in sample.shifted_sigmas(STEPS, shift)]


class GivenLevels(FlowMatchEulerDiscreteScheduler):
    """Euler over the levels of our schedule: diffusers' own would shift them twice."""

    def set_timesteps(self, num_inference_steps=None, device=None, **_):
        super().set_timesteps(sigmas=levels(), device=device)


class ExactTimesteps(UniPCMultistepScheduler):
    """UniPC as it is, but the model is told the level of the step, where diffusers cuts timesteps to whole ones."""

    def set_timesteps(self, num_inference_steps=None, device=None, **_):
        super().set_timesteps(num_inference_steps, device=device)
        self.timesteps = self.sigmas[:-1] * 1000


def sampled(model, latent, sigmas, solver: str = "euler"):
    """The graph's body by hand."""
    shown, not_shown = (text.encode_text(model.text_encoder, words) for words in (WORDS, NOT))
    history = solvers.begin_history()
    for step in sigmas:
        patches = sample.patchify(latent, 1, 2, 2)
        guided = sample.guided_velocity(model.dit, patches, shown, not_shown, step, SCALE)
        velocity = sample.unpatchify(guided)
        if solver == "euler":
            latent = sample.euler_step(latent, velocity, step)
        else:
            latent, history = solvers.unipc_step(latent, velocity, step, history)
    return latent


def theirs(pipeline, scheduler, output_type="latent", **given):
    pipeline.scheduler = scheduler
    shown, not_shown = tiny_families.embedded(pipeline, WORDS, NOT)
    words = {"prompt_embeds": shown, "negative_prompt_embeds": not_shown, "guidance_scale": SCALE}
    size = {"height": SIZE["height"], "width": SIZE["width"]}
    return pipeline(**words, **size, num_inference_steps=STEPS, output_type=output_type, **given).frames


def test_prompts_are_embedded_as_by_the_pipeline(pipeline, model):
    shown, not_shown = tiny_families.embedded(pipeline, WORDS, NOT)
    for ours, found in ((WORDS, shown), (NOT, not_shown)):
        assert torch.equal(text.encode_text(model.text_encoder, ours).tokens, found)


def test_text_to_video_is_that_of_the_pipeline(pipeline, model, noise):
    given = {"num_frames": SIZE["frames"], "latents": noise.x.clone()}
    latent = sampled(model, noise, sample.shifted_sigmas(STEPS, SHIFT))
    reference = theirs(pipeline, GivenLevels(), **given)
    assert reference.abs().max() > 1
    assert (latent.x - reference).abs().max() < 1e-5
    pixels = theirs(pipeline, GivenLevels(), "pt", **given)
    assert (video.vae_decode(model.vae, latent).frames - pixels).abs().max() < 1e-5


def test_unipc_is_that_of_the_pipeline(pipeline, model, noise):
    scheduler = ExactTimesteps(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT)
    reference = theirs(pipeline, scheduler, num_frames=SIZE["frames"], latents=noise.x.clone())
    sigmas = scheduler.sigmas.tolist()
    ours = [sample.SigmaStep(*pair) for pair in pairwise(sigmas)]
    assert (sampled(model, noise, ours, "unipc").x - reference).abs().max() < 1e-5


def test_video_to_video_is_that_of_the_pipeline(pipeline, model, noise):
    clip = Video(torch.rand(1, 9, 3, 32, 32, generator=torch.Generator().manual_seed(5)), 16.0)
    parts = {name: part for name, part in pipeline.components.items() if "transformer_2" not in name}
    other = tiny_families.quiet(WanVideoToVideoPipeline(**parts))
    sigmas = sample.shifted_sigmas(STEPS, SHIFT)
    level = schedules.strength_sigma(sigmas, 0.6)
    source = video.vae_encode(model.vae, clip)
    start = edit.begin_sampling(edit.sdedit(noise, source, level))
    given = {"video": clip.frames[0], "strength": 0.6, "latents": None}

    class SameNoise(GivenLevels):
        def scale_noise(self, latents, timestep, _):
            return super().scale_noise(latents, timestep, noise.x)

    other.scheduler = SameNoise()
    reference = theirs(other, SameNoise(), **given)
    latent = sampled(model, start, schedules.sigmas_from(sigmas, level))
    assert (latent.x - reference).abs().max() < 1e-5
    assert (latent.x - source.x).abs().max() > 1e-2


def test_given_frames_keep_their_bits_and_others_hear_of_their_level(model, noise):
    """Image to video by levels per token, as Wan 2.2 5B does; the prefix rule of a causal VAE makes it exact."""
    picture = Video(torch.rand(1, 1, 3, 32, 32, generator=torch.Generator().manual_seed(6)), 16.0)
    given = edit.begin_sampling(edit.give_video(noise, model.vae, picture))
    latent = sampled(model, given, sample.shifted_sigmas(STEPS, SHIFT))
    assert torch.equal(latent.x[:, :, :1], video.vae_encode(model.vae, picture).x)
    free = sampled(model, noise, sample.shifted_sigmas(STEPS, SHIFT))
    assert (latent.x[:, :, 1:] - free.x[:, :, 1:]).abs().max() > 1e-3


def test_a_level_for_every_token_that_is_the_same_is_one_for_all(model, noise):
    shown = text.encode_text(model.text_encoder, WORDS)
    patches = sample.patchify(noise, 1, 2, 2)
    one = sample.dit_velocity(model.dit, patches, shown, 0.7)
    nearly = replace(patches, mask=torch.full_like(patches.mask, 0.7))
    nearly.mask[:, 0] += 1e-7
    many = sample.dit_velocity(model.dit, nearly, shown, 1.0)
    assert (one.tokens - many.tokens).abs().max() < 1e-4


def test_the_workflow_file_runs_on_a_folder_and_is_the_same_again(folder, tmp_path):
    inputs = SIZE | {"model": folder, "steps": 3, "prompt": WORDS}
    raw = json.loads(WORKFLOW.read_text())
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    first = default_runtime().run(raw, inputs, out=tmp_path).outputs["video"]
    again = default_runtime().run(raw, inputs, out=tmp_path).outputs["video"]
    assert first.frames.shape == (1, 9, 3, 32, 32)
    assert torch.equal(first.frames, again.frames)
    assert (tmp_path / "video.mp4").stat().st_size > 500


def test_half_precision_keeps_what_the_library_keeps_in_float32(folder):
    found = video_models.load_video_model(folder, dtype="bfloat16")
    weights = dict(found.dit.network.network.named_parameters())
    kept = {name for name, each in weights.items() if each.dtype is torch.float32}
    assert weights["blocks.0.attn1.to_q.weight"].dtype is torch.bfloat16
    assert {"scale_shift_table", "condition_embedder.time_embedder.linear_1.weight"} <= kept
    assert next(found.vae.network.parameters()).dtype is torch.float32
    assert {each.dtype for each in found.text_encoder.network.parameters()} == {torch.bfloat16}


def test_weights_of_the_dtype_asked_for_stay_in_the_file(folder, model):
    path = Path(folder) / "transformer" / "diffusion_pytorch_model.safetensors"
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    assert mapped


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_layers": 3}, "blocks.2"),
        ({"num_layers": 100_000}, "num_layers: Input should be less than or equal to 256"),
        ({"ffn_dim": "32"}, "ffn_dim: Input should be a valid integer"),
        ({"turbo": True}, "turbo: Extra inputs are not permitted"),
        ({"_class_name": "os.system"}, "is a os\\.system; known here are .*WanTransformer3DModel"),
    ],
)
def test_a_configuration_that_lies_is_refused(change, told, folder, tmp_path):
    part = tmp_path / "m" / "transformer"
    part.mkdir(parents=True)
    source = Path(folder) / "transformer"
    (part / "config.json").write_text(json.dumps(json.loads((source / "config.json").read_text()) | change))
    (part / "diffusion_pytorch_model.safetensors").symlink_to(source / "diffusion_pytorch_model.safetensors")
    (tmp_path / "m" / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match=told):
        video_models.load_video_model(str(tmp_path / "m"), dtype="float32")


def test_weights_that_do_not_fit_are_all_named(folder, tmp_path):
    part = tmp_path / "m" / "vae"
    part.mkdir(parents=True)
    source = Path(folder) / "vae"
    (part / "config.json").write_text((source / "config.json").read_text())
    state, _ = load_weights(source / "diffusion_pytorch_model.safetensors")
    state["more"] = state.pop("quant_conv.bias")
    save_weights(part / "diffusion_pytorch_model.safetensors", state)
    (tmp_path / "m" / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"quant_conv.bias: missing.*more: unexpected"):
        video_models.load_video_vae(str(tmp_path / "m"))


def test_a_folder_that_is_none_is_told_before_anything_runs():
    with pytest.raises(InvalidWorkflow, match="There is no model in 'nowhere'"):
        default_runtime().plan(WORKFLOW, {"model": "nowhere"})
    with pytest.raises(InvalidWorkflow, match=r"There is no file 'models/wan\.safetensors'; put it there\.$"):
        default_runtime().plan(WORKFLOW, {"model": "models/wan.safetensors"})


def test_a_published_size_can_be_planned_without_weights_and_not_run(folder):
    known = video_models.outlined_video_model("wan2.1-t2v-1.3b", "bfloat16", "float32")
    networks = (part.network.network for part in known)
    assert [sum(each.numel() for each in network.parameters()) for network in networks] == [
        1_418_996_800, 126_892_531, 5_680_910_336,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="only the sizes are known"):
        video_models.load_video_vae()
    rows = default_runtime().estimate(WORKFLOW, SIZE | {"model": folder, "steps": 2}).nodes
    assert {row.path for row in rows if row.unknown} == {"file"}


WRONG = [
    ({"frames": 16}, "the nearest is 17"),
    ({"height": 40}, "height = 40 is not a multiple of 16; the nearest is 32"),
    ({"frames": 16, "loop": True}, "roll_latent"),
]


@pytest.mark.parametrize(("size", "told"), WRONG)
def test_sizes_that_the_model_cannot_have_come_with_the_nearest(size, told, model):
    with pytest.raises(ValueError, match=told):
        sample.latent_noise(model.vae, **{**SIZE, **size})


@pytest.mark.parametrize("name", ["wan2.1-t2v-1.3b", "folder"])
def test_sizes_are_judged_when_the_graph_is_checked(name, folder):
    """Nothing has run: only configurations were read."""
    model = folder if name == "folder" else name
    runtime = default_runtime()
    assert runtime.problems(WORKFLOW, {"model": model}) == []
    found = runtime.problems(WORKFLOW, {"model": model, "frames": 83, "width": 850})
    assert [each.place for each in found] == ["noise"]
    assert "nearest is 81" in str(found[0])
    assert "width = 850 is not a multiple of 16; the nearest is 848" in str(found[0])


NAMES = {
    "kohya": ("lora_unet_blocks_1_self_attn_q", "lora_down", "lora_up"),
    "comfyui": ("diffusion_model.blocks.1.self_attn.q", "lora_down", "lora_up"),
    "diffusers": ("transformer.blocks.1.attn1.to_q", "lora_A", "lora_B"),
    "peft": ("base_model.model.blocks.1.attn1.to_q", "lora_A.default", "lora_B.default"),
}


@pytest.mark.parametrize("layout", NAMES)
def test_an_update_is_known_by_the_names_of_every_trainer(layout, model, noise, tmp_path):
    name, first, second = NAMES[layout]
    down, up = torch.randn(2, 24), torch.randn(24, 2)
    save_weights(tmp_path / "a.safetensors", {f"{name}.{first}.weight": down, f"{name}.{second}.weight": up})
    given = lora.apply_lora(model.dit, str(tmp_path / "a.safetensors"), 0.5)
    layer = model.dit.network.network.blocks[1].attn1.to_q
    asked = sample.patchify(noise, 1, 2, 2), text.encode_text(model.text_encoder, WORDS), 0.7
    ours, before = (sample.dit_velocity(dit, *asked).tokens for dit in (given, model.dit))
    kept = layer.weight.clone()
    layer.weight.data = kept + 0.5 * up @ down
    merged = sample.dit_velocity(model.dit, *asked).tokens
    layer.weight.data = kept
    assert (ours - merged).abs().max() < 1e-5
    assert (ours - before).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("at", "from_end", "count", "told"),
    [
        (0, True, 5, "Give the clip first"),
        (4, False, 1, "Give the clip first"),
        (0, False, 6, "trim_video to 5 frames"),
    ],
)
def test_what_a_causal_vae_cannot_be_given_is_refused_with_the_way_out(at, from_end, count, told, model, noise):
    clip = Video(torch.rand(1, count, 3, 32, 32), 16.0)
    with pytest.raises(ValueError, match=told):
        edit.give_video(noise, model.vae, clip, at, from_end)


def test_a_prefix_is_exact_and_a_suffix_is_not(model):
    """Why: the rule of causal VAEs."""
    clip = Video(torch.rand(1, 9, 3, 32, 32), 16.0)
    whole, first, last = (
        video.vae_encode(model.vae, replace(clip, frames=clip.frames[:, part])).x
        for part in (slice(None), slice(5), slice(4, None))
    )
    assert (whole[:, :, :2] - first).abs().max() < 1e-5
    assert (whole[:, :, 1:] - last).abs().max() > 1e-2


def test_a_loop_is_decoded_without_a_first_frame_alone(model, monkeypatch):
    """Turning the latent turns the clip, if the decoder has looked back far enough; random weights look far."""
    x = torch.randn(1, 16, 40, 2, 2, generator=torch.Generator().manual_seed(4))
    decode = model.vae.network.decode
    assert (decode(x, time="circle") - decode(torch.cat([x[:, :, -3:], x], dim=2))[:, :, 9:]).abs().max() < 1e-5
    monkeypatch.setattr(causal, "BORROWED", 36)
    clip, turned = decode(x, time="circle"), decode(x.roll(1, 2), time="circle")
    assert clip.shape[2] == 160
    assert (clip.roll(4, 2) - turned).abs().max() < 1e-5


def test_the_vae_works_in_pieces_whose_memory_does_not_grow_with_the_clip(pipeline, model):
    network = model.vae.network

    def peak(frames: int) -> int:
        x = torch.randn(1, 16, frames, 8, 8, generator=torch.Generator().manual_seed(5))
        with Ledger() as ledger:
            before = ledger.live
            for piece in network.decode_pieces(x):
                del piece
        return ledger.peak - before - 2 * x.nbytes  # the latent itself, normalised or not

    assert peak(32) <= 1.15 * peak(8)
    clip = torch.rand(1, 3, 9, 32, 32, generator=torch.Generator().manual_seed(5))
    mean, logvar = network.encode(clip)
    assert torch.equal(torch.cat(list(network.encode_pieces(clip)), dim=2), mean)
    assert logvar.shape == mean.shape
    raw = mean * network.deviation_C.view(1, -1, 1, 1, 1) + network.mean_C.view(1, -1, 1, 1, 1)
    assert torch.equal(network.decode(mean), pipeline.vae.decode(raw).sample / 2 + 0.5)
