"""How often a part of a training step runs: micro-batches, and what happens every n-th pass. Knows no model.

Both are streams for a loop in the loop: one over ``every`` runs once every n-th pass, and costs nothing on the others.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream


@node
def repeat(times: Annotated[int, Field(ge=0)]) -> Stream[int]:
    """The numbers 0, 1, 2, ...: a loop over them runs so many times.

    Args:
        times: how many.
    """
    return Stream(times, int)


@node
def every(step: int, passes: Annotated[int, Field(ge=1)] = 500) -> Stream[int]:
    """One item, the number of passes done, after every n-th pass; nothing after the others.

    Args:
        step: number of the pass, the first is 0.
        passes: n.
    """
    done = step + 1
    return Stream.of([done] if done % passes == 0 else [])


@node(views=("batch",))
def batch_part(batch: Any, part: int, parts: Annotated[int, Field(ge=1)]) -> Any:
    """One of the equal parts of a batch: a micro-batch.

    Args:
        batch: Clips, a Latent or a TextEmbedding: every tensor in it, and every list of captions, has a place for each
            clip.
        part: which, the first is 0.
        parts: how many; the number of clips is a multiple of it.
    """
    from kineograph.nodes.networks.batches import part_of

    return part_of(batch, part, parts)


@node
def numbered_path(step: Annotated[int, Field(ge=0)], path: Annotated[str, Field(min_length=1)] = "sample.mp4") -> str:
    """A file's name with a number in it, so that each pass writes a file of its own: sample-000500.mp4.

    Args:
        step: the number.
        path: the name; the number stands before its ending.
    """
    from pathlib import PurePosixPath

    name = PurePosixPath(path)
    return str(name.with_name(f"{name.stem}-{step:06}{name.suffix}"))


@node
def pass_seed(seed: int = 0, step: int = 0) -> int:
    """A seed of its own for each pass of a loop, for the loops inside of it.

    Args:
        seed: of the whole.
        step: number of the pass.
    """
    from kineograph.nodes.networks.world import scene_seed

    return scene_seed(seed, step, stream=5)
