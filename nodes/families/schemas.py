"""What the configurations of known networks may say, as pydantic models: a config.json is input, never a program.

Bounds keep a lie from taking memory before the weights are compared; an entry that is not known is refused, since a
network that ignored it would draw something else without a word.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Size = Annotated[int, Field(ge=1, le=2**15)]
Count = Annotated[int, Field(ge=1, le=256)]
Wide = Annotated[int, Field(ge=1, le=2**20)]
Triple = Annotated[list[Annotated[int, Field(ge=1, le=16)]], Field(min_length=3, max_length=3)]
Numbers = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1, max_length=512)]
Small = Annotated[float, Field(gt=0, lt=1)]
Config = TypeVar("Config", bound="NetworkConfig")


class NetworkConfig(BaseModel):
    """The sizes of a network, as its library's class takes them."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class WanTransformer(NetworkConfig):
    """Of ``WanTransformer3DModel``; the defaults are those of the library."""

    patch_size: Triple = [1, 2, 2]
    num_attention_heads: Count = 40
    attention_head_dim: Annotated[int, Field(ge=1, le=512)] = 128
    in_channels: Size = 16
    out_channels: Size = 16
    text_dim: Size = 4096
    freq_dim: Size = 256
    ffn_dim: Wide = 13824
    num_layers: Count = 40
    cross_attn_norm: bool = True
    qk_norm: Literal["rms_norm_across_heads"] | None = "rms_norm_across_heads"
    eps: Small = 1e-6
    image_dim: Size | None = None
    added_kv_proj_dim: Size | None = None
    rope_max_seq_len: Annotated[int, Field(ge=1, le=2**14)] = 1024
    pos_embed_seq_len: Size | None = None


class VACETransformer(WanTransformer):
    """Of ``WanVACETransformer3DModel``; the defaults are those of the library, for 14B."""

    vace_layers: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=1, max_length=256)] = [
        *range(0, 40, 5)
    ]
    vace_in_channels: Size = 96


WAN_MEANS = [-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508]
WAN_MEANS += [0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921]
WAN_DEVIATIONS = [2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743]
WAN_DEVIATIONS += [3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160]


class WanAutoencoder(NetworkConfig):
    """Of ``AutoencoderKLWan``; the defaults are those of the library, for the VAE of Wan 2.1."""

    base_dim: Size = 96
    decoder_base_dim: Size | None = None
    z_dim: Size = 16
    dim_mult: Annotated[list[Count], Field(min_length=1, max_length=8)] = [1, 2, 4, 4]
    num_res_blocks: Count = 2
    attn_scales: Annotated[list[float], Field(max_length=8)] = []
    temperal_downsample: Annotated[list[bool], Field(max_length=8)] = [False, True, True]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    latents_mean: Numbers = WAN_MEANS
    latents_std: Numbers = WAN_DEVIATIONS
    is_residual: bool = False
    in_channels: Count = 3
    out_channels: Count = 3
    patch_size: Count | None = None
    scale_factor_temporal: Annotated[int, Field(ge=1, le=16)] = 4
    scale_factor_spatial: Annotated[int, Field(ge=1, le=64)] = 8
    clip_output: Annotated[bool, Field(exclude=True)] = True
    """Wan 2.2 5B's file says it, to the library it means nothing."""


class LTXTransformer(NetworkConfig):
    """Of ``LTXVideoTransformer3DModel``; the defaults are those of the library, for LTX-Video 2B.

    ``causal_positions`` is how it counts time: since 0.9.5 the first latent frame is one frame long, as its VAE has it.
    """

    in_channels: Size = 128
    out_channels: Size = 128
    patch_size: Literal[1] = 1
    patch_size_t: Literal[1] = 1
    num_attention_heads: Count = 32
    attention_head_dim: Size = 64
    cross_attention_dim: Size = 2048
    num_layers: Count = 28
    activation_fn: Literal["gelu-approximate"] = "gelu-approximate"
    qk_norm: Literal["rms_norm_across_heads"] = "rms_norm_across_heads"
    norm_elementwise_affine: bool = False
    norm_eps: Small = 1e-6
    caption_channels: Size = 4096
    attention_bias: bool = True
    attention_out_bias: bool = True
    causal_positions: bool = False


Counts = Annotated[list[Size], Field(min_length=1, max_length=8)]
Depths = Annotated[list[Count], Field(min_length=1, max_length=8)]
Switches = Annotated[list[bool], Field(min_length=1, max_length=8)]


