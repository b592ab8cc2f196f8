"""What the tests of the server share: the app over a queue of its own, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, chdir, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from kineograph import default_runtime
from kineograph.graph_runtime.jobs.dispatch import Dispatcher
from kineograph.graph_runtime.jobs.queue import Jobs
from kineograph.server.app import create_app
from kineograph.server.settings import Settings

ROOT = Path(__file__).parent.parent
URL = "http://127.0.0.1:8188"
EVENTS = "ws://127.0.0.1:8188/api/events"
ADD = {"nodes": {"sum": {"type": "toy/add@1", "params": {"a": 1, "b": 2}}}, "outputs": {"sum": "sum"}}
TOY = '''
import time
from typing import Annotated

from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.paths import output_file


@node
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@node
def slow(run: RunContext, steps: int = 50, seconds: float = 0.05) -> int:
    """Report progress, slowly."""
    for step in range(steps):
        time.sleep(seconds)
        run.progress(step + 1, steps)
        run.metric("loss", step, 1.0 / (step + 1))
    return steps


@node
def fails(why: str = "it must") -> int:
    """Fail."""
    raise ValueError(why)


@node(effect=True)
def save_words(run: RunContext, path: Annotated[str, output_file(".txt", ".html", ".svg", ".png")], text: str) -> None:
    """Write text, whatever the file is called."""
    target = run.output_path(path)
    target.write_text(text)
    run.wrote(target)
'''


@dataclass
class Served:
    """An app, and a client that is a page of it."""

    app: FastAPI
    client: TestClient
    jobs: Jobs
    data: Path

    def submit(self, workflow: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Put a job into the queue."""
        answer = self.client.post("/api/jobs", json={"workflow": workflow, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()


@contextmanager
def serving(
    folder: Path,
    *,
    run: bool = False,
    client: dict[str, Any] | None = None,
    app: dict[str, Any] | None = None,
    previews: float = 0.0,
    **settings: Any,
) -> Iterator[Served]:
    """The app in a folder, which becomes the working directory, as ``kineograph serve`` does it.

    Args:
        folder: what it keeps lies in ``data`` below it, its packs in ``packs``.
        run: whether jobs are run; else they wait.
        client: of the test's client, what shall be different.
        app: of the app, what shall be added.
        previews: seconds between pictures of a run.
        settings: of the server, what shall be different.
    """
    data, packs = folder / "data", folder / "packs"
    data.mkdir()
    packs.mkdir()
    (packs / "toy.py").write_text(TOY)
    (data / "examples").symlink_to(ROOT / "workflows" / "clips")
    roots = {"templates": ROOT / "workflows", "models": ROOT / "nodes" / "pretrained"}
    made = Settings(data=data, **{"packs": (str(packs),)} | roots | settings)
    with ExitStack() as open_:
        open_.enter_context(chdir(data))
        jobs = open_.enter_context(closing(Jobs(data)))
        dispatcher = open_.enter_context(closing(Dispatcher(jobs, packs=made.packs, previews=previews)))
        served = create_app(default_runtime(made.packs), jobs, dispatcher, made, **app or {})
        dispatcher.start()
        if not run:
            jobs.pause()
        with TestClient(served, **{"base_url": URL, "headers": {"Origin": URL}} | (client or {})) as page:
            yield Served(served, page, jobs, data)
