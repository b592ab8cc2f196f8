"""The WebSocket of ComfyUI's clients: each hears of its own jobs, and of those what it missed when it comes back.

Events reach a client through a bounded queue; of previews only the newest of each node waits. One that does not read is
let go.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

import anyio
from fastapi import WebSocket, WebSocketDisconnect
from starlette.concurrency import run_in_threadpool

from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.jobs.records import Logged, OutputFile, UnknownJob
from kineograph.graph_runtime.workflow import parse_json
from kineograph.interop.comfyui import records
from kineograph.interop.comfyui.messages import Messages

MOST_WAITING = 4096
MOST_BYTES = 16 << 20
"""That wait for a client."""
MOST_FOLLOWED = 64
MOST_SAID = 1 << 16
PREVIEW, PREVIEW_WITH_METADATA, PNG = 1, 4, 2
"""Types of binary messages, and the number of the format."""
POLICY, TRY_AGAIN = 1008, 1013
STATES_ONLY = frozenset({"progress", "progress_state", "executing"})
"""Messages of which the newest says all."""
LOG = logging.getLogger("kineograph.comfyui")


class Client:
    """One WebSocket, and what waits for it.

    Args:
        sid: whose jobs it hears of.
        session: of the browser; when it ends, so does this.
    """

    def __init__(self, sid: str, session: str = "") -> None:
        self.sid = sid
        self.session = session
        self.knows_metadata = False
        self.waiting: asyncio.Queue[str | tuple[str, str]] = asyncio.Queue(MOST_WAITING)
        self.previews: dict[tuple[str, str], bytes] = {}
        self.gone = asyncio.Event()
        self.code = 1000
        self._held: list[tuple[Logged, str, dict[str, Any]]] | None = []
        self._nbytes = 0

    def say(self, kind: str, data: dict[str, Any]) -> None:
        """Have a message sent."""
        self._put(json.dumps({"type": kind, "data": data}))

    def tell(self, logged: Logged, kind: str, data: dict[str, Any]) -> None:
        """Have a message about what just happened sent: after what the client missed."""
        if self._held is None:
            self.say(kind, data)
        elif len(self._held) < MOST_WAITING:
            self._held.append((logged, kind, data))
        else:
            self.drop(TRY_AGAIN)

    def caught_up(self, seen: dict[str, int]) -> None:
        """It was told what it missed, of each job up to an event; what happened meanwhile comes now."""
        held, self._held = self._held or [], None
        for logged, kind, data in held:
            if logged.seq > seen.get(logged.job, 0):
                self.say(kind, data)

    def drop(self, code: int) -> None:
        """Let it go."""
        self.code = code
        self.gone.set()

    def show(self, job: str, node: str, png: bytes) -> None:
        """Have a picture sent, in place of an older one of that node."""
        if (job, node) not in self.previews:
            self._put((job, node))
        self._count(len(png) - len(self.previews.get((job, node), b"")))
        self.previews[job, node] = png

    async def next(self) -> str | bytes:
        """What is to be sent next, when there is something."""
        sent = await self.waiting.get()
        if isinstance(sent, str):
            self._count(-len(sent))
            return sent
        return self.frame(*sent)

    def _put(self, sent: str | tuple[str, str]) -> None:
        try:
            self.waiting.put_nowait(sent)
        except asyncio.QueueFull:
            self.drop(TRY_AGAIN)
            return
        if isinstance(sent, str):
            self._count(len(sent))

    def _count(self, nbytes: int) -> None:
        self._nbytes += nbytes
        if self._nbytes > MOST_BYTES:
            self.drop(TRY_AGAIN)

    def frame(self, job: str, node: str) -> bytes:
        """A picture as it is sent: with its node's id to those who said that they know it."""
        png = self.previews.pop((job, node))
        self._count(-len(png))
        if not self.knows_metadata:
            return struct.pack(">II", PREVIEW, PNG) + png
        about = {"node_id": node, "display_node_id": node, "prompt_id": job, "image_type": "image/png"}
        text = json.dumps(about).encode()
        return struct.pack(">II", PREVIEW_WITH_METADATA, len(text)) + text + png


