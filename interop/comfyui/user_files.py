"""What ComfyUI's page keeps on its server: settings, and files of its user. Below one folder, small, and never run."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from kineograph.files import write_whole
from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.paths import inside
from kineograph.graph_runtime.workflow import parse_json

MOST_SETTINGS = 1 << 20
MOST_FILES = 2000
LONGEST = 1000
"""Bytes of a path."""
_CHANGING = threading.Lock()
"""The page changes several settings at once; what each adds is added to the last."""
user_routes = APIRouter(tags=["comfyui"])


def _folder(request: Request) -> Path:
    folder = request.app.state.parts.settings.data / "comfyui"
    (folder / "userdata").mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _place(root: Path, name: str) -> Path:
    """The path below a folder, also where the system would have no sentence for it.

    Raises:
        ValueError: it leads out, or is too long.
    """
    if len(name.encode()) > LONGEST:
        raise ValueError(f"A name has at most {LONGEST:,} bytes")
    return inside(root, name)


def _wrong(sentence: str, status: int = 400) -> Response:
    return JSONResponse({"error": sentence}, status)


@user_routes.get("/users")
def users() -> dict[str, Any]:
    """There is one user, and the server keeps its files."""
    return {"storage": "server", "migrated": True}


@user_routes.get("/settings")
def settings(request: Request) -> dict[str, Any]:
    """All settings of the page."""
    path = _folder(request) / "settings.json"
    return json.loads(path.read_bytes()) if path.is_file() else {}


@user_routes.get("/settings/{name}")
def setting(request: Request, name: str) -> Any:
    """One setting; null where it is not set."""
    return settings(request).get(name)


@user_routes.post("/settings")
async def change_settings(request: Request) -> Response:
    """Change some settings of the page; none of the server's is among them."""
    return await _change(request, None)


@user_routes.post("/settings/{name}")
async def change_setting(request: Request, name: str) -> Response:
    """Change one setting."""
    return await _change(request, name)


async def _change(request: Request, name: str | None) -> Response:
    return await run_in_threadpool(_changed, request, name, await request.body())


def _changed(request: Request, name: str | None, content: bytes) -> Response:
    try:
        found = parse_json(content.decode(), "the body")
    except (UnicodeDecodeError, InvalidWorkflow) as error:
        return _wrong(str(error))
    changed = found if name is None else {name: found}
    if not isinstance(changed, dict):
        return _wrong("Settings are a JSON object.")
    with _CHANGING:
        whole = settings(request) | cast(dict[str, Any], changed)
        text = json.dumps(whole)
        if len(text) > MOST_SETTINGS:
            return _wrong(f"Settings hold at most {MOST_SETTINGS:,} bytes.", 413)
        write_whole(_folder(request) / "settings.json", text.encode())
    return Response(status_code=200)


@user_routes.get("/userdata")
def files(
    request: Request,
    dir: Annotated[str, Query(max_length=300)] = "",  # noqa: A002  as clients call it
    recurse: bool = False,
    full_info: bool = False,
) -> Response:
    """The files of a folder of the user's."""
    root = _folder(request) / "userdata"
    try:
        folder = _place(root, dir.strip("/")) if dir.strip("/") else root
    except ValueError as error:
        return _wrong(f"{error}.")
    if not folder.is_dir():
        return _wrong("There is no such folder.", 404)
    found = [path for path in sorted(folder.rglob("*") if recurse else folder.glob("*")) if path.is_file()]
    names = [(path.relative_to(folder).as_posix(), path) for path in found[:MOST_FILES] if not path.is_symlink()]
    if not full_info:
        return JSONResponse([name for name, _ in names])
    sizes = [(name, path.stat()) for name, path in names]
    return JSONResponse([{"path": name, "size": at.st_size, "modified": int(at.st_mtime * 1000)} for name, at in sizes])


@user_routes.get("/userdata/{name:path}")
def read(request: Request, name: str) -> Response:
    """A file of the user's, as bytes to be saved: it is shown nowhere."""
    try:
        path = _place(_folder(request) / "userdata", name)
    except ValueError as error:
        return _wrong(f"{error}.")
    if not path.is_file():
        return _wrong("There is no such file.", 404)
    kind = "application/json" if path.suffix == ".json" else "application/octet-stream"
    return Response(path.read_bytes(), media_type=kind, headers={"Content-Disposition": "attachment"})


@user_routes.post("/userdata/{name:path}")
async def write(request: Request, name: str, overwrite: bool = True) -> Response:
    """Keep a file of the user's."""
    content = await request.body()
    root = _folder(request) / "userdata"
    try:
        path = _place(root, name)
    except ValueError as error:
        return _wrong(f"{error}.")
    if path.exists() and (path.is_dir() or not overwrite):
        return _wrong("There is such a file already.", 409)
    if sum(1 for _ in root.rglob("*")) >= MOST_FILES:
        return _wrong(f"There are {MOST_FILES:,} files already.", 413)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        return _wrong("A folder of that name is a file.", 409)
    await run_in_threadpool(write_whole, path, content)
    return JSONResponse(name)


@user_routes.delete("/userdata/{name:path}")
def delete(request: Request, name: str) -> Response:
    """Delete a file of the user's."""
    try:
        path = _place(_folder(request) / "userdata", name)
    except ValueError as error:
        return _wrong(f"{error}.")
    if not path.is_file():
        return _wrong("There is no such file.", 404)
    path.unlink()
    return Response(status_code=204)
