"""HunyuanVideo's image to video: the prompt is read together with the picture, by LLaVA. Knows no files.

HunyuanVideo-I2V: Kong et al. 2024 (arXiv 2412.03603) and github.com/Tencent/HunyuanVideo-I2V. LLaVA: Liu et al. 2023.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kineograph.nodes.networks.adapters.clip import DEVIATION, MEAN, middle_square
from kineograph.nodes.networks.adapters.hunyuan import ASPECTS, LAYERS_ABOVE, HunyuanVideoText

TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\n<image>\nDescribe the video by detailing the following aspects "
    f"according to the reference image: {ASPECTS}<|eot_id|>\n\n<|start_header_id|>user<|end_header_id|>\n\n{{}}"
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
"""What the prompt stands in, to the letter as in training."""
TEMPLATE_TOKENS = 103
"""Tokens of the template before the prompt."""
PICTURE_AT = 5
"""The place of the picture's mark among them; the mark that ends a header stands two before."""
HEADERS = 3
"""Of system, user and assistant; the last is not given to the DiT."""
ASSISTANT_TOKENS = 4
"""Of the assistant's header, with the mark that ends what the user says."""


class PictureReader(nn.Module):
    """LLaVA: a language model to which a picture is as many words as CLIP makes of it."""

    _keep_in_fp32_modules: ClassVar[tuple[str, ...]] = ()

    def __init__(self, language: Any, vision: Any, projector: nn.Module, side: int) -> None:
        """Put the parts together.

        Args:
            language: a ``LlamaModel``.
            vision: CLIP's image encoder.
            projector: from its features to those of words.
            side: pixels of the square it looks at.
        """
        super().__init__()
        self.language, self.vision, self.projector = language, vision, projector
        self.side = side

    def forward(self, ids_BL: Tensor, lengths_B: Tensor, picture_B3HW: Tensor) -> Tensor:
        """The language model's states with a picture in the place of its mark: (B, L + P - 1, D), P words of it."""
        pixels = middle_square(picture_B3HW, self.side)
        mean, deviation = (pixels.new_tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
        dtype = self.vision.embeddings.patch_embedding.weight.dtype
        seen = self.vision(((pixels - mean) / deviation).to(dtype), output_hidden_states=True).hidden_states[-2]
        seen_BPD = self.projector(seen[:, 1:])  # without the class token, as LLaVA was trained
        words_BLD = self.language.embed_tokens(ids_BL)
        before, behind = words_BLD[:, :PICTURE_AT], words_BLD[:, PICTURE_AT + 1 :]
        said_BLD = torch.cat([before, seen_BPD.expand(len(ids_BL), -1, -1).to(before), behind], dim=1)
        places = torch.arange(said_BLD.shape[1], device=said_BLD.device)
        mask_BL = places < lengths_B[:, None] + seen_BPD.shape[1] - 1
        states = self.language(
            inputs_embeds=said_BLD, attention_mask=mask_BL.long(), output_hidden_states=True, use_cache=False
        )
        return states.hidden_states[-1 - LAYERS_ABOVE]


class HunyuanVideoPictureText(HunyuanVideoText):
    """LLaVA for the prompt and the picture it is about, and CLIP's text encoder for the prompt in one vector."""

    def forward(
        self, prompts: list[str], picture_B3HW: Tensor | None = None, every: int = 4
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read prompts with a picture.

        Args:
            prompts: B texts.
            picture_B3HW: (1 or B, 3, H, W) in [0, 1].
            every: how many-th of the picture's words are given on, from the first.

        Returns:
            As :meth:`HunyuanVideoText.forward`; the picture's words stand before those of the prompt.
        """
        if picture_B3HW is None:
            raise ValueError(
                "This HunyuanVideo model reads a prompt together with the picture it begins with: take "
                "encode_text_with_picture in the place of encode_text."
            )
        device = next(self.network.parameters()).device
        ids = [each.ids for each in self.tokenizer.encode_batch([TEMPLATE.format(prompt) for prompt in prompts])]
        padded = [[*each, *[0] * (self.length - len(each))] for each in ids]
        lengths_B = torch.tensor([len(each) for each in ids], device=device)
        states_BLD = self.network(torch.tensor(padded, device=device), lengths_B, picture_B3HW.to(device)).float()
        more = states_BLD.shape[1] - self.length  # places that the picture takes beyond that of its mark
        kept_BL = torch.tensor([kept(each) for each in padded], device=device)
        mask_BL = kept_BL < lengths_B[:, None]
        words_BLD = states_BLD.gather(1, (kept_BL + more)[..., None].expand(-1, -1, states_BLD.shape[2]))
        seen_BPD = states_BLD[:, PICTURE_AT : PICTURE_AT + more + 1 : every]
        said = torch.cat([seen_BPD, words_BLD * mask_BL[..., None]], dim=1)
        return said, torch.cat([mask_BL.new_ones(seen_BPD.shape[:2]), mask_BL], dim=1), self._pooled(prompts)


def kept(ids: list[int]) -> list[int]:
    """The places of a padded prompt that the DiT is given: what is behind the template, but the assistant's header.

    Where the prompt was cut before that header, as many places are left out at its end.
    """
    ends = [place for place, each in enumerate(ids) if each == ids[PICTURE_AT - 2]]
    last = ends[-1] if len(ends) >= HEADERS else len(ids) - 1
    return [place for place in range(TEMPLATE_TOKENS, len(ids)) if not last - ASSISTANT_TOKENS < place <= last]
