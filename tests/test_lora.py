"""Low-rank updates of the embedded model: equal to merged weights, in every layout, chained, without a copy."""

from __future__ import annotations

import json

import pytest
import torch

from kineograph.nodes import lora, model, sample
from kineograph.nodes.networks.lora import LoraLinear, layers
from kineograph.nodes.networks.weights import save_weights
from kineograph.nodes.text import encode_text

pytestmark = pytest.mark.usefixtures("no_gradients")
RANK = 3


@pytest.fixture(scope="module")
def dit():
    made = model.start_dit(channels=4, width=32, depth=2, heads=2, seed=2)
    for parameter in made.network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return made


@pytest.fixture(scope="module")
def asked():
    noise = sample.latent_noise(model.new_vae(channels=4, seed=1), frames=5, height=16, width=16, seed=5)
    return sample.patchify(noise), encode_text(model.new_text_encoder(width=192, seed=3), "a red circle")


def update(network, seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A (r, in) and B (out, r) of every layer in the blocks."""
    made = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randn(RANK, layer.in_features, generator=made),
            torch.randn(layer.out_features, RANK, generator=made),
        )
        for name, layer in layers(network).items()
        if name.startswith("blocks.")
    }


def as_kohya(updates, alpha: float):
    state = {}
    for name, (down, up) in updates.items():
        flat = "lora_unet_" + name.replace(".", "_")
        state |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up, f"{flat}.alpha": torch.tensor(alpha)}
    return state


def as_diffusers(updates, prefix: str = "transformer."):
    return {
        f"{prefix}{name}.{end}.weight": tensor
        for name, pair in updates.items()
        for end, tensor in zip(("lora_A", "lora_B"), pair, strict=True)
    }


def merged(dit, *parts):
    """The same DiT with the updates added to its weights."""
    from copy import deepcopy
    from dataclasses import replace

    network = deepcopy(dit.network)
    for updates, factor in parts:
        for name, (down, up) in updates.items():
            network.get_submodule(name).weight.add_(factor * up @ down)
    return replace(dit, network=network)


def said(dit, asked):
    patches, text = asked
    return sample.dit_velocity(dit, patches, text, 0.7).tokens


@pytest.fixture
def written(tmp_path, dit):
    """The same update as kohya, diffusers and PEFT write it; the factor of each is 2 / RANK."""
    updates = update(dit.network, 1)
    save_weights(tmp_path / "kohya.safetensors", as_kohya(updates, 2.0))
    about = {"lora_adapter_metadata": json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 2})}
    save_weights(tmp_path / "diffusers.safetensors", as_diffusers(updates), about)
    (tmp_path / "peft").mkdir()
    save_weights(tmp_path / "peft" / "adapter_model.safetensors", as_diffusers(updates, "base_model.model."))
    (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 2}))
    return updates, [tmp_path / "kohya.safetensors", tmp_path / "diffusers.safetensors", tmp_path / "peft"]


def test_every_layout_is_the_update_added_to_the_weights(written, dit, asked):
    updates, paths = written
    wanted = said(merged(dit, (updates, 0.5 * 2 / RANK)), asked)
    assert (wanted - said(dit, asked)).abs().max() > 1e-2
    for path in paths:
        given = lora.apply_lora(dit, str(path), 0.5)
        assert (said(given, asked) - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_several_have_strengths_of_their_own_and_nothing_is_copied(written, dit, asked, tmp_path):
    updates, paths = written
    other = update(dit.network, 2)
    save_weights(tmp_path / "other.safetensors", as_diffusers(other, ""))
    before = said(dit, asked)
    both = lora.apply_lora(lora.apply_lora(dit, str(paths[0]), 0.5), str(tmp_path / "other.safetensors"), -0.25)
    wanted = said(merged(dit, (updates, 0.5 * 2 / RANK), (other, -0.25)), asked)
    assert (said(both, asked) - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert torch.equal(said(dit, asked), before)
    assert not any(isinstance(each, LoraLinear) for each in dit.network.modules())
    own = {each.data_ptr() for each in dit.network.parameters()}
    assert own <= {each.data_ptr() for each in both.network.parameters()}
    assert torch.equal(said(lora.apply_lora(dit, str(paths[0]), 0.0), asked), before)


def test_an_outline_has_the_shapes_and_no_numbers(written, dit):
    outlined = lora.outlined_lora(dit, str(written[1][0]), 1.0).network.state_dict()
    loaded = lora.apply_lora(dit, str(written[1][0])).network.state_dict()
    assert {name: each.shape for name, each in outlined.items()} == {name: each.shape for name, each in loaded.items()}


def test_one_for_another_model_is_refused_with_all_that_finds_no_layer(dit, tmp_path):
    state = as_diffusers(update(dit.network, 1))
    first = next(iter(state))
    save_weights(tmp_path / "a.safetensors", state | {"transformer.blocks.9.qkv.lora_A.weight": torch.ones(3, 32)})
    with pytest.raises(ValueError, match=r"1 of its tensors are no .*blocks\.9\.qkv\.lora_A\.weight"):
        lora.apply_lora(dit, str(tmp_path / "a.safetensors"))
    save_weights(tmp_path / "b.safetensors", {name: each for name, each in state.items() if name != first})
    with pytest.raises(ValueError, match="no down"):
        lora.apply_lora(dit, str(tmp_path / "b.safetensors"))
    save_weights(tmp_path / "c.safetensors", state | {first: torch.ones(RANK, 7)})
    with pytest.raises(ValueError, match=r"\(3, 7\) for"):
        lora.apply_lora(dit, str(tmp_path / "c.safetensors"))
    with pytest.raises(ValueError, match="There is no LoRA 'nowhere'"):
        lora.apply_lora(dit, "nowhere")
