"""Wan's own image to video, by channels beside the noise or by levels, against diffusers' pipeline in float32."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families
import transformers
from test_wan import NOT, SCALE, SHIFT, STEPS, WORDS, GivenLevels, sampled
from test_wan_files import dit_names, in_old_names

from kineograph import default_runtime
from kineograph.nodes import edit, sample, shown, video, video_models
from kineograph.nodes.families.layouts.wan import wan_dit_name
from kineograph.nodes.model import load_vae
from kineograph.nodes.networks.adapters import clip
from kineograph.nodes.networks.weights import save_weights
from kineograph.nodes.sockets import Video

pytestmark = pytest.mark.usefixtures("no_gradients")
WORKFLOWS = Path(__file__).parent.parent / "workflows"
SIZE = {"frames": 9, "height": 32, "width": 32}


def whole_pixels(seed: int, frames: int = 1) -> Video:
    """Of bytes: the image processor of CLIP sees no others."""
    made = torch.Generator().manual_seed(seed)
    return Video(torch.randint(0, 256, (1, frames, 3, 32, 32), generator=made) / 255, 16.0)


FIRST, LAST = whole_pixels(1), whole_pixels(2)


class Tiny:
    """A pipeline of diffusers, and its folder loaded as ours."""

    def __init__(self, folder, pipeline) -> None:
        self.pipeline = pipeline
        self.folder = tiny_families.saved(self.pipeline, folder)
        self.model = video_models.load_video_model(self.folder, dtype="float32")
        self.noise = sample.latent_noise(self.model.vae, **SIZE, fps=16.0, seed=3)

    def theirs(self, last: Video | None = None, output_type: str = "latent") -> torch.Tensor:
        self.pipeline.scheduler = GivenLevels()
        shown, not_shown = tiny_families.embedded(self.pipeline, WORDS, NOT)
        words = {"prompt_embeds": shown, "negative_prompt_embeds": not_shown, "guidance_scale": SCALE}
        size = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": STEPS}
        pictures = {"image": as_image(FIRST), "last_image": last and as_image(last)}
        given = {"latents": self.noise.x.clone(), "output_type": output_type}
        return self.pipeline(**pictures, **words, **size, **given).frames

    def ours(self, latent):
        return sampled(self.model, edit.begin_sampling(latent), sample.shifted_sigmas(STEPS, SHIFT))


def as_image(picture: Video):
    from PIL import Image

    return Image.fromarray((picture.frames[0, 0].permute(1, 2, 0) * 255).round().byte().numpy())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("i2v") / "Wan2.2-tiny", tiny_families.wan_image_pipeline(looks=False))


@pytest.fixture(scope="module")
def looking(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("i2v") / "Wan2.1-tiny", tiny_families.wan_image_pipeline())


@pytest.fixture(scope="module")
def between(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("i2v") / "Wan2.1-FLF-tiny", tiny_families.wan_image_pipeline(pictures=2))


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("i2v") / "Wan2.2-A14B-tiny", tiny_families.wan_experts(image=True))


@pytest.fixture(scope="module")
def by_levels(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("i2v") / "Wan2.2-5B-tiny", tiny_families.wan_levels_pipeline())


@pytest.mark.parametrize("kind", ["plain", "looking", "experts", "by_levels"])
def test_image_to_video_is_that_of_the_pipeline(kind, request):
    tiny = request.getfixturevalue(kind)
    given = edit.give_video(tiny.noise, tiny.model.vae, FIRST)
    latent = tiny.ours(given)
    assert (latent.x - tiny.theirs()).abs().max() < 1e-5
    pixels = tiny.theirs(output_type="pt")
    assert (video.vae_decode(tiny.model.vae, latent).frames - pixels).abs().max() < 1e-5
    assert (given.shown is None) == (kind == "by_levels")
    other = tiny.ours(edit.give_video(tiny.noise, tiny.model.vae, LAST))
    assert (latent.x - other.x).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["plain", "between"])
def test_first_and_last_frame_are_that_of_the_pipeline(kind, request):
    tiny = request.getfixturevalue(kind)
    first = edit.give_video(tiny.noise, tiny.model.vae, FIRST)
    both = edit.give_video(first, tiny.model.vae, LAST, from_end=True)
    assert (tiny.ours(both).x - tiny.theirs(LAST)).abs().max() < 1e-5


def test_frames_given_anywhere_are_told_frame_by_frame(plain):
    """The channels by hand: four numbers for each latent frame, then the latent of the clip that is grey elsewhere."""
    vae, clip = plain.model.vae, whole_pixels(4, 3)
    first = edit.give_video(plain.noise, vae, FIRST)
    given = edit.give_video(first, vae, clip, at=4)
    assert torch.equal(given.x, plain.noise.x)
    assert torch.equal(given.mask, torch.ones_like(given.mask))
    mask, values = given.shown.channels.split([4, 16], dim=1)
    assert mask[0, :, :, 0, 0].T.tolist() == [[1, 1, 1, 1], [0, 0, 0, 1], [1, 1, 0, 0]]
    whole = torch.full((1, 9, 3, 32, 32), 0.5)
    whole[:, 0], whole[:, 4:7] = FIRST.frames[:, 0], clip.frames[0]
    assert torch.equal(values, video.vae_encode(vae, Video(whole, 16.0)).x)
    again = edit.give_video(given, vae, LAST, at=4)
    assert again.shown.frames == given.shown.frames == (0, 4, 5, 6)
    assert torch.equal(again.shown.pixels[:, 1], LAST.frames[:, 0])


def test_several_clips_are_each_shown_their_own_picture(looking):
    noise = sample.latent_noise(looking.model.vae, **SIZE, fps=16.0, clips=2, seed=3)
    pictures = Video(torch.cat([FIRST.frames, LAST.frames]), 16.0)
    both = edit.give_video(noise, looking.model.vae, pictures)
    for i in range(2):
        alone = replace(noise, x=noise.x[i : i + 1], clean=noise.clean[i : i + 1], mask=noise.mask[i : i + 1])
        alone = edit.give_video(alone, looking.model.vae, Video(pictures.frames[i : i + 1], 16.0))
        assert (looking.ours(both).x[i] - looking.ours(alone).x[0]).abs().max() < 1e-5


def test_what_is_missing_is_told_with_the_way_out(plain, looking, between, tmp_path):
    vae = video_models.load_video_vae(looking.folder)
    noise = sample.latent_noise(vae, **SIZE, fps=16.0)
    for tiny, given, told in (
        (plain, plain.noise, "it is shown none: put give_video"),
        (plain, edit.give_video(noise, vae, FIRST), "show_given_frames behind it"),
        (looking, edit.give_video(plain.noise, plain.model.vae, FIRST), "load_image_encoder into show_given_frames"),
        (between, edit.give_video(between.noise, between.model.vae, FIRST), "only one is given"),
    ):
        with pytest.raises(ValueError, match=told):
            tiny.ours(given)
    words = video_models.load_video_dit(tiny_families.saved(tiny_families.wan_pipeline(), tmp_path), "float32")
    given = edit.give_video(plain.noise, plain.model.vae, FIRST)
    with pytest.raises(ValueError, match="takes 0 channels beside the noise, and is shown frames in 20"):
        sampled(plain.model._replace(dit=words), given, sample.shifted_sigmas(1))
    with pytest.raises(ValueError, match="vae_decode what shall be handed on"):
        edit.give_latent(plain.noise, plain.noise)
    with pytest.raises(ValueError, match="This one is given frames as they are"):
        shown.show_given_frames(load_vae())


def test_parts_loaded_alone_are_the_same_model(looking):
    """Each from its own folder."""
    folder = Path(looking.folder)
    dit = video_models.load_video_dit(f"{folder}/transformer", "float32")
    looks = video_models.load_image_encoder(str(folder))
    vae = shown.show_given_frames(video_models.load_video_vae(f"{folder}/vae"), looks)
    given = edit.give_video(sample.latent_noise(vae, **SIZE, fps=16.0, seed=3), vae, FIRST)
    expected = edit.give_video(looking.noise, looking.model.vae, FIRST)
    assert torch.equal(given.shown.pictures, expected.shown.pictures)
    ours = sampled(looking.model._replace(dit=dit, vae=vae), given, sample.shifted_sigmas(2))
    assert torch.equal(ours.x, sampled(looking.model, expected, sample.shifted_sigmas(2)).x)


def test_a_single_file_in_wans_own_names_is_the_same_dit(between, tmp_path):
    names = [*dit_names(2, image=True), "img_emb.emb_pos"]
    save_weights(tmp_path / "flf2v.safetensors", in_old_names(between.pipeline.transformer, names, wan_dit_name))
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 2}))
    found = video_models.load_video_dit(str(tmp_path / "flf2v.safetensors"), "float32")
    assert found.network.config == between.model.dit.network.config
    for name, tensor in between.pipeline.transformer.state_dict().items():
        assert torch.equal(found.network.network.state_dict()[name], tensor)


@pytest.mark.parametrize("size", [(32, 32), (48, 80), (61, 37)])
def test_pictures_are_seen_as_by_the_processor(size, looking):
    """But for its rounding to bytes, where it makes a picture smaller."""
    made = torch.Generator().manual_seed(5)
    coarse = torch.rand(1, 3, 8, 8, generator=made)
    picture = (torch.nn.functional.interpolate(coarse, size, mode="bilinear") * 255).round() / 255
    image = as_image(Video(picture[None], 16.0))
    pixels = looking.pipeline.image_processor(images=image, return_tensors="pt").pixel_values
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (clip.MEAN, clip.DEVIATION))
    ours = (clip.middle_square(picture, 32) - mean) / deviation
    bound = 1e-5 if size == (32, 32) else 1.01 / 255 / min(clip.DEVIATION)
    assert (ours - pixels).abs().max() < bound


def older_names(state):
    """As releases of transformers before 5, and ComfyUI."""
    more = {"visual_projection.weight": torch.ones(2, 80), "vision_model.embeddings.position_ids": torch.ones(1, 5)}
    return {f"vision_model.{name}": each for name, each in state.items()} | more


def wans_names(state):
    """As wan/modules/clip.py of Wan's repository has them."""
    made = {"log_scale": torch.ones([]), "textual.norm.weight": torch.ones(3), "visual.head": torch.ones(80, 2)}
    made["visual.cls_embedding"] = state["embeddings.class_embedding"][None, None]
    made["visual.pos_embedding"] = state["embeddings.position_embedding.weight"][None]
    made["visual.patch_embedding.weight"] = state["embeddings.patch_embedding.weight"]
    for end in ("weight", "bias"):
        for old, new in (("pre_layrnorm", "pre_norm"), ("post_layernorm", "post_norm")):
            made[f"visual.{new}.{end}"] = state[f"{old}.{end}"]
        for i in range(3):
            old, new = f"encoder.layers.{i}", f"visual.transformer.{i}"
            parts = [state[f"{old}.self_attn.{each}_proj.{end}"] for each in "qkv"]
            made[f"{new}.attn.to_qkv.{end}"] = torch.cat(parts)
            made[f"{new}.attn.proj.{end}"] = state[f"{old}.self_attn.out_proj.{end}"]
            for place, inner in (
                ("norm1", "layer_norm1"),
                ("norm2", "layer_norm2"),
                ("mlp.0", "mlp.fc1"),
                ("mlp.2", "mlp.fc2"),
            ):
                made[f"{new}.{place}.{end}"] = state[f"{old}.{inner}.{end}"]
    return made


