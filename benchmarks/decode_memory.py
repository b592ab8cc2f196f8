"""What the VAE needs for 1, 4 and 16 times the frames: the whole at once, streamed, in tiles, and straight into a file.

    python benchmarks/decode_memory.py [HEIGHT WIDTH FRAMES TILE [decode | encode]]

With the embedded model's VAE, one thread. Bytes are those of all live tensors (`trial.Ledger`), weights, latent and
frames included, in a real run; by how much resident memory grows is measured apart, in a new process for each row.
Seconds are the processor's at 4 x, least of five. 17 frames of 128 x 128 pixels and tiles of 64, if nothing else is
given.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from kineograph.nodes.model import load_vae
from kineograph.nodes.networks.pieces import decoded, decoded_pieces
from kineograph.nodes.save import decode_to_file
from kineograph.nodes.sockets import Latent, Video
from kineograph.nodes.video import vae_decode, vae_encode
from kineograph.trial import Ledger

TIMES = (1, 4, 16)


class Run:
    """What a node that writes a file asks of a run; nobody listens."""

    place = provenance = ""

    def progress(self, *_: object, **__: object) -> None:
        """Not told."""

    metric = note = preview = check_cancelled = wrote = progress

    def output_path(self, relative: str) -> Path:
        """A file that is removed with its folder."""
        return Path(FOLDER.name) / relative


FOLDER = tempfile.TemporaryDirectory()


def drain(pieces: Iterable[torch.Tensor]) -> None:
    """Ask for all pieces and keep none."""
    deque(map(torch.Tensor.size, pieces), maxlen=0)


def forms(height: int, width: int, frames: int, tile: int) -> dict[str, Callable[[], object]]:
    """What is measured, by name; each makes its input anew, so that it counts."""
    vae = load_vae()
    network = vae.network

    def clip() -> Video:
        return Video(torch.rand(1, frames, 3, height, width, generator=torch.Generator().manual_seed(0)), 8.0)

    def latent() -> Latent:
        sides = vae.spec.channels, 1 + (frames - 1) // 4, height // 8, width // 8
        x = torch.randn(1, *sides, generator=torch.Generator().manual_seed(0))
        return Latent(x, x, torch.zeros_like(x[:, :1]), 8.0, vae.spec)

    return {
        "decode: whole": lambda: network.decode(latent().x),
        "decode: streamed (vae_decode)": lambda: vae_decode(vae, latent()),
        "decode: streamed, tiles": lambda: vae_decode(vae, latent(), tile),
        "decode: pieces, none kept": lambda: drain(decoded_pieces(network, latent().x, "line")),
        "decode: into a file (decode_to_file)": lambda: decode_to_file(vae, latent(), Run(), upscale=1),
        "encode: whole": lambda: network.encode(clip().frames.transpose(1, 2))[0],
        "encode: streamed (vae_encode)": lambda: vae_encode(vae, clip()),
        "encode: streamed, tiles": lambda: vae_encode(vae, clip(), tile),
    }


def seam(height: int, width: int, frames: int, tile: int) -> float:
    """The largest difference of a value between tiles and the whole."""
    vae = load_vae()
    x = torch.randn(1, vae.spec.channels, 1 + (frames - 1) // 4, height // 8, width // 8)
    tiled = decoded(vae.network, x, "line", tile, frames).transpose(1, 2)
    return float((tiled - vae.network.decode(x)).abs().max())


def resident(name: str, sizes: list[int]) -> list[int]:
    """By how much a new process grows above what it had with torch loaded, in bytes."""
    line = [sys.executable, __file__, "--grown", name, *map(str, sizes)]
    at_once = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=at_once)  # noqa: S603  itself
    return [int(each) for each in done.stdout.split()]


def grown(name: str, height: int, width: int, frames: int, tile: int) -> None:
    """In a process of its own: warm up on one frame, then print the growth at each length."""
    forms(height, width, 1, tile)[name]()
    for times in TIMES:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the highest is now what it has
        before = _resident("VmRSS")
        forms(height, width, 1 + times * (frames - 1), tile)[name]()
        print(_resident("VmHWM") - before)


def _resident(which: str) -> int:
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(which))
    return 1024 * int(line.split()[1])


def peak(call: Callable[[], object]) -> int:
    """Bytes of all tensors that it met, at most at once."""
    with Ledger() as ledger:
        call()
    return ledger.peak


def seconds(calls: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Of the processor, least of some rounds, in which each has its turn."""
    least = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            begun = time.process_time()
            call()
            least[name] = min(least[name], time.process_time() - begun)
    return least


def main(height: int = 128, width: int = 128, frames: int = 17, tile: int = 64, *, only: str = "") -> None:
    """Print the table, or the rows that begin so."""
    sizes = ", ".join(f"{12e-6 * height * width * (1 + times * (frames - 1)):.1f}" for times in TIMES)
    print(f"{frames} frames of {height} x {width}, and 4 and 16 times those ({sizes} MB); tiles of {tile} pixels")
    print(f"{'':<38}{'MB':>7}{'x 4':>7}{'x 16':>7}{'resident':>10}{'x 4':>7}{'x 16':>7}{'ms':>8}{'of whole':>10}")
    calls = [forms(height, width, 1 + times * (frames - 1), tile) for times in TIMES]
    chosen = [name for name in calls[0] if name.startswith(only)]
    took = seconds({name: calls[1][name] for name in chosen})
    for name in chosen:
        one, *more = [peak(each[name]) for each in calls]
        grow = [each / 1e6 for each in resident(name, [height, width, frames, tile])]
        share = took[name] / took[f"{name.partition(':')[0]}: whole"]
        print(
            f"{name:<38}{one / 1e6:>7.1f}{more[0] / one:>7.2f}{more[1] / one:>7.2f}"
            f"{grow[0]:>10.1f}{grow[1]:>7.1f}{grow[2]:>7.1f}{1e3 * took[name]:>8.0f}{share:>10.2f}",
            flush=True,
        )
    print(f"largest difference between tiles and the whole: {seam(height, width, frames, tile):.1e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if sys.argv[1:2] == ["--grown"]:
        grown(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        main(*map(int, sys.argv[1:5]), only="".join(sys.argv[5:]))
