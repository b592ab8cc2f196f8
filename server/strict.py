"""Bodies of requests: strict JSON within limits, then strict models. Knows no route."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.workflow import parse_json
from kineograph.server.errors import Refused

_QUICK = 1 << 16
"""Bytes of JSON that are read at once; more would keep all other requests waiting."""


_FIELDS = 64
"""Of a body; what is wrong with it is told field by field, and that takes more room than the body."""


class Body(BaseModel):
    """What a request's body is: nothing is coerced, nothing unknown is let pass."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _StrictRequest(Request):
    async def json(self) -> Any:
        """The body, if it is strict JSON: no NaN, no key twice, at most 64 levels deep."""
        content = await self.body()
        return await run_in_threadpool(_parse, content) if len(content) > _QUICK else _parse(content)


def _parse(content: bytes) -> Any:
    try:
        found = parse_json(content.decode("utf-8"), "the body")
    except UnicodeDecodeError:
        raise Refused(400, "The body is not UTF-8.", code="invalid_json") from None
    except InvalidWorkflow as invalid:
        problem = invalid.problems[0]
        raise Refused(400, problem.message, invalid.problems, code="invalid_json") from None
    if isinstance(found, dict) and len(cast(dict[str, Any], found)) > _FIELDS:
        raise Refused(422, f"A body has at most {_FIELDS} fields.")
    return found


class _StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, which reads the body through ours."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


def router(tag: str) -> APIRouter:
    """A router whose bodies are strict JSON."""
    return APIRouter(route_class=_StrictRoute, tags=[tag])
