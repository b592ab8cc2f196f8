"""ComfyUI's workflow files become ours: the same bits where ours says the same, and every problem at once."""

from __future__ import annotations

import copy
import json
import struct

import pytest
import torch

from kineograph import default_runtime
from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.interop.comfyui.importing import import_workflow
from kineograph.interop.comfyui.rules_sampling import SAMPLERS, SCHEDULERS

RUNTIME = default_runtime()


def node(kind, title="", **inputs):
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}


def text_to_video(**sampler):
    """The API JSON of a graph that makes a video with flipbook."""
    given = {"seed": 7, "steps": 3, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    wires = {"model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    return {
        "4": node("CheckpointLoaderSimple", ckpt_name="flipbook.safetensors"),
        "10": node("ModelSamplingSD3", shift=3.0, model=["4", 0]),
        "5": node("EmptyHunyuanLatentVideo", width=64, height=64, length=17, batch_size=1),
        "6": node("CLIPTextEncode", "Positive", text="a red circle moves right", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="", clip=["4", 1]),
        "3": node("KSampler", **(given | sampler | wires)),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("CreateVideo", images=["8", 0], fps=8.0),
        "11": node("SaveVideo", filename_prefix="video/%date%ComfyUI", format="auto", codec="auto", video=["9", 0]),
    }


def imported(raw, **how):
    """The workflow of a graph that can be had whole."""
    found = import_workflow(raw, **how)
    assert found.problems == []
    return found.workflow


def kinds(workflow):
    return {name: spec["type"] for name, spec in workflow["nodes"].items()}


def test_a_text_to_video_graph_makes_the_bits_of_our_own_file(tmp_path):
    workflow = imported(text_to_video())
    assert RUNTIME.problems(workflow) == []
    theirs = RUNTIME.run(workflow, out=tmp_path)
    ours = RUNTIME.run("workflows/text_to_video.json", {"steps": 3, "seed": 7}, outputs=["video"])
    assert torch.equal(theirs.outputs["video"].frames, ours.outputs["video"].frames)
    assert theirs.outputs["video"].fps == 8.0
    assert (tmp_path / "video" / "ComfyUI.mp4").is_file()
    assert {"prompt", "seed", "steps", "guidance", "frames", "height", "width", "model"} == set(workflow["inputs"])


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_every_known_sampler_makes_a_valid_loop(sampler, scheduler):
    workflow = imported(text_to_video(sampler_name=sampler, scheduler=scheduler))
    assert RUNTIME.problems(workflow) == []


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "euler_ancestral"])
def test_samplers_run(sampler, tmp_path):
    frames = RUNTIME.run(imported(text_to_video(sampler_name=sampler, steps=2)), out=tmp_path).outputs["video"].frames
    assert frames.shape == (1, 17, 3, 64, 64)
    assert frames.std() > 0.01


def test_what_has_no_counterpart_is_replaced_and_said():
    found = import_workflow(text_to_video(sampler_name="res_multistep", scheduler="beta"))
    assert [str(remark) for remark in found.remarks] == [
        "3 KSampler: There is no sampler 'res_multistep' here; dpmpp_2m stands in its place: another video.",
        "3 KSampler: There is no scheduler 'beta' here; evenly shifted levels stand in its place.",
    ]
    assert RUNTIME.problems(found.workflow) == []


def test_no_guidance_asks_the_model_once():
    workflow = imported(text_to_video(cfg=1.0))
    body = workflow["nodes"]["denoise"]["body"]["nodes"]
    assert body["guided"]["type"] == "dit_velocity@1"
    assert RUNTIME.problems(workflow) == []
    assert "no_text" not in workflow["nodes"]


def test_every_problem_is_said_at_once_with_id_and_title():
    raw = text_to_video()
    raw["20"] = node("MyFancyNode", "Sparkle", amount=3, image=["8", 0])
    raw["21"] = node("CLIPSetLastLayer", clip=["4", 1], stop_at_clip_layer=-2)
    raw["6"]["inputs"]["clip"] = ["21", 0]
    raw["9"]["inputs"]["images"] = ["20", 0]
    raw["3"]["inputs"]["steps"] = 3.5
    found = import_workflow(raw)
    said = {problem.place: problem.message for problem in found.problems}
    assert set(said) == {"20 MyFancyNode 'Sparkle'", "21 CLIPSetLastLayer", "3 KSampler"}
    assert "no whole number" in said["3 KSampler"]
    assert found.workflow["nodes"]["my_fancy_node"] == {
        "type": "comfyui/MyFancyNode@1",
        "params": {"amount": 3},
        "links": {"image": "video"},
        "title": "Sparkle",
    }


