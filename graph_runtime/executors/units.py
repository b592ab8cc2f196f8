"""What an executor is given and what it gives back: JSON and keys, never pickles. Knows no process, runs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from kineograph.graph_runtime.codecs import decode
from kineograph.graph_runtime.keys import digest
from kineograph.graph_runtime.resume import KeepEvery
from kineograph.graph_runtime.store import DEFAULT_BYTES, Store, StoreFault


@dataclass(frozen=True)
class WorkUnit:
    """One run, as JSON: all that a process needs to know of it.

    Attributes:
        workflow: the workflow's JSON. inputs: values for its inputs.
        outputs: names of the outputs to compute; all, and every effect, by default.
        out: the folder that effects write below.
        packs: folders of packs; their code is executed.
        store: the folder that results are kept in; empty keeps nothing. store_bytes: the most that it may hold.
        keep_every: when a loop's state is kept.
        numerics: where it is given, what the process must compute with (see ``Runtime.numerics``).
        limit: seconds that the run may take; 0 is no limit.
        memory: bytes that weights, values and what is computed may take together; 0 is no budget.
        node_limit: seconds in which a node must end or report progress, a loop must get through a pass; 0 is no limit.
        previews: seconds between two pictures of what a node makes; 0 draws none.
        deliver: whether the outputs shall come back: the small ones as they are, the others as keys in the store.
        small_only: of those, the others do not.
    """

    workflow: dict[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict[str, Any])
    outputs: tuple[str, ...] | None = None
    out: str = "."
    packs: tuple[str, ...] = ()
    store: str = ""
    store_bytes: int = DEFAULT_BYTES
    keep_every: KeepEvery = field(default_factory=KeepEvery)
    numerics: str = ""
    limit: float = 0.0
    node_limit: float = 0.0
    memory: int = 0
    deliver: bool = True
    small_only: bool = False
    previews: float = 0.0

    def to_json(self) -> str:
        """The unit as one line.

        Raises:
            ValueError: its workflow or inputs hold what JSON cannot.
        """
        try:
            return json.dumps(asdict(self), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"A run that is sent to a process is JSON, this one is not: {error}") from None

    @classmethod
    def from_json(cls, text: str) -> WorkUnit:
        """The unit that ``to_json`` wrote."""
        raw = json.loads(text)
        outputs = None if raw["outputs"] is None else tuple(raw["outputs"])
        packs, keep_every = tuple(raw["packs"]), KeepEvery(**raw["keep_every"])
        return cls(**raw | {"outputs": outputs, "packs": packs, "keep_every": keep_every})

    def content(self) -> str:
        """The digest of what is computed: the same for every try of the same run."""
        workflow = {name: part for name, part in self.workflow.items() if name not in ("ui", "about")}
        return digest("unit", json.dumps([workflow, self.inputs, self.outputs, self.packs], sort_keys=True))


class Output(NamedTuple):
    """One output of a run that was in another process.

    Attributes:
        key: what it is known by; where ``text`` and ``lost`` are empty, it lies in the store under it.
        text: a small value, as ``codecs.encode`` writes it; that of an int, float, bool, str or list is plain JSON.
        lost: why it could not be delivered, as a clause.
    """

    key: str
    text: str = ""
    lost: str = ""


class Delivered(Mapping[str, Any]):
    """The outputs of a run that was in another process: read when they are asked for.

    Raises:
        LookupError: on reading one that could not be delivered, or is no longer in the store.
    """

    def __init__(self, outputs: Mapping[str, Output], store: str) -> None:
        self.raw = outputs
        self.store = store

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, name: str) -> Any:
        output = self.raw[name]
        if output.lost:
            raise LookupError(f"The output {name} stays in the process of its run: {output.lost}.")
        return decode(output.text, ()) if output.text else self._stored(name, output.key)

    def _stored(self, name: str, key: str) -> Any:
        try:
            store = Store(self.store)
        except StoreFault as fault:
            raise LookupError(f"The output {name} cannot be read: {fault}.") from None
        try:
            found = store.get(key)
        finally:
            store.close()
        if found is None:
            raise LookupError(
                f"The output {name} cannot be read from the store: other results took its place, or it is of a pack "
                "that is not loaded here. Run it again, or load the pack."
            )
        return found[0][0]


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
        outputs: by name; those from another process are read when they are asked for.
        keys: by name of the output; what it is known by, in the store too.
        ran, cached: how many steps ran, how many needed not. seconds: what it took.
    """

    outputs: Mapping[str, Any]
    keys: Mapping[str, str]
    ran: int
    cached: int
    seconds: float
