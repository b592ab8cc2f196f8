"""The WebSocket of ComfyUI's clients: each hears of its own jobs, and of those what it missed when it comes back.

Events reach a client through a bounded queue; of previews only the newest of each node waits. One that does not read is
let go.
"""

from __future__ import annotations

import asyncio
import base64
import json
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
MOST_FOLLOWED = 64
MOST_SAID = 1 << 16
PREVIEW, PREVIEW_WITH_METADATA, PNG = 1, 4, 2
"""Types of binary messages, and the number of the format."""
POLICY, TRY_AGAIN = 1008, 1013


class Client:
    """One WebSocket, and what waits for it."""

    def __init__(self, sid: str) -> None:
        self.sid = sid
        self.knows_metadata = False
        self.waiting: asyncio.Queue[str | tuple[str, str]] = asyncio.Queue(MOST_WAITING)
        self.previews: dict[tuple[str, str], bytes] = {}
        self.slow = asyncio.Event()

    def say(self, kind: str, data: dict[str, Any]) -> None:
        """Have a message sent."""
        self._put(json.dumps({"type": kind, "data": data}))

    def show(self, job: str, node: str, png: bytes) -> None:
        """Have a picture sent, in place of an older one of that node."""
        if (job, node) not in self.previews:
            self._put((job, node))
        self.previews[job, node] = png

    def _put(self, sent: str | tuple[str, str]) -> None:
        try:
            self.waiting.put_nowait(sent)
        except asyncio.QueueFull:
            self.slow.set()

    def frame(self, job: str, node: str) -> bytes:
        """A picture as it is sent: with its node's id to those who said that they know it."""
        png = self.previews.pop((job, node))
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
                with suppress(UnknownJob):
                    await self._tell(logged)

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
                client.say(kind, data)

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
    name, node = event["file"], told.owner(event)
    about = (event["media_type"], event["nbytes"], "")
    file = OutputFile(event["id"], told.job, name, event["path"], jobs.outputs / told.job / name, *about)
    shown = records.shown(file)
    return [("executed", told.about(node=node, display_node=node, output=shown))] if shown else []


def missed(jobs: Any, sid: str) -> list[tuple[str, dict[str, Any]]]:
    """What the jobs of a client that run now have told so far."""
    found: list[tuple[str, dict[str, Any]]] = []
    for job in jobs.list(states=("running",), limit=100).jobs:
        if job.client == sid:
            told = Messages(job.id, records.posted(job))
            for logged in jobs.events(job.id):
                found += told.of(logged.event, logged.at)
                found += executed(jobs, told, logged.event) if logged.event["event"] == "FileWritten" else []
    return found


async def serve_socket(socket: WebSocket) -> None:
    """Tell a client what its jobs do, until it leaves or does not read."""
    parts = socket.app.state.parts
    if parts.sessions.needed and not parts.sessions.of(socket.headers):
        await socket.close(POLICY, "the token is missing or wrong")
        return
    fanout = getattr(socket.app.state, "comfyui", None) or Fanout(parts)
    socket.app.state.comfyui = fanout
    if len(fanout.clients) >= parts.settings.limits.sockets:
        await socket.close(TRY_AGAIN, "too many clients")
        return
    await socket.accept()
    sid = socket.query_params.get("clientId", "")[:100] or secrets.token_hex(16)
    client = Client(sid)
    client.say("status", {**status_of(await run_in_threadpool(parts.jobs.counts)), "sid": sid})
    for kind, data in await run_in_threadpool(missed, parts.jobs, sid):
        client.say(kind, data)
    fanout.add(client)
    try:
        async with anyio.create_task_group() as group:

            async def run(work: Coroutine[Any, Any, object]) -> None:
                with suppress(WebSocketDisconnect, RuntimeError):  # the socket was closed while something was sent
                    await work
                group.cancel_scope.cancel()

            for each in (_send(socket, client), _listen(socket, client), client.slow.wait()):
                group.start_soon(run, each)
    finally:
        fanout.remove(client)
    with suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(TRY_AGAIN if client.slow.is_set() else 1000)


async def _send(socket: WebSocket, client: Client) -> None:
    while True:
        sent = await client.waiting.get()
        if isinstance(sent, str):
            await socket.send_text(sent)
        else:
            await socket.send_bytes(client.frame(*sent))


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
