"""Lists as ComfyUI knows them, for loops of ours: an item for each pass, the last one again where a list is shorter."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from kineograph.graph_runtime.node import node
from kineograph.graph_runtime.sockets import Stream


@node
def as_list(value: Any) -> Stream[Any]:
    """A list of one value.

    Args:
        value: anything.
    """
    return Stream[Any].of([value])


@node
def longest(first: Stream[Any], second: Stream[Any]) -> Stream[int]:
    """The numbers 0, 1, 2, ... up to the length of the longer list: what a loop over both runs over.

    Args:
        first: a list.
        second: another.
    """
    return Stream[int].of(range(max(len(first), len(second))))


@node
def list_item(items: Stream[Any], index: Annotated[int, Field(ge=0)]) -> Any:
    """One item of a list; behind its end, its last one again.

    Args:
        items: the list.
        index: number of the item, from 0.

    Raises:
        ValueError: the list is empty.
    """
    if not len(items):
        raise ValueError("The list is empty, so it has no item.")
    return items[min(index, len(items) - 1)]
