"""Wan 2.2 with two transformers, against diffusers' pipeline that switches between them, tiny and in float32."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families
from test_wan import NOT, SHIFT, STEPS, WORDS, GivenLevels, levels

from kineograph import default_runtime
from kineograph.nodes import experts, lora, model, sample, text, video_models
from kineograph.nodes.sockets import SigmaStep

pytestmark = pytest.mark.usefixtures("no_gradients")
WORKFLOWS = Path(__file__).parent.parent / "workflows"
HIGH, LOW = 4.0, 3.0


@pytest.fixture(scope="module")
def pipeline():
    return tiny_families.wan_experts()


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory) -> str:
    return tiny_families.saved(pipeline, tmp_path_factory.mktemp("wan") / "Wan2.2-tiny")


@pytest.fixture(scope="module")
def wan(folder):
    return video_models.load_video_model(folder, dtype="float32")


def test_two_transformers_take_turns_as_in_the_pipeline(pipeline, wan):
    noise = sample.latent_noise(wan.vae, frames=9, height=32, width=32, fps=16.0, seed=3)
    pipeline.scheduler = GivenLevels()
    shown, not_shown = tiny_families.embedded(pipeline, WORDS, NOT)
    words = {"prompt_embeds": shown, "negative_prompt_embeds": not_shown}
    scales = {"guidance_scale": HIGH, "guidance_scale_2": LOW}
    size = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": STEPS}
    given = {"latents": noise.x.clone(), "output_type": "latent"}
    reference = pipeline(**words, **scales, **size, **given).frames
    latent, used = noise, set()
    for step in sample.shifted_sigmas(STEPS, SHIFT):
        patches, scale = sample.patchify(latent, 1, 2, 2), experts.scale_at(step, HIGH, LOW)
        asked = (text.encode_text(wan.text_encoder, words) for words in (WORDS, NOT))
        velocity = sample.guided_velocity(wan.dit, patches, *asked, step, scale)
        latent = sample.euler_step(latent, sample.unpatchify(velocity), step)
        used.add(scale)
    assert used == {HIGH, LOW}
    assert (latent.x - reference).abs().max() < 1e-5


def test_each_level_asks_the_expert_it_belongs_to(folder, wan):
    """The boundary itself is the first one's."""
    alone = [video_models.load_video_dit(f"{folder}/{name}", "float32") for name in ("transformer", "transformer_2")]
    joined = experts.join_experts(*alone, boundary=0.875)
    patches = sample.patchify(sample.latent_noise(wan.vae, frames=5, height=32, width=32), 1, 2, 2)
    words = text.encode_text(wan.text_encoder, WORDS)
    for level, which in ((1.0, 0), (0.875, 0), (0.874, 1), (0.1, 1)):
        ours, expected, other, loaded = (
            sample.dit_velocity(dit, patches, words, level).tokens
            for dit in (joined, alone[which], alone[1 - which], wan.dit)
        )
        assert torch.equal(ours, expected)
        assert torch.equal(loaded, expected)
        assert (ours - other).abs().max() > 1e-3


def test_two_experts_need_two_that_go_together_and_a_level(folder, wan, tmp_path):
    ours = model.start_dit(channels=4, width=32, depth=1, heads=2)
    with pytest.raises(ValueError, match="DiTs of load_video_dit"):
        experts.join_experts(ours, ours)
    index = Path(folder) / "model_index.json"
    for each in Path(folder).iterdir():
        (tmp_path / each.name).symlink_to(each)
    (tmp_path / index.name).unlink()
    (tmp_path / index.name).write_text(json.dumps(json.loads(index.read_text()) | {"boundary_ratio": None}))
    with pytest.raises(ValueError, match=r"two transformers, but boundary_ratio .* is None and not a level"):
        video_models.load_video_dit(str(tmp_path))
    with pytest.raises(ValueError, match="join_experts"):
        lora._applied(wan.dit, {}, None, "lora.safetensors", 1.0)


def test_a_file_of_either_changes_the_models_digest(folder, tmp_path):
    for each in Path(folder).iterdir():
        (tmp_path / each.name).symlink_to(each)
    before = video_models.video_dit_digest(str(tmp_path))
    assert before == video_models.video_dit_digest(folder)
    (tmp_path / "transformer_2").unlink()
    (tmp_path / "transformer_2").symlink_to(Path(folder) / "transformer")
    assert video_models.video_dit_digest(str(tmp_path)) != before


def test_a_guidance_scale_of_a_step():
    found = [experts.scale_at(SigmaStep(level, 0.0), HIGH, LOW) for level in levels()]
    assert found == sorted(found, reverse=True)
    assert {HIGH, LOW} == set(found)


def test_the_workflow_file_runs_on_a_folder(folder, tmp_path):
    raw = json.loads((WORKFLOWS / "wan_two_experts.json").read_text())
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    inputs = {"frames": 5, "height": 32, "width": 32, "steps": 3, "model": folder}
    one, other = (
        default_runtime().run(raw, inputs | scales, out=tmp_path).outputs["video"].frames
        for scales in ({"guidance": 4.0}, {"guidance": 2.0})
    )
    assert one.shape == (1, 5, 3, 32, 32)
    assert (one - other).abs().max() > 1e-6


def test_both_come_and_go_within_a_budget(folder, tmp_path):
    raw = json.loads((WORKFLOWS / "wan_two_experts.json").read_text())
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    inputs = {"frames": 5, "height": 32, "width": 32, "steps": 3, "model": folder}
    whole = default_runtime().run(raw, inputs, out=tmp_path).outputs["video"].frames
    residence = default_runtime().estimate(raw, inputs, memory=10**9).residence
    within = default_runtime().run(raw, inputs, out=tmp_path, memory=residence.least).outputs["video"].frames
    assert torch.equal(whole, within)
