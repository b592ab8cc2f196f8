"""``kineograph plan``: a table of what a run would cost. Knows estimates, runs nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from kineograph.cli import attention, storage
from kineograph.cli.console import duration, one_line, size
from kineograph.graph_runtime.costs import as_json
from kineograph.graph_runtime.errors import InvalidWorkflow, Problem

if TYPE_CHECKING:
    from kineograph.cli.sweep import Sweep
    from kineograph.graph_runtime.costs import Estimate, NodeEstimate, Residence
    from kineograph.graph_runtime.runtime import Runtime

Prepare = Callable[[argparse.Namespace], "tuple[Runtime, Sweep, list[Problem]]"]
"""From the arguments to the runtime, the workflow with what it shall be run with, and all that is wrong with them."""

HEADS = ("node", "makes", "tokens", "FLOPs", "peak", "time", "")


def add_command(commands: Any, parents: list[argparse.ArgumentParser], prepare: Prepare) -> None:
    """``kineograph plan``."""
    usage = (
        "kineograph plan FILE [--set NAME=VALUE ...] [--memory SIZE] [--packs DIR ...] [--json]\n"
        "       [--attention NAME] [--store DIR | --no-store]"
    )
    plan = commands.add_parser("plan", help="tell what a run would cost", usage=usage, parents=parents)
    plan.add_argument("--json", action="store_true", help="as JSON")
    storage.add_place(plan)
    storage.add_memory(plan)
    attention.add_argument(plan)
    plan.set_defaults(command=lambda options: _plan(options, prepare), name="plan", sweep=[], only=None)


def _plan(options: argparse.Namespace, prepare: Prepare) -> int:
    attention.take(options)
    runtime, runs, problems = prepare(options)
    if problems:
        raise InvalidWorkflow(problems)
    with storage.found_store(options) as runtime.store, redirect_stdout(sys.stderr):  # nodes may print
        estimate = runtime.estimate(runs.workflow, runs.inputs, memory=options.memory)
    print(json.dumps(as_json(estimate)) if options.json else as_table(estimate))
    return 0


def as_table(estimate: Estimate) -> str:
    """A row for each node, those in a loop's body indented, and what all of it takes."""
    around = {node.path: node.around for node in estimate.nodes}
    rows = [HEADS, *(_row(node, _depth(node.path, around)) for node in estimate.nodes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_placed(row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, "", *_sentences(estimate)])


def _placed(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Words at the left, numbers at the right."""
    return [f"{cell:{'<' if at in (0, 1, 6) else '>'}{widths[at]}}" for at, cell in enumerate(row)]


def _depth(path: str, around: dict[str, str]) -> int:
    """How many loops a node is in."""
    return 1 + _depth(around[path], around) if around[path] else 0


def _row(node: NodeEstimate, depth: int) -> tuple[str, ...]:
    name = node.path.removeprefix(f"{node.around}/")
    times = f" x {node.passes:,}" if node.passes > 1 else ""
    return (
        "  " * depth + one_line(name + times),
        _makes(node),
        f"{node.tokens:,}" if node.tokens else "",
        flops(node.flops),
        size(node.peak_bytes) if node.peak_bytes else "",
        "" if node.seconds is None else duration(node.seconds),
        one_line(_remark(node)),
    )


def _remark(node: NodeEstimate) -> str:
    if node.cached:
        return "kept"
    unknown = f"unknown: {node.unknown}" if node.unknown else ""
    return "; ".join(filter(None, (unknown, node.note, node.changed)))


def _makes(node: NodeEstimate) -> str:
    """The first thing that each output is made of."""
    firsts = (next(iter(shapes.values())) for shapes in node.shapes.values() if shapes)
    return ", ".join(shape if isinstance(shape, str) else " x ".join(map(str, shape)) for shape in firsts)


def _sentences(estimate: Estimate) -> list[str]:
    beside = "" if estimate.residence is None else " beside weights"
    peak = f"at most {size(estimate.peak_bytes)} at once{beside}, in {estimate.peak_path}"
    lines = [f"{flops(estimate.flops) or 'no'} FLOPs; {peak}{_room(estimate)}"]
    timed = [node for node in estimate.nodes if node.seconds is not None]
    untimed = [
        node.path for node in estimate.nodes if node.seconds is None and node.flops and not (node.around or node.cached)
    ]
    if timed:
        more = f", and more for {', '.join(untimed)}" if untimed else ""
        lines.append(f"About {duration(estimate.seconds)}{more}, judged by earlier runs on this machine.")
    if estimate.unknown:
        lines.append(f"Not counted: {', '.join(estimate.unknown)}.")
    if estimate.residence is not None:
        lines += _within(estimate.residence, guessed=estimate.guessed)
    return list(map(one_line, lines))


def _within(residence: Residence, *, guessed: bool) -> list[str]:
    """Whether a run keeps within its budget, and what that costs."""
    from kineograph.graph_runtime.runtime import misfit

    if problem := misfit(residence):
        return [f"It DOES NOT FIT --memory {size(residence.budget)}: {problem}"]
    times = f", {residence.moved / residence.weights:.1f} times" if residence.moved > residence.weights else ""
    of = f"of {size(residence.weights)} weights, {size(residence.moved)} are moved{times}"
    fits = "What is counted fits" if guessed else "It fits"
    lines = [
        f"{fits} --memory {size(residence.budget)}: {of}; {residence.largest} needs most, {size(residence.needs)}."
    ]
    if residence.smaller:
        lines.append(f"With their smaller setting run {', '.join(residence.smaller)}.")
    return lines


def _room(estimate: Estimate) -> str:
    if estimate.spare_bytes is None:
        return "."
    word = "that fits" if estimate.fits else "that DOES NOT FIT"
    if estimate.fits is None:
        word = "whether all of it fits, nobody can say"
    return f"; {word}: {size(estimate.spare_bytes)} of memory are to spare."


def flops(count: int) -> str:
    """Operations as people read them: ``1.2 G``, ``30 T``; nothing for none."""
    for unit, name in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:,}" if count else ""
