"""Prompts before they are embedded: short ones made descriptive, by the world's rules. Knows no DiT."""

from __future__ import annotations

from typing import Annotated, Literal

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.paths import output_file

Attribute = Literal["colour", "shape", "motion", "size", "background"]
ALL: list[Attribute] = ["colour", "shape", "motion", "size", "background"]


@node
def expand_prompt(prompt: str, seed: int = 0, add: list[Attribute] = ALL) -> str:
    """Add to a short prompt what it leaves open, as the embedded model's long captions say it: by rules, at once.

    A red ball becomes a large red ball that moves left on a white background. Nothing that is said is changed, and what
    is not understood stays where it is; a prompt about something else than the embedded world comes back as it was.

    Args:
        prompt: what shall be seen, in plain words.
        seed: of what is added.
        add: what may be added; leave out motion where the result shall be an image.

    Raises:
        ValueError: the prompt is empty.
    """
    from kineograph.nodes.networks.prompts import expand

    return expand(needed(prompt), seed, add)


@node(effect=True)
def save_text(text: str, run: RunContext, path: Annotated[str, output_file(".txt")] = "prompt.txt") -> None:
    """Write a text into a file: the prompt that a video was made from.

    Args:
        text: any.
        path: a .txt file below the output folder.
    """
    target = run.output_path(path)
    target.write_text(text + "\n", encoding="utf-8")
    run.wrote(target)


def needed(prompt: str) -> str:
    """The prompt, if it says anything."""
    if not prompt.strip():
        raise ValueError("The prompt is empty: there is nothing to expand. Say what shall be seen, if only 'a ball'.")
    return prompt
