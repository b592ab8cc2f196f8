"""Where clips begin and end in a packed sequence of queries and in one of keys. Knows no attention.

Letters: S all queries and U all keys of clips of any size, behind each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from kineograph.nodes.networks.packing import Runs, join


@dataclass(frozen=True)
class Segments:
    """Who sees whom: each clip itself, and of its keys those that are no padding.

    What kernels for sequences of any lengths want to know is made when it is first asked for, once for all blocks of a
    network: on a GPU, counting what is seen waits for the device.

    Attributes:
        clips: runs of queries.
        seen_BM: for each batch of clips (B, M) bool, False for keys that nobody may see; each row has one True.
    """

    clips: Runs
    seen_BM: Sequence[Tensor]

    @cached_property
    def seen(self) -> Tensor:
        """Which of all keys are seen: (U,) bool."""
        return torch.cat([mask.flatten() for mask in self.seen_BM])

    @cached_property
    def q_lengths(self) -> tuple[int, ...]:
        """Queries of each clip."""
        return tuple(length for count, length in self.clips.shapes for _ in range(count))

    @cached_property
    def k_lengths(self) -> tuple[int, ...]:
        """Keys of each clip that are seen."""
        return tuple(torch.cat([mask.sum(dim=1) for mask in self.seen_BM]).tolist())

    @cached_property
    def starts(self) -> tuple[Tensor, Tensor]:
        """Where each clip's queries and seen keys begin, and where the last one's end: int32, (clips + 1,)."""
        lengths = (torch.tensor(each, device=self.seen_BM[0].device) for each in (self.q_lengths, self.k_lengths))
        q_starts, k_starts = (functional.pad(each.cumsum(0, dtype=torch.int32), (1, 0)) for each in lengths)
        return q_starts, k_starts

    def pack(
        self, qs_HBND: Sequence[Tensor], ks_HBMD: Sequence[Tensor], vs_HBMD: Sequence[Tensor], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All queries, and the seen ones of all keys and values: (S, heads, D) and twice (U, heads, D)."""
        q_SHD, k_UHD, v_UHD = (join(xs, dim=1).transpose(0, 1).to(dtype) for xs in (qs_HBND, ks_HBMD, vs_HBMD))
        return q_SHD, k_UHD[self.seen], v_UHD[self.seen]

    def unpack(self, out_SHD: Tensor) -> list[Tensor]:
        """The batches of clips of a packed result: (heads, B, N, D) each."""
        return self.clips.cut(out_SHD.transpose(0, 1), dim=1)
