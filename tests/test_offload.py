"""Open models within a budget: the same bits as without, blocks really read again; linear layers kept in fp8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families
from diffusers import WanTransformer3DModel

from kineograph import default_runtime
from kineograph.graph_runtime.costs import kept_share
from kineograph.graph_runtime.errors import NodeFailed
from kineograph.graph_runtime.events import Event, NodeProgress
from kineograph.nodes import lora, sample, text, video_models
from kineograph.nodes.networks.fp8 import Fp8Linear
from kineograph.nodes.networks.in_place import InPlaceGELU, gelu_in_place
from kineograph.nodes.networks.pieces import decoded, encoded
from kineograph.nodes.networks.tiles import blended, filled
from kineograph.nodes.networks.weights import load_weights, save_weights
from kineograph.nodes.sockets import TextEmbedding
from kineograph.trial import Ledger

pytestmark = pytest.mark.usefixtures("no_gradients")
WORKFLOW = Path(__file__).parent.parent / "workflows" / "wan_text_to_video.json"
SIZE = {"frames": 5, "height": 32, "width": 32}
WIDE = {"num_layers": 3, "ffn_dim": 2**15}
QUERY = "blocks.1.attn1.to_q"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """Wan with a DiT of 19 MB, more than all that is computed with it."""
    pipeline = tiny_families.wan_pipeline()
    pipeline.transformer = WanTransformer3DModel(**tiny_families.WAN_DIT | WIDE).eval()
    return tiny_families.saved(pipeline, tmp_path_factory.mktemp("offload") / "Wan2.1-deep")


def graph(dtype: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    raw = json.loads(WORKFLOW.read_text())
    raw["nodes"]["model"]["params"] = {"dtype": dtype}
    if more:
        raw["nodes"]["lora"] = more | {"links": {"dit": "model.dit"}}
        raw["nodes"]["denoise"]["links"]["dit"] = "lora"
    return raw


def update(path: Path) -> dict[str, Any]:
    """A node that puts an update beside a layer."""
    down, up = torch.randn(2, 24, generator=torch.Generator().manual_seed(1)), torch.ones(24, 2)
    names = {f"transformer.{QUERY}.lora_A.weight": down, f"transformer.{QUERY}.lora_B.weight": up}
    save_weights(path, names)
    return {"type": "apply_lora@1", "params": {"path": str(path)}}


@pytest.mark.parametrize("kind", ["float32", "float8_e4m3fn", "lora"])
def test_a_video_is_the_same_within_the_least_budget_and_the_text_encoder_leaves(kind, folder, tmp_path):
    raw = graph("float32", update(tmp_path / "a.safetensors")) if kind == "lora" else graph(kind)
    inputs = SIZE | {"model": folder, "steps": 2, "prompt": "a red circle"}
    plain = default_runtime().run(raw, inputs, out=tmp_path).outputs["video"].frames
    runtime = default_runtime()
    found = runtime.estimate(raw, inputs, memory=10**9).residence
    assert found is not None
    assert found.moved == found.weights
    budget = found.least
    while_denoising: list[set[str]] = []

    def listen(event: Event) -> None:
        if isinstance(event, NodeProgress) and event.path == "denoise":
            assert runtime._lent is not None
            while_denoising.append({part.network for part in runtime._lent.device.held()})

    made = runtime.run(raw, inputs, out=tmp_path, memory=budget, listen=listen)
    assert torch.equal(made.outputs["video"].frames, plain)
    assert runtime._lent is not None
    device = runtime._lent.device
    assert device.peak <= budget - kept_share(budget)
    assert device.moved > found.weights
    if kind != "float8_e4m3fn":  # whose DiT is so small that what the text encoder needs leaves it room
        assert found.weights > budget
        assert while_denoising[-1] == {"WanTransformer3DModel"}


def test_gradients_of_a_lora_are_the_same_within_a_budget(folder):
    """The DiT's weights, which are read while a loss is recorded, stay until its gradients are taken."""
    loaders = {
        part: {"type": f"load_video_{part}@1", "params": {"path": folder, "dtype": "float32"}}
        for part in ("dit", "vae", "text_encoder")
    }
    wired = {
        "noise": ("latent_noise@1", {"vae": "vae"}, SIZE),
        "patches": ("patchify@1", {"latent": "noise"}, {"height": 2, "width": 2}),
        "text": ("encode_text@1", {"encoder": "text_encoder"}, {"prompt": "a red circle"}),
        "lora": ("start_lora@1", {"dit": "dit"}, {"layers": ["to_q"], "rank": 2}),
        "state": ("begin_training@1", {"model": "lora"}, {}),
        "training": ("lora_in_training@1", {"state": "state"}, {}),
        "beside": ("add_lora@1", {"dit": "dit", "lora": "training"}, {}),
        "asked": ("dit_velocity@1", {"dit": "beside", "patches": "patches", "text": "text"}, {}),
        "velocity": ("unpatchify@1", {"patches": "asked"}, {}),
        "loss": ("flow_loss@1", {"velocity": "velocity", "target": "noise"}, {}),
        "gradients": ("gradients@1", {"loss": "loss", "state": "state"}, {}),
    }
    nodes = {name: {"type": kind, "links": links, "params": params} for name, (kind, links, params) in wired.items()}
    raw = {"format": 1, "nodes": loaders | nodes, "outputs": {"gradients": "gradients"}}
    budget, runtime = 38 * 10**6, default_runtime()
    plain, within = (
        each.run(raw, memory=memory).outputs["gradients"].values
        for each, memory in ((default_runtime(), None), (runtime, budget))
    )
    assert all(torch.equal(one, other) for one, other in zip(plain, within, strict=True))
    assert any(each.abs().max() > 0 for each in within)
    assert runtime._lent is not None
    assert 0 < runtime._lent.device.peak <= budget - kept_share(budget)


