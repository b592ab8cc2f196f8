"""The server's app: routes over the queue, behind the guard. Knows no node; other processes run what needs torch."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kineograph import __version__
from kineograph.graph_runtime.jobs.dispatch import Dispatcher
from kineograph.graph_runtime.jobs.queue import Jobs
from kineograph.graph_runtime.jobs.records import JobConflict, UnknownJob
from kineograph.graph_runtime.runtime import Runtime
from kineograph.server.errors import answer_errors, envelope
from kineograph.server.guard import Guard
from kineograph.server.metrics import Metrics
from kineograph.server.routes import drafts, events, files, graphs, jobs, library, pages, system
from kineograph.server.settings import Settings
from kineograph.server.state import State

LOG = logging.getLogger("kineograph.server")
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""Those that are counted by name: who asks may make up any."""


def create_app(
    runtime: Runtime,
    jobs_queue: Jobs,
    dispatcher: Dispatcher,
    settings: Settings,
    *,
    routers: Iterable[APIRouter] = (),
    content_types: dict[str, tuple[str, int]] | None = None,
) -> FastAPI:
    """The app. Its parts stand in ``app.state.parts``; closing the app closes them, but not the queue.

    Args:
        runtime: for what needs no torch.
        jobs_queue, dispatcher: the queue, and what runs it; both are started and closed by the caller.
        settings: see there. The process's working directory must be ``settings.data``.
        routers: further routes, such as those of another program's API; they take ``server.state.Parts``.
        content_types: by path, what else than JSON a body may be, and the most bytes of it.
    """
    parts = State.of(runtime, jobs_queue, dispatcher, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.hub.start()
        leave = [dispatcher.subscribe(listener) for listener in (parts.hub.hear, parts.facts.hear)]
        yield
        for each in leave:
            each()
        parts.close()

    app = FastAPI(title="Kineograph", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.parts = parts
    answer_errors(app)
    _answer_queue_errors(app)
    for each in (graphs, jobs, files, library, drafts, system, events):
        app.include_router(each.routes, prefix="/api")
    for router in (system.numbers, pages.routes, *routers):
        app.include_router(router)
    if (mounted := pages.assets(settings.editor)) is not None:
        app.router.routes.append(mounted)
    parts.sessions.on_end(parts.hub.end_session)
    taken = {"/api/uploads": ("application/octet-stream", settings.limits.upload_bytes)} | (content_types or {})
    app.add_middleware(Guard, settings=settings, sessions=parts.sessions, content_types=taken)
    app.add_middleware(_Counted, metrics=parts.metrics)
    return app


def _answer_queue_errors(app: FastAPI) -> None:
    @app.exception_handler(UnknownJob)
    async def unknown(_: Request, error: UnknownJob) -> JSONResponse:
        return JSONResponse(envelope("not_found", str(error)), 404)

    @app.exception_handler(JobConflict)
    async def conflict(_: Request, error: JobConflict) -> JSONResponse:
        return JSONResponse(envelope("conflict", str(error)), 409)


class _Counted:
    """Counts and logs requests by their route, never by their address: that may hold names."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and look at the answer's status."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - began
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.requests.labels(method, route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            level = logging.DEBUG if status < 400 else logging.INFO
            LOG.log(level, "%s %s %d in %.0f ms", method, route, status, 1000 * seconds)
