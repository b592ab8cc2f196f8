"""Native aspect against square crops: which model keeps its subjects inside the frame? (Sora report: improved framing)

    python benchmarks/framing.py [--steps 2500] [--clips 48] [--out folder]

Two small DiTs of the same first weights see portrait and landscape clips of the procedural world, for the
same compute: one at their native aspect, the other as squares cut out of their middle, two for one, since a square
has half the tokens. Both are then asked for portrait and landscape clips. With --out, the clips are left as pictures.
About 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from kineograph.nodes import model, sample, video, world
from kineograph.nodes.media import contact_sheet, write_image
from kineograph.nodes.networks import intervals, measures
from kineograph.nodes.sockets import VAE, DiT, TextEncoder, Video
from kineograph.nodes.text import encode_text
from kineograph.nodes.train import data, loss, noise, optimizer
from kineograph.nodes.train.sockets import Clips

SHAPES = ((48, 96), (96, 48))
FRAMES, BATCH, GUIDANCE = 9, 4, 4.0
RATE, WARM_UP, FALL = 2e-3, 50, 0.4


class Quiet:
    """A run that nobody watches."""

    place, provenance = "", "{}"

    def metric(self, name: str, step: int, value: float) -> None:
        """Keep nothing."""

    def progress(self, done: int, total: int) -> None:
        """Say nothing."""

    def note(self, reason: str) -> None:
        """Say nothing."""

    def preview(self, value: object, done: int = 0) -> None: ...

    def check_cancelled(self) -> None:
        """Go on."""

    def output_path(self, relative: str) -> Path:
        """Nothing is written."""
        raise AssertionError(relative)

    def wrote(self, path: Path) -> None:
        """Nothing is written."""


def squares(clips: Clips) -> Clips:
    """The middle of each clip as a square of its short side."""
    frames = clips.video.frames
    height, width = frames.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return replace(clips, video=replace(clips.video, frames=frames[..., top : top + side, left : left + side]))


def train(native: bool, options: argparse.Namespace, vae: VAE, encoder: TextEncoder) -> DiT:
    """A small DiT after its training, its weights averaged."""
    clips = BATCH if native else 2 * BATCH
    formats = [f"{FRAMES}x{height}x{width}:{clips}" for height, width in SHAPES]
    batches = world.world_clips(options.steps, formats, seed=options.seed, captions="plain")
    dit = model.start_dit("", vae.spec.channels, options.width, options.depth, max(1, options.width // 32))
    levels = noise.logit_normal_levels(shift=6.0)
    state = optimizer.begin_training(dit)
    average = optimizer.begin_average(state)
    for step in range(options.steps):
        batch = batches[step] if native else squares(batches[step])
        with torch.no_grad():
            latent = video.vae_encode(vae, batch.video)
            text = data.encode_captions(encoder, batch, step=step)
            pair = noise.add_noise(noise.draw_levels(latent, levels, step=step), step=step)
        with torch.enable_grad():
            patches = sample.patchify(pair.noisy)
            predicted = sample.dit_velocity(optimizer.dit_in_training(state), patches, text, precision="bfloat16")
            found = optimizer.gradients(loss.flow_loss(sample.unpatchify(predicted), pair.target), state)
        with torch.no_grad():
            rate = RATE * min(1.0, (step + 1) / WARM_UP, (options.steps - step) / max(1.0, FALL * options.steps))
            state = optimizer.apply_gradients(state, optimizer.clip_gradients(found).gradients, Quiet(), lr=rate)
            average = optimizer.average_weights(average, state, step=step)
    return optimizer.trained_dit(state, average)


@torch.no_grad()
def asked_for(dit: DiT, vae: VAE, encoder: TextEncoder, size: tuple[int, int], options: argparse.Namespace) -> Video:
    """Clips of one size, a prompt each."""
    batch = world.world_batch(options.clips, FRAMES, *size)
    text, no_text = data.encode_captions(encoder, batch.clips, drop=0.0), encode_text(encoder)
    latent = sample.latent_noise(vae, FRAMES, *size, clips=options.clips, seed=options.seed)
    for step in sample.shifted_sigmas(options.sampling_steps):
        guided = sample.guided_velocity(dit, sample.patchify(latent), text, no_text, step, GUIDANCE)
        latent = sample.euler_step(latent, sample.unpatchify(guided), step)
    return video.vae_decode(vae, latent)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    for name, default in {
        "steps": 2500,
        "clips": 48,
        "width": 128,
        "depth": 4,
        "sampling-steps": 12,
        "seed": 0,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    vae, encoder = model.load_vae(), model.load_text_encoder()
    print(f"{options.steps} steps, width {options.width}, depth {options.depth}, {options.clips} clips of each size")
    for name in ("native", "square"):
        begun = time.perf_counter()
        dit = train(name == "native", options, vae, encoder)
        seconds = time.perf_counter() - begun
        made = [asked_for(dit, vae, encoder, size, options) for size in SHAPES]
        inside = torch.cat([measures.framed(each.frames, each.fps) for each in made])
        seen = torch.cat([measures.track(each.frames, each.fps).area.isfinite().all(1) for each in made])
        lines = {"an object in every frame": seen, "and wholly inside": inside}
        for about, hits in lines.items():
            share = intervals.share(hits)
            print(f"{name:<7} {about:<25} {share.value:.3f} [{share.low:.3f}, {share.high:.3f}]  ({seconds:.0f} s)")
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            for (height, width), each in zip(SHAPES, made, strict=True):
                sheet = contact_sheet(list(each.frames[:12]), columns=5)
                write_image(options.out / f"{name}_{width}x{height}.png", sheet)


if __name__ == "__main__":
    main()
