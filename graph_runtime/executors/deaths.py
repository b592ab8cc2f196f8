"""How a process ended, in words: from its exit code and the system's count of processes that memory was taken from."""

from __future__ import annotations

import signal
from pathlib import Path

VMSTAT = Path("/proc/vmstat")
SMALLER = "Ask for a smaller size, fewer frames or a smaller batch."
NATIVE = "That is a fault in native code which the node calls, no error of Python's."
WORDS = {
    "SIGSEGV": "ended with a segmentation fault",
    "SIGBUS": "ended with a bus error: memory or a mapped file was not there",
    "SIGILL": "met an instruction that this processor does not know",
    "SIGFPE": "ended with an arithmetic error",
    "SIGABRT": "gave up (abort)",
}
WINDOWS = {0xC0000005: "ended with an access violation", 0xC0000409: "gave up (fast fail)", 0xC0000017: "had no memory"}


def oom_kills() -> int | None:
    """How many processes this system ended since it started because memory ran out; None where it does not say."""
    try:
        counters = dict(line.split() for line in VMSTAT.read_text().splitlines())
        return int(counters["oom_kill"])
    except (OSError, KeyError, ValueError):
        return None


def how_it_ended(code: int, nbytes: int, kills_before: int | None, kills_after: int | None) -> tuple[str, str]:
    """A clause that says how a process ended, and sentences with what may help.

    Args:
        code: its exit code; below 0 the signal that ended it.
        nbytes: of memory that it had a moment before; 0 where nobody knows.
        kills_before, kills_after: what ``oom_kills`` said.
    """
    if code >= 0:
        known = WINDOWS.get(code & 0xFFFFFFFF)
        return (known, NATIVE) if known else (f"ended itself with exit code {code}", "")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return _killed(nbytes, kills_before, kills_after)
    if name in WORDS:
        return f"{WORDS[name]} ({name})", NATIVE
    return f"was ended by {name}", ""


def _killed(nbytes: int, before: int | None, after: int | None) -> tuple[str, str]:
    had = f", with {nbytes / 1e9:.1f} GB" if nbytes else ""
    if before is not None and after is not None:
        if after > before:
            return f"was killed by the system because memory ran out (SIGKILL{had})", SMALLER
        return f"was killed from outside (SIGKILL{had})", ""
    return f"was killed (SIGKILL{had}), most likely because memory ran out", SMALLER
