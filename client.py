"""A server's runtime from Python: what ``Runtime`` does here, ``Client`` has done there. Knows HTTP, loads no torch.

client = Client("http://127.0.0.1:8188")
result = client.run("workflows/text_to_video.json", {"prompt": "a green square moves up"}, out="out")
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx

from kineograph.graph_runtime.errors import Cancelled, InvalidWorkflow, NodeFailed, Problem, WorkflowError
from kineograph.graph_runtime.events import Event, FileWritten, Listener, event_of
from kineograph.graph_runtime.paths import inside
from kineograph.graph_runtime.workflow import Workflow, load_workflow

if TYPE_CHECKING:
    from kineograph.graph_runtime.runtime import WorkflowSource

SECONDS = 120.0
SECONDS_BETWEEN_LOOKS = 0.5
LAST = ("JobEnded", "JobDeleted")
"""Events after which a job tells nothing."""
TRIES = 20
"""To come back to a server that was restarted, one second apart."""
MEDIA = (".png", ".jpg", ".jpeg", ".webp", ".mp4", ".mov", ".m4v", ".mkv", ".webm")
PAGE = 5000
RESYNC = {"event": "Resync"}
EXAMPLE = "http://127.0.0.1:8188"
ENDED = ("done", "failed", "cancelled")


class ServerRefused(WorkflowError):
    """A server said no. ``status`` is that of HTTP, ``code`` the reason for programs."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


@dataclass(frozen=True)
class Outcome:
    """What a run on a server gave.

    Attributes:
        outputs: the small ones by name; what is large is a file.
        files: what effects wrote, as they lie here.
        job: the server's record of the run.
    """

    outputs: dict[str, Any]
    files: list[Path]
    ran: int
    cached: int
    seconds: float
    job: dict[str, Any] = field(repr=False)


