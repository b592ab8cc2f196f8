"""A class written for ComfyUI as a node of ours: what runs, when it must run again, what it refuses.

Its public interface alone is used: INPUT_TYPES, RETURN_TYPES, FUNCTION, OUTPUT_NODE, IS_CHANGED, VALIDATE_INPUTS,
check_lazy_status, INPUT_IS_LIST and OUTPUT_IS_LIST.
"""

from __future__ import annotations

import inspect
import json
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from kineograph.graph_runtime.ahead import finished
from kineograph.graph_runtime.ports import NodeType
from kineograph.graph_runtime.sockets import Stream
from kineograph.interop.comfyui.pack_inputs import Input, Ports, Refused, read_ports

if TYPE_CHECKING:
    from kineograph.graph_runtime.node import RunContext
    from kineograph.graph_runtime.registry import Registry

RUN = "kineograph_run"
UI_FILE = "comfyui/{node}.json"
"""Where what a node shows (its ``ui``) is written below the output folder."""


@dataclass(frozen=True)
class ComfyNodeType(NodeType):
    """A node of ComfyUI's: of its class, the code that counts in keys, and what a page is told of it."""

    cls: type = object
    ports: Ports | None = None
    title: str = ""

    @cached_property
    def code_digest(self) -> str:
        """Digest of the module or folder that the class stands in."""
        from kineograph.graph_runtime.code import code_digest

        return code_digest(inspect.unwrap(getattr(self.cls, cast(Any, self.cls).FUNCTION)))

    @property
    def packages(self) -> tuple[str, ...]:
        """The package that its class stands in."""
        return (self.cls.__module__.partition(".")[0],)

    @cached_property
    def returns(self) -> list[tuple[type, ...]]:
        """Anything: ComfyUI holds no node to its RETURN_TYPES, and packs rely on that."""
        return [(object,)] * len(self.outputs)


def comfy_node(name: str, cls: type, pack: str, title: str, registry: Registry) -> ComfyNodeType:
    """The node type of a class.

    Args:
        name: its key in NODE_CLASS_MAPPINGS.
        cls: the class.
        pack: the name of its pack.
        title: from NODE_DISPLAY_NAME_MAPPINGS.
        registry: where the nodes stand that it may return as a sub-graph.

    Raises:
        Refused: with the reason, a sentence.
    """
    function = getattr(cls, "FUNCTION", None)
    if not isinstance(function, str) or not callable(getattr(cls, function, None)):
        raise Refused("It has no FUNCTION that names a method of it.")
    if not callable(getattr(cls, "INPUT_TYPES", None)):
        raise Refused("It has no INPUT_TYPES.")
    ports = read_ports(cls, _judged(cls))
    method = inspect.unwrap(getattr(cls, function))
    if not hasattr(method, "__code__"):
        raise Refused(f"Its {function} is no Python function, so nobody could tell whether it changed.")
    adapter = _Adapter(name, cls, ports, registry)
    is_async = inspect.iscoroutinefunction(method)
    doc = str(getattr(cls, "DESCRIPTION", "") or inspect.getdoc(cls) or "")
    return ComfyNodeType(
        name=name,
        version=1,
        function=adapter.call_async if is_async else adapter.call,
        inputs={port: each.port for port, each in ports.inputs.items()},
        outputs=ports.outputs,
        doc=doc,
        effect=bool(getattr(cls, "OUTPUT_NODE", False)),
        fingerprint=_fingerprint(cls, ports),
        run_parameter=RUN,
        pack=pack,
        is_async=is_async,
        lazy=tuple(port for port, each in ports.inputs.items() if each.lazy),
        asks=adapter.asks if callable(getattr(cls, "check_lazy_status", None)) else None,
        cls=cls,
        ports=ports,
        title=title or name,
    )


