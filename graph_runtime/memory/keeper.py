"""Keeps one run within a budget: before a step reads weights it makes room for them and brings them. Plans nothing.

The timeline says what is read when. A run that goes another way (a branch, a loop that ends early, a state that was
kept) is found again by the place of the step that runs; what the timeline does not know is brought whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from kineograph.graph_runtime.holdings import held_bytes
from kineograph.graph_runtime.memory.demands import Demand, Demands, Label
from kineograph.graph_runtime.memory.device import Device, HostBlock
from kineograph.graph_runtime.memory.rescue import invoke, smaller_literals
from kineograph.graph_runtime.memory.residency import POLICIES, Residency, Use, ahead
from kineograph.graph_runtime.memory.residents import residents
from kineograph.graph_runtime.steps import Step

GUESS = 8
"""A step that no trial ran is left so many times what it is given, where that is free. A file of a small clip shows it
four times as large, as integers of one byte: that takes five times the clip."""


class Keeper:
    """What one run does to a device.

    Args:
        device: where weights go; it may hold some of earlier runs.
        demands: what the run will read.
        policy: who goes where room is needed.
    """

    def __init__(self, device: Device, demands: Demands, policy: str) -> None:
        self._device = device
        self._demands = demands
        self._timeline, self._begins = demands.timeline()
        victims = POLICIES[policy](self._timeline, device.capacity())
        self._residency = Residency(self._timeline, device.capacity(), victims)
        self._places: dict[str, list[int]] = {}
        for at, demand in enumerate(demands.order):
            self._places.setdefault(demand.path, []).append(at)
        self._at = -1
        self._inside = 0
        self._inside_of: tuple[Demand | None, dict[Label, list[int]]] = None, {}
        self._now, self._whole = Use(frozenset()), frozenset[Label]()
        self._parts: dict[Label, HostBlock] = {}
        self._labels: dict[HostBlock, Label] = {}
        self._modules: dict[int, Label] = {}
        self._unplanned: set[Label] = set()
        self._networks: list[Any] = []

    @contextmanager
    def running(self) -> Generator[None]:
        """Listen to the modules of a run."""
        if not self._demands.sizes:
            yield
            return
        from torch.nn.modules.module import register_module_forward_pre_hook

        hook = register_module_forward_pre_hook(self._enter)
        try:
            yield
        finally:
            hook.remove()
            self._device.set_aside(0)

    def call(self, step: Step, arguments: dict[str, Any]) -> Any:
        """Run a step with its weights on the device."""
        assert step.node is not None
        if step.path in self._demands.smaller:
            arguments = arguments | smaller_literals(step)
        if step.path in self._demands.lent and step.node.estimate is not None:
            arguments.pop(step.node.run_parameter or "", None)
            made = step.node.estimate(**arguments)  # nothing but weights that a file has: they come when they are read
        else:
            self._begin(step, arguments)
            made = invoke(step, arguments)
        self.adopt(step.path, made)
        return made

    def adopt(self, path: str, made: Any) -> None:
        """A step made something: from now on the weights in it that can come and go are the device's."""
        held = set(self._device.held())
        found = [network for network in residents(made) if not any(network is known for known in self._networks)]
        for number, network in enumerate(found):
            self._networks.append(network)
            for part in network.resident.parts:
                label = self._labels.setdefault(part, (path, number, part.name))
                self._parts[label] = part
                self._modules |= {id(module): label for module in part.modules()}
                if label not in self._demands.sizes:
                    self._demands.sizes[label] = part.nbytes
                    self._unplanned.add(label)
                if part in held:
                    self._residency.resident[label] = None

    def give_back(self, outputs: Any) -> None:
        """Networks that leave the run have all of their weights, and take care of them themselves."""
        held = set(self._device.held())
        for network in residents(outputs):
            for part in network.resident.parts:
                if part not in held:
                    part.bring("cpu")
                self._device.forget(part)
            network.resident = None

    def let_go(self) -> None:
        """Drop what no running step reads."""
        for part in self._device.held():
            label = self._labels.get(part)
            if label not in self._now.blocks:
                self._device.drop(part)
        there = [self._labels[part] for part in self._device.held() if part in self._labels]
        self._residency.resident = dict.fromkeys(there)  # where room ran out in the middle, not all had come

    def report(self) -> str:
        """The device's ledger."""
        return self._device.report()

    def _begin(self, step: Step, arguments: dict[str, Any]) -> None:
        """Bring what a step reads all the time."""
        planned = self._move_on(step.path)
        known = self._is_known(step, planned)
        blocks = planned.whole if planned is not None else frozenset[Label]()
        one = 0
        if not known or self._unplanned:
            for network in residents(arguments):
                labels = frozenset(self._labels[part] for part in network.resident.parts)
                blocks |= labels if not known or labels <= self._unplanned else frozenset()
            if self._timeline.bytes_of(blocks) > self._device.capacity():  # then block by block, if it reads them so
                one = max(self._timeline.sizes[label] for label in blocks)
                blocks = frozenset(label for label in blocks if not label[2])
        self._whole = blocks & self._parts.keys()
        reserve = self._demands.reserves.get(step.path, 0)
        if not known:
            free = self._device.capacity() - self._timeline.bytes_of(self._whole) - one
            reserve = max(reserve, min(reserve + GUESS * held_bytes(arguments), free))
        self._turn(Use(self._whole, reserve))

    def _is_known(self, step: Step, planned: Demand | None) -> bool:
        """Whether the trial saw what a step reads; what stands for a node there may have read nothing.

        A node whose outputs view what it was given reads nothing of it.
        """
        if planned is None or step.path in self._demands.unknown:
            return False
        stood_for = step.node is not None and step.node.estimate is not None and not step.node.views
        return not stood_for or bool(planned.whole or planned.inside)

    def _move_on(self, path: str) -> Demand | None:
        """The next time that the timeline has a step; the first, where it has no more; None where it has none."""
        places = self._places.get(path)
        if places is None:
            return None
        later = bisect_right(places, self._at)
        self._at = places[later] if later < len(places) else places[0]
        self._inside = 0
        return self._demands.order[self._at]

    def _enter(self, module: Any, _: Any) -> None:
        """A module runs: where it is a block that is not there all the time, bring it."""
        label = self._modules.get(id(module))
        if label is None or label in self._now.blocks:
            return
        if found := self._places_inside(self._demands.order[self._at]).get(label):
            later = bisect_right(found, self._inside)
            self._inside = found[later] if later < len(found) else found[0]
        self._turn(Use(self._whole | {label}, self._now.reserve))

    def _places_inside(self, demand: Demand) -> dict[Label, list[int]]:
        """Where a step reads its blocks, by block, counted from 1."""
        if self._inside_of[0] is not demand:
            places: dict[Label, list[int]] = {}
            for number, label in enumerate(demand.inside, 1):
                places.setdefault(label, []).append(number)
            self._inside_of = demand, places
        return self._inside_of[1]

    def _turn(self, use: Use) -> None:
        """Make room for a use, bring its blocks, and begin to bring those of the next where copies run beside."""
        device, residency = self._device, self._residency
        at = self._begins[self._at] + self._inside if self._at >= 0 else 0
        self._now = use
        also = ahead(self._timeline, device.capacity(), at) & self._parts.keys() if device.overlaps else ()
        together = self._timeline.bytes_of({*residency.resident, *use.blocks, *also}) + use.reserve
        strange = [part for part in device.held() if part not in self._labels]  # of earlier runs
        foreign = sum(part.nbytes for part in strange)
        for part in strange:
            if together + foreign > device.capacity():
                device.drop(part)
                foreign -= part.nbytes
        residency.capacity = device.capacity() - foreign
        turn = residency.turn(at, use, also)
        for label in turn.evict:
            device.drop(self._parts[label])
        device.set_aside(use.reserve)
        for label in turn.upload:
            device.upload(self._parts[label])
        mark = device.record()
        for label in turn.ahead:
            device.upload(self._parts[label])
        device.wait(mark)
        device.use(self._parts[label] for label in use.blocks)
