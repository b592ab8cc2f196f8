"""What the graph costs a training step: the same steps as a graph and as a plain script, in turn, in one process.

    python benchmarks/training.py [--steps 60] [--format 17x64x64:4] [--width 256] [--depth 6]

Each pass of the graph (workflows/train_dit_batches.json, with all that it records) is followed by the same step of the
script, so both meet the same load; the figure is the median of their ratios, by the clock and by the processor's time
(which others on the machine disturb less). The losses must be equal to the bit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from kineograph import default_runtime
from kineograph.graph_runtime.events import Event, Metric
from kineograph.nodes import model, video, world
from kineograph.nodes.networks import flow, patches
from kineograph.nodes.networks.dit import Batch
from kineograph.nodes.train import data, noise

WORKFLOW = Path(__file__).parent.parent / "workflows" / "train_dit_batches.json"
WARM_UP = 3


class Script:
    """The training of train_dit_batches.json as one would write it without a graph."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.steps = options.steps
        self.vae, self.encoder = model.load_vae(), model.load_text_encoder()
        self.clips = world.world_clips(options.steps, [options.format])
        self.levels = noise.logit_normal_levels(shift=6.0)
        self.dit = model.start_dit("", 8, options.width, options.depth, 4).network.requires_grad_(True)
        self.weights = list(self.dit.parameters())
        self.average = {name: tensor.detach().clone() for name, tensor in self.dit.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.weights, betas=(0.9, 0.95), weight_decay=0.01, fused=True)

    def step(self, k: int) -> float:
        """Take step k; the loss before it."""
        with torch.enable_grad():  # frozen networks record nothing
            clips = self.clips[k]
            latent = video.vae_encode(self.vae, clips.video)
            text = data.encode_captions(self.encoder, clips, drop=0.1, step=k)
            drawn = noise.draw_levels(latent, self.levels, per_frame=0.1, step=k)
            noisy, target = noise.add_noise(noise.given_frames(drawn, step=k), step=k)
            _, _, t, h, w = noisy.x.shape
            grid, patch = (t, h, w), (1, 1, 1)
            tokens = patches.patchify(noisy.x, patch)
            seconds = patches.frame_centres(t, latent.spec.time_ratio, latent.time) / latent.fps
            places = patches.token_positions(seconds, (h, w), patch, latent.spec.space_ratio)
            levels = flow.fewest_levels(patches.patchify(noisy.mask, patch).amax(dim=-1), t)
            with torch.autocast("cpu", torch.bfloat16):
                (predicted,) = self.dit([Batch(tokens, levels, places[None], text.tokens, text.mask)])
            free = (target.mask > 0).expand_as(target.x)
            error = (patches.unpatchify(predicted, grid, patch) - target.x).square() * free
            loss = error.sum() / free.sum().clamp_min(1)
            gradients = torch.autograd.grad(loss, self.weights)
        with torch.no_grad():
            norm = torch.nn.utils.get_total_norm(gradients)
            factor = (1.0 / norm).clamp_max(1.0)
            for weight, gradient in zip(self.weights, gradients, strict=True):
                weight.grad = gradient * factor
            falling = (self.steps - k) / max(1.0, 0.4 * self.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = 1e-3 * min(1.0, (k + 1) / 51, falling)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            share = 1 - min(0.998, (1 + k) / (10 + k))
            for name, tensor in self.dit.state_dict().items():
                self.average[name].lerp_(tensor, share)
        return loss.item()


class InTurn:
    """Listens to the graph: after each of its passes, the script takes the same step."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.clock: list[tuple[float, float]] = []
        self.processor: list[tuple[float, float]] = []
        self.losses: list[tuple[float, float]] = []
        self.since = _now()

    def __call__(self, event: Event) -> None:
        """Time both, when the graph tells its loss."""
        if not isinstance(event, Metric) or event.name != "loss":
            return
        begun = _now()
        loss = self.script.step(event.step)
        ended = _now()
        for column, before, between, after in zip((self.clock, self.processor), self.since, begun, ended, strict=True):
            column.append((between - before, after - between))
        self.losses.append((event.value, loss))
        self.since = _now()


def _now() -> tuple[float, float]:
    """Seconds of the clock, and of the processor."""
    return time.perf_counter(), time.process_time()


def workflow(options: argparse.Namespace) -> dict[str, Any]:
    """train_dit_batches.json of the sizes that are asked for; every loss is recorded, and there is only training."""
    raw = json.loads(WORKFLOW.read_text())
    raw["nodes"]["dit"]["params"] |= {"width": options.width, "depth": options.depth}
    raw["nodes"]["clips"]["params"]["formats"] = [options.format]
    raw["nodes"]["train"]["body"]["nodes"]["record"]["params"]["every"] = 1
    return raw


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--format", default="17x64x64:4")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=6)
    options = parser.parse_args()
    in_turn = InTurn(Script(options))
    with tempfile.TemporaryDirectory() as folder:
        default_runtime().run(workflow(options), {"steps": options.steps}, out=folder, listen=in_turn)
    print(f"{options.steps} steps of {options.format}, width {options.width}, depth {options.depth}")
    for name, column in (("clock", in_turn.clock), ("processor", in_turn.processor)):
        pairs = column[WARM_UP:]
        low, median, high = statistics.quantiles((graph / script for graph, script in pairs), n=4)
        graph, script = (statistics.median(side) * 1e3 for side in zip(*pairs, strict=True))
        quartiles = f"quartiles {low:.4f} to {high:.4f}"
        print(f"{name:<10} graph {graph:.1f} ms, script {script:.1f} ms, ratio {median:.4f} ({quartiles})")
    apart = [step for step, (graph, script) in enumerate(in_turn.losses) if graph != script]
    print(f"losses differ from step {apart[0]} on" if apart else "losses equal to the bit")


if __name__ == "__main__":
    main()
