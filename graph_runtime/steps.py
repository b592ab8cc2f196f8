"""What a plan is: steps that read slots and write slots. Knows no workflow file and no key.

Slots are numbered places for values; a loop's body is a plan of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kineograph.graph_runtime.ports import NodeType


@dataclass(slots=True)
class Step:
    """One node or loop of a plan.

    Attributes:
        path: its place in the workflow. type_id: its node's id. key: what its outputs are known by.
        node, loop, branch: what runs; one of the three.
        constants: literals by port. arguments: (port, slot) of what is read. outputs: (port, slot) of what is written.
        effect: it changes the world, itself or in its body.
        donates: ports whose value it overwrites. views: (port, output) pairs that may share memory.
        cacheable: it has no effect, nobody overwrites its outputs, and they carry no recorded history.
        stored: its outputs may be kept on disk. That needs less than a cache, as they are written before anybody
            overwrites them; a loop with effects that carries something counts too. What a file holds is there already.
        passes: of a loop, what its states between passes are known by. extends: a longer stream begins with the same
            items, so a finished loop's last state is worth keeping.
        record: autograd records it, because somebody differentiates what it led to.
        invariant: inside a body: the same in every pass, so it runs once.
        lazy: it runs only if a branch, or a node with lazy inputs, asks for it.
        within: of a node with lazy inputs, the plan in which it asks for them; else None.
        frees: slots that nobody reads after it.
        parts: what its key is made of, for people: the texts that ``keys.PARTS`` names, and one for each input.
        checked: literal ports with bounds that arrive by a link, so are checked when the value is there.
    """

    path: str
    type_id: str
    key: str
    node: NodeType | None
    loop: LoopPlan | None
    constants: dict[str, Any]
    arguments: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    effect: bool = False
    donates: tuple[str, ...] = ()
    views: tuple[tuple[str, str], ...] = ()
    cacheable: bool = True
    stored: bool = True
    passes: str = ""
    extends: bool = False
    record: bool = False
    invariant: bool = False
    lazy: bool = False
    frees: tuple[int, ...] = ()
    checked: tuple[str, ...] = ()
    branch: BranchPlan | None = None
    within: Plan | None = None
    parts: tuple[Sequence[str], Mapping[str, str]] = ((), {})

    @property
    def asked(self) -> list[int]:
        """The slots that it may ask for: the sides of a branch, the lazy inputs of a node."""
        if self.branch is not None:
            return [*self.branch.sides]
        lazy = self.node.lazy if self.node is not None else ()
        return [slot for port, slot in self.arguments if port in lazy] if lazy else []

    @property
    def needs(self) -> list[int]:
        """The slots that must be filled before it runs."""
        if self.branch is not None:
            return [self.branch.when]
        later = set(self.asked) if self.within is not None else set[int]()
        return [slot for _, slot in self.arguments if slot not in later]


@dataclass(frozen=True, slots=True)
class NamedFiles:
    """The files that a node's literals name, as its fingerprint function found them."""

    fingerprint: Callable[..., str]
    literals: Mapping[str, Any]
    digest: str


@dataclass(slots=True)
class LoopPlan:
    """A loop's own wiring: names of carries and links, and the body."""

    carry: tuple[str, ...]
    links: tuple[str, ...]
    collect: tuple[str, ...]
    until: str | None
    body: Plan


@dataclass(slots=True)
class BranchPlan:
    """A branch's own wiring: the slots of its condition and of its sides (then, else), and the plan it stands in."""

    when: int
    sides: tuple[int, int]
    plan: Plan


@dataclass(slots=True)
class Plan:
    """Steps in order; where inputs enter and outputs leave; values known beforehand; files that literals name.

    ``endless`` has a second key for streams whose node says which inputs only count items: the key without those.
    ``makers`` (slot -> the step that makes it, as counted in ``steps``) is there where branches ask for steps.
    ``left_out`` says what an output or a place would need that is muted; ``definitions`` has the types that nodes stood
    for, by place. A plan is made once and run many times: nothing changes it.
    """

    steps: list[Step] = field(default_factory=list[Step])
    inputs: dict[str, int] = field(default_factory=dict[str, int])
    outputs: dict[str, int] = field(default_factory=dict[str, int])
    preset: dict[int, Any] = field(default_factory=dict[int, Any])
    keys: list[str] = field(default_factory=list[str])
    endless: dict[int, str] = field(default_factory=dict[int, str])
    files: list[NamedFiles] = field(default_factory=list["NamedFiles"])
    makers: dict[int, int] = field(default_factory=dict[int, int])
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    definitions: dict[str, str] = field(default_factory=dict[str, str])

    def slot(self, key: str) -> int:
        """A new slot for a value known by ``key``."""
        self.keys.append(key)
        return len(self.keys) - 1

    def definition_around(self, place: str) -> str:
        """The type of the innermost definition that a place is part of, or nothing."""
        while "/" in place:
            place = place.rpartition("/")[0]
            if place in self.definitions:
                return self.definitions[place]
        return ""
