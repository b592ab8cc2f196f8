"""HunyuanVideo from a diffusers folder against diffusers' own pipeline, with tiny random weights in float32."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families
from diffusers import AutoencoderKLHunyuanVideo

from kineograph import default_runtime
from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.nodes import edit, lora, sample, text, video, video_models
from kineograph.nodes.families.finding import files, find
from kineograph.nodes.families.tokens import tokenizer
from kineograph.nodes.networks.tiles import Faded
from kineograph.nodes.networks.weights import load_weights, save_weights
from kineograph.nodes.sockets import TextEmbedding, Video
from kineograph.nodes.train import encoded

pytestmark = pytest.mark.usefixtures("no_gradients")
WORDS, NOT = "a red circle", "blurred"
SIZE = {"frames": 29, "height": 32, "width": 48}
WORKFLOW = Path(__file__).parent.parent / "workflows" / "hunyuan_text_to_video.json"
STEPS, GUIDANCE = 5, 4.5


@pytest.fixture(scope="module")
def pipeline():
    return tiny_families.hunyuan_pipeline()


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory):
    return tiny_families.saved(pipeline, tmp_path_factory.mktemp("hunyuan") / "HunyuanVideo-tiny")


@pytest.fixture(scope="module")
def model(folder):
    return video_models.load_video_model(folder, dtype="float32")


@pytest.fixture
def noise(model):
    return sample.latent_noise(model.vae, **SIZE, fps=24.0, seed=3)


def sampled(model, latent, guidance=GUIDANCE, scale=1.0):
    dit = video_models.embedded_guidance(model.dit, guidance)
    shown, not_shown = (text.encode_text(model.text_encoder, words) for words in (WORDS, NOT))
    for step in sample.shifted_sigmas(STEPS, 7.0):
        patches = sample.patchify(latent, 1, 2, 2)
        if scale == 1:
            said = sample.dit_velocity(dit, patches, shown, step.sigma)
        else:
            said = sample.guided_velocity(dit, patches, shown, not_shown, step, scale)
        latent = sample.euler_step(latent, sample.unpatchify(said), step)
    return latent


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_text_to_video_is_that_of_the_pipeline_with_its_own_schedule(pipeline, model, noise, scale):
    latent = sampled(model, noise, scale=scale)
    given = {"height": 32, "width": 48, "num_frames": 29, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
    words = {"prompt": WORDS, "negative_prompt": NOT, "true_cfg_scale": scale}
    reference = pipeline(**words, **given, latents=noise.x.clone(), output_type="latent").frames
    assert (latent.x - reference).abs().max() < 1e-5
    pixels = pipeline(**words, **given, latents=noise.x.clone(), output_type="pt").frames
    assert (video.vae_decode(model.vae, latent).frames - pixels).abs().max() < 1e-5
    assert pixels.std() > 0.01


def test_guidance_and_the_pooled_vector_are_heard(model, noise):
    patches = sample.patchify(noise, 1, 2, 2)
    words = text.encode_text(model.text_encoder, WORDS)
    plain = sample.dit_velocity(model.dit, patches, words).tokens
    louder = video_models.embedded_guidance(model.dit, 12.0)
    assert not torch.equal(sample.dit_velocity(louder, patches, words).tokens, plain)
    assert torch.equal(sample.dit_velocity(model.dit, patches, words).tokens, plain)  # the first is as it was
    other = TextEmbedding(words.tokens, words.mask, words.pooled + 1)
    assert not torch.equal(sample.dit_velocity(model.dit, patches, other).tokens, plain)
    with pytest.raises(ValueError, match="pooled vector"):
        sample.dit_velocity(model.dit, patches, TextEmbedding(words.tokens, words.mask))


def test_prompts_are_read_as_the_pipeline_reads_them(pipeline, model):
    long = "a red circle {moves} " * 40  # longer than both encoders take
    for words in ("", WORDS, long):
        tokens, pooled, mask = pipeline.encode_prompt(words)
        ours = text.encode_text(model.text_encoder, words)
        assert torch.equal(ours.mask, mask.bool())
        assert (ours.tokens - tokens * mask[..., None]).abs().max() < 1e-5
        assert (ours.pooled - pooled).abs().max() < 1e-5
    assert ours.mask.all()


def test_training_batches_keep_the_pooled_vector(model):
    shown, empty = (text.encode_text(model.text_encoder, words) for words in (WORDS, ""))
    two = TextEmbedding(*(torch.cat(pair) for pair in zip(text_parts(shown), text_parts(empty), strict=True)))
    kept = encoded.drop_text(two, empty, drop=0.0)
    assert torch.equal(kept.pooled, two.pooled)
    assert torch.equal(encoded.drop_text(two, empty, drop=1.0).pooled, torch.cat([empty.pooled] * 2))


def text_parts(text):
    return text.tokens, text.mask, text.pooled


def test_an_update_beside_its_layers_is_told_the_guidance_too(model, noise, tmp_path):
    up, down = torch.randn(20, 2), torch.randn(2, 20)
    name = "transformer.transformer_blocks.0.attn.to_q"
    save_weights(tmp_path / "a.safetensors", {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up})
    asked = sample.patchify(noise, 1, 2, 2), text.encode_text(model.text_encoder, WORDS), 0.7
    told = video_models.embedded_guidance(model.dit, 12.0)
    updated = lora.apply_lora(told, str(tmp_path / "a.safetensors"), 0.5)
    layer = model.dit.network.network.transformer_blocks[0].attn.to_q
    kept = layer.weight.clone()
    layer.weight.data = kept + 0.5 * up @ down
    merged = sample.dit_velocity(told, *asked).tokens
    layer.weight.data = kept
    assert (sample.dit_velocity(updated, *asked).tokens - merged).abs().max() < 1e-5
    assert (sample.dit_velocity(told, *asked).tokens - merged).abs().max() > 1e-4


def test_only_hunyuanvideo_is_told_a_guidance(tmp_path):
    other = video_models.load_video_dit(tiny_families.saved(tiny_families.ltx_pipeline(), tmp_path / "LTX"), "float32")
    with pytest.raises(ValueError, match="take guided_velocity and its scale"):
        video_models.embedded_guidance(other)


@pytest.mark.parametrize("frames", [1, 5, 13, 17, 21, 25, 29])
def test_the_vae_decodes_as_the_library_in_stretches_of_time(pipeline, model, frames):
    x = torch.randn(1, 4, 1 + frames // 4, 4, 4, generator=torch.Generator().manual_seed(5))
    theirs = pipeline.vae.decode(x * torch.tensor(1 / pipeline.vae.config.scaling_factor)).sample
    assert torch.equal(model.vae.network.decode(x), (theirs / 2 + 0.5).clamp(0, 1))


def test_the_vae_encodes_as_the_library(pipeline, model):
    clip = Video(torch.rand(1, 29, 3, 32, 32, generator=torch.Generator().manual_seed(2)), 24.0)
    mean = pipeline.vae.encode(2 * clip.frames.transpose(1, 2) - 1).latent_dist.mean
    assert (video.vae_encode(model.vae, clip).x - mean * pipeline.vae.config.scaling_factor).abs().max() < 1e-5


def test_tiles_are_those_of_the_library(pipeline, model):
    clip = Video(torch.rand(1, 17, 3, 40, 48, generator=torch.Generator().manual_seed(2)), 24.0)
    whole = video.vae_encode(model.vae, clip)
    tiled = video.vae_encode(model.vae, clip, tile=32)
    vae = tiny_families.hunyuan_pipeline().vae
    vae.enable_tiling(32, 32, None, 24, 24)
    scale = vae.config.scaling_factor
    theirs = vae.encode(2 * clip.frames.transpose(1, 2) - 1).latent_dist.mean * scale
    assert (tiled.x - theirs).abs().max() < 1e-5
    assert not torch.equal(tiled.x, whole.x)
    pixels = (vae.decode(theirs / scale).sample / 2 + 0.5).clamp(0, 1).transpose(1, 2)
    assert (video.vae_decode(model.vae, tiled, tile=30).frames - pixels).abs().max() < 1e-5
    assert not model.vae.network.network.use_tiling


def test_the_vae_decodes_in_memory_that_does_not_grow_with_the_clip(model):
    assert tiny_families.decoding_peak(model, 28) <= 1.15 * tiny_families.decoding_peak(model, 7)


def test_frames_cannot_be_given_to_a_model_that_knows_one_level(model, noise):
    picture = Video(torch.rand(1, 1, 3, 32, 48), 24.0)
    with pytest.raises(ValueError, match="one noise level for the whole clip"):
        sampled(model, edit.begin_sampling(edit.give_video(noise, model.vae, picture)))


def test_sizes_come_with_the_nearest(model):
    with pytest.raises(ValueError, match="1 \\+ a multiple of 4; the nearest is 29"):
        sample.latent_noise(model.vae, **SIZE | {"frames": 30})


def test_clips_tokenizer_is_read_from_its_two_tables_too(tmp_path):
    theirs = tiny_families.clip_tokenizer()
    tables = json.loads(theirs.backend_tokenizer.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(tables["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, tables["merges"])))
    prompts = ["", "A  red\tcircle isn't 42,\nñ!", "red " * 100]
    wanted = theirs(prompts, truncation=True, max_length=77).input_ids
    assert [each.ids for each in tokenizer(tmp_path, 77).encode_batch(prompts)] == wanted


def test_tensors_of_older_libraries_are_read(folder, tmp_path):
    copy = tmp_path / "old"
    shutil.copytree(folder, copy)
    path = copy / "text_encoder_2" / "model.safetensors"
    state, _ = load_weights(path)
    old = {f"text_model.{name}": tensor.clone() for name, tensor in state.items()}
    old["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_weights(path, old)
    encoders = (video_models.load_video_text_encoder(str(each), "float32") for each in (copy, folder))
    assert torch.equal(*[text.encode_text(each, WORDS).pooled for each in encoders])
    save_weights(path, old | {"text_projection.weight": torch.zeros(8, 8)})
    with pytest.raises(ValueError, match=r"1 of its tensors are not known: text_projection\.weight"):
        video_models.load_video_text_encoder(str(copy), "float32")


def test_configurations_of_older_libraries_are_read(pipeline, folder, tmp_path):
    old = {name: value for name, value in pipeline.text_encoder.config.to_dict().items() if name != "rope_parameters"}
    old |= {"rope_theta": 1234.0, "rope_scaling": None, "architectures": ["LlamaModel"]}
    copy = tmp_path / "old"
    shutil.copytree(folder, copy)
    config = copy / "text_encoder" / "config.json"
    config.write_text(json.dumps(old))
    found = find(str(copy), "text_encoder")
    assert found.kind.build(found.config).config.rope_parameters["rope_theta"] == 1234.0
    names = {path.relative_to(copy).as_posix() for path in files(str(copy), "text_encoder")}
    assert {"text_encoder_2/model.safetensors", "tokenizer_2/tokenizer.json", "tokenizer/tokenizer.json"} <= names
    config.write_text(json.dumps(old | {"rope_scaling": {"type": "linear"}}))
    with pytest.raises(ValueError, match="rope_scaling"):
        find(str(copy), "text_encoder")


def test_the_workflow_file_runs_on_a_folder_and_judges_sizes_before(folder, tmp_path):
    tiny_families.runs_and_judges_sizes(WORKFLOW, (folder, "hunyuanvideo"), tmp_path, frames=5, wrong=130, nearest=129)


def test_the_same_bits_with_less_memory_than_its_weights_and_values_take(folder, tmp_path):
    raw = json.loads(WORKFLOW.read_text())
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    inputs = {"frames": 5, "height": 32, "width": 32, "model": folder, "steps": 2, "tile": 0}
    budget = 1_450_000
    free, tight = (
        default_runtime().run(raw, inputs, out=tmp_path, memory=memory).outputs["video"].frames
        for memory in (None, budget)
    )
    assert torch.equal(free, tight)
    with pytest.raises(InvalidWorkflow, match=r"text: It needs .* at once"):  # both of its encoders are counted
        default_runtime().run(raw, inputs, out=tmp_path, memory=budget // 2)


@pytest.mark.parametrize("numbers", ["bfloat16", "float8_e4m3fn"])
def test_smaller_numbers_load_and_sample(folder, numbers):
    model = video_models.load_video_model(folder, dtype=numbers, vae_dtype="bfloat16")
    assert {each.dtype for each in model.dit.network.parameters()} == {torch.bfloat16, getattr(torch, numbers)}
    noise = sample.latent_noise(model.vae, 5, 32, 32)
    words = text.encode_text(model.text_encoder, WORDS)
    said = sample.unpatchify(sample.dit_velocity(model.dit, sample.patchify(noise, 1, 2, 2), words, 0.5))
    assert said.x.dtype is torch.float32
    assert video.vae_decode(model.vae, said).frames.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("axis", [3, 4])
def test_tiles_fade_as_those_of_the_library_to_the_bit(axis, dtype) -> None:
    before, tile = (torch.randn(1, 3, 2, 9, 11, generator=torch.Generator().manual_seed(n)).to(dtype) for n in (0, 1))
    blend = AutoencoderKLHunyuanVideo.blend_v if axis == 3 else AutoencoderKLHunyuanVideo.blend_h
    assert torch.equal(Faded(axis)(before, tile.clone(), 7), blend(None, before, tile.clone(), 7))
