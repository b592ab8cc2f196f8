"""Scaled dot-product attention behind one entry: knows which form is fast where, not who attends to what."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def attend(q_BHND: Tensor, k_BHMD: Tensor, v_BHMD: Tensor, key_mask_BM: Tensor | None = None) -> Tensor:
    """Attention, softmax(q k^T / sqrt(D)) v (Vaswani et al. 2017).

    On a CPU the backward pass of the fused kernel is several times slower than that of plain matrix products at a few
    hundred tokens, so the plain form is taken there whenever gradients are recorded.

    Args:
        q_BHND: (B, heads, N, D) queries.
        k_BHMD: (B, heads, M, D) keys.
        v_BHMD: (B, heads, M, D) values.
        key_mask_BM: (B, M) bool, False for keys that nobody may see; each row needs one True. None: all are seen.

    Returns:
        (B, heads, N, D).
    """
    mask_B11M = None if key_mask_BM is None else key_mask_BM[:, None, None, :]
    if q_BHND.device.type == "cpu" and torch.is_grad_enabled():
        return _plain(q_BHND, k_BHMD, v_BHMD, mask_B11M)
    return functional.scaled_dot_product_attention(q_BHND, k_BHMD, v_BHMD, attn_mask=mask_B11M)


def _plain(q_BHND: Tensor, k_BHMD: Tensor, v_BHMD: Tensor, mask_B11M: Tensor | None) -> Tensor:
    scores_BHNM = (q_BHND * q_BHND.shape[-1] ** -0.5) @ k_BHMD.mT
    if mask_B11M is not None:
        scores_BHNM = scores_BHNM.masked_fill(~mask_B11M, float("-inf"))
    return scores_BHNM.softmax(dim=-1) @ v_BHMD
