"""The HTTP routes of ComfyUI's clients over our queue. Knows the parts of the server by what it uses of them.

Each route is there with ``/api`` before it too, but ``/api/jobs``, which is ours. Guard, limits and headers are those
of the server that these routes are part of.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.jobs.records import JobConflict, JobInfo, State, UnknownJob
from kineograph.graph_runtime.machine import spare_memory
from kineograph.graph_runtime.workflow import parse_json
from kineograph.interop.comfyui import records
from kineograph.interop.comfyui.importing import LARGEST_SEED
from kineograph.interop.comfyui.messages import Messages
from kineograph.interop.comfyui.node_info import object_info
from kineograph.interop.comfyui.sockets import serve_socket
from kineograph.interop.comfyui.submitting import PromptRefused, read_prompt, refused
from kineograph.interop.comfyui.user_files import user_routes
from kineograph.numerics import torch_version

ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
TOLD = ("execution_start", "execution_cached", "execution_success", "execution_error", "execution_interrupted")
UPLOADS = ("/upload/image", "/upload/mask")
MOST_LISTED = 1000
_PIECE = 1 << 20
routes = APIRouter(tags=["comfyui"])


def comfyui_routers() -> list[APIRouter]:
    """What ``create_app`` takes as ``routers``."""
    plain, below_api = APIRouter(), APIRouter(prefix="/api", include_in_schema=False)
    for router in (plain, below_api):
        for each in (routes, user_routes):
            router.include_router(each)
        router.add_api_websocket_route("/ws", serve_socket)
    return [plain, below_api]


def content_types(nbytes: int) -> dict[str, tuple[str, int]]:
    """What ``create_app`` takes as ``content_types``: where files are posted as forms, and how many bytes of them."""
    return {f"{prefix}{path}": ("multipart/form-data", nbytes) for prefix in ("", "/api") for path in UPLOADS}


def _parts(request: Request) -> Any:
    return request.app.state.parts


async def _json(request: Request) -> Any:
    """The body as strict JSON; seeds may have 64 bits."""
    return await run_in_threadpool(_parsed, await request.body())


def _parsed(content: bytes) -> Any:
    try:
        return parse_json(content.decode() or "{}", "the body", LARGEST_SEED)
    except UnicodeDecodeError:
        raise PromptRefused("invalid_json", "The body is not UTF-8.") from None
    except InvalidWorkflow as invalid:
        raise PromptRefused("invalid_json", str(invalid)) from None


# what there is


@routes.get("/features")
def features(request: Request) -> dict[str, Any]:
    """What a client may use."""
    return {"supports_preview_metadata": True, "max_upload_size": _parts(request).settings.limits.upload_bytes}


@routes.get("/system_stats")
def system_stats(request: Request) -> dict[str, Any]:
    """Memory and devices."""
    parts = _parts(request)
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ())
        else 0
    )
    system = {
        "os": sys.platform,
        "python_version": platform.python_version(),
        "pytorch_version": torch_version(),
        "comfyui_version": f"kineograph {request.app.version}",
        "embedded_python": False,
        "argv": [],
        "ram_total": memory,
        "ram_free": spare_memory(),
    }
    names = [worker.device or "cpu" for worker in parts.dispatcher.workers()]
    unknown = dict.fromkeys(("vram_total", "vram_free", "torch_vram_total", "torch_vram_free"), 0)
    devices = [{"name": name, "type": name.partition(":")[0], "index": at} | unknown for at, name in enumerate(names)]
    return {"system": system, "devices": devices}


@routes.get("/object_info")
def all_nodes(request: Request) -> Response:
    """All nodes."""
    return JSONResponse(object_info(_parts(request).runtime.registry))


@routes.get("/object_info/{name:path}")
def one_node(request: Request, name: str) -> Response:
    """One node; nothing where there is none."""
    found = object_info(_parts(request).runtime.registry)
    return JSONResponse({name: found[name]} if name in found else {})


@routes.get("/extensions")
@routes.get("/embeddings")
@routes.get("/experiment/models")
def nothing() -> list[str]:
    """There is none of these."""
    return []


@routes.get("/i18n")
@routes.get("/global_subgraphs")
def nothing_by_name() -> dict[str, Any]:
    """There is none of these."""
    return {}


# the queue


@routes.post("/prompt")
async def submit(request: Request) -> Response:
    """Put a prompt into the queue, if nothing at all is wrong with it."""
    try:
        body = await _json(request)
        if not isinstance(body, dict) or "prompt" not in body:
            raise PromptRefused("no_prompt", 'The body is an object with a "prompt".')
        return JSONResponse(await run_in_threadpool(_submit, _parts(request), cast(dict[str, Any], body)))
    except PromptRefused as reason:
        return JSONResponse(reason.to_json(), 400)


def _submit(parts: Any, body: dict[str, Any]) -> dict[str, Any]:
    targets, client, extra = (
        body.get("partial_execution_targets"),
        body.get("client_id", ""),
        body.get("extra_data", {}),
    )
    if not isinstance(client, str) or len(client) > 100 or not isinstance(extra, dict):
        raise PromptRefused("invalid_prompt", "client_id is a text of at most 100 letters, extra_data an object.")
    if targets is not None and not (isinstance(targets, list) and all(isinstance(each, str) for each in targets)):
        raise PromptRefused("invalid_prompt", "partial_execution_targets is a list of ids.")
    registry = parts.runtime.registry
    prompt = read_prompt(body["prompt"], registry, targets)
    try:
        workflow = parts.checked(prompt.workflow, {})
        parts.plan(workflow, {}, None)
    except InvalidWorkflow as invalid:
        raise refused(invalid.problems, body["prompt"], prompt, registry) from None
    about = {"prompt": body["prompt"], "extra_data": extra, "owners": prompt.owners, "targets": prompt.targets}
    number = body.get("number")
    job = parts.jobs.submit(
        prompt.workflow,
        {},
        title="From a ComfyUI client",
        client=client,
        packs=parts.settings.packs,
        front=bool(body.get("front")) or (isinstance(number, (int, float)) and number < 0),
        origin={records.ORIGIN: about},
    )
    return {"prompt_id": job.id, "number": job.number, "node_errors": {}, "notes": prompt.remarks}


@routes.get("/prompt")
def remaining(request: Request) -> dict[str, Any]:
    """How many jobs are left."""
    counts = _parts(request).jobs.counts()
    return {"exec_info": {"queue_remaining": counts.get("queued", 0) + counts.get("running", 0)}}


@routes.get("/queue")
def queue(request: Request) -> dict[str, Any]:
    """What runs and what waits."""
    jobs = _parts(request).jobs
    return {
        "queue_running": [records.queue_entry(job) for job in _some(jobs, ("running",), "queue", MOST_LISTED)],
        "queue_pending": [records.queue_entry(job) for job in _some(jobs, ("queued",), "queue", MOST_LISTED)],
    }


@routes.post("/queue")
async def change_queue(request: Request) -> Response:
    """Take jobs that wait out of the queue: those that are named, or all."""
    return await _forget(request, ("queued",))


@routes.post("/interrupt")
async def interrupt(request: Request) -> Response:
    """Stop what runs: the job that is named, or all that run. What waits goes on waiting."""
    try:
        body = await _json(request)
    except PromptRefused as reason:
        return JSONResponse(reason.to_json(), 400)
    wanted = body.get("prompt_id") if isinstance(body, dict) else None
    parts = _parts(request)

    def stop() -> None:
        for job in _some(parts.jobs, ("running",), "queue", MOST_LISTED):
            if wanted in (None, job.id):
                with suppress(UnknownJob):
                    parts.dispatcher.cancel(job.id)

    await run_in_threadpool(stop)
    return Response(status_code=200)


@routes.post("/free")
async def free(request: Request) -> Response:
    """Models leave memory by themselves when others need the room; nothing is to be done."""
    await request.body()
    return Response(status_code=200)


# the history


@routes.get("/history")
def history(
    request: Request,
    max_items: Annotated[int, Query(ge=0, le=MOST_LISTED)] = 200,
    offset: Annotated[int, Query(ge=-1, le=10**9)] = 0,
) -> dict[str, Any]:
    """Jobs that ended, the newest first. An offset of -1 counts from the end."""
    jobs = _parts(request).jobs
    if offset < 0:
        offset = max(0, jobs.list(states=ENDED, limit=1).total - max_items)
    found = _some(jobs, ENDED, "newest", max_items, offset)
    return {job.id: _entry(jobs, job) for job in found}


@routes.get("/history/{job}")
def one_of_history(request: Request, job: str) -> dict[str, Any]:
    """One job; nothing where there is none, or it has not ended."""
    jobs = _parts(request).jobs
    try:
        found = jobs.get(job)
    except UnknownJob:
        return {}
    return {job: _entry(jobs, found)} if found.state in ENDED else {}


@routes.post("/history")
async def change_history(request: Request) -> Response:
    """Forget jobs that ended: those that are named, or all; what they wrote is deleted."""
    return await _forget(request, ENDED)


async def _forget(request: Request, states: Sequence[State]) -> Response:
    try:
        body = await _json(request)
    except PromptRefused as reason:
        return JSONResponse(reason.to_json(), 400)
    found = cast(dict[str, Any], body) if isinstance(body, dict) else {}
    parts, named = _parts(request), found.get("delete")

    def forget() -> None:
        for job in _some(parts.jobs, states, "newest", 10**6):
            if found.get("clear") is True or (isinstance(named, list) and job.id in named):
                with suppress(UnknownJob, JobConflict):  # it is gone already, or was begun meanwhile
                    parts.jobs.delete(job.id)

    await run_in_threadpool(forget)
    return Response(status_code=200)


@routes.get("/jobs")
def listed(
    request: Request,
    status: Annotated[str, Query(max_length=200)] = "",
    sort_by: Annotated[str, Query(pattern="^(created_at|execution_duration)$")] = "created_at",
    sort_order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> Response:
    """Jobs, some at a time. (Below ``/api`` stands our own list.)"""
    names = {theirs: ours for ours, theirs in records.STATUS.items()}
    asked = [name for name in status.split(",") if name]
    if unknown := [name for name in asked if name not in names]:
        return JSONResponse({"error": f"There is no status {unknown[0]!r}; there are {', '.join(names)}."}, 400)
    states = cast(Sequence[State], [names[name] for name in asked] or list(records.STATUS))
    jobs = _parts(request).jobs
    if sort_by == "execution_duration":
        every = _some(jobs, states, "longest", 10**6)
        found = (every if sort_order == "desc" else every[::-1])[offset : offset + limit]
    else:
        found = _some(jobs, states, "newest" if sort_order == "desc" else "oldest", limit, offset)
    total = jobs.list(states=states, limit=1).total
    shown = {"offset": offset, "limit": limit, "total": total, "has_more": offset + len(found) < total}
    return JSONResponse({"jobs": [records.job_entry(job) for job in found], "pagination": shown})


@routes.get("/jobs/{job}")
def one_job(request: Request, job: str) -> Response:
    """All that is known of a job."""
    try:
        return JSONResponse(records.job_entry(_parts(request).jobs.get(job), whole=True))
    except UnknownJob:
        return JSONResponse({"error": "There is no such job."}, 404)


def _entry(jobs: Any, job: JobInfo) -> dict[str, Any]:
    told = Messages(job.id, records.posted(job))
    messages = [[kind, data] for each in records.events(jobs, job.id) for kind, data in told.of(each.event, each.at)]
    return records.history_entry(job, [message for message in messages if message[0] in TOLD])


def _some(jobs: Any, states: Sequence[State], order: str, limit: int, offset: int = 0) -> list[JobInfo]:
    """Jobs from a place in a list on."""
    found: list[JobInfo] = []
    cursor = ""
    while len(found) < offset + limit:
        page = jobs.list(states=states, order=order, limit=min(500, offset + limit - len(found)), cursor=cursor)
        found += page.jobs
        cursor = page.next
        if not cursor:
            break
    return found[offset : offset + limit]


# files


@routes.get("/view")
def view(
    request: Request,
    filename: Annotated[str, Query(max_length=500)],
    subfolder: Annotated[str, Query(max_length=500)] = "",
    type: Annotated[str, Query(pattern="^(input|output|temp)$")] = "output",  # noqa: A002  as clients call it
) -> Response:
    """Where a file is: an upload, or what a job wrote. No path reaches the disk: nothing else can be asked for."""
    parts = _parts(request)
    if type == "input":
        shown = "/".join(part for part in ("uploads", subfolder, filename) if part)
        ids = [named.id for named in parts.uploads.all() if named.shown == shown]
    else:
        job, _, folder = subfolder.partition("/")
        name = f"{folder}/{filename}" if folder else filename
        try:
            ids = [file.id for file in parts.jobs.get(job).outputs if file.name == name] if type == "output" else []
        except UnknownJob:
            ids = []
    if not ids:
        return JSONResponse({"error": "There is no such file."}, 404)
    return RedirectResponse(f"/api/files/{ids[-1]}", 307)


@routes.post("/upload/image")
@routes.post("/upload/mask")
async def upload(request: Request) -> Response:
    """Take a picture or video as a form sends it. The same bytes are kept once; others of that name get a number."""
    parts = _parts(request)
    async with request.form(max_files=1, max_fields=8) as form:
        image = form.get("image")
        if not isinstance(image, UploadFile) or not image.filename:
            return JSONResponse({"error": "The form has no file called image."}, 400)
        if form.get("subfolder") or form.get("type", "input") != "input":
            return JSONResponse({"error": "Uploads go into the input folder itself: leave subfolder out."}, 400)
        part = await parts.uploads.take(image.filename, _pieces(image))
        try:
            ask = {"do": "probe", "path": str(part), "name": image.filename}
            await run_in_threadpool(parts.media.ask, ask, parts.settings.limits.aside_seconds)
            if str(form.get("overwrite", "")).lower() in ("true", "1"):
                await run_in_threadpool(_remove, parts, image.filename)
            named = await run_in_threadpool(parts.uploads.keep, part, image.filename)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)
    return JSONResponse({"name": named.shown.partition("/")[2], "subfolder": "", "type": "input"})


def _remove(parts: Any, name: str) -> None:
    for named in parts.uploads.all():
        if named.shown == f"uploads/{name}":
            parts.uploads.delete(named)


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(_PIECE):
        yield piece
