"""HunyuanVideo's two readers of prompts, Llama and CLIP, as transformers and ComfyUI name them. Knows no file.

Where the language model was saved with what sees for it (LLaVA), that half is left out.
"""

from __future__ import annotations

import re
from dataclasses import replace

from kineograph.nodes.families.encoder_schemas import ClipTextEncoder, LlamaEncoder, LlavaEncoder
from kineograph.nodes.families.layouts import clip
from kineograph.nodes.families.layouts.layout import Layout, Said, Shapes, exchanged, layers

LLAMA_HEAD_WIDTH = 128
"""Of Llama 3 8B; its tensors do not tell it."""
CLIP_HEAD_WIDTH = 64
"""Of CLIP ViT-L/14's text encoder."""
STARTS = ("model.", "language_model.model.", "model.language_model.", "model.language_model.model.")
"""Before the names of a language model: alone, and in LLaVA as older and newer releases of transformers save it."""
UNUSED = re.compile(r"(model\.)?((language_model\.)?lm_head|vision_tower|multi_modal_projector)\.|tokenizer$")
CLIP_UNUSED = re.compile(r"vision_model\.|(text|visual)_projection(\.weight)?$|logit_scale$")


def llama_name(name: str) -> str | None:
    """A tensor of Llama, without what it stands in."""
    if UNUSED.match(name):
        return ""
    inner = next((name.removeprefix(each) for each in reversed(STARTS) if name.startswith(each)), name)
    return inner if inner.startswith(("embed_tokens.", "layers.", "norm.")) else None


PROJECTOR = {"linear_1": "projector.0", "linear_2": "projector.2"}


def llava_name(name: str) -> str | None:
    """A tensor of LLaVA, as older and newer releases of transformers save it."""
    plain = name.removeprefix("model.")
    if re.match(r"(language_model\.)?lm_head\.", plain):
        return ""
    if plain.startswith("multi_modal_projector."):
        return exchanged(plain.removeprefix("multi_modal_projector."), PROJECTOR)
    if plain.startswith("vision_tower."):
        inner = clip.clip_name(plain.removeprefix("vision_tower."))
        return inner and f"vision.{inner}"
    inner = llama_name(name) if plain.startswith("language_model.") else None
    return inner and f"language.{inner}"


def llama_sizes(shapes: Shapes, _: Said) -> LlamaEncoder:
    """The sizes of Llama."""
    inner = {new: shape for name, shape in shapes.items() if (new := llama_name(name))}
    vocabulary, width = inner["embed_tokens.weight"]
    first = "layers.0.self_attn.{}_proj.weight"
    return LlamaEncoder(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner["layers.0.mlp.gate_proj.weight"][0],
        num_hidden_layers=layers(inner, r"layers\.(\d+)\."),
        num_attention_heads=inner[first.format("q")][0] // LLAMA_HEAD_WIDTH,
        num_key_value_heads=inner[first.format("k")][0] // LLAMA_HEAD_WIDTH,
        head_dim=LLAMA_HEAD_WIDTH,
    )


def clip_name(name: str) -> str | None:
    """A tensor of CLIP's text encoder, without the prefix that some releases of transformers save."""
    plain = name.removeprefix("text_model.")
    if plain == "embeddings.position_ids":
        return ""
    return plain if plain.startswith(("embeddings.", "encoder.layers.", "final_layer_norm.")) else None


def whole_clip_name(name: str) -> str | None:
    """A tensor of CLIP's text encoder, of a file that has what else CLIP is, too."""
    return "" if CLIP_UNUSED.match(name) else clip_name(name)


def clip_sizes(shapes: Shapes, _: Said) -> ClipTextEncoder:
    """The sizes of CLIP's text encoder."""
    vocabulary, width = shapes["text_model.embeddings.token_embedding.weight"]
    return ClipTextEncoder(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=shapes["text_model.encoder.layers.0.mlp.fc1.weight"][0],
        num_hidden_layers=layers(shapes, r"text_model\.encoder\.layers\.(\d+)\."),
        num_attention_heads=width // CLIP_HEAD_WIDTH,
        max_position_embeddings=shapes["text_model.embeddings.position_embedding.weight"][0],
    )


CLIP = Layout("CLIP's text encoder", "CLIPTextModel", (), clip_name, clip_sizes)
"""Of a part's folder: nothing else is in it."""
WHOLE_CLIP = Layout(
    "CLIP's text encoder", "CLIPTextModel",
    ("text_model.embeddings.token_embedding.weight", "text_model.embeddings.position_embedding.weight",
     "text_model.encoder.layers.0.mlp.fc1.weight"),
    whole_clip_name, clip_sizes,
)  # fmt: skip
LLAMA = Layout("Llama", "LlamaModel", (), llama_name, llama_sizes)
LLAVA = Layout("LLaVA", "LlavaForConditionalGeneration", (), llava_name, lambda *_: LlavaEncoder())
"""Never asked for sizes: it is found beside its configuration alone."""
INSIDE = ("embed_tokens.weight", "layers.0.self_attn.q_proj.weight", "layers.0.self_attn.k_proj.weight",
          "layers.0.mlp.gate_proj.weight", "norm.weight")  # fmt: skip
LAYOUTS = (WHOLE_CLIP, *(replace(LLAMA, marks=tuple(start + name for name in INSIDE)) for start in STARTS))
