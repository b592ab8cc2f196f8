"""Wan's own layout of files, and ComfyUI's: recognised by content, every name accounted for, equal to diffusers'.

The names are spelled here as Wan's repository has them; that they mean what ours say is asked of diffusers' converter.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.loaders import single_file_utils
from torch import nn

from kineograph.nodes import text, video, video_models
from kineograph.nodes.families.layouts import text as text_layouts
from kineograph.nodes.families.layouts import wan, wan22
from kineograph.nodes.networks.weights import save_weights
from kineograph.nodes.sockets import Video

LINEARS = ("weight", "bias")


def dit_names(layers: int, image: bool = False) -> list[str]:
    outer = ["patch_embedding", "text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2"]
    outer += ["time_projection.1", "head.head", *([f"img_emb.proj.{i}" for i in (0, 1, 3, 4)] if image else [])]
    names = ["head.modulation", *(f"{name}.{end}" for name in outer for end in LINEARS)]
    for i in range(layers):
        inner = ["norm3", "ffn.0", "ffn.2"]
        inner += [f"{part}_attn.{each}" for part in ("self", "cross") for each in "qkvo"]
        inner += ["cross_attn.k_img", "cross_attn.v_img"] if image else []
        norms = [f"{part}_attn.norm_{each}.weight" for part in ("self", "cross") for each in "qk"]
        norms += ["modulation", *(["cross_attn.norm_k_img.weight"] if image else [])]
        names += [f"blocks.{i}.{name}" for name in [*norms, *(f"{each}.{end}" for each in inner for end in LINEARS)]]
    return names


def vae_names() -> list[str]:
    def residual(place: str, shortcut: bool = False) -> list[str]:
        convolutions = [f"{place}.residual.{i}.{end}" for i in (2, 6) for end in LINEARS]
        more = [f"{place}.shortcut.{end}" for end in LINEARS] if shortcut else []
        return [f"{place}.residual.0.gamma", f"{place}.residual.3.gamma", *convolutions, *more]

    names = [f"{name}.{end}" for name in ("conv1", "conv2") for end in LINEARS]
    for half in ("encoder", "decoder"):
        names += [f"{half}.{name}.{end}" for name in ("conv1", "head.2") for end in LINEARS] + [f"{half}.head.0.gamma"]
        names += residual(f"{half}.middle.0") + residual(f"{half}.middle.2") + [f"{half}.middle.1.norm.gamma"]
        names += [f"{half}.middle.1.{name}.{end}" for name in ("to_qkv", "proj") for end in LINEARS]
    samplers = {2: False, 5: True, 8: True}
    for i in range(11):
        place = f"encoder.downsamples.{i}"
        parts = [f"{place}.resample.1.{end}" for end in LINEARS] if i in samplers else residual(place, i in (3, 6))
        names += parts + ([f"{place}.time_conv.{end}" for end in LINEARS] if samplers.get(i) else [])
    samplers = {3: True, 7: True, 11: False}
    for i in range(15):
        place = f"decoder.upsamples.{i}"
        parts = [f"{place}.resample.1.{end}" for end in LINEARS] if i in samplers else residual(place, i == 4)
        names += parts + ([f"{place}.time_conv.{end}" for end in LINEARS] if samplers.get(i) else [])
    return names


def umt5_names(layers: int) -> list[str]:
    inner = ["norm1", "norm2", "pos_embedding.embedding", "ffn.gate.0", "ffn.fc1", "ffn.fc2"]
    inner += [f"attn.{each}" for each in "qkvo"]
    return ["token_embedding.weight", "norm.weight"] + [
        f"blocks.{i}.{name}.weight" for i in range(layers) for name in inner
    ]


def in_old_names(network: nn.Module, names: list[str], rename) -> dict[str, torch.Tensor]:
    state = network.state_dict()
    return {name: state[rename(name)].clone() for name in names}


def transformer(**more) -> WanTransformer3DModel:
    torch.manual_seed(0)
    return WanTransformer3DModel(**tiny_families.WAN_DIT | more).eval()


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan(**tiny_families.WAN_VAE | {"dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}).eval()


@pytest.fixture(scope="module")
def folder(vae, tmp_path_factory) -> Path:
    """As Wan's repository has them: safetensors, two .pth, a config.json and a tokenizer below."""
    made = tmp_path_factory.mktemp("Wan2.1-T2V")
    save_weights(
        made / "diffusion_pytorch_model.safetensors", in_old_names(transformer(), dit_names(2), wan.wan_dit_name)
    )
    (made / "config.json").write_text(json.dumps({"_class_name": "WanModel", "dim": 24, "num_heads": 2}))
    torch.save(in_old_names(vae, vae_names(), wan.wan_vae_name), made / "Wan2.1_VAE.pth")
    encoder = tiny_families.text_encoder()
    torch.save(in_old_names(encoder, umt5_names(2), text_layouts.umt5_name), made / "models_t5_umt5-xxl-enc.pth")
    tiny_families.tokenizer().save_pretrained(made / "google" / "umt5-xxl")
    return made


