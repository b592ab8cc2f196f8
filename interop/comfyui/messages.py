"""What our runs tell, as ComfyUI's socket says it. One object follows one job; it knows no socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Message = tuple[str, dict[str, Any]]
"""Its type and its data."""


class Messages:
    """The messages of one job, event by event.

    Args:
        job: its id.
        about: what it was posted as: its owners and its prompt.
    """

    def __init__(self, job: str, about: dict[str, Any]) -> None:
        self.job = job
        self.owners: dict[str, str] = about.get("owners") or {}
        self.prompt: dict[str, Any] = about.get("prompt") or {}
        self.cached: list[str] = []
        self.node: str | None = None
        self.done: list[str] = []
        self.progress: dict[str, dict[str, Any]] = {}

    def of(self, event: dict[str, Any], at: float) -> Iterator[Message]:
        """What clients are told of an event."""
        now, kind = int(at * 1000), event["event"]
        if kind == "JobStarted":
            self.cached, self.node, self.done = [], None, []
            yield "execution_start", self.about(timestamp=now)
        elif kind == "NodeCached":
            self.cached.append(self.owner(event))
        elif kind == "NodeStarted":
            yield from self.told_cached(now)
            node = self.owner(event)
            if node != self.node:
                self.node = node
                yield "executing", self.about(node=node, display_node=node)
        elif kind == "NodeProgress":
            yield from self.progressed(event)
        elif kind == "NodeFinished":
            self.done.append(self.owner(event))
        elif kind == "JobEnded":
            yield from self.told_cached(now)
            yield from self.ended(event, now)

    def told_cached(self, now: int) -> Iterator[Message]:
        """Once, before the first node runs: which did not have to."""
        if self.cached is not None and self.node is None:
            yield "execution_cached", self.about(nodes=sorted(set(self.cached)), timestamp=now)
            self.node = ""

    def progressed(self, event: dict[str, Any]) -> Iterator[Message]:
        """How far a node is, in the old form and the new."""
        node, value, most = self.owner(event), event["done"], event["total"] or 0
        yield "progress", self.about(node=node, value=value, max=most)
        state = {
            "value": value,
            "max": most,
            "state": "finished" if value >= most else "running",
            "prompt_id": self.job,
        }
        self.progress[node] = state | {
            "node_id": node,
            "display_node_id": node,
            "parent_node_id": None,
            "real_node_id": node,
        }
        yield "progress_state", self.about(nodes=dict(self.progress))

    def ended(self, event: dict[str, Any], now: int) -> Iterator[Message]:
        """How the job ended; a client that waits for ``executing`` with no node hears that too."""
        state = event["state"]
        if state == "done":
            yield "execution_success", self.about(timestamp=now)
        elif state == "cancelled":
            node = self.node or None
            about = self.about(timestamp=now, node_id=node, node_type=self.kind(node or ""), executed=self.done)
            yield "execution_interrupted", about
        else:
            yield "execution_error", self.error(event.get("error") or {}, now)
        yield "executing", self.about(node=None)

    def error(self, error: dict[str, Any], now: int) -> dict[str, Any]:
        """What failed, where, and with which inputs."""
        node = self.owner(error)
        message = str(error.get("message", ""))
        lines = [line for line in str(error.get("traceback", "")).splitlines() if line]
        raised = lines[-1].partition(":")[0] if lines else "NodeFailed"
        return self.about(
            timestamp=now,
            node_id=node,
            node_type=self.kind(node) or error.get("node_type", ""),
            executed=self.done,
            exception_message=message,
            exception_type=raised,
            traceback=lines,
            current_inputs={name: [value] for name, value in dict(error.get("inputs") or {}).items()},
            current_outputs=self.done,
        )

    def about(self, **data: Any) -> dict[str, Any]:
        return {"prompt_id": self.job, **data}

    def owner(self, event: dict[str, Any]) -> str:
        """The id of the posted node that an event is about."""
        name = str(event.get("path", "")).partition("/")[0]
        return self.owners.get(name, name)

    def kind(self, node: str) -> str:
        """The class of a posted node."""
        return str(self.prompt.get(node, {}).get("class_type", ""))