def test_a_published_size_is_planned_within_a_budget_without_weights_and_cannot_be_run():
    nodes = {
        "encoder": {"type": "load_video_text_encoder@1"},
        "text": {"type": "encode_text@1", "links": {"encoder": "encoder"}, "params": {"prompt": "a red circle"}},
    }
    raw = {"format": 1, "nodes": nodes, "outputs": {"text": "text"}}
    runtime = default_runtime()
    found = runtime.estimate(raw, memory=4 * 10**9).residence
    assert found is not None
    assert found.fits
    assert found.moved == found.weights == pytest.approx(2 * 5_680_910_336, rel=1e-4)  # a number takes two bytes
    with pytest.raises(NodeFailed, match="only the sizes are known"):
        runtime.run(raw, memory=4 * 10**9)


def said(dit: Any) -> torch.Tensor:
    noise = sample.latent_noise(video_models.outlined_video_vae("wan2.1-t2v-1.3b", "float32"), **SIZE, seed=3)
    words = torch.randn(1, 512, tiny_families.TEXT_WIDTH, generator=torch.Generator().manual_seed(4))
    words = TextEmbedding(words, torch.ones(1, 512, dtype=torch.bool))
    return sample.dit_velocity(dit, sample.patchify(noise, 1, 2, 2), words, 0.7).tokens


def test_layers_in_fp8_give_what_the_same_weights_give_that_were_cast_beforehand(folder):
    small = video_models.load_video_dit(folder, dtype="float8_e4m3fn")
    found = small.network.network
    kinds = {type(module) for name, module in found.named_modules() if name.startswith("blocks.") and "to_q" in name}
    assert kinds == {Fp8Linear}
    assert type(found.proj_out) is torch.nn.Linear
    assert {each.dtype for name, each in found.named_parameters() if "attn1.to_q.weight" in name} == {
        torch.float8_e4m3fn
    }
    assert found.blocks[0].scale_shift_table.dtype is torch.float32
    beforehand = video_models.load_video_dit(folder, dtype="bfloat16")
    for name, module in beforehand.network.network.named_modules():
        if isinstance(found.get_submodule(name), Fp8Linear):
            weight = load_weights(Path(folder) / "transformer" / "diffusion_pytorch_model.safetensors")[0]
            module.weight.data = weight[f"{name}.weight"].to(torch.float8_e4m3fn).bfloat16()
    assert torch.equal(said(small), said(beforehand))
    assert not torch.equal(said(small), said(video_models.load_video_dit(folder, dtype="bfloat16")))


def test_a_factor_of_a_scaled_file_is_kept_beside_its_weight(tmp_path):
    encoder = tiny_families.text_encoder()
    state = {name: each for name, each in encoder.state_dict().items() if name != "encoder.embed_tokens.weight"}
    names = [name for name in state if name.endswith((".q.weight", ".wo.weight"))]
    for name in names:
        scale = state[name].abs().max() / 448
        state |= {name: (state[name] / scale).to(torch.float8_e4m3fn), name.replace("weight", "scale_weight"): scale}
    save_weights(tmp_path / "umt5.safetensors", state | {"scaled_fp8": torch.zeros(2)})
    tiny_families.tokenizer().save_pretrained(tmp_path)
    path = str(tmp_path / "umt5.safetensors")
    small, large = (video_models.load_video_text_encoder(path, dtype=each) for each in ("float8_e4m3fn", "bfloat16"))
    for name in names:  # the others are cast to fp8 here, and have no factor
        layer = small.network.network.get_submodule(name.removesuffix(".weight"))
        assert isinstance(layer, Fp8Linear)
        assert torch.equal(layer.read(), large.network.network.state_dict()[name])
    for layer in small.network.network.modules():
        if isinstance(layer, Fp8Linear) and layer.factor is None:
            layer._parameters["weight"] = torch.nn.Parameter(layer.read(), False)
            beside = next(name for name, each in small.network.network.named_modules() if each is layer)
            large.network.network.get_submodule(beside).weight.data = layer.read()
    assert torch.equal(text.encode_text(small, "a red circle").tokens, text.encode_text(large, "a red circle").tokens)


