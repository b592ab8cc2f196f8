"""LoRAs of LTX-Video: trained by the same file as others, read in the names of its authors and of diffusers."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import ltx_names
import tiny_families
from test_lora_training import moved, on_wan, trained

from kineograph.nodes import lora, sample, video_models, world
from kineograph.nodes.media import write_video
from kineograph.nodes.networks.weights import save_weights
from kineograph.nodes.sockets import TextEmbedding


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """The authors' file of 0.9.1, a bare T5 and a tokenizer."""
    made = tmp_path_factory.mktemp("LTX")
    ltx_names.write(made / "ltx-video-2b-v0.9.1.safetensors", "0.9.1")
    save_weights(made / "t5xxl_fp16.safetensors", tiny_families.text_encoder("T5").state_dict())
    tiny_families.tokenizer().save_pretrained(made)
    return str(made)


@pytest.fixture(scope="module")
def asked(model):
    noise = sample.latent_noise(video_models.load_video_vae(model), frames=9, height=64, width=64, seed=5)
    words = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(6))
    return sample.patchify(noise), TextEmbedding(words, torch.ones(1, 4, dtype=torch.bool))


def said(dit, asked):
    with torch.no_grad():
        return sample.dit_velocity(dit, *asked, 0.7).tokens


def test_the_same_file_trains_ltx_video(model, asked, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, clips in enumerate(world.world_clips(batches=2, formats=["9x64x64:1"], seed=5)):
        write_video(folder / f"{number}.mp4", 1 - clips.video.frames[0], fps=8)
        (folder / f"{number}.txt").write_text(clips.captions[0])
    sizes = {"frames": 9, "height": 64, "width": 64}
    given = sizes | {"folder": str(folder), "steps": 16, "rate": 0.03, "look_every": 16, "recompute": True}
    made, losses = trained(given, tmp_path / "made", on_wan(model))
    assert sum(losses[-6:]) < 0.95 * sum(losses[:6])
    found = video_models.load_video_dit(f"{model}/ltx-video-2b-v0.9.1.safetensors", "float32")
    applied = lora.apply_lora(found, str(tmp_path / "made" / "lora.safetensors"))
    assert torch.equal(said(applied, asked), said(lora.add_lora(found, made), asked))
    assert (said(applied, asked) - said(found, asked)).abs().max() > 1e-3


@pytest.mark.parametrize("prefix", ["diffusion_model.", "transformer.", "lora_unet_"])
def test_files_in_other_names_are_the_same_update(prefix, model, asked, tmp_path):
    found = video_models.load_video_dit(model, "float32")
    start = moved(lora.start_lora(found, rank=2, layers=["attn1.to_q", "attn2.to_out.0", "ff.net.2"]))
    updates = {name: (each.down, each.up) for name, each in start.network.by_layer().items()}
    merged = ltx_names.transformer()
    outer = {"patchify_proj": merged.proj_in, "adaln_single.emb.timestep_embedder.linear_2": (
        merged.time_embed.emb.timestep_embedder.linear_2)}  # fmt: skip
    for name, layer in outer.items():
        down, up = torch.randn(2, layer.in_features) * 0.1, torch.randn(layer.out_features, 2) * 0.1
        updates[name] = (down, up)
    with torch.no_grad():
        for name, (down, up) in updates.items():
            (outer.get(name) or merged.get_submodule(name)).weight += 0.5 * up @ down
    if prefix == "lora_unet_":
        updates = {name.replace(".", "_"): each for name, each in updates.items()}
    ends = (".lora_down.weight", ".lora_up.weight") if prefix == "lora_unet_" else (".lora_A.weight", ".lora_B.weight")
    state = {
        f"{prefix}{name}{end}": part for name, each in updates.items() for end, part in zip(ends, each, strict=True)
    }
    save_weights(tmp_path / "lora.safetensors", state)
    applied = said(lora.apply_lora(found, str(tmp_path / "lora.safetensors"), 0.5), asked)
    before = said(found, asked)
    found.network.network.load_state_dict(merged.state_dict())
    assert (applied - said(found, asked)).abs().max() < 1e-5
    assert (applied - before).abs().max() > 1e-3
