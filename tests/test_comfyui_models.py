"""ComfyUI's graphs for open models: a loader for each file, the family's patch and shift, LoRAs; the bits of ours."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from test_wan_files import dit_names, in_old_names, vae_names
from tiny_families import (
    CLIP,
    WAN_DIT,
    WAN_IMAGE_DIT,
    WAN_VAE,
    saved,
    vace_pipeline,
    wan_experts,
    wan_image_pipeline,
    wan_pipeline,
)
from transformers import CLIPVisionConfig, CLIPVisionModel

from kineograph import default_runtime
from kineograph.interop.comfyui.importing import import_workflow
from kineograph.nodes.families.layouts import wan as wan_layout

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


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Wan 2.1, image to video, as the files that ComfyUI has: by input of the workflow."""
    pipeline, folder = wan_image_pipeline(), tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    pipeline.image_encoder = CLIPVisionModel(CLIPVisionConfig(**CLIP | {"hidden_size": 80, "num_attention_heads": 1}))
    sizes = WAN_IMAGE_DIT | {"image_dim": 80, "added_kv_proj_dim": 24}
    pipeline.transformer = WanTransformer3DModel(**sizes).eval()
    pipeline.vae = AutoencoderKLWan(**WAN_VAE | {"dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}).eval()
    dit = in_old_names(pipeline.transformer, dit_names(2, image=True), wan_layout.wan_dit_name)
    files = {
        "model": {f"model.diffusion_model.{name}": each for name, each in dit.items()},
        "vae": in_old_names(pipeline.vae, vae_names(), wan_layout.wan_vae_name),
        "text_encoder": {k: v for k, v in pipeline.text_encoder.state_dict().items() if "embed_tokens" not in k},
        "image_encoder": {f"vision_model.{name}": each for name, each in pipeline.image_encoder.state_dict().items()},
    }
    for name, state in files.items():
        (folder / name).mkdir()
        save_file({key: each.clone() for key, each in state.items()}, folder / name / "any.safetensors")
    (folder / "model" / "config.json").write_text(json.dumps({"num_heads": 2}))
    pipeline.tokenizer.save_pretrained(folder / "text_encoder")
    return {name: str(folder / name / "any.safetensors") for name in files} | {
        "whole": saved(pipeline, folder / "whole")
    }


def image_to_video(kind="WanImageToVideo", **more):
    """The API JSON of the graph that people have for Wan 2.1's image to video."""
    size = {"width": 32, "height": 32, "length": 5, "batch_size": 1}
    wires = {"positive": ["6", 0], "negative": ["7", 0], "vae": ["39", 0], "start_image": ["52", 0]}
    graph = wan(
        {
            "37": node("UNETLoader", unet_name="wan2.1_i2v_480p_14B_fp16.safetensors", weight_dtype="default"),
            "49": node("CLIPVisionLoader", clip_name="clip_vision_h.safetensors"),
            "51": node("CLIPVisionEncode", crop="none", clip_vision=["49", 0], image=["52", 0]),
            "52": node("LoadImage", image="a.png"),
            "40": node(kind, **size, **wires, clip_vision_output=["51", 0], **more),
        }
    )
    graph["3"]["inputs"] |= {"positive": ["40", 0], "negative": ["40", 1], "latent_image": ["40", 2]}
    return graph


@pytest.mark.parametrize("whole", [False, True])
def test_a_picture_becomes_a_video_as_by_our_own_file(whole, parts, tmp_path):
    """From four files in ComfyUI's names, wired with who tells the model of given frames; or from one folder."""
    found = import_workflow(image_to_video(), model=parts["whole"] if whole else None)
    assert found.problems == []
    assert ["show_given_frames@1" in (each["type"] for each in found.workflow["nodes"].values())] == [not whole]
    picture = {"image": "workflows/clips/blue_square.png"}
    files = {} if whole else {name: path for name, path in parts.items() if name != "whole"}
    given = {"prompt": PROMPT, "not_shown": "blurred", "seed": 5, "steps": 3, "frames": 5, "model": parts["whole"]}
    sizes = {"height": 32, "width": 32, "shift": 8.0, "guidance": 6.0}
    own = json.loads(Path("workflows/wan_image_to_video.json").read_text())
    own["nodes"]["image"] = {"type": "load_image@1", "links": {"path": "$image"}}
    own["nodes"]["fitted"] = {
        "type": "resize_video@1",
        "params": {"height": 32, "width": 32},
        "links": {"video": "image"},
    }
    own["nodes"]["given"]["links"]["video"] = "fitted"
    expected = RUNTIME.run(own, given | sizes | picture, outputs=["video"]).outputs["video"].frames
    assert (made(found.workflow, files | picture, tmp_path) - expected).abs().max() < 1e-5


def test_first_and_last_pictures_are_given_where_they_stand(parts):
    graph = image_to_video("WanFirstLastFrameToVideo", end_image=["52", 0])
    workflow = import_workflow(graph, model=parts["whole"]).workflow
    given = [each for each in workflow["nodes"].values() if each["type"] == "give_video@1"]
    assert [each.get("params", {}).get("from_end", False) for each in given] == [False, True]
    assert RUNTIME.problems(workflow, {"image": "workflows/clips/blue_square.png"}) == []


def test_a_clip_and_a_reference_lead_vace(tmp_path):
    """What stands before the video while it is sampled is cut off there by a node, and here by the decoder."""
    folder = saved(vace_pipeline(), tmp_path / "wan2.1-vace")
    size = {"width": 32, "height": 32, "length": 5, "batch_size": 1, "strength": 0.7}
    wires = {"positive": ["6", 0], "negative": ["7", 0], "vae": ["39", 0]}
    graph = wan(
        {
            "50": node("LoadVideo", file="a.mp4"),
            "51": node("GetVideoComponents", video=["50", 0]),
            "52": node("LoadImage", image="a.png"),
            "53": node("ImageToMask", image=["52", 0], channel="red"),
            "40": node("WanVaceToVideo", **size, **wires, control_video=["51", 0], reference_image=["52", 0]),
            "60": node("TrimVideoLatent", samples=["3", 0], trim_amount=["40", 3]),
            "8": node("VAEDecode", samples=["60", 0], vae=["39", 0]),
        }
    )
    graph["3"]["inputs"] |= {"positive": ["40", 0], "negative": ["40", 1], "latent_image": ["40", 2]}
    found = import_workflow(graph, model=folder)
    assert found.problems == []
    files = {"image": "workflows/clips/blue_square.png", "clip": "workflows/clips/blue_square_right.mp4"}
    own = json.loads(Path("workflows/wan_control.json").read_text())
    nodes = own["nodes"]
    nodes["read"] = {"type": "load_video@1", "links": {"path": "$clip"}}
    nodes["played"] = {"type": "play_at@1", "params": {"fps": 16.0}, "links": {"video": "read"}}
    fit = {"frames": 5, "height": 32, "width": 32}
    nodes["clip"] = {"type": "fit_video@1", "params": fit, "links": {"video": "played", "vae": "model.vae"}}
    nodes["loaded"] = {"type": "load_image@1", "params": {"path": files["image"]}}
    nodes["image"] = {"type": "resize_video@1", "params": {"height": 32, "width": 32}, "links": {"video": "loaded"}}
    picture = {"latent": "led", "vae": "model.vae", "image": "image", "seed": "$seed"}
    nodes["reference"] = {"type": "show_reference@1", "links": picture}
    nodes["start"]["links"]["latent"] = "reference"
    given = {"model": folder, "prompt": PROMPT, "not_shown": "blurred", "seed": 5, "steps": 3, "strength": 0.7}
    given |= {"clip": files["clip"], "frames": 5, "height": 32, "width": 32, "shift": 8.0, "guidance": 6.0}
    ours = RUNTIME.run(own, given, outputs=["video"]).outputs["video"].frames
    theirs = made(found.workflow, files, tmp_path)
    assert theirs.shape == (1, 5, 3, 32, 32)
    assert torch.equal(theirs, ours)
    graph["40"]["inputs"]["control_masks"] = ["53", 0]
    masked = import_workflow(graph, model=folder)
    assert not torch.equal(made(masked.workflow, files, tmp_path), theirs)
    graph["60"]["inputs"]["trim_amount"] = 1
    assert "vae_decode does so by itself" in str(import_workflow(graph, model=folder).problems)


def test_two_samplers_are_one_of_joined_experts(tmp_path):
    """Wan 2.2 A14B as people have it: a sampler for each half of the steps, each with a model of its own."""
    pipeline = wan_experts()
    pipeline.register_to_config(boundary_ratio=0.9)  # sigma is 0.96 after one of the four steps, 0.89 after two
    paths = []
    for number, each in enumerate((pipeline.transformer, pipeline.transformer_2)):
        each.save_pretrained(tmp_path / str(number) / "transformer")
        paths.append(str(tmp_path / str(number) / "transformer"))
    folder = saved(pipeline, tmp_path / "whole")
    graph = wan(
        {
            "36": node("UNETLoader", unet_name="wan2.2_t2v_low_noise_14B_fp16.safetensors", weight_dtype="default"),
            "46": node("ModelSamplingSD3", shift=8.0, model=["36", 0]),
        }
    )
    both = {"steps": 4, "cfg": 3.5, "sampler_name": "euler", "scheduler": "simple"}
    both |= {"positive": ["6", 0], "negative": ["7", 0]}
    first = {"add_noise": "enable", "noise_seed": 5, "start_at_step": 0, "end_at_step": 2, "model": ["48", 0]}
    first |= {"return_with_leftover_noise": "enable", "latent_image": ["40", 0]}
    second = {"add_noise": "disable", "noise_seed": 0, "start_at_step": 2, "end_at_step": 10000, "model": ["46", 0]}
    second |= {"return_with_leftover_noise": "disable", "latent_image": ["2", 0]}
    graph |= {"2": node("KSamplerAdvanced", **both, **first), "3": node("KSamplerAdvanced", **both, **second)}
    found = import_workflow(graph)
    assert found.problems == []
    files = {"model": paths[0], "model_2": paths[1], "vae": folder, "text_encoder": folder}
    once = graph | {"3": node("KSampler", **both, seed=5, denoise=1.0, model=["48", 0], latent_image=["40", 0])}
    joined = import_workflow(once, model=folder).workflow
    assert torch.equal(made(found.workflow, files, tmp_path), made(joined, {}, tmp_path))


def test_files_are_looked_for_where_comfyui_keeps_them():
    workflow = import_workflow(wan()).workflow
    assert {name: workflow["inputs"][name]["default"] for name in ("model", "text_encoder", "vae")} == {
        "model": "models/diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors",
        "text_encoder": "models/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        "vae": "models/vae/wan_2.1_vae.safetensors",
    }


def test_the_command_says_which_set_names_each_file_that_is_missing(cli, tmp_path):
    one = {"40": node("EmptyHunyuanLatentVideo", width=32, height=32, length=1, batch_size=1)}
    (tmp_path / "theirs.json").write_text(
        json.dumps(wan(one | {"47": node("SaveImage", images=["8", 0], filename_prefix="a")}))
    )
    code, _, said = cli("import", tmp_path / "theirs.json", "--to", tmp_path / "ours.json")
    assert code == 0
    for name in ("vae", "model", "text_encoder"):
        assert re.search(rf"to do: {name}: There is no file '.*'; put it there. Give another: --set {name}=...\n", said)
    assert "one MP4" not in said  # a picture is saved as one
    partial = wan({"3": node("FancySampler", latent_image=["40", 0]), "47": node("SaveImage", images=["8", 0])} | one)
    assert not any("one MP4" in remark.message for remark in import_workflow(partial).remarks)


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


@pytest.mark.parametrize(("family", "patch"), [("hunyuan_video", 2), ("mochi", 2)])
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
