"""Language models of the library `transformers` from folders on disk: trusts no folder and asks no network.

Knows no prompt and no clip. Nothing of a folder is executed: settings that name code or files elsewhere are refused
before the library reads them, weights are safetensors whose headers were checked, and of the folder's own generation
settings only the tokens that begin and end a text are taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from kineograph.nodes.clip_files import as_sentence, shown, strict_json

SETTINGS_BYTES = 2**24
INDEX = "model.safetensors.index.json"
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
ELSEWHERE = frozenset({"auto_map", "trust_remote_code", "transformers_weights", "audio_tokenizer_name_or_path"})
"""Settings that make the library run a folder's code, or read weights that were not checked."""
TOKENIZERS = frozenset({"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json"})
THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
LOADING_FAULTS = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError)
"""What the library raises over settings and weights that do not fit together."""


def model_digest(folder: str) -> str:
    """The digest of every file of a model's folder by content, and the library's version."""
    from importlib.metadata import PackageNotFoundError, version

    from blake3 import blake3

    from kineograph.digests import file_digest

    try:
        digest = blake3(version("transformers").encode())
    except PackageNotFoundError:
        digest = blake3()
    for path in sorted(existing_folder(folder).iterdir()):
        if path.is_file():
            digest.update(f"{path.name}\0{file_digest(path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest(20)


def existing_folder(folder: str) -> Path:
    """The folder, if there is one."""
    path = Path(folder)
    if "\0" in folder or not path.is_dir():
        raise ValueError(
            f"There is no folder {shown(folder)!r}. Give one that holds a model of the library transformers: "
            "config.json, a tokenizer and weights as safetensors. Nothing is downloaded."
        )
    return path


def library() -> Any:
    """The library transformers.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return import_module("transformers")
    except ImportError:
        raise ValueError(
            "Language models are read by the library transformers: pip install 'kineograph[words]'."
        ) from None


# What a folder must be before the library sees it


def check_folder(folder: str) -> Path:
    """The folder of a model that brings no code, and weights that are what they say.

    Raises:
        ValueError: what is wrong with it, and the way out.
    """
    from kineograph.nodes.networks.weights import check_header

    path = existing_folder(folder)
    name = shown(path.name)
    if not (path / "config.json").is_file():
        raise ValueError(f"There is no config.json in {name!r}, so it is no model of the library transformers.")
    if (path / "adapter_config.json").exists():
        raise ValueError(
            f"{name!r} holds an adapter, which names its model elsewhere. Merge both where you trust them "
            "(merge_and_unload of the library peft, then save_pretrained), and give that folder."
        )
    for file in sorted(filter(Path.is_file, path.glob("*config.json"))):
        _refuse_code(_settings(file), f"{file.name} of {name!r}")
    for weights in _weights(path, name):
        check_header(weights)
    if not any((path / file).is_file() for file in TOKENIZERS):
        raise ValueError(f"There is no tokenizer in {name!r}: no {', '.join(sorted(TOKENIZERS))}.")
    return path


def _settings(path: Path) -> dict[str, Any]:
    if path.stat().st_size > SETTINGS_BYTES:
        raise ValueError(f"{path.name} has more than {SETTINGS_BYTES:,} bytes.")
    try:
        return strict_json(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} of {shown(path.parent.name)!r} cannot be read: {as_sentence(error)}") from None


def _refuse_code(settings: Any, where: str) -> None:
    """Refuse settings that name code, kernels or weights elsewhere, however deep they stand."""
    rest = [settings]
    while rest:
        part = rest.pop()
        if isinstance(part, list):
            rest += part
        elif isinstance(part, dict):
            rest += part.values()
            for key, value in part.items():
                if key in ELSEWHERE or (key.endswith("_implementation") and "/" in str(value)):
                    raise ValueError(
                        f"{where} names code or weights of its own ({key}), and no such thing is ever loaded. Where "
                        "the library knows the architecture by itself, the entry can be taken out."
                    )


def _weights(path: Path, name: str) -> list[Path]:
    """The files of weights, all there."""
    if (path / "model.safetensors").is_file():
        return [path / "model.safetensors"]
    if (path / INDEX).is_file():
        parts = _settings(path / INDEX).get("weight_map")
        files = sorted(set(map(str, parts.values()))) if isinstance(parts, dict) else []
        for file in files:
            if Path(file).name != file or "\\" in file or not file.endswith(".safetensors"):
                raise ValueError(f"{INDEX} of {name!r} names {shown(file)!r}, which is no file of this folder.")
            if not (path / file).is_file():
                raise ValueError(f"{shown(file)} is missing in {name!r}: {INDEX} names it.")
        if files:
            return [path / file for file in files]
    pickles = sorted(each.name for each in path.iterdir() if each.suffix in PICKLES)
    if pickles:
        raise ValueError(
            f"The weights in {name!r} are pickles ({shown(pickles[0])}), which can run code when they are read. "
            "Convert them where you trust them: from_pretrained, then save_pretrained of the library transformers "
            "writes model.safetensors."
        )
    raise ValueError(f"There are no weights in {name!r}: no model.safetensors and no {INDEX}.")


# Loading


def load(folder: str, sees: bool) -> tuple[Any, Any]:
    """A network that writes text, and its tokenizer; or one that looks at pictures too, and its processor.

    Raises:
        ValueError: the folder holds none, or one of the other kind.
    """
    transformers = library()
    path = check_folder(folder)
    name = shown(path.name)
    kind = _settings(path / "config.json").get("model_type")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        raise ValueError(f"The library transformers {transformers.__version__} knows no model of the type {kind!r}.")
    local = {"local_files_only": True, "trust_remote_code": False}
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(path, **local)
        _check_kind(transformers, type(config), f"{name!r} ({kind})", sees)
        auto = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
        reader = (transformers.AutoProcessor if sees else transformers.AutoTokenizer).from_pretrained(path, **local)
        network, report = auto.from_pretrained(
            path, config=config, use_safetensors=True, output_loading_info=True, **local
        )
    except LOADING_FAULTS as error:
        if type(error) is _WrongKind:
            raise
        told = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"The model in {name!r} cannot be loaded: {told[:400]}") from error
    finally:
        if bars:
            transformers.logging.enable_progress_bar()
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{len(missing)} weights of the model in {name!r} are missing, {missing[0]} for one.")
    ends = network.generation_config
    network.generation_config = transformers.GenerationConfig(
        eos_token_id=ends.eos_token_id, bos_token_id=ends.bos_token_id, pad_token_id=ends.pad_token_id
    )
    return network.eval().requires_grad_(False), reader


class _WrongKind(ValueError):
    """A model of the other kind."""


def _check_kind(transformers: Any, config: type, what: str, sees: bool) -> None:
    writes = config in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    looks = config in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if sees and not looks:
        more = ": it reads text alone. load_language_model takes it" if writes else ""
        raise _WrongKind(f"The model {what} cannot look at pictures{more}.")
    if not sees and not writes:
        more = ": it looks at pictures. load_caption_model takes it" if looks else ""
        raise _WrongKind(f"The model {what} is no language model{more}.")


# Asking


_TEMPLATE = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}


def read_request(tokenizer: Any, instruction: str, request: str) -> Any:
    """A request under an instruction, as the model was taught to read them.

    Args:
        tokenizer: of the model; without a chat template, instruction and request follow each other as plain text.
        instruction: for the system's part; where the template knows none, it leads the request.
        request: what the user says.
    """
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        return tokenizer(f"{instruction}\n\nPrompt: {request}\nAnswer:", return_tensors="pt")
    messages = [{"role": "system", "content": instruction}, {"role": "user", "content": request}]
    try:
        return tokenizer.apply_chat_template(messages, **_TEMPLATE)
    except TemplateError:
        both = [{"role": "user", "content": f"{instruction}\n\n{request}"}]
        return tokenizer.apply_chat_template(both, **_TEMPLATE)


def read_pictures(processor: Any, pictures: list[Any], instruction: str) -> Any:
    """Pictures and what to do with them, as the model was taught to see them.

    Args:
        processor: of the model; without a chat template, its marks for pictures lead the instruction.
        pictures: of the library Pillow.
        instruction: for all of them.
    """
    if not processor.chat_template:
        marks = getattr(processor, "image_token", "") * len(pictures)
        return processor(text=f"{marks}\n{instruction}\nAnswer:", images=pictures, return_tensors="pt")
    parts = [*({"type": "image", "image": each} for each in pictures), {"type": "text", "text": instruction}]
    return processor.apply_chat_template([{"role": "user", "content": parts}], **_TEMPLATE)


def answer(
    network: Any,
    inputs: Mapping[str, Any],
    decode: Callable[..., str],
    new_tokens: int,
    temperature: float,
    seed: int,
    progress: Callable[[int, int], None],
) -> str:
    """What a model says to what it is given, in one line.

    Args:
        network: that writes.
        inputs: tokens (1, L), their mask, and pictures.
        decode: of the tokenizer or processor.
        new_tokens: most that are written.
        temperature: 0 takes the likeliest word each time.
        seed: of the draws, where it is above.
        progress: told after each token.

    Raises:
        ValueError: it has no room for so much, or says nothing.
    """
    import torch

    given = inputs["input_ids"].shape[1]
    room = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    if room and given + new_tokens > room:
        raise ValueError(
            f"The model has room for {room} tokens: {given} are given to it, so new_tokens = {new_tokens} is too many."
        )

    def after_each(tokens_1L: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        progress(tokens_1L.shape[1] - given, new_tokens)
        return torch.zeros(len(tokens_1L), dtype=torch.bool, device=tokens_1L.device)

    how = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        tokens_1L = network.generate(**inputs, **how, max_new_tokens=new_tokens, stopping_criteria=[after_each])
    text = decode(tokens_1L[0, given:], skip_special_tokens=True)
    line = " ".join(THOUGHTS.sub(" ", text).split()).strip('"“” ')
    if not line:
        raise ValueError(f"The model said nothing within {new_tokens} tokens; give it more, or another instruction.")
    return line
