"""Draws docs/frames.png, the picture in README: what the embedded model makes of six prompts, with seeds 0 to 5.

    python benchmarks/picture.py [OUT.png] [MODEL]

Every prompt's combination of colour, shape and direction was held out of training.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from kineograph import default_runtime
from kineograph.nodes.networks.captions import HELD_OUT

ROOT = Path(__file__).parent.parent
FRAMES, SIDE, GAP, CAPTION, LETTERS = 6, 112, 6, 268, 18


def main(path: str = str(ROOT / "docs" / "frames.png"), model: str = "flipbook") -> None:
    """Write the picture."""
    runtime = default_runtime()
    prompts = [prompt.text for prompt in HELD_OUT][::2]
    picture = Image.new("RGB", (CAPTION + FRAMES * (SIDE + GAP), len(prompts) * (SIDE + GAP) - GAP), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(LETTERS)
    for row, prompt in enumerate(prompts):
        asked = {"prompt": prompt, "seed": row, "model": model}
        frames = runtime.run("workflows/text_to_video.json", asked, outputs=["video"]).outputs["video"].frames[0]
        top = row * (SIDE + GAP)
        draw.text((0, top + SIDE // 2), prompt, "#333333", font, anchor="lm")
        for column in range(FRAMES):
            frame_HWC = frames[round(column * (len(frames) - 1) / (FRAMES - 1))].permute(1, 2, 0)
            shown = Image.fromarray((frame_HWC * 255).round().to(torch.uint8).numpy())
            picture.paste(shown.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (CAPTION + column * (SIDE + GAP), top))
    picture.save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
