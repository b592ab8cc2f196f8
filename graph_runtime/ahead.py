"""Nodes that are coroutines run beside the others, in an event loop on a thread of its own. Knows no keys.

One starts as soon as its inputs are there, also before its turn, and is waited for when something needs it. The other
steps keep their order, and every event is told on the thread of the run.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kineograph.graph_runtime.events import Event, Listener

SECONDS_BETWEEN_LOOKS = 0.05
"""How late a request to stop is seen while a coroutine is waited for."""


@dataclass(frozen=True)
class Ended:
    """How a coroutine ended: what it returned or raised, and the seconds that it took."""

    result: Any
    error: BaseException | None
    seconds: float


class Coroutines:
    """The coroutines of one run; the thread begins with the first of them.

    Attributes:
        heard: what they told and nobody has passed on yet; None wakes whoever waits.
    """

    def __init__(self) -> None:
        self.heard: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._started: list[Future[Ended]] = []

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Ended]:
        """Let a coroutine run."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._serve, args=(self._loop,), name="coroutines", daemon=True)
            self._thread.start()
        future = asyncio.run_coroutine_threadsafe(_ended(coroutine), self._loop)
        future.add_done_callback(lambda _: self.heard.put(None))
        self._started.append(future)
        return future

    def wait(self, future: Future[Ended], listen: Listener, check_cancelled: Callable[[], None]) -> Ended:
        """How a coroutine ended.

        Args:
            future: the coroutine.
            listen: told what any coroutine tells meanwhile.
            check_cancelled: raises where the run was stopped.
        """
        while not future.done():
            check_cancelled()
            self.tell(listen, SECONDS_BETWEEN_LOOKS)
        self.tell(listen)
        return future.result()

    def tell(self, listen: Listener, seconds: float = 0.0) -> None:
        """Pass on what was told, after waiting so long for the first of it."""
        try:
            while True:
                event = self.heard.get(timeout=seconds) if seconds else self.heard.get_nowait()
                seconds = 0.0
                if event is not None:
                    listen(event)
        except queue.Empty:
            return

    def close(self) -> None:
        """Cancel what still runs, wait until it has ended, and end the thread."""
        if self._loop is None or self._thread is None:
            return
        for future in self._started:
            future.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        if "torch" in sys.modules:
            sys.modules["torch"].set_grad_enabled(False)  # it is set for each thread
        with asyncio.Runner(loop_factory=lambda: loop) as runner:  # it cancels what is left, and closes the loop
            runner.get_loop().run_forever()


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives to who waits for it alone; also on a thread with a loop already, as a notebook has."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    torch = sys.modules.get("torch")
    records = torch is not None and torch.is_grad_enabled()

    def beside() -> Any:
        if torch is not None:
            torch.set_grad_enabled(records)
        return asyncio.run(coroutine)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(beside).result()


async def _ended(coroutine: Coroutine[Any, Any, Any]) -> Ended:
    started = time.perf_counter()
    try:
        result, error = await coroutine, None
    except (Exception, SystemExit) as raised:  # noqa: BLE001  raised again where it is waited for
        result, error = None, raised
    return Ended(result, error, time.perf_counter() - started)
