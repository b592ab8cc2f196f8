"""Which weights each step of a trial reads: seen where operations take tensors. Loads torch only when a trial runs.

Networks that can leave the device and come back say so by an attribute ``resident``: a list ``parts`` of blocks, each
with the ``modules()`` whose forward passes read it. Whether that is true of a step, the trial sees.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kineograph.graph_runtime.holdings import tensors
from kineograph.graph_runtime.memory.demands import Demand, Demands, Label
from kineograph.graph_runtime.memory.rescue import smaller_literals
from kineograph.graph_runtime.memory.residents import residents
from kineograph.graph_runtime.steps import Step

if TYPE_CHECKING:
    from kineograph.trial import Ledger

MOST_INSIDE = 1_000
"""Blocks, one after another, that are planned of one step; what comes later goes on from its beginning."""


class Reads:
    """Writes down what a trial reads.

    Attributes:
        demands: what was read so far.
        ledger: counts all other bytes.
    """

    def __init__(self, smaller: set[str] | None = None) -> None:
        self.demands = Demands(smaller=smaller or set())
        self.ledger: Ledger | None = None
        self._labels: dict[Any, Label] = {}
        self._modules: dict[int, Label] = {}
        self._networks: list[Any] = []
        self._running: list[Label] = []
        self._entered: list[Label] = []
        self._read: set[Label] = set()
        self._outside: set[tuple[str, int]] = set()

    @contextmanager
    def of(self, ledger: Ledger) -> Generator[None]:
        """Listen to a trial."""
        from torch.nn.modules import module as hooks

        self.ledger = ledger
        before = hooks.register_module_forward_pre_hook(self._enter)
        after = hooks.register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def adopt(self, path: str, made: Any) -> None:
        """A step made something: the weights in it that can come and go are counted here, not by the ledger."""
        assert self.ledger is not None
        found = [network for network in residents(made) if not any(network is known for known in self._networks)]
        storages = {tensor.untyped_storage()._cdata for tensor in tensors(made)} if found else set[int]()
        for number, network in enumerate(found):
            self._networks.append(network)
            weights = network.state_dict(keep_vars=True)
            for part in network.resident.parts:
                label = self._labels.setdefault(part, (path, number, part.name))
                self._modules |= {id(module): label for module in part.modules()}
                if label in self.demands.sizes:  # another network has the same weights
                    continue
                self.demands.sizes[label] = part.nbytes
                self.demands.names[label] = part.network
                own = [weights[name] for name in part.names]
                storages.difference_update(weight.untyped_storage()._cdata for weight in own)
                self.ledger.set_apart(own, lambda label=label: self._note(label))
        if found and not storages:
            self.demands.lent.add(path)
            self.ledger.peak = self.ledger.live

    def begin(self) -> None:
        """A step begins."""
        self._entered, self._read, self._outside = [], set(), set()

    def end(self, step: Step, peak: int, *, unknown: bool) -> None:
        """A step has ended; what a branch or a loop asks for was told by itself."""
        if step.node is None:
            return
        viewed = step.node.estimate is not None and step.node.views
        if step.path in self.demands.lent or viewed:  # that the trial looked at what it made is no reading
            self.begin()
        apart = frozenset(label for label in self._read if step.record or not label[2] or label[:2] in self._outside)
        inside = tuple(label for label in self._entered if label in self._read and label not in apart)
        demands = self.demands
        demands.order.append(Demand(step.path, apart, inside[:MOST_INSIDE]))
        if smaller_literals(step):
            demands.shrinkable.add(step.path)
        demands.reserves[step.path] = max(demands.reserves.get(step.path, 0), peak)
        if unknown and step.path not in demands.unknown:
            demands.unknown.append(step.path)
        if step.record and apart:
            demands.pin(step.path.rpartition("/")[0], apart)

    def instead(self, step: Step) -> Mapping[str, Any]:
        """The literals that a step runs with instead of its own."""
        return smaller_literals(step) if step.path in self.demands.smaller else {}

    def _note(self, label: Label) -> None:
        self._read.add(label)
        if label[2] and label not in self._running:
            self._outside.add(label[:2])

    def _enter(self, module: Any, _: Any) -> None:
        label = self._modules.get(id(module))
        if label is not None:
            self._running.append(label)
            self._entered.append(label)

    def _leave(self, module: Any, *_: Any) -> None:
        if self._modules.get(id(module)) is not None:
            self._running.pop()
