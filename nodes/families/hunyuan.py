"""HunyuanVideo: its networks on the meta device. Knows no files."""

from __future__ import annotations

from typing import Any

from kineograph.nodes.families import wan
from kineograph.nodes.families.encoder_schemas import ClipTextEncoder, LlamaEncoder, LlavaEncoder
from kineograph.nodes.families.library import network_class
from kineograph.nodes.families.schemas import HunyuanAutoencoder, HunyuanTransformer

TEXT_TOKENS = 95 + 256
"""Of the language model: the template before the prompt, the prompt and its padding."""
PICTURE_TEXT_TOKENS = 103 + 256
"""The same of a prompt that is read with a picture, whose mark is one."""
CLIP_TOKENS = 77


def transformer(config: HunyuanTransformer) -> Any:
    """A ``HunyuanVideoTransformer3DModel`` without numbers."""
    import torch

    with torch.device("meta"):
        return network_class("diffusers", "HunyuanVideoTransformer3DModel")(**config.model_dump())


def autoencoder(config: HunyuanAutoencoder) -> Any:
    """An ``AutoencoderKLHunyuanVideo`` without numbers."""
    import torch

    with torch.device("meta"):
        return network_class("diffusers", "AutoencoderKLHunyuanVideo")(**config.model_dump())


def language_network(config: LlamaEncoder) -> Any:
    """A ``LlamaModel`` without numbers."""
    import torch

    sizes = config.model_dump(exclude={"rope_theta", "rope_scaling", "rope_parameters"})
    theta = config.rope_parameters.rope_theta if config.rope_parameters else config.rope_theta
    made = network_class("transformers", "LlamaConfig")(
        **sizes, rope_parameters={"rope_theta": theta, "rope_type": "default"}
    )
    with torch.device("meta"):
        network = network_class("transformers", "LlamaModel")(made)
    network.rotary_emb = type(network.rotary_emb)(config=made)  # its frequencies are no weights, so no file has them
    return network


def picture_network(config: LlavaEncoder) -> Any:
    """LLaVA without numbers, its head left out."""
    import torch

    from kineograph.nodes.networks.adapters.hunyuan_pictures import PictureReader

    seen, said = config.vision_config, config.text_config.hidden_size
    with torch.device("meta"):
        linear = torch.nn.Linear
        projector = torch.nn.Sequential(linear(seen.hidden_size, said), torch.nn.GELU(), linear(said, said))
    return PictureReader(language_network(config.text_config), wan.image_network(seen), projector, seen.image_size)


def clip_network(config: ClipTextEncoder) -> Any:
    """A ``CLIPTextModel`` without numbers."""
    import torch

    made = network_class("transformers", "CLIPTextConfig")(**config.model_dump())
    with torch.device("meta"):
        network = network_class("transformers", "CLIPTextModel")(made)
    network = getattr(network, "text_model", network)  # what some releases put around it holds nothing more
    network.embeddings.position_ids = torch.arange(config.max_position_embeddings)[None]  # no weights either
    return network
