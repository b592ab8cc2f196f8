"""The facade: problems, plan, run, describe. The command line, the server and scripts all go through it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineograph import numerics
from kineograph.graph_runtime.costs import Residence, kept_share
from kineograph.graph_runtime.errors import InvalidWorkflow, Problem
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.workflow import Workflow, load_workflow

if TYPE_CHECKING:
    from kineograph.graph_runtime.cache import MemoryCache
    from kineograph.graph_runtime.costs import Estimate
    from kineograph.graph_runtime.events import Listener
    from kineograph.graph_runtime.execute import Outcome
    from kineograph.graph_runtime.memory.demands import Demands
    from kineograph.graph_runtime.memory.keeper import Keeper
    from kineograph.graph_runtime.resume import KeepEvery
    from kineograph.graph_runtime.run_state import Place
    from kineograph.graph_runtime.steps import Plan
    from kineograph.graph_runtime.store import Store

PLANS_KEPT = 8
"""Plans of the last runs, for runs of the very same: making one costs 14 us a node, finding it again 2."""

WorkflowSource = Workflow | str | Path | dict[str, Any]


class Runtime:
    """Runs workflows over one registry and one cache.

    Args:
        registry: the node types there are.
        cache: keeps outputs between runs; a new one in memory by default.
        store: keeps outputs between processes, and lets loops that were cut off go on; none by default.
    """

    def __init__(self, registry: Registry, cache: MemoryCache | None = None, store: Store | None = None) -> None:
        from kineograph.graph_runtime.cache import MemoryCache

        self.registry = registry
        self.store = store
        self.cache = MemoryCache() if cache is None else cache
        self._plans: dict[str, Plan] = {}
        self._lent: Lent | None = None

    @property
    def numerics(self) -> str:
        """What besides the graph decides the bits of tensors, and so is part of their keys."""
        return _numerics()

    def describe(self) -> dict[str, Any]:
        """All nodes and types, and which output fits which input, as plain JSON (see ``describe.py``)."""
        from kineograph.graph_runtime.describe import describe

        return describe(self.registry)

    def load(self, source: WorkflowSource) -> Workflow:
        """The workflow of a file, a dict, or itself.

        Raises:
            InvalidWorkflow: its form is wrong.
        """
        return source if isinstance(source, Workflow) else load_workflow(source)

    def problems(self, source: WorkflowSource, inputs: Mapping[str, Any] | None = None) -> list[Problem]:
        """All that is wrong with a workflow; empty where it can run."""
        try:
            self.plan(source, inputs)
        except InvalidWorkflow as invalid:
            return list(invalid.problems)
        return []

    def plan(
        self,
        source: WorkflowSource,
        inputs: Mapping[str, Any] | None = None,
        *,
        outputs: Iterable[str] | None = None,
    ) -> Plan:
        """What would run, in which order, under which keys.

        Args:
            source: a workflow, its file or its dict.
            inputs: values for its inputs; defaults stand for the rest.
            outputs: what to compute: outputs by name, or nodes by place (``denoise``, ``sampler/step``), with the
                effects of those nodes only; all outputs, and every effect, by default.

        Raises:
            InvalidWorkflow: with every problem found.
        """
        from kineograph.graph_runtime.plan import files_changed

        workflow = self.load(source)
        given = dict(inputs or {})
        outputs = None if outputs is None else list(outputs)
        same = _same(workflow, given, outputs, self.numerics)
        known = self._plans.get(same)
        if known is not None and not files_changed(known):
            return known
        plan = self._plan(workflow, given, outputs)
        for oldest in list(self._plans)[: 1 - PLANS_KEPT]:
            self._plans.pop(oldest, None)
        if same:
            self._plans[same] = plan
        return plan

    def estimate(
        self,
        source: WorkflowSource,
        inputs: Mapping[str, Any] | None = None,
        *,
        outputs: Iterable[str] | None = None,
        memory: int | None = None,
    ) -> Estimate:
        """What a run would cost, node by node: shapes, FLOPs, memory, time. Reads no weights and runs no effect.

        Args:
            source, inputs, outputs: as for ``plan``.
            memory: the budget of the run, if it has one.

        Raises:
            InvalidWorkflow: with every problem found.
        """
        from kineograph.graph_runtime.estimate import estimate
        from kineograph.graph_runtime.timings import Work, expected, recorded

        def worked(recorded: str) -> dict[str, Work]:
            try:
                return estimate(self.plan(json.loads(recorded))).work()
            except InvalidWorkflow:  # a file is gone, or a node
                return {}

        plan = self.plan(source, inputs, outputs=outputs)
        if memory is None:
            found = estimate(plan, self.store, self.cache.max_bytes)
        else:
            found = self._within(plan, memory)[0]
        if self.store is not None:
            seconds = expected(found.work(), recorded(self.store.folder), worked)
            for node in found.nodes:
                node.seconds = seconds.get(node.path)
        return found

    def _plan(self, workflow: Workflow, given: dict[str, Any], outputs: list[str] | None) -> Plan:
        from kineograph.graph_runtime.goals import find_goals
        from kineograph.graph_runtime.plan import make_plan
        from kineograph.graph_runtime.validate import input_values, validate

        problems = validate(workflow, self.registry, given)
        goals, unknown = find_goals(workflow, self.registry, outputs)
        if problems or unknown:
            raise InvalidWorkflow(problems + unknown)
        values = input_values(workflow.inputs, given)
        return make_plan(workflow, self.registry, values, goals, numerics=self.numerics)

    def run(
        self,
        source: WorkflowSource,
        inputs: Mapping[str, Any] | None = None,
        *,
        outputs: Iterable[str] | None = None,
        out: str | Path = ".",
        listen: Listener | None = None,
        cancel: threading.Event | None = None,
        finish: threading.Event | None = None,
        keep_every: KeepEvery | None = None,
        at: Place | None = None,
        memory: int | None = None,
        previews: float = 0.0,
    ) -> Outcome:
        """Run a workflow.

        Args:
            source, inputs, outputs: as for ``plan``.
            out: the folder that effects write below.
            listen: called with every event, in order, on this thread.
            cancel: set it from another thread to stop between steps and passes.
            finish: set it from another thread to end the (outermost) loop that runs after its pass. What follows runs
                with what it has; nothing of that is cached, for it is not what its key says.
            keep_every: when a loop's state goes into the store; every minute by default.
            at: told which node runs, for other threads to read.
            memory: bytes that weights, values and what is computed may take together; weights come and go for it.
            previews: seconds between two pictures of what a node makes, told as ``NodePreview``; 0 draws none.

        Raises:
            InvalidWorkflow: before anything ran, also where the budget does not suffice.
            NodeFailed: a node raised.
            Cancelled: ``cancel`` was set.
        """
        from kineograph.graph_runtime.execute import RunState, execute
        from kineograph.graph_runtime.timings import Timings

        workflow = self.load(source)
        plan = self.plan(workflow, inputs, outputs=outputs)
        state = RunState(out=Path(out), describe=lambda: provenance(workflow, inputs or {}))
        state.listen = listen or state.listen
        state.cancel = cancel or state.cancel
        state.finish = finish or state.finish
        state.store = self.store
        state.keep_every = keep_every or state.keep_every
        state.at = at or state.at
        cache = self.cache
        if memory is not None:
            cache, state.memory = self._keeper(plan, memory)
        state.previews.seconds = previews
        folder = getattr(self.store, "folder", None)  # several processes share one, and wait for each other: no measure
        if folder is None:
            return execute(plan, cache, state)
        state.listen = timings = Timings(state.listen)
        outcome = execute(plan, cache, state)
        timings.keep(folder, state.provenance)
        return outcome

    def _within(self, plan: Plan, budget: int) -> tuple[Estimate, Demands]:
        """What a plan would cost with a budget, and what it reads; where a smaller setting is needed, with that."""
        from kineograph.graph_runtime.estimate import estimate
        from kineograph.graph_runtime.memory.demands import reside, too_large
        from kineograph.graph_runtime.memory.reads import Reads

        reads = Reads()
        found = estimate(plan, self.store, 0, reads)
        if short := set(too_large(reads.demands, budget)) & reads.demands.shrinkable:
            smaller = Reads(short)
            tried = estimate(plan, self.store, 0, smaller)
            if not short & set(smaller.demands.unknown):  # else what it was given has no smaller setting
                reads, found = smaller, tried
        found.residence = reside(reads.demands, budget)
        return found, reads.demands

    def _keeper(self, plan: Plan, budget: int) -> tuple[MemoryCache, Keeper]:
        """What keeps a run within a budget, and the cache that it has for that."""
        from kineograph.graph_runtime.memory.keeper import Keeper

        residence = (found := self._within(plan, budget))[0].residence
        assert residence is not None
        if problem := misfit(residence):
            raise InvalidWorkflow([problem])
        self.cache.clear()  # it knows no budget
        if self._lent is None or self._lent.budget != budget:
            self._lent = Lent(budget)
        return self._lent.cache, Keeper(self._lent.device, found[1], residence.policy)


class Lent:
    """A budget of memory: what it holds of earlier runs is there for the next."""

    def __init__(self, budget: int) -> None:
        from kineograph.graph_runtime.cache import MemoryCache
        from kineograph.graph_runtime.memory.device import Device

        self.budget = budget
        self.cache = MemoryCache(kept_share(budget))
        self.device = Device(budget - kept_share(budget))


def misfit(residence: Residence) -> Problem | None:
    """Why a run cannot be within its budget, and the way out; None where it can."""
    if residence.fits:
        return None
    computed = residence.needs - residence.needs_weights
    what = f"{_mb(residence.needs)} at once, {_mb(residence.needs_weights)} of weights and {_mb(computed)} beside them"
    message = f"It needs {what}; a budget of {_mb(residence.budget)} leaves {_mb(residence.room)}."
    return Problem(
        residence.largest, message, f"Give it {_mb(residence.least)}, or ask for fewer frames or a smaller size."
    )


def _mb(nbytes: int) -> str:
    return f"{-(-nbytes // 100_000) / 10:,.1f} MB"


def provenance(workflow: Workflow, inputs: Mapping[str, Any]) -> str:
    """The workflow's JSON with the given inputs as defaults: running it again needs nothing else."""
    raw = json.loads(workflow.to_json())
    for name, value in inputs.items():
        raw["inputs"][name]["default"] = value
    return json.dumps(raw, ensure_ascii=False)


def _same(workflow: Workflow, inputs: Mapping[str, Any], outputs: list[str] | None, computed_with: str) -> str:
    """One text for all runs that have the same plan while their files stay; empty where there is none."""
    from kineograph.graph_runtime.keys import canonical

    try:
        return f"{canonical(inputs)}{outputs}{computed_with}{workflow.content()}"
    except (TypeError, ValueError):  # something that no JSON holds: validation says what
        return ""


def _numerics() -> str:
    """What besides the graph decides the bits of tensors: the version of torch, and the attention that was named.

    Threads and the kind of processor change the last bits too, but not which video it is: they stay out of the keys,
    so that a result is found again from another machine.

    Raises:
        InvalidWorkflow: the environment names an attention that there is not.
    """
    try:
        return " ".join(filter(None, (numerics.torch_version(), numerics.family())))
    except ValueError as error:
        raise InvalidWorkflow([Problem(f"${numerics.ATTENTION}", str(error))]) from None
