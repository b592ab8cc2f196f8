"""CogVideoX in single files, its authors' and those in diffusers' names: recognised by content, equal to a folder.

Old names are spelled here as those files have them; what they mean is that of diffusers' script
convert_cogvideox_to_diffusers.
"""

from __future__ import annotations

import re

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

from kineograph.nodes import text, video_models
from kineograph.nodes.families.layouts import cogvideox
from kineograph.nodes.families.schemas import CogVideoXAutoencoder, CogVideoXTransformer
from kineograph.nodes.networks.weights import save_weights

ROTARY = {"use_rotary_positional_embeddings": True, "attention_head_dim": 16, "num_attention_heads": 2, "num_layers": 2}
DEEP = {"patch_size_t": 2, "patch_bias": False, "sample_frames": 81}
PLACES = {"sample_height": 60, "sample_width": 90, "sample_frames": 49}
SIZES = {
    "5b": ROTARY | PLACES,
    "5b-I2V": ROTARY | PLACES | {"in_channels": 8, "use_learned_positional_embeddings": True},
    "1.5-I2V": ROTARY | PLACES | DEEP | {"in_channels": 8, "ofs_embed_dim": 2},
}
OUTER = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "ofs_embedding.linear_1": "ofs_embed.0", "ofs_embedding.linear_2": "ofs_embed.2",
    "patch_embed.proj": "mixins.patch_embed.proj", "patch_embed.text_proj": "mixins.patch_embed.text_proj",
    "norm_final": "transformer.final_layernorm", "norm_out.norm": "mixins.final_layer.norm_final",
    "norm_out.linear": "mixins.final_layer.adaLN_modulation.1", "proj_out": "mixins.final_layer.linear",
}  # fmt: skip
BLOCK = {
    "norm1.norm": "transformer.layers.{}.input_layernorm",
    "norm2.norm": "transformer.layers.{}.post_attention_layernorm",
    "attn1.to_out.0": "transformer.layers.{}.attention.dense",
    "ff.net.0.proj": "transformer.layers.{}.mlp.dense_h_to_4h", "ff.net.2": "transformer.layers.{}.mlp.dense_4h_to_h",
    "attn1.norm_q": "mixins.adaln_layer.query_layernorm_list.{}",
    "attn1.norm_k": "mixins.adaln_layer.key_layernorm_list.{}",
}  # fmt: skip


def authors_dit(network: CogVideoXTransformer3DModel) -> dict[str, torch.Tensor]:
    """A transformer as the authors' file has it."""
    state = network.state_dict()
    old = {}
    for end in ("weight", "bias"):
        old |= {f"{name}.{end}": state[f"{new}.{end}"] for new, name in OUTER.items() if f"{new}.{end}" in state}
        for i in range(network.config.num_layers):
            block = f"transformer_blocks.{i}"
            old |= {f"{name.format(i)}.{end}": state[f"{block}.{new}.{end}"] for new, name in BLOCK.items()}
            queries = torch.cat([state[f"{block}.attn1.to_{each}.{end}"] for each in "qkv"])
            old[f"transformer.layers.{i}.attention.query_key_value.{end}"] = queries
            first, second = (state[f"{block}.norm{number}.linear.{end}"].chunk(2) for number in (1, 2))
            levels = torch.cat([first[0], second[0], first[1], second[1]])
            old[f"mixins.adaln_layer.adaLN_modulations.{i}.1.{end}"] = levels
    if "patch_embed.pos_embedding" in state:
        old["mixins.pos_embed.pos_embedding"] = state["patch_embed.pos_embedding"]
    old["mixins.pos_embed.freqs_sin"] = torch.zeros(3)
    return {f"model.diffusion_model.{name}": tensor.clone() for name, tensor in old.items()}