class _Adapter:
    """Calls a class's function with values as it knows them, and takes its results as we know them."""

    def __init__(self, name: str, cls: type, ports: Ports, registry: Registry) -> None:
        self.name, self.cls, self.ports, self.registry = name, cls, ports, registry
        self.takes_list = bool(getattr(cls, "INPUT_IS_LIST", False))

    def call(self, **given: Any) -> Any:
        """Run it."""
        run = given.pop(RUN)
        return self.results(self.method()(**self.arguments(given, run)), given, run)

    async def call_async(self, **given: Any) -> Any:
        """Run it, where its function is a coroutine."""
        run = given.pop(RUN)
        return self.results(await self.method()(**self.arguments(given, run)), given, run)

    def asks(self, **known: Any) -> list[str]:
        """Which of its lazy inputs it needs, as we call them: what its ``check_lazy_status`` says."""
        check = cast(Any, self.cls()).check_lazy_status
        given = {
            each.name: self.entered(each, known[port]) for port, each in self.ports.inputs.items() if port in known
        }
        later = {each.name: each.type for each in self.ports.inputs.values() if each.lazy and each.name not in given}
        names = {each.name: port for port, each in self.ports.inputs.items()}
        return [names[name] for name in _awaited(check(**_taken(check, given, later))) or () if name in names]

    def method(self) -> Callable[..., Any]:
        """Its function, of a new object: nothing stays from the last call."""
        return getattr(self.cls(), cast(Any, self.cls).FUNCTION)

    def arguments(self, given: Mapping[str, Any], run: RunContext) -> dict[str, Any]:
        """What it is called with."""
        found: dict[str, Any] = {}
        for port, value in given.items():
            each = self.ports.inputs[port]
            if value is None and (each.lazy or not each.required):
                if each.lazy:
                    found[each.name] = None
                continue
            found[each.name] = self.entered(each, value)
        for name, what in self.ports.hidden.items():
            found[name] = _hidden(what, run)
        return found

    def entered(self, each: Input, value: Any) -> Any:
        if self.takes_list:
            items = list(cast(Stream[Any], value)) if isinstance(value, Stream) else [value]
            return [self.one(each, item) for item in items]
        return self.one(each, value)

    @staticmethod
    def one(each: Input, value: Any) -> Any:
        return each.choices.get(value, value) if each.choices else each.kind.enter(value)

    def results(self, made: Any, given: Mapping[str, Any], run: RunContext) -> Any:
        """Its outputs as ours: one value, a tuple of several, or None."""
        if isinstance(made, dict):
            said = cast(dict[str, Any], made)
            if "ui" in said:
                self.show(said["ui"], run)
            made = said.get("result", ())
            if "expand" in said:
                from kineograph.interop.comfyui.expansion import expanded

                made = expanded(self.registry, said["expand"], made, run)
        if made is None:
            made = ()
        count = len(self.ports.outputs)
        if not isinstance(made, (tuple, list)):
            made = (made,)
        values = list(cast(Sequence[Any], made))
        if len(values) != count:
            raise ValueError(f"It returned {len(values)} values, its RETURN_TYPES says {count}.")
        left = [self.left(at, value, given) for at, value in enumerate(values)]
        return None if not left else left[0] if count == 1 else tuple(left)

    def left(self, at: int, value: Any, given: Mapping[str, Any]) -> Any:
        kind = self.ports.kinds[at]
        own = kind.socket.python
        if not self.ports.lists[at]:
            return value if _is(own, value) else kind.leave(value, given)
        items = list(cast(Stream[Any], value) if isinstance(value, Stream) else cast(Sequence[Any], value))
        return Stream[Any].of([item if _is(own, item) else kind.leave(item, given) for item in items])

    def show(self, ui: Any, run: RunContext) -> None:
        """Keep what it shows as a file beside the others that the run writes, for whoever asks."""
        path = run.output_path(UI_FILE.format(node=run.place.replace("/", ".")))
        path.write_text(json.dumps(ui, default=str), encoding="utf-8")
        run.wrote(path)


def _is(own: Any, value: Any) -> bool:
    return isinstance(own, type) and own is not object and isinstance(value, own)


def _hidden(what: str, run: RunContext) -> Any:
    if what == "UNIQUE_ID":
        return run.place
    workflow = json.loads(run.provenance)
    if what == "EXTRA_PNGINFO":
        return {"workflow": workflow}
    return {
        name: {"class_type": node["type"], "inputs": {**node.get("params", {}), **node.get("links", {})}}
        for name, node in workflow.get("nodes", {}).items()
    }


# before the run


def _judged(cls: type) -> Sequence[str] | None:
    """The inputs that VALIDATE_INPUTS names; None where it takes any."""
    function = getattr(cls, "VALIDATE_INPUTS", None)
    if function is None:
        return ()
    parameters = inspect.signature(function).parameters.values()
    return None if any(each.kind is each.VAR_KEYWORD for each in parameters) else [each.name for each in parameters]


def _fingerprint(cls: type, ports: Ports) -> Callable[..., str] | None:
    """What VALIDATE_INPUTS and IS_CHANGED say before a run, as a text of the node's key; None where it has neither."""
    validate, changed = (getattr(cls, name, None) for name in ("VALIDATE_INPUTS", "IS_CHANGED"))
    if validate is None and changed is None:
        return None

    def fingerprint(**literals: Any) -> str:
        known = {
            each.name: each.choices.get(literals[port], literals[port])
            for port, each in ports.inputs.items()
            if literals.get(port) is not None
        }
        linked = {each.name: each.type for port, each in ports.inputs.items() if port not in literals}
        if validate is not None:
            verdict = _awaited(validate(**_taken(validate, known, linked | {"input_types": linked})))
            if verdict is not True:
                raise ValueError(
                    verdict if isinstance(verdict, str) else "Its own VALIDATE_INPUTS refuses these values."
                )
        if changed is None:
            return ""
        asked = _taken(changed, known, linked)
        if any(value is None and name in linked for name, value in asked.items()):
            return uuid.uuid4().hex  # it looks at what is known only in the run: it may always have changed
        answer = _awaited(changed(**asked))
        return uuid.uuid4().hex if isinstance(answer, float) and math.isnan(answer) else repr(answer)

    parameters = [inspect.Parameter(port, inspect.Parameter.KEYWORD_ONLY, default=None) for port in ports.inputs]
    fingerprint.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return fingerprint


def _taken(function: Callable[..., Any], known: Mapping[str, Any], linked: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a function takes; what is linked is None, as nobody knows it yet."""
    parameters = inspect.signature(function).parameters
    everything = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    names = [*known, *linked] if everything else [name for name in parameters if name in known or name in linked]
    found = {name: known.get(name) for name in dict.fromkeys(names) if name != "input_types"}
    return found | ({"input_types": dict(linked)} if "input_types" in parameters else {})


def _awaited(answer: Any) -> Any:
    """What a function returned, after waiting for it where it is a coroutine."""
    return finished(answer) if inspect.iscoroutine(answer) else answer
