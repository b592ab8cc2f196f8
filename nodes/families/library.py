"""The libraries whose networks are used, imported when one is needed. Knows no file."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def library(name: str) -> Any:
    """A library whose networks or tokenizers are used.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise ValueError(
            f"Networks of this model are those of the library {name}: pip install 'kineograph[models]'."
        ) from None


def network_class(library_name: str, name: str) -> Any:
    """A class of diffusers or transformers.

    Raises:
        ValueError: the library is not installed, or too old to have it.
    """
    module = library(library_name)
    found = getattr(module, name, None)
    if found is None:
        raise ValueError(
            f"{library_name} {module.__version__} has no {name}: pip install --upgrade 'kineograph[models]' brings one "
            "that has."
        )
    return found
