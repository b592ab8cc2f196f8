"""Every refusal as one kind of JSON: a code, a sentence, and the problems with their places. Knows no route."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException

from kineograph.graph_runtime.errors import InvalidWorkflow, Problem

LOG = logging.getLogger("kineograph.server")
CODES = {
    400: "bad_request",
    401: "token_needed",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "wrong_content_type",
    421: "wrong_host",
    422: "invalid_request",
    503: "busy",
}
_MOST_PROBLEMS = 200


class Refused(HTTPException):
    """A request that is refused, with the sentence that a person reads.

    Args:
        status: of HTTP.
        message: the sentence.
        problems: each with its place.
        code: for programs; the usual one of the status by default.
        more: further fields of the answer, beside ``error``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        problems: Sequence[Problem] = (),
        *,
        code: str = "",
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, message)
        self.problems = problems
        self.code = code or CODES.get(status, "error")
        self.more = dict(more or {})


def envelope(code: str, message: str, problems: Sequence[Problem] = ()) -> dict[str, Any]:
    """The body of a refusal."""
    listed = [as_json(problem) for problem in problems[:_MOST_PROBLEMS]]
    return {"error": {"code": code, "message": message, "problems": listed}}


def as_json(problem: Problem) -> dict[str, str]:
    """A problem as JSON."""
    return {"place": problem.place, "message": problem.message, "hint": problem.hint}


def answer_errors(app: FastAPI) -> None:
    """Have an app answer every error in this one form."""

    @app.exception_handler(AnyHTTPException)
    async def refused(_: Request, error: AnyHTTPException) -> JSONResponse:
        if isinstance(error, Refused):
            content = envelope(error.code, error.detail, error.problems) | error.more
        else:
            content = envelope(CODES.get(error.status_code, "error"), f"{error.detail}.")
        return JSONResponse(content, error.status_code, headers=error.headers)

    @app.exception_handler(InvalidWorkflow)
    async def invalid(_: Request, error: InvalidWorkflow) -> JSONResponse:
        return JSONResponse(envelope("invalid_workflow", summary(error.problems), error.problems), 422)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = [_problem(cast(dict[str, Any], found)) for found in error.errors()]
        return JSONResponse(envelope("invalid_request", summary(problems), problems), 422)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        route = getattr(request.scope.get("route"), "path", "")
        at = traceback.extract_tb(error.__traceback__)[-1]
        LOG.error("%s %s broke: %s in %s, line %s", request.method, route, type(error).__name__, at.name, at.lineno)
        LOG.debug("its traceback", exc_info=error)
        message = "Something unexpected happened in the server; its log says where."
        return JSONResponse(envelope("internal", message), 500)


def without_values(record: logging.LogRecord) -> bool:
    """A filter of logs: where something broke stays, its traceback with names and paths goes."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        at = traceback.extract_tb(error.__traceback__)[-1]
        record.msg, record.args = (
            "%s: %s in %s, line %s",
            (
                record.getMessage().strip(),
                type(error).__name__,
                at.name,
                at.lineno,
            ),
        )
        record.exc_info = record.exc_text = None
    return True


def summary(problems: Sequence[Problem]) -> str:
    """One sentence for many."""
    if len(problems) == 1:
        return str(problems[0])
    return f"{len(problems)} things are wrong: {problems[0]} ..." if problems else "It cannot run."


def _problem(found: dict[str, Any]) -> Problem:
    """What pydantic found, without the value, which may be large or private."""
    place = ".".join(str(part) for part in found["loc"] if part not in ("body", "query", "path"))
    return Problem(place, f"{str(found['msg']).rstrip('.')}.")