class LTXAutoencoder(NetworkConfig):
    """Of ``AutoencoderKLLTXVideo``; the defaults are those of the library, for the first LTX-Video."""

    in_channels: Count = 3
    out_channels: Count = 3
    latent_channels: Size = 128
    block_out_channels: Counts = [128, 256, 512, 512]
    down_block_types: Annotated[
        list[Literal["LTXVideoDownBlock3D", "LTXVideo095DownBlock3D"]], Field(min_length=1, max_length=8)
    ] = ["LTXVideoDownBlock3D"] * 4
    decoder_block_out_channels: Counts = [128, 256, 512, 512]
    layers_per_block: Depths = [4, 3, 3, 3, 4]
    decoder_layers_per_block: Depths = [4, 3, 3, 3, 4]
    spatio_temporal_scaling: Switches = [True, True, True, False]
    decoder_spatio_temporal_scaling: Switches = [True, True, True, False]
    decoder_inject_noise: Switches = [False] * 5
    downsample_type: Annotated[
        list[Literal["conv", "spatial", "temporal", "spatiotemporal"]], Field(min_length=1, max_length=8)
    ] = ["conv"] * 4
    upsample_residual: Switches = [False] * 4
    upsample_factor: Counts = [1] * 4
    timestep_conditioning: bool = False
    patch_size: Count = 4
    patch_size_t: Count = 1
    resnet_norm_eps: Small = 1e-6
    scaling_factor: Annotated[float, Field(gt=0, lt=1000)] = 1.0
    encoder_causal: bool = True
    decoder_causal: bool = False
    spatial_compression_ratio: Count | None = None
    temporal_compression_ratio: Count | None = None


Few = Annotated[int, Field(ge=1, le=96)]


class CogVideoXTransformer(NetworkConfig):
    """Of ``CogVideoXTransformer3DModel``: places are a table as large as the sample's size, or rotary, or both.

    Image to video has twice the channels; what is learned as a table is a weight, and knows no other height and width.

    ``snr_shift_scale`` is the scheduler's: it decides which timestep a noise level has.
    """

    num_attention_heads: Annotated[int, Field(ge=1, le=48)] = 30
    attention_head_dim: Annotated[int, Field(ge=1, le=64)] = 64
    in_channels: Size = 16
    out_channels: Size = 16
    flip_sin_to_cos: bool = True
    freq_shift: Annotated[int, Field(ge=0, le=1)] = 0
    time_embed_dim: Size = 512
    ofs_embed_dim: Size | None = None
    text_embed_dim: Size = 4096
    num_layers: Count = 30
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attention_bias: bool = True
    sample_width: Annotated[int, Field(ge=1, le=512)] = 90
    sample_height: Annotated[int, Field(ge=1, le=512)] = 60
    sample_frames: Few = 49
    patch_size: Few = 2
    patch_size_t: Annotated[int, Field(ge=1, le=8)] | None = None
    temporal_compression_ratio: Annotated[int, Field(ge=1, le=16)] = 4
    max_text_seq_length: Size = 226
    activation_fn: Literal["gelu-approximate"] = "gelu-approximate"
    timestep_activation_fn: Literal["silu"] = "silu"
    norm_elementwise_affine: bool = True
    norm_eps: Small = 1e-5
    spatial_interpolation_scale: Annotated[float, Field(gt=0, lt=100)] = 1.875
    temporal_interpolation_scale: Annotated[float, Field(gt=0, lt=100)] = 1.0
    use_rotary_positional_embeddings: bool = False
    use_learned_positional_embeddings: bool = False
    patch_bias: bool = True
    snr_shift_scale: Annotated[float, Field(gt=0, lt=100)] = 3.0

    @model_validator(mode="after")
    def _channels_are_known(self) -> Self:
        if self.in_channels not in (self.out_channels, 2 * self.out_channels):
            raise ValueError(
                f"{self.in_channels} channels in and {self.out_channels} out are those of CogVideoX-Fun or another "
                "offspring, which is told of frames in a way that is not known here"
            )
        return self

    @model_validator(mode="after")
    def _table_is_small(self) -> Self:
        if self.use_learned_positional_embeddings and not self.use_rotary_positional_embeddings:
            raise ValueError("a learned table of places stands beside rotary ones in what was published")
        table = self.use_learned_positional_embeddings or not self.use_rotary_positional_embeddings
        if table and max(self.sample_height, self.sample_width) > 96:
            raise ValueError("a table of places for more than 96 x 96 cells is none that was published")
        return self


class CogVideoXAutoencoder(NetworkConfig):
    """Of ``AutoencoderKLCogVideoX``."""

    in_channels: Count = 3
    out_channels: Count = 3
    down_block_types: Annotated[list[Literal["CogVideoXDownBlock3D"]], Field(max_length=8)] = [
        "CogVideoXDownBlock3D"
    ] * 4
    up_block_types: Annotated[list[Literal["CogVideoXUpBlock3D"]], Field(max_length=8)] = ["CogVideoXUpBlock3D"] * 4
    block_out_channels: Counts = [128, 256, 256, 512]
    latent_channels: Size = 16
    layers_per_block: Count = 3
    act_fn: Literal["silu"] = "silu"
    norm_eps: Small = 1e-6
    norm_num_groups: Count = 32
    temporal_compression_ratio: Annotated[int, Field(ge=1, le=16)] = 4
    sample_height: Size = 480
    sample_width: Size = 720
    scaling_factor: Annotated[float, Field(gt=0, lt=1000)] = 1.15258426
    shift_factor: None = None
    latents_mean: None = None
    latents_std: None = None
    force_upcast: bool = True
    use_quant_conv: Literal[False] = False
    use_post_quant_conv: Literal[False] = False
    invert_scale_latents: bool = False


