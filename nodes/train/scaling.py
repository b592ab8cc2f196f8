"""Scaling curves: the same training at several sizes, each for a multiple of the smallest one's compute.

Knows the size of a DiT, not how it is trained.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes.scores import Scores

HEAD_WIDTH = 32


class ScalingRun(NamedTuple):
    """One point of a scaling curve: the sizes of its DiT, its steps, and its compute (the first run's is 1)."""

    width: int
    heads: int
    steps: int
    compute: float


@node
def scaling_run(
    number: Annotated[int, Field(ge=0)],
    widths: Annotated[list[int], Field(min_length=1)],
    compute: Annotated[list[float], Field(min_length=1)],
    steps: Annotated[int, Field(ge=1)],
    depth: Annotated[int, Field(ge=1)] = 3,
    channels: Annotated[int, Field(ge=1)] = 8,
) -> ScalingRun:
    """The sizes and steps of one run: compute is weights x steps, batches being equal (Kaplan et al. 2020, C = 6 N D).

    Args:
        number: which run, the first is 0.
        widths: of the DiT, for each run; multiples of 32, the width of a head.
        compute: of each run, as a multiple; 1, 4, 16 for example.
        steps: of the first run.
        depth: blocks, the same in all.
        channels: of the VAE's latent.
    """
    if len(widths) != len(compute) or number >= len(widths):
        raise ValueError(f"There are {len(widths)} widths and {len(compute)} multiples of compute for run {number}.")
    if wrong := [width for width in widths if width < HEAD_WIDTH or width % HEAD_WIDTH]:
        raise ValueError(f"widths = {wrong} are no multiples of {HEAD_WIDTH}.")
    if min(compute) <= 0:
        raise ValueError(f"compute = {compute}: each multiple is above 0.")
    first, own = (_weights(width, depth, channels) for width in (widths[0], widths[number]))
    most = max(1, round(steps * compute[number] / compute[0] * first / own))
    return ScalingRun(widths[number], widths[number] // HEAD_WIDTH, most, own * most / (first * steps))


@node(effect=True)
def scaling_curve(
    losses: Stream[float],
    compute: Stream[float],
    run: RunContext,
    path: Annotated[str, Field(min_length=1)] = "scaling.svg",
    scores: Stream[Scores] | None = None,
) -> float:
    """Draw losses over compute, both logarithmic, and give the slope b of the fitted line, loss ~ compute^b.

    Below it, what judges say of clips of each run: the chart that OpenAI's report on Sora shows with three clips.

    Args:
        losses: held-out loss of each run.
        compute: of each run.
        path: of the picture, below the output folder.
        scores: what a judge says of each run, a curve for each of its numbers.
    """
    points = sorted(zip(compute, losses, strict=True))
    for multiple, loss in points:
        run.metric("scaling_loss", round(multiple), loss)
    from kineograph.nodes.curve import draw_curves

    loss, axis = "held-out loss", "compute, first run = 1"
    curves: dict[str, list[tuple[float, float]]] = {loss: points}
    for multiple, judged in sorted(zip(compute, scores or (), strict=scores is not None), key=lambda pair: pair[0]):
        for row in judged.rows:
            curves.setdefault(row.name, []).append((multiple, row.value))
    target = run.output_path(path)
    target.write_text(draw_curves(curves, axis, log_x=True, log_y={loss}, dots=True), encoding="utf-8")
    run.wrote(target)
    return _slope(points)


def _slope(points: list[tuple[float, float]]) -> float:
    """Of the least-squares line through (log x, log y); 0 where there is one point."""
    from math import log
    from statistics import linear_regression

    if len({x for x, _ in points}) < 2:
        return 0.0
    return linear_regression([log(x) for x, _ in points], [log(y) for _, y in points]).slope


def _weights(width: int, depth: int, channels: int) -> int:
    """How many weights a DiT of these sizes has."""
    from kineograph.nodes.networks.components import build

    config = {"channels": channels, "width": width, "depth": depth, "heads": width // HEAD_WIDTH}
    return sum(weight.numel() for weight in build("dit", config).parameters())
