"""Language models from folders: what they write is what their weights say, and no folder is trusted."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path

import pytest
import torch
from PIL.Image import fromarray

from kineograph.graph_runtime.errors import NodeFailed
from kineograph.nodes import caption, language_models, prompts
from kineograph.nodes.sockets import Video

pytest.importorskip("transformers", reason="needs pip install 'kineograph[words]'")
import tiny_models

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:transformers")


class Run:
    """A run that remembers how far it came."""

    def __init__(self) -> None:
        self.done: list[tuple[int, int]] = []

    def progress(self, done: int, total: int) -> None:
        self.done.append((done, total))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("models")
    return {
        "llama": tiny_models.language_model(place / "llama"),
        "qwen2": tiny_models.language_model(place / "qwen2", "qwen2", template=None),
        "no_system": tiny_models.language_model(place / "no_system", template=tiny_models.NO_SYSTEM),
        "llava": tiny_models.caption_model(place / "llava"),
        "plain llava": tiny_models.caption_model(place / "plain", template=None),
        "idefics3": tiny_models.caption_model(place / "idefics3", "idefics3"),
    }


@pytest.fixture(autouse=True)
def no_network(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def video(count: int = 2, frames: int = 5) -> Video:
    return Video(torch.rand(count, frames, 3, 24, 40, generator=torch.Generator().manual_seed(2)), 8.0)


def greedily(network, text: str, tokens: int, **pictures) -> str:
    """What a network writes, one likeliest token after another, by calling it on the whole text each time."""
    words = tiny_models.tokenizer()
    ids = words(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    given = ids.shape[1]
    for _ in range(tokens):
        likeliest = network(input_ids=ids, **pictures).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, likeliest], 1)
        if likeliest.item() == words.eos_token_id:
            break
    return " ".join(words.decode(ids[0, given:], skip_special_tokens=True).split()).strip('"“” ')


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        ("llama", "<system>Be brief.<user>a red ball<assistant>"),
        ("no_system", "<user>Be brief.\n\na red ball<assistant>"),
        ("qwen2", "Be brief.\n\nPrompt: a red ball\nAnswer:"),
    ],
)
@torch.no_grad()
def test_a_language_model_is_given_the_instruction_and_the_prompt_and_writes_what_is_likeliest(
    folders, folder, text
) -> None:
    model, run = prompts.load_language_model(folders[folder]), Run()
    written = prompts.expand_prompt_with_model(model, "a red ball", run, "Be brief.", new_tokens=12)
    assert written == greedily(model.network, text, 12)
    assert run.done == [(n, 12) for n in range(1, len(run.done) + 1)]
    assert prompts.expand_prompt_with_model(model, "a red ball", Run(), "Be brief.", new_tokens=12) == written
    assert prompts.expand_prompt_with_model(model, "a blue box", Run(), "Be brief.", new_tokens=12) != written


def test_draws_come_from_the_seed_alone(folders) -> None:
    model = prompts.load_language_model(folders["llama"])
    state = torch.get_rng_state()

    def write(seed: int) -> str:
        return prompts.expand_prompt_with_model(model, "a ball", Run(), new_tokens=12, temperature=1.5, seed=seed)

    assert write(1) == write(1)
    assert len({write(seed) for seed in range(4)}) == 4
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["llava", "idefics3"])
@torch.no_grad()
def test_a_caption_model_sees_the_frames_that_were_chosen(folders, kind) -> None:
    model, clips = caption.load_caption_model(folders[kind]), video()
    given = [parameter.clone() for parameter in model.network.parameters()]
    captioned, text = caption.caption_clips_with_model(model, clips, Run(), 3, "What is it?", new_tokens=10)
    assert captioned.captions == tuple(text.split("\n"))
    assert captioned.video is clips
    for place, frames in enumerate(clips.frames):
        pictures = [fromarray((frames[n] * 255).round().byte().permute(1, 2, 0).numpy()) for n in (0, 2, 4)]
        seen = model.processor.image_processor(pictures, return_tensors="pt")
        marks = "<image>" * (SEEN if kind == "llava" else 1)
        expected = f"<user>{marks * 3}What is it?<assistant>"
        if kind == "idefics3":
            mark = f"<fake_token_around_image><global-img>{'<image>' * 4}<fake_token_around_image>"
            expected = expected.replace("<image>", mark)
        assert captioned.captions[place] == greedily(model.network, expected, 10, **seen)
    assert len(set(captioned.captions)) == 2
    assert all(torch.equal(a, b) for a, b in zip(given, model.network.parameters(), strict=True))
    again = caption.caption_clips_with_model(model, clips, Run(), 3, "What is it?", new_tokens=10)
    assert again.text == text


SEEN = (tiny_models.SIDE // 8) ** 2


def test_a_caption_model_without_a_chat_template_is_asked_in_plain_text(folders) -> None:
    model = caption.load_caption_model(folders["plain llava"])
    assert model.processor.chat_template is None
    black = fromarray(torch.zeros(32, 32, 3).byte().numpy())
    inputs = language_models.read_pictures(model.processor, [black, black], "Hm?")
    assert model.processor.decode(inputs["input_ids"][0]) == "<image>" * 2 * SEEN + "\nHm?\nAnswer:"
    assert caption.caption_clips_with_model(model, video(1), Run(), 2, new_tokens=6).text


def test_thoughts_quotes_and_lines_are_no_part_of_a_prompt(folders) -> None:
    model = prompts.load_language_model(folders["llama"])
    inputs = language_models.read_request(model.tokenizer, "a", "b")

    def answered(text: str) -> str:
        return language_models.answer(model.network, inputs, lambda *_, **__: text, 2, 0.0, 0, Run().progress)

    assert answered(' <think>What now?\n</think>\n"A ball\n rolls." ') == "A ball rolls."
    with pytest.raises(ValueError, match="said nothing within 2 tokens"):
        answered("<think>I wonder")


def test_what_does_not_fit_is_told_with_the_numbers(folders) -> None:
    model = prompts.load_language_model(folders["llama"])
    with pytest.raises(ValueError, match="prompt is empty"):
        prompts.expand_prompt_with_model(model, " ", Run())
    with pytest.raises(ValueError, match=r"room for 2048 tokens: \d+ are given .* new_tokens = 1900"):
        prompts.expand_prompt_with_model(model, "a ball", Run(), new_tokens=1900)


def test_a_run_that_is_stopped_stops_the_model(folders) -> None:
    class Stopped(Run):
        def progress(self, done: int, total: int) -> None:
            if done == 3:
                raise KeyboardInterrupt

    model = prompts.load_language_model(folders["llama"])
    with pytest.raises(KeyboardInterrupt):
        prompts.expand_prompt_with_model(model, "a ball", Stopped(), new_tokens=50)


# Folders of strangers


def changed(folder: str, to: Path, file: str, **settings: object) -> str:
    """A copy of a folder with other settings in a file."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    path = to / file
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | settings))
    return str(to)


