"""What the server's machine has: memory of this process, devices. Loads no torch; Linux says most."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from kineograph.graph_runtime.machine import spare_memory

SECONDS_KEPT = 3
"""For which what a GPU's driver said serves; asking takes a tenth of a second."""


def own_memory() -> int:
    """The bytes of memory that this process has; 0 where the system does not say."""
    with suppress(OSError, ValueError, IndexError, AttributeError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def total_memory() -> int:
    """The bytes of memory that the machine has; 0 where the system does not say."""
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def gpus() -> int:
    """How many CUDA devices there are, as far as that is seen without torch."""
    return sum(path.name.removeprefix("nvidia").isdecimal() for path in Path("/dev").glob("nvidia*"))


def devices(names: Sequence[str]) -> list[dict[str, Any]]:
    """What workers compute on.

    Args:
        names: as an executor has them: ``cuda:0``, ``cpu`` or empty.
    """
    found = _nvidia(int(time.monotonic()) // SECONDS_KEPT) if any(name.startswith("cuda") for name in names) else {}
    spare = {"name": "CPU", "kind": "cpu", "memory_total": total_memory(), "memory_free": spare_memory()}
    return [found.get(name, spare) for name in names]


@lru_cache(maxsize=1)
def _nvidia(_: int) -> dict[str, dict[str, Any]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    ask = [program, "--query-gpu=index,name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        said = subprocess.run(ask, capture_output=True, text=True, timeout=5, check=True).stdout  # noqa: S603
        rows = [[part.strip() for part in line.split(",")] for line in said.splitlines()]
        return {
            f"cuda:{index}": {
                "name": name,
                "kind": "cuda",
                "memory_total": int(total) << 20,
                "memory_free": int(free) << 20,
            }
            for index, name, total, free in rows
        }
    return {}