def test_an_unknown_node_without_readers_is_a_sink():
    raw = text_to_video()
    raw["30"] = node("SaveSomewhere", images=["8", 0])
    assert [problem.place for problem in import_workflow(raw).problems] == ["30 SaveSomewhere"]


def test_denoise_below_one_starts_from_the_encoded_clip(tmp_path):
    raw = text_to_video(denoise=0.5, steps=4)
    raw["12"] = node("LoadImage", image="blue_square.png")
    raw["13"] = node("ImageScale", image=["12", 0], upscale_method="bilinear", width=64, height=64, crop="center")
    raw["5"] = node("VAEEncode", pixels=["13", 0], vae=["4", 2])
    raw["9"] = node("SaveImage", images=["8", 0], filename_prefix="ComfyUI")
    del raw["11"]
    workflow = imported(raw)
    assert workflow["nodes"]["sigmas"]["params"] == {"steps": 8, "shift": 3.0}
    assert workflow["nodes"]["steps"]["params"] == {"first": 4}
    assert workflow["nodes"]["noisy"]["params"]["level"] == 3 * 0.5 / (1 + 2 * 0.5)
    assert workflow["inputs"]["image"]["default"] == "uploads/blue_square.png"
    steps = RUNTIME.run(workflow, {"image": "workflows/clips/blue_square.png"}, outputs=["steps"], out=tmp_path)
    levels = list(steps.outputs["steps"])
    assert len(levels) == 4
    assert levels[0].sigma == pytest.approx(workflow["nodes"]["noisy"]["params"]["level"])
    result = RUNTIME.run(workflow, {"image": "workflows/clips/blue_square.png"}, out=tmp_path)
    assert next(iter(result.outputs.values())).frames.shape == (1, 1, 3, 64, 64)


def test_two_models_share_the_steps_of_one_schedule():
    raw = text_to_video()
    wires = {"positive": ["6", 0], "negative": ["7", 0]}
    given = {"noise_seed": 1, "steps": 4, "cfg": 3.5, "sampler_name": "euler", "scheduler": "simple"}
    high = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 2, "return_with_leftover_noise": "enable"}
    low = {"add_noise": "disable", "start_at_step": 2, "end_at_step": 10000, "return_with_leftover_noise": "disable"}
    raw["40"] = node("UNETLoader", unet_name="high.safetensors", weight_dtype="default")
    raw["41"] = node("UNETLoader", unet_name="low.safetensors", weight_dtype="default")
    raw["42"] = node("KSamplerAdvanced", model=["40", 0], latent_image=["5", 0], **given, **wires, **high)
    raw["3"] = node("KSamplerAdvanced", model=["41", 0], latent_image=["42", 0], **given, **wires, **low)
    workflow = imported(raw, model="flipbook")
    nodes = workflow["nodes"]
    assert nodes["denoise_2"]["carry"] == {"latent": "denoise"}
    assert nodes["denoise_2"]["links"]["dit"] == "model_2.dit"
    assert (nodes["steps"]["params"], nodes["steps_2"]["params"]) == ({"first": 0, "last": 2}, {"first": 2})
    assert RUNTIME.problems(workflow) == []


def test_the_pieces_of_a_custom_sampler_are_put_together():
    raw = text_to_video()
    raw["50"] = node("RandomNoise", noise_seed=7)
    raw["51"] = node("CFGGuider", model=["10", 0], positive=["6", 0], negative=["7", 0], cfg=4.0)
    raw["52"] = node("KSamplerSelect", sampler_name="euler")
    raw["53"] = node("BasicScheduler", model=["10", 0], scheduler="simple", steps=3, denoise=1.0)
    pieces = {"noise": ["50", 0], "guider": ["51", 0], "sampler": ["52", 0], "sigmas": ["53", 0]}
    plain = imported(text_to_video())
    raw["3"] = node("SamplerCustomAdvanced", latent_image=["5", 0], **pieces)
    assert imported(raw)["nodes"] == plain["nodes"]


def test_a_video_that_begins_with_a_picture(tmp_path):
    raw = text_to_video(steps=2)
    raw["12"] = node("LoadImage", image="blue_square.png")
    raw["5"] = node(
        "WanImageToVideo",
        positive=["6", 0],
        negative=["7", 0],
        vae=["4", 2],
        start_image=["12", 0],
        width=64,
        height=64,
        length=5,
        batch_size=1,
    )
    raw["3"]["inputs"] |= {"positive": ["5", 0], "negative": ["5", 1], "latent_image": ["5", 2]}
    workflow = imported(raw)
    video = RUNTIME.run(workflow, {"image": "workflows/clips/blue_square.png"}, out=tmp_path).outputs["video"]
    picture = RUNTIME.run(workflow, {"image": "workflows/clips/blue_square.png"}, outputs=["fitted"], out=tmp_path)
    assert video.frames.shape[1] == 5
    assert (video.frames[:, 0] - picture.outputs["fitted"].frames[:, 0]).abs().mean() < 0.05  # the VAE's own error


