"""What an LTX-Video file says of itself in its header (``metadata["config"]``, since 0.9.1). Input, never trusted.

What tensors' shapes tell is taken from them. Here stands what they do not tell, and what must be as every published
model has it: another value would be another network than the library's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from kineograph.nodes.families.schemas import Count, NetworkConfig, Size

One = Annotated[float, Field(ge=1, le=1)]
Numbers = dict[Literal["num_layers", "multiplier", "residual", "inject_noise"], bool | Size]
Reach = Annotated[list[Literal[20, 2048]], Field(min_length=3, max_length=3)]
REACH: list[Literal[20, 2048]] = [20, 2048, 2048]
"""Seconds and pixels that positions are counted in."""
Resamplers = Literal["compress_all", "compress_all_res", "compress_space_res", "compress_time_res"]
Blocks = Annotated[
    list[Annotated[list[Literal["res_x", "res_x_y"] | Resamplers | Size | Numbers], Field(min_length=2, max_length=2)]],
    Field(max_length=32),
]
"""Pairs of what a block does and how much of it: ``["res_x", {"num_layers": 4}]``, or ``["res_x", 4]``."""


class TransformerHeader(NetworkConfig):
    """Of the transformer: the entries that change what it computes. Files hold dozens that do not."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    num_attention_heads: Count = 32
    activation_fn: Literal["gelu-approximate"] = "gelu-approximate"
    attention_type: Literal["default"] = "default"
    causal_temporal_positioning: bool = False
    double_self_attention: Literal[False] = False
    only_cross_attention: Literal[False] = False
    norm_eps: Annotated[float, Field(ge=1e-6, le=1e-6)] = 1e-6
    positional_embedding_max_pos: Reach = REACH
    positional_embedding_theta: Annotated[float, Field(ge=1e4, le=1e4)] = 1e4
    positional_embedding_type: Literal["rope"] = "rope"
    qk_norm: Literal["rms_norm"] = "rms_norm"
    standardization_norm: Literal["rms_norm"] = "rms_norm"
    timestep_scale_multiplier: Literal[1000] = 1000


class AutoencoderHeader(NetworkConfig):
    """Of the VAE: its authors' ``CausalVideoAutoencoder``."""

    dims: Literal[3] = 3
    in_channels: Count = 3
    out_channels: Count = 3
    latent_channels: Size = 128
    blocks: Blocks | None = None
    encoder_blocks: Blocks | None = None
    decoder_blocks: Blocks | None = None
    encoder_base_channels: Size | None = None
    decoder_base_channels: Size | None = None
    causal_decoder: bool = False
    double_z: Literal[True] = True
    latent_log_var: Literal["uniform"] = "uniform"
    norm_layer: Literal["pixel_norm"] = "pixel_norm"
    normalize_latent_channels: Literal[False] = False
    patch_size: Count = 4
    scaling_factor: One = 1.0
    spatial_padding_mode: Literal["zeros"] = "zeros"
    timestep_conditioning: bool = False
    use_quant_conv: Literal[False] = False

    @model_validator(mode="before")
    @classmethod
    def _without_notes(cls, found: Any) -> Any:
        """Entries with a leading underscore are the library's notes, as in ``schemas.read``."""
        if not isinstance(found, dict):
            return found
        return {name: each for name, each in found.items() if not name.startswith("_")}

    def residuals(self) -> list[bool] | None:
        """Whether the decoder's upsamplers add what they were given; None where nothing is said of its blocks."""
        if self.decoder_blocks is None:
            return None
        told: list[Any] = [more for name, more in self.decoder_blocks if str(name).startswith("compress")]
        return [isinstance(more, dict) and more.get("residual") is True for more in told]


class Header(NetworkConfig):
    """Of the whole file; its scheduler, and how many steps it was distilled to, are for those who wire the graph."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    transformer: TransformerHeader = TransformerHeader()
    vae: AutoencoderHeader = AutoencoderHeader()
