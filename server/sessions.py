"""Who has shown the token. The cookie of a browser is a session of its own, which ends when the server does."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers

COOKIE = "kineograph"
MOST = 1000
SECONDS = 30 * 24 * 3600.0


class Sessions:
    """The token, and the browsers that have shown it.

    Args:
        token: what a client must know; empty where nobody needs one.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._until: dict[str, float] = {}
        self._ended: list[Callable[[str], None]] = []

    @property
    def needed(self) -> bool:
        """Whether a token is needed."""
        return bool(self._token)

    def is_token(self, text: str) -> bool:
        """Whether a text is the token, in a time that does not depend on it."""
        return self.needed and secrets.compare_digest(text.encode(), self._token)

    def begin(self) -> str:
        """A new session, for whoever has shown the token; the oldest of too many ends."""
        while len(self._until) >= MOST:
            self.end(next(iter(self._until)))
        session = secrets.token_urlsafe(32)
        self._until[session] = time.time() + SECONDS
        return session

    def end(self, session: str) -> None:
        """End a session; whoever listens on it is told."""
        if self._until.pop(session, None) is not None:
            for listener in self._ended:
                listener(session)

    def on_end(self, listener: Callable[[str], None]) -> None:
        """Have ``listener`` called with every session that is ended."""
        self._ended.append(listener)

    def of(self, headers: Headers) -> str:
        """The session of a request's cookie, if it is one; else nothing."""
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return ""
        session = cookie.value if cookie is not None else ""
        return session if self._until.get(session, 0.0) > time.time() else ""

    def knows(self, headers: Headers) -> bool:
        """Whether a request comes with the token or a session; never, where none is needed."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return bool(self.of(headers)) or (scheme.lower() == "bearer" and self.is_token(given.strip()))
