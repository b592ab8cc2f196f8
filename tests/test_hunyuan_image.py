"""HunyuanVideo's image to video from a diffusers folder against diffusers' own pipeline, with tiny random weights."""

from __future__ import annotations

import json
from dataclasses import replace
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
from kineograph.nodes.families.layouts import language
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


def test_llavas_tensors_are_known_in_the_names_of_older_and_newer_releases():
    same = "layers.0.mlp.up_proj.weight", "vision.encoder.layers.0.mlp.fc1.weight", "projector.2.bias"
    for start, seen in (
        ("language_model.model.", "vision_tower.vision_model."),
        ("model.language_model.", "model.vision_tower."),
    ):
        names = f"{start}{same[0]}", seen + same[1].removeprefix("vision."), "multi_modal_projector.linear_2.bias"
        assert [language.llava_name(name) for name in names] == [f"language.{same[0]}", *same[1:]]
    assert language.llava_name("language_model.lm_head.weight") == language.llava_name("lm_head.weight") == ""
    assert language.llava_name("model.layers.0.mlp.up_proj.weight") is None


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


def sampled(dit, latent, words, steps):
    for step in sample.shifted_sigmas(steps, 7.0):
        said = sample.dit_velocity(dit, sample.patchify(latent, 1, 2, 2), words, step.sigma)
        latent = sample.euler_step(latent, sample.unpatchify(said), step)
    return latent


def asked(noise, picture, words, **more):
    """What the pipeline is asked for the same video, with words as we read them."""
    return {
        "image": picture, "prompt_embeds": words.tokens, "prompt_attention_mask": words.mask.float(),
        "pooled_prompt_embeds": words.pooled, "height": 32, "width": 48, "num_frames": 9,
        "num_inference_steps": STEPS, "latents": noise.x.clone(), **more,
    }  # fmt: skip


@pytest.fixture
def noise(model):
    return sample.latent_noise(model.vae, 9, 32, 48, fps=24.0, seed=3)


def test_image_to_video_is_that_of_the_pipeline_with_its_own_schedule(pipeline, model, picture, noise):
    given = edit.give_video(noise, model.vae, as_video(picture))
    words = pictures.encode_text_with_picture(model.text_encoder, as_video(picture), WORDS)
    latent = edit.begin_sampling(pictures.steady_noise(given, LEAN))
    latent = sampled(video_models.embedded_guidance(model.dit, GUIDANCE), latent, words, STEPS)
    ask = asked(noise, picture, words, guidance_scale=GUIDANCE)
    assert (latent.x - pipeline(**ask, output_type="latent").frames).abs().max() < 1e-5
    assert torch.equal(latent.x[:, :, 0], given.clean[:, :, 0])
    pixels = pipeline(**ask, output_type="pt").frames
    assert (video.vae_decode(model.vae, latent).frames - pixels).abs().max() < 1e-5


def test_the_first_release_is_told_of_the_picture_in_channels_as_the_pipeline_does(
    pipeline, model, picture, noise, tmp_path
):
    sizes = {"in_channels": 9, "guidance_embeds": False, "image_condition_type": "latent_concat"}
    torch.manual_seed(2)
    first = HunyuanVideoTransformer3DModel(**tiny_families.HUNYUAN_DIT | sizes).eval()
    first.save_pretrained(tmp_path)
    dit = video_models.load_video_dit(str(tmp_path), dtype="float32")
    vae = shown.show_given_frames(model.vae, kind="first")
    noise = replace(noise, spec=vae.spec)
    words = pictures.encode_text_with_picture(model.text_encoder, as_video(picture), WORDS, 2)
    latent = edit.begin_sampling(pictures.steady_noise(edit.give_video(noise, vae, as_video(picture)), LEAN))
    latent = sampled(dit, latent, words, STEPS)
    theirs = tiny_families.quiet(HunyuanVideoImageToVideoPipeline(**pipeline.components | {"transformer": first}))
    ask = asked(noise, picture, words, guidance_scale=1.0)
    assert (latent.x[:, :, 1:] - theirs(**ask, output_type="latent").frames).abs().max() < 1e-5
    ours = fit.trim_video(video.vae_decode(model.vae, latent), 4)
    assert (ours.frames - theirs(**ask, output_type="pt").frames).abs().max() < 1e-5
    with pytest.raises(ValueError, match="shown the first frame of a video alone"):
        edit.give_video(noise, vae, as_video(picture), at=4)


def test_without_its_picture_the_model_says_what_is_missing(model, picture, noise):
    with pytest.raises(ValueError, match="encode_text_with_picture in the place of encode_text"):
        text.encode_text(model.text_encoder, WORDS)
    with pytest.raises(ValueError, match="put give_video before this node"):
        pictures.steady_noise(noise)
    words = pictures.encode_text_with_picture(model.text_encoder, as_video(picture), WORDS)
    clip = Video(as_video(picture).frames.repeat(1, 5, 1, 1, 1), 24.0)
    for latent in (noise, edit.give_video(noise, model.vae, clip)):
        with pytest.raises(ValueError, match="makes videos of a picture, which is their first frame"):
            sample.dit_velocity(model.dit, sample.patchify(edit.begin_sampling(latent), 1, 2, 2), words)
    with pytest.raises(ValueError, match="5 frames are given: take the first"):
        pictures.encode_text_with_picture(model.text_encoder, clip, WORDS)


def test_the_workflow_file_runs_with_less_memory_as_its_nodes_do(model, folder, picture, tmp_path):
    picture.save(tmp_path / "first.png")
    raw = json.loads(WORKFLOW.read_text())
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    inputs = {"frames": 5, "height": 32, "width": 48, "model": folder, "steps": 2, "tile": 0, "prompt": WORDS}
    inputs |= {"image": str(tmp_path / "first.png"), "lean": LEAN, "guidance": GUIDANCE}
    ran = default_runtime().run(raw, inputs, out=tmp_path, memory=6_500_000).outputs["video"].frames
    given = edit.give_video(sample.latent_noise(model.vae, 5, 32, 48, fps=24.0), model.vae, as_video(picture))
    words = pictures.encode_text_with_picture(model.text_encoder, as_video(picture), WORDS)
    latent = edit.begin_sampling(pictures.steady_noise(given, LEAN))
    latent = sampled(video_models.embedded_guidance(model.dit, GUIDANCE), latent, words, 2)
    assert torch.equal(ran, video.vae_decode(model.vae, latent).frames)
