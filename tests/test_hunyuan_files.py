"""HunyuanVideo in the files of its authors and of ComfyUI: recognised by content, equal to a folder of diffusers.

Old names are spelled here as those files have them; what they mean is asked of diffusers' converter.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families
import transformers
from diffusers import AutoencoderKLHunyuanVideo
from diffusers.loaders import single_file_utils

from kineograph.nodes import lora, text, video_models
from kineograph.nodes.families.encoder_schemas import LlavaEncoder
from kineograph.nodes.families.finding import find
from kineograph.nodes.families.layouts import hunyuan
from kineograph.nodes.families.schemas import HunyuanAutoencoder, HunyuanTransformer
from kineograph.nodes.networks.lora import LoraLinear
from kineograph.nodes.networks.mapped import mapped, placed_in
from kineograph.nodes.networks.weights import save_weights

LINEARS = ("weight", "bias")


def dit_shapes(width: int, feed: int, singles: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a transformer with one double block and one block of the refiner, as its authors name them."""
    linears = {
        "time_in.mlp.0": (width, 256), "time_in.mlp.2": (width, width), "guidance_in.mlp.0": (width, 256),
        "guidance_in.mlp.2": (width, width), "vector_in.in_layer": (width, 64), "vector_in.out_layer": (width, width),
        "txt_in.input_embedder": (width, 32), "txt_in.t_embedder.mlp.0": (width, 256),
        "txt_in.t_embedder.mlp.2": (width, width), "txt_in.c_embedder.linear_1": (width, 32),
        "txt_in.c_embedder.linear_2": (width, width), "final_layer.adaLN_modulation.1": (2 * width, width),
        "final_layer.linear": (64, width),
    }  # fmt: skip
    refiner = "txt_in.individual_token_refiner.blocks.0"
    linears |= {
        f"{refiner}.self_attn_qkv": (3 * width, width), f"{refiner}.self_attn_proj": (width, width),
        f"{refiner}.mlp.fc1": (4 * width, width), f"{refiner}.mlp.fc2": (width, 4 * width),
        f"{refiner}.adaLN_modulation.1": (2 * width, width),
    }  # fmt: skip
    shapes = {"img_in.proj.weight": (width, 16, 1, 2, 2), "img_in.proj.bias": (width,)}
    shapes |= {f"{refiner}.{norm}.{end}": (width,) for norm in ("norm1", "norm2") for end in LINEARS}
    for side in ("img", "txt"):
        linears |= {
            f"double_blocks.0.{side}_mod.linear": (6 * width, width),
            f"double_blocks.0.{side}_attn_qkv": (3 * width, width),
            f"double_blocks.0.{side}_attn_proj": (width, width),
            f"double_blocks.0.{side}_mlp.fc1": (feed, width),
            f"double_blocks.0.{side}_mlp.fc2": (width, feed),
        }
        shapes |= {f"double_blocks.0.{side}_attn_{each}_norm.weight": (128,) for each in "qk"}
    for i in range(singles):
        linears[f"single_blocks.{i}.modulation.linear"] = (3 * width, width)
        linears[f"single_blocks.{i}.linear1"] = (3 * width + feed, width)
        linears[f"single_blocks.{i}.linear2"] = (width, width + feed)
        shapes |= {f"single_blocks.{i}.{each}_norm.weight": (128,) for each in "qk"}
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def as_comfyui_names(name: str) -> str:
    """From a name of the authors' to that of the same tensor in ComfyUI's file of the model."""
    if name.startswith("final_layer."):
        return f"model.model.{name}"
    name = re.sub(r"^(time_in|guidance_in|txt_in\.t_embedder)\.mlp\.([02])",
                  lambda found: f"{found[1]}.{'in' if found[2] == '0' else 'out'}_layer", name)  # fmt: skip
    name = name.replace("c_embedder.linear_1", "c_embedder.in_layer").replace(
        "c_embedder.linear_2", "c_embedder.out_layer"
    )
    name = re.sub(r"(?:attn_|\.)([qk])_norm\.weight$",
                  lambda found: ("attn" if "attn" in found[0] else "")
                  + f".norm.{'query' if found[1] == 'q' else 'key'}_norm.scale", name)  # fmt: skip
    name = re.sub(r"attn_(qkv|proj)\.", r"attn.\1.", re.sub(r"(_mod|modulation)\.linear\.", r"\1.lin.", name))
    return "model.model." + name.replace("mlp.fc1.", "mlp.0.").replace("mlp.fc2.", "mlp.2.")


