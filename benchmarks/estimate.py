"""How long an estimate takes: text_to_video with the embedded model, and one step of a DiT of 14 billion weights.

    python benchmarks/estimate.py

The large one has the sizes of Wan 2.1's 14B (width 5120, 40 blocks, 40 heads) and as many tokens, 32,760, as that has
of 81 frames of 480 x 832 pixels; its weights exist nowhere. Seconds are the processor's, as others may use the machine;
torch is loaded beforehand.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch  # noqa: F401  its import is not what is measured

import kineograph
from kineograph import default_runtime
from kineograph.graph_runtime.costs import Estimate

ROOT = Path(kineograph.__file__).parent


def large(width: int = 5120, depth: int = 40, heads: int = 40, frames: int = 81) -> dict[str, Any]:
    """A workflow that denoises with a new DiT of any size: 20 steps with guidance."""
    encode = {"type": "encode_text@1", "links": {"encoder": "encoder"}}
    sizes = {"frames": frames, "height": 240, "width": 416, "fps": 16.0}
    body = {
        "patches": {"type": "patchify@1", "links": {"latent": "$latent"}},
        "guided": {
            "type": "guided_velocity@1",
            "links": {"dit": "$dit", "patches": "patches", "text": "$text", "no_text": "$no_text", "at": "$item"},
        },
        "velocity": {"type": "unpatchify@1", "links": {"patches": "guided"}},
        "step": {"type": "euler_step@1", "links": {"latent": "$latent", "velocity": "velocity", "step": "$item"}},
    }
    return {
        "format": 1,
        "nodes": {
            "vae": {"type": "new_vae@1"},
            "dit": {"type": "start_dit@1", "params": {"width": width, "depth": depth, "heads": heads}},
            "encoder": {"type": "new_text_encoder@1"},
            "text": encode | {"params": {"prompt": "a red circle moves right"}},
            "no_text": encode | {"params": {"prompt": ""}},
            "noise": {"type": "latent_noise@1", "links": {"vae": "vae"}, "params": sizes},
            "sigmas": {"type": "shifted_sigmas@1", "params": {"steps": 20}},
            "denoise": {
                "type": "loop@1",
                "each": "sigmas",
                "carry": {"latent": "noise"},
                "links": {"dit": "dit", "text": "text", "no_text": "no_text"},
                "body": {"nodes": body, "outputs": {"latent": "step"}},
            },
        },
        "outputs": {"latent": "denoise.latent"},
    }


def show(name: str, source: Any) -> None:
    """Estimate a workflow in a new runtime and print what that took and gave."""
    runtime = default_runtime()
    begun = time.process_time()
    found: Estimate = runtime.estimate(source)
    seconds = time.process_time() - begun
    print(f"{name:<14} {seconds:6.2f} s  {found.flops / 1e12:12,.2f} TFLOPs  {found.peak_bytes / 1e9:8.3f} GB at most")
    for node in found.nodes:
        if node.unknown and not node.path.endswith("file"):
            raise SystemExit(f"{node.path}: {node.unknown}")


def main() -> None:
    """Print a line for each."""
    show("text_to_video", ROOT / "workflows" / "text_to_video.json")
    show("again", ROOT / "workflows" / "text_to_video.json")
    show("14B", large())


if __name__ == "__main__":
    main()
