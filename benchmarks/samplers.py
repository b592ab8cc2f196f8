"""What samplers, guidance and the block cache make of the embedded model.

    python benchmarks/samplers.py solvers 10     with so many network calls each
    python benchmarks/samplers.py guidance 20
    python benchmarks/samplers.py cache 20

Held-out prompts, each with noise of its own, read by the oracle. "overlap" is the mean overlap with the best shape,
"apart" the deviation of the latents from those of the best, over the deviation of those; the best is Heun at 60 calls
for solvers, no cache for caches. Products in bfloat16, one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

import torch

from kineograph.nodes import block_cache, guidance, model, sample, solvers, video
from kineograph.nodes.networks.captions import HELD_OUT, prompt_labels
from kineograph.nodes.networks.oracle import score
from kineograph.nodes.sockets import Latent, Patches, SigmaStep, TextEmbedding

MODEL = model.load_model()
PROMPTS = list(HELD_OUT)
SCALE, PRECISION = 4.0, "bfloat16"
Step = Callable[[Latent, SigmaStep, int], Latent]


def embedded(prompts: list[str]) -> TextEmbedding:
    return TextEmbedding(*MODEL.text_encoder.network(prompts))


@cache
def words() -> tuple[TextEmbedding, TextEmbedding]:
    return embedded([prompt.text for prompt in PROMPTS]), embedded([""])


def noise(seed: int) -> Latent:
    clips = [sample.latent_noise(MODEL.vae, seed=seed + number) for number in range(len(PROMPTS))]
    return replace(
        clips[0], **{name: torch.cat([getattr(clip, name) for clip in clips]) for name in ("x", "clean", "mask")}
    )


def guided(latent: Latent, at: SigmaStep) -> Latent:
    patches = sample.patchify(latent)
    return sample.unpatchify(sample.guided_velocity(MODEL.dit, patches, *words(), at, SCALE, PRECISION))


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
    number: int

    def plain(self) -> Patches:
        return guidance.add_guidance(self.without, self.with_text, self.without, SCALE)


def combined(combine: Callable[[Said], Patches]) -> Step:
    def step_of(latent: Latent, step: SigmaStep, index: int) -> Latent:
        patches = sample.patchify(latent)
        pair = guidance.guidance_pair(MODEL.dit, patches, *words(), step, PRECISION)
        return sample.euler_step(latent, sample.unpatchify(combine(Said(patches, *pair, step, index))), step)

    return step_of


def skipped(said: Said) -> Patches:
    weaker = guidance.skipped_velocity(MODEL.dit, said.patches, words()[0], said.at, [3], PRECISION)
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
        combined(lambda said: guidance.cfg_zero_guidance(said.with_text, said.without, said.number, SCALE)),
    )
    yield "APG", calls, projected(0.0)
    yield "APG, keeping -0.5", calls, projected(-0.5)
    yield "and block 3 skipped", calls, combined(skipped)


# the block cache: every prompt alone, as the clips of a batch would wait for each other


def cached(threshold: float, calls: int, begun: Latent) -> tuple[Latent, float]:
    done, reused = [], 0
    for number in range(len(PROMPTS)):
        place = slice(number, number + 1)
        latent = replace(begun, x=begun.x[place], clean=begun.clean[place], mask=begun.mask[place])
        told = TextEmbedding(words()[0].tokens[place], words()[0].mask[place]), words()[1]
        caches = [block_cache.begin_cache()] * 2
        for step in sample.shifted_sigmas(calls):
            patches, said = sample.patchify(latent), []
            for which in (0, 1):
                asked = MODEL.dit, patches, told[which], step, caches[which]
                velocity, caches[which] = block_cache.cached_velocity(*asked, threshold, PRECISION)
                said.append(velocity)
            velocity = guidance.add_guidance(said[1], said[0], said[1], SCALE)
            latent = sample.euler_step(latent, sample.unpatchify(velocity), step)
        done.append(latent.x)
        reused += sum(cache.reused for cache in caches)
    return replace(begun, x=torch.cat(done)), reused / (2 * calls * len(PROMPTS))


# tables


def solved(begun: Latent, steps: int, step_of: Step) -> Latent:
    latent = begun
    for index, step in enumerate(sample.shifted_sigmas(steps)):
        latent = step_of(latent, step, index)
    return latent


def row(name: str, latent: Latent, exact: Latent | None, *more: str) -> None:
    found = score(video.vae_decode(MODEL.vae, latent).frames, prompt_labels(PROMPTS), latent.fps)
    cells = [f"{found[what]:.2f}" for what in ("colour", "shape", "motion", "all", "shape_iou")]
    cells.append("" if exact is None else f"{((latent.x - exact.x).std() / exact.x.std()).item():.3f}")
    print(f"| {name} | {' | '.join([*cells, *more])} |", flush=True)


def main() -> None:
    parse = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parse.add_argument("what", choices=("solvers", "guidance", "cache"))
    parse.add_argument("calls", type=int)
    parse.add_argument("--prompts", type=int, default=len(PROMPTS))
    parse.add_argument("--seed", type=int, default=0)
    args = parse.parse_args()
    del PROMPTS[args.prompts :]
    torch.set_num_threads(1)
    begun, exact = noise(args.seed), None
    print("| | colour | shape | motion | all | overlap | apart | |")
    if args.what == "cache":
        for threshold in (0.0, 0.05, 0.1, 0.2):
            start = time.process_time()
            latent, reused = cached(threshold, args.calls, begun)
            exact = exact or latent
            row(f"{threshold:g}", latent, exact, f"{reused:.0%}", f"{time.process_time() - start:.1f} s")
    else:
        if args.what == "solvers":
            exact = solved(begun, 30, heun)
        for name, steps, step_of in (by_solver if args.what == "solvers" else by_guidance)(args.calls):
            row(name, solved(begun, steps, step_of), exact)


if __name__ == "__main__":
    with torch.no_grad():
        main()
