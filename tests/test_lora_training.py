"""LoRAs are trained: gradients reach them alone, a file gives back what was trained, killed runs go on, Wan too."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_resume import end, metrics, resumed, runs

from kineograph import default_runtime
from kineograph.graph_runtime.events import Metric
from kineograph.nodes import lora, model, sample, video_models, world
from kineograph.nodes.media import write_video
from kineograph.nodes.networks.lora import layers
from kineograph.nodes.networks.weights import load_weights, save_weights
from kineograph.nodes.sockets import TextEmbedding
from kineograph.nodes.text import encode_text
from kineograph.nodes.train import evaluate, optimizer
from kineograph.nodes.train.data import step_generator
from kineograph.nodes.train.sockets import Loss

WORKFLOW = Path(__file__).parent.parent / "workflows" / "train_lora.json"
SMALL = {"steps": 6, "rate": 3e-3, "rank": 2, "clips": 2, "frames": 5, "height": 32, "width": 32, "look_every": 3}


@pytest.fixture(scope="module")
def dit():
    made = model.start_dit(channels=4, width=32, depth=2, heads=2, seed=2)
    for parameter in made.network.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return made


@pytest.fixture(scope="module")
def asked():
    noise = sample.latent_noise(model.new_vae(channels=4, seed=1), frames=5, height=16, width=16, seed=5)
    return sample.patchify(noise), encode_text(model.new_text_encoder(width=192, seed=3), "a red circle")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """Four clips of the world in inverted colours, with captions."""
    place = tmp_path_factory.mktemp("clips")
    for number, clips in enumerate(world.world_clips(batches=4, formats=["5x32x32:1"], seed=5)):
        write_video(place / f"{number}.mp4", 1 - clips.video.frames[0], fps=8)
        (place / f"{number}.txt").write_text(clips.captions[0])
    return str(place)


def said(dit, asked):
    return sample.dit_velocity(dit, *asked, 0.7).tokens


def moved(start, seed: int = 3):
    """A LoRA that says something: B is no longer zero."""
    for parameter in start.network.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) * 0.3)
    return start


def bits(network) -> dict[str, torch.Tensor]:
    return {name: each.clone() for name, each in network.state_dict().items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(each, other[name]) for name, each in one.items())


def test_a_new_one_is_the_model_to_the_bit_and_another_seed_another_one(dit, asked):
    first, again, other = (lora.start_lora(dit, rank=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(said(lora.add_lora(dit, first), asked), said(dit, asked))
    assert same(first.network.state_dict(), again.network.state_dict())
    assert not same(first.network.state_dict(), other.network.state_dict())
    assert {name for name, *_ in first.network.config.layers} == {n for n in layers(dit.network) if "blocks." in n}


def test_gradients_are_those_by_hand_and_none_is_the_models(dit, asked):
    """With W' = W + s B A: dL/dB = s dL/dW' Aᵀ and dL/dA = s Bᵀ dL/dW'."""
    state = optimizer.begin_training(moved(lora.start_lora(dit, rank=2, alpha=6.0, layers=["qkv"])))
    beside = lora.add_lora(dit, optimizer.lora_in_training(state))
    found = optimizer.gradients(Loss(said(beside, asked).square().mean()), state).values
    assert not any(parameter.requires_grad for parameter in dit.network.parameters())

    merged = optimizer.begin_training(dit)
    for name, update in state.model.network.by_layer().items():
        merged.model.network.get_submodule(name).weight.data += 3 * (update.up @ update.down).detach()
    whole = optimizer.gradients(Loss(said(merged.model, asked).square().mean()), merged).values
    by_name = dict(zip(dict(merged.model.network.named_parameters()), whole, strict=True))
    for (name, update), down, up in zip(state.model.network.by_layer().items(), found[::2], found[1::2], strict=True):
        of_weight = by_name[f"{name}.weight"]
        torch.testing.assert_close(up, 3 * of_weight @ update.down.T.detach(), atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(down, 3 * update.up.T.detach() @ of_weight, atol=1e-6, rtol=1e-4)
        assert up.abs().max() > 1e-5


def test_no_memory_is_kept_for_gradients_of_the_model(dit, asked):
    """What autograd keeps holds no weight of the model twice, and a LoRA on the last block nothing of the first."""
    state = optimizer.begin_training(moved(lora.start_lora(dit, rank=1, layers=["1.down"])))
    kept: list[torch.Tensor] = []
    own = {each.data_ptr() for each in [*dit.network.parameters(), *state.model.network.parameters()]}

    def pack(tensor):
        if tensor.data_ptr() not in own:
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        part = said(lora.add_lora(dit, optimizer.lora_in_training(state)), asked)
        part_bytes = sum(each.nbytes for each in kept)
        kept.clear()
        whole = said(optimizer.begin_training(dit).model, asked)
        whole_bytes = sum(each.nbytes for each in kept)
    assert part.requires_grad
    assert whole.requires_grad
    assert part_bytes < whole_bytes / 4


def test_recomputed_blocks_give_the_same_gradients(dit, asked):
    state = optimizer.begin_training(moved(lora.start_lora(dit, rank=2)))
    beside = lora.add_lora(dit, optimizer.lora_in_training(state))
    plain, recomputed = (
        optimizer.gradients(
            Loss(sample.dit_velocity(beside, *asked, 0.7, recompute=wanted).tokens.square().mean()), state
        ).values
        for wanted in (False, True)
    )
    for one, other in zip(plain, recomputed, strict=True):
        torch.testing.assert_close(one, other)


class Run:
    """Of a run, where its files are."""

    provenance = "{}"

    def __init__(self, folder: Path) -> None:
        self.output_path = folder.joinpath

    def wrote(self, path: Path) -> None:
        assert path.is_file()


def test_a_file_gives_back_what_was_trained(dit, asked, tmp_path):
    trained = moved(lora.start_lora(dit, rank=2, alpha=5.0))
    lora.save_lora(trained, Run(tmp_path), "a.safetensors")
    path = tmp_path / "a.safetensors"
    for strength in (1.0, -0.5):
        assert torch.equal(
            said(lora.apply_lora(dit, str(path), strength), asked), said(lora.add_lora(dit, trained, strength), asked)
        )
    assert torch.equal(said(lora.apply_lora(dit, str(path), 0.0), asked), said(dit, asked))
    state, metadata = load_weights(path)
    assert state["transformer.blocks.1.qkv.lora_A.weight"].shape == (2, 32)
    about = json.loads(metadata["lora_adapter_metadata"])
    assert (about["transformer.r"], about["transformer.lora_alpha"]) == (2, 5.0)


@pytest.mark.parametrize("names", ["ours", "kohya"])
def test_a_training_goes_on_from_a_file(names, dit, asked, tmp_path):
    """What was not trained further is the file to the bit; a step moves it; it is planned as it is."""
    was = moved(lora.start_lora(dit, rank=3, alpha=5.0, layers=["qkv", "up"]))
    lora.save_lora(was, Run(tmp_path), "a.safetensors")
    path = str(tmp_path / "a.safetensors")
    if names == "kohya":
        state = {}
        for name, each in load_weights(path)[0].items():
            layer, end = name.removeprefix("transformer.").rsplit(".lora_", 1)
            layer = "lora_unet_" + layer.replace(".", "_")
            state |= {
                f"{layer}.lora_{'down' if 'A' in end else 'up'}.weight": each,
                f"{layer}.alpha": torch.tensor(5.0),
            }
        save_weights(Path(path), state)
    again = lora.start_lora(dit, start=path)
    assert same(bits(again.network), bits(was.network))
    assert again.network.config.layers == was.network.config.layers
    applied = said(lora.apply_lora(dit, path), asked)
    assert torch.equal(said(lora.add_lora(dit, again), asked), applied)
    outline = lora.outlined_start(dit, path, rank=1, alpha=0.0, layers=None, seed=0).network
    assert {name: each.shape for name, each in outline.state_dict().items()} == {
        name: each.shape for name, each in was.network.state_dict().items()
    }
    state = optimizer.begin_training(again)
    loss = Loss(said(lora.add_lora(dit, optimizer.lora_in_training(state)), asked).square().mean())
    state = optimizer.apply_gradients(state, optimizer.gradients(loss, state), Run(tmp_path), lr=0.01)
    assert not torch.equal(said(lora.add_lora(dit, optimizer.lora_in_training(state)), asked), applied)
    assert same(bits(again.network), bits(was.network))


def test_ranks_of_a_layers_own_can_be_applied_and_not_trained(dit, tmp_path):
    first, second = (moved(lora.start_lora(dit, rank=rank, layers=[name])) for rank, name in ((2, "qkv"), (4, "up")))
    for each, name in ((first, "a"), (second, "b")):
        lora.save_lora(each, Run(tmp_path), f"{name}.safetensors")
    state = load_weights(tmp_path / "a.safetensors")[0] | load_weights(tmp_path / "b.safetensors")[0]
    save_weights(tmp_path / "c.safetensors", state)
    lora.apply_lora(dit, str(tmp_path / "c.safetensors"))
    with pytest.raises(ValueError, match=r"has ranks of 2 to 4 and scales of 1, .* train a new one on top of it"):
        lora.start_lora(dit, start=str(tmp_path / "c.safetensors"))


def test_what_does_not_fit_is_told(dit):
    with pytest.raises(ValueError, match=r"ends in to_q; the layers of a block are down, out, qkv, text_kv, up"):
        lora.start_lora(dit, layers=["qkv", "to_q"])
    other = lora.start_lora(model.start_dit(channels=4, width=64, depth=3, heads=2), rank=1)
    with pytest.raises(ValueError, match=r"15 of its 15 layers are not in this one, the first is blocks\.0\.down"):
        lora.add_lora(dit, other)
    with pytest.raises(ValueError, match="This state trains a DiT, a LoRA is needed"):
        optimizer.lora_in_training(optimizer.begin_training(dit))


def trained(inputs, out, workflow=WORKFLOW):
    """The LoRA of a run of the workflow file, and its losses."""
    events: list = []
    ran = default_runtime().run(workflow, SMALL | inputs, out=out, listen=events.append)
    return ran.outputs["lora"], [each.value for each in events if isinstance(each, Metric) and each.name == "loss"]


def every_loss() -> dict:
    raw = json.loads(WORKFLOW.read_text())
    raw["nodes"]["train"]["body"]["nodes"]["record"]["params"]["every"] = 1
    return raw


def test_what_it_shall_say_is_learned_and_the_model_stays_as_it_is(dit, asked, tmp_path):
    wanted = torch.randn(asked[0].tokens.shape, generator=torch.Generator().manual_seed(8))
    before = bits(dit.network)
    state = optimizer.begin_training(lora.start_lora(dit, rank=4))
    losses = []
    for _ in range(30):
        beside = lora.add_lora(dit, optimizer.lora_in_training(state))
        loss = Loss((said(beside, asked) - wanted).square().mean())
        losses.append(loss.value.item())
        state = optimizer.apply_gradients(state, optimizer.gradients(loss, state), Run(tmp_path), lr=0.01)
    assert losses[-1] < 0.7 * losses[0]
    assert same(bits(dit.network), before)


def test_the_workflow_file_trains_shows_samples_and_leaves_a_lora_that_applies(folder, tmp_path):
    flipbook = model.start_dit("flipbook")
    made, _ = trained({"folder": folder, "steps": 4, "look_every": 2}, tmp_path)
    files = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file()}
    looks = {f"samples/{name}" for name in ("lora-000002.safetensors", "sheet-000002.png", "lora-000004.safetensors")}
    assert files == {"lora.safetensors", "clips.json", "clips.png", "samples/sheet-000004.png"} | looks
    assert made.network.by_layer()["blocks.0.qkv"].up.abs().max() > 1e-4
    noise = sample.latent_noise(model.load_vae(), frames=5, height=16, width=16, seed=5)
    words = sample.patchify(noise), encode_text(model.load_text_encoder(), "a red circle")
    file = str(tmp_path / "lora.safetensors")
    further, _ = trained({"folder": folder, "steps": 1, "look_every": 9, "start": file}, tmp_path / "further")
    assert 0 < (further.network.pairs[0].up.weight - made.network.pairs[0].up.weight).abs().max() < 0.1
    applied = lora.apply_lora(flipbook, file)
    assert torch.equal(said(applied, words), said(lora.add_lora(flipbook, made), words))
    assert same(bits(flipbook.network), bits(model.start_dit("flipbook").network))