def test_seeds_of_64_bits_are_read(tmp_path):
    found = import_workflow(json.dumps(text_to_video(seed=2**64 - 1)))
    assert found.workflow["inputs"]["seed"]["default"] == 2**63 - 1
    assert "63 bits" in found.remarks[0].message


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "3", '{"a": 1}', '{"nodes": {}}', '{"1": {"class_type": "A", "inputs": {"x": NaN}}}', "[" * 100],
)
def test_what_is_no_workflow_is_refused_with_a_sentence(text):
    with pytest.raises(InvalidWorkflow) as refused:
        import_workflow(text)
    assert str(refused.value).endswith(".")


def test_links_to_nowhere_and_in_circles_are_problems():
    raw = text_to_video()
    raw["8"]["inputs"]["samples"] = ["99", 0]
    assert any("there is none" in problem.message for problem in import_workflow(raw).problems)
    raw = text_to_video()
    raw["10"]["inputs"]["model"] = ["10", 0]
    assert any("circle" in problem.message for problem in import_workflow(raw).problems)
    raw = text_to_video()
    raw["8"]["inputs"]["vae"] = ["4", 7]
    assert any("output 7" in problem.message for problem in import_workflow(raw).problems)


def test_long_chains_are_no_matter():
    raw = text_to_video()
    raw["8"]["inputs"]["samples"] = ["3", 0]
    last = "8"
    for number in range(100, 3100):
        raw[str(number)] = node("ReverseImageBatch", images=[last, 0])
        last = str(number)
    raw["9"]["inputs"]["images"] = [last, 0]
    assert len(imported(raw)["nodes"]) > 3000


# UI JSON


def ui(nodes, links, **more):
    return {"nodes": nodes, "links": links, "version": 0.4, **more}


def ui_node(number, kind, widgets=(), inputs=(), outputs=(), mode=0, **more):
    """A node as the page saves it. Inputs are (name, type, link) or (name, type, link, widget)."""
    ports = [
        {"name": name, "type": type_, "link": link} | ({"widget": {"name": widget[0]}} if widget else {})
        for name, type_, link, *widget in inputs
    ]
    made = [{"name": name, "type": type_, "links": []} for name, type_ in outputs]
    about = {"id": number, "type": kind, "pos": [number * 10, 20], "mode": mode, "widgets_values": list(widgets)}
    return about | {"inputs": ports, "outputs": made} | more


LOADER = [("MODEL", "MODEL"), ("CLIP", "CLIP"), ("VAE", "VAE")]


