"""Scaled dot-product attention by torch alone, clip after clip: what every other way is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from kineograph.nodes.networks.attention.segments import Segments


def attend(q_ABND: Tensor, k_ABMD: Tensor, v_ABMD: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention, softmax(q k^T / sqrt(D)) v (Vaswani et al. 2017).

    On a CPU the backward pass of the fused kernel is several times slower than that of plain matrix products at a few
    hundred tokens, so the plain form is taken there whenever gradients are recorded.

    Args:
        q_ABND: queries; A and B are clips and heads, in any order.
        k_ABMD: keys.
        v_ABMD: values.
        mask: bool, broadcasts to (A, B, N, M): False for keys that nobody may see. Each row needs one True. None: all
            are seen.

    Returns:
        (A, B, N, D).
    """
    if q_ABND.device.type == "cpu" and torch.is_grad_enabled():
        return _plain(q_ABND, k_ABMD, v_ABMD, mask)
    return functional.scaled_dot_product_attention(q_ABND, k_ABMD, v_ABMD, attn_mask=mask)


def attend_each(
    qs_HBND: Sequence[Tensor], ks_HBMD: Sequence[Tensor], vs_HBMD: Sequence[Tensor], segments: Segments
) -> list[Tensor]:
    """Attention of each clip within itself, one batch after another: the ground truth of ``attend_within``.

    On a CPU a mask over the whole sequence took 3.6 times as long for 12 clips, to compute what it then hides.
    """
    groups = zip(qs_HBND, ks_HBMD, vs_HBMD, segments.seen_BM, strict=True)
    # with four axes: torch takes its fused kernel for CPUs by them, and a slow one by three
    return [attend(q, k, v, mask[None, :, None]) for q, k, v, mask in groups]


def _plain(q_ABND: Tensor, k_ABMD: Tensor, v_ABMD: Tensor, mask: Tensor | None) -> Tensor:
    scores_ABNM = (q_ABND * q_ABND.shape[-1] ** -0.5) @ k_ABMD.mT
    if mask is not None:
        # added in place: masked_fill would copy the scores here, and their gradient in the backward pass
        scores_ABNM.add_(torch.zeros_like(mask, dtype=scores_ABNM.dtype).masked_fill_(~mask, float("-inf")))
    return scores_ABNM.softmax(dim=-1) @ v_ABMD
