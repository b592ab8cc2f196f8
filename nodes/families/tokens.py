"""Tokenizers from their tables: the library tokenizers reads tokenizer.json, or CLIP's two tables. Runs nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from kineograph.nodes.clip_files import shown
from kineograph.nodes.families.library import library

TABLE_BYTES = 2**27
TABLES = ("tokenizer.json", "vocab.json", "merges.txt")
"""All that is read of a tokenizer: the first, or the other two of CLIP's, whose older folders have no more."""
CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""What CLIP's tokenizer takes for a word (Radford et al. 2021)."""


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
    path, vocabulary, merges = (folder / name for name in TABLES)
    if not path.is_file() and vocabulary.is_file() and merges.is_file():
        return _cut(_clip(vocabulary, merges), length)
    if not path.is_file():
        raise ValueError(
            f"There is no tokenizer.json in {shown(folder.name)!r}. The library transformers makes one of a "
            "spiece.model: AutoTokenizer.from_pretrained(...).save_pretrained(...)."
        )
    return _cut(_read(path, lambda tokenizers: tokenizers.Tokenizer.from_file(str(path))), length)


def _cut(made: Any, length: int) -> Any:
    made.no_padding()
    made.enable_truncation(length)
    return made


def _clip(vocabulary: Path, merges: Path) -> Any:
    """CLIP's tokenizer from its two tables, between the marks of beginning and end."""

    def build(tokenizers: Any) -> Any:
        marks = {"unk_token": CLIP_END, "end_of_word_suffix": "</w>"}
        table = tokenizers.models.BPE.from_file(str(vocabulary), str(merges), **marks)
        made = tokenizers.Tokenizer(table)
        plain, split = tokenizers.normalizers, tokenizers.pre_tokenizers
        made.normalizer = plain.Sequence([plain.NFC(), plain.Replace(tokenizers.Regex(r"\s+"), " "), plain.Lowercase()])
        words = split.Split(tokenizers.Regex(CLIP_WORDS), behavior="removed", invert=True)
        made.pre_tokenizer = split.Sequence([words, split.ByteLevel(add_prefix_space=False)])
        ends = [(mark, made.token_to_id(mark)) for mark in (CLIP_END, CLIP_START)]
        made.post_processor = tokenizers.processors.RobertaProcessing(*ends, False, False)
        return made

    _check_size(merges)
    return _read(vocabulary, build)


def _read(path: Path, build: Callable[[Any], Any]) -> Any:
    _check_size(path)
    tokenizers = library("tokenizers")
    try:
        return build(tokenizers)
    except Exception as error:  # noqa: BLE001  the library raises Exception itself
        raise ValueError(f"{path.name} of {shown(path.parent.name)!r} cannot be read: {str(error)[:200]}.") from None


def _check_size(path: Path) -> None:
    if path.stat().st_size > TABLE_BYTES:
        raise ValueError(f"{path.name} has more than {TABLE_BYTES:,} bytes.")