def ui_text_to_video(mode=0):
    """As ``text_to_video``, with a reroute, a primitive, Set and Get, a note, a bypassed and a muted node."""
    sampler = [("model", "MODEL", 1), ("positive", "CONDITIONING", 2), ("negative", "CONDITIONING", 3)]
    nodes = [
        ui_node(4, "CheckpointLoaderSimple", ["flipbook.safetensors"], outputs=LOADER),
        ui_node(10, "ModelSamplingSD3", [3.0], [("model", "MODEL", 4)], [("MODEL", "MODEL")]),
        ui_node(60, "LoraLoaderModelOnly", ["x", 1.0], [("model", "MODEL", 20)], [("MODEL", "MODEL")], mode=4),
        ui_node(5, "EmptyHunyuanLatentVideo", [64, 64, 17, 1], outputs=[("LATENT", "LATENT")]),
        ui_node(61, "PrimitiveNode", ["a red circle moves right"], outputs=[("STRING", "STRING")]),
        ui_node(6, "CLIPTextEncode", ["old"], [("clip", "CLIP", 5), ("text", "STRING", 21, "text")], LOADER[:1]),
        ui_node(7, "CLIPTextEncode", [""], [("clip", "CLIP", 6)], [("CONDITIONING", "CONDITIONING")]),
        ui_node(
            3, "KSampler", [7, "fixed", 3, 4.0, "euler", "simple", 1.0], [*sampler, ("latent_image", "LATENT", 7)], []
        ),
        ui_node(62, "Reroute", inputs=[("", "*", 8)], outputs=[("", "LATENT")]),
        ui_node(8, "VAEDecode", [], [("samples", "LATENT", 9), ("vae", "VAE", 10)], [("IMAGE", "IMAGE")]),
        ui_node(63, "SetNode", ["frames"], [("IMAGE", "IMAGE", 11)], [("*", "*")]),
        ui_node(64, "GetNode", ["frames"], outputs=[("IMAGE", "IMAGE")]),
        ui_node(9, "CreateVideo", [8.0], [("images", "IMAGE", 12)], [("VIDEO", "VIDEO")]),
        ui_node(11, "SaveVideo", ["video/ComfyUI", "auto", "auto"], [("video", "VIDEO", 13)]),
        ui_node(65, "Note", ["a thought"]),
        ui_node(66, "PreviewImage", [], [("images", "IMAGE", 14)], mode=2),
    ]
    links = [
        [1, 10, 0, 3, 0, "MODEL"],
        [2, 6, 0, 3, 1, "CONDITIONING"],
        [3, 7, 0, 3, 2, "CONDITIONING"],
        [4, 60, 0, 10, 0, "MODEL"],
        [20, 4, 0, 60, 0, "MODEL"],
        [5, 4, 1, 6, 0, "CLIP"],
        [6, 4, 1, 7, 0, "CLIP"],
        [21, 61, 0, 6, 1, "STRING"],
        [7, 5, 0, 3, 3, "LATENT"],
        [8, 3, 0, 62, 0, "LATENT"],
        [9, 62, 0, 8, 0, "LATENT"],
        [10, 4, 2, 8, 1, "VAE"],
        [11, 8, 0, 63, 0, "IMAGE"],
        [12, 64, 0, 9, 0, "IMAGE"],
        [13, 9, 0, 11, 0, "VIDEO"],
        [14, 8, 0, 66, 0, "IMAGE"],
    ]
    return ui(nodes, links)


def bare(workflow):
    """A workflow without what only people see."""
    nodes = copy.deepcopy(workflow["nodes"])
    for spec in nodes.values():
        spec.pop("title", None)
    return nodes, workflow["inputs"], workflow["outputs"]


def test_what_the_page_saves_becomes_what_it_sends():
    found = import_workflow(ui_text_to_video())
    assert found.problems == []
    assert bare(found.workflow) == bare(imported(text_to_video()))
    assert found.workflow["ui"]["positions"]["denoise"] == [30.0, 20.0]
    assert [str(remark) for remark in found.remarks] == [
        "66 PreviewImage: It is muted, so it and what needs it are left out."
    ]


def test_what_needs_a_muted_node_is_left_out():
    raw = ui_text_to_video()
    next(each for each in raw["nodes"] if each["id"] == 8)["mode"] = 2
    found = import_workflow(raw)
    assert found.problems[-1].message == "Nothing in it saves or shows anything, so nothing is to be run."
    assert {remark.place for remark in found.remarks} >= {"8 VAEDecode", "9 CreateVideo", "11 SaveVideo"}


def test_named_widget_values_win_over_positions():
    raw = ui_text_to_video()
    sampler = next(each for each in raw["nodes"] if each["id"] == 3)
    names = ["seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"]
    sampler["widgets_values_named"] = dict(zip(names, [7, 3, 4.0, "euler", "simple", 1.0], strict=True))
    sampler["widgets_values"] = ["shifted", "by", "an", "update"]
    assert bare(imported(raw)) == bare(imported(text_to_video()))