Factors = Annotated[list[Annotated[int, Field(ge=1, le=8)]], Field(min_length=1, max_length=8)]

MOCHI_MEANS = [-0.06730895953510081, -0.038011381506090416, -0.07477820912866141, -0.05565264470995561]
MOCHI_MEANS += [0.012767231469026969, -0.04703542746246419, 0.043896967884726704, -0.09346305707025976]
MOCHI_MEANS += [-0.09918314763016893, -0.008729793427399178, -0.011931556316503654, -0.0321993391887285]
MOCHI_DEVIATIONS = [0.9263795028493863, 0.9248894543193766, 0.9393059390890617, 0.959253732819592]
MOCHI_DEVIATIONS += [0.8244560132752793, 0.917259975397747, 0.9294154431013696, 1.3720942357788521]
MOCHI_DEVIATIONS += [0.881393668867029, 0.9168315692124348, 0.9185249279345552, 0.9274757570805041]


class MochiTransformer(NetworkConfig):
    """Of ``MochiTransformer3DModel``; the defaults are those of the library, for Mochi 1."""

    patch_size: Count = 2
    num_attention_heads: Count = 24
    attention_head_dim: Annotated[int, Field(ge=1, le=512)] = 128
    num_layers: Count = 48
    pooled_projection_dim: Size = 1536
    in_channels: Size = 12
    out_channels: Size | None = None
    qk_norm: Literal["rms_norm"] = "rms_norm"
    text_embed_dim: Size = 4096
    time_embed_dim: Size = 256
    activation_fn: Literal["swiglu"] = "swiglu"
    max_sequence_length: Size = 256


class MochiAutoencoder(NetworkConfig):
    """Of ``AutoencoderKLMochi``; the defaults are those of the library, for Mochi 1."""

    in_channels: Count = 15
    out_channels: Count = 3
    encoder_block_out_channels: Counts = [64, 128, 256, 384]
    decoder_block_out_channels: Counts = [128, 256, 512, 768]
    latent_channels: Size = 12
    layers_per_block: Counts = [3, 3, 4, 6, 3]
    act_fn: Literal["silu"] = "silu"
    temporal_expansions: Factors = [1, 2, 3]
    spatial_expansions: Factors = [2, 2, 2]
    add_attention_block: Switches = [False, True, True, True, True]
    latents_mean: Numbers | None = MOCHI_MEANS
    latents_std: Numbers | None = MOCHI_DEVIATIONS
    scaling_factor: Annotated[float, Field(gt=0, lt=1000)] = 1.0


Axes = Annotated[list[Annotated[int, Field(ge=2, le=512)]], Field(min_length=3, max_length=3)]


class HunyuanTransformer(NetworkConfig):
    """Of ``HunyuanVideoTransformer3DModel``; the defaults are those of the library."""

    in_channels: Size = 16
    out_channels: Size = 16
    num_attention_heads: Count = 24
    attention_head_dim: Annotated[int, Field(ge=1, le=512)] = 128
    num_layers: Count = 20
    num_single_layers: Count = 40
    num_refiner_layers: Count = 2
    mlp_ratio: Annotated[float, Field(gt=0, le=16)] = 4.0
    patch_size: Count = 2
    patch_size_t: Count = 1
    qk_norm: Literal["rms_norm"] = "rms_norm"
    guidance_embeds: bool = True
    text_embed_dim: Size = 4096
    pooled_projection_dim: Size = 768
    rope_theta: Annotated[float, Field(gt=0, lt=1e9)] = 256.0
    rope_axes_dim: Axes = [
        16,
        56,
        56,
    ]
    image_condition_type: Literal["token_replace", "latent_concat"] | None = None


class HunyuanAutoencoder(NetworkConfig):
    """Of ``AutoencoderKLHunyuanVideo``; the defaults are those of the library."""

    in_channels: Count = 3
    out_channels: Count = 3
    latent_channels: Size = 16
    down_block_types: Annotated[list[Literal["HunyuanVideoDownBlock3D"]], Field(max_length=8)] = [
        "HunyuanVideoDownBlock3D"
    ] * 4
    up_block_types: Annotated[list[Literal["HunyuanVideoUpBlock3D"]], Field(max_length=8)] = [
        "HunyuanVideoUpBlock3D"
    ] * 4
    block_out_channels: Counts = [128, 256, 512, 512]
    layers_per_block: Count = 2
    act_fn: Literal["silu"] = "silu"
    norm_num_groups: Count = 32
    scaling_factor: Annotated[float, Field(gt=0, lt=1000)] = 0.476986
    spatial_compression_ratio: Literal[2, 4, 8, 16] = 8
    temporal_compression_ratio: Literal[4] = 4
    mid_block_add_attention: bool = True


def read(schema: type[Config], found: dict[str, Any], file: str) -> Config:
    """A configuration by its schema; entries with a leading underscore are the library's notes.

    Raises:
        ValueError: every entry that cannot be, in one sentence.
    """
    try:
        return schema.model_validate({name: value for name, value in found.items() if not name.startswith("_")})
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:8]]
        raise ValueError(f"{file} is not what a {schema.__name__} says of itself. {'; '.join(wrong)}.") from None
