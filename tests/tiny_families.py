"""Folders with tiny models as diffusers writes them: random weights, a tokenizer made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from kineograph import default_runtime
from kineograph.trial import Ledger

TEXT_WIDTH = 32
WAN_DIT: dict[str, Any] = {
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 16, "out_channels": 16,
    "text_dim": TEXT_WIDTH, "freq_dim": 256, "ffn_dim": 32, "num_layers": 2, "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads", "rope_max_seq_len": 32,
}  # fmt: skip
WAN_IMAGE_DIT = WAN_DIT | {"in_channels": 36}
WAN_VAE: dict[str, Any] = {
    "base_dim": 3, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}  # fmt: skip


def quiet(pipeline: Any) -> Any:
    """The same, without its progress bar."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


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
    return quiet(WanPipeline(**parts_of_wan(), transformer=dit))


def parts_of_wan(**vae: Any) -> dict[str, Any]:
    """What all pipelines of Wan have beside their transformers."""
    return {
        "tokenizer": tokenizer(),
        "text_encoder": text_encoder(),
        "vae": AutoencoderKLWan(**WAN_VAE | vae).eval(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.0),
    }


def vace_pipeline() -> WanVACEPipeline:
    """VACE with random weights: two blocks beside four."""
    torch.manual_seed(6)
    sizes = WAN_DIT | {"num_layers": 4, "vace_layers": [0, 2], "vace_in_channels": 96}
    return quiet(WanVACEPipeline(**parts_of_wan(), transformer=WanVACETransformer3DModel(**sizes).eval()))


def wan_experts(image: bool = False) -> Any:
    """Wan 2.2 A14B with random weights: two transformers, one for levels from 0.875 on."""
    sizes = WAN_IMAGE_DIT if image else WAN_DIT
    torch.manual_seed(4)
    dits = {name: WanTransformer3DModel(**sizes).eval() for name in ("transformer", "transformer_2")}
    kind: Any = WanImageToVideoPipeline if image else WanPipeline
    return quiet(kind(**parts_of_wan(), **dits, boundary_ratio=0.875))


def wan_levels_pipeline() -> WanImageToVideoPipeline:
    """Wan 2.2 TI2V-5B with random weights: a VAE of its own, and given frames as tokens of level 0."""
    torch.manual_seed(5)
    moments = {"latents_mean": torch.randn(48).tolist(), "latents_std": (torch.rand(48) + 0.5).tolist()}
    sizes = {"z_dim": 48, "in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16}
    parts = parts_of_wan(is_residual=True, **sizes, **moments)
    dit = WanTransformer3DModel(**WAN_DIT | {"in_channels": 48, "out_channels": 48}).eval()
    return quiet(WanImageToVideoPipeline(**parts, transformer=dit, expand_timesteps=True))


CLIP: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32,
    "patch_size": 16, "hidden_act": "gelu",
}  # fmt: skip


def wan_image_pipeline(looks: bool = True, pictures: int = 1) -> WanImageToVideoPipeline:
    """Wan, image to video, with random weights: 2.1 with an image encoder, of one picture or of two, 2.2 without."""
    torch.manual_seed(1)
    image: dict[str, Any] = {"image_dim": 16, "added_kv_proj_dim": 24} if looks else {}
    dit = WanTransformer3DModel(**WAN_IMAGE_DIT, **image, pos_embed_seq_len=10 if pictures == 2 else None).eval()
    if pictures == 2:
        torch.nn.init.normal_(dit.condition_embedder.image_embedder.pos_embed)
    square = {"height": 32, "width": 32}
    parts: dict[str, Any] = {}
    if looks:
        parts["image_encoder"] = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**CLIP)).eval()
        parts["image_processor"] = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square)
    return quiet(WanImageToVideoPipeline(**parts_of_wan(), transformer=dit, **parts))