@pytest.mark.parametrize("image", [False, True])
def test_names_of_the_transformer_mean_what_diffusers_says(image: bool):
    sizes = {"in_channels": 36, "image_dim": 8, "added_kv_proj_dim": 24} if image else {}
    names = dit_names(2, image)
    theirs = single_file_utils.convert_wan_transformer_to_diffusers({name: torch.tensor([0]) for name in names})
    assert {wan.wan_dit_name(name) for name in names} == set(theirs) == set(transformer(**sizes).state_dict())


def test_names_of_the_vae_mean_what_diffusers_says(vae):
    names = vae_names()
    assert len(names) == 194  # as in Wan2.1_VAE.pth
    theirs = single_file_utils.convert_wan_vae_to_diffusers({name: name for name in names})
    assert {wan.wan_vae_name(name): name for name in names} == theirs
    assert set(theirs) == set(vae.state_dict())


def vae_names_of_22() -> list[str]:
    """As in Wan2.2_VAE.pth: each level is a block of blocks, the last of them a sampler."""
    outer = [name for name in vae_names() if not any(part in name for part in ("downsamples", "upsamples"))]
    inner = []
    for half, blocks, count, in_time in (("encoder", "down", 2, (1, 2)), ("decoder", "up", 3, (0, 1))):
        for level in range(4):
            samples = f"{half}.{blocks}samples.{level}.{blocks}samples"
            ends = [f"residual.{i}.{end}" for i in (2, 6) for end in LINEARS] + ["residual.0.gamma", "residual.3.gamma"]
            inner += [f"{samples}.{i}.{end}" for i in range(count) for end in ends]
            wider = level in ((1, 2) if half == "encoder" else (2, 3))
            inner += [f"{samples}.0.shortcut.{end}" for end in LINEARS if wider]
            sampler = ["resample.1"] * (level < 3) + ["time_conv"] * (level in in_time)
            inner += [f"{samples}.{count}.{name}.{end}" for name in sampler for end in LINEARS]
    return outer + inner


def test_the_vae_of_wan_22_is_the_same_from_its_own_file(tmp_path):
    """The names are those that diffusers' script for it gives; shapes tell the sizes, and the moments are published."""
    torch.manual_seed(0)
    sizes = {"base_dim": 4, "decoder_base_dim": 6, "z_dim": 48, "in_channels": 12, "out_channels": 12, "patch_size": 2}
    moments = {"latents_mean": wan22.MEANS, "latents_std": wan22.DEVIATIONS}
    network = AutoencoderKLWan(**sizes, **moments, is_residual=True, scale_factor_spatial=16).eval()
    names = vae_names_of_22()
    assert len(names) == 196
    assert {wan22.wan22_vae_name(name) for name in names} == set(network.state_dict())
    torch.save(in_old_names(network, names, wan22.wan22_vae_name), tmp_path / "Wan2.2_VAE.pth")
    found = video_models.load_video_vae(str(tmp_path))
    assert all(
        torch.equal(each, network.state_dict()[name]) for name, each in found.network.network.state_dict().items()
    )
    network.save_pretrained(tmp_path / "diffusers" / "vae")
    config = tmp_path / "diffusers" / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"clip_output": False}))  # as published
    other = video_models.load_video_vae(str(config.parent))
    clip = Video(torch.rand(1, 5, 3, 32, 32), 24.0)
    assert (found.spec, found.network.network.config) == (other.spec, other.network.network.config)
    with torch.no_grad():
        made = [video.vae_decode(each, video.vae_encode(each, clip)).frames for each in (found, other)]
    assert (made[0] - made[1]).abs().max() < 1e-5


def test_a_folder_of_the_repository_is_the_same_model(folder, vae):
    found = video_models.load_video_model(str(folder), dtype="float32")
    x = torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    words, _ = found.text_encoder.network(["a circle"])
    with torch.no_grad():
        given = {"timestep": torch.tensor([500.0]), "encoder_hidden_states": words, "return_dict": False}
        clip = torch.rand(1, 3, 9, 32, 32) * 2 - 1
        dit, decoder = found.dit.network.network, found.vae.network.network
        for ours, theirs in (
            (dit(x, **given)[0], transformer()(x, **given)[0]),
            (decoder.decode(x).sample, vae.decode(x).sample),
            (decoder.encode(clip).latent_dist.mean, vae.encode(clip).latent_dist.mean),
        ):
            assert (ours - theirs).abs().max() < 1e-5  # bytes in a file are aligned otherwise, so sums may differ
    for ours, theirs in ((dit, transformer()), (decoder, vae)):
        state = ours.state_dict()
        assert all(torch.equal(tensor, state.pop(name)) for name, tensor in theirs.state_dict().items())
        assert not state
    known = tiny_families.text_encoder().state_dict().keys()
    assert known == found.text_encoder.network.network.state_dict().keys()


