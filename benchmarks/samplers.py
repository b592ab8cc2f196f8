"""What samplers, guidance and the block cache make of the embedded model.

    python benchmarks/samplers.py solvers 10     with so many network calls each
    python benchmarks/samplers.py guidance 20
    python benchmarks/samplers.py cache 20

Twelve held-out prompts, each with noise of its own (``--seed`` for others), read by the oracle. "overlap" is the mean
overlap with the best shape. "apart", of the solvers, is the deviation of the latents from those of Heun at 60 calls,
over the deviation of those. Processor time of one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from kineograph.nodes import block_cache, guidance, model, sample, solvers, video
from kineograph.nodes.networks.captions import HELD_OUT, prompt_labels
from kineograph.nodes.networks.oracle import score
from kineograph.nodes.sockets import Latent, Patches, SigmaStep, TextEmbedding

MODEL = model.load_model()
SCALE = 4.0
Step = Callable[[Latent, SigmaStep, int], Latent]


def embedded(prompts: list[str]) -> TextEmbedding:
    return TextEmbedding(*MODEL.text_encoder.network(prompts))


TEXT, NO_TEXT = embedded([prompt.text for prompt in HELD_OUT]), embedded([""])
NO_WORDS = TextEmbedding(NO_TEXT.tokens.expand(len(HELD_OUT), -1, -1), NO_TEXT.mask.expand(len(HELD_OUT), -1))


def noise(seed: int) -> Latent:
    clips = [sample.latent_noise(MODEL.vae, seed=seed + number) for number in range(len(HELD_OUT))]
    return replace(
        clips[0], **{name: torch.cat([getattr(clip, name) for clip in clips]) for name in ("x", "clean", "mask")}
    )


def guided(latent: Latent, at: SigmaStep) -> Latent:
    patches = sample.patchify(latent)
    return sample.unpatchify(sample.guided_velocity(MODEL.dit, patches, TEXT, NO_TEXT, at, SCALE))


# solvers


def euler(latent: Latent, step: SigmaStep, _: int) -> Latent:
    return sample.euler_step(latent, guided(latent, step), step)


def heun(latent: Latent, step: SigmaStep, _: int) -> Latent:
    velocity = guided(latent, step)
    predicted, at = solvers.predict_step(latent, velocity, step)
    return solvers.heun_step(latent, velocity, guided(predicted, at), step)


def ancestral(latent: Latent, step: SigmaStep, index: int) -> Latent:
    return solvers.ancestral_step(latent, guided(latent, step), step, index)


def remembering(node: Callable[..., solvers.Stepped]) -> Step:
    state = solvers.begin_history()

    def step_of(latent: Latent, step: SigmaStep, _: int) -> Latent:
        nonlocal state
        latent, state = node(latent, guided(latent, step), step, state)
        return latent

    return step_of


def by_solver(calls: int) -> Iterator[tuple[str, int, Step]]:
    yield "Euler", calls, euler
    yield "Heun", calls // 2, heun
    yield "DPM-Solver++ 2M", calls, remembering(solvers.dpmpp_2m_step)
    yield "UniPC, order 2", calls, remembering(solvers.unipc_step)
    yield "UniPC, order 3", calls, remembering(partial(solvers.unipc_step, order=3))
    yield "ancestral (DDPM)", calls, ancestral


# guidance


class Said(NamedTuple):
    """What the model said in a pass, with words and without."""

    patches: Patches
    with_text: Patches
    without: Patches
    at: SigmaStep
    index: int

    def plain(self) -> Patches:
        return guidance.add_guidance(self.without, self.with_text, self.without, SCALE)


def combined(combine: Callable[[Said], Patches]) -> Step:
    def step_of(latent: Latent, step: SigmaStep, index: int) -> Latent:
        patches = sample.patchify(latent)
        pair = guidance.guidance_pair(MODEL.dit, patches, TEXT, NO_TEXT, step)
        return sample.euler_step(latent, sample.unpatchify(combine(Said(patches, *pair, step, index))), step)

    return step_of


def skipped(said: Said) -> Patches:
    weaker = guidance.skipped_velocity(MODEL.dit, said.patches, TEXT, said.at, [3])
    return guidance.add_guidance(said.plain(), said.with_text, weaker, 1.0)


def projected(keep: float) -> Step:
    state = guidance.begin_momentum()

    def combine(said: Said) -> Patches:
        nonlocal state
        velocity, state = guidance.projected_guidance(*said[:4], state, SCALE, parallel=0.0, keep=keep)
        return velocity

    return combined(combine)


def by_guidance(calls: int) -> Iterator[tuple[str, int, Step]]:
    yield "none", calls, combined(lambda said: said.with_text)
    yield "classifier-free", calls, combined(Said.plain)
    yield "rescaled by 0.7", calls, combined(lambda said: guidance.rescale_guidance(said.plain(), said.with_text))
    yield (
        "CFG-Zero*",
        calls,
        combined(lambda said: guidance.cfg_zero_guidance(said.with_text, said.without, said.index, SCALE)),
    )
    yield "APG", calls, projected(0.0)
    yield "APG, keeping -0.5", calls, projected(-0.5)
    yield "and block 3 skipped", calls, combined(skipped)


# the block cache: every prompt alone, as a clip of a batch would wait for the others


def cached(threshold: float, calls: int, begun: Latent) -> tuple[Latent, float]:
    done, reused = [], 0
    for number in range(len(HELD_OUT)):
        place = slice(number, number + 1)
        latent = replace(begun, x=begun.x[place], clean=begun.clean[place], mask=begun.mask[place])
        words = TextEmbedding(TEXT.tokens[place], TEXT.mask[place])
        caches = [block_cache.begin_cache()] * 2
        for step in sample.shifted_sigmas(calls):
            patches, said = sample.patchify(latent), []
            for which, told in enumerate((words, NO_TEXT)):
                asked = MODEL.dit, patches, told, step, caches[which]
                velocity, caches[which] = block_cache.cached_velocity(*asked, threshold)
                said.append(velocity)
            velocity = guidance.add_guidance(said[1], said[0], said[1], SCALE)
            latent = sample.euler_step(latent, sample.unpatchify(velocity), step)
        done.append(latent.x)
        reused += sum(cache.reused for cache in caches)
    return replace(begun, x=torch.cat(done)), reused / (2 * calls * len(HELD_OUT))


# tables


def solved(begun: Latent, steps: int, step_of: Step) -> Latent:
    latent = begun
    for index, step in enumerate(sample.shifted_sigmas(steps)):
        latent = step_of(latent, step, index)
    return latent


def row(name: str, latent: Latent, *more: str) -> None:
    found = score(video.vae_decode(MODEL.vae, latent).frames, prompt_labels(HELD_OUT), latent.fps)
    cells = [f"{found[what]:.2f}" for what in ("colour", "shape", "motion", "all", "shape_iou")]
    print(f"| {name} | {' | '.join([*cells, *more])} |", flush=True)


def main() -> None:
    parse = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parse.add_argument("what", choices=("solvers", "guidance", "cache"))
    parse.add_argument("calls", type=int)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--only", nargs="*", default=[], help="rows whose name begins so")
    args = parse.parse_args()
    begun = noise(args.seed)
    torch.set_num_threads(1)
    print("| | colour | shape | motion | all | overlap | |")
    if args.what == "cache":
        for threshold in map(float, args.only or (0.0, 0.05, 0.1, 0.2)):
            start = time.process_time()
            latent, reused = cached(threshold, args.calls, begun)
            row(f"{threshold:g}", latent, f"{reused:.0%}", f"{time.process_time() - start:.1f} s")
        return
    rows = (by_solver if args.what == "solvers" else by_guidance)(args.calls)
    exact = solved(begun, 30, heun).x if args.what == "solvers" else None
    for name, steps, step_of in rows:
        if not args.only or name.startswith(tuple(args.only)):
            latent = solved(begun, steps, step_of)
            row(
                name, latent, *([f"{((latent.x - exact).std() / exact.std()).item():.3f}"] if exact is not None else [])
            )


if __name__ == "__main__":
    with torch.no_grad():
        main()
