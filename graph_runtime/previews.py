"""Small pictures of values while a run goes on, for those who look. The values' classes draw them; knows no picture."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pkgutil import resolve_name
from typing import Any

from kineograph.graph_runtime.events import Listener, NodePreview


@dataclass
class Previews:
    """How often pictures are drawn, and when each place had its last one.

    Attributes:
        seconds: between two pictures of the same value; 0 draws none.
    """

    seconds: float = 0.0
    drawn: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])

    def show(self, path: str, port: str, value: object, listen: Listener, done: int = 0) -> None:
        """Tell how a value looks, unless its last picture is too new or its class draws none."""
        draw = _drawer(type(value))
        now = time.monotonic()
        if draw is None or now - self.drawn.get((path, port), -self.seconds) < self.seconds:
            return
        self.drawn[path, port] = now
        try:
            png = draw(value)
        except Exception:  # noqa: BLE001  nobody loses a run because a picture of it cannot be drawn
            return
        if png is not None:
            listen(NodePreview(path, port, done, base64.b64encode(png).decode()))


@cache
def _drawer(kind: type[Any]) -> Callable[[Any], bytes | None] | None:
    name = getattr(kind, "__socket_preview__", "")
    return resolve_name(name) if name else None
