"""What a plan is expected to cost, as plain values. Knows no plan."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from kineograph.graph_runtime.timings import Work

EFFECT = "it has an effect, so it is not tried"
"""Why nothing is known of a node that writes, say; it adds little."""
CACHE_SHARE = 16
"""Of a budget, the share that values may take which are kept for a later run."""

Shapes = dict[str, tuple[int, ...] | str]


@dataclass(slots=True)
class NodeEstimate:
    """What one node or loop is expected to do.

    Attributes:
        path, type_id: its place and its node's id. around: the place of the loop whose body it is in, or nothing.
        passes: how often it runs.
        loops: of a loop, how many passes it has each time.
        shapes: of what it makes, by output and then by field: sides, or the number of weights of a network.
        tokens: of its outputs that are made of tokens; 0 where none is.
        flops: in all passes together.
        peak_bytes: the most that is in memory while it runs, with all that others keep there.
        output_bytes: of what it makes.
        cached: its result is kept: it will not run.
        changed: why an earlier result that is kept does not serve; empty where there is none.
        unknown: why nothing more is known; empty where it is.
        note: how its numbers are to be read; may be empty.
        seconds: in all passes together, from earlier runs on this machine; None where there are none.
    """

    path: str
    type_id: str
    around: str = ""
    passes: int = 0
    loops: int = 0
    shapes: dict[str, Shapes] = field(default_factory=dict[str, Shapes])
    tokens: int = 0
    flops: int = 0
    peak_bytes: int = 0
    output_bytes: int = 0
    cached: bool = False
    changed: str = ""
    unknown: str = ""
    note: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Residence:
    """How a run gets by with a budget.

    Attributes:
        budget: bytes. kept: of these, what values for later runs may take.
        weights: bytes of all blocks that are read, each once.
        moved: bytes of blocks that are brought, in all.
        policy: who goes where room is needed.
        largest: the step that needs most at once. needs: its bytes; of these, weights.
        needs_weights: bytes of weights that the largest step needs at once.
        smaller: steps that run with their smaller setting.
        unknown: steps of which nothing is known, so that nothing is promised.
    """

    budget: int
    kept: int
    weights: int
    moved: int
    policy: str
    largest: str
    needs: int
    needs_weights: int
    smaller: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every step fits."""
        return self.needs <= self.room

    @property
    def room(self) -> int:
        """What weights and steps may take together."""
        return self.budget - self.kept

    @property
    def least(self) -> int:
        """The smallest budget in which every step fits."""
        return -(-self.needs * CACHE_SHARE // (CACHE_SHARE - 1)) + 1


@dataclass(slots=True)
class Estimate:
    """What a plan is expected to cost.

    Attributes:
        nodes: in the order in which they first run.
        flops: of all.
        peak_bytes: the most that is in memory at once.
        peak_path: the node that runs then.
        spare_bytes: what the device has to spare now; None where the system does not say.
        residence: how it gets by with a budget, where one is given; ``peak_bytes`` are then those beside weights.
    """

    nodes: list[NodeEstimate]
    flops: int
    peak_bytes: int
    peak_path: str
    spare_bytes: int | None
    residence: Residence | None = None

    @property
    def guessed(self) -> bool:
        """Whether something is left out of the sums that may be large: more than effects."""
        return any(node.unknown not in ("", EFFECT) for node in self.nodes)

    @property
    def unknown(self) -> list[str]:
        """The nodes of which nothing is known, so that all sums are lower bounds."""
        return [node.path for node in self.nodes if node.unknown]

    @property
    def fits(self) -> bool | None:
        """Whether it fits the device's memory; None where nobody can say."""
        if self.spare_bytes is None:
            return None
        if self.peak_bytes > self.spare_bytes:
            return False
        return None if self.guessed else True

    @property
    def seconds(self) -> float:
        """What all nodes take together whose seconds are known."""
        return sum(node.seconds or 0.0 for node in self.nodes)

    def work(self) -> dict[str, Work]:
        """What each node that will run has to do: FLOPs, else bytes that it makes."""
        return {
            row.path: Work(self._kind(row), float(row.flops or row.output_bytes or 1), row.loops)
            for row in self.nodes
            if not row.around and not row.cached
        }

    def _kind(self, row: NodeEstimate) -> str:
        """Its type; of a loop, also those in its body."""
        below = {node.type_id for node in self.nodes if node.path.startswith(f"{row.path}/")}
        return " ".join([row.type_id, *sorted(below)])


def kept_share(budget: int) -> int:
    """Of a budget, the bytes that values may take which are kept for a later run."""
    return budget // CACHE_SHARE


def as_json(estimate: Estimate) -> dict[str, Any]:
    """An estimate and its sums, fit for JSON."""
    sums = {"seconds": estimate.seconds, "fits": estimate.fits, "unknown": estimate.unknown}
    return asdict(estimate) | sums