def test_the_nodes_of_a_subgraph_are_written_out():
    raw = ui_text_to_video()
    keep = {4, 5, 6, 7, 9, 11, 61, 62, 8, 63, 64}
    inner = [each for each in raw["nodes"] if each["id"] in (10, 3)]
    names = ["model", "positive", "negative", "latent_image"]
    kinds_ = ["MODEL", "CONDITIONING", "CONDITIONING", "LATENT"]
    subgraph = {
        "id": "aaaa-bbbb",
        "name": "Sampling",
        "inputs": [{"id": str(at), "name": name} for at, name in enumerate(names)],
        "outputs": [{"id": "9", "name": "LATENT"}],
        "nodes": inner,
        "links": [
            {"id": 1, "origin_id": 10, "origin_slot": 0, "target_id": 3, "target_slot": 0},
            {"id": 2, "origin_id": -10, "origin_slot": 1, "target_id": 3, "target_slot": 1},
            {"id": 3, "origin_id": -10, "origin_slot": 2, "target_id": 3, "target_slot": 2},
            {"id": 4, "origin_id": -10, "origin_slot": 3, "target_id": 3, "target_slot": 3},
            {"id": 5, "origin_id": -10, "origin_slot": 0, "target_id": 10, "target_slot": 0},
            {"id": 6, "origin_id": 3, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
    }
    ports = [(name, kind, 1) for name, kind in zip(names, kinds_, strict=True)]
    outer = ui_node(70, "aaaa-bbbb", [], ports, [("LATENT", "LATENT")])
    links = [link for link in raw["links"] if link[0] not in (1, 2, 3, 4, 20, 7, 8)]
    links += [
        [30, 4, 0, 70, 0, "MODEL"],
        [31, 6, 0, 70, 1, "C"],
        [32, 7, 0, 70, 2, "C"],
        [33, 5, 0, 70, 3, "L"],
        [34, 70, 0, 62, 0, "L"],
    ]
    whole = ui(
        [*(each for each in raw["nodes"] if each["id"] in keep), outer],
        links,
        definitions={"subgraphs": [subgraph]},
    )
    assert bare(imported(whole)) == bare(imported(text_to_video()))
    inner[1]["widgets_values"][4] = "nobody"
    assert import_workflow(whole).remarks[0].place == "70:3 KSampler"


def test_a_subgraph_that_holds_itself_ends():
    subgraph = {"id": "x", "nodes": [ui_node(1, "x"), ui_node(2, "x")], "links": []}
    with pytest.raises(InvalidWorkflow, match="nodes"):
        import_workflow(ui([ui_node(1, "x")], [], definitions={"subgraphs": [subgraph]}))


@pytest.mark.parametrize("key", ["nodes", "links"])
@pytest.mark.parametrize("value", [3, "x", [3], [[1, 2]], {"subgraphs": 3}, [{"id": 1}], None])
def test_damaged_ui_json_ends_in_sentences(key, value):
    raw = ui_text_to_video() | {key: value}
    try:
        found = import_workflow(raw)
    except InvalidWorkflow as refused:
        found = refused
    assert found.problems


# files that carry one


def test_pictures_and_videos_of_theirs_bring_their_workflow(cli, tmp_path):
    import av
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = json.dumps(text_to_video())
    picture = Image.new("RGB", (16, 16))
    info = PngInfo()
    info.add_text("prompt", text)
    info.add_text("workflow", json.dumps(ui_text_to_video()))
    picture.save(tmp_path / "a.png", pnginfo=info)
    exif = picture.getexif()
    exif[0x0110] = f"prompt:{text}"
    picture.save(tmp_path / "b.webp", exif=exif)
    for name, key in (("c.mp4", "prompt"), ("d.mp4", "comment")):
        with av.open(str(tmp_path / name), "w", options={"movflags": "use_metadata_tags"}) as file:
            file.metadata[key] = (
                text if key == "prompt" else json.dumps({"workflow": ui_text_to_video(), "prompt": text})
            )
            stream = file.add_stream("h264", rate=8)
            stream.width = stream.height = 16
            stream.pix_fmt = "yuv420p"
            for packet in [*stream.encode(av.VideoFrame.from_image(picture)), *stream.encode()]:
                file.mux(packet)
    for name in ("a.png", "b.webp", "c.mp4", "d.mp4"):
        code, _, err = cli("import", tmp_path / name, "--to", tmp_path / "made.json")
        assert (code, err) == (0, err), name
        assert bare(json.loads((tmp_path / "made.json").read_text())) == bare(imported(text_to_video())), name
        assert cli("check", tmp_path / "made.json")[0] == 0


def test_exif_that_lies_about_its_size_is_no_crash(tmp_path):
    exif = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 60000) + struct.pack("<HHII", 0x0110, 2, 2**31, 2**31)
    body = b"WEBP" + b"EXIF" + struct.pack("<I", len(exif)) + exif
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    from kineograph.interop.comfyui.embedded import embedded_texts

    with pytest.raises(InvalidWorkflow, match="carries no workflow"):
        embedded_texts(tmp_path / "a.webp")


# the command


def test_the_command_writes_nothing_where_something_cannot_be_had(cli, tmp_path):
    raw = text_to_video()
    raw["20"] = node("MyFancyNode", images=["8", 0])
    (tmp_path / "theirs.json").write_text(json.dumps(raw))
    code, out, err = cli("import", tmp_path / "theirs.json", "--to", tmp_path / "ours.json")
    assert (code, out, (tmp_path / "ours.json").exists()) == (2, "", False)
    assert "20 MyFancyNode: No node of ours" in err
    code, out, err = cli("import", tmp_path / "theirs.json", "--partial", "--model", "flipbook")
    assert code == 0
    assert json.loads(out)["nodes"]["my_fancy_node"]["type"] == "comfyui/MyFancyNode@1"
    assert "to do: 20 MyFancyNode" in err
