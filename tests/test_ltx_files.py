"""LTX-Video's own single files: recognised by content, every name accounted for, equal to diffusers' converters."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import ltx_names
import tiny_families
from diffusers.loaders import single_file_utils

from kineograph.nodes import text, video_models
from kineograph.nodes.families.finding import find
from kineograph.nodes.families.layouts import ltx
from kineograph.nodes.families.layouts.known import recognised
from kineograph.nodes.networks.weights import save_weights

pytestmark = pytest.mark.usefixtures("no_gradients")
VERSIONS = list(ltx_names.GENERATIONS)


def same(ours, theirs) -> None:
    state = ours.state_dict()
    assert all(torch.equal(each, state.pop(name)) for name, each in theirs.state_dict().items())
    assert not state


def test_names_of_the_transformer_mean_what_diffusers_says():
    network, names = ltx_names.transformer(), ltx_names.dit_names(2)
    old = ltx_names.in_old_names(network, names, ltx.dit_name)
    with_prefix = {f"model.diffusion_model.{name}": each for name, each in old.items()}
    theirs = single_file_utils.convert_ltx_transformer_checkpoint_to_diffusers(with_prefix)
    assert theirs.keys() == network.state_dict().keys()
    assert all(torch.equal(each, theirs[ltx.dit_name(name)]) for name, each in old.items())


@pytest.mark.parametrize("version", VERSIONS)
def test_names_of_the_vae_mean_what_diffusers_says(version, monkeypatch):
    network, names = ltx_names.vae(version), ltx_names.vae_names(version)
    old = ltx_names.in_old_names(network, names, ltx_names.GENERATIONS[version][0].rename)
    given = {f"vae.{name}": each for name, each in old.items()}
    if version == "0.9.5":  # by this width of the published one diffusers knows it; ours knows it by its names
        given["vae.encoder.conv_out.conv.weight"] = torch.zeros(1, 2048)
    theirs = single_file_utils.convert_ltx_vae_checkpoint_to_diffusers(given)
    theirs.pop("encoder.conv_out.conv.weight")
    for name, each in network.state_dict().items():
        assert name == "encoder.conv_out.conv.weight" or torch.equal(each, theirs.pop(name)), name
    assert not theirs


@pytest.mark.parametrize("said", ["header", ""])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_single_file_is_the_same_model_by_header_and_shapes(version, said, tmp_path):
    sizes = {} if said else {"num_attention_heads": 32, "attention_head_dim": 2}  # as published; no shape tells heads
    told = None if said else {}
    path = str(ltx_names.write(tmp_path / "ltxv.safetensors", version, told, **sizes))
    dit, vae = video_models.load_video_dit(path, "float32"), video_models.load_video_vae(path)
    same(dit.network.network, ltx_names.transformer(**sizes))
    same(vae.network.network, reference := ltx_names.vae(version))
    config, theirs = vae.network.network.config, reference.config
    assert {name: config[name] for name in theirs if not name.startswith("_")} == {
        name: list(each) if isinstance(each, tuple) else each for name, each in theirs.items() if name[0] != "_"
    } | {name: config[name] for name in ("upsample_residual", "upsample_factor", "decoder_inject_noise")} | (
        {} if version == "0.9.5" else {"downsample_type": config["downsample_type"]}
    )
    assert dit.network.network.config.num_attention_heads == (4 if said else 32)
    assert dit.network.causal is (version == "0.9.5" and bool(said))
    x = torch.randn(1, 8, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    clip = torch.rand(1, 3, 9, 64, 64) * 2 - 1
    level = torch.tensor([0.05]) if reference.config.timestep_conditioning else None
    torch.manual_seed(2)
    ours = vae.network.network.decode(x, level).sample
    torch.manual_seed(2)
    assert (ours - reference.decode(x, level).sample).abs().max() < 1e-5
    encoded = vae.network.network.encode(clip).latent_dist.mean
    assert (encoded - reference.encode(clip).latent_dist.mean).abs().max() < 1e-5


@pytest.mark.parametrize(("version", "words"), [("0.9.1", 128), ("0.9.5", 256)])
def test_a_folder_with_the_file_and_a_bare_t5_is_a_complete_model(version, words, tmp_path):
    path = ltx_names.write(tmp_path / "ltx-video-2b.safetensors", version)
    with pytest.raises(ValueError, match=r"DiT and a VAE, and a text encoder is needed\. Put them beside each other"):
        video_models.load_video_model(str(path), "float32")
    encoder = tiny_families.text_encoder("T5")
    save_weights(tmp_path / "t5xxl_fp16.safetensors", encoder.state_dict())
    tiny_families.tokenizer().save_pretrained(tmp_path)
    model = video_models.load_video_model(str(tmp_path), "float32")
    same(model.text_encoder.network.network, encoder)
    assert text.encode_text(model.text_encoder, "words").tokens.shape == (1, words, tiny_families.TEXT_WIDTH)
    spec = model.vae.spec
    assert (spec.time_ratio, spec.space_ratio, spec.causal, spec.passes) == (8, 32, True, version == "0.9.5")
    given = str(tmp_path), "float32", "float32"
    assert video_models.video_model_digest(str(tmp_path))
    for outlined, whole in zip(video_models.outlined_video_model(*given), model, strict=True):
        for part in outlined.network.resident.parts:
            part.bring("cpu")
        same(outlined.network, whole.network)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"vae": {"norm_layer": "group_norm"}}, "norm_layer"),
        ({"vae": {"turbo": True}}, "vae.turbo"),
        ({"vae": {"encoder_blocks": [["attn_res_x", 3]]}}, "encoder_blocks"),
        ({"transformer": {"num_attention_heads": 5}}, "no shapes that LTX-Video's transformer can have"),
        ({"transformer": {"num_attention_heads": -1}}, "num_attention_heads"),
        ({"transformer": {"positional_embedding_theta": 1.0}}, "positional_embedding_theta"),
        ({"transformer": "x"}, "transformer"),
    ],
)
def test_a_header_that_says_what_the_library_cannot_be_is_refused(said, match, tmp_path):
    path = ltx_names.write(tmp_path / "ltxv.safetensors", "0.9.0", said)
    part = "dit" if "transformer" in said else "vae"
    with pytest.raises(ValueError, match=match):
        find(str(path), part)


def test_a_decoder_that_draws_noise_draws_the_same_and_no_others(tmp_path):
    vae = video_models.load_video_vae(str(ltx_names.write(tmp_path / "ltxv.safetensors", "0.9.1")))
    latent, before = torch.randn(1, 8, 2, 2, 2), torch.get_rng_state()
    first = vae.network.decode(latent)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert torch.equal(vae.network.decode(latent), first)
    torch.manual_seed(0)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
    shift, scale = vae.network.moments(latent)
    z = torch.lerp(latent * scale + shift, noise, 0.025)
    theirs = ltx_names.vae("0.9.1")
    torch.manual_seed(0)
    assert (theirs.decode(z, torch.tensor([0.05])).sample / 2 + 0.5).clamp(0, 1).sub(first).abs().max() < 1e-5


def test_a_header_that_is_no_json_is_told(tmp_path):
    state = ltx_names.old_state("0.9.0")
    for config in ("{", "[" * 100_000, '{"vae": NaN}', "3"):
        save_weights(tmp_path / "ltxv.safetensors", state, {"config": config})
        with pytest.raises(ValueError, match=r"The config in the header of ltxv\.safetensors cannot be read"):
            find(str(tmp_path / "ltxv.safetensors"), "vae")


def test_residuals_that_the_shapes_do_not_tell_come_from_the_header(tmp_path):
    said = ltx_names.header("0.9.1")
    said["vae"]["decoder_blocks"][1] = ["compress_all", {"multiplier": 2}]
    path = ltx_names.write(tmp_path / "ltxv.safetensors", "0.9.1", said)
    assert find(str(path), "vae").config.upsample_residual == [False, True, True]


def test_tensors_that_nobody_knows_are_named_and_those_of_the_other_part_are_not(tmp_path):
    state = ltx_names.old_state("0.9.1")
    state |= {"vae.decoder.up_blocks.7.conv.conv.weight": torch.ones(1), "vae.turbo": torch.ones(1)}
    save_weights(tmp_path / "ltxv.safetensors", state, {"config": json.dumps(ltx_names.header("0.9.1"))})
    video_models.load_video_dit(str(tmp_path / "ltxv.safetensors"))
    with pytest.raises(ValueError, match=r"2 of its tensors are not known: .*up_blocks.7.conv.conv.weight.*turbo"):
        video_models.load_video_vae(str(tmp_path / "ltxv.safetensors"))


def test_a_name_that_would_make_a_network_of_thousands_of_layers_is_refused(tmp_path):
    state = ltx_names.old_state("0.9.1")
    state["vae.decoder.up_blocks.0.res_blocks.30000.conv1.conv.bias"] = torch.ones(1)
    state["model.diffusion_model.transformer_blocks.99999.ff.net.2.bias"] = torch.ones(1)
    save_weights(tmp_path / "ltxv.safetensors", state)
    for part in ("dit", "vae"):
        with pytest.raises(ValueError, match="have no shapes that LTX-Video's"):
            find(str(tmp_path / "ltxv.safetensors"), part)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_vae_alone_is_known_without_a_prefix(version, tmp_path):
    state = {name.removeprefix("vae."): each for name, each in ltx_names.old_state(version).items() if "vae" in name}
    assert [(layout.about, prefix) for layout, prefix in recognised(state)] == [
        (ltx_names.GENERATIONS[version][0].about, "")
    ]
