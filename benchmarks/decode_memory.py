"""What the VAE needs for 1, 4 and 16 times the frames: the whole at once, streamed, in tiles, and straight into a file.

    python benchmarks/decode_memory.py [HEIGHT WIDTH FRAMES TILE]

With the embedded model's VAE, one thread. Bytes are those of all live tensors (`trial.Ledger`), weights, latent and
frames included, in a real run; growth of the process's resident memory is measured apart, in a new process for each
row. Seconds are the processor's, least of three. 128 x 128 pixels, 17 frames and tiles of 64 pixels, unless others are given.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from kineograph.nodes.model import load_vae
from kineograph.nodes.networks.frames import joined
from kineograph.nodes.save import decode_to_file
from kineograph.nodes.sockets import Latent, Video
from kineograph.nodes.video import vae_decode, vae_encode
from kineograph.trial import Ledger

TIMES = (1, 4, 16)


class Run:
    """What a node that writes a file asks of a run."""

    provenance = ""

    def progress(self, done: int, total: int) -> None:
        """Nobody listens."""

    def output_path(self, relative: str) -> Path:
        """A file that is removed with its folder."""
        return Path(FOLDER.name) / relative

    def wrote(self, path: Path) -> None:
        """Nobody listens."""


FOLDER = tempfile.TemporaryDirectory()


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
        "decode: pieces, none kept": lambda: [piece.shape for piece in network.decode_pieces(latent().x)],
        "decode: pieces of tiles, none kept": lambda: [
            piece.shape for piece in network.decode_pieces(latent().x, tile=tile)
        ],
        "decode: into a file (decode_to_file)": lambda: decode_to_file(vae, latent(), Run(), upscale=1),
        "encode: whole": lambda: network.encode(clip().frames.transpose(1, 2))[0],
        "encode: streamed (vae_encode)": lambda: vae_encode(vae, clip()),
        "encode: streamed, tiles": lambda: vae_encode(vae, clip(), tile),
    }


def seam(height: int, width: int, frames: int, tile: int) -> float:
    """The largest difference of a value between tiles and the whole."""
    vae = load_vae()
    x = torch.randn(1, vae.spec.channels, 1 + (frames - 1) // 4, height // 8, width // 8)
    return float(
        (joined(vae.network.decode_pieces(x, tile=tile), frames).transpose(1, 2) - vae.network.decode(x)).abs().max()
    )


def resident(name: str, sizes: list[int]) -> int:
    """By how much a new process grows above what it had with torch and the weights loaded, in bytes."""
    line = [sys.executable, __file__, "--one", name, *map(str, sizes)]
    return int(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


def one(name: str, sizes: list[int]) -> None:
    """In a process of its own: do one of the forms on one frame of it, then on all; print the growth."""
    forms(sizes[0], sizes[1], 1, sizes[3])[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    forms(*sizes)[name]()
    print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def measured(name: str, sizes: list[int]) -> tuple[int, float]:
    """Bytes and seconds of one form."""
    call = forms(*sizes)[name]
    with Ledger() as ledger:
        call()
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        call()
        seconds.append(time.process_time() - begun)
    return ledger.peak, min(seconds)


def main(height: int = 128, width: int = 128, frames: int = 17, tile: int = 64) -> None:
    """Print the table."""
    print(f"{frames} frames of {height} x {width}, and 4 and 16 times those; tiles of {tile} pixels")
    print(f"{'':<38}{'MB':>7}{'x 4':>7}{'x 16':>7}{'resident':>10}{'x 4':>7}{'x 16':>7}{'ms':>8}{'of whole':>10}")
    whole: dict[str, float] = {}
    for name in forms(height, width, frames, tile):
        sizes = [[height, width, 1 + times * (frames - 1), tile] for times in TIMES]
        found = [measured(name, each) for each in sizes]
        grown = [resident(name, each) for each in sizes]
        bytes_, seconds = zip(*found, strict=True)
        share = seconds[1] / whole.setdefault(name.partition(":")[0], seconds[1])
        print(
            f"{name:<38}{bytes_[0] / 1e6:>7.1f}{bytes_[1] / bytes_[0]:>7.2f}{bytes_[2] / bytes_[0]:>7.2f}"
            f"{grown[0] / 1e6:>10.1f}{grown[1] / 1e6:>7.1f}{grown[2] / 1e6:>7.1f}{1e3 * seconds[1]:>8.0f}{share:>10.2f}",
            flush=True,
        )
    print(f"largest difference between tiles and the whole: {seam(height, width, frames, tile):.1e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], [int(each) for each in sys.argv[3:]])
    else:
        main(*map(int, sys.argv[1:]))