@pytest.mark.parametrize("named", [older_names, wans_names])
def test_files_of_an_image_encoder_in_other_names_are_read(named, tmp_path):
    config = transformers.CLIPVisionConfig(**tiny_families.CLIP | {"hidden_size": 80, "num_attention_heads": 1})
    network = transformers.CLIPVisionModel(config).eval()
    torch.save({name: each.clone() for name, each in named(network.state_dict()).items()}, tmp_path / "clip.pth")
    found = video_models.load_image_encoder(str(tmp_path))
    seen = network(torch.zeros(1, 3, 32, 32), output_hidden_states=True).hidden_states[-2]
    grey = torch.tensor(clip.MEAN)[None, :, None, None].expand(1, 3, 32, 32)
    assert (found.network(grey) - seen).abs().max() < 1e-5
    assert found.network.network.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("name", ["wan2.1-i2v-14b", "wan2.1-flf2v-14b", "wan2.2-i2v-a14b", "wan2.2-t2v-a14b"])
def test_published_sizes_can_be_planned(name):
    model = video_models.outlined_video_model(name, "bfloat16", "float32")
    experts = getattr(model.dit.network, "high", model.dit.network), getattr(model.dit.network, "low", None)
    count = sum(each.numel() for expert in experts if expert is not None for each in expert.parameters())
    assert round(count / 1e9, 1) == {"wan2.1-i2v-14b": 16.4, "wan2.1-flf2v-14b": 16.4}.get(name, 28.6)
    assert model.vae.spec.shows == ("" if "t2v" in name else "frames")
    assert (model.vae.image_encoder is not None) == ("wan2.1" in name)


