"""What only one side of a branch needs, or a lazy input: which steps wait until they are asked for. Runs nothing.

A branch asks for its side when it runs; whatever that side needs and nobody else has asked for runs then. So a step
that both sides of one branch, or several branches, need runs once, and one that nobody asks for never runs.
"""

from __future__ import annotations

from collections.abc import Iterable

from kineograph.graph_runtime.steps import Plan

Side = tuple[int, bool]
"""The slot of a condition, and what it says."""


class Sides:
    """Which steps of a plan stand behind which sides of its branches. Steps are counted as in ``plan.steps``."""

    def __init__(self, plan: Plan) -> None:
        self.steps = plan.steps
        self.outputs = tuple(plan.outputs.values())
        self.makers = {slot: at for at, step in enumerate(plan.steps) for _, slot in step.outputs}
        self.branches = {at: step.branch for at, step in enumerate(plan.steps) if step.branch is not None}
        asking = [at for at, step in enumerate(plan.steps) if step.branch is not None or step.within is not None]
        self.behind = {at: self.needed(plan.steps[at].asked) for at in asking}
        """Of every branch, and every node with lazy inputs: all steps that it may ask for, also through others."""

    def needed(self, slots: Iterable[int], without: Side | None = None, *, lazily: bool = True) -> set[int]:
        """The steps that slots come from.

        Args:
            slots: what is asked for.
            without: a side that no branch takes.
            lazily: with what branches may ask for, not only their conditions.
        """
        found: set[int] = set()
        waiting = list(slots)
        while waiting:
            at = self.makers.get(waiting.pop())
            if at is None or at in found:
                continue
            found.add(at)
            step = self.steps[at]
            waiting += step.needs
            if lazily and step.branch is not None:
                sides = zip(step.branch.sides, (True, False), strict=True)
                waiting += [slot for slot, side in sides if (step.branch.when, side) != without]
            elif lazily and step.within is not None:
                waiting += step.asked
        return found

    def always(self, without: Side | None = None, *, lazily: bool) -> set[int]:
        """The steps that outputs and effects need, as ``needed``.

        A step that changes the world and that a branch may ask for waits to be asked.
        """
        behind = set[int]().union(*self.behind.values())
        effects = {at for at, step in enumerate(self.steps) if step.effect and at not in behind}
        read = [slot for at in effects for _, slot in self.steps[at].arguments]
        return self.needed([*self.outputs, *read], without, lazily=lazily) | effects

    def only(self) -> dict[Side, set[int]]:
        """The steps that run only if a condition says so, for each side of each condition."""
        conditions = {branch.when for branch in self.branches.values()}
        everything = self.always(lazily=True)
        return {
            (when, side): everything - self.always((when, side), lazily=True)
            for when in conditions
            for side in (True, False)
        }


def has_branches(plan: Plan) -> bool:
    """Whether some step of it is a branch."""
    return any(step.branch is not None for step in plan.steps)


def mark_lazy(plan: Plan) -> None:
    """Mark the steps that wait to be asked for, and tell who asks where to look for them.

    Where something is overwritten, lazy inputs are computed in their turn: a reader must not come after the overwrite.
    """
    if not any(step.donates for step in plan.steps):
        for step in plan.steps:
            step.within = plan if step.branch is None and step.asked else None
    if not has_branches(plan) and not any(step.within for step in plan.steps):
        return
    sides = Sides(plan)
    plan.makers = sides.makers
    always = sides.always(lazily=False)
    for at, step in enumerate(plan.steps):
        step.lazy = at not in always
        if step.branch is not None:
            step.branch.plan = plan


def lazy_lifetimes(plan: Plan, kept: set[int]) -> dict[int, set[int]]:
    """By branch (as it is counted in ``plan.steps``): the slots that must last until it has run.

    What only one side makes and reads is gone after its last reader there; that is told to the lazy steps themselves.
    """
    if not plan.makers:
        return {}
    sides = Sides(plan)
    _free_behind_one_side(plan, sides, kept)
    return {at: _touched(plan, behind) for at, behind in sides.behind.items()}


def _free_behind_one_side(plan: Plan, sides: Sides, kept: set[int]) -> None:
    asked = {slot for branch in sides.branches.values() for slot in branch.sides}
    homes: dict[int, set[tuple[int, int]]] = {}
    for at, branch in sides.branches.items():
        for slot in branch.sides:
            for step in sides.needed([slot], lazily=False):
                homes.setdefault(step, set()).add((at, slot))
    using: dict[int, list[int]] = {slot: [maker] for slot, maker in sides.makers.items()}
    for at, step in enumerate(plan.steps):
        for slot in {slot for _, slot in step.arguments} & set(using):
            using[slot].append(at)
    for slot, users in using.items():
        home = homes.get(users[0], set[tuple[int, int]]())
        alone = len(home) == 1 and all(plan.steps[at].lazy and homes.get(at) == home for at in users)
        if alone and slot not in kept and slot not in asked:
            plan.steps[users[-1]].frees += (slot,)


def _touched(plan: Plan, behind: set[int]) -> set[int]:
    """What lazy steps read and write, and what was made with an effect, which must not be made twice."""
    found: set[int] = set()
    for at in behind:
        step = plan.steps[at]
        if step.lazy or step.effect:
            found.update(slot for _, slot in step.outputs)
        if step.lazy:
            found.update(slot for _, slot in step.arguments)
    return found