class Client:
    """A server.

    Args:
        url: its address.
        token: where it needs one.
        seconds: to wait for an answer.

    Raises:
        ServerRefused: that is no address.
    """

    def __init__(self, url: str = EXAMPLE, token: str = "", *, seconds: float = SECONDS) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ServerRefused(0, "no_address", f"{url!r} is no address of a server; one is like {EXAMPLE}.")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self.token = token
        headers = {"Origin": self.url} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=seconds)

    def close(self) -> None:
        """Let go of its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Close it at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # --- as Runtime

    def describe(self) -> dict[str, Any]:
        """All nodes and types of the server."""
        return self._ask("GET", "/api/nodes")

    def problems(self, source: WorkflowSource, inputs: Mapping[str, Any] | None = None) -> list[Problem]:
        """All that is wrong with a workflow there; empty where it can run."""
        found = self._ask("POST", "/api/check", json=_work(source, inputs))
        return [Problem(**problem) for problem in found["problems"]]

    def plan(
        self, source: WorkflowSource, inputs: Mapping[str, Any] | None = None, *, outputs: Iterable[str] | None = None
    ) -> dict[str, dict[str, str]]:
        """Of each step its key, whether its result is kept there, and why an earlier one does not serve.

        Raises:
            InvalidWorkflow: with every problem found.
        """
        found = self._ask("POST", "/api/plan", json=_work(source, inputs, outputs))
        if not found["ok"]:
            raise InvalidWorkflow([Problem(**problem) for problem in found["problems"]])
        return found["nodes"]

    def estimate(
        self, source: WorkflowSource, inputs: Mapping[str, Any] | None = None, *, outputs: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """What a run would cost there, as ``kineograph plan --json`` prints it.

        Raises:
            InvalidWorkflow: with every problem found.
        """
        return self._ask("POST", "/api/estimate", json=_work(source, inputs, outputs))

    def run(
        self,
        source: WorkflowSource,
        inputs: Mapping[str, Any] | None = None,
        *,
        outputs: Iterable[str] | None = None,
        out: str | Path = ".",
        listen: Listener | None = None,
        cancel: threading.Event | None = None,
        **more: Any,
    ) -> Outcome:
        """Run a workflow there, wait, and bring its files here. Files that it names here are uploaded first.

        Args:
            source, inputs, outputs: as for ``Runtime.run``.
            out: the folder that files are brought to.
            listen: called with every event, in order; of a file with the path that it is brought to.
            cancel: set it from another thread to stop.
            more: of the job: title, tags, priority, front.

        Raises:
            InvalidWorkflow: before anything ran.
            NodeFailed: a node raised.
            Cancelled: it was stopped.
        """
        job = self.submit(source, inputs, outputs=outputs, **more)
        return self.wait(job["id"], out=out, listen=listen, cancel=cancel)

    # --- jobs

    def submit(
        self,
        source: WorkflowSource,
        inputs: Mapping[str, Any] | None = None,
        *,
        outputs: Iterable[str] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Put a job into the server's queue and return its record.

        Raises:
            InvalidWorkflow: with every problem found.
        """
        work = _work(source, inputs, outputs)
        try:
            return self._ask("POST", "/api/jobs", json=self._with_uploads(work) | more)
        except InvalidWorkflow as invalid:
            raise InvalidWorkflow([_not_here(problem, work) for problem in invalid.problems]) from None

    def wait(
        self,
        job: str,
        *,
        out: str | Path = ".",
        listen: Listener | None = None,
        cancel: threading.Event | None = None,
    ) -> Outcome:
        """Follow a job from its beginning to its end; see ``run``."""
        asked = False
        for event in self.events(job):
            if event is not None and listen is not None:
                listen(_as_here(event, Path(out)))
            if cancel is not None and cancel.is_set() and not asked:
                asked = True
                self.cancel(job)
        return self._outcome(self.job(job), Path(out))

    def events(self, job: str) -> Iterator[Event | None]:
        """The events of a job, from its first to its last, also where the server is restarted meanwhile.

        Yields:
            Events; None now and then, when nothing happens.
        """
        seen, tries = 0, TRIES
        while True:
            try:
                for seq, event in self._follow(job, seen):
                    seen, tries = max(seen, seq), TRIES
                    yield event
                return
            except OSError:
                tries -= 1
                if not tries:
                    raise
                threading.Event().wait(1.0)

    def jobs(self, **asked: Any) -> dict[str, Any]:
        """Jobs, some at a time: state, search, tag, starred, order, limit, cursor."""
        return self._ask("GET", "/api/jobs", params=asked)

    def job(self, job: str) -> dict[str, Any]:
        """All that is known of a job."""
        return self._ask("GET", f"/api/jobs/{job}")

    def cancel(self, job: str) -> dict[str, Any]:
        """Stop a job."""
        return self._ask("POST", f"/api/jobs/{job}/cancel")

    def finish(self, job: str) -> dict[str, Any]:
        """End the loop that a job runs after its pass; what follows runs with what it has."""
        return self._ask("POST", f"/api/jobs/{job}/finish")

    def retry(self, job: str) -> dict[str, Any]:
        """A new job with the same work."""
        return self._ask("POST", f"/api/jobs/{job}/retry")

    def metrics(self) -> str:
        """Numbers about the server, as Prometheus reads them."""
        return self._http.get("/metrics").text

    def system(self) -> dict[str, Any]:
        """What the server runs on."""
        return self._ask("GET", "/api/system")

    # --- files

    def upload(self, path: str | Path) -> str:
        """Send a picture or video; returns what a workflow there calls it."""
        path = Path(path)
        headers = {"Content-Type": "application/octet-stream"}
        with path.open("rb") as file:
            sent = self._ask("POST", "/api/uploads", params={"name": path.name}, content=file, headers=headers)
        return sent["path"]

    def download(self, file: str, path: Path) -> None:
        """Bring a file here."""
        with self._http.stream("GET", f"/api/files/{file}") as answer, path.open("wb") as target:
            if answer.status_code != 200:
                raise ServerRefused(answer.status_code, "not_found", f"{path.name} is no longer on the server.")
            for piece in answer.iter_bytes():
                target.write(piece)

    # --- inside

    def _ask(self, verb: str, path: str, **more: Any) -> Any:
        try:
            answer = self._http.request(verb, path, **more)
        except httpx.HTTPError as error:
            raise ServerRefused(
                0, "unreachable", f"{self.url} does not answer: {error or type(error).__name__}."
            ) from None
        if answer.status_code < 400:
            return answer.json() if answer.content else None
        try:
            error = answer.json()["error"]
        except (ValueError, KeyError, TypeError):
            error = {"code": "error", "message": f"{self.url} answers {answer.status_code}.", "problems": []}
        if error["code"] == "invalid_workflow":
            raise InvalidWorkflow([Problem(**problem) for problem in error["problems"]])
        raise ServerRefused(answer.status_code, error["code"], error["message"])

    def _follow(self, job: str, after: int) -> Iterator[tuple[int, Event | None]]:
        """A job's events by number: first those that are kept, then those that come."""
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect
        from websockets.typing import Origin

        address = self.url.replace("http", "ws", 1) + "/api/events"
        try:
            with connect(address, origin=Origin(self.url), max_size=None) as socket:
                socket.send(json.dumps({"token": self.token, "jobs": [job]}))
                json.loads(socket.recv())  # from here on nothing is missed
                ended, seen = self.job(job)["state"] in ENDED, after
                for logged in self._kept(job, after):
                    seen = logged["seq"]
                    yield seen, _event(logged["event"])
                    ended = ended or logged["event"]["event"] in LAST  # since it was asked about
                if ended:
                    return
                while True:
                    try:
                        heard = socket.recv(timeout=SECONDS_BETWEEN_LOOKS)
                    except TimeoutError:
                        yield seen, None
                        continue
                    logged = {} if isinstance(heard, bytes) else json.loads(heard)
                    if logged.get("event") == RESYNC:
                        raise ConnectionError(f"{self.url} had too much to tell.")  # what is kept says it again
                    if logged.get("job") != job or logged["seq"] <= seen:
                        continue
                    seen = logged["seq"]
                    yield seen, _event(logged["event"])
                    if logged["event"]["event"] in LAST:
                        return
        except (WebSocketException, ServerRefused) as error:
            if isinstance(error, ServerRefused) and error.status:
                raise
            raise ConnectionError(f"{self.url} does not answer any more.") from error

    def _kept(self, job: str, after: int) -> Iterator[dict[str, Any]]:
        """What is kept of what happened to a job, the oldest first."""
        while page := self._ask("GET", f"/api/jobs/{job}/events", params={"after": after, "limit": PAGE})["events"]:
            yield from page
            after = page[-1]["seq"]

    def _outcome(self, job: dict[str, Any], out: Path) -> Outcome:
        files: list[Path] = []
        for output in job["outputs"]:
            path = inside(out, output["name"])
            path.parent.mkdir(parents=True, exist_ok=True)
            self.download(output["id"], path)
            files.append(path)
        if job["state"] == "cancelled":
            raise Cancelled("the server")
        if job["state"] == "failed":
            error = job["error"]
            failed = NodeFailed(error["path"], error["node_type"], ValueError(error["message"]), error.get("inputs"))
            failed.args = (error["message"],)  # it names the place already
            raise failed
        return Outcome(job["values"], files, job["ran"], job["cached"], job["seconds"] or 0.0, job)

    def _with_uploads(self, work: dict[str, Any]) -> dict[str, Any]:
        """The same work with files that lie here sent there: of inputs, and of what is typed into nodes."""
        sent: dict[str, str] = {}

        def there(value: Any) -> Any:
            if not _is_media(value) or not Path(value).is_file():
                return value
            sent[value] = sent.get(value) or self.upload(value)
            return sent[value]

        workflow = dict(work["workflow"])
        specs: dict[str, dict[str, Any]] = workflow.get("inputs", {})
        given = {name: there(value) for name, value in work["inputs"].items()}
        workflow["inputs"] = {
            name: spec | ({"default": there(spec["default"])} if "default" in spec and name not in given else {})
            for name, spec in specs.items()
        }
        workflow["nodes"] = {
            name: spec
            | ({"params": {port: there(value) for port, value in spec["params"].items()}} if "params" in spec else {})
            for name, spec in workflow["nodes"].items()
        }
        return work | {"workflow": workflow, "inputs": given}


