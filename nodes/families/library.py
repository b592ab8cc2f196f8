"""The libraries whose networks are used, imported when one is needed. Knows no file."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def network_class(library: str, name: str) -> Any:
    """A class of diffusers or transformers.

    Raises:
        ValueError: the library is not installed, or too old to have it.
    """
    try:
        module = import_module(library)
    except ImportError:
        raise ValueError(
            f"Networks of this model are those of the library {library}: pip install 'kineograph[models]'."
        ) from None
    found = getattr(module, name, None)
    if found is None:
        raise ValueError(
            f"{library} {module.__version__} has no {name}: pip install --upgrade 'kineograph[models]' brings one "
            "that has."
        )
    return found
