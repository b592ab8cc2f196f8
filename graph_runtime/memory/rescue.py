"""What happens when memory runs out all the same: let go of what can go, try once more, then say what was there."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kineograph.graph_runtime.ahead import finished
from kineograph.graph_runtime.errors import said
from kineograph.graph_runtime.events import Listener, MemoryShort
from kineograph.graph_runtime.machine import spare_memory
from kineograph.graph_runtime.results import check_versions, versions
from kineograph.graph_runtime.steps import Step


def smaller_literals(step: Step) -> dict[str, Any]:
    """The literals of a node's smaller setting, where a step has the defaults: what a person chose is kept."""
    if step.node is None:
        return {}
    inputs = step.node.inputs
    return {
        port: value for port, value in step.node.smaller.items() if step.constants.get(port) == inputs[port].default
    }


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, a device's, or that of torch on a CPU, which has no class of its own."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def may_run_again(step: Step) -> bool:
    """Whether a step that was cut off changed nothing."""
    return not (step.effect or step.donates or (step.node is not None and step.node.differentiates))


def invoke(step: Step, arguments: dict[str, Any]) -> Any:
    """What a step's node returns. A coroutine is waited for: what is recorded or has a budget runs beside nothing.

    Raises:
        Overwrote: it changed what it was given.
    """
    kind = step.node
    assert kind is not None
    before = versions(kind, arguments) if kind.moves_tensors else []
    result = kind.function(**arguments)
    result = finished(result) if kind.is_async else result
    check_versions(before)
    return result


def run_again(
    step: Step,
    arguments: dict[str, Any],
    call: Callable[[dict[str, Any]], Any],
    frees: Iterable[Callable[[], None]],
    listen: Listener,
    report: Callable[[], str] = lambda: "",
) -> Any:
    """Run a step for which memory did not suffice once more, with its smaller setting.

    Args:
        step: the step.
        arguments: what it was given.
        call: runs it.
        frees: let go of all that is kept for later.
        listen: told of it.
        report: what memory holds.

    Raises:
        MemoryError: that does not suffice either.
    """
    smaller = smaller_literals(step)
    for free in frees:
        free()
    gc.collect()
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        cuda.empty_cache()
    listen(MemoryShort(step.path, f"memory ran out; it runs again{_with(smaller)}"))
    try:
        return call(arguments | smaller)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        tried = f"memory ran out twice, the second time{_with(smaller) or ' with all gone that can go'}"
        advice = "Ask for fewer frames or a smaller size"
        raise MemoryError(f"{tried}. {report() or _spare()} {advice}. ({said(error).splitlines()[0]})") from error


def _with(literals: Mapping[str, Any]) -> str:
    """`` with tile = 32, overlap = 8``; nothing for none."""
    return f" with {', '.join(f'{name} = {value}' for name, value in literals.items())}" if literals else ""


def _spare() -> str:
    spare = spare_memory()
    return "" if spare is None else f"The system has {spare / 1e6:,.0f} MB to spare."
