"""The server itself: what it runs on, who may use it, its numbers."""

from __future__ import annotations

import os
from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import Field

from kineograph import __version__
from kineograph.graph_runtime.machine import spare_memory
from kineograph.server.errors import Refused
from kineograph.server.machine import devices, own_memory, total_memory
from kineograph.server.sessions import COOKIE
from kineograph.server.state import Parts, State
from kineograph.server.strict import Body, router

routes = router("system")
numbers = router("system")


class Token(Body):
    """What the server printed when it started."""

    token: Annotated[str, Field(min_length=1, max_length=500)]


@routes.get("/system")
def system(parts: Parts) -> dict[str, Any]:
    """What it runs on, and which packs were loaded. Packs come and go by the command line alone."""
    workers = parts.dispatcher.workers()
    return {
        "version": __version__,
        "numerics": parts.runtime.numerics,
        "cores": os.cpu_count() or 1,
        "memory": {
            "total": total_memory(),
            "available": spare_memory(),
            "server": own_memory(),
            "workers": sum(worker.nbytes for worker in workers),
        },
        "devices": devices([worker.device for worker in workers]),
        "packs": _packs(parts),
        "store": _store(parts),
        "safe_mode": parts.settings.safe_mode,
        "token_needed": parts.sessions.needed,
    }


@routes.post("/session", status_code=204)
async def sign_in(given: Token, request: Request, response: Response, parts: Parts) -> None:
    """Show the token, and get a cookie for it."""
    if not parts.sessions.is_token(given.token):
        raise Refused(401, "That is not the token of this server." if parts.sessions.needed else "It needs no token.")
    response.set_cookie(
        COOKIE, parts.sessions.begin(), httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/"
    )


@routes.delete("/session", status_code=204)
async def sign_out(request: Request, response: Response, parts: Parts) -> None:
    """End this browser's session, and its WebSockets."""
    parts.sessions.end(parts.sessions.of(request.headers))
    response.delete_cookie(COOKIE, path="/")


@numbers.get("/metrics", response_class=Response)
def metrics(parts: Parts) -> Response:
    """Numbers about the server, for Prometheus."""
    text = parts.metrics.text(parts.jobs.counts(), len(parts.hub.clients))
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _packs(parts: State) -> list[dict[str, Any]]:
    counts: dict[str, int] = {}
    for kind in parts.runtime.registry:
        if kind.pack:
            counts[kind.pack] = counts.get(kind.pack, 0) + 1
    return [{"name": name, "nodes": count} for name, count in counts.items()]


def _store(parts: State) -> dict[str, int]:
    store = parts.runtime.store
    return {"bytes": 0, "limit": 0} if store is None else {"bytes": store.used(), "limit": store.max_bytes}
