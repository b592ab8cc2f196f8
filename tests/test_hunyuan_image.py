"""HunyuanVideo's image to video from a diffusers folder against diffusers' own pipeline, with tiny random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import numpy as np
import tiny_families
import transformers
from diffusers import HunyuanVideoImageToVideoPipeline, HunyuanVideoTransformer3DModel
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import DEFAULT_PROMPT_TEMPLATE
from PIL import Image

from kineograph import default_runtime
from kineograph.nodes import edit, fit, pictures, sample, shown, text, video, video_models
from kineograph.nodes.sockets import Video

pytestmark = pytest.mark.usefixtures("no_gradients")
WORDS = "the red circle moves"
WORKFLOW = Path(__file__).parent.parent / "workflows" / "hunyuan_image_to_video.json"
STEPS, GUIDANCE, LEAN = 4, 4.5, 0.001


@pytest.fixture(scope="module")
def pipeline() -> HunyuanVideoImageToVideoPipeline:
    """LLaVA sees 24 x 24 patches of a pixel each: 576 words of a picture, as the pipeline takes for granted."""
    plain = tiny_families.hunyuan_pipeline()
    torch.manual_seed(1)
    dit = HunyuanVideoTransformer3DModel(**tiny_families.HUNYUAN_DIT, image_condition_type="token_replace").eval()
    vision = tiny_families.CLIP | {"hidden_act": "quick_gelu", "image_size": 24, "patch_size": 1}
    config = transformers.LlavaConfig(
        text_config=plain.text_encoder.config.to_dict() | {"max_position_embeddings": 1024}, vision_config=vision,
        image_token_index=501, pad_token_id=0,
    )  # fmt: skip
    tokenizer = tiny_families.language_tokenizer(DEFAULT_PROMPT_TEMPLATE["template"] + "system\n\n" * 99)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    square = {"height": 24, "width": 24}
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size=square)
    parts = {name: getattr(plain, name) for name in ("vae", "scheduler", "text_encoder_2", "tokenizer_2")}
    made = HunyuanVideoImageToVideoPipeline(
        **parts, transformer=dit, tokenizer=tokenizer, image_processor=processor,
        text_encoder=transformers.LlavaForConditionalGeneration(config).eval(),
    )  # fmt: skip
    return tiny_families.quiet(made)


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory) -> str:
    return tiny_families.saved(pipeline, tmp_path_factory.mktemp("hunyuan") / "HunyuanVideo-I2V-tiny")


@pytest.fixture(scope="module")
def model(folder):
    return video_models.load_video_model(folder, dtype="float32")


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    pixels = torch.randint(0, 256, (32, 48, 3), generator=torch.Generator().manual_seed(4))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def as_video(image: Image.Image) -> Video:
    return Video(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None, None] / 255, 24.0)


@pytest.mark.parametrize("words", ["", WORDS, "a red circle moves " * 90])
def test_a_prompt_is_read_with_its_picture_as_the_pipeline_reads_it(pipeline, model, picture, words):
    square = picture.crop((0, 0, 24, 24))  # what needs no resizing: the libraries round pixels there
    tokens, pooled, mask = pipeline.encode_prompt(square, words, image_embed_interleave=4)
    ours, again = (pictures.encode_text_with_picture(model.text_encoder, as_video(square), words) for _ in range(2))
    assert torch.equal(ours.tokens, again.tokens)
    assert torch.equal(ours.mask, mask.bool())
    assert (ours.tokens - tokens * mask[..., None]).abs().max() < 1e-5
    assert (ours.pooled - pooled).abs().max() < 1e-5
    assert ours.mask.sum() > 144


def test_image_to_video_is_that_of_the_pipeline_with_its_own_schedule(pipeline, model, picture):
    noise = sample.latent_noise(model.vae, 9, 32, 48, fps=24.0, seed=3)
    given = edit.give_video(noise, model.vae, as_video(picture))
    latent = edit.begin_sampling(pictures.steady_noise(given, LEAN))
    dit = video_models.embedded_guidance(model.dit, GUIDANCE)
    words = pictures.encode_text_with_picture(model.text_encoder, as_video(picture.crop((0, 0, 24, 24))), WORDS)
    for step in sample.shifted_sigmas(STEPS, 7.0):
        said = sample.dit_velocity(dit, sample.patchify(latent, 1, 2, 2), words, step.sigma)
        latent = sample.euler_step(latent, sample.unpatchify(said), step)
    asked = {
        "image": picture, "prompt_embeds": words.tokens, "prompt_attention_mask": words.mask.float(),
        "pooled_prompt_embeds": words.pooled, "height": 32, "width": 48, "num_frames": 9,
        "num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "latents": noise.x.clone(),
    }  # fmt: skip
    reference = pipeline(**asked, output_type="latent").frames
    assert (latent.x - reference).abs().max() < 1e-5
    assert torch.equal(latent.x[:, :, 0], given.clean[:, :, 0])
    pixels = pipeline(**asked, output_type="pt").frames
    assert (video.vae_decode(model.vae, latent).frames - pixels).abs().max() < 1e-5


def test_without_its_picture_the_model_says_what_is_missing(model, folder, picture):
    noise = sample.latent_noise(model.vae, 9, 32, 48, fps=24.0, seed=3)
    with pytest.raises(ValueError, match="encode_text_with_picture in the place of encode_text"):
        text.encode_text(model.text_encoder, WORDS)
    with pytest.raises(ValueError, match="put give_video before this node"):
        pictures.steady_noise(noise)
    words = pictures.encode_text_with_picture(model.text_encoder, as_video(picture), WORDS)
    for latent in (
        noise,
        edit.give_video(noise, model.vae, Video(as_video(picture).frames.repeat(1, 5, 1, 1, 1), 24.0)),
    ):
        with pytest.raises(ValueError, match="makes videos of a picture, which is their first frame"):
            sample.dit_velocity(model.dit, sample.patchify(edit.begin_sampling(latent), 1, 2, 2), words)
    with pytest.raises(ValueError, match="2 frames are given: take the first"):
        pictures.encode_text_with_picture(model.text_encoder, Video(torch.rand(1, 2, 3, 8, 8), 24.0), WORDS)


def test_the_workflow_file_runs_with_less_memory_too_and_is_planned(folder, picture, tmp_path):
    runtime = default_runtime()
    picture.save(tmp_path / "first.png")
    raw = json.loads(WORKFLOW.read_text())
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    inputs = {"frames": 5, "height": 32, "width": 48, "model": folder, "steps": 2, "tile": 0, "prompt": WORDS}
    inputs |= {"image": str(tmp_path / "first.png")}
    free, tight = (
        default_runtime().run(raw, inputs, out=tmp_path, memory=memory).outputs["video"].frames
        for memory in (None, 6_500_000)
    )
    assert torch.equal(free, tight)
    assert free.shape == (1, 5, 3, 32, 48)
    rows = runtime.estimate(WORKFLOW, inputs).nodes
    assert {row.path for row in rows if row.unknown} == {"file"}


def test_the_first_release_is_told_of_the_picture_in_channels_as_the_pipeline_does(pipeline, model, picture, tmp_path):
    sizes = {"in_channels": 9, "guidance_embeds": False, "image_condition_type": "latent_concat"}
    torch.manual_seed(2)
    first = HunyuanVideoTransformer3DModel(**tiny_families.HUNYUAN_DIT | sizes).eval()
    first.save_pretrained(tmp_path)
    dit = video_models.load_video_dit(str(tmp_path), dtype="float32")
    vae = shown.show_given_frames(model.vae, kind="picture")
    noise = sample.latent_noise(vae, 9, 32, 48, fps=24.0, seed=3)
    latent = edit.begin_sampling(pictures.steady_noise(edit.give_video(noise, vae, as_video(picture)), LEAN))
    words = pictures.encode_text_with_picture(model.text_encoder, as_video(picture), WORDS, 2)
    for step in sample.shifted_sigmas(STEPS, 7.0):
        said = sample.dit_velocity(dit, sample.patchify(latent, 1, 2, 2), words, step.sigma)
        latent = sample.euler_step(latent, sample.unpatchify(said), step)
    asked = {
        "image": picture, "prompt_embeds": words.tokens, "prompt_attention_mask": words.mask.float(),
        "pooled_prompt_embeds": words.pooled, "height": 32, "width": 48, "num_frames": 9, "latents": noise.x.clone(),
    }  # fmt: skip
    parts = pipeline.components | {"transformer": first}
    reference = tiny_families.quiet(HunyuanVideoImageToVideoPipeline(**parts))
    theirs = reference(**asked, num_inference_steps=STEPS, guidance_scale=1.0, output_type="latent").frames
    assert (latent.x[:, :, 1:] - theirs).abs().max() < 1e-5
    pixels = reference(**asked, num_inference_steps=STEPS, guidance_scale=1.0, output_type="pt").frames
    ours = fit.trim_video(video.vae_decode(model.vae, latent), 4)
    assert (ours.frames - pixels).abs().max() < 1e-5
    with pytest.raises(ValueError, match="shown the first frame of a video alone"):
        edit.give_video(noise, vae, as_video(picture), at=4)