@pytest.fixture(scope="module")
def old() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) / 8 for name, shape in dit_shapes(128, 192, 2).items()}


@pytest.fixture(scope="module")
def converted(old) -> dict[str, torch.Tensor]:
    return in_diffusers_names(old)


def in_diffusers_names(old: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """By diffusers, which knows single blocks of width 3072 alone: those are cut here, by what their rows are."""
    rest = {name: tensor.clone() for name, tensor in old.items() if ".linear1." not in name}
    found = single_file_utils.convert_hunyuan_video_transformer_to_diffusers(rest)
    for name in (each for each in old if ".linear1." in each):
        block, end = name.replace("single_blocks", "single_transformer_blocks").split(".linear1.")
        parts = old[name].split([128, 128, 128, 192])
        places = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
        found |= {f"{block}.{place}.{end}": part for place, part in zip(places, parts, strict=True)}
    return found


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLHunyuanVideo:
    torch.manual_seed(0)
    widths = {"block_out_channels": (32, 32, 64, 64), "layers_per_block": 2, "norm_num_groups": 32}
    return AutoencoderKLHunyuanVideo(**tiny_families.HUNYUAN_VAE | widths).eval()


@pytest.fixture(scope="module")
def readers() -> tuple[transformers.LlamaForCausalLM, transformers.CLIPModel]:
    """A language model and the whole of CLIP, with the widths of heads that the published ones have."""
    torch.manual_seed(0)
    language = transformers.LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, head_dim=128,
        num_key_value_heads=1, rope_parameters={"rope_theta": 5e5, "rope_type": "default"}, rms_norm_eps=1e-5,
    )  # fmt: skip
    words = {"vocab_size": 520, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 1, "eos_token_id": 2}
    clip = transformers.CLIPConfig(
        text_config=words | {"num_hidden_layers": 2}, vision_config=tiny_families.CLIP | {"hidden_act": "quick_gelu"}
    )
    return transformers.LlamaForCausalLM(language).eval(), transformers.CLIPModel(clip).eval()