LTX_DIT: dict[str, Any] = {
    "in_channels": 8, "out_channels": 8, "patch_size": 1, "patch_size_t": 1, "num_attention_heads": 4,
    "attention_head_dim": 8, "cross_attention_dim": 32, "num_layers": 1, "caption_channels": TEXT_WIDTH,
}  # fmt: skip
LTX_VAE: dict[str, Any] = {
    "latent_channels": 8, "block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4,
    "layers_per_block": (1,) * 5, "decoder_layers_per_block": (1,) * 5,
    "spatio_temporal_scaling": (True, True, False, False),
    "decoder_spatio_temporal_scaling": (True, True, False, False),
    "decoder_inject_noise": (False,) * 5, "upsample_residual": (False,) * 4, "upsample_factor": (1,) * 4,
    "timestep_conditioning": False, "patch_size": 1, "patch_size_t": 1,
}  # fmt: skip


def ltx_pipeline() -> LTXPipeline:
    """LTX-Video with random weights and its own schedule: shifted by the number of tokens, stretched to 0.1."""
    torch.manual_seed(0)
    dit = LTXVideoTransformer3DModel(**LTX_DIT).eval()
    vae = AutoencoderKLLTXVideo(**LTX_VAE).eval()
    vae.latents_mean.copy_(torch.randn(8))
    vae.latents_std.copy_(torch.rand(8) + 0.5)
    dynamic = {"base_image_seq_len": 1024, "max_image_seq_len": 4096, "base_shift": 0.95, "max_shift": 2.05}
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1, **dynamic)
    return quiet(LTXPipeline(scheduler, vae, text_encoder("T5"), tokenizer(), dit))


COG_DIT: dict[str, Any] = {
    "num_attention_heads": 4, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4, "time_embed_dim": 2,
    "text_embed_dim": TEXT_WIDTH, "num_layers": 1, "sample_width": 4, "sample_height": 4, "sample_frames": 9,
    "patch_size": 2, "temporal_compression_ratio": 4, "max_text_seq_length": 226,
}  # fmt: skip
COG_VAE: dict[str, Any] = {
    "down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "block_out_channels": (8,) * 4, "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2,
    "temporal_compression_ratio": 4,
}  # fmt: skip


def cogvideox_pipeline(snr: float = 3.0, **sizes: Any) -> CogVideoXPipeline:
    """CogVideoX with random weights and its own schedule; 2b, unless sizes say otherwise."""
    torch.manual_seed(0)
    dit = CogVideoXTransformer3DModel(**COG_DIT | sizes).eval()
    vae = AutoencoderKLCogVideoX(**COG_VAE).eval()
    scheduler = CogVideoXDDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        rescale_betas_zero_snr=True, snr_shift_scale=snr, timestep_spacing="trailing", clip_sample=False,
    )  # fmt: skip
    return quiet(CogVideoXPipeline(tokenizer(), text_encoder("T5"), vae, dit, scheduler))


MOCHI_DIT: dict[str, Any] = {
    "patch_size": 2, "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "pooled_projection_dim": 16,
    "in_channels": 12, "text_embed_dim": TEXT_WIDTH, "time_embed_dim": 4, "max_sequence_length": 256,
}  # fmt: skip
MOCHI_VAE: dict[str, Any] = {
    "latent_channels": 12, "encoder_block_out_channels": (32,) * 4, "decoder_block_out_channels": (32,) * 4,
    "layers_per_block": (1,) * 5,
}  # fmt: skip


def mochi_pipeline(**more: Any) -> MochiPipeline:
    """Mochi with random weights and its own schedule, whose time runs the other way."""
    torch.manual_seed(0)
    dit = MochiTransformer3DModel(**MOCHI_DIT).eval()
    torch.nn.init.normal_(dit.pos_frequencies)
    vae = AutoencoderKLMochi(**MOCHI_VAE).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    return quiet(MochiPipeline(scheduler, vae, text_encoder("T5"), tokenizer(), dit, **more))


