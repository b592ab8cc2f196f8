"""Training steps as workflows: accumulation in a loop, what happens every n-th pass, and that it costs nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kineograph import default_runtime
from kineograph.graph_runtime.errors import NodeFailed
from kineograph.graph_runtime.events import FileWritten, Metric
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes import model, sample, world
from kineograph.nodes.networks.components import load
from kineograph.nodes.sockets import Latent, TextEmbedding
from kineograph.nodes.train import evaluate, passes, scaling, streams
from kineograph.nodes.train.optimizer import begin_training, gradients
from kineograph.nodes.train.sockets import Loss

WORKFLOWS = Path(__file__).parent.parent / "workflows"
CLIP = torch.randn(3, 4, 2, 2, 2, generator=torch.Generator().manual_seed(1))
LATENT = Latent(CLIP, CLIP, torch.zeros_like(CLIP[:, :1]), 8.0, model.new_vae(channels=4).spec)
TEXT = TextEmbedding(torch.zeros(1, 1, 192), torch.ones(1, 1, dtype=torch.bool))


def spec(kind: str, params: dict | None = None, **links: str) -> dict:
    return {"type": f"{kind}@1", "params": params or {}, "links": links}


def training(step: dict[str, dict], update: str = "clipped.gradients") -> dict:
    """A DiT trained for 3 passes on batches of 4 clips; ``step`` gives gradients from $state, noise and text."""
    body = {
        "video": spec("clip_video", clips="$item"),
        "latent": spec("vae_encode", vae="$vae", video="video"),
        "text": spec("encode_captions", {"drop": 0.0}, encoder="$encoder", clips="$item", step="$index"),
        "levels": spec("uniform_levels"),
        "drawn": spec("draw_levels", latent="latent", levels="levels", step="$index"),
        "noise": spec("add_noise", latent="drawn", step="$index"),
        **step,
        "clipped": spec("clip_gradients", {"largest": 0.5}, gradients="gradients"),
        "record": spec("record_number", {"name": "norm", "every": 1}, value="clipped.norm", step="$index"),
        "update": spec("apply_gradients", {"lr": 1e-3}, state="$state", gradients=update),
    }
    nodes = {
        "vae": spec("new_vae", {"channels": 4}),
        "encoder": spec("new_text_encoder"),
        "dit": spec("start_dit", {"channels": 4, "width": 32, "depth": 1, "heads": 2}),
        "optimizer": spec("sgd", {"momentum": 0.9}),
        "begin": spec("begin_training", model="dit", optimizer="optimizer"),
        "clips": spec("world_clips", {"batches": 3, "formats": ["5x16x16:4"]}),
        "train": {
            "type": "loop@1",
            "each": "clips",
            "carry": {"state": "begin"},
            "links": {"vae": "vae", "encoder": "encoder"},
            "body": {"nodes": body, "outputs": {"state": "update"}},
        },
    }
    return {"format": 1, "nodes": nodes, "outputs": {"state": "train.state"}}


def differentiated(noisy: str, target: str, text: str) -> dict[str, dict]:
    return {
        "dit": spec("dit_in_training", state="$state"),
        "patches": spec("patchify", latent=noisy),
        "predicted": spec("dit_velocity", dit="dit", patches="patches", text=text),
        "velocity": spec("unpatchify", patches="predicted"),
        "loss": spec("flow_loss", velocity="velocity", target=target),
        "gradients": spec("gradients", loss="loss", state="$state"),
    }


def accumulated(parts: int) -> dict[str, dict]:
    """The same gradients from micro-batches: a loop in the loop."""
    cut = {
        f"{name}_part": spec("batch_part", {"parts": parts}, batch=f"${name}", part="$item")
        for name in ("noisy", "target", "text")
    }
    one = differentiated("noisy_part", "target_part", "text_part")
    inner = cut | one | {"sum": spec("add_gradients", total="$total", gradients="gradients")}
    return {
        "zero": spec("zero_gradients", state="$state"),
        "parts": spec("repeat", {"times": parts}),
        "sum": {
            "type": "loop@1",
            "each": "parts",
            "carry": {"total": "zero"},
            "links": {"state": "$state", "noisy": "noise.noisy", "target": "noise.target", "text": "text"},
            "body": {"nodes": inner, "outputs": {"total": "sum"}},
        },
        "gradients": spec("mean_gradients", {"parts": parts}, total="sum.total"),
    }


def run(workflow: dict, **given) -> tuple[dict[str, torch.Tensor], list[float]]:
    events: list = []
    outcome = default_runtime().run(workflow, listen=events.append, **given)
    norms = [event.value for event in events if isinstance(event, Metric) and event.name == "norm"]
    return outcome.outputs["state"].model.network.state_dict(), norms


def test_four_accumulated_micro_batches_are_one_batch() -> None:
    whole, norms = run(training(differentiated("noise.noisy", "noise.target", "text")))
    parts, norms_of_parts = run(training(accumulated(4)))
    assert norms_of_parts == pytest.approx(norms, rel=1e-5)
    assert len(norms) == 3
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, atol=1e-6, rtol=0, msg=name)
    start = model.start_dit(channels=4, width=32, depth=1, heads=2).network.state_dict()
    assert any((whole[name] - start[name]).abs().max() > 1e-4 for name in whole)


def test_no_pass_of_an_inner_loop_leaves_its_carry() -> None:
    step = accumulated(4) | {"parts": spec("repeat", {"times": 0})}
    kept, norms = run(training(step))
    start = model.start_dit(channels=4, width=32, depth=1, heads=2).network.state_dict()
    assert norms == [0.0, 0.0, 0.0]
    assert all(torch.equal(kept[name], start[name]) for name in start)


def test_parts_of_a_batch_are_the_batch() -> None:
    clips = world.world_clips(batches=1, formats=["5x16x16:6"])[0]
    cut = [passes.batch_part(clips, part, 3) for part in range(3)]
    assert torch.equal(torch.cat([part.video.frames for part in cut]), clips.video.frames)
    assert sum((part.captions for part in cut), ()) == clips.captions
    assert torch.equal(torch.cat([part.said["shape"] for part in cut]), clips.said["shape"])
    assert cut[0].video.fps == clips.video.fps
    with pytest.raises(ValueError, match="6 clips cannot be cut into 4 equal parts"):
        passes.batch_part(clips, 0, 4)
    with pytest.raises(ValueError, match="part = 3 is not among the 3 parts"):
        passes.batch_part(clips, 3, 3)
    for other in (model.start_dit(channels=4, width=32, depth=1, heads=2), sample.patchify(LATENT)):
        with pytest.raises(ValueError, match="no batch that can be cut"):
            passes.batch_part(other, 0, 1)


def test_every_runs_after_each_nth_pass() -> None:
    done = [list(passes.every(step, 3)) for step in range(7)]
    assert done == [[], [], [3], [], [], [6], []]
    assert passes.numbered_path(6, "samples/sheet.png") == "samples/sheet-000006.png"
    with pytest.raises(ValueError, match="no item 2 in a stream of 2"):
        streams.stream_item(passes.repeat(2), 2)


def test_train_dit_judges_itself_when_it_is_time(tmp_path: Path) -> None:
    raw = json.loads((WORKFLOWS / "train_dit_batches.json").read_text())
    raw["nodes"]["clips"]["params"]["formats"] = ["5x16x16:2"]
    raw["nodes"]["unseen"]["params"]["formats"] = ["5x16x16:2"]
    body = raw["nodes"]["train"]["body"]["nodes"]
    body["sometimes"]["params"]["passes"] = 2
    sampling = body["judge"]["body"]["nodes"]["sample"]["body"]["nodes"]
    sampling["sigmas"]["params"]["steps"] = 1
    sampling["noise"]["params"] = {"frames": 5, "height": 32, "width": 32}
    events: list = []
    default_runtime().run(raw, {"steps": 5}, out=tmp_path, listen=events.append)
    found = {event.name: event.step for event in events if isinstance(event, Metric)}
    assert found["held_out"] == found["held_out_0.95"] == found["word_gap"] == found["oracle_all"] == 4
    assert sum(event.name == "held_out" for event in events if isinstance(event, Metric)) == 2
    sheets = {Path(event.file).name for event in events if isinstance(event, FileWritten)}
    assert {"sheet-000002.png", "sheet-000004.png"} <= sheets


def test_compute_is_weights_times_steps() -> None:
    runs = [scaling.scaling_run(number, [32, 64, 96], [1.0, 4.0, 16.0], 400, depth=1) for number in range(3)]
    assert [run.compute for run in runs] == pytest.approx([1, 4, 16], rel=0.01)
    assert (runs[0].width, runs[0].heads, runs[0].steps) == (32, 1, 400)
    weights = [
        sum(
            weight.numel() for weight in model.start_dit(width=run.width, heads=run.heads, depth=1).network.parameters()
        )
        for run in runs
    ]
    products = [count * run.steps for count, run in zip(weights, runs, strict=True)]
    assert [product / products[0] for product in products] == pytest.approx([run.compute for run in runs])
    with pytest.raises(ValueError, match="no multiples of 32"):
        scaling.scaling_run(0, [40], [1.0], 10)
    with pytest.raises(ValueError, match="2 widths and 1 multiples"):
        scaling.scaling_run(0, [32, 64], [1.0], 10)


def test_a_power_law_has_its_slope(tmp_path: Path) -> None:
    given = SimpleNamespace(metric=lambda *_: None, wrote=lambda _: None, output_path=lambda name: tmp_path / name)
    compute = Stream.of([1.0, 4.0, 16.0])
    slope = scaling.scaling_curve(compute.map(lambda c: 3 * c**-0.25), compute, given)
    assert slope == pytest.approx(-0.25)
    assert (tmp_path / "scaling.svg").read_text().count("<circle") == 3


def test_the_scaling_workflow_trains_every_size_and_draws_the_curve(tmp_path: Path) -> None:
    raw = json.loads((WORKFLOWS / "scaling.json").read_text())
    raw["nodes"]["unseen"]["params"]["formats"] = ["5x16x16:2"]
    body = raw["nodes"]["runs"]["body"]["nodes"]
    body["run"]["params"] |= {"widths": [32, 64], "compute": [1.0, 4.0], "depth": 1}
    body["dit"]["params"]["depth"] = 1
    body["clips"]["params"]["formats"] = ["5x16x16:2"]
    raw["nodes"]["sizes"]["params"]["times"] = 2
    sampling = body["sample"]["body"]["nodes"]
    sampling["sigmas"]["params"]["steps"] = 1
    sampling["noise"]["params"] = {"frames": 5, "height": 32, "width": 32}
    events: list = []
    outcome = default_runtime().run(raw, {"steps": 4}, out=tmp_path, listen=events.append)
    assert math.isfinite(outcome.outputs["slope"])
    losses = {event.step: event.value for event in events if isinstance(event, Metric) and event.name == "scaling_loss"}
    assert len(losses) == 2
    assert (tmp_path / "scaling.svg").is_file()
    assert (tmp_path / "samples-000032.png").is_file()


def test_recomputed_blocks_give_the_same_gradients_from_less_memory() -> None:
    dit = model.start_dit(channels=4, width=32, depth=3, heads=2)
    for weight in dit.network.parameters():
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    state = begin_training(dit)

    def kept(recompute: bool) -> tuple[int, tuple[torch.Tensor, ...]]:
        held: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            patches = sample.patchify(LATENT)
            predicted = sample.dit_velocity(state.model, patches, TEXT, 0.5, "bfloat16", recompute)
            loss = Loss(predicted.tokens.square().mean())
            held_after_forward = sum(held.values())
            return held_after_forward, gradients(loss, state).values

    (much, plain), (little, again) = kept(False), kept(True)
    assert little < 0.6 * much
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


# --- judging


class Run:
    """Remembers metrics."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def metric(self, name: str, step: int, value: float) -> None:
        self.metrics[name] = value


