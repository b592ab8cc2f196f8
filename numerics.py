"""What is chosen for a whole process and changes the bits of tensors: how attention is computed. Loads nothing heavy.

The choice stands in the environment, so that the processes that a run starts have it too. Knows no torch and no graph.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version

ATTENTION = "KINEOGRAPH_ATTENTION"
DIFFUSERS = "DIFFUSERS_ATTN_BACKEND"
"""How diffusers is told what its networks take by themselves."""
AUTO, SDPA = "auto", "sdpa"
ATTENTIONS = (AUTO, SDPA, "varlen", "xformers", "flex")


def attention() -> str:
    """How attention shall be computed: one of ``ATTENTIONS``.

    Raises:
        ValueError: the environment names another.
    """
    name = os.environ.get(ATTENTION) or AUTO
    if name not in ATTENTIONS:
        raise ValueError(f"{name!r} is no way to compute attention. It can be {', '.join(ATTENTIONS)}.")
    return name


def family() -> str:
    """What of the choice stands in keys: a way that was named and is not SDPA, with the version that computes it.

    What is taken where nobody named one follows from the kind of device, as torch's own kernels do, and stays out; but
    not what diffusers was told for its own networks.

    Raises:
        ValueError: the environment names what there is not.
    """
    name = attention()
    if name == AUTO:
        theirs = os.environ.get(DIFFUSERS, "")
        return theirs and f"diffusers {theirs}"
    if name == SDPA:
        return ""
    return f"{name} {_version(name)}" if name == "xformers" else name


def torch_version() -> str:
    """The version of torch, which is not loaded for it (2 ms); empty where there is none."""
    return _version("torch").partition("+")[0]


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
