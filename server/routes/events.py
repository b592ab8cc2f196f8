"""The events of all jobs as they happen, over a WebSocket: numbered, so that who comes back misses nothing."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Annotated, Any

import anyio
from fastapi import WebSocket, WebSocketDisconnect
from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool

from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.workflow import parse_json
from kineograph.server.hub import Client, message, resync
from kineograph.server.state import Parts, State
from kineograph.server.strict import Body, router

routes = router("events")
POLICY, TOO_BIG, TRY_AGAIN = 1008, 1009, 1013
SECONDS_TO_SAY_HELLO = 10.0
REPLAYED = 5000
"""Events that a client may have missed; who missed more looks anew."""


class Hello(Body):
    """What a client says first: the token where one is needed, what it saw last, and which jobs it asks for."""

    token: Annotated[str, Field(max_length=500)] = ""
    after: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    jobs: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=1000)] | None = None


class _Wrong(Exception):
    """The client does not keep to what was agreed."""

    def __init__(self, code: int, why: str) -> None:
        self.code = code
        super().__init__(why)


@routes.websocket("/events")
async def events(socket: WebSocket, parts: Parts) -> None:
    """Tell a client what happens, until it leaves, is too slow, or says what nobody says."""
    limits = parts.settings.limits
    session = parts.sessions.of(socket.headers)
    if len(parts.hub.clients) >= limits.sockets:
        await socket.close(TRY_AGAIN, "too many clients")
        return
    await socket.accept()
    try:
        hello = await asyncio.wait_for(_hear(socket, limits.socket_message), SECONDS_TO_SAY_HELLO)
        if parts.sessions.needed and not session and not parts.sessions.is_token(hello.token):
            raise _Wrong(POLICY, "the token is missing or wrong")
        client = Client(hello.jobs, limits.socket_items, limits.socket_bytes, session)
        parts.hub.clients.add(client)
        try:
            await _serve(socket, parts, client, hello.after)
        finally:
            parts.hub.clients.discard(client)
    except _Wrong as wrong:
        await _close(socket, wrong.code, str(wrong))
    except TimeoutError:
        await _close(socket, POLICY, "nothing was said")
    except WebSocketDisconnect:
        pass


async def _serve(socket: WebSocket, parts: State, client: Client, after: int | None) -> None:
    """Send and listen, until one of both ends."""
    ending: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def run(work: Coroutine[Any, Any, object]) -> None:
            try:
                await work
            except TimeoutError:
                client.drop("too slow")
                parts.metrics.slow_clients.inc()
            except (_Wrong, WebSocketDisconnect) as error:
                ending.append(error)
            group.cancel_scope.cancel()

        group.start_soon(run, _send(socket, parts, client, after))
        group.start_soon(run, _listen(socket, parts, client))
        group.start_soon(run, client.gone.wait())
    if ending:
        raise ending[0]
    await _close(socket, TRY_AGAIN, client.why)


async def _send(socket: WebSocket, parts: State, client: Client, after: int | None) -> None:
    """First what was missed, then what comes; nothing twice."""
    seconds = parts.settings.limits.socket_seconds
    last = -1 if after is None else after
    for seq, text in await run_in_threadpool(_missed, parts, client, after):
        async with asyncio.timeout(seconds):
            await socket.send_text(text)
        last = max(last, seq)
    while True:
        seq, sent = await client.take()
        async with asyncio.timeout(seconds):
            if isinstance(sent, bytes):
                await socket.send_bytes(sent)
            elif seq > last or not seq:
                await socket.send_text(sent)


def _missed(parts: State, client: Client, after: int | None) -> list[tuple[int, str]]:
    """What a client that comes back has not seen; one that comes first learns the number to come back with."""
    log = parts.jobs.event_log
    newest = log.last
    if after is None:
        return [(0, resync(newest))]
    if after > newest or after + 1 < log.oldest <= newest:
        return [(newest, resync(newest))]
    found = log.since(after, None if client.jobs is None else [*client.jobs, ""], REPLAYED + 1)
    if len(found) > REPLAYED:
        return [(newest, resync(newest))]
    return [(each.seq, message(each)) for each in found]


async def _listen(socket: WebSocket, parts: State, client: Client) -> None:
    """A client may say which jobs it asks for from now on, now and then."""
    said: deque[float] = deque(maxlen=parts.settings.limits.socket_rate)
    while True:
        hello = await _hear(socket, parts.settings.limits.socket_message)
        now = time.monotonic()
        if len(said) == said.maxlen and now - said[0] < 1.0:
            raise _Wrong(POLICY, "too many messages")
        said.append(now)
        client.jobs = None if hello.jobs is None else frozenset(hello.jobs)


async def _hear(socket: WebSocket, most: int) -> Hello:
    heard: Any = await socket.receive()
    if heard["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(heard.get("code", 1005))
    text = heard.get("text")
    if text is None:
        raise _Wrong(POLICY, "text is expected")
    if len(text) > most:
        raise _Wrong(TOO_BIG, "the message is too long")
    try:
        return Hello.model_validate(parse_json(text, "the message"))
    except (InvalidWorkflow, ValidationError):
        raise _Wrong(POLICY, "the message is not understood") from None


async def _close(socket: WebSocket, code: int, why: str) -> None:
    """Close, without waiting long for one that does not read."""
    with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
        await asyncio.wait_for(socket.close(code, why), 1.0)