def test_a_training_that_was_killed_ends_with_the_same_bits(folder, tmp_path):
    raw = every_loss()
    raw["nodes"]["lora"]["params"] = {"layers": ["qkv"]}
    del raw["nodes"]["train"]["body"]["nodes"]["look"]
    raw["outputs"] = {"state": "train.state", "lora": "trained"}
    inputs = SMALL | {"folder": folder, "steps": 12}
    whole, cut, last = runs(
        tmp_path, raw, (inputs, None, False), (inputs, 14, True), (inputs, None, True), keep_every=1
    )
    assert "outputs" not in cut[-1]
    assert 0 < resumed(last) < 12
    assert end(last) == end(whole)
    told = {step: value for step, value in metrics(last).items() if step >= resumed(last)}
    assert told == {step: value for step, value in metrics(whole).items() if step >= resumed(last)}


def test_it_can_be_planned_without_weights_and_holds_no_gradients_of_the_model(folder):
    inputs = {"folder": folder, "frames": 5, "height": 32, "width": 32, "steps": 1, "look_every": 9}
    rows = {row.path: row for row in default_runtime().estimate(WORKFLOW, inputs).nodes}
    assert {path for path, row in rows.items() if row.unknown} == {"train/record", "train/record_norm", "file"}
    # backward, gradients of what goes through layers cost as much as forward, those of weights would as much again
    assert 0 < rows["train/gradients"].flops < 1.2 * rows["train/predicted"].flops
    weights = sum(each.nbytes for each in model.start_dit("flipbook").network.parameters())
    assert rows["train/update"].peak_bytes - rows["model"].peak_bytes < weights / 2


