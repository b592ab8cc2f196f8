"""What pictures and videos that jobs wrote hold: looked at once, in a helper process, and kept with the job."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress

from kineograph.graph_runtime.jobs.queue import Jobs
from kineograph.graph_runtime.jobs.records import JobInfo, Logged, OutputFile, UnknownJob
from kineograph.server.aside import Aside
from kineograph.server.errors import Refused
from kineograph.server.media_types import UPLOADS

FACTS = ("width", "height", "frames", "fps", "seconds")
SECONDS = 20.0
MOST = 64
"""Files of a job that are looked at."""


class Facts:
    """Looks at the files of every job that ends, one after another, on a thread of its own.

    Args:
        jobs: where facts are kept.
        media: the process that looks.
    """

    def __init__(self, jobs: Jobs, media: Aside) -> None:
        self._jobs = jobs
        self._media = media
        self._ended: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._look, name="kineograph-facts", daemon=True)
        self._thread.start()

    def hear(self, logged: Logged) -> None:
        """Take an event; never waits."""
        if logged.event["event"] == "JobEnded":
            self._ended.put(logged.job)

    def fill(self, job: JobInfo, most: int = MOST) -> bool:
        """Look at those files of a job that nobody looked at yet; whether there were some."""
        new = [file for file in job.outputs if file.media_type in UPLOADS and file.digest and not file.facts][:most]
        for file in new:
            facts = self._seen(file)
            if not self._closing:
                self._jobs.note_facts(file.id, facts)
        return bool(new)

    def close(self) -> None:
        """Look no more; what is looked at now is left for another time."""
        self._closing = True
        self._ended.put(None)
        self._media.close()
        self._thread.join(SECONDS)

    def _seen(self, file: OutputFile) -> dict[str, float | None]:
        try:
            found = self._media.ask({"do": "probe", "path": str(file.path), "name": "the file"}, SECONDS)
        except Refused:  # it is damaged, or of another kind than its name says
            return dict.fromkeys(FACTS)
        seconds = found["frames"] / found["fps"] if file.media_type.startswith("video/") else None
        return {name: found[name] for name in FACTS[:4]} | {"seconds": seconds}

    def _look(self) -> None:
        while (job := self._ended.get()) is not None:
            with suppress(UnknownJob):
                self.fill(self._jobs.get(job))
