"""Prompts before they are embedded: short ones made descriptive, by rules or by a language model. Knows no DiT."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.paths import output_file
from kineograph.nodes.language_models import model_digest
from kineograph.nodes.sockets import LanguageModel

Attribute = Literal["colour", "shape", "motion", "size", "background"]
ALL: list[Attribute] = ["colour", "shape", "motion", "size", "background"]

INSTRUCTION = (
    "You help people who make videos with a text-to-video model. You are given a short prompt; write one longer prompt "
    "for the same clip. Keep everything it names: people, things, numbers, colours, words in quotation marks, "
    "movements. Add nothing that speaks against it. In this order, say who or what is seen and how it looks; what it "
    "does, as one continuous action; where it is, in what light and mood; how the camera stands or moves; and the "
    "style, which is photographic unless the prompt says otherwise. Write 60 to 120 words of plain English in the "
    "present tense, about what can be seen only: no list, no title, no sound, no comment. Answer with the prompt alone."
)


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

    return expand(_needed(prompt), seed, add)


@node(fingerprint=model_digest)
def load_language_model(folder: Annotated[str, Field(min_length=1)]) -> LanguageModel:
    """Load a language model of the library transformers (pip install 'kineograph[words]'). Nothing is downloaded.

    Args:
        folder: on your disk, with config.json, a tokenizer and weights as safetensors. Its own code is never run.

    Raises:
        ValueError: it holds no such model, or pickles, or asks for code of its own.
    """
    from kineograph.nodes.language_models import load

    return LanguageModel(*load(folder, sees=False))


@node
def expand_prompt_with_model(
    model: LanguageModel,
    prompt: str,
    run: RunContext,
    instruction: str = INSTRUCTION,
    new_tokens: Annotated[int, Field(ge=1, le=8192)] = 256,
    temperature: Annotated[float, Field(ge=0)] = 0.0,
    seed: int = 0,
) -> str:
    """A language model writes a short prompt as a descriptive one.

    Args:
        model: of load_language_model; one that follows instructions.
        prompt: what shall be seen, in plain words.
        instruction: what the model is told to do with it. The default asks for one paragraph in English that keeps all
            that was said and adds looks, action, place, light and camera.
        new_tokens: most that it writes; a word is one or two.
        temperature: 0 takes the likeliest word each time; higher draws.
        seed: of the draws.

    Raises:
        ValueError: the prompt is empty, or longer than the model can read, or nothing is answered.
    """
    from kineograph.nodes.language_models import answer, read_request

    inputs = read_request(model.tokenizer, instruction, _needed(prompt))
    return answer(model.network, inputs, model.tokenizer.decode, new_tokens, temperature, seed, run.progress)


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


def _needed(prompt: str) -> str:
    """The prompt, if it says anything."""
    if not prompt.strip():
        raise ValueError("The prompt is empty: there is nothing to expand. Say what shall be seen, if only 'a ball'.")
    return prompt
