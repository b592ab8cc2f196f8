"""Tokenizers from their tables: the library tokenizers reads tokenizer.json, and nothing else of a folder is read."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

from kineograph.nodes.clip_files import shown
from kineograph.nodes.families.library import network_class

TABLE_BYTES = 2**27


class Unread:
    """Stands where a tokenizer would, in a plan: embeddings are padded, so their shape does not depend on the words."""

    ids = (1,)

    def encode_batch(self, prompts: list[str]) -> list[Unread]:
        """A single token for every prompt."""
        return [self for _ in prompts]


class Later:
    """A tokenizer that is read when it is first needed."""

    def __init__(self, folder: Path, length: int) -> None:
        """As for :func:`tokenizer`, which says what can be wrong with it."""
        self._read = cache(partial(tokenizer, folder, length))

    def encode_batch(self, prompts: list[str]) -> Any:
        """As the tokenizer does."""
        return self._read().encode_batch(prompts)


def tokenizer(folder: Path, length: int) -> Any:
    """A tokenizer that cuts every text to so many tokens, with its end's mark.

    Raises:
        ValueError: there is no table, or it is none.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ValueError(
            f"There is no tokenizer.json in {shown(folder.name)!r}. The library transformers makes one of a "
            "spiece.model: AutoTokenizer.from_pretrained(...).save_pretrained(...)."
        )
    if path.stat().st_size > TABLE_BYTES:
        raise ValueError(f"{path.name} has more than {TABLE_BYTES:,} bytes.")
    try:
        made = network_class("tokenizers", "Tokenizer").from_file(str(path))
    except ValueError:
        raise
    except Exception as error:  # noqa: BLE001  the library raises Exception itself
        raise ValueError(f"{path.name} of {shown(folder.name)!r} cannot be read: {str(error)[:200]}.") from None
    made.no_padding()
    made.enable_truncation(length)
    return made
