"""A LoRA learns what the embedded model never does, clips in inverted colours, and the oracle counts what is right.

    python benchmarks/lora.py --out lora        # about two minutes of one CPU core

24 clips of the world are inverted and written with their captions, ``workflows/train_lora.json`` trains on that
folder, and the 12 held-out prompts are sampled with two seeds at strengths 0 and 1. Each clip is read by the oracle as
it is, and inverted: at strength 1 only the latter should show what was asked.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from kineograph import default_runtime
from kineograph.graph_runtime.events import Metric
from kineograph.nodes import lora, model, sample, video, world
from kineograph.nodes.media import contact_sheet, write_image, write_video
from kineograph.nodes.networks.captions import HELD_OUT, prompt_labels
from kineograph.nodes.networks.oracle import read, right
from kineograph.nodes.sockets import DiT
from kineograph.nodes.text import encode_text

WORKFLOW = Path(__file__).parent.parent / "workflows" / "train_lora.json"
SEEDS = 2


def inverted_clips(folder: Path) -> None:
    """Write clips of the world in inverted colours, with their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, clips in enumerate(world.world_clips(batches=24, formats=["17x64x64:1"], seed=5)):
        write_video(folder / f"{number:02}.mp4", 1 - clips.video.frames[0], fps=clips.video.fps)
        (folder / f"{number:02}.txt").write_text(clips.captions[0])


def trained(folder: Path, out: Path, steps: int) -> list[float]:
    """The losses of a run of the workflow file, which leaves a LoRA."""
    losses: list[float] = []

    def listen(event: object) -> None:
        if isinstance(event, Metric) and event.name == "loss":
            losses.append(event.value)

    inputs = {"folder": str(folder), "steps": steps, "look_every": steps}
    default_runtime().run(WORKFLOW, inputs, out=out, listen=listen)
    return losses


def sampled(dit: DiT) -> torch.Tensor:
    """(24, T, 3, H, W): the held-out prompts, each with every seed."""
    loaded = model.load_model()
    no_text = encode_text(loaded.text_encoder)
    found = []
    for seed in range(SEEDS):
        for prompt in HELD_OUT:
            words = encode_text(loaded.text_encoder, prompt.text)
            latent = sample.latent_noise(loaded.vae, seed=seed)
            for step in sample.shifted_sigmas(20):
                guided = sample.guided_velocity(dit, sample.patchify(latent), words, no_text, step)
                latent = sample.euler_step(latent, sample.unpatchify(guided), step)
            found.append(video.vae_decode(loaded.vae, latent).frames)
    return torch.cat(found)


def told(frames: torch.Tensor) -> str:
    """In how many clips the oracle reads what was asked: colour, shape, motion, and all three."""
    hits = right(read(frames, 8.0), prompt_labels(HELD_OUT * SEEDS))
    return ", ".join(f"{name} {int(found.sum())}" for name, found in hits.items()) + f" of {len(frames)}"


def main() -> None:
    """Print the figures and leave a sheet: strength 0, then strength 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("lora"))
    parser.add_argument("--steps", type=int, default=160)
    given = parser.parse_args()
    inverted_clips(given.out / "inverted")
    begun = time.process_time()
    losses = trained(given.out / "inverted", given.out, given.steps)
    seconds = time.process_time() - begun
    print(f"{given.steps} steps in {seconds:.0f} s of CPU; loss {losses[0]:.3f}, then {losses[-1]:.3f}")
    base = model.start_dit("flipbook")
    file = str(given.out / "lora.safetensors")
    with torch.no_grad():
        plain, none, full = (
            sampled(base),
            sampled(lora.apply_lora(base, file, 0.0)),
            sampled(lora.apply_lora(base, file)),
        )
    print(f"strength 0 is the model to the bit: {torch.equal(plain, none)}")
    for name, frames in (("strength 0", none), ("strength 1", full)):
        print(f"{name}: as it is {told(frames)}; inverted {told(1 - frames)}")
    rows = [each for pair in zip(none[:6], full[:6], strict=True) for each in pair]
    write_image(given.out / "sheet.png", contact_sheet(rows, columns=9))


if __name__ == "__main__":
    main()
