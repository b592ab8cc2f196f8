"""Mochi in the files of Genmo and of ComfyUI: recognised by content, equal to a folder of diffusers.

Old names are spelled here as those files have them. What the transformer's mean is asked of diffusers' converter, which
knows 48 layers alone; what the VAE's mean is that of diffusers' script convert_mochi_to_diffusers.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families
from diffusers import AutoencoderKLMochi
from diffusers.loaders import single_file_utils

from kineograph.nodes import video_models
from kineograph.nodes.families.layouts import mochi
from kineograph.nodes.families.schemas import MochiAutoencoder, MochiTransformer
from kineograph.nodes.networks.weights import save_weights

LAYERS = 48
LINEARS = ("weight", "bias")
VAE = {"layers_per_block": (3, 1, 2, 1, 3), "encoder_block_out_channels": (32,) * 4}


def dit_shapes(width: int = 16, head: int = 8, words: int = 12, layers: int = LAYERS) -> dict[str, tuple[int, ...]]:
    """The tensors of Mochi's transformer as Genmo names them."""
    linears = {
        "t_embedder.mlp.0": (width, 4), "t_embedder.mlp.2": (width, width), "t5_y_embedder.to_kv": (64, 32),
        "t5_y_embedder.to_q": (32, 32), "t5_y_embedder.to_out": (width, 32), "t5_yproj": (words, 32),
        "final_layer.mod": (2 * width, width), "final_layer.linear": (48, width),
    }  # fmt: skip
    shapes = {"pos_frequencies": (3, width // head, head // 2)}
    shapes |= {"x_embedder.proj.weight": (width, 12, 2, 2), "x_embedder.proj.bias": (width,)}
    wide, narrow = (2 * (4 * each * 2 // 3) for each in (width, words))
    for i in range(layers):
        block, last = f"blocks.{i}", i == layers - 1
        linears[f"{block}.mod_x"] = (4 * width, width)
        linears[f"{block}.mod_y"] = (words if last else 4 * words, width)
        linears[f"{block}.attn.proj_x"] = (width, width)
        shapes |= {f"{block}.attn.{each}_norm_{side}.weight": (head,) for each in "qk" for side in "xy"}
        shapes |= {f"{block}.attn.qkv_x.weight": (3 * width, width), f"{block}.attn.qkv_y.weight": (3 * width, words)}
        shapes |= {f"{block}.mlp_x.w1.weight": (wide, width), f"{block}.mlp_x.w2.weight": (width, wide // 2)}
        if not last:
            linears[f"{block}.attn.proj_y"] = (words, width)
            shapes |= {f"{block}.mlp_y.w1.weight": (narrow, words), f"{block}.mlp_y.w2.weight": (words, narrow // 2)}
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


@pytest.fixture(scope="module")
def old() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) / 4 for name, shape in dit_shapes().items()}


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLMochi:
    torch.manual_seed(0)
    return AutoencoderKLMochi(**tiny_families.MOCHI_VAE | VAE).eval()


def halves(vae: AutoencoderKLMochi) -> dict[str, dict[str, torch.Tensor]]:
    """The VAE as Genmo's two files have it."""
    state = vae.state_dict()
    encoder, decoder = {}, {}

    def put(half, old: str, new: str) -> None:
        for end in LINEARS:
            if f"{new}.{end}" in state:
                half[f"{old}.{end}"] = state[f"{new}.{end}"].clone()

    def resnet(half, old: str, block: str, i: int, attends: bool = False) -> None:
        for number, name in ((0, "norm1.norm_layer"), (2, "conv1.conv"), (3, "norm2.norm_layer"), (5, "conv2.conv")):
            put(half, f"{old}.stack.{number}", f"{block}.resnets.{i}.{name}")
        if attends:
            parts = [state[f"{block}.attentions.{i}.to_{each}.weight"] for each in "qkv"]
            half[f"{old}.attn_block.attn.qkv.weight"] = torch.cat(parts)
            put(half, f"{old}.attn_block.attn.out", f"{block}.attentions.{i}.to_out.0")
            put(half, f"{old}.attn_block.norm", f"{block}.norms.{i}.norm_layer")

    depths = vae.config["layers_per_block"][1:4]
    put(encoder, "layers.0", "encoder.proj_in")
    put(decoder, "blocks.0.0", "decoder.conv_in")
    for i in range(3):
        resnet(encoder, f"layers.{i + 1}", "encoder.block_in", i)
        resnet(encoder, f"layers.{i + 7}", "encoder.block_out", i, attends=True)
        resnet(decoder, f"blocks.0.{i + 1}", "decoder.block_in", i)
        resnet(decoder, f"blocks.4.{i}", "decoder.block_out", i)
        put(encoder, f"layers.{i + 4}.layers.0", f"encoder.down_blocks.{i}.conv_in.conv")
        put(decoder, f"blocks.{i + 1}.proj", f"decoder.up_blocks.{i}.proj")
        for j in range(depths[i]):
            resnet(encoder, f"layers.{i + 4}.layers.{j + 1}", f"encoder.down_blocks.{i}", j, attends=True)
        for j in range(depths[2 - i]):
            resnet(decoder, f"blocks.{i + 1}.blocks.{j}", f"decoder.up_blocks.{i}", j)
    put(encoder, "output_norm", "encoder.norm_out.norm_layer")
    put(encoder, "output_proj", "encoder.proj_out")
    put(decoder, "output_proj", "decoder.proj_out")
    return {"encoder": encoder, "decoder": decoder}


def check_same(network, wanted) -> None:
    state = network.state_dict()
    assert all(torch.equal(state.pop(name), tensor) for name, tensor in wanted.items())
    assert not state


@pytest.fixture(scope="module")
def repository(old, vae, tmp_path_factory):
    made = tmp_path_factory.mktemp("mochi-1-preview")
    save_weights(made / "dit.safetensors", old)
    for name, state in halves(vae).items():
        save_weights(made / f"{name}.safetensors", state)
    tiny_families.text_encoder("T5").save_pretrained(made / "text_encoder")
    tiny_families.tokenizer().save_pretrained(made / "tokenizer")
    return made


def test_the_transformers_file_is_what_diffusers_says(old, repository, tmp_path):
    theirs = single_file_utils.convert_mochi_transformer_checkpoint_to_diffusers(dict(old))
    save_weights(tmp_path / "mochi.safetensors", {f"model.diffusion_model.{name}": each for name, each in old.items()})
    for path in (repository, tmp_path / "mochi.safetensors"):
        found = video_models.load_video_dit(str(path), dtype="float32")
        check_same(found.network.network, theirs)


def test_the_vae_of_two_files_and_of_one_is_that_of_diffusers(vae, repository, tmp_path):
    both = {f"{half}.{name}": each for half, state in halves(vae).items() for name, each in state.items()}
    save_weights(tmp_path / "mochi_vae.safetensors", both)
    for path in (repository, repository / "decoder.safetensors", tmp_path / "mochi_vae.safetensors"):
        found = video_models.load_video_vae(str(path))
        check_same(found.network.network, vae.state_dict())


def test_the_files_with_a_text_encoder_beside_them_are_a_model_whose_blocks_can_be_brought(old, vae, repository):
    theirs = single_file_utils.convert_mochi_transformer_checkpoint_to_diffusers(dict(old))
    outlined = video_models.outlined_video_model(str(repository), "float32", "float32")
    for each in outlined:
        for part in each.network.resident.parts:
            part.bring("cpu")
    check_same(outlined.dit.network.network, theirs)
    check_same(outlined.vae.network.network, vae.state_dict())
    assert outlined.text_encoder.network.length == 256


def test_shapes_tell_the_published_sizes():
    shapes = dit_shapes(3072, 128, 1536) | {"x_embedder.proj.weight": (3072, 12, 2, 2)}
    shapes |= {"t_embedder.mlp.0.weight": (3072, 256), "t5_yproj.weight": (1536, 4096)}
    assert mochi.dit_sizes(shapes, {}) == MochiTransformer()
    with torch.device("meta"):
        both = halves(AutoencoderKLMochi())
    shapes = {f"{half}.{name}": tuple(each.shape) for half, state in both.items() for name, each in state.items()}
    assert mochi.vae_sizes(shapes, {}) == MochiAutoencoder()


def test_half_a_vae_is_told(repository, tmp_path):
    (tmp_path / "decoder.safetensors").symlink_to(repository / "decoder.safetensors")
    with pytest.raises(ValueError, match=r"decoder\.safetensors holds half of a VAE"):
        video_models.load_video_vae(str(tmp_path / "decoder.safetensors"))