def test_a_new_model_says_zero_so_its_held_out_loss_is_the_velocitys_energy() -> None:
    run = Run()
    dit = model.start_dit(channels=4, width=32, depth=1, heads=2)
    mean = evaluate.held_out_loss(dit, LATENT, TEXT, run, levels=4)
    assert sorted(run.metrics) == ["held_out", "held_out_0.12", "held_out_0.38", "held_out_0.62", "held_out_0.88"]
    assert mean == pytest.approx(1 + float(CLIP.square().mean()), rel=0.15)
    assert evaluate.held_out_loss(dit, LATENT, TEXT, run, levels=4, seed=9) != mean


class Knowing:
    """A network that knows the clip, and errs by what the text says."""

    config = SimpleNamespace(predicts="velocity", data_std=1.0)

    def __call__(self, batches, **_):
        clean = sample.patchify(LATENT).tokens
        return [(batch.tokens_BNC - clean) / batch.levels_BK.mean() + batch.text_BLE[:, :1, :1] for batch in batches]


def test_a_model_that_knows_the_clip_has_no_held_out_loss() -> None:
    dit = SimpleNamespace(network=Knowing(), patch=(1, 1, 1), guidance=None)
    assert evaluate.held_out_loss(dit, LATENT, TEXT, Run()) < 1e-9


