"""What configurations of text and image encoders may say; see ``schemas``. Knows no file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from kineograph.nodes.families.schemas import Count, NetworkConfig, Size, Small, Wide


class T5Encoder(NetworkConfig):
    """Of ``UMT5EncoderModel`` and ``T5EncoderModel``: the entries that change what the encoder computes.

    Files of these hold dozens of others, of the decoder and of training, which are left out.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    vocab_size: Wide = 256384
    d_model: Size = 4096
    d_kv: Size = 64
    d_ff: Wide = 10240
    num_layers: Count = 24
    num_heads: Count = 64
    relative_attention_num_buckets: Size = 32
    relative_attention_max_distance: Size = 128
    layer_norm_epsilon: Small = 1e-6
    feed_forward_proj: Literal["gated-gelu", "relu", "gated-silu"] = "gated-gelu"


class CLIPVision(NetworkConfig):
    """Of ``CLIPVisionModel``: the entries that change what it computes; the defaults are those of Wan's, ViT-H/14."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    hidden_size: Size = 1280
    intermediate_size: Wide = 5120
    num_hidden_layers: Count = 32
    num_attention_heads: Count = 16
    num_channels: Literal[3] = 3
    image_size: Annotated[int, Field(ge=1, le=2048)] = 224
    patch_size: Annotated[int, Field(ge=1, le=256)] = 14
    hidden_act: Literal["gelu", "quick_gelu"] = "gelu"
    layer_norm_eps: Small = 1e-5


class MochiText(T5Encoder):
    """Of Mochi's ``T5EncoderModel``, and what its model_index.json says of the empty prompt."""

    force_zeros_for_empty_prompt: bool = False


class Rotary(NetworkConfig):
    """How a language model turns places: plainly, with no scaling for texts longer than it was trained on."""

    rope_theta: Annotated[float, Field(gt=0, lt=1e9)]
    rope_type: Literal["default"] = "default"


class LlamaEncoder(NetworkConfig):
    """Of ``LlamaModel``: the entries that change what it computes, as for :class:`T5Encoder`.

    ``rope_theta`` stands alone in files of transformers before 5, in ``rope_parameters`` since.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    vocab_size: Wide = 128320
    hidden_size: Size = 4096
    intermediate_size: Wide = 14336
    num_hidden_layers: Annotated[int, Field(ge=2, le=256)] = 32
    num_attention_heads: Count = 32
    num_key_value_heads: Count = 8
    head_dim: Size | None = None
    hidden_act: Literal["silu"] = "silu"
    max_position_embeddings: Wide = 8192
    rms_norm_eps: Small = 1e-5
    attention_bias: bool = False
    mlp_bias: bool = False
    rope_theta: Annotated[float, Field(gt=0, lt=1e9)] = 500000.0
    rope_scaling: None = None
    rope_parameters: Rotary | None = None


class LlavaVision(CLIPVision):
    """Of LLaVA's image encoder; the defaults are those of LLaVA's, ViT-L/14 at 336 pixels."""

    hidden_size: Size = 1024
    intermediate_size: Wide = 4096
    num_hidden_layers: Count = 24
    image_size: Annotated[int, Field(ge=1, le=2048)] = 336
    hidden_act: Literal["gelu", "quick_gelu"] = "quick_gelu"


class LlavaEncoder(NetworkConfig):
    """Of ``LlavaForConditionalGeneration``: the entries that change what it computes."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    text_config: LlamaEncoder = LlamaEncoder()
    vision_config: LlavaVision = LlavaVision()
    vision_feature_layer: Literal[-2] = -2
    vision_feature_select_strategy: Literal["default"] = "default"
    projector_hidden_act: Literal["gelu"] = "gelu"
    multimodal_projector_bias: Literal[True] = True


class ClipTextEncoder(NetworkConfig):
    """Of ``CLIPTextModel``: the entries that change what it computes, as for :class:`T5Encoder`."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    vocab_size: Wide = 49408
    hidden_size: Size = 768
    intermediate_size: Wide = 3072
    num_hidden_layers: Count = 12
    num_attention_heads: Count = 12
    max_position_embeddings: Annotated[int, Field(ge=77, le=2**14)] = 77
    hidden_act: Literal["quick_gelu", "gelu"] = "quick_gelu"
    layer_norm_eps: Small = 1e-5
    eos_token_id: Annotated[int, Field(ge=0, le=2**20)] = 2


class WholeClip(ClipTextEncoder):
    """Of ``CLIPModel``, whose text encoder alone is read."""

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, found: Any) -> Any:
        return found.get("text_config", found) if isinstance(found, dict) else found