def test_numbers_that_fp8_does_not_have_are_refused(folder, tmp_path):
    part = tmp_path / "m" / "transformer"
    part.mkdir(parents=True)
    source = Path(folder) / "transformer"
    (part / "config.json").write_text((source / "config.json").read_text())
    state, _ = load_weights(source / "diffusion_pytorch_model.safetensors")
    state[f"{QUERY}.weight"] = state[f"{QUERY}.weight"] + 500
    save_weights(part / "diffusion_pytorch_model.safetensors", state)
    with pytest.raises(ValueError, match=rf"{QUERY}.weight of .* has numbers beyond 448"):
        video_models.load_video_dit(str(tmp_path / "m"), dtype="float8_e4m3fn")


def test_an_update_beside_a_layer_in_fp8_is_no_update_in_fp8(folder, tmp_path):
    node = update(tmp_path / "a.safetensors")
    small = video_models.load_video_dit(folder, dtype="float8_e4m3fn")
    given = lora.apply_lora(small, node["params"]["path"])
    assert given.network.network.get_submodule(QUERY).down.dtype is torch.bfloat16
    assert (said(given) - said(small)).abs().max() > 1e-3


def test_tiles_are_blended_in_shares_that_add_up_to_one():
    for height, width, size, around in ((5, 9, 2, 0), (32, 40, 16, 4), (33, 31, 8, 2)):
        cut = blended(height, width, size, around)
        ones = [
            (tile, iter([torch.ones(1, 1, 2, *tile.seen(torch.ones(height * 8, width * 8), 8).shape)])) for tile in cut
        ]
        assert len(cut) > 1
        assert (filled(ones, height, width, 2) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["wan", "cogvideox", "mochi"])
def test_an_open_models_vae_works_in_tiles_in_less_memory(name, tmp_path):
    made = getattr(tiny_families, f"{name}_pipeline")()
    vae = video_models.load_video_vae(tiny_families.saved(made, tmp_path / name))
    x = torch.randn(1, vae.spec.channels, 3, 12, 20, generator=torch.Generator().manual_seed(1))
    frames, unit = 1 + 2 * vae.spec.time_ratio, vae.spec.space_ratio

    def measured(tile: int) -> tuple[torch.Tensor, int]:
        with Ledger() as ledger:
            clip = decoded(vae.network, x, "line", tile, frames)
        return clip, ledger.peak

    (whole, most), (one, _), (tiled, least) = measured(0), measured(20 * unit), measured(6 * unit)
    assert torch.equal(one, whole)
    assert least < 0.7 * most
    assert 0 < (tiled - whole).abs().mean() < 0.05
    clip = whole.transpose(1, 2)
    means = [encoded(vae.network, clip, tile, (3, 12, 20)) for tile in (0, 6 * unit)]
    assert means[0].shape == means[1].shape == x.shape
    assert (means[0] - means[1]).abs().mean() < means[0].abs().mean()


def test_gelu_over_what_it_reads_is_gelu_and_knows_gradients(folder):
    dit = video_models.load_video_dit(folder, dtype="float32")
    ours = dit.network.network.blocks[0].ffn.net[0]
    assert isinstance(ours, InPlaceGELU)
    torch.manual_seed(0)
    theirs = WanTransformer3DModel(**tiny_families.WAN_DIT).blocks[0].ffn
    x = torch.randn(3, 24)
    before = theirs(x)
    with torch.enable_grad():
        wanted = torch.autograd.grad(theirs(x).sum(), theirs.net[0].proj.weight)[0]
    gelu_in_place(theirs)
    assert isinstance(theirs.net[0], InPlaceGELU)
    assert torch.equal(theirs(x), before)
    with torch.enable_grad():
        assert torch.equal(torch.autograd.grad(theirs(x).sum(), theirs.net[0].proj.weight)[0], wanted)
