"""Folders with tiny models as diffusers writes them: random weights, a tokenizer made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors

TEXT_WIDTH = 32
WAN_DIT: dict[str, Any] = {
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 16, "out_channels": 16,
    "text_dim": TEXT_WIDTH, "freq_dim": 256, "ffn_dim": 32, "num_layers": 2, "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads", "rope_max_seq_len": 32,
}  # fmt: skip
WAN_VAE: dict[str, Any] = {
    "base_dim": 3, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}  # fmt: skip


def tokenizer() -> Any:
    """Every byte is a token, and 1 ends a text, as T5 has it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *alphabet])}
    made = Tokenizer(models.BPE(vocab=words, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def text_encoder(kind: str = "UMT5") -> Any:
    sizes = {"vocab_size": 512, "d_model": TEXT_WIDTH, "d_ff": 64, "num_heads": 4, "num_layers": 2, "d_kv": 8}
    config = getattr(transformers, f"{kind}Config")(**sizes, feed_forward_proj="gated-gelu")
    return getattr(transformers, f"{kind}EncoderModel")(config).eval()


def wan_pipeline() -> WanPipeline:
    """Wan 2.1, text to video, with random weights."""
    torch.manual_seed(0)
    dit = WanTransformer3DModel(**WAN_DIT).eval()
    return WanPipeline(
        tokenizer=tokenizer(),
        text_encoder=text_encoder(),
        vae=AutoencoderKLWan(**WAN_VAE).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        transformer=dit,
    )


def saved(pipeline: Any, folder: Path) -> str:
    pipeline.save_pretrained(folder)
    return str(folder)


def embedded(pipeline: Any, *prompts: str) -> list[torch.Tensor]:
    """Prompts as Wan's text-to-video pipeline embeds them; that for video to video asks for a library more."""
    length = {"max_sequence_length": 512}
    return [WanPipeline._get_t5_prompt_embeds(_Words(pipeline), prompt, **length) for prompt in prompts]


class _Words:
    """What embedding asks of a pipeline."""

    _execution_device = torch.device("cpu")

    def __init__(self, pipeline: Any) -> None:
        self.text_encoder, self.tokenizer = pipeline.text_encoder, pipeline.tokenizer