@pytest.mark.parametrize("kind", ["looking", "experts", "by_levels"])
def test_the_workflow_file_runs_on_a_folder_and_is_the_same_again(kind, request, tmp_path):
    raw, inputs = asked(request.getfixturevalue(kind).folder)
    first, again = (default_runtime().run(raw, inputs, out=tmp_path).outputs["video"] for _ in range(2))
    assert first.frames.shape == (1, 5, 3, 32, 32)
    assert torch.equal(first.frames, again.frames)


def test_a_plan_knows_all_but_the_file_and_weights_come_and_go_within_its_least_budget(looking, tmp_path):
    """Also those of the image encoder."""
    raw, inputs = asked(looking.folder)
    plan = default_runtime().estimate(raw, inputs, memory=10**9)
    assert {row.path for row in plan.nodes if row.unknown} == {"file"}
    whole, within = (
        default_runtime().run(raw, inputs, out=tmp_path, memory=memory).outputs["video"]
        for memory in (None, plan.residence.least)
    )
    assert torch.equal(whole.frames, within.frames)


def asked(folder: str) -> tuple[dict, dict]:
    """The workflow file of image to video in float32, and small inputs."""
    raw = json.loads((WORKFLOWS / "wan_image_to_video.json").read_text())
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    return raw, {"frames": 5, "height": 32, "width": 32, "steps": 2, "model": folder}
