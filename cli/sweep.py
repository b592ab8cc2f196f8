"""A workflow run once for each combination of values, in an order that loads each model once. Knows no node.

Every run writes into a folder of its own, named by its values. ``sweep.html`` shows them beside each other,
``sweep.json`` lists them.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineograph.cli.sweep_page import PAGE, Made, write_index
from kineograph.cli.values import several
from kineograph.graph_runtime.errors import InvalidWorkflow, NodeFailed, Problem, nearest
from kineograph.graph_runtime.events import Event, FileWritten, Listener, SweepFinished, SweepRun

if TYPE_CHECKING:
    from kineograph.graph_runtime.execute import Outcome
    from kineograph.graph_runtime.runtime import Runtime
    from kineograph.graph_runtime.workflow import InputSpec, Workflow

Logs = Callable[[Path], AbstractContextManager[Listener]]
ASKED_ABOVE = 100
MOST = 10_000
LONGEST = 40
"""Letters of a value in the name of a folder."""


@dataclass(frozen=True)
class Run:
    """One combination: its values by input, and the folder that its files go to."""

    values: Mapping[str, Any]
    folder: str


@dataclass
class Sweep:
    """All combinations, in the order in which they were asked for.

    Attributes:
        workflow: what is run. inputs: what all runs share. only: what of it is run, everything by default.
        runs: the combinations.
    """

    workflow: Workflow
    inputs: Mapping[str, Any]
    only: Sequence[str] | None
    runs: list[Run]
    _order: list[int] = field(default_factory=list[int])

    def plan(self, runtime: Runtime) -> list[Problem]:
        """Find the order to run in, or why some runs cannot begin."""
        keys: list[dict[str, str]] = []
        problems: dict[Problem, list[Run]] = {}
        for run in self.runs:
            try:
                plan = runtime.plan(self.workflow, {**self.inputs, **run.values}, outputs=self.only)
                keys.append({step.path: step.key for step in plan.steps if not step.effect})
            except InvalidWorkflow as invalid:
                for problem in invalid.problems:
                    problems.setdefault(problem, []).append(run)
        if not problems:
            self._order = stage_order(keys)
        return [
            problem if len(runs) == len(self.runs) else _with_values(problem, runs)
            for problem, runs in problems.items()
        ]

    def run_once(self, runtime: Runtime, out: Path, listen: Listener, logs: Logs, **options: Any) -> None:
        """Run the first combination, where there is but one, in the folder itself; arguments as for ``run``."""
        self._run(self.runs[0], runtime, out, listen, logs, options)

    def run(
        self,
        runtime: Runtime,
        out: Path,
        listen: Listener,
        logs: Logs,
        failed: Callable[[NodeFailed], None],
        **options: Any,
    ) -> bool:
        """Run all; whether every one ended well. One that fails stops no other.

        Args:
            runtime: runs them.
            out: the folder of the sweep.
            listen: told every event.
            logs: keeps the metrics of a run in its folder.
            failed: told why a run failed.
            options: for ``Runtime.run``.
        """
        made: dict[int, Made] = {}
        for number, at in enumerate(self._order, 1):
            run = self.runs[at]
            made[at] = result = Made(run.values, run.folder)
            listen(SweepRun(number, len(self.runs), dict(run.values), run.folder))

            def hear(event: Event, files: list[str] = result.files) -> None:
                if isinstance(event, FileWritten):
                    files.append(event.file)
                listen(event)

            try:
                outcome = self._run(run, runtime, out / run.folder, hear, logs, options)
                result.outputs, result.seconds = outcome.outputs, outcome.seconds
            except NodeFailed as failure:
                failed(failure)
                result.error = str(failure)
            result.keep_frames(out, at)
            write_index(out, self.workflow.about, [made[index] for index in sorted(made)], len(self.runs))
        count = sum(bool(result.error) for result in made.values())
        listen(SweepFinished(len(self.runs), count, str(out / PAGE)))
        return not count

    def _run(
        self, run: Run, runtime: Runtime, folder: Path, listen: Listener, logs: Logs, options: Mapping[str, Any]
    ) -> Outcome:
        folder.mkdir(parents=True, exist_ok=True)
        with logs(folder) as keep:

            def hear(event: Event) -> None:
                keep(event)
                listen(event)

            values = {**self.inputs, **run.values}
            return runtime.run(self.workflow, values, outputs=self.only, out=folder, listen=hear, **options)


def add_arguments(run: argparse.ArgumentParser) -> None:
    """The arguments of ``run`` for many runs."""
    values = "run once for each combination of values, as seed=0..7 guidance=2,4,6"
    run.add_argument("--sweep", nargs="+", action="extend", default=[], metavar="NAME=VALUES", help=values)
    run.add_argument("--yes", action="store_true", help=f"make more than {ASKED_ABOVE} runs")


def read_sweep(
    options: argparse.Namespace, workflow: Workflow, inputs: Mapping[str, Any]
) -> tuple[Sweep, list[Problem]]:
    """The runs that ``--sweep`` asks for, and what is wrong with them; a single one where nothing is swept."""
    problems: list[Problem] = []
    swept: dict[str, list[Any]] = {}
    for pair in options.sweep:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            problems.append(Problem("--sweep", f"{pair!r} is not NAME=VALUES.", "Write seed=0..7 or guidance=2,4,6."))
        elif reason := _refused(name, workflow.inputs, swept, inputs):
            problems.append(Problem(f"inputs.{name}", *reason))
        else:
            try:
                swept[name] = several(text, workflow.inputs[name].type, MOST)
            except ValueError as error:
                problems.append(Problem(f"inputs.{name}", str(error)))
    count = math.prod(map(len, swept.values()))
    if count > MOST:
        problems.append(
            Problem("--sweep", f"These are {count:,} runs, at most {MOST:,} are made.", "Name fewer values.")
        )
    elif count > ASKED_ABOVE and not options.yes:
        problems.append(Problem("--sweep", f"These are {count:,} runs.", "Add --yes to make them all."))
    if problems:
        return Sweep(workflow, inputs, options.only, [Run({}, "")]), problems
    combinations = [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    runs = list(map(Run, combinations, _folders(combinations)))
    return Sweep(workflow, inputs, options.only, runs), []


def _refused(
    name: str, specs: Mapping[str, InputSpec], swept: Mapping[str, Any], inputs: Mapping[str, Any]
) -> tuple[str, str] | None:
    """Why an input cannot be swept, and the way out."""
    if name not in specs:
        return "The workflow has no such input.", nearest(name, specs)
    if name in swept:
        return "It is swept twice.", "Write all its values at once, separated by commas."
    if name in inputs:
        return "It is both set and swept.", "Leave one of them out."
    return None


def _folders(combinations: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each combination that every system can hold; a number behind those that read alike."""
    names = [",".join(f"{name}={_short(value)}" for name, value in values.items()) for values in combinations]
    seen: dict[str, int] = {}
    folders: list[str] = []
    for name in names:
        short = name[:150]
        seen[short.lower()] = count = seen.get(short.lower(), 0) + 1
        folders.append(short if count == 1 else f"{short},{count}")
    return folders


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_.")[:LONGEST] or "_"


