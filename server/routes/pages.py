"""Pages for browsers: the editor, the one that asks for the token, the API for people. Nothing is from elsewhere."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from kineograph import __version__
from kineograph.server.guard import PAGE_POLICY
from kineograph.server.state import Parts
from kineograph.server.strict import router

routes = router("pages")
STATIC = Path(__file__).parent.parent / "static"
_PAGE = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"}
_METHODS = ("get", "post", "put", "patch", "delete")


@routes.get("/", include_in_schema=False)
def editor(request: Request, parts: Parts) -> Response:
    """The editor; before the token is shown, the page that asks for it."""
    if parts.sessions.needed and not parts.sessions.knows(request.headers):
        return FileResponse(STATIC / "login.html", headers=_PAGE)
    built = parts.settings.editor
    if built is None or not (built / "index.html").is_file():
        return FileResponse(STATIC / "no_editor.html", headers=_PAGE)
    return FileResponse(built / "index.html", headers=_PAGE)


@routes.get("/login.js", include_in_schema=False)
def login_script() -> Response:
    """What shows the token to the server."""
    return FileResponse(STATIC / "login.js", headers=_PAGE)


@routes.get("/favicon.svg", include_in_schema=False)
@routes.get("/favicon.ico", include_in_schema=False)
def icon(request: Request, parts: Parts) -> Response:
    """The editor's icon."""
    found = parts.settings.editor / request.url.path.lstrip("/") if parts.settings.editor is not None else None
    if found is None or not found.is_file():
        return Response(status_code=204)
    return FileResponse(found, headers=_PAGE)


@routes.get("/api/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """The API for people, as one plain page."""
    return HTMLResponse(_docs(request.app.openapi()), headers=_PAGE)


class _Assets(StaticFiles):
    """The editor's files; their names hold a digest, so they never change."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                extra = {**_PAGE, "Cache-Control": "public, max-age=31536000, immutable"}
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in extra.items()]
            await send(message)

        await super().__call__(scope, receive, sending)


def assets(built: Path | None) -> Mount | None:
    """The route of the editor's files, where it is built."""
    folder = built / "assets" if built is not None else None
    return Mount("/assets", _Assets(directory=folder)) if folder is not None and folder.is_dir() else None


def _docs(schema: dict[str, Any]) -> str:
    rows = (
        _route(path, method, about[method], schema["components"]["schemas"])
        for path, about in schema["paths"].items()
        for method in _METHODS
        if method in about
    )
    page = (STATIC / "docs.html").read_text(encoding="utf-8")
    return page.replace("VERSION", escape(__version__)).replace("ROUTES", "".join(rows))


def _route(path: str, method: str, about: dict[str, Any], models: dict[str, Any]) -> str:
    """A row: what is asked for, what that does, and what it takes."""
    taken = [each["name"] for each in about.get("parameters", ()) if each["in"] == "query"]
    for kind, content in about.get("requestBody", {}).get("content", {}).items():
        model = models.get(content["schema"].get("$ref", "").rpartition("/")[2])
        taken.append(f"{{{', '.join(model['properties'])}}}" if model is not None else kind)
    told = escape(about.get("description", "").replace("``", ""))
    return (
        f"<tr><td><code>{method.upper()}</code><td><code>{escape(path)}</code>"
        f"<td>{told}<br><code>{escape(', '.join(taken))}</code>"
    )