@pytest.mark.parametrize(
    ("file", "settings", "told"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, r"config\.json .* \(auto_map\)"),
        ("config.json", {"text_config": [{"auto_map": {}}]}, "auto_map"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}, "auto_map"),
        ("video_preprocessor_config.json", {"auto_map": {}}, "auto_map"),
        ("config.json", {"trust_remote_code": True}, "trust_remote_code"),
        (
            "processor_config.json",
            {"audio_tokenizer": {"audio_tokenizer_class": "DacModel", "audio_tokenizer_name_or_path": "./evil"}},
            "audio_tokenizer_name_or_path",
        ),
        ("config.json", {"attn_implementation": "somebody/kernel"}, "attn_implementation"),
        ("config.json", {"transformers_weights": "../other.safetensors"}, "transformers_weights"),
        ("config.json", {"model_type": "no such thing"}, "knows no model of the type 'no such thing'"),
        ("config.json", {"model_type": None}, "knows no model of the type None"),
        ("config.json", {"hidden_size": 64}, "cannot be loaded"),
        ("config.json", {"num_hidden_layers": 3}, r"9 weights .* are missing, model\.layers\.2"),
        ("adapter_config.json", {"base_model_name_or_path": "/etc"}, "an adapter"),
    ],
)
def test_a_folder_that_names_code_or_does_not_fit_is_refused(folders, tmp_path, file, settings, told) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "evil.py").write_text("raise SystemExit('code of a stranger ran')")
    with pytest.raises(ValueError, match=told):
        prompts.load_language_model(changed(folders["llama"], tmp_path / "model", file, **settings))


