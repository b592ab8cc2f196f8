"""A T5 in a file of its own, as ComfyUI's people have it: read as each family reads it, or asked who does."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families

from kineograph.nodes import text, video_models
from kineograph.nodes.networks.weights import save_weights

pytestmark = pytest.mark.usefixtures("no_gradients")
PIPELINES = {
    "ltx-video": tiny_families.ltx_pipeline,
    "cogvideox": tiny_families.cogvideox_pipeline,
    "mochi": tiny_families.mochi_pipeline,
}


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return tiny_families.text_encoder("T5").state_dict()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("text_encoders")
    save_weights(made / "t5xxl_fp16.safetensors", weights())
    tiny_families.tokenizer().save_pretrained(made)
    return made


@pytest.mark.parametrize("family", PIPELINES)
def test_a_bare_t5_says_what_the_familys_folder_says(family, folder, tmp_path):
    pipeline = PIPELINES[family]()
    pipeline.text_encoder.load_state_dict(weights())
    whole = video_models.load_video_text_encoder(tiny_families.saved(pipeline, tmp_path), "float32")
    alone = video_models.load_video_text_encoder(str(folder), "float32", family)
    for words in ("a red circle", ""):
        ours, theirs = (text.encode_text(each, words) for each in (alone, whole))
        assert torch.equal(ours.mask, theirs.mask)
        assert (ours.tokens - theirs.tokens).abs().max() < 1e-5


def test_who_reads_a_bare_t5_must_be_said(folder):
    path = str(folder / "t5xxl_fp16.safetensors")
    with pytest.raises(ValueError, match=r"reads_as ltx-video, ltx-video-0\.9\.5, cogvideox"):
        video_models.load_video_text_encoder(path, "float32")
    with pytest.raises(ValueError, match="reads_as"):
        video_models.video_text_digest(path, "")
    assert video_models.video_text_digest(path, "mochi") == video_models.video_text_digest(path, "ltx-video")


def test_a_t5_in_shards_is_read_whole(tmp_path):
    state = weights()
    names = sorted(state)
    files = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, own in files.items():
        save_weights(tmp_path / file, {name: state[name] for name in own})
    index = {"weight_map": {name: file for file, own in files.items() for name in own}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    tiny_families.tokenizer().save_pretrained(tmp_path / "tokenizer")
    found = video_models.load_video_text_encoder(str(tmp_path), "float32", "ltx-video").network.network.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in state.items())


def test_a_t5_in_eight_bits_keeps_them(tmp_path):
    narrow = {name: each.to(torch.float8_e4m3fn) for name, each in weights().items() if "embed_tokens" not in name}
    save_weights(tmp_path / "t5xxl_fp8_e4m3fn.safetensors", narrow)
    tiny_families.tokenizer().save_pretrained(tmp_path)
    path = str(tmp_path / "t5xxl_fp8_e4m3fn.safetensors")
    found = video_models.load_video_text_encoder(path, "float32", "ltx-video").network.network.state_dict()
    assert all(torch.equal(each.float(), found[name]) for name, each in narrow.items())
    video_models.load_video_text_encoder(path, "float8_e4m3fn", "ltx-video")
