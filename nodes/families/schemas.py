"""What the configurations of known networks may say, as pydantic models: a config.json is input, never a program.

Bounds keep a lie from taking memory before the weights are compared; an entry that is not known is refused, since a
network that ignored it would draw something else without a word.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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


class LTXTransformer(NetworkConfig):
    """Of ``LTXVideoTransformer3DModel``; the defaults are those of the library, for LTX-Video 2B."""

    in_channels: Size = 128
    out_channels: Size = 128
    patch_size: Count = 1
    patch_size_t: Count = 1
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


Counts = Annotated[list[Size], Field(min_length=1, max_length=8)]
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
    layers_per_block: Counts = [4, 3, 3, 3, 4]
    decoder_layers_per_block: Counts = [4, 3, 3, 3, 4]
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
    """Of ``CogVideoXTransformer3DModel`` as CogVideoX-2b is: its table of places is built of the sample's size.

    ``snr_shift_scale`` is the scheduler's: it decides which timestep a noise level has.
    """

    num_attention_heads: Annotated[int, Field(ge=1, le=48)] = 30
    attention_head_dim: Annotated[int, Field(ge=1, le=64)] = 64
    in_channels: Size = 16
    out_channels: Size = 16
    flip_sin_to_cos: bool = True
    freq_shift: Annotated[int, Field(ge=0, le=1)] = 0
    time_embed_dim: Size = 512
    ofs_embed_dim: None = None
    text_embed_dim: Size = 4096
    num_layers: Count = 30
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attention_bias: bool = True
    sample_width: Few = 90
    sample_height: Few = 60
    sample_frames: Few = 49
    patch_size: Few = 2
    patch_size_t: None = None
    temporal_compression_ratio: Annotated[int, Field(ge=1, le=16)] = 4
    max_text_seq_length: Size = 226
    activation_fn: Literal["gelu-approximate"] = "gelu-approximate"
    timestep_activation_fn: Literal["silu"] = "silu"
    norm_elementwise_affine: bool = True
    norm_eps: Small = 1e-5
    spatial_interpolation_scale: Annotated[float, Field(gt=0, lt=100)] = 1.875
    temporal_interpolation_scale: Annotated[float, Field(gt=0, lt=100)] = 1.0
    use_rotary_positional_embeddings: Literal[False] = False
    use_learned_positional_embeddings: Literal[False] = False
    patch_bias: bool = True
    snr_shift_scale: Annotated[float, Field(gt=0, lt=100)] = 3.0


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
    invert_scale_latents: Literal[False] = False


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
