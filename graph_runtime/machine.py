"""How much memory a device has to spare. Knows no graph."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def spare_memory(device: str = "cpu") -> int | None:
    """Bytes that a run could still take on a device; None where the system does not say.

    Args:
        device: ``cpu``, or a CUDA device as torch names it, which has not been tried so far for want of one.
    """
    if device != "cpu":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    found = [size for size in (_spare(), _lent()) if size is not None]
    return min(found, default=None)


def _spare() -> int | None:
    """What the system can give without swapping."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _lent() -> int | None:
    """What is left of what a container may use (cgroup v2), where it has a limit."""
    with suppress(OSError, ValueError):
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        return limit - used
    return None
