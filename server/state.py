"""What all routes share: made once when a server starts, and closed when it ends. Knows no route."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, cast

from blake3 import blake3
from fastapi import Depends
from starlette.requests import HTTPConnection

from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.jobs.dispatch import Dispatcher
from kineograph.graph_runtime.jobs.queue import Jobs
from kineograph.graph_runtime.runtime import Runtime
from kineograph.graph_runtime.steps import Plan
from kineograph.graph_runtime.workflow import Workflow, parse_workflow
from kineograph.server.aside import Aside
from kineograph.server.drafts import Drafts
from kineograph.server.facts import Facts
from kineograph.server.hub import Hub
from kineograph.server.metrics import Metrics
from kineograph.server.roots import Roots, file_problems
from kineograph.server.sessions import Sessions
from kineograph.server.settings import Settings
from kineograph.server.uploads import Uploads

MEDIA = "kineograph.nodes.media.helper:main"
"""What looks at strangers' files: a name, for a process of its own; nothing here imports it."""


@dataclass
class State:
    """The parts of a server.

    Attributes:
        runtime: for what needs no torch: problems, plans, descriptions.
        jobs, dispatcher: the queue, and what runs it.
        media, estimates: helper processes.
    """

    runtime: Runtime
    jobs: Jobs
    dispatcher: Dispatcher
    settings: Settings
    sessions: Sessions
    metrics: Metrics
    hub: Hub
    uploads: Uploads
    drafts: Drafts
    roots: Roots
    media: Aside
    estimates: Aside
    facts: Facts
    _planning: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, runtime: Runtime, jobs: Jobs, dispatcher: Dispatcher, settings: Settings) -> State:
        """The parts of a server with these settings; makes the folders that it keeps things in."""
        for folder in (settings.data, settings.data / "workflows", *settings.roots.values()):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        limits, metrics = settings.limits, Metrics()
        media = Aside(MEDIA, [], nbytes=limits.aside_bytes)
        return cls(
            runtime=runtime,
            jobs=jobs,
            dispatcher=dispatcher,
            settings=settings,
            sessions=Sessions(settings.token),
            metrics=metrics,
            hub=Hub(metrics.slow_clients),
            uploads=Uploads(settings.data, ("uploads", "examples"), limits),
            drafts=Drafts(settings.data / "drafts.sqlite", limits),
            roots=Roots(settings.data, settings.roots),
            media=media,
            facts=Facts(jobs, media),
            estimates=Aside(
                "kineograph.server.estimating:main",
                [settings.factory, list(settings.packs), settings.store],
                nbytes=limits.aside_bytes,
            ),
        )

    @cached_property
    def described(self) -> tuple[bytes, str]:
        """All nodes and types as they are sent, and what changes when they do; made once, no node comes later."""
        content = json.dumps(self.runtime.describe(), default=str).encode()
        return content, f'"{blake3(content).hexdigest(12)}"'

    def close(self) -> None:
        """End helpers, let go of clients; the queue is its owner's."""
        self.hub.close()
        self.facts.close()
        self.estimates.close()
        self.drafts.close()

    def checked(self, raw: Mapping[str, Any], inputs: Mapping[str, Any]) -> Workflow:
        """A stranger's workflow, if its form is right and it names no file that it may not.

        Raises:
            InvalidWorkflow: with every problem of that kind.
        """
        workflow = parse_workflow(raw)
        problems = file_problems(workflow, inputs, self.runtime.registry, self.roots)
        if problems:
            raise InvalidWorkflow(problems)
        return workflow

    def plan(self, workflow: Workflow, inputs: Mapping[str, Any], outputs: list[str] | None) -> Plan:
        """What would run, one plan at a time.

        Raises:
            InvalidWorkflow: with every problem found.
        """
        with self._planning:
            return self.runtime.plan(workflow, inputs, outputs=outputs)


def _state(connection: HTTPConnection) -> State:
    return cast(State, connection.app.state.parts)


Parts = Annotated[State, Depends(_state)]
"""What a route takes to get at the parts of the server."""
