"""The queue and its history: submit, look, change, cancel, run again."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from fastapi import Path, Query
from pydantic import Field

from kineograph.graph_runtime.jobs.records import STATES, JobInfo, State, UnknownJob
from kineograph.server.errors import Refused
from kineograph.server.routes.graphs import Work
from kineograph.server.state import Parts
from kineograph.server.strict import Body, router

routes = router("jobs")
JobId = Annotated[str, Path(pattern="^[0-9a-f]{1,64}$")]
LOOKED_AT = 8
"""Files that one request lets be looked at."""
Tag = Annotated[str, Field(min_length=1, max_length=60)]
Tags = Annotated[list[Tag], Field(max_length=30)]
Title = Annotated[str, Field(max_length=200)]
Priority = Annotated[int, Field(ge=-100, le=100)]
Seq = Annotated[int, Query(ge=0, lt=2**63)]


class NewJob(Work):
    """What to run, what people find it by, and where it goes in the queue."""

    title: Title = ""
    tags: Tags = Field(default_factory=list)
    priority: Priority = 0
    front: bool = False
    client: Annotated[str, Field(max_length=100)] = ""


class Change(Body):
    """What shall be different; what is left out stays."""

    title: Title | None = None
    tags: Tags | None = None
    starred: bool | None = None
    priority: Priority | None = None


class Move(Body):
    """Before which job that waits it shall run; behind all, where none is named."""

    before: Annotated[str, Field(max_length=64)] | None = None


@routes.post("/jobs", status_code=201)
def submit(new: NewJob, parts: Parts) -> dict[str, Any]:
    """Put a job into the queue, if nothing is wrong with it; when this answers, it cannot get lost."""
    workflow = parts.checked(new.workflow, new.inputs)
    parts.plan(workflow, new.inputs, new.outputs)
    job = parts.jobs.submit(
        new.workflow,
        new.inputs,
        outputs=new.outputs,
        priority=new.priority,
        front=new.front,
        title=new.title or workflow.about[:200],
        tags=new.tags,
        client=new.client,
        packs=parts.settings.packs,
    )
    return job.to_json()


@routes.get("/jobs")
def listed(
    parts: Parts,
    state: Annotated[str, Query(max_length=100)] = "",
    search: Annotated[str, Query(max_length=200)] = "",
    tag: Annotated[str, Query(max_length=60)] = "",
    starred: bool | None = None,
    order: Literal["newest", "oldest", "longest", "queue"] = "newest",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str, Query(max_length=200)] = "",
) -> dict[str, Any]:
    """Jobs, some at a time. ``state`` is one of them, or several with commas."""
    states = [name for name in state.split(",") if name]
    if unknown := [name for name in states if name not in STATES]:
        raise Refused(422, f"There is no state {unknown[0]!r}; there are {', '.join(STATES)}.")
    try:
        page = parts.jobs.list(
            states=cast(list[State], states),
            search=search,
            tag=tag,
            starred=starred,
            order=order,
            limit=limit,
            cursor=cursor,
        )
    except ValueError as error:
        raise Refused(422, str(error)) from None
    shown = [job.to_json() for job in page.jobs]
    queue = {"counts": parts.jobs.counts(), "paused": parts.jobs.paused}
    return {"jobs": shown, "next": page.next, "total": page.total} | queue


@routes.get("/jobs/{job}")
def one(job: JobId, parts: Parts) -> dict[str, Any]:
    """All that is known of a job, with its workflow."""
    found = _known(parts, job)
    if found.ended is not None and parts.facts.fill(found, LOOKED_AT):
        found = parts.jobs.get(job)
    return found.to_json()


@routes.patch("/jobs/{job}")
def change(job: JobId, new: Change, parts: Parts) -> dict[str, Any]:
    """Change its title, tags, star or priority."""
    return parts.jobs.change(job, **new.model_dump()).to_json()


@routes.delete("/jobs/{job}", status_code=204)
def delete(job: JobId, parts: Parts) -> None:
    """Forget a job that does not run, and delete what it wrote."""
    parts.jobs.delete(job)


@routes.post("/jobs/{job}/cancel")
def cancel(job: JobId, parts: Parts) -> dict[str, Any]:
    """Stop it: one that runs stops at the next step and keeps what it reached."""
    _known(parts, job)
    parts.dispatcher.cancel(job)
    return parts.jobs.get(job).to_json()


@routes.post("/jobs/{job}/finish")
def finish(job: JobId, parts: Parts) -> dict[str, Any]:
    """End the loop that runs after its pass: what follows it runs with what it has. 409 for a job that does not run."""
    _known(parts, job)
    if not parts.dispatcher.finish(job):
        raise Refused(409, "The job does not run.")
    return parts.jobs.get(job).to_json()


@routes.post("/jobs/{job}/retry", status_code=201)
def retry(job: JobId, parts: Parts) -> dict[str, Any]:
    """A new job with the same work, checked again: a file may be gone."""
    old = _known(parts, job)
    workflow = parts.checked(old.workflow or {}, old.inputs)
    parts.plan(workflow, old.inputs, None if old.wanted is None else list(old.wanted))
    return parts.jobs.retry(job).to_json()


@routes.post("/jobs/{job}/move")
def move(job: JobId, where: Move, parts: Parts) -> dict[str, Any]:
    """Let it run earlier or later."""
    return parts.jobs.move(job, where.before).to_json()


@routes.get("/jobs/{job}/events")
def events(
    job: JobId, parts: Parts, after: Seq = 0, limit: Annotated[int, Query(ge=1, le=5000)] = 1000
) -> dict[str, Any]:
    """What happened to it, the oldest first."""
    found = parts.jobs.events(job, after, limit)
    return {"events": [{"seq": each.seq, "at": each.at, "event": each.event} for each in found]}


@routes.get("/jobs/{job}/metrics")
def metrics(job: JobId, parts: Parts) -> dict[str, Any]:
    """The numbers that it plots: ``path name`` -> [step, value]."""
    return {"metrics": parts.jobs.metrics(job)}


@routes.post("/queue/pause", status_code=204)
def pause(parts: Parts) -> None:
    """Begin no more jobs."""
    parts.jobs.pause()


@routes.post("/queue/resume", status_code=204)
def resume(parts: Parts) -> None:
    """Begin jobs again."""
    parts.jobs.resume()


@routes.post("/queue/cancel-all")
def cancel_all(parts: Parts) -> dict[str, int]:
    """Stop all jobs that wait or run."""
    count = 0
    while waiting := parts.jobs.list(states=("queued",), order="queue", limit=500).jobs:
        count += sum(_cancelled(parts, job.id) for job in waiting)
    count += sum(_cancelled(parts, job.id) for job in parts.jobs.list(states=("running",), limit=500).jobs)
    return {"cancelled": count}


def _cancelled(parts: Parts, job: str) -> bool:
    """Cancel a job, unless somebody has just deleted it."""
    try:
        parts.dispatcher.cancel(job)
    except UnknownJob:
        return False
    return True


def _known(parts: Parts, job: str) -> JobInfo:
    try:
        return parts.jobs.get(job)
    except UnknownJob:
        raise Refused(404, "There is no such job.") from None
