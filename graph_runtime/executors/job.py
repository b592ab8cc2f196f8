"""A run that was submitted: its events, the wish to stop it, its end. Knows no process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from kineograph.graph_runtime.events import Event, EventsMissed, Listener, Metric, NodeProgress
from kineograph.graph_runtime.executors.units import Result, WorkUnit

EVENTS_KEPT = 4096
"""For a reader that is slow, or that never comes."""


class Mailbox:
    """The events of a run that nobody has read yet: in order, and bounded.

    Of the progress of a node only the newest counts. Where there is no room, the oldest number to plot goes, or else
    the oldest event, and the reader is told how many went; the last event, which says how a run ended, never does.
    """

    def __init__(self, room: int = EVENTS_KEPT) -> None:
        self.room = room
        self._change = threading.Condition()
        self._events: dict[int, Event] = {}
        self._progress: dict[str, int] = {}
        self._metrics: deque[int] = deque()
        self._next = 0
        self._missed = 0
        self._closed = False

    def put(self, event: Event) -> None:
        """Add an event; never waits."""
        with self._change:
            if isinstance(event, NodeProgress):
                self._events.pop(self._progress.get(event.path, -1), None)
                self._progress[event.path] = self._next
            elif isinstance(event, Metric):
                self._metrics.append(self._next)
            self._events[self._next] = event
            self._next += 1
            if len(self._events) > self.room:
                self._events.pop(self._metrics.popleft() if self._metrics else next(iter(self._events)))
                self._missed += 1
            self._change.notify_all()

    def close(self) -> None:
        """No more events come."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def __iter__(self) -> Iterator[Event]:
        """Events, as they come, until the run has ended."""
        while (event := self._take()) is not None:
            yield event

    def _take(self) -> Event | None:
        with self._change:
            while not self._events and not self._closed:
                self._change.wait()
            if self._missed:
                missed, self._missed = self._missed, 0
                return EventsMissed(missed)
            if not self._events:
                return None
            number = next(iter(self._events))
            event = self._events.pop(number)
            if isinstance(event, NodeProgress):
                del self._progress[event.path]
            elif isinstance(event, Metric):
                self._metrics.popleft()
            return event


class Job:
    """What ``submit`` returns: safe to use from any thread.

    Attributes:
        unit: what runs.
        asked: how often it was asked to stop.
        finishing: whether the loop that runs was asked to end after its pass.
    """

    def __init__(self, unit: WorkUnit, listen: Listener | None, withdraw: Callable[[Job], None]) -> None:
        self.unit = unit
        self.asked = 0
        self.finishing = False
        self._listen = listen
        self._withdraw = withdraw
        self._mailbox = Mailbox()
        self._ended = threading.Event()
        self._end: Result | BaseException | None = None
        self._broken: Exception | None = None

    def events(self) -> Iterator[Event]:
        """Its events as they come, each once; a slow reader misses some and is told so. Ends when the run has ended.

        Where ``submit`` was given a listener, that one has them all, and these are none.
        """
        return iter(self._mailbox)

    def cancel(self) -> None:
        """Stop it between two steps or passes, so that what it reached is kept; the second time, at once."""
        self.asked += 1
        self._withdraw(self)

    def finish(self) -> None:
        """End the loop that runs after its pass; what follows runs with what it has."""
        self.finishing = True

    @property
    def ended(self) -> bool:
        """Whether it has ended, well or not."""
        return self._ended.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end, at most so long; whether it has ended."""
        return self._ended.wait(seconds)

    def result(self, seconds: float | None = None) -> Result:
        """What it gave, waited for.

        Raises:
            InvalidWorkflow: before anything ran.
            NodeFailed: a node raised; ``WorkerDied`` where it ended its process.
            Cancelled: it was stopped.
            TimeoutError: it has not ended after so many seconds.
        """
        if not self._ended.wait(seconds):
            raise TimeoutError(f"The run has not ended after {seconds:g} s.")
        if isinstance(self._end, BaseException):
            raise self._end
        assert self._end is not None
        return self._end

    # what executors call

    def tell(self, event: Event) -> None:
        """Pass an event on; a listener that raises ends the run, and its error is the run's."""
        if self._listen is None:
            self._mailbox.put(event)
        elif self._broken is None:
            try:
                self._listen(event)
            except Exception as error:  # noqa: BLE001  it is the caller's, and raised again where he waits
                self._broken = error
                self.cancel()

    def end(self, end: Result | BaseException) -> None:
        """It has ended."""
        self._end = self._broken or end
        self._mailbox.close()
        self._ended.set()