def _work(
    source: WorkflowSource, inputs: Mapping[str, Any] | None, outputs: Iterable[str] | None = None
) -> dict[str, Any]:
    workflow = source if isinstance(source, Workflow) else load_workflow(source)
    wanted = None if outputs is None else list(outputs)
    return {"workflow": json.loads(workflow.to_json()), "inputs": dict(inputs or {}), "outputs": wanted}


def _not_here(problem: Problem, work: dict[str, Any]) -> Problem:
    """The problem; where it is with a file that an input names, and that is not here either, with that too."""
    specs: dict[str, dict[str, Any]] = work["workflow"].get("inputs", {})
    named = [*work["inputs"].values(), *(spec.get("default") for spec in specs.values())]
    for path in filter(_is_media, named):
        if repr(path) in problem.message and not Path(path).is_file():
            return replace(problem, message=f"There is no file {path!r} here that could be sent. {problem.message}")
    return problem


def _is_media(value: Any) -> bool:
    """Whether a value may name a picture or video."""
    return isinstance(value, str) and value.lower().endswith(MEDIA)


def _as_here(event: Event, out: Path) -> Event:
    """The event; of a file with the path that it is brought to."""
    return replace(event, file=str(inside(out, event.file))) if isinstance(event, FileWritten) else event


def _event(event: dict[str, Any]) -> Event | None:
    """The event of a run; None for one of the queue."""
    if event["event"] == "FileWritten":  # a server says more of it
        event = {name: event[name] for name in ("event", "path", "file")}
    try:
        return event_of(event)
    except (KeyError, TypeError):  # of the queue, or of another version
        return None
