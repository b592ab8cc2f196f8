"""Folders with tiny models as the library transformers writes them: random weights, tokenizers made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "<system>", "<user>", "<assistant>", "<fake_token_around_image>"]
SPECIAL += ["<global-img>", "<end_of_utterance>"]
CHAT = (
    "{% for message in messages %}{{ '<' + message.role + '>' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system part') }}{% endif %}" + CHAT
SIDE = 32
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}


def tokenizer(template: str | None = CHAT) -> Any:
    """Every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, **named, additional_special_tokens=SPECIAL[4:], chat_template=template
    )


def sizes(words: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(words),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def stirred(network: Any) -> Any:
    """With weights large enough to say different things of different prompts."""
    made = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=made) * 0.3)
    return network


def language_model(folder: Path, kind: str = "llama", template: str | None = CHAT, **saved: Any) -> str:
    """A folder with a model that reads text: llama or qwen2."""
    words = tokenizer(template)
    config, network = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    }[kind]
    stirred(network(config(**sizes(words)))).save_pretrained(folder, **saved)
    words.save_pretrained(folder)
    return str(folder)


def caption_model(folder: Path, kind: str = "llava", template: str | None = CHAT) -> str:
    """A folder with a model that looks at pictures too: llava or idefics3."""
    words = tokenizer(template)
    network, processor = {"llava": _llava, "idefics3": _idefics3}[kind](words)
    stirred(network).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def _llava(words: Any) -> tuple[Any, Any]:
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION, projection_dim=16),
        text_config=transformers.LlamaConfig(**sizes(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    looks = transformers.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = transformers.LlavaProcessor(
        looks,
        words,
        patch_size=VISION["patch_size"],
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=words.chat_template,
    )
    return transformers.LlavaForConditionalGeneration(config), processor


def _idefics3(words: Any) -> tuple[Any, Any]:
    config = transformers.Idefics3Config(
        vision_config=VISION,
        text_config={"model_type": "llama"} | sizes(words),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    looks = transformers.Idefics3ImageProcessorPil(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    processor = transformers.Idefics3Processor(looks, words, image_seq_len=4, chat_template=words.chat_template)
    return transformers.Idefics3ForConditionalGeneration(config), processor