def authors_vae(network: AutoencoderKLCogVideoX) -> dict[str, torch.Tensor]:
    """A VAE as the authors' file has it, a judge's weight among it."""
    old = {"loss.discriminator.weight": torch.zeros(2)}
    for name, tensor in network.state_dict().items():
        name = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{3 - int(found[1])}", name).replace("down_blocks", "down")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
        name = name.replace("resnets", "block").replace("conv_shortcut", "nin_shortcut")
        old[name.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")] = tensor.clone()
    return old


def check_same(network, wanted) -> None:
    state = network.state_dict()
    assert [name for name, tensor in wanted.items() if not torch.equal(state.pop(name), tensor)] == []
    assert not state


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLCogVideoX:
    torch.manual_seed(0)
    return AutoencoderKLCogVideoX(
        **tiny_families.COG_VAE | {"block_out_channels": (32, 32, 32, 64), "norm_num_groups": 32}
    ).eval()


@pytest.mark.parametrize("kind", SIZES)
def test_the_transformer_of_either_file_is_that_of_diffusers(kind, tmp_path):
    torch.manual_seed(1)
    network = (
        CogVideoXTransformer3DModel(**tiny_families.COG_DIT | SIZES[kind]).eval().float()
    )  # its table of places is float64
    inside = tmp_path / "transformer" / "1"
    inside.mkdir(parents=True)
    torch.save({"module": authors_dit(network)}, inside / "mp_rank_00_model_states.pt")
    save_weights(tmp_path / "CogVideoX.safetensors", network.state_dict())
    asked = network.config
    for path in (tmp_path, tmp_path / "CogVideoX.safetensors"):
        found = video_models.load_video_dit(str(path), dtype="float32").network
        check_same(found.network, network.state_dict())
        made = found.network.config
        assert all(made[name] == asked[name] for name in SIZES[kind] if not name.startswith("sample_f"))
        assert torch.equal(found.levels, video_models.cogvideox_levels(1.0).values)
    outlined = video_models.outlined_video_dit(str(tmp_path), "float32").network
    for part in outlined.resident.parts:
        part.bring("cpu")
    check_same(outlined.network, network.state_dict())


def test_the_vae_of_either_file_is_that_of_diffusers(vae, tmp_path):
    (tmp_path / "vae").mkdir()
    torch.save({"state_dict": authors_vae(vae)}, tmp_path / "vae" / "3d-vae.pt")
    save_weights(tmp_path / "cogvideox_vae.safetensors", vae.state_dict())
    for path in (tmp_path, tmp_path / "cogvideox_vae.safetensors"):
        found = video_models.load_video_vae(str(path)).network
        check_same(found.network, vae.state_dict())
        assert found.network.config.scaling_factor == 0.7
        assert found.shown_scale == 1.0


def test_the_authors_folder_is_a_model(vae, tmp_path):
    (tmp_path / "vae").mkdir()
    torch.save({"state_dict": authors_vae(vae)}, tmp_path / "vae" / "3d-vae.pt")
    (tmp_path / "transformer" / "1").mkdir(parents=True)
    dit = CogVideoXTransformer3DModel(**tiny_families.COG_DIT | SIZES["5b"])
    torch.save({"module": authors_dit(dit)}, tmp_path / "transformer" / "1" / "mp_rank_00_model_states.pt")
    tiny_families.text_encoder("T5").save_pretrained(tmp_path / "t5-v1_1-xxl")
    tiny_families.tokenizer().save_pretrained(tmp_path / "t5-v1_1-xxl")
    model = video_models.load_video_model(str(tmp_path), dtype="float32")
    assert text.encode_text(model.text_encoder, "a cat").tokens.shape == (1, 226, tiny_families.TEXT_WIDTH)
    assert (model.vae.spec.shows, model.vae.spec.patch_time, model.dit.patch) == ("", 1, (1, 2, 2))


def test_bare_files_in_one_folder_are_a_model(vae, tmp_path):
    """The DiT says who reads the T5, and how a picture is scaled: 1.5 was shown it the other way."""
    dit = CogVideoXTransformer3DModel(**tiny_families.COG_DIT | SIZES["1.5-I2V"])
    save_weights(tmp_path / "CogVideoX_1_5_5b_I2V.safetensors", dit.state_dict())
    save_weights(tmp_path / "cogvideox_vae.safetensors", vae.state_dict())
    save_weights(tmp_path / "t5xxl.safetensors", tiny_families.text_encoder("T5").state_dict())
    tiny_families.tokenizer().save_pretrained(tmp_path / "tokenizer")
    model = video_models.load_video_model(str(tmp_path), dtype="float32")
    assert text.encode_text(model.text_encoder, "a cat").tokens.shape == (1, 226, tiny_families.TEXT_WIDTH)
    assert (model.vae.spec.shows, model.vae.spec.patch_time, model.dit.patch) == ("first", 2, (2, 2, 2))
    assert model.vae.network.shown_scale == 0.7**-2


def test_the_width_of_2b_tells_its_places_its_levels_and_the_scale_of_its_latents():
    with torch.device("meta"):
        network = CogVideoXTransformer3DModel(num_layers=1)
    shapes = {name: tuple(each.shape) for name, each in network.state_dict().items()}
    config = cogvideox.dit_sizes(shapes, {})
    assert config == CogVideoXTransformer(num_layers=1)
    assert cogvideox.settled(CogVideoXAutoencoder(scaling_factor=0.7), config) == CogVideoXAutoencoder()


def test_a_tensor_that_nobody_knows_is_told(tmp_path):
    network = CogVideoXTransformer3DModel(**tiny_families.COG_DIT | SIZES["5b"])
    torch.save({"module": authors_dit(network) | {"model.diffusion_model.extra": torch.zeros(1)}}, tmp_path / "dit.pt")
    with pytest.raises(ValueError, match=r"1 of its tensors are not known: model\.diffusion_model\.extra"):
        video_models.load_video_dit(str(tmp_path / "dit.pt"))
