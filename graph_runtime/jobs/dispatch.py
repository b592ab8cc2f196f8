"""Runs the jobs of a queue in worker processes, one for each device. Knows no node; imports no torch."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kineograph.graph_runtime.codecs import decode
from kineograph.graph_runtime.errors import Cancelled, InvalidWorkflow, NodeFailed, WorkerDied
from kineograph.graph_runtime.events import Event, FileWritten, event_json
from kineograph.graph_runtime.executors.job import Job
from kineograph.graph_runtime.executors.units import Delivered, Result, WorkUnit
from kineograph.graph_runtime.executors.worker import FACTORY, SECONDS_TO_LEAVE
from kineograph.graph_runtime.jobs import files
from kineograph.graph_runtime.jobs.attempts import Attempt, Ending, Waiting
from kineograph.graph_runtime.jobs.lane import Lane, WorkerInfo
from kineograph.graph_runtime.jobs.processes import wait_for_end
from kineograph.graph_runtime.jobs.queue import Jobs
from kineograph.graph_runtime.jobs.records import Logged, failure
from kineograph.graph_runtime.jobs.versions import versions
from kineograph.graph_runtime.jobs.warm import Labels, Line, LookAhead
from kineograph.graph_runtime.resume import KeepEvery
from kineograph.graph_runtime.store import DEFAULT_BYTES

SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_TO_TRY_AGAIN = 2.0
"""Where the end of a job cannot be written: the disk is full."""


class Dispatcher:
    """Runs what waits, each job on the first device that is free.

    Args:
        jobs: the queue.
        devices: one worker each; see ``WorkerExecutor``.
        store: the folder that results are kept in; empty keeps nothing, and then nothing resumes.
        store_bytes, keep_every, limit, node_limit, memory, previews: of every run; see ``WorkUnit``.
        packs: folders of packs that every job has, before its own.
        factory: what makes a worker's runtime.
        ahead: how far a job may overtake others whose models a worker has in memory.
    """

    def __init__(
        self,
        jobs: Jobs,
        devices: Sequence[str] = ("",),
        *,
        store: str | Path = "",
        store_bytes: int = DEFAULT_BYTES,
        keep_every: KeepEvery | None = None,
        limit: float = 0.0,
        node_limit: float = 0.0,
        memory: int = 0,
        previews: float = 0.0,
        packs: Sequence[str] = (),
        factory: str = FACTORY,
        ahead: LookAhead | None = None,
    ) -> None:
        self._jobs = jobs
        self._attempts = jobs.attempts
        self._unit = WorkUnit(
            {},
            packs=tuple(packs),
            store=str(Path(store).absolute()) if store else "",
            store_bytes=store_bytes,
            keep_every=keep_every or KeepEvery(),
            limit=limit,
            node_limit=node_limit,
            memory=memory,
            previews=previews,
            small_only=True,
        )
        self._lanes = [Lane(jobs.attempts, number, device, factory) for number, device in enumerate(devices)]
        self._line = Line(ahead or LookAhead())
        self._labels = Labels(jobs.attempts.workflow)
        self._choosing = threading.Lock()
        self._cleared = False
        self._change = threading.Condition()
        self._news = 0
        self._closing = self._at_once = False
        self._asked: Counter[str] = Counter()
        self._runs: dict[str, Job] = {}
        self._leave: Callable[[], None] = lambda: None
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"kineograph-jobs-{lane.device}", daemon=True)
            for lane in self._lanes
        ]

    def start(self) -> None:
        """Begin to run what waits."""
        self._leave = self._jobs.event_log.subscribe(self._hear)
        for thread in self._threads:
            thread.start()

    def close(self, *, at_once: bool = False) -> None:
        """Stop what runs, so that it goes on from there at the next start; what waits stays in the queue.

        Args:
            at_once: do not wait for a step or pass to end.
        """
        with self._change:
            self._closing, self._at_once = True, at_once
            self._change.notify_all()
        for thread in self._threads:
            thread.join()
        for lane in self._lanes:
            lane.close()
        self._attempts.forget_workers()
        self._leave()

    def workers(self) -> list[WorkerInfo]:
        """The workers, and what each of them does."""
        return [lane.info for lane in self._lanes]

    def subscribe(self, listener: Callable[[Logged], None]) -> Callable[[], None]:
        """Call a listener with every event of every job, in order; it must not wait. Returns what ends that."""
        return self._jobs.event_log.subscribe(listener)

    def cancel(self, job: str) -> None:
        """Stop a job between two steps or passes, so that what it reached is kept; the second time, at once."""
        self._jobs.cancel(job)

    def finish(self, job: str) -> bool:
        """End the loop that a job runs after its pass; what follows runs with what it has. Whether the job runs."""
        run = self._runs.get(job)
        if run is not None:
            run.finish()
        return run is not None

    # --- a worker's thread

    def _hear(self, logged: Logged) -> None:
        """Wake who waits for a job. This is called with the log locked: nothing here may ask the queue."""
        event = logged.event
        with self._change:
            if event["event"] == "JobChanged" and event.get("cancelling"):
                self._asked[logged.job] += 1
            if event["event"] in ("JobQueued", "JobChanged", "QueueChanged"):
                self._news += 1
                self._change.notify_all()

    def _work(self, lane: Lane) -> None:
        self._clear()
        while (attempt := self._next(lane)) is not None:
            self._settle(attempt, self._run(lane, attempt))
            with self._change:
                self._asked.pop(attempt.job, None)

    def _clear(self) -> None:
        """Wait for the processes that a killed server left: they may still write, and keep the states of loops."""
        with self._choosing:
            if not self._cleared:
                for pid, born in self._attempts.workers():
                    wait_for_end(pid, born, SECONDS_TO_LEAVE + 1.0)
                self._attempts.forget_workers()
            self._cleared = True

    def _next(self, lane: Lane) -> Attempt | None:
        """Begin the next job, waiting for one; None where the dispatcher is closed."""
        while not self._closing:
            news = self._news
            try:
                with self._choosing:
                    waiting = self._attempts.waiting(self._line.ahead.window)
                    attempt = self._begin(lane, waiting) if waiting else None
            except sqlite3.Error as fault:
                self._complain(f"No job can be begun: {fault}")
                continue
            if attempt is not None:
                return attempt
            if not waiting:
                self._wait(news)
        return None

    def _begin(self, lane: Lane, waiting: Sequence[Waiting]) -> Attempt | None:
        """Begin one of the jobs that wait, if it still does."""
        now = time.monotonic()
        gains = [lane.warm.gain(self._labels.of(*each.what).values()) for each in waiting]
        chosen = self._line.choose(waiting, gains, now)
        attempt = self._attempts.begin(waiting[chosen].job)
        if attempt is not None:
            self._line.taken(waiting, chosen, now)
        return attempt

    def _wait(self, news: int) -> None:
        """Until something happened since."""
        with self._change:
            self._change.wait_for(lambda: self._closing or self._news != news)

    def _run(self, lane: Lane, attempt: Attempt) -> Result | BaseException:
        packs = tuple(dict.fromkeys((*self._unit.packs, *attempt.packs)))
        folder = self._jobs.outputs / attempt.job

        def listen(event: Event) -> None:
            self._jobs.event_log.tell(attempt.job, attempt.number, _shown(event, attempt.job, folder))

        unit = replace(
            self._unit,
            workflow=attempt.workflow,
            inputs=attempt.inputs,
            outputs=attempt.wanted,
            out=str(folder.absolute()),
            packs=packs,
        )
        try:
            self._attempts.note_versions(attempt, *versions(packs))
            self._runs[attempt.job] = run = lane.begin(attempt, unit, listen)
            while not run.wait(SECONDS_BETWEEN_LOOKS):
                self._stop(run, attempt)
            return run.result()
        except Exception as error:  # noqa: BLE001  it is how the job ended
            return error
        finally:
            self._runs.pop(attempt.job, None)
            lane.ended()
            lane.warm.ran(self._labels.of(*attempt.what), self._jobs.event_log.timings(attempt.job))

    def _stop(self, run: Job, attempt: Attempt) -> None:
        """Ask a run to stop as often as somebody asked for it."""
        with self._change:
            asked = self._asked[attempt.job] + self._closing + self._at_once
        while run.asked < min(asked, 2):
            run.cancel()

    def _settle(self, attempt: Attempt, end: Result | BaseException) -> None:
        """Write down how an attempt ended, again and again while the disk does not take it."""
        while True:
            try:
                return self._write(attempt, end)
            except (sqlite3.Error, OSError) as fault:
                if self._complain(f"The end of job {attempt.number} cannot be written: {fault}"):
                    return None  # it runs again at the next start

    def _complain(self, sentence: str) -> bool:
        """Say that the disk takes nothing, and wait a while; whether the dispatcher was closed meanwhile."""
        print(sentence, file=sys.stderr)  # noqa: T201  whoever runs the server can help
        with self._change:
            return self._change.wait_for(lambda: self._closing, SECONDS_TO_TRY_AGAIN)

    def _write(self, attempt: Attempt, end: Result | BaseException) -> None:
        with self._change:
            asked, closing = self._asked[attempt.job], self._closing
        folder = self._jobs.outputs / attempt.job
        if isinstance(end, WorkerDied) and not end.late:
            self._attempts.again(attempt, end.what)
        elif isinstance(end, Cancelled) and closing and not asked:
            self._attempts.give_back(attempt)
        elif isinstance(end, Result):
            found = files.whole(folder, self._jobs.event_log.nodes(attempt.job))
            values = _values(end.outputs)
            ending = Ending(state="done", files=found, values=values, ran=end.ran, cached=end.cached)
            self._attempts.end(attempt, ending)
        else:
            told = self._jobs.event_log.nodes(attempt.job)
            found = [file for file in files.whole(folder, told) if file.node]
            if isinstance(end, Cancelled):
                self._attempts.end(attempt, Ending(state="cancelled", files=found))
            else:
                self._attempts.end(attempt, Ending(state="failed", error=_error(end), files=found))


def _shown(event: Event, job: str, folder: Path) -> dict[str, Any]:
    """An event as people see it: a file by its name and id, not by where the server keeps it."""
    shown = event_json(event)
    if isinstance(event, FileWritten):
        shown |= files.shown(job, folder, Path(event.file))
    return shown


def _values(outputs: Any) -> dict[str, Any]:
    """The outputs that are JSON."""
    assert isinstance(outputs, Delivered)
    found: dict[str, Any] = {}
    for name, output in outputs.raw.items():
        try:
            value = decode(output.text, ())
            json.dumps(value, allow_nan=False)
        except (ValueError, TypeError, KeyError):  # none came, or it is of a class: people see it as a file
            continue
        found[name] = value
    return found


def _error(end: BaseException) -> dict[str, Any]:
    """Why a job failed."""
    trace = str(end.__cause__) if end.__cause__ is not None else ""
    if isinstance(end, NodeFailed):
        return failure(str(end), path=end.path, node_type=end.node_type, traceback=trace, inputs=end.inputs)
    if isinstance(end, InvalidWorkflow):
        first = end.problems[0]
        path, _, wrong = first.place.partition(".")
        return failure(str(end), path=path, hint=first.hint, wrong=wrong)
    return failure(f"{type(end).__name__}: {end}", traceback=trace)
