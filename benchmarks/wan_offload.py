"""A full-size Wan 1.3B in less memory than its weights take: time and peak of the process, a new one for each budget.

    python benchmarks/wan_offload.py                              # 4GB and 2GB; writes 2.8 GB, which it removes again
    python benchmarks/wan_offload.py --memory 1GB none --dtype float8_e4m3fn

The transformer has the published size and random weights in bfloat16, made on the spot in a temporary folder (TMPDIR),
a block at a time. The loop is that of workflows/wan_text_to_video.json, with guidance; words are random. Linux tells
what a process had at most; torch, diffusers and Python take 0.7 GB of that, which a budget does not count.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from kineograph import default_runtime
from kineograph.cli.storage import read_size
from kineograph.graph_runtime.node import node, node_type
from kineograph.nodes.families import wan
from kineograph.nodes.sockets import Latent, LatentSpec, TextEmbedding

WORKFLOW = Path(__file__).parent.parent / "workflows" / "wan_text_to_video.json"
SIZE = "wan2.1-t2v-1.3b"


@node
def drawn_words(seed: int = 0) -> TextEmbedding:
    """Random text tokens as UMT5 would give them."""
    words = torch.randn(1, 512, 4096, generator=torch.Generator().manual_seed(seed))
    return TextEmbedding(words, torch.ones(1, 512, dtype=torch.bool))


@node
def drawn_noise(frames: int = 17, side: int = 128) -> Latent:
    """Noise, all of it free."""
    shape = 1, 16, 1 + (frames - 1) // 4, side // 8, side // 8
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return Latent(x, torch.zeros_like(x), torch.ones_like(x[:, :1]), 16.0, LatentSpec(16, 4, 8, patch=2, causal=True))


def write(folder: Path, layers: int) -> None:
    """A transformer as diffusers writes it, a file for each block."""
    config = wan.SIZES[SIZE].model_copy(update={"num_layers": layers})
    part = folder / "transformer"
    part.mkdir()
    (part / "config.json").write_text(json.dumps({"_class_name": "WanTransformer3DModel", **config.model_dump()}))
    files: dict[str, list[tuple[str, torch.Size]]] = {}
    for name, weight in wan.transformer(config).state_dict().items():
        block = re.match(r"blocks\.(\d+)\.", name)
        files.setdefault(f"part-{block[1] if block else 'rest'}.safetensors", []).append((name, weight.shape))
    made = torch.Generator().manual_seed(0)
    for file, weights in files.items():
        numbers = {name: (torch.randn(shape, generator=made) * 0.02).bfloat16() for name, shape in weights}
        save_file(numbers, part / file)
    index = {"weight_map": {name: file for file, weights in files.items() for name, _ in weights}}
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def graph(options: argparse.Namespace) -> dict[str, Any]:
    """The denoising loop of the workflow file, its words and its noise drawn."""
    raw = json.loads(WORKFLOW.read_text())
    nodes = {name: raw["nodes"][name] for name in ("sigmas", "history", "denoise")}
    nodes["denoise"]["links"]["dit"] = "dit"
    nodes["dit"] = {"type": "load_video_dit@1", "params": {"path": str(options.folder), "dtype": options.dtype}}
    nodes["text"] = {"type": "drawn_words@1", "params": {"seed": 1}}
    nodes["no_text"] = {"type": "drawn_words@1", "params": {"seed": 2}}
    nodes["noise"] = {"type": "drawn_noise@1", "params": {"frames": options.frames, "side": options.side}}
    inputs = {name: raw["inputs"][name] for name in ("steps", "shift", "guidance")}
    return {"format": 1, "inputs": inputs, "nodes": nodes, "outputs": {"latent": "denoise.latent"}}


def run(options: argparse.Namespace) -> None:
    """One budget, in a process of its own."""
    runtime = default_runtime(installed=False)
    for kind in map(node_type, (drawn_words, drawn_noise)):
        assert kind is not None
        runtime.registry.add(kind)
    budget = None if options.memory == ["none"] else read_size(options.memory[0])
    began = time.perf_counter()
    latent = runtime.run(graph(options), {"steps": options.steps}, memory=budget).outputs["latent"]
    took = time.perf_counter() - began
    lines = Path("/proc/self/status").read_text().splitlines()
    most = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    told = f"{options.memory[0]:>6} {took:8.1f} s {most / 1e9:10.2f} GB"
    if runtime._lent is not None:
        device = runtime._lent.device
        told += f" {device.peak / 1e9:10.2f} GB {device.moved / 1e9:8.2f} GB"
    print(f"{told}   latent {float(latent.x.double().sum()):.9f}", flush=True)


def main() -> None:
    """Write the model, run it with each budget, remove it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", nargs="+", default=["4GB", "2GB"], help="budgets; none is without one")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float8_e4m3fn"))
    for name, default in (("frames", 17), ("side", 128), ("layers", 30), ("steps", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    if options.folder is not None:
        run(options)
        return
    print(f"{'budget':>6} {'time':>10} {'process':>13} {'ledger':>13} {'moved':>11}")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.layers)
        given = [f"--{name}={getattr(options, name)}" for name in ("dtype", "frames", "side", "steps")]
        for budget in options.memory:
            line = [sys.executable, __file__, "--folder", folder, "--memory", budget, *given]
            subprocess.run(line, check=True)  # noqa: S603  itself


if __name__ == "__main__":
    main()
