"""Curves as an SVG picture, in plain Python: knows points and axes, not what was measured."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT, LEFT, TOP = 640, 240, 70, 30
INNER_WIDTH, INNER_HEIGHT = WIDTH - LEFT - 20, HEIGHT - TOP - 40
MOST_POINTS = 1000


def draw_curves(
    curves: Mapping[str, Points],
    x: str = "step",
    *,
    log_x: bool = False,
    log_y: Collection[str] = (),
    dots: bool = False,
) -> str:
    """A panel for each curve, one below the other.

    Args:
        curves: (x, y) points by title, sorted by x; those that are not finite are left out.
        x: what the horizontal axis counts.
        log_x: the horizontal axes are logarithmic; points that are not positive there are left out.
        log_y: titles of curves whose vertical axis is logarithmic too.
        dots: mark each point, as where there are few; a single one always is.
    """
    panels = [
        f'<g transform="translate(0,{number * HEIGHT})">{_panel(title, points, x, log_x, title in log_y, dots)}</g>'
        for number, (title, points) in enumerate(curves.items())
    ]
    height = HEIGHT * max(1, len(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12"><rect width="{WIDTH}" height="{height}" fill="white"/>'
        f"{''.join(panels)}</svg>\n"
    )


def _panel(title: str, points: Points, x: str, log_x: bool, log_y: bool, dots: bool) -> str:
    drawn = [
        (math.log10(a) if log_x else a, math.log10(b) if log_y else b)
        for a, b in points
        if math.isfinite(a) and math.isfinite(b) and (a > 0 or not log_x) and (b > 0 or not log_y)
    ]
    parts = [_text(LEFT, TOP - 10, "start", title)]
    if not drawn:
        return parts[0]
    (left, right), (low, high) = (_ends([point[axis] for point in drawn]) for axis in (0, 1))
    places = [
        (LEFT + INNER_WIDTH * (a - left) / (right - left), TOP + INNER_HEIGHT * (high - b) / (high - low))
        for a, b in drawn[:: -(-len(drawn) // MOST_POINTS)]
    ]
    for part in (0, 0.25, 0.5, 0.75, 1):
        across, down = LEFT + part * INNER_WIDTH, TOP + (1 - part) * INNER_HEIGHT
        parts += [
            f'<path d="M{LEFT} {down:.1f}h{INNER_WIDTH}" stroke="#ddd"/>',
            _text(LEFT - 6, down + 4, "end", _label(low + part * (high - low), log_y)),
            _text(across, TOP + INNER_HEIGHT + 16, "middle", _label(left + part * (right - left), log_x)),
        ]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    parts += [
        _text(WIDTH - 20, TOP - 10, "end", x),
        f'<polyline points="{line}" fill="none" stroke="#1a6fb5" stroke-width="1.5"/>',
    ]
    parts += [
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="#1a6fb5"/>' for a, b in places if dots or len(places) == 1
    ]
    return "".join(parts)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis: those of the values, apart also where all are equal."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _label(value: float, log: bool) -> str:
    return f"{10**value if log else value:.3g}"