def test_wrong_words_cost_what_the_model_makes_of_them() -> None:
    dit = SimpleNamespace(network=Knowing(), patch=(1, 1, 1), guidance=None)
    right, wrong = (TextEmbedding(torch.full((1, 1, 192), value), TEXT.mask) for value in (1.0, 2.0))
    assert evaluate.word_gap(dit, LATENT, right, wrong, Run()) == pytest.approx(3.0, rel=1e-4)
    assert evaluate.word_gap(dit, LATENT, right, right, Run()) == 0.0


def test_other_captions_are_the_neighbours() -> None:
    clips = world.world_clips(batches=1, formats=["5x16x16:3"])[0]
    other = evaluate.other_captions(clips)
    assert other.captions == (clips.captions[2], clips.captions[0], clips.captions[1])
    assert other.said["shape"].tolist() == [clips.said["shape"][2], *clips.said["shape"][:2]]
    with pytest.raises(ValueError, match="at least two"):
        evaluate.other_captions(passes.batch_part(clips, 0, 3))


# --- the NaN alarm in a run


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_good_model(tmp_path: Path) -> None:
    workflow = training(differentiated("noise.noisy", "noise.target", "text"), update="broken")
    body = workflow["nodes"]["train"]["body"]["nodes"]
    packs = tmp_path / "packs"
    packs.mkdir()
    (packs / "faults.py").write_text(
        """
from kineograph.graph_runtime.node import node
from kineograph.nodes.train.sockets import Gradients


@node
def nan_at(gradients: Gradients, step: int, at: int) -> Gradients:
    \"\"\"Gradients that break at a pass.\"\"\"
    return Gradients(tuple(value * (float("nan") if step == at else 1.0) for value in gradients.values))
"""
    )
    runtime = default_runtime([packs])
    links = {"gradients": "clipped.gradients", "step": "$index"}
    body["broken"] = {"type": "faults/nan_at@1", "params": {"at": 2}, "links": links}
    with pytest.raises(NodeFailed, match=r"train/update .*not finite.*last_good/dit.safetensors"):
        runtime.run(workflow, out=tmp_path / "out")
    kept = load(tmp_path / "out" / "last_good" / "dit.safetensors", "dit").state_dict()
    workflow["nodes"]["clips"]["params"]["batches"] = 2
    trained = runtime.run(workflow, out=tmp_path / "out").outputs["state"].model.network.state_dict()
    assert all(torch.equal(kept[name], trained[name]) for name in trained)
    start = model.start_dit(start=str(tmp_path / "out" / "last_good"))
    assert all(torch.equal(kept[name], tensor) for name, tensor in start.network.state_dict().items())
    assert math.isfinite(sum(float(weight.sum()) for weight in kept.values()))
