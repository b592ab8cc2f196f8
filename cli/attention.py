"""``kineograph attention``, and ``--attention``: which ways of computing attention there are, and which is taken."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kineograph import numerics
from kineograph.graph_runtime.errors import InvalidWorkflow, Problem

if TYPE_CHECKING:
    import torch

HEADS = ("attention", "device", "type", "difference", "time", "")
HEAD_WIDTH = 64
NEED_CUDA = ("varlen", "xformers")
LEGEND = """Difference: the largest from SDPA in float32, clip by clip, over the largest value. Time: for 7 clips of
128 to 512 tokens, over that of SDPA. --attention NAME of run, plan and serve takes another than is taken by itself."""


def add_argument(command: argparse.ArgumentParser) -> None:
    """The argument of a command that says how attention is computed."""
    about = (
        "how DiTs compute attention (default: what is best for the device); `kineograph attention` shows what there is"
    )
    command.add_argument("--attention", choices=numerics.ATTENTIONS, help=about)


def take(options: argparse.Namespace) -> None:
    """Let this process, and those that it starts, compute attention as the arguments say.

    Raises:
        InvalidWorkflow: what is needed is not installed, or there is no device for it.
    """
    if options.attention is not None:
        os.environ[numerics.ATTENTION] = options.attention
    try:
        named = numerics.attention()
    except ValueError as error:
        raise InvalidWorkflow([Problem(f"${numerics.ATTENTION}", str(error))]) from None
    place = f"${numerics.ATTENTION}" if options.attention is None else "--attention"
    if named == "xformers" and find_spec("xformers") is None:
        raise InvalidWorkflow(
            [Problem(place, "xformers is not installed.", "pip install 'kineograph[xformers]' brings it.")]
        )
    if named in NEED_CUDA and not _has_cuda():
        message = f"{named} computes on a CUDA device alone, and torch finds none on this machine."
        raise InvalidWorkflow([Problem(place, message, "Leave it out, or name sdpa or flex.")])


def _has_cuda() -> bool:
    """Whether torch finds a GPU: asked in a process of its own where it is not loaded yet, as a server loads none."""
    if (torch := sys.modules.get("torch")) is not None:
        return torch.cuda.is_available()
    ask = "import torch; raise SystemExit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0  # noqa: S603  our own words


def add_command(commands: Any) -> None:
    """``kineograph attention``."""
    about = "show the ways to compute attention, tried on this machine"
    attention = commands.add_parser("attention", help=about, usage="kineograph attention [--json]")
    attention.add_argument("--json", action="store_true", help="as JSON")
    attention.set_defaults(command=_show, name="attention")


def _show(options: argparse.Namespace) -> int:
    rows = list(_tried())
    print(json.dumps(rows) if options.json else _table(rows))
    return 0


def _tried() -> Iterator[dict[str, Any]]:
    """Each way on each device and in each type: why it cannot be taken, or its difference from SDPA and its time."""
    import torch

    from kineograph.nodes.networks.attention import backends, choice, selftest

    for device in ("cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))):
        for dtype in _dtypes(device):
            case = backends.Case(device, dtype, HEAD_WIDTH)
            of_sdpa, best = selftest.seconds(backends.SDPA, case), choice.best(case)
            for backend in backends.BACKENDS.values():
                row: dict[str, Any] = {"attention": backend.name, "device": device, "type": str(dtype)[6:]}
                why = backend.lacks(case) or selftest.fault(backend, case)
                row |= {"there": not why, "why": why, "taken": backend is best}
                if not why:
                    row["difference"] = selftest.difference(backend, case)
                    row["time"] = selftest.seconds(backend, case) / of_sdpa
                yield row


def _dtypes(device: str) -> list[torch.dtype]:
    import torch

    return [torch.float32, torch.bfloat16, *([] if device == "cpu" else [torch.float16])]


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [HEADS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([*lines, "", LEGEND])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    head = (row["attention"], row["device"], row["type"])
    if not row["there"]:
        return (*head, "", "", f"not here: {row['why']}")
    taken = "taken by itself" if row["taken"] else ""
    return (*head, f"{row['difference']:.0e}" if row["difference"] else "0", f"{row['time']:.2f} x", taken)
