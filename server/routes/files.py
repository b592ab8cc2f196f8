"""Files by opaque ids: what jobs wrote, uploads, examples. Nothing else of the disk can be asked for."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Header, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.jobs.records import UnknownJob
from kineograph.graph_runtime.workflow import parse_json
from kineograph.server import media_types
from kineograph.server.errors import Refused
from kineograph.server.state import Parts, State
from kineograph.server.strict import router
from kineograph.server.uploads import Named, clean_name

routes = router("files")
FileId = Annotated[str, InPath(pattern="^[A-Za-z0-9_-]{1,64}$")]
IfNoneMatch = Annotated[str, Header()]


@dataclass(frozen=True)
class Found:
    """A file of an id: where it lies now, what people call it, and what may be done with it."""

    path: Path
    name: str
    media_type: str
    etag: str
    """What changes when the file does."""


@routes.get("/files/{file}", response_class=FileResponse)
async def content(file: FileId, request: Request, parts: Parts, if_none_match: IfNoneMatch = "") -> Response:
    """The bytes of a file, or a range of them."""
    found = await run_in_threadpool(_find, parts, file)
    headers = media_types.headers(found.name, found.media_type) | {"ETag": found.etag, "Cache-Control": "no-cache"}
    if found.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    if "," in request.headers.get("range", ""):  # many ranges at once are an attack, or a mistake: all of it serves
        request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
    return FileResponse(found.path, headers=headers, media_type=found.media_type)


@routes.get("/files/{file}/strip")
def strip(
    file: FileId,
    parts: Parts,
    count: Annotated[int, Query(ge=1, le=64)] = 12,
    height: Annotated[int, Query(ge=8, le=512)] = 72,
    if_none_match: IfNoneMatch = "",
) -> Response:
    """Frames of a video side by side, evenly chosen, as one PNG."""
    return _picture(parts, file, {"do": "strip", "count": count, "height": height}, if_none_match)


@routes.get("/files/{file}/frame")
def frame(
    file: FileId, parts: Parts, n: Annotated[int, Query(ge=-(2**31), lt=2**31)] = 0, if_none_match: IfNoneMatch = ""
) -> Response:
    """One frame of a video as a PNG; a negative number counts from the end."""
    return _picture(parts, file, {"do": "frame", "n": n}, if_none_match)


@routes.get("/files/{file}/workflow")
def workflow(file: FileId, parts: Parts) -> dict[str, Any]:
    """The workflow that a video or picture carries. It is a stranger's: nothing runs before somebody says so."""
    found = _find(parts, file)
    carries = carried(_look(parts, found).get("carries", ""))
    if carries is None:
        raise Refused(404, "The file carries no workflow.")
    return {"workflow": carries}


@routes.get("/uploads")
def uploads(parts: Parts) -> dict[str, Any]:
    """All files that a workflow may read as ``uploads/...`` or ``examples/...``."""
    return {"uploads": [named.to_json() for named in parts.uploads.all()]}


@routes.post(
    "/uploads",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload(
    request: Request, parts: Parts, name: Annotated[str, Query(min_length=1, max_length=120)]
) -> dict[str, Any]:
    """Take a picture or a video. Its bytes say what it is; it is looked at in a process that may be killed."""
    return await take_upload(parts, name, request)


@routes.delete("/uploads/{file}", status_code=204)
def delete(file: FileId, parts: Parts) -> None:
    """Delete an upload."""
    named = parts.uploads.get(file)
    if named is None:
        raise Refused(404, "There is no such file.")
    parts.uploads.delete(named)


async def take_upload(parts: State, name: str, request: Request) -> dict[str, Any]:
    """Keep the body of a request as an upload, and say what it holds."""
    part = await parts.uploads.take(name, request.stream())
    try:
        ask = {"do": "probe", "path": str(part), "name": clean_name(name)}
        seen = await run_in_threadpool(parts.media.ask, ask, parts.settings.limits.aside_seconds)
        named = await run_in_threadpool(parts.uploads.keep, part, name)
    finally:
        part.unlink(missing_ok=True)
    facts = {fact: seen[fact] for fact in ("width", "height", "frames", "fps")}
    return named.to_json() | facts | {"workflow": carried(seen["carries"])}


def carried(text: str) -> dict[str, Any] | None:
    """The workflow in the text that a file carries, if it is strict JSON and an object."""
    if not text:
        return None
    try:
        found = parse_json(text, "the workflow")
    except InvalidWorkflow:
        return None
    return found if isinstance(found, dict) else None


def _find(parts: State, file: str) -> Found:
    """The file of an id, if it is still where it was: no link leads out of its folder."""
    named: Named | None = parts.uploads.get(file) if file.startswith("u") else None
    if named is not None:
        path, name, root = named.path, named.path.name, named.path.parent
    else:
        try:
            output = parts.jobs.file(file)
        except UnknownJob:
            raise Refused(404, "There is no such file.") from None
        path, name, root = output.path, Path(output.name).name, parts.jobs.outputs / output.job
    real = path.resolve()
    if not real.is_relative_to(root.resolve()) or not real.is_file():
        raise Refused(404, "The file is no longer there.")
    try:
        kind, status = media_types.media_type(real), real.stat()
    except FileNotFoundError:
        raise Refused(404, "The file is no longer there.") from None
    return Found(real, name, kind, f'"{status.st_mtime_ns:x}-{status.st_size:x}"')


def _look(parts: State, found: Found) -> dict[str, Any]:
    ask = {"do": "probe", "path": str(found.path), "name": found.name}
    return parts.media.ask(ask, parts.settings.limits.aside_seconds)


def _picture(parts: State, file: str, ask: dict[str, Any], seen: str) -> Response:
    """A picture that the helper makes of a file; none, where the browser has it already."""
    found = _find(parts, file)
    headers = {"ETag": found.etag, "Cache-Control": "no-cache"}
    if found.etag in seen:
        return Response(status_code=304, headers=headers)
    answer = parts.media.ask(ask | {"path": str(found.path), "name": found.name}, parts.settings.limits.aside_seconds)
    return Response(base64.b64decode(answer["png"]), media_type="image/png", headers=headers)
