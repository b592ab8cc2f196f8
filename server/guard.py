"""What every request must get past before a route sees it: host, origin, content type, size, token. Knows no route.

A server on a laptop is reachable from every web page its user opens: a name that was rebound to 127.0.0.1 is told by
its ``Host``, another site by its ``Origin``, a form by its content type (CORS lets forms send three, JSON is none).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kineograph.server.errors import CODES, Refused, envelope
from kineograph.server.sessions import Sessions
from kineograph.server.settings import LOOPBACK, Settings

SAFE = ("GET", "HEAD", "OPTIONS")
JSON = "application/json"
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9._-]{0,252}))(?::([0-9]{1,5}))?")
_PORTS = {"http": "80", "https": "443"}
_PUBLIC = ("/", "/login.js", "/login.css", "/favicon.ico", "/favicon.svg", "/api/session")
"""What a browser needs before it has a token; the editor's own files hold no secret either."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; font-src 'self'; connect-src 'self'; worker-src 'self'; manifest-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""For the editor's page: no inline script, nothing from elsewhere. (Styles may be inline: React sets them.)"""
FILE_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": FILE_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """An ASGI app around another.

    Args:
        app: what is guarded.
        settings: names, token and limits.
        sessions: who has shown the token.
        content_types: by path, what else than JSON its body may be.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, sessions: Sessions, content_types: dict[str, tuple[str, int]]
    ) -> None:
        self.app = app
        self.settings = settings
        self.sessions = sessions
        self.content_types = content_types

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with a limit to what is read and headers on what is answered."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            if scope["type"] == "websocket":
                self._check_origin(headers, known=bool(self.settings.token))
                await self.app(scope, receive, send)
                return
            receive = self._check(scope, headers, receive)
        except Refused as refused:
            await _refuse(scope, receive, send, refused)
            return
        await self.app(scope, receive, _with_headers(send))

    def _check(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        path, method = scope["path"], scope["method"]
        fetched_by = headers.get("sec-fetch-site", "none")
        if fetched_by in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
            raise Refused(403, "This address is not for other sites.")
        known = self.sessions.knows(headers)
        if method not in SAFE:
            self._check_origin(headers, known)
        if self.settings.token and not known and path not in _PUBLIC and not path.startswith("/assets/"):
            raise Refused(401, "This server needs its token: open the address that it printed when it started.")
        if method in SAFE:
            return receive
        content_type, most = self.content_types.get(path, (JSON, self.settings.limits.json_bytes))
        _check_content_type(headers, content_type)
        return _limited(receive, headers, most)

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        name = host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not self._is_ours(name):
            raise Refused(421, "This server does not answer to that name; start it with --allow-host NAME if it shall.")

    def _is_ours(self, name: str) -> bool:
        if name in (*LOOPBACK, self.settings.host, *self.settings.hosts):
            return True
        return bool(self.settings.token) and _is_address(name)  # a rebound name is never an address

    def _check_origin(self, headers: Headers, known: bool) -> None:
        """The page that asks is ours; programs, which send no origin, know the token."""
        origins = headers.getlist("origin")
        if not origins:
            if not known:
                raise Refused(403, "Say where this comes from: send an Origin header that is this server's address.")
        elif len(origins) > 1 or not _same(origins[0], headers["host"]):
            raise Refused(403, "Another site may not do this.")


def host_name(host: str) -> str | None:
    """The name in a ``Host`` header, without the port; None where it is none."""
    found = _HOST.fullmatch(host.lower())
    return found[1] if found and (not found[2] or int(found[2]) < 65536) else None


def _same(origin: str, host: str) -> bool:
    """Whether an ``Origin`` is that of the address in ``Host``: scheme and nothing but scheme, name and port."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in _PORTS or origin.lower() != f"{parts.scheme}://{parts.netloc}".lower():
        return False
    default = _PORTS[parts.scheme]
    return parts.netloc.lower().removesuffix(f":{default}") == host.lower().removesuffix(f":{default}")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _check_content_type(headers: Headers, wanted: str) -> None:
    found = headers.getlist("content-type")
    empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if not found and empty:
        return
    if len(found) != 1 or found[0].partition(";")[0].strip().lower() != wanted:
        raise Refused(415, f"Send this as Content-Type: {wanted}.")


def _limited(receive: Receive, headers: Headers, most: int) -> Receive:
    """A way to read a body that ends when there is too much of it; what says so beforehand is not read at all."""
    told = headers.get("content-length", "0")
    refused = Refused(413, f"At most {most:,} bytes are taken here.")
    if not told.isdecimal() or int(told[:20]) > most:
        raise refused
    count = 0

    async def limited() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > most:
            raise refused
        return message

    return limited


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


async def _refuse(scope: Scope, receive: Receive, send: Send, refused: Refused) -> None:
    code = CODES.get(refused.status_code, "forbidden")
    response = JSONResponse(envelope(code, refused.detail), refused.status_code, {"Connection": "close"})
    if scope["type"] == "websocket":
        extensions: Iterable[Any] = scope.get("extensions") or ()
        if "websocket.http.response" not in extensions:
            await send({"type": "websocket.close", "code": 1008})
            return
    await response(scope, receive, _with_headers(send))
