"""The workflow files on LTX-Video as people have it: a single file, a bare T5 and a tokenizer in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import ltx_names
import tiny_families

from kineograph import default_runtime
from kineograph.nodes import video_models
from kineograph.nodes.networks.weights import save_weights

WORKFLOWS = Path(__file__).parent.parent / "workflows"
SMALL = {"height": 64, "width": 64, "steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    made = tmp_path_factory.mktemp("LTX")
    ltx_names.write(made / "ltxv-2b-0.9.6-dev-04-25.safetensors", "0.9.5")
    save_weights(made / "t5xxl_fp16.safetensors", tiny_families.text_encoder("T5").state_dict())
    tiny_families.tokenizer().save_pretrained(made)
    return str(made)


def read(name: str) -> dict:
    return json.loads((WORKFLOWS / f"{name}.json").read_text())


def on_ltx(name: str, folder: str) -> dict:
    """A workflow file of the embedded model with LTX-Video in its place: another loader, another patch."""
    raw = read(name)
    del raw["inputs"]["model"]
    raw["nodes"]["model"] = {"type": "load_video_model@1", "params": {"path": folder, "dtype": "float32"}}
    raw["nodes"]["denoise"]["body"]["nodes"]["patches"]["params"] = {"height": 1, "width": 1}
    return raw


@pytest.mark.parametrize("name", ["ltx_text_to_video", "ltx_image_to_video"])
def test_the_workflow_file_runs_on_the_folder_and_is_the_same_again(name, folder, tmp_path):
    raw, inputs = read(name), SMALL | {"frames": 9, "model": folder}
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    first, again = (default_runtime().run(raw, inputs, out=tmp_path).outputs["video"] for _ in range(2))
    assert first.frames.shape == (1, 9, 3, 64, 64)
    assert torch.equal(first.frames, again.frames)


@pytest.mark.parametrize(
    ("name", "frames", "made"),
    [
        ("image_to_video", 9, 9),
        ("extend_backward", 25, 25),
        ("keyframes", 17, 17),
    ],
)
def test_edits_run_with_the_embedded_models_own_files(name, frames, made, folder, tmp_path):
    ran = default_runtime().run(on_ltx(name, folder), SMALL | {"frames": frames}, out=tmp_path)
    assert next(iter(ran.outputs.values())).frames.shape == (1, made, 3, 64, 64)


@pytest.mark.parametrize(
    ("name", "dit", "vae"),
    [
        ("ltx-video-2b-0.9", 1_923_385_472, 419_193_649),
        ("ltx-video-2b-0.9.1", 1_923_385_472, 934_976_434),
        ("ltx-video-13b-0.9.7", 13_042_569_344, 1_246_913_522),
    ],
)
def test_published_sizes_can_be_planned_and_sizes_are_judged(name, dit, vae):
    model = video_models.outlined_video_model(name, "bfloat16", "float32")
    counts = [sum(each.numel() for each in part.network.parameters()) for part in (model.dit, model.vae)]
    assert counts == [dit, vae]
    assert (model.vae.spec.time_ratio, model.vae.spec.space_ratio) == (8, 32)
    found = default_runtime().problems(
        WORKFLOWS / "ltx_text_to_video.json", {"model": name, "frames": 120, "width": 850}
    )
    assert "nearest is 121" in str(found[0]) and "850 is not a multiple of 32; the nearest is 864" in str(found[0])