# --- open models


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
    pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
    import tiny_families

    pipeline = tiny_families.wan_pipeline()
    return tiny_families.saved(pipeline, tmp_path_factory.mktemp("wan") / "Wan2.1-tiny"), pipeline


def on_wan(path: str) -> dict:
    raw = every_loss()
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    raw["inputs"]["model"]["default"] = path
    raw["nodes"]["train"]["body"]["nodes"]["predicted"]["params"]["precision"] = "float32"
    return raw


@pytest.fixture(scope="module")
def wan_asked(wan):
    noise = sample.latent_noise(video_models.load_video_vae(wan[0]), frames=5, height=32, width=32, seed=5)
    words = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(6))
    return sample.patchify(noise, 1, 2, 2), TextEmbedding(words, torch.ones(1, 4, dtype=torch.bool))


def test_the_same_file_trains_wan(wan, wan_asked, folder, tmp_path):
    path, _ = wan
    weights = Path(path) / "transformer" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    inputs = {"folder": folder, "steps": 40, "rate": 0.03, "look_every": 40, "recompute": True}
    _, losses = trained(inputs, tmp_path, on_wan(path))
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])
    assert weights.read_bytes() == before
    found = video_models.load_video_dit(path, "float32")
    applied = lora.apply_lora(found, str(tmp_path / "lora.safetensors"))
    assert (said(applied, wan_asked) - said(found, wan_asked)).abs().max() > 1e-3


