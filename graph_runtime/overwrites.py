"""Donated values: who shares their memory, who must read before the overwrite. Runs nothing.

A step *donates* an input that it overwrites, and *views* one that its output may share memory with.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from kineograph.graph_runtime.errors import Problem
from kineograph.graph_runtime.lazy import Side, Sides, has_branches
from kineograph.graph_runtime.steps import LoopPlan, Plan, Step

if TYPE_CHECKING:
    import networkx as nx

Owners = list[frozenset[int]]
"""For each slot, those whose memory it may lie in; two with a common one may share memory."""


def order_overwrites(plan: Plan, problems: list[Problem]) -> None:
    """Order the steps so that whatever shares memory with a donated value is read before it is overwritten.

    Steps that cannot be so ordered, and outputs that would leave overwritten, become problems. What is overwritten is
    not cacheable.
    """
    steps = plan.steps
    donors = [(at, port, slot) for at, step in enumerate(steps) for port, slot in _overwritten(step)]
    if not donors:
        return
    import networkx as nx

    sides = Sides(plan) if has_branches(plan) else None
    only = sides.only() if sides is not None else {}
    writer = {slot: at for at, step in enumerate(steps) for _, slot in step.outputs}
    flow: nx.DiGraph[int] = nx.DiGraph()
    flow.add_nodes_from(range(len(steps)))
    flow.add_edges_from(
        (writer[slot], at) for at, step in enumerate(steps) for _, slot in step.arguments if slot in writer
    )
    graph = flow.copy()
    for at, port, slot in donors:
        untaken = _untaken(steps, only, at)
        owners = _owners(plan, untaken=untaken)
        donor, shared = steps[at], owners[slot]
        name = donor.path.rpartition("/")[2]
        later = _after(flow, at)
        for output, left in plan.outputs.items():
            if owners[left] & shared:
                message = f"It overwrites {port}, which is also the output {output!r} of the graph."
                problems.append(Problem(donor.path, message, f"Take {output!r} from {name} itself."))
        for other, step in enumerate(steps):
            if any(owners[made] & shared for _, made in step.outputs):
                step.cacheable = False
            read = [
                reader
                for reader, taken in step.arguments
                if owners[taken] & shared and (other, reader) not in untaken and not _apart(only, at, other)
            ]
            overwrites = any(owners[taken] & shared for _, taken in _overwritten(step))
            if not read or (other == at and len(read) == 1):
                continue
            if other == at:
                second = next(reader for reader in read if reader != port)
                message = f"Its input {second} is the value that its input {port} overwrites."
                problems.append(Problem(step.path, message, "Give it two values."))
            elif other in later or (overwrites and other > at):
                message = f"It reads a value that {donor.path} has overwritten (its input {port})."
                problems.append(Problem(step.path, message, f"Read the output of {name} instead."))
            elif not (overwrites and at in _after(flow, other)):
                graph.add_edge(other, at)
                graph.add_edges_from(_askers_first(sides, other, at) if sides is not None else ())
    try:
        plan.steps = [steps[at] for at in nx.lexicographical_topological_sort(graph)]
    except nx.NetworkXUnfeasible:
        if not problems:
            names = ", ".join(steps[at].path for at, _, _ in donors)
            problems.append(Problem(steps[donors[0][0]].path, f"No order lets everyone read before {names} overwrite."))


def _after(flow: nx.DiGraph[int], at: int) -> set[int]:
    found: set[int] = set()
    waiting = [at]
    while waiting:
        new = set(flow.successors(waiting.pop())) - found
        found |= new
        waiting.extend(new)
    return found


def _untaken(steps: list[Step], only: dict[Side, set[int]], at: int) -> set[tuple[int, str]]:
    """The (branch, port) pairs that are not read in any run in which a step runs."""
    conditions = {when: side for (when, side), members in only.items() if at in members}
    return {
        (other, "else" if conditions[step.branch.when] else "then")
        for other, step in enumerate(steps)
        if step.branch is not None and step.branch.when in conditions
    }


def _apart(only: dict[Side, set[int]], one: int, other: int) -> bool:
    """Whether two steps never run both, because a condition chooses between them."""
    return any(one in members and other in only[when, not side] for (when, side), members in only.items())


def _askers_first(sides: Sides, reader: int, donor: int) -> list[tuple[int, int]]:
    """What must run in which order, so that a reader never runs after a donor because a branch asked for it late."""
    asking = [at for at, behind in sides.behind.items() if reader in behind and donor not in behind]
    after = [donor, *(at for at, behind in sides.behind.items() if donor in behind)]
    return [(one, other) for one in asking for other in after if one != other]


def loop_hazards(loop: LoopPlan, gone: set[int], path: str) -> list[Problem]:
    """What a pass would overwrite although the next pass, or the reader of a collected stream, reads it."""
    problems: list[Problem] = []
    for name, slot in loop.body.inputs.items():
        if slot in gone and name not in loop.carry:
            message = f"${name} is overwritten in the body, but the next pass reads it again."
            problems.append(Problem(f"{path}.{name}", message, "Make it a carry."))
    for name in loop.collect:
        if loop.body.outputs[name] in gone:
            message = f"{name} is collected, but the next pass overwrites it."
            problems.append(Problem(f"{path}.{name}", message, "Collect a copy of it."))
    return problems


def loop_views(loop: LoopPlan, gone: set[int]) -> tuple[tuple[str, str], ...]:
    """The (input, output) pairs of a loop that may share memory: a carry that no pass changed, a view of a link."""
    owners = _across_passes(loop)
    given = {"each": loop.body.inputs["item"]} | {name: loop.body.inputs[name] for name in (*loop.carry, *loop.links)}
    made = {name: loop.body.inputs[name] for name in loop.carry}
    made |= {name: loop.body.outputs[name] for name in loop.collect}
    return tuple(
        (port, output)
        for port, slot in given.items()
        for output, left in made.items()
        if slot not in gone and owners[slot] & owners[left]
    )


def _overwritten(step: Step) -> list[tuple[str, int]]:
    """The (port, slot) pairs that a step overwrites; a literal is nobody else's."""
    return [(port, slot) for port, slot in step.arguments if port in step.donates] if step.donates else []


