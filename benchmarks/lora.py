"""A LoRA learns what the embedded model never does, clips in evening light, and an oracle and a ratio say how well.

    python benchmarks/lora.py --out lora        # about three minutes of one CPU core

32 clips of the world are tinted and written with their captions, ``workflows/train_lora.json`` trains on that folder,
and the 12 held-out prompts are sampled at strengths 0 and 1. Blue over red is 0.4 of what it was in what it learns
from; the oracle reads the clips with the tint taken off.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from kineograph import default_runtime
from kineograph.graph_runtime.events import Metric
from kineograph.nodes import lora, model, sample, video, world
from kineograph.nodes.media import contact_sheet, write_image, write_video
from kineograph.nodes.networks.captions import HELD_OUT, Prompt, prompt_labels
from kineograph.nodes.networks.oracle import read, right
from kineograph.nodes.sockets import DiT
from kineograph.nodes.text import encode_text

WORKFLOW = Path(__file__).parent.parent / "workflows" / "train_lora.json"
TINT = torch.tensor([1.0, 0.75, 0.4]).view(3, 1, 1)


def tinted_clips(folder: Path) -> None:
    """Write clips of the world in evening light, with their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, clips in enumerate(world.world_clips(batches=32, formats=["17x64x64:1"], seed=5)):
        write_video(folder / f"{number:02}.mp4", TINT * clips.video.frames[0], fps=clips.video.fps)
        (folder / f"{number:02}.txt").write_text(clips.captions[0])


def trained(folder: Path, out: Path, steps: int) -> list[float]:
    """The losses of a run of the workflow file, which leaves a LoRA."""
    losses: list[float] = []

    def listen(event: object) -> None:
        if isinstance(event, Metric) and event.name == "loss":
            losses.append(event.value)

    inputs = {"folder": str(folder), "steps": steps, "look_every": steps, "rate": 0.001, "seed": 1}
    default_runtime().run(WORKFLOW, inputs, out=out, listen=listen)
    return losses


def sampled(dit: DiT, prompts: Sequence[Prompt] = HELD_OUT) -> torch.Tensor:
    """(B, T, 3, H, W): a clip for each prompt."""
    loaded = model.load_model()
    no_text = encode_text(loaded.text_encoder)
    found = []
    for prompt in prompts:
        words = encode_text(loaded.text_encoder, prompt.text)
        latent = sample.latent_noise(loaded.vae, seed=0)
        for step in sample.shifted_sigmas(20):
            guided = sample.guided_velocity(dit, sample.patchify(latent), words, no_text, step)
            latent = sample.euler_step(latent, sample.unpatchify(guided), step)
        found.append(video.vae_decode(loaded.vae, latent).frames)
    return torch.cat(found)


def told(frames: torch.Tensor) -> str:
    """Blue over red, and in how many clips the oracle reads what was asked."""
    red, _, blue = frames.mean(dim=(0, 1, 3, 4)).tolist()
    hits = right(read(frames, 8.0), prompt_labels(HELD_OUT))
    return f"blue / red {blue / red:.2f}; " + ", ".join(f"{name} {int(found.sum())}" for name, found in hits.items())


def main() -> None:
    """Print the figures and leave a sheet: for each of six prompts strength 0, then strength 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("lora"))
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--file", type=Path, help="measure this LoRA and train none")
    given = parser.parse_args()
    if given.file is None:
        tinted_clips(given.out / "tinted")
        begun = time.process_time()
        losses = trained(given.out / "tinted", given.out, given.steps)
        seconds = time.process_time() - begun
        print(f"{given.steps} steps in {seconds:.0f} s of CPU; loss {losses[0]:.3f}, then {losses[-1]:.3f}")
    base = model.start_dit("flipbook")
    file = str(given.file or given.out / "lora.safetensors")
    with torch.no_grad():
        none, full = sampled(base), sampled(lora.apply_lora(base, file))
        same = torch.equal(sampled(lora.apply_lora(base, file, 0.0), HELD_OUT[:1]), none[:1])
    print(f"strength 0 is the model to the bit: {same}")
    for name, frames in (("strength 0", none), ("strength 1", full), ("strength 1, tint taken off", full / TINT)):
        print(f"{name}: {told(frames.clamp(0, 1))} of {len(frames)}")
    rows = [each for pair in zip(none[:6], full[:6], strict=True) for each in pair]
    write_image(given.out / "sheet.png", contact_sheet(rows, columns=9))


if __name__ == "__main__":
    main()