def test_gradients_through_wan_are_the_same_when_blocks_are_recomputed(wan, wan_asked):
    found = video_models.load_video_dit(wan[0], "float32")
    before = bits(found.network)
    state = optimizer.begin_training(moved(lora.start_lora(found, rank=2)))
    beside = lora.add_lora(found, optimizer.lora_in_training(state))
    kept: list[int] = []
    values = []
    for recompute in (False, True):
        with torch.autograd.graph.saved_tensors_hooks(lambda each: (kept.append(each.nbytes), each)[1], lambda x: x):
            loss = Loss(sample.dit_velocity(beside, *wan_asked, 0.7, recompute=recompute).tokens.square().mean())
        values.append((optimizer.gradients(loss, state).values, sum(kept)))
        kept.clear()
    (plain, plain_bytes), (again, again_bytes) = values
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)
    assert again_bytes < plain_bytes / 2
    assert same(bits(found.network), before)
    assert not any(parameter.requires_grad for parameter in found.network.parameters())


def test_wan_is_judged_in_patches_of_its_own(wan, wan_asked, tmp_path):
    """At one level of the middle, against the definition: the mean square of what it says less noise minus clip."""
    found = video_models.load_video_dit(wan[0], "float32")
    heard: list[float] = []
    run = Run(tmp_path)
    run.metric = lambda name, step, value: heard.append(value)
    latent = wan_asked[0].latent
    loss = evaluate.held_out_loss(found, latent, wan_asked[1], run, levels=1, seed=4)
    noise = torch.randn(latent.x.shape, generator=step_generator(4, 500))
    level = torch.full_like(latent.mask, 0.5)
    noisy = sample.patchify(replace(latent, x=(latent.x + noise) / 2, mask=level), 1, 2, 2)
    velocity = sample.unpatchify(sample.dit_velocity(found, noisy, wan_asked[1])).x
    assert loss == pytest.approx((velocity - (noise - latent.x)).square().mean().item(), rel=1e-5)
    assert heard == [loss, loss]


