"""A step of Wan through our nodes beside diffusers' pipeline, in one run: time and peak memory, both as ratios.

    python benchmarks/wan.py --frames 17 --side 128 --layers 4 --width 512

Weights are random, in float32 on the CPU. Both take the same Euler steps with guidance; whoever is first changes from
round to round, and the ratio is the median over rounds, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from kineograph.nodes import sample
from kineograph.nodes.families import wan
from kineograph.nodes.families.kinds import NETWORKS
from kineograph.nodes.families.schemas import WanAutoencoder, WanTransformer
from kineograph.nodes.networks.in_place import gelu_in_place
from kineograph.nodes.sockets import DiT, Latent, LatentSpec, SigmaStep, TextEmbedding
from kineograph.trial import Ledger

SCALE = 5.0
diffusers: Any = import_module("diffusers")


class Given(diffusers.FlowMatchEulerDiscreteScheduler):
    """Euler over given levels."""

    levels: list[float]

    def set_timesteps(self, _: object = None, device: object = None, **__: object) -> None:
        """Those levels, whatever is asked for."""
        super().set_timesteps(sigmas=self.levels, device=device)


def with_numbers(network: Any) -> Any:
    """A network on the meta device with small random weights."""
    made = torch.Generator().manual_seed(0)
    state = {name: torch.randn(each.shape, generator=made) * 0.02 for name, each in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def ours(dit: DiT, noise: Latent, shown: TextEmbedding, not_shown: TextEmbedding, steps: list[SigmaStep]) -> Tensor:
    """The loop of workflows/wan_text_to_video.json, with Euler's step."""
    latent = noise
    for step in steps:
        guided = sample.guided_velocity(dit, sample.patchify(latent, 1, 2, 2), shown, not_shown, step, SCALE)
        latent = sample.euler_step(latent, sample.unpatchify(guided), step)
    return latent.x


def measured(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds of the processor, and what came out."""
    began = time.process_time()
    made = run()
    return time.process_time() - began, made


def peak(run: Callable[[], Tensor]) -> int:
    """The most bytes of tensors that live at once."""
    with Ledger() as ledger:
        run()
    return ledger.peak


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("frames", 17), ("side", 128), ("layers", 4), ("width", 512), ("steps", 2), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    size = parser.parse_args()
    torch.set_grad_enabled(False)
    heads = size.width // 128
    config = WanTransformer(num_attention_heads=heads, ffn_dim=4 * size.width, num_layers=size.layers, text_dim=256)
    network = with_numbers(wan.transformer(config))
    mine = wan.transformer(config)
    mine.load_state_dict(network.state_dict(), assign=True)
    gelu_in_place(mine)  # as our loader does
    adapt = NETWORKS["WanTransformer3DModel"].adapt
    assert adapt is not None
    dit: DiT = adapt(mine.eval().requires_grad_(False), config, None)
    latent_spec = LatentSpec(16, 4, 8, patch=2, causal=True)
    levels = [step.sigma for step in sample.shifted_sigmas(size.steps, 3.0)]
    vae = wan.autoencoder(WanAutoencoder())
    t, side = 1 + (size.frames - 1) // 4, size.side // 8
    x = torch.randn(1, 16, t, side, side, generator=torch.Generator().manual_seed(1))
    noise = Latent(x, torch.zeros_like(x), torch.ones_like(x[:, :1]), 16.0, latent_spec)
    words = [torch.randn(1, 512, 256, generator=torch.Generator().manual_seed(each)) for each in (2, 3)]
    shown, not_shown = (TextEmbedding(each, torch.ones(1, 512, dtype=torch.bool)) for each in words)
    scheduler = Given(shift=1.0)
    scheduler.levels = levels
    pipeline = diffusers.WanPipeline(None, None, vae, scheduler, network)
    pipeline.set_progress_bar_config(disable=True)
    steps = [SigmaStep(*pair) for pair in pairwise([*levels, 0.0])]

    def theirs() -> Tensor:
        return pipeline(
            prompt_embeds=words[0],
            negative_prompt_embeds=words[1],
            latents=x,
            height=size.side,
            width=size.side,
            num_frames=size.frames,
            num_inference_steps=size.steps,
            guidance_scale=SCALE,
            output_type="latent",
        ).frames

    def own() -> Tensor:
        return ours(dit, noise, shown, not_shown, steps)

    print(f"largest difference {(own() - theirs()).abs().max():.2g}")
    ratios: list[float] = []
    for turn in range(size.rounds):
        first, second = (own, theirs) if turn % 2 else (theirs, own)
        seconds = {first: measured(first)[0], second: measured(second)[0]}
        ratios.append(seconds[own] / seconds[theirs])
    low, high = min(ratios), max(ratios)
    print(f"time of a step, ours over theirs: {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})")
    print(f"peak memory, ours over theirs: {peak(own) / peak(theirs):.3f}")


if __name__ == "__main__":
    main()