@pytest.fixture(scope="module")
def repository(old, vae, readers, tmp_path_factory) -> Path:
    """As the authors tell to make it, down to fp8 weights whose factors stand beside them."""
    made = tmp_path_factory.mktemp("HunyuanVideo") / "ckpts"
    inside = made / "hunyuan-video-t2v-720p"
    for folder in (inside / "transformers", inside / "vae"):
        folder.mkdir(parents=True)
    torch.save({"module": old}, inside / "transformers" / "mp_rank_00_model_states.pt")
    torch.save({"module": old}, inside / "transformers" / "mp_rank_00_model_states_fp8.pt")
    torch.save({"double_blocks.0.img_mod.linear": 1.0}, inside / "transformers" / "mp_rank_00_model_states_fp8_map.pt")
    torch.save(
        {"state_dict": {f"vae.{name}": each for name, each in vae.state_dict().items()}},
        inside / "vae" / "pytorch_model.pt",
    )
    (inside / "vae" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKLCausal3D"}))
    for reader, folder in zip(readers, ("text_encoder", "text_encoder_2"), strict=True):
        reader.save_pretrained(made / folder)
    save_tokenizers(made / "text_encoder", made / "text_encoder_2")
    return made


def save_tokenizers(language: Path, clip: Path) -> None:
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

    tiny_families.language_tokenizer(DEFAULT_PROMPT_TEMPLATE["template"]).save_pretrained(language)
    tiny_families.clip_tokenizer().save_pretrained(clip)


def check_same(network, wanted) -> None:
    state = network.state_dict()
    assert all(torch.equal(state.pop(name), tensor) for name, tensor in wanted.items())
    assert not state


@pytest.mark.parametrize("layout", ["authors", "comfyui"])
def test_the_transformers_files_are_what_diffusers_says(old, converted, layout, tmp_path):
    names = old if layout == "authors" else {as_comfyui_names(name): tensor for name, tensor in old.items()}
    save_weights(tmp_path / "any.safetensors", names)
    found = video_models.load_video_dit(str(tmp_path / "any.safetensors"), dtype="float32")
    check_same(found.network.network, converted)


def test_rows_of_single_blocks_are_what_diffusers_says_they_are(tmp_path):
    rows = torch.arange(3 * 3072 + 5.0)
    old = {"linear1.weight": rows[:, None], "linear1.bias": -rows, "linear2.weight": torch.zeros(3072, 1)}
    old = {f"single_blocks.7.{name}": tensor for name, tensor in old.items()}
    save_weights(tmp_path / "block.safetensors", old)
    whole = placed_in([tmp_path / "block.safetensors"])
    whole |= {"img_in.proj.weight": whole["single_blocks.7.linear2.weight"]}  # by which the width is known
    ours = hunyuan.dit_split(whole)
    del ours["img_in.proj.weight"]
    theirs = single_file_utils.convert_hunyuan_video_transformer_to_diffusers(dict(old))
    assert {hunyuan.dit_name(name): mapped(each).tolist() for name, each in ours.items()} == {
        name: each.tolist() for name, each in theirs.items()
    }


def in_latent_names(name: str) -> str:
    """From a name of the VAE's to that of the same tensor in ComfyUI's file."""
    name = re.sub(r"up_blocks\.(\d)\.", lambda found: f"up.{3 - int(found[1])}.", name).replace("down_blocks.", "down.")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    name = re.sub(r"(down|up)samplers\.0\.", r"\1sample.", name.replace("resnets.", "block."))
    name = (
        name.replace("mid_block.attentions.0", "mid.attn_1")
        .replace("group_norm.", "norm.")
        .replace("to_out.0", "proj_out")
    )
    return (
        re.sub(r"attn_1\.to_", "attn_1.", name)
        .replace("conv_shortcut", "nin_shortcut")
        .replace("conv_norm_out", "norm_out")
    )


def test_the_vae_of_comfyui_is_that_of_the_authors(vae, tmp_path):
    state = {in_latent_names(name): tensor for name, tensor in vae.state_dict().items()}
    assert {"decoder.up.1.block.0.nin_shortcut.conv.bias", "encoder.down.2.downsample.conv.conv.weight",
            "decoder.mid.attn_1.proj_out.weight", "encoder.norm_out.bias"} <= state.keys()  # fmt: skip
    for name, tensor in state.items():
        if ".mid.attn_1." in name and tensor.ndim == 2:
            state[name] = tensor[..., None, None, None]
    save_weights(tmp_path / "vae.safetensors", state)
    found = video_models.load_video_vae(str(tmp_path / "vae.safetensors"))
    check_same(found.network.network, vae.state_dict())


@pytest.mark.parametrize("made", ["loaded", "outlined"])
def test_the_repository_of_the_authors_is_the_same_model(repository, vae, readers, converted, made):
    call = video_models.load_video_model if made == "loaded" else video_models.outlined_video_model
    found = call(str(repository), "float32", "float32")
    for each in found if made == "outlined" else ():  # as under --memory
        for part in each.network.resident.parts:
            part.bring("cpu")
    language, clip = readers
    check_same(found.dit.network.network, converted)
    check_same(found.vae.network.network, vae.state_dict())
    check_same(found.text_encoder.network.network, language.model.state_dict())
    check_same(found.text_encoder.network.beside, text_model(clip).state_dict())


def text_model(clip):
    return getattr(clip.text_model, "text_model", clip.text_model)


@pytest.mark.parametrize(
    ("start", "head"),
    [("model.", ""), ("language_model.model.", "language_model."), ("model.language_model.", ""),
     ("model.language_model.model.", "model.language_model.")],
)  # fmt: skip
def test_readers_in_single_files_read_as_those_in_folders(repository, readers, start, head, tmp_path):
    language, clip = readers
    state = {start + name: tensor for name, tensor in language.model.state_dict().items()}
    state[f"{head}lm_head.weight"] = language.lm_head.weight.data
    state["model.vision_tower.vision_model.post_layernorm.weight"] = torch.ones(4)
    save_weights(tmp_path / "llava.safetensors", state)
    words = {f"text_model.{name}": tensor for name, tensor in text_model(clip).state_dict().items()}
    save_weights(tmp_path / "clip_l.safetensors", words | {"logit_scale": torch.ones(())})
    save_tokenizers(tmp_path / "tokenizer", tmp_path / "tokenizer_2")
    ours, theirs = (
        text.encode_text(video_models.load_video_text_encoder(str(path), dtype="float32"), "a red circle")
        for path in (tmp_path / "llava.safetensors", repository)
    )
    assert (ours.tokens - theirs.tokens).abs().max() < 1e-5
    assert (ours.pooled - theirs.pooled).abs().max() < 1e-5
    (tmp_path / "clip_l.safetensors").rename(tmp_path / "clip_l.txt")
    with pytest.raises(ValueError, match="no text encoder of CLIP in"):
        video_models.load_video_text_encoder(str(tmp_path / "llava.safetensors"))


def test_weights_in_fp8_with_factors_elsewhere_and_unknown_wrappings_are_refused(repository, old, tmp_path):
    path = repository / "hunyuan-video-t2v-720p" / "transformers" / "mp_rank_00_model_states_fp8.pt"
    with pytest.raises(ValueError, match=r"stand in mp_rank_00_model_states_fp8_map\.pt, which is not read"):
        video_models.load_video_dit(str(path))
    torch.save({"module": {"module": old}}, tmp_path / "twice.pt")
    with pytest.raises(ValueError, match="something else than tensors by name"):
        video_models.load_video_dit(str(tmp_path / "twice.pt"))
    other = old | {"img_in.proj.weight": torch.zeros(128, 32, 1, 2, 2)}  # SkyReels' image to video
    save_weights(tmp_path / "other.safetensors", other)
    with pytest.raises(ValueError, match="have no shapes that HunyuanVideo's transformer can have"):
        video_models.load_video_dit(str(tmp_path / "other.safetensors"))
    save_weights(tmp_path / "short.safetensors", old | {"single_blocks.1.linear1.bias": torch.zeros(300)})
    with pytest.raises(ValueError, match="has 300 rows, and 256 to 384 are asked for"):
        video_models.load_video_dit(str(tmp_path / "short.safetensors"))


def test_the_repository_of_image_to_video_is_known_by_its_folder_and_a_file_by_what_is_said_beside_it(
    repository, old, tmp_path
):
    inside = tmp_path / "hunyuan-video-i2v-720p" / "transformers"
    inside.mkdir(parents=True)
    text_only = repository / "hunyuan-video-t2v-720p" / "transformers" / "mp_rank_00_model_states.pt"
    (inside / text_only.name).symlink_to(text_only)
    (tmp_path / "text_encoder_2").symlink_to(repository / "text_encoder_2")
    language = tmp_path / "text_encoder_i2v"
    language.mkdir()
    (language / "config.json").write_text(json.dumps({"architectures": ["LlavaForConditionalGeneration"]}))
    save_weights(language / "model.safetensors", {"lm_head.weight": torch.ones(1)})
    assert find(str(tmp_path), "dit").config.image_condition_type == "token_replace"
    assert find(str(tmp_path), "text_encoder").config == LlavaEncoder()
    assert find(str(repository), "dit").config.image_condition_type is None
    save_weights(tmp_path / "replace.safetensors", {as_comfyui_names(name): each for name, each in old.items()})
    (tmp_path / "config.json").write_text(json.dumps({"image_condition_type": "token_replace"}))
    assert find(str(tmp_path / "replace.safetensors"), "dit").config.image_condition_type == "token_replace"
    wide = old | {"img_in.proj.weight": torch.zeros(128, 33, 1, 2, 2)}
    save_weights(tmp_path / "concat.safetensors", {as_comfyui_names(name): each for name, each in wide.items()})
    assert find(str(tmp_path / "concat.safetensors"), "dit").config.image_condition_type == "latent_concat"


@pytest.mark.parametrize("layout", ["authors", "comfyui", "musubi"])
def test_a_lora_in_other_names_changes_weights_as_that_of_diffusers(old, converted, layout, tmp_path):
    save_weights(tmp_path / "dit.safetensors", old)
    dit = video_models.load_video_dit(str(tmp_path / "dit.safetensors"), dtype="float32")
    generator = torch.Generator().manual_seed(1)
    given = {name.removesuffix(".weight"): each for name, each in old.items() if each.ndim == 2}
    del given["final_layer.adaLN_modulation.1"]
    state, theirs = {}, {}
    for name, weight in given.items():
        up, down = (
            torch.randn(len(weight), 2, generator=generator),
            torch.randn(2, weight.shape[1], generator=generator),
        )
        place = {"authors": f"transformer.{name}", "musubi": f"lora_unet_{name.replace('.', '_')}"}.get(layout)
        place = (
            place or as_comfyui_names(f"{name}.weight").replace("model.model.", "diffusion_model.")[: -len(".weight")]
        )
        kinds = ("lora_down", "lora_up") if layout == "musubi" else ("lora_A", "lora_B")
        state |= {f"{place}.{kinds[0]}.weight": down, f"{place}.{kinds[1]}.weight": up}
        theirs[f"{name}.weight"] = weight + up @ down
    save_weights(tmp_path / "lora.safetensors", state)
    updated = lora.apply_lora(dit, str(tmp_path / "lora.safetensors")).network.network
    merged = in_diffusers_names(old | theirs)
    for name, layer in updated.named_modules():
        if isinstance(layer, LoraLinear):
            changed = converted[f"{name}.weight"] + layer.up @ layer.down
            assert (changed - merged[f"{name}.weight"]).abs().max() < 1e-4
            del merged[f"{name}.weight"]
    assert all(torch.equal(each, converted[name]) for name, each in merged.items())


def test_shapes_tell_the_published_sizes():
    shapes = dit_shapes(3072, 12288, 40)
    for i in range(1, 20):
        shapes |= {re.sub(r"^double_blocks\.0", f"double_blocks.{i}", name): each for name, each in shapes.items()}
    shapes |= {re.sub(r"^(txt_in.*blocks)\.0", r"\1.1", name): each for name, each in shapes.items()}
    shapes |= {"txt_in.input_embedder.weight": (3072, 4096), "vector_in.in_layer.weight": (3072, 768)}
    comfyui = {as_comfyui_names(name).removeprefix("model.model."): each for name, each in shapes.items()}
    assert sum("double_blocks" in name for name in comfyui) == 480  # as in hunyuan_video_t2v_720p_bf16.safetensors
    assert sum("single_blocks" in name for name in comfyui) == 320
    assert hunyuan.dit_sizes(shapes, {}) == hunyuan.dit_sizes(comfyui, {}) == HunyuanTransformer()
    with torch.device("meta"):
        state = {name: tuple(each.shape) for name, each in AutoencoderKLHunyuanVideo().state_dict().items()}
    latent = {in_latent_names(name): each for name, each in state.items()}
    assert hunyuan.vae_sizes(state, {}) == hunyuan.latent_vae_sizes(latent, {}) == HunyuanAutoencoder()