def _owners(plan: Plan, also: tuple[tuple[int, int], ...] = (), untaken: Collection[tuple[int, str]] = ()) -> Owners:
    """The slots whose memory each slot may lie in: its own, and those of what it views.

    What views two values shares memory with both, and they share none with each other for that.

    Args:
        plan: the steps.
        also: further (viewed, view) pairs of slots.
        untaken: (step, port) pairs that are not read.
    """
    views = list(also)
    for at, step in enumerate(plan.steps):
        if step.views:
            arguments, outputs = dict(step.arguments), dict(step.outputs)
            views += [
                (arguments[port], outputs[output])
                for port, output in step.views
                if port in arguments and (at, port) not in untaken
            ]
    owners = [frozenset([slot]) for slot in range(len(plan.keys))]
    changed = bool(views)
    while changed:
        changed = False
        for viewed, view in views:
            if not owners[viewed] <= owners[view]:
                owners[view] |= owners[viewed]
                changed = True
    return owners


def _across_passes(loop: LoopPlan) -> Owners:
    body = loop.body
    return _owners(body, tuple((body.outputs[name], body.inputs[name]) for name in loop.carry))


def overwritten_slots(loop: LoopPlan) -> set[int]:
    """The slots of a body that some pass overwrites, themselves or through a view."""
    donated = [slot for step in loop.body.steps for _, slot in _overwritten(step)]
    if not donated:
        return set()
    owners = _across_passes(loop)
    gone = frozenset[int]().union(*(owners[slot] for slot in donated))
    return {slot for slot, own in enumerate(owners) if own & gone}
