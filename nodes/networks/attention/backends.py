"""The ways to compute attention within clips: each says what it cannot do, and does the rest. Chooses none.

A probe is cheap: it imports no library. What it does not know (a library that was built for another torch), the
self-test finds out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from kineograph.nodes.networks.attention.sdpa import attend_each
from kineograph.nodes.networks.attention.segments import Segments

HALVES = (torch.float16, torch.bfloat16)


class Case(NamedTuple):
    """What attention is asked for.

    Attributes:
        device: as torch names it.
        dtype: that it is computed in.
        head_width: D, features of a head.
        grad: gradients are recorded.
    """

    device: str
    dtype: torch.dtype
    head_width: int
    grad: bool = False

    @classmethod
    def of(cls, *qkv: Tensor) -> Case:
        """What tensors ask for."""
        q = qkv[0]
        grad = torch.is_grad_enabled() and any(each.requires_grad for each in qkv)
        return cls(str(q.device), computed_in(q), q.shape[-1], grad)

    @property
    def on_cuda(self) -> bool:
        """Whether it is computed by a GPU."""
        return self.device.startswith("cuda")


def computed_in(x: Tensor) -> torch.dtype:
    """The type that attention computes in: its tensors', or that of autocast, as torch's own does."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class Attend(Protocol):
    """Attention of each clip within itself: see ``choice.attend_within``."""

    def __call__(
        self, qs_HBND: Sequence[Tensor], ks_HBMD: Sequence[Tensor], vs_HBMD: Sequence[Tensor], segments: Segments, /
    ) -> list[Tensor]:
        """(heads, B, N, D) for each batch."""
        ...


@dataclass(frozen=True)
class Backend:
    """One way to compute attention.

    Attributes:
        name: as people write it.
        lacks: why it cannot do something, as a clause; empty where nothing is known against it.
        run: computes it.
        of_library: what diffusers calls it, where one clip is computed at a time.
    """

    name: str
    lacks: Callable[[Case], str]
    run: Attend
    of_library: str


def _dtype_lacks(case: Case, dtypes: Sequence[torch.dtype]) -> str:
    if case.dtype in dtypes:
        return ""
    *others, last = (_name(each) for each in dtypes)
    return f"it computes in {', '.join(others)} or {last}, and not in {_name(case.dtype)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# --- varlen: FlashAttention in torch