def test_a_folder_that_lacks_something_is_refused_and_pickles_with_the_way_to_convert_them(folders, tmp_path) -> None:
    load = prompts.load_language_model
    with pytest.raises(ValueError, match="no folder"):
        load(str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"no config\.json"):
        load(str(tmp_path))
    model = Path(shutil.copytree(folders["llama"], tmp_path / "model"))
    (model / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json of 'model' cannot be read"):
        load(str(model))
    shutil.copy(Path(folders["llama"]) / "config.json", model)
    (model / "tokenizer.json").rename(model / "tokenizer.old")
    with pytest.raises(ValueError, match="no tokenizer in 'model'"):
        load(str(model))
    (model / "tokenizer.old").rename(model / "tokenizer.json")
    (model / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no weights in 'model'"):
        load(str(model))
    torch.save({}, model / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pickles \(pytorch_model\.bin\).* save_pretrained"):
        load(str(model))
    shutil.copy(model / "pytorch_model.bin", model / "model.safetensors")  # a pickle under another name
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load(str(model))


def test_weights_in_parts_are_all_there_and_lie_in_the_folder(tmp_path) -> None:
    whole = prompts.load_language_model(tiny_models.language_model(tmp_path / "whole"))
    folder = tiny_models.language_model(tmp_path / "parts", max_shard_size="20KB")
    parts = sorted(Path(folder).glob("model-*.safetensors"))
    assert len(parts) > 1
    again = prompts.load_language_model(folder).network.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.network.state_dict().items())
    before = language_models.model_digest(folder)
    index = Path(folder) / language_models.INDEX
    known = json.loads(index.read_text())
    parts[0].rename(tmp_path / parts[0].name)
    with pytest.raises(ValueError, match=f"{parts[0].name} is missing"):
        prompts.load_language_model(folder)
    moved = {name: f"../{file}" if file == parts[0].name else file for name, file in known["weight_map"].items()}
    index.write_text(json.dumps(known | {"weight_map": moved}))
    with pytest.raises(ValueError, match="no file of this folder"):
        prompts.load_language_model(folder)
    assert language_models.model_digest(folder) != before


def test_a_folders_own_generation_settings_do_not_count(folders, tmp_path) -> None:
    odd = {"num_beams": 4, "penalty_alpha": 0.6, "top_k": 4, "do_sample": True, "temperature": 9.0, "max_length": 3}
    folder = changed(folders["llama"], tmp_path / "model", "generation_config.json", **odd)
    written = [
        prompts.expand_prompt_with_model(prompts.load_language_model(each), "a ball", Run(), new_tokens=8)
        for each in (folder, folders["llama"])
    ]
    assert written[0] == written[1]


def test_each_node_names_the_other_where_it_is_given_the_others_folder(folders) -> None:
    with pytest.raises(ValueError, match=r"'llava' \(llava\) .* load_caption_model takes it"):
        prompts.load_language_model(folders["llava"])
    with pytest.raises(ValueError, match=r"'llama' \(llama\) cannot look at pictures.* load_language_model takes it"):
        caption.load_caption_model(folders["llama"])


def test_without_the_library_the_extra_is_named(monkeypatch, folders) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'kineograph\[words\]'"):
        prompts.load_language_model(folders["llama"])


def test_both_stand_in_graphs(folders, tmp_path) -> None:
    from kineograph import default_runtime

    nodes = {
        "model": {"type": "load_language_model@1", "params": {"folder": folders["llama"]}},
        "longer": {
            "type": "expand_prompt_with_model@1",
            "params": {"prompt": "a ball", "new_tokens": 6},
            "links": {"model": "model"},
        },
    }
    runtime = default_runtime()
    outputs = runtime.run({"format": 1, "nodes": nodes, "outputs": {"text": "longer"}}).outputs
    assert isinstance(outputs["text"], str)
    nodes["model"]["params"]["folder"] = folders["llava"]
    with pytest.raises(NodeFailed, match="load_caption_model"):
        runtime.run({"format": 1, "nodes": nodes, "outputs": {"text": "longer"}})
