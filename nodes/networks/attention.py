"""Scaled dot-product attention behind one entry: knows which form is fast where, not who attends to what."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from kineograph.nodes.networks.packing import Runs, join


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


def attend_within(
    qs_HBND: Sequence[Tensor], ks_HBMD: Sequence[Tensor], vs_HBMD: Sequence[Tensor], masks_BM: Sequence[Tensor]
) -> list[Tensor]:
    """Attention of each clip within itself: what a block-diagonal mask over a packed sequence would give.

    Each element is a batch of clips of one size. On a CPU they are taken one after another: a mask over the whole
    sequence took 3.6 times as long for 12 clips, to compute what it then hides. On CUDA one kernel takes all.

    Args:
        qs_HBND: (heads, B, N, D) queries of each batch.
        ks_HBMD: (heads, B, M, D) keys.
        vs_HBMD: (heads, B, M, D) values.
        masks_BM: (B, M) bool, False for keys that nobody may see.

    Returns:
        (heads, B, N, D) for each batch.
    """
    if len(qs_HBND) > 1 and qs_HBND[0].is_cuda and qs_HBND[0].dtype in (torch.float16, torch.bfloat16):
        return _one_kernel(qs_HBND, ks_HBMD, vs_HBMD, masks_BM)
    groups = zip(qs_HBND, ks_HBMD, vs_HBMD, masks_BM, strict=True)
    # with four axes: torch takes its fused kernel for CPUs by them, and a slow one by three
    return [attend(q, k, v, mask[None, :, None]) for q, k, v, mask in groups]


def _plain(q_ABND: Tensor, k_ABMD: Tensor, v_ABMD: Tensor, mask: Tensor | None) -> Tensor:
    scores_ABNM = (q_ABND * q_ABND.shape[-1] ** -0.5) @ k_ABMD.mT
    if mask is not None:
        # added in place: masked_fill would copy the scores here, and their gradient in the backward pass
        scores_ABNM.add_(torch.zeros_like(mask, dtype=scores_ABNM.dtype).masked_fill_(~mask, float("-inf")))
    return scores_ABNM.softmax(dim=-1) @ v_ABMD


def _one_kernel(
    qs_HBND: Sequence[Tensor], ks_HBMD: Sequence[Tensor], vs_HBMD: Sequence[Tensor], masks_BM: Sequence[Tensor]
) -> list[Tensor]:
    """FlashAttention for sequences of any lengths, which needs CUDA and half precision.

    Not run so far for want of a device: the tests put a slow function of the same meaning in the kernel's place.
    """
    from torch.nn.attention.varlen import varlen_attn

    device = qs_HBND[0].device
    seen = torch.cat([mask.flatten() for mask in masks_BM])
    q_SHD = join(qs_HBND, dim=1).transpose(0, 1)
    k_SHD, v_SHD = (join(xs, dim=1).transpose(0, 1)[seen] for xs in (ks_HBMD, vs_HBMD))
    q_lengths = torch.tensor([q.shape[2] for q in qs_HBND for _ in range(q.shape[1])], device=device)
    k_lengths = torch.cat([mask.sum(dim=1) for mask in masks_BM])
    q_starts, k_starts = (functional.pad(x.cumsum(0, dtype=torch.int32), (1, 0)) for x in (q_lengths, k_lengths))
    longest = max(q.shape[2] for q in qs_HBND), max(k.shape[2] for k in ks_HBMD)
    out_SHD = varlen_attn(q_SHD, k_SHD, v_SHD, q_starts, k_starts, *longest)
    assert isinstance(out_SHD, Tensor)  # and no pair: no statistics were asked for
    return Runs.of(qs_HBND, dim=1).cut(out_SHD.transpose(0, 1), dim=1)
