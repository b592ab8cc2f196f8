"""ComfyUI's graphs for open models: a loader for each file, the family's patch and shift, LoRAs; the bits of ours."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from tiny_families import WAN_DIT, saved, wan_pipeline

from kineograph import default_runtime
from kineograph.interop.comfyui.importing import import_workflow

RUNTIME = default_runtime()
PROMPT = "a fox runs over snow"


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def wan(changed=None):
    """The API JSON of the graph that people have for Wan 2.1."""
    wires = {"model": ["48", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["40", 0]}
    given = {"seed": 5, "steps": 3, "cfg": 6.0, "sampler_name": "uni_pc", "scheduler": "simple", "denoise": 1.0}
    return {
        "37": node("UNETLoader", unet_name="wan2.1_t2v_1.3B_fp16.safetensors", weight_dtype="default"),
        "38": node("CLIPLoader", clip_name="umt5_xxl_fp8_e4m3fn_scaled.safetensors", type="wan", device="default"),
        "39": node("VAELoader", vae_name="wan_2.1_vae.safetensors"),
        "48": node("ModelSamplingSD3", shift=8.0, model=["37", 0]),
        "40": node("EmptyHunyuanLatentVideo", width=32, height=32, length=5, batch_size=1),
        "6": node("CLIPTextEncode", text=PROMPT, clip=["38", 0]),
        "7": node("CLIPTextEncode", text="blurred", clip=["38", 0]),
        "3": node("KSampler", **given, **wires),
        "8": node("VAEDecode", samples=["3", 0], vae=["39", 0]),
        "47": node("SaveWEBM", images=["8", 0], filename_prefix="ComfyUI", codec="vp9", fps=16.0, crf=13.0),
    } | (changed or {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(wan_pipeline(), tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def video(folder):
    """What our own workflow file makes of the same model, words and numbers."""
    given = {"model": folder, "prompt": PROMPT, "not_shown": "blurred", "seed": 5, "steps": 3, "frames": 5}
    sizes = {"height": 32, "width": 32, "shift": 8.0, "guidance": 6.0}
    return RUNTIME.run("workflows/wan_text_to_video.json", given | sizes, outputs=["video"]).outputs["video"].frames


def made(workflow, given, out):
    assert RUNTIME.problems(workflow, given) == []
    return RUNTIME.run(workflow, given, outputs=["video"], out=out).outputs["video"].frames


@pytest.mark.parametrize("whole", [False, True])
def test_the_bits_of_our_own_file(whole, folder, video, tmp_path):
    found = import_workflow(wan(), model=folder if whole else None)
    assert found.problems == []
    loaders = {spec["type"] for spec in found.workflow["nodes"].values() if spec["type"].startswith("load_")}
    parts = {"load_video_dit@1", "load_video_vae@1", "load_video_text_encoder@1"}
    assert loaders == ({"load_video_model@1"} if whole else parts)
    given = {} if whole else dict.fromkeys(("model", "vae", "text_encoder"), folder)
    assert torch.equal(made(found.workflow, given, tmp_path), video)


def test_files_are_looked_for_where_comfyui_keeps_them():
    workflow = import_workflow(wan()).workflow
    assert {name: workflow["inputs"][name]["default"] for name in ("model", "text_encoder", "vae")} == {
        "model": "models/diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors",
        "text_encoder": "models/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        "vae": "models/vae/wan_2.1_vae.safetensors",
    }


def test_a_lora_changes_the_video_and_one_of_no_strength_is_left_out(folder, video, tmp_path):
    width = WAN_DIT["num_attention_heads"] * WAN_DIT["attention_head_dim"]
    key, path = "diffusion_model.blocks.0.self_attn.q", tmp_path / "a.safetensors"
    save_file({f"{key}.lora_A.weight": torch.randn(2, width), f"{key}.lora_B.weight": torch.randn(width, 2)}, path)
    nothing = {"model": ["50", 0], "clip": ["38", 0], "lora_name": "b", "strength_model": 0.0, "strength_clip": 0.0}
    graph = wan(
        {
            "50": node("LoraLoaderModelOnly", model=["37", 0], lora_name="a.safetensors", strength_model=0.8),
            "51": node("LoraLoader", **nothing),
            "48": node("ModelSamplingSD3", shift=8.0, model=["51", 0]),
        }
    )
    found = import_workflow(graph, model=folder)
    assert found.problems == []
    assert found.workflow["inputs"]["lora"]["default"] == "models/loras/a.safetensors"
    assert [spec["type"] for spec in found.workflow["nodes"].values()].count("apply_lora@1") == 1
    assert not torch.equal(made(found.workflow, {"lora": str(path)}, tmp_path), video)


@pytest.mark.parametrize(("family", "patch"), [("hunyuan_video", 2), ("ltxv", 1), ("mochi", 2)])
def test_other_families_are_asked_for_as_folders(family, patch):
    text = node("CLIPLoader", clip_name="t", type=family)
    found = import_workflow(wan({"37": node("UNETLoader", unet_name="x.safetensors"), "38": text}))
    nodes = found.workflow["nodes"]
    assert nodes["model"]["type"] == "load_video_model@1"
    assert nodes["denoise"]["body"]["nodes"]["patches"].get("params", {}).get("height", 1) == patch
    assert any("as diffusers writes it" in remark.message for remark in found.remarks)


def test_a_graph_for_an_open_model_can_be_tried_on_the_embedded_one():
    workflow = import_workflow(wan(), model="flipbook").workflow
    assert workflow["nodes"]["model"]["type"] == "load_model@1"
    assert RUNTIME.problems(workflow) == []