HUNYUAN_DIT: dict[str, Any] = {
    "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 10, "num_layers": 1,
    "num_single_layers": 1, "num_refiner_layers": 1, "patch_size": 2, "patch_size_t": 1, "guidance_embeds": True,
    "text_embed_dim": TEXT_WIDTH, "pooled_projection_dim": 8, "rope_axes_dim": (2, 4, 4),
}  # fmt: skip
HUNYUAN_VAE: dict[str, Any] = {
    "latent_channels": 4, "down_block_types": ("HunyuanVideoDownBlock3D",) * 4,
    "up_block_types": ("HunyuanVideoUpBlock3D",) * 4, "block_out_channels": (8,) * 4, "layers_per_block": 1,
    "norm_num_groups": 4, "scaling_factor": 0.476986, "mid_block_add_attention": True,
}  # fmt: skip


def language_tokenizer(template: str) -> Any:
    """Bytes, and pieces of a template, so that it is no longer than for a real one; a mark begins every text."""
    marks = ["<pad>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [template], trainers.BpeTrainer(vocab_size=480, initial_alphabet=alphabet, special_tokens=marks)
    )
    made.post_processor = processors.TemplateProcessing(
        "<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", padding_side="right")


def clip_tokenizer() -> Any:
    """Letters, some pairs of them, and marks of beginning and end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("r", "e"), ("re", "d</w>")]
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), *map("".join, pairs)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer({word: number for number, word in enumerate(words)}, pairs)


def hunyuan_pipeline() -> HunyuanVideoPipeline:
    """HunyuanVideo with random weights and its own schedule."""
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

    torch.manual_seed(0)
    language = transformers.LlamaConfig(
        vocab_size=512, hidden_size=TEXT_WIDTH, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, rope_parameters={"rope_theta": 5e5, "rope_type": "default"},
    )  # fmt: skip
    clip = transformers.CLIPTextConfig(
        vocab_size=520, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, eos_token_id=2
    )
    made = HunyuanVideoPipeline(
        transformers.LlamaModel(language).eval(), language_tokenizer(DEFAULT_PROMPT_TEMPLATE["template"]),
        HunyuanVideoTransformer3DModel(**HUNYUAN_DIT).eval(), AutoencoderKLHunyuanVideo(**HUNYUAN_VAE).eval(),
        FlowMatchEulerDiscreteScheduler(shift=7.0), transformers.CLIPTextModel(clip).eval(), clip_tokenizer(),
    )  # fmt: skip
    return quiet(made)


def decoding_peak(model: Any, frames: int) -> int:
    """Bytes that decoding so many latent frames takes at most, each piece let go of before the next."""
    x = torch.randn(1, model.vae.spec.channels, frames, 4, 4, generator=torch.Generator().manual_seed(5))
    with Ledger() as ledger:
        before = ledger.live
        for piece in model.vae.network.decode_pieces(x):
            del piece
    return ledger.peak - before - 2 * x.nbytes  # the latent itself, normalised or not


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


def runs_and_judges_sizes(
    workflow: Path, models: tuple[str, str], out: Path, *, frames: int, wrong: int, nearest: int
) -> None:
    """A workflow file of a family makes its frames of a folder; sizes are judged for that and for a published name."""
    runtime = default_runtime()
    raw = json.loads(workflow.read_text())
    raw["nodes"]["model"]["params"] = {"dtype": "float32"}
    inputs = {"frames": frames, "height": 32, "width": 32, "model": models[0], "steps": 2, "prompt": "a cat"}
    assert runtime.run(raw, inputs, out=out).outputs["video"].frames.shape == (1, frames, 3, 32, 32)
    rows = runtime.estimate(workflow, inputs).nodes
    assert {row.path for row in rows if row.unknown} == {"file"}
    for model in models:
        assert runtime.problems(workflow, {"model": model}) == []
        found = runtime.problems(workflow, {"model": model, "frames": wrong, "width": 850})
        assert [each.place for each in found] == ["noise"]
        assert f"nearest is {nearest}" in str(found[0])
        assert "width = 850 is not a multiple of 16; the nearest is 848" in str(found[0])
