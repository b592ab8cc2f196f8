"""The workflow files of CogVideoX: planned by published names, run on tiny folders of 2b and 1.5."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families

from kineograph import default_runtime
from kineograph.nodes import video_models

WORKFLOWS = Path(__file__).parent.parent / "workflows"
WORKFLOW = WORKFLOWS / "cogvideox_text_to_video.json"
IN_15 = {"use_rotary_positional_embeddings": True, "attention_head_dim": 16, "num_attention_heads": 2}
IN_15 |= {"patch_size_t": 2, "patch_bias": False, "sample_height": 300, "sample_width": 300}


@pytest.mark.parametrize(("frames", "snr", "sizes"), [(9, 3.0, {}), (13, 1.0, IN_15)])
def test_the_workflow_file_runs_on_a_folder(frames, snr, sizes, tmp_path):
    """1.5 samples four frames more, which fill up its tokens and are left out. Each takes its own levels."""
    folder = tiny_families.saved(tiny_families.cogvideox_pipeline(snr, **sizes), tmp_path / "model")
    raw = json.loads(WORKFLOW.read_text())
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    inputs = {"frames": frames, "height": 32, "width": 32, "model": folder, "steps": 2, "tile": 0}
    assert default_runtime().run(raw, inputs, out=tmp_path).outputs["video"].frames.shape == (1, 9, 3, 32, 32)
    own = video_models.load_video_dit(folder, "float32")
    assert video_models.cogvideox_levels(dit=own).values.equal(video_models.cogvideox_levels(snr).values)


def test_the_file_of_image_to_video_runs_on_a_folder_and_is_the_same_again(tmp_path):
    shown = IN_15 | {"in_channels": 8, "ofs_embed_dim": 2}
    folder = tiny_families.saved(tiny_families.cogvideox_pipeline(1.0, **shown), tmp_path / "model")
    raw = json.loads((WORKFLOWS / "cogvideox_image_to_video.json").read_text())
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    inputs = {"frames": 13, "height": 32, "width": 32, "model": folder, "steps": 2, "tile": 0}
    first, again = (default_runtime().run(raw, inputs, out=tmp_path).outputs["video"].frames for _ in range(2))
    assert first.shape == (1, 9, 3, 32, 32)
    assert first.equal(again)


def test_sizes_of_published_models_are_judged_when_the_file_is_checked():
    runtime = default_runtime()

    def told(model, **given):
        return " ".join(map(str, runtime.problems(WORKFLOW, {"model": model, **given})))

    assert told("cogvideox-2b") == told("cogvideox-5b") == told("cogvideox-1.5-5b", frames=85) == ""
    assert "frames = 46 is not 1 + a multiple of 8; the nearest is 49" in told("cogvideox-2b", frames=46)
    assert "sample 85, of which leave_out_padding" in told("cogvideox-1.5-5b", frames=81)
    assert "leaves 81" in told("cogvideox-1.5-5b", frames=81)
    assert "height = 512, and this model takes 480 alone" in told("cogvideox-5b-i2v", height=512)


def test_a_model_of_another_family_has_no_such_levels():
    with pytest.raises(ValueError, match="none of CogVideoX"):
        video_models.cogvideox_levels(dit=video_models.outlined_video_dit("wan2.1-t2v-1.3b", "bfloat16"))
