"""Events from the dispatcher's thread to many WebSockets, each with a bounded queue of its own. Knows no route.

Of what waits for a client only the newest progress and preview of a node count, and where much waits, the newest of the
numbers to plot. Who still has too much waiting is let go: it comes back with the number of the last event that it saw,
and is told what it missed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections import OrderedDict
from collections.abc import Collection
from typing import Protocol

from kineograph.graph_runtime.jobs.records import Logged

Sent = str | bytes
Slot = tuple[str, str, str] | int
PNG = "image/png"
RESYNC = {"event": "Resync"}
_COALESCED = frozenset({"NodeProgress", "NodePreview"})
_CROWDED = 512
"""Events that wait, from which on numbers to plot are thinned out."""
_INBOX = 20_000
"""Events that may wait for the loop, of all jobs; then every client must look anew."""


class Client:
    """What waits for one WebSocket.

    Args:
        jobs: the only ones it hears of; None for all. What concerns the whole queue everybody hears.
        items, nbytes: the most that may wait.
    """

    def __init__(self, jobs: Collection[str] | None, items: int, nbytes: int, session: str = "") -> None:
        self.jobs = None if jobs is None else frozenset(jobs)
        self.session = session
        self.gone = asyncio.Event()
        self.why = ""
        self._room = (items, nbytes)
        self._waiting: OrderedDict[Slot, tuple[int, Sent]] = OrderedDict()
        self._nbytes = 0
        self._some = asyncio.Event()

    def wants(self, job: str) -> bool:
        """Whether it hears of a job."""
        return self.jobs is None or not job or job in self.jobs

    @property
    def crowded(self) -> bool:
        """Whether much waits."""
        return len(self._waiting) > _CROWDED

    def put(self, seq: int, slot: Slot, sent: Sent) -> None:
        """Have something sent; what has the same slot and waits is replaced. Too much, and the client is let go."""
        if self.gone.is_set():
            return
        _, before = self._waiting.pop(slot, (0, ""))
        self._nbytes += len(sent) - len(before)
        self._waiting[slot] = (seq, sent)
        if len(self._waiting) > self._room[0] or self._nbytes > self._room[1]:
            self.drop("too slow")
        self._some.set()

    def drop(self, why: str) -> None:
        """Let it go."""
        self.why = self.why or why
        self._waiting.clear()
        self._nbytes = 0
        self.gone.set()

    async def take(self) -> tuple[int, Sent]:
        """The next thing to send, when there is one."""
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        _, (seq, sent) = self._waiting.popitem(last=False)
        self._nbytes -= len(sent)
        return seq, sent


class Metered(Protocol):
    """Counts what happens to clients."""

    def inc(self, amount: float = 1) -> None:
        """Count one more."""
        ...


class Hub:
    """Passes on what the dispatcher tells.

    Args:
        dropped: counts the clients that were let go because they were slow.
    """

    def __init__(self, dropped: Metered) -> None:
        self.clients: set[Client] = set()
        self._dropped = dropped
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._inbox: OrderedDict[Slot, Logged] = OrderedDict()
        self._overflow = False

    def start(self) -> None:
        """Use the loop that runs."""
        self._loop = asyncio.get_running_loop()

    def hear(self, logged: Logged) -> None:
        """Take an event, on whatever thread; never waits."""
        if self._loop is None or not self.clients:
            return
        with self._lock:
            first = not self._inbox
            slot = _slot(logged, crowded=len(self._inbox) > _CROWDED)
            self._inbox.pop(slot, None)
            self._inbox[slot] = logged
            if len(self._inbox) > _INBOX:
                self._inbox.clear()
                self._inbox[slot] = logged
                self._overflow = True
        if first and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pass_on)

    def _pass_on(self) -> None:
        with self._lock:
            heard, self._inbox = self._inbox, OrderedDict()
            overflow, self._overflow = self._overflow, False
        for client in self.clients if overflow else ():
            client.put(0, -1, resync(0))
        for logged in heard.values():
            wanting = [client for client in self.clients if client.wants(logged.job)]
            sent = _frame(logged) if logged.event["event"] == "NodePreview" else message(logged)
            for client in wanting:
                client.put(logged.seq, _slot(logged, crowded=client.crowded), sent)
                if client.gone.is_set():
                    self._dropped.inc()
        self.clients = {client for client in self.clients if not client.gone.is_set()}

    def end_session(self, session: str) -> None:
        """Let go of all clients of a session that has ended."""
        for client in self.clients:
            if session and client.session == session:
                client.drop("the session has ended")

    def close(self) -> None:
        """Let go of all."""
        for client in self.clients:
            client.drop("the server stops")


def message(logged: Logged) -> str:
    """An event as text."""
    return json.dumps({"seq": logged.seq, "job": logged.job, "at": logged.at, "event": logged.event})


def resync(seq: int) -> str:
    """What tells a client to look anew, because events are gone."""
    return json.dumps({"seq": seq, "job": "", "at": 0, "event": RESYNC})


def _slot(logged: Logged, *, crowded: bool) -> Slot:
    """What has the same slot is replaced while it waits."""
    kind = logged.event["event"]
    if kind in _COALESCED:
        return kind, logged.job, str(logged.event["path"])
    if kind == "Metric" and crowded:
        return kind, logged.job, f"{logged.event['path']} {logged.event['name']}"
    return logged.seq


def _frame(logged: Logged) -> bytes:
    """A preview: the length of a JSON header as four bytes, big-endian, the header, the picture."""
    event = logged.event
    header = {
        "job": logged.job,
        "path": event["path"],
        "port": event["port"],
        "media_type": PNG,
        "index": event["done"],
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(4, "big") + text + base64.b64decode(event["png"])
