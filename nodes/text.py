"""Prompts become text embeddings. Knows no tokenizer: the encoder reads plain text."""

from __future__ import annotations

from kineograph.graph_runtime.node import node
from kineograph.nodes.sockets import TextEmbedding, TextEncoder


@node
def encode_text(encoder: TextEncoder, prompt: str = "") -> TextEmbedding:
    """Read a prompt. The empty prompt is what guidance leads away from.

    Args:
        encoder: the text encoder the DiT was trained with.
        prompt: what shall be seen, in plain words.
    """
    return TextEmbedding(*encoder.network([prompt]))
