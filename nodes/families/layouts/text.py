"""Text encoders as Wan's repository and ComfyUI name them. Knows no file, and not who reads a T5."""

from __future__ import annotations

from kineograph.nodes.families.encoder_schemas import T5Encoder
from kineograph.nodes.families.layouts.layout import Layout, Said, Shapes, exchanged, layers, numbered

T5_OUTER = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}
T5_BLOCK = {
    "norm1": "layer.0.layer_norm",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
} | {f"attn.{each}": f"layer.0.SelfAttention.{each}" for each in "qkvo"}


def umt5_name(name: str) -> str | None:
    """A tensor of the text encoder in Wan's repository, in the names of transformers."""
    block, rest = numbered(r"blocks\.\d+\.", name)
    if not block:
        return exchanged(rest, T5_OUTER)
    found = exchanged(rest, T5_BLOCK)
    return found and f"encoder.block.{block.split('.')[1]}.{found}"


def t5_name(name: str) -> str | None:
    """A tensor of a text encoder in the names of transformers; ComfyUI's files hold the tokenizer too."""
    return "" if name == "spiece_model" else name


def umt5_sizes(shapes: Shapes, _: Said) -> T5Encoder:
    """The sizes of the text encoder in Wan's repository."""
    return _t5_sizes(
        shapes, "token_embedding.weight", "blocks.0.attn.q.weight", "blocks.0.ffn.fc1.weight",
        "blocks.0.pos_embedding.embedding.weight", r"blocks\.(\d+)\.",
    )  # fmt: skip


def t5_sizes(shapes: Shapes, _: Said) -> T5Encoder:
    """The sizes of a text encoder in the names of transformers."""
    first = "encoder.block.0.layer"
    return _t5_sizes(
        shapes, "shared.weight", f"{first}.0.SelfAttention.q.weight", f"{first}.1.DenseReluDense.wi_1.weight",
        f"{first}.0.SelfAttention.relative_attention_bias.weight", r"encoder\.block\.(\d+)\.",
    )  # fmt: skip


def _t5_sizes(shapes: Shapes, table: str, query: str, feed: str, bias: str, block: str) -> T5Encoder:
    vocabulary, width = shapes[table]
    buckets, heads = shapes[bias]
    return T5Encoder(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=shapes[query][0] // heads,
        d_ff=shapes[feed][0],
        num_layers=layers(shapes, block),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
    )


LAYOUTS = (
    Layout("Wan's text encoder", "UMT5EncoderModel",
           ("token_embedding.weight", "blocks.0.attn.q.weight", "blocks.0.ffn.fc1.weight",
            "blocks.0.pos_embedding.embedding.weight"), umt5_name, umt5_sizes),
    Layout("the text encoder UMT5", "UMT5EncoderModel",
           ("shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight",
            "encoder.block.0.layer.1.DenseReluDense.wi_1.weight",
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"),  # T5 has it in block 0 alone
           t5_name, t5_sizes),
    Layout("the text encoder T5", "T5EncoderModel",
           ("shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight",
            "encoder.block.0.layer.1.DenseReluDense.wi_1.weight",
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
           t5_name, t5_sizes),
)  # fmt: skip