def test_a_file_for_wan_is_what_diffusers_loads(wan, tmp_path):
    """Every layer that diffusers would look for is there, under the name that it would look for."""
    path, pipeline = wan
    found = video_models.load_video_dit(path, "float32")
    made = moved(lora.start_lora(found, rank=2, alpha=6.0))
    lora.save_lora(made, Run(tmp_path), "a.safetensors")
    file = {"pretrained_model_name_or_path_or_dict": str(tmp_path), "weight_name": "a.safetensors"}
    state, about = pipeline.lora_state_dict(**file, return_lora_metadata=True)
    modules = dict(pipeline.transformer.named_modules())
    named = {name.removeprefix("transformer.").rsplit(".lora_", 1)[0] for name in state}
    blocks = {name for name, each in modules.items() if "blocks." in name and isinstance(each, torch.nn.Linear)}
    assert named == blocks
    assert set(about["transformer.target_modules"]) == blocks
    if importlib.util.find_spec("peft") is None:
        return  # the library that diffusers leaves LoRAs to
    given = torch.randn(1, 16, 2, 4, 4), torch.tensor([700.0]), torch.randn(1, 4, 32)
    with torch.no_grad():
        ours = lora.add_lora(found, made, 1.0).network.network(*given, return_dict=False)[0]
        pipeline.load_lora_weights(**file)
        theirs = pipeline.transformer(*given, return_dict=False)[0]
        pipeline.unload_lora_weights()
        plain = pipeline.transformer(*given, return_dict=False)[0]
    assert (ours - plain).abs().max() > 1e-3
    assert (ours - theirs).abs().max() < 1e-5
