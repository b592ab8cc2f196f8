"""The workflow files that people run: valid, reproducible, resumed from their own MP4, and training that learns."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kineograph import default_runtime
from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.events import Metric, NodeCached, NodeStarted
from kineograph.graph_runtime.workflow import parse_json, parse_workflow
from kineograph.nodes import model
from kineograph.nodes.media.decode import read_video
from kineograph.nodes.media.provenance import read_provenance

WORKFLOWS = Path(__file__).parent.parent / "workflows"
TEXT_TO_VIDEO = WORKFLOWS / "text_to_video.json"
SMALL = {"steps": 3}


@pytest.fixture(scope="module")
def runtime():
    return default_runtime()


def write_lora(folder: Path) -> None:
    """A LoRA of the embedded model that changes one layer."""
    layer = model.start_dit("flipbook").network.blocks[0].qkv
    pair = {"lora_A": torch.randn(2, layer.in_features), "lora_B": torch.randn(layer.out_features, 2)}
    tensors = {f"transformer.blocks.0.qkv.{name}.weight": each for name, each in pair.items()}
    save_file(tensors, folder / "pytorch_lora_weights.safetensors")


def test_a_lora_is_sampled_with_at_a_strength(tmp_path: Path, runtime) -> None:
    write_lora(tmp_path)
    small = {"steps": 1, "frames": 1, "height": 32, "width": 32, "lora": str(tmp_path)}
    none, some = (
        runtime.run(WORKFLOWS / "text_to_video_lora.json", small | {"strength": strength}, outputs=["video"])
        for strength in (0.0, 1.0)
    )
    plain = json.loads(TEXT_TO_VIDEO.read_text())
    plain["nodes"]["sigmas"]["params"]["shift"] = 6.0
    del small["lora"]
    alone = runtime.run(plain, small, outputs=["video"]).outputs["video"].frames
    assert torch.equal(none.outputs["video"].frames, alone)
    assert not torch.equal(some.outputs["video"].frames, alone)


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_every_workflow_file_is_valid_and_says_what_it_does(path: Path, runtime, tmp_path: Path) -> None:
    needed = {name: str(tmp_path) for name, spec in runtime.load(path).inputs.items() if spec.default is None}
    assert set(needed) <= {"folder", "lora"}
    if "lora" in needed:
        write_lora(tmp_path)
    assert runtime.problems(path, needed) == []
    assert runtime.load(path).about


def test_a_prompt_becomes_an_mp4_that_makes_the_same_frames_again(tmp_path: Path, runtime) -> None:
    inputs = {**SMALL, "prompt": "a blue square moves up", "seed": 7}
    first = runtime.run(TEXT_TO_VIDEO, inputs, out=tmp_path / "a").outputs["video"]
    frames, fps = read_video(tmp_path / "a" / "video.mp4")
    assert (len(frames), fps) == (17, 8.0)
    again = parse_workflow(parse_json(read_provenance(tmp_path / "a" / "video.mp4"), "video.mp4"))
    assert again.inputs["prompt"].default == "a blue square moves up"
    second = default_runtime().run(again, out=tmp_path / "b").outputs["video"]
    assert torch.equal(first.frames, second.frames)
    assert (tmp_path / "a" / "video.mp4").read_bytes() == (tmp_path / "b" / "video.mp4").read_bytes()


def test_another_seed_or_prompt_gives_other_frames(runtime) -> None:
    def frames(**inputs):
        return runtime.run(TEXT_TO_VIDEO, SMALL | inputs, outputs=["video"]).outputs["video"].frames

    assert torch.equal(frames(seed=1), frames(seed=1))
    assert not torch.equal(frames(seed=1), frames(seed=2))
    assert not torch.equal(frames(seed=1), frames(seed=1, prompt="a green triangle moves left"))


def test_a_second_run_runs_only_what_changed(tmp_path: Path, runtime) -> None:
    def ran(**inputs) -> set[str]:
        events = []
        runtime.run(TEXT_TO_VIDEO, SMALL | inputs, out=tmp_path, listen=events.append)
        assert [event for event in events if isinstance(event, NodeCached)] or inputs["seed"] == 31
        return {event.path for event in events if isinstance(event, NodeStarted)}

    assert {"denoise", "video", "file"} <= ran(seed=31, prompt="a red circle")
    assert ran(seed=31, prompt="a red circle") == {"file"}
    assert ran(seed=31, prompt="a red square") == {"text", "denoise", "video", "file"}
    assert ran(seed=32, prompt="a red square") == {"noise", "sigmas", "denoise", "video", "file"}


def test_other_sizes_and_single_images_come_from_the_same_model(runtime) -> None:
    for frames, height, width in ((1, 64, 64), (9, 48, 80)):
        inputs = SMALL | {"frames": frames, "height": height, "width": width}
        video = runtime.run(TEXT_TO_VIDEO, inputs, outputs=["video"]).outputs["video"]
        assert video.frames.shape == (1, frames, 3, height, width)


def test_a_size_that_cannot_be_is_a_sentence_with_the_nearest_that_can(tmp_path: Path, runtime) -> None:
    with pytest.raises(InvalidWorkflow, match=r"noise: .* nearest is 17"):
        runtime.run(TEXT_TO_VIDEO, {"frames": 18}, out=tmp_path)
    assert not list(tmp_path.glob("**/*.mp4"))


def test_samplers_share_noise_and_each_is_wired_as_it_should_be(tmp_path: Path, runtime) -> None:
    small = {"frames": 5, "height": 32, "width": 32}
    calls = {"calls": 3, "heun_steps": 2}
    rows = runtime.run(WORKFLOWS / "samplers.json", small | calls, out=tmp_path).outputs["videos"].frames
    plain = runtime.run(TEXT_TO_VIDEO, small | {"steps": 3}, outputs=["video"]).outputs["video"].frames
    assert rows.shape == (5, 5, 3, 32, 32)
    assert torch.equal(rows[:1], plain)
    assert all((one - other).abs().max() > 1e-3 for one, other in combinations(rows, 2))
    assert (tmp_path / "samplers.png").exists()


def test_problems_are_told_all_at_once(runtime) -> None:
    raw = json.loads(TEXT_TO_VIDEO.read_text())
    raw["nodes"]["sigmas"]["params"]["shift"] = -1
    raw["nodes"]["denoise"]["body"]["nodes"]["guided"]["links"]["dit"] = "$text"
    raw["nodes"]["video"]["type"] = "vae_decoed@1"
    with pytest.raises(InvalidWorkflow) as caught:
        runtime.plan(raw, {"steps": 0, "sede": 1})
    told = str(caught.value)
    for part in ("sigmas.shift", "denoise/guided.dit", "vae_decode@1", "inputs.sede", "sigmas.steps"):
        assert part in told


def losses(runtime, name: str, tmp_path: Path, **inputs) -> list[float]:
    events = []
    raw = json.loads((WORKFLOWS / name).read_text())
    raw["nodes"]["train"]["body"]["nodes"]["record"]["params"]["every"] = 1
    runtime.run(raw, inputs, out=tmp_path, listen=events.append)
    return [event.value for event in events if isinstance(event, Metric) and event.name == "loss"]


@pytest.mark.parametrize(("name", "steps"), [("train_text.json", 30), ("train_vae.json", 12)])
def test_training_a_part_from_nothing_lowers_its_loss_and_leaves_a_file(
    name: str, steps: int, tmp_path: Path, runtime
) -> None:
    found = losses(runtime, name, tmp_path, steps=steps)
    assert len(found) == steps
    assert sum(found[-5:]) < sum(found[:5])
    assert list((tmp_path / "flipbook").glob("*.safetensors"))


def test_training_is_the_same_twice_and_a_dit_goes_on_from_the_embedded_one(tmp_path: Path, runtime) -> None:
    raw = json.loads((WORKFLOWS / "train_dit_batches.json").read_text())
    raw["nodes"]["clips"]["params"]["formats"] = ["5x32x32:2", "1x32x32:4"]
    raw["nodes"]["train"]["body"]["nodes"]["record"]["params"]["every"] = 1

    def train(**inputs) -> list[float]:
        events = []
        default_runtime().run(raw, {"steps": 4} | inputs, out=tmp_path, listen=events.append)
        return [event.value for event in events if isinstance(event, Metric) and event.name == "loss"]

    from_embedded = train(start="flipbook", skip=50_000, rate=1e-4)
    assert from_embedded == train(start="flipbook", skip=50_000, rate=1e-4)
    assert sum(from_embedded) < 0.7 * sum(train(skip=50_000))