def test_blocks_that_are_brought_from_the_repositorys_files_are_what_is_loaded(folder):
    given = str(folder), "float32", "float32"
    outlines, loaded = video_models.outlined_video_model(*given), video_models.load_video_model(*given)
    for outlined, whole in zip(outlines, loaded, strict=True):
        parts = outlined.network.resident.parts
        for part in parts:
            part.bring("cpu")
        state = outlined.network.state_dict()
        assert all(torch.equal(tensor, state.pop(name)) for name, tensor in whole.network.state_dict().items())
        assert not state
        named = [name for part in parts for name in part.names]
        assert len(named) == len(set(named)) == len(list(outlined.network.parameters()))  # of tied ones, one


def test_a_comfyui_file_is_known_by_its_tensors_whatever_its_name(tmp_path):
    state = in_old_names(transformer(), dit_names(2), wan.wan_dit_name)
    path = tmp_path / "anything.safetensors"
    save_weights(path, {f"model.diffusion_model.{name}": tensor for name, tensor in state.items()})
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 2}))
    found = video_models.load_video_dit(str(path), dtype="float32")
    for name, tensor in transformer().state_dict().items():
        assert torch.equal(found.network.network.state_dict()[name], tensor)
    with pytest.raises(ValueError, match="holds a DiT, and a VAE is needed"):
        video_models.load_video_vae(str(path))


def test_scaled_fp8_files_hold_factors_beside_their_weights(tmp_path):
    encoder = tiny_families.text_encoder()
    state = {name: each for name, each in encoder.state_dict().items() if name != "encoder.embed_tokens.weight"}
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    scale = state[name].abs().max() / 448
    state |= {name: (state[name] / scale).to(torch.float8_e4m3fn), "scaled_fp8": torch.zeros(2)}
    state |= {name.replace("weight", "scale_weight"): scale, "spiece_model": torch.zeros(9, dtype=torch.uint8)}
    save_weights(tmp_path / "umt5.safetensors", state)
    tiny_families.tokenizer().save_pretrained(tmp_path)
    found = video_models.load_video_text_encoder(str(tmp_path / "umt5.safetensors"), dtype="float32")
    loaded = found.network.network.state_dict()
    assert torch.allclose(loaded[name], encoder.state_dict()[name], rtol=0.07, atol=1e-3)
    assert text.encode_text(found, "words").tokens.shape == (1, 512, tiny_families.TEXT_WIDTH)


def test_tensors_that_nobody_knows_and_those_that_are_missing_are_all_named(tmp_path):
    state = in_old_names(transformer(), dit_names(2), wan.wan_dit_name)
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 2}))
    save_weights(tmp_path / "more.safetensors", state | {"blocks.0.turbo": torch.ones(1), "lora_up": torch.ones(1)})
    with pytest.raises(ValueError, match=r"2 of its tensors are not known: blocks.0.turbo, lora_up"):
        video_models.load_video_dit(str(tmp_path / "more.safetensors"))
    del state["blocks.1.norm3.weight"], state["blocks.0.ffn.2.bias"]
    save_weights(tmp_path / "less.safetensors", state)
    with pytest.raises(ValueError, match=r"ffn.net.2.bias: missing; blocks.1.norm2.weight: missing"):
        video_models.load_video_dit(str(tmp_path / "less.safetensors"))


class Evil:
    def __reduce__(self):
        return print, ("this ran",)


def test_a_pickle_that_would_run_something_is_refused(tmp_path, capsys):
    torch.save({"conv1.weight": Evil()}, tmp_path / "Wan2.1_VAE.pth")
    with pytest.raises(ValueError, match="no archive of weights alone"):
        video_models.load_video_vae(str(tmp_path))
    torch.save({"conv1.weight": Evil()}, tmp_path / "Wan2.1_VAE.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="no safetensors file"):
        video_models.load_video_vae(str(tmp_path))
    assert "this ran" not in capsys.readouterr().out


def test_a_folder_without_a_tokenizer_or_with_two_models_is_told(folder, tmp_path):
    for path in folder.glob("*.pth"):
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(ValueError, match=r"There is no tokenizer.json"):
        video_models.load_video_text_encoder(str(tmp_path))
    (tmp_path / "other.pth").symlink_to(folder / "Wan2.1_VAE.pth")
    with pytest.raises(ValueError, match=r"holds more than one VAE: Wan2\.1_VAE\.pth, other\.pth"):
        video_models.load_video_vae(str(tmp_path))
    with pytest.raises(ValueError, match="There is no DiT in"):
        video_models.load_video_dit(str(tmp_path))
