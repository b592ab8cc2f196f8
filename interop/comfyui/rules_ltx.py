"""Graphs for LTX-Video: one checkpoint holds DiT and VAE, levels follow the number of tokens, words carry the rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kineograph.interop.comfyui.pieces import Wire
from kineograph.interop.comfyui.rules_sampling import Schedule
from kineograph.interop.comfyui.translation import At, Translation, rule


@rule("LTXVConditioning")
def _told_rate(t: Translation, at: At) -> Sequence[Any]:
    if isinstance(rate := at.number("frame_rate", 25.0, float), float):
        t.fps = rate
    return [at.get("positive"), at.get("negative")]


@rule("LTXVScheduler")
def _by_tokens(_t: Translation, at: At) -> Sequence[Any]:
    ends = {"at_1024": at.number("base_shift", 0.95, float), "at_4096": at.number("max_shift", 2.05, float)}
    terminal = at.number("terminal", 0.1, float) if at.get("stretch", True) else None

    def made(t: Translation, steps: Any, start: Wire) -> Wire:
        shift = t.wired("token_shift@1", "shift", latent=start, **ends)
        curve = t.wired("shifted_sigmas@1", "sigmas", steps=steps, shift=shift)
        if terminal is None:
            return curve
        return t.wired("stretch_sigmas@1", "stretched", sigmas=curve, terminal=terminal)

    return [Schedule("ltxv", at.number("steps", 20), 1.0, 1.0, made)]