def _with_values(problem: Problem, runs: Sequence[Run]) -> Problem:
    some = "; ".join(run.folder for run in runs[:3]) + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")
    return Problem(problem.place, f"{problem.message.rstrip('.')}, with {some}.", problem.hint)


def stage_order(keys: Sequence[Mapping[str, str]]) -> list[int]:
    """The order to run in, so that values with equal keys are used while they are in memory.

    What has the fewest different keys, like a model, changes most rarely; and there and back (as in a reflected Gray
    code), so that two neighbouring runs share as much as they can.

    Args:
        keys: of every run, the key of every step by its place.
    """
    places = list(dict.fromkeys(place for run in keys for place in run))
    columns: dict[tuple[int, ...], None] = {}
    for place in places:
        seen: dict[str, int] = {}
        columns[tuple(seen.setdefault(run.get(place, ""), len(seen)) for run in keys)] = None
    by_stage = sorted(columns, key=max)
    return _there_and_back(list(range(len(keys))), by_stage)


def _there_and_back(runs: list[int], columns: Sequence[Sequence[int]]) -> list[int]:
    if not columns or len(runs) < 2:
        return runs
    groups: dict[int, list[int]] = {}
    for run in runs:
        groups.setdefault(columns[0][run], []).append(run)
    ordered: Iterable[list[int]] = (_there_and_back(group, columns[1:]) for group in groups.values())
    return [run for at, group in enumerate(ordered) for run in (group if at % 2 == 0 else group[::-1])]
