"""Whether a process of an earlier life of the server is still there, and its end. Knows no job.

A number alone does not name a process, systems give it away again: the moment of its birth is part of its name.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.05


def birth(pid: int) -> str:
    """When a process was born, as the system tells it; empty where there is none, or the system does not tell."""
    with suppress(OSError, IndexError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else f"{boot} {fields[19]}"
    return ""


def wait_for_end(pid: int, born: str, seconds: float) -> None:
    """Wait for a process to end by itself, then end it; where the system tells no births, only wait.

    Args:
        pid, born: its number, and what ``birth`` said of it.
        seconds: that it has.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until and (not born or birth(pid) == born):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if born and birth(pid) == born:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
