"""ComfyUI's graph for LTX-Video: one checkpoint, a bare T5, levels by the number of tokens; the bits of ours."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import ltx_names
import tiny_families

from kineograph import default_runtime
from kineograph.interop.comfyui.importing import import_workflow
from kineograph.nodes.networks.weights import save_weights

RUNTIME = default_runtime()
CHECKPOINT, T5 = "ltx-video-2b-v0.9.5.safetensors", "t5xxl_fp16.safetensors"


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def graph() -> dict:
    """The API JSON of the graph that people have for LTX-Video."""
    rates = {"positive": ["6", 0], "negative": ["7", 0], "frame_rate": 25.0}
    levels = {"steps": 2, "max_shift": 2.05, "base_shift": 0.95, "stretch": True, "terminal": 0.1, "latent": ["70", 0]}
    wires = {"model": ["44", 0], "positive": ["69", 0], "negative": ["69", 1], "sampler": ["73", 0]}
    noise = {"add_noise": True, "noise_seed": 5, "cfg": 3.0, "sigmas": ["71", 0], "latent_image": ["70", 0]}
    return {
        "44": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "38": node("CLIPLoader", clip_name=T5, type="ltxv"),
        "6": node("CLIPTextEncode", text="a fox", clip=["38", 0]),
        "7": node("CLIPTextEncode", text="blurred", clip=["38", 0]),
        "69": node("LTXVConditioning", **rates),
        "70": node("EmptyLTXVLatentVideo", width=64, height=64, length=9, batch_size=1),
        "71": node("LTXVScheduler", **levels),
        "73": node("KSamplerSelect", sampler_name="euler"),
        "72": node("SamplerCustom", **wires, **noise),
        "8": node("VAEDecode", samples=["72", 0], vae=["44", 2]),
        "41": node("SaveWEBM", images=["8", 0], filename_prefix="ComfyUI", codec="vp9", fps=25.0, crf=13.0),
    }


def test_the_bits_of_our_own_file(tmp_path):
    ltx_names.write(tmp_path / CHECKPOINT, "0.9.5")
    save_weights(tmp_path / T5, tiny_families.text_encoder("T5").state_dict())
    tiny_families.tokenizer().save_pretrained(tmp_path)
    found = import_workflow(graph())
    assert found.problems == []
    assert {name: found.workflow["inputs"][name]["default"] for name in ("model", "text_encoder")} == {
        "model": f"models/checkpoints/{CHECKPOINT}",
        "text_encoder": f"models/text_encoders/{T5}",
    }
    files = {"model": str(tmp_path / CHECKPOINT), "text_encoder": str(tmp_path / T5)}
    assert RUNTIME.problems(found.workflow, files) == []
    made = RUNTIME.run(found.workflow, files, outputs=["video"], out=tmp_path).outputs["video"].frames
    given = {"model": str(tmp_path), "prompt": "a fox", "not_shown": "blurred", "seed": 5, "steps": 2, "frames": 9}
    ours = RUNTIME.run("workflows/ltx_text_to_video.json", given | {"height": 64, "width": 64}, outputs=["video"])
    assert torch.equal(made, ours.outputs["video"].frames)


def test_the_version_tells_who_reads_the_t5():
    older = graph() | {"44": node("CheckpointLoaderSimple", ckpt_name="ltx-video-2b-v0.9.1.safetensors")}
    readers = [
        import_workflow(each).workflow["nodes"]["text_encoder"]["params"]["reads_as"] for each in (older, graph())
    ]
    assert readers == ["ltx-video", "ltx-video-0.9.5"]