class Fanout:
    """Hears all events of a dispatcher while somebody listens, and tells each client those of its own jobs."""

    def __init__(self, parts: Any) -> None:
        self.parts = parts
        self.clients: set[Client] = set()
        self.heard: asyncio.Queue[Logged] = asyncio.Queue()
        self.followed: dict[str, tuple[str, Messages, bool]] = {}
        self._leave: Callable[[], None] | None = None
        self._pump: asyncio.Task[None] | None = None
        parts.sessions.on_end(self.end_session)

    def end_session(self, session: str) -> None:
        """Let go of all clients of a session that has ended."""
        for client in self.clients:
            if session and client.session == session:
                client.drop(POLICY)

    def add(self, client: Client) -> None:
        """Begin to tell a client."""
        self.clients.add(client)
        if self._pump is None:
            loop = asyncio.get_running_loop()

            def hear(logged: Logged) -> None:
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(self.heard.put_nowait, logged)

            self._leave = self.parts.dispatcher.subscribe(hear)
            self._pump = asyncio.create_task(self._pass_on())

    def remove(self, client: Client) -> None:
        """Tell a client no more; without clients, nothing is listened to."""
        self.clients.discard(client)
        if not self.clients and self._pump is not None and self._leave is not None:
            self._leave()
            self._pump.cancel()
            self._leave = self._pump = None
            self.followed.clear()

    async def _pass_on(self) -> None:
        while True:
            logged = await self.heard.get()
            kind = logged.event["event"]
            if kind == "QueueChanged":
                status = status_of(logged.event["counts"])
                for client in self.clients:
                    client.say("status", status)
            elif logged.job:
                try:
                    await self._tell(logged)
                except UnknownJob:
                    continue
                except Exception as error:  # noqa: BLE001  one odd event, and everybody would hear nothing any more
                    LOG.warning("%s could not be told: %s", kind, type(error).__name__)

    async def _tell(self, logged: Logged) -> None:
        sid, told, shows = await self._follow(logged.job)
        theirs = [client for client in self.clients if client.sid == sid]
        event = logged.event
        if event["event"] == "NodePreview":
            for client in theirs if shows else ():
                client.show(logged.job, told.owner(event), base64.b64decode(event["png"]))
            return
        messages = list(told.of(event, logged.at))
        if event["event"] == "FileWritten" and theirs:
            messages += await run_in_threadpool(executed, self.parts.jobs, told, event)
        for kind, data in messages:
            for client in theirs:
                client.tell(logged, kind, data)

    async def _follow(self, job: str) -> tuple[str, Messages, bool]:
        """Whose job it is, what it told so far, and whether pictures of it are wanted."""
        if job not in self.followed:
            found = await run_in_threadpool(self.parts.jobs.get, job)
            about = records.posted(found)
            shows = about.get("extra_data", {}).get("preview_method") != "none"
            while len(self.followed) >= MOST_FOLLOWED:
                self.followed.pop(next(iter(self.followed)))
            self.followed[job] = (found.client, Messages(job, about), shows)
        return self.followed[job]


def status_of(counts: dict[str, int]) -> dict[str, Any]:
    """How many jobs are left."""
    return {"status": {"exec_info": {"queue_remaining": counts.get("queued", 0) + counts.get("running", 0)}}}


def executed(jobs: Any, told: Messages, event: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What a node left, when its file is complete: the queue may not have written it down yet."""
    if "id" not in event:  # it lies elsewhere
        return []
    name, node = event["file"], told.owner(event)
    about = (event["media_type"], event["nbytes"], "")
    file = OutputFile(event["id"], told.job, name, event["path"], jobs.outputs / told.job / name, *about)
    shown = records.shown(file)
    return [("executed", told.about(node=node, display_node=node, output=shown))] if shown else []


def missed(jobs: Any, sid: str) -> tuple[list[tuple[str, dict[str, Any]]], dict[str, int]]:
    """What the jobs of a client that run now have told so far, and the last event of each of these jobs.

    Of how far they are the newest.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    seen: dict[str, int] = {}
    for job in jobs.list(states=("running",), limit=100).jobs:
        if job.client == sid:
            told, messages = Messages(job.id, records.posted(job)), list[tuple[str, dict[str, Any]]]()
            for logged in records.events(jobs, job.id):
                messages += told.of(logged.event, logged.at)
                messages += executed(jobs, told, logged.event) if logged.event["event"] == "FileWritten" else []
                seen[job.id] = logged.seq
            newest = {kind: at for at, (kind, _) in enumerate(messages)}
            found += [each for at, each in enumerate(messages) if each[0] not in STATES_ONLY or newest[each[0]] == at]
    return found, seen


async def serve_socket(socket: WebSocket) -> None:
    """Tell a client what its jobs do, until it leaves or does not read."""
    parts = socket.app.state.parts
    if parts.sessions.needed and not parts.sessions.knows(socket.headers):
        await socket.close(POLICY, "the token is missing or wrong")
        return
    fanout = getattr(socket.app.state, "comfyui", None) or Fanout(parts)
    socket.app.state.comfyui = fanout
    if len(fanout.clients) >= parts.settings.limits.sockets:
        await socket.close(TRY_AGAIN, "too many clients")
        return
    await socket.accept()
    sid = socket.query_params.get("clientId", "")[:100] or secrets.token_hex(16)
    client = Client(sid, parts.sessions.of(socket.headers))
    client.say("status", {**status_of(await run_in_threadpool(parts.jobs.counts)), "sid": sid})
    fanout.add(client)
    try:
        told, seen = await run_in_threadpool(missed, parts.jobs, sid)
        for kind, data in told:
            client.say(kind, data)
        client.caught_up(seen)
        async with anyio.create_task_group() as group:

            async def run(work: Coroutine[Any, Any, object]) -> None:
                with suppress(WebSocketDisconnect, RuntimeError):  # the socket was closed while something was sent
                    await work
                group.cancel_scope.cancel()

            for each in (_send(socket, client), _listen(socket, client), client.gone.wait()):
                group.start_soon(run, each)
    finally:
        fanout.remove(client)
    with suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(client.code)


async def _send(socket: WebSocket, client: Client) -> None:
    while True:
        sent = await client.next()
        if isinstance(sent, str):
            await socket.send_text(sent)
        else:
            await socket.send_bytes(sent)


async def _listen(socket: WebSocket, client: Client) -> None:
    """A client may say what it knows; nothing else that it says counts."""
    while True:
        heard: Any = await socket.receive()
        text = heard.get("text")
        if heard["type"] == "websocket.disconnect" or text is None or len(text) > MOST_SAID:
            return
        try:
            said = parse_json(text, "the message")
        except InvalidWorkflow:
            return
        data = cast(dict[str, Any], said).get("data") if isinstance(said, dict) else None
        if isinstance(data, dict) and said.get("type") == "feature_flags":
            client.knows_metadata = cast(dict[str, Any], data).get("supports_preview_metadata") is True
            client.say("feature_flags", {"supports_preview_metadata": True})