def _varlen_lacks(case: Case) -> str:
    if not case.on_cuda:
        return "it needs a CUDA device"
    if find_spec("torch.nn.attention.varlen") is None:
        return f"torch {torch.__version__} has it not; 2.10 does"
    if torch.cuda.get_device_capability(case.device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 (Ampere) or newer"
    if case.head_width > 256 or case.head_width % 8:
        return f"its heads have a multiple of 8 features, 256 at most, and not {case.head_width}"
    return _dtype_lacks(case, HALVES)


def _varlen(
    qs_HBND: Sequence[Tensor], ks_HBMD: Sequence[Tensor], vs_HBMD: Sequence[Tensor], segments: Segments, /
) -> list[Tensor]:
    """FlashAttention for sequences of any lengths (Dao 2023).

    Not run so far for want of a device: the tests put a slow function of the same meaning in the kernel's place.
    """
    from torch.nn.attention.varlen import varlen_attn

    q_SHD, k_UHD, v_UHD = segments.pack(qs_HBND, ks_HBMD, vs_HBMD, computed_in(qs_HBND[0]))
    longest = max(segments.q_lengths), max(segments.k_lengths)
    out_SHD = varlen_attn(q_SHD, k_UHD, v_UHD, *segments.starts, *longest)
    assert isinstance(out_SHD, Tensor)  # and no pair: no statistics were asked for
    return segments.unpack(out_SHD)


# --- xformers


def _xformers_lacks(case: Case) -> str:
    if find_spec("xformers") is None:
        return "it is not installed: pip install 'kineograph[xformers]'"
    if not case.on_cuda:
        return "xformers computes it on a CUDA device alone"
    return _dtype_lacks(case, (torch.float32, *HALVES))


def _xformers(
    qs_HBND: Sequence[Tensor], ks_HBMD: Sequence[Tensor], vs_HBMD: Sequence[Tensor], segments: Segments, /
) -> list[Tensor]:
    """``memory_efficient_attention`` under a block-diagonal mask, in whichever of its kernels fits.

    Not run so far for want of a device: the tests put a slow function of the same meaning in the kernel's place.
    """
    from xformers.ops import memory_efficient_attention  # pyright: ignore[reportMissingImports]

    packed = segments.pack(qs_HBND, ks_HBMD, vs_HBMD, computed_in(qs_HBND[0]))
    bias = _block_diagonal(segments.q_lengths, segments.k_lengths, str(qs_HBND[0].device))
    out_1SHD = memory_efficient_attention(*(each[None] for each in packed), attn_bias=bias)
    return segments.unpack(out_1SHD[0])


@lru_cache(maxsize=2)
def _block_diagonal(q_lengths: tuple[int, ...], k_lengths: tuple[int, ...], device: str) -> Any:
    """One mask for all blocks of a network, in both halves of guidance."""
    from xformers.ops.fmha.attn_bias import BlockDiagonalMask  # pyright: ignore[reportMissingImports]

    return BlockDiagonalMask.from_seqlens(q_lengths, k_lengths, device=torch.device(device))


# --- flex


def _flex_lacks(case: Case) -> str:
    if case.grad and not case.on_cuda:
        return "it has no backward pass on a processor"
    return _dtype_lacks(case, (torch.float32, *HALVES))


def _flex(
    qs_HBND: Sequence[Tensor], ks_HBMD: Sequence[Tensor], vs_HBMD: Sequence[Tensor], segments: Segments, /
) -> list[Tensor]:
    """FlexAttention (He et al. 2024): compiled on CUDA, which has not been run so far; step by step on a processor."""
    device = qs_HBND[0].device
    packed = segments.pack(qs_HBND, ks_HBMD, vs_HBMD, computed_in(qs_HBND[0]))
    mask = _block_mask(segments.q_lengths, segments.k_lengths, str(device))
    q, k, v = (each.transpose(0, 1)[None] for each in packed)
    with warnings.catch_warnings():
        # that it is slow uncompiled; on a processor compiling takes half a minute for each layout
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile", UserWarning)
        out_1HSD = _flex_attention(device.type == "cuda")(q, k, v, block_mask=mask)
    return segments.unpack(out_1HSD[0].transpose(0, 1))


@cache
def _flex_attention(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention


@lru_cache(maxsize=2)
def _block_mask(q_lengths: tuple[int, ...], k_lengths: tuple[int, ...], device: str) -> Any:
    """Which blocks of scores are computed at all: one for all blocks of a network, in both halves of guidance."""
    from torch.nn.attention.flex_attention import create_block_mask

    q_clips, k_clips = (
        torch.repeat_interleave(torch.arange(len(each), device=device), torch.tensor(each, device=device))
        for each in (q_lengths, k_lengths)
    )

    def same_clip(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:  # noqa: ARG001  torch calls it with four
        return q_clips[q] == k_clips[k]

    return create_block_mask(same_clip, None, None, len(q_clips), len(k_clips), device=device)


SDPA = Backend("sdpa", lambda _: "", attend_each, "native")
BACKENDS = {
    backend.name: backend
    for backend in (
        SDPA,
        # a library's network is given one clip at a time: nothing is packed, and torch takes FlashAttention by itself
        Backend("varlen", _varlen_lacks, _varlen, "native"),
        Backend("xformers", _xformers_lacks, _xformers, "xformers"),
        Backend("flex", _flex_lacks, _flex, "flex"),
    )
}
