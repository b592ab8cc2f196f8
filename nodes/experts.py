"""Models of two DiTs, one for high noise and one for low, as Wan 2.2 A14B is. Knows no network's inside."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.nodes.sockets import DiT, SigmaStep

Boundary = Annotated[float, Field(gt=0, lt=1)]
Scale = Annotated[float, Field(ge=0, le=50)]


@node(views=("high", "low"))
def join_experts(high: DiT, low: DiT, boundary: Boundary = 0.875) -> DiT:
    """One DiT of two: one is asked at noise levels from a boundary up, the other below (Wan 2.2 A14B).

    ``load_video_model`` does so by itself for a folder with transformer and transformer_2. Here each may have its own
    LoRA. To give each its own guidance, wire ``scale_at`` into guided_velocity.

    Args:
        high: for high noise; ComfyUI's files have high_noise in their names.
        low: for low noise.
        boundary: the noise level; 0.875 for Wan 2.2's text to video, 0.9 for its image to video.

    Raises:
        ValueError: they are no open models, or differ in what they take and give.
    """
    from kineograph.nodes.networks.adapters.common import AdaptedDiT
    from kineograph.nodes.networks.adapters.experts import Experts

    first: Any = high.network
    second: Any = low.network
    if not (isinstance(first, AdaptedDiT) and isinstance(second, AdaptedDiT)):
        raise ValueError("Experts are DiTs of load_video_dit; for others, cut the schedule by sigmas_between.")
    if first.config != second.config:
        raise ValueError(
            f"These two DiTs do not belong together: one takes and gives {first.config}, the other {second.config}."
        )
    joined: Any = Experts(first, second, boundary)
    return replace(high, network=joined)


@node
def scale_at(step: SigmaStep, high: Scale = 4.0, low: Scale = 3.0, boundary: Boundary = 0.875) -> float:
    """A guidance scale for each of two experts: of a step that begins at the boundary or above, or below.

    Args:
        step: the loop's $item.
        high: of the expert for high noise; the defaults are those of Wan 2.2's text to video.
        low: of the expert for low noise. Its image to video takes 3.5 and 3.5, with boundary 0.9.
        boundary: the noise level, as for ``join_experts``.
    """
    return high if step.sigma >= boundary else low
