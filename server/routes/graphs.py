"""Nodes, and what can be said of a workflow before it runs: checked, planned, estimated, written out for elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Header, Response
from pydantic import Field

from kineograph.graph_runtime.errors import InvalidWorkflow, Problem
from kineograph.graph_runtime.keys import first_difference, named_parts
from kineograph.graph_runtime.steps import Plan, Step
from kineograph.graph_runtime.store import Store
from kineograph.server.errors import as_json
from kineograph.server.state import Parts, State
from kineograph.server.strict import Body, router

routes = router("graphs")
Named = Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=1000)]


class Work(Body):
    """A workflow, values for its inputs, and which of its outputs are wanted; all by default."""

    workflow: dict[str, Any]
    inputs: dict[str, Any] = Field(default_factory=dict)
    outputs: Named | None = None


class Export(Body):
    """What shall be written out, and for what."""

    workflow: dict[str, Any]
    inputs: dict[str, Any] = Field(default_factory=dict)
    form: Annotated[Literal["python", "curl", "json"], Field(alias="as")] = "json"


@routes.get("/nodes")
def nodes(parts: Parts, if_none_match: Annotated[str, Header()] = "") -> Response:
    """All nodes and types, and which output fits which input."""
    content, etag = parts.described
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="application/json", headers=headers)


@routes.post("/check")
def check(work: Work, parts: Parts) -> dict[str, Any]:
    """All that is wrong with a workflow; nothing runs."""
    problems, plan = _planned(parts, work)
    left_out = plan.left_out if plan is not None else {}
    return {"ok": plan is not None, "problems": list(map(as_json, problems)), "left_out": left_out}


@routes.post("/plan")
def plan(work: Work, parts: Parts) -> dict[str, Any]:
    """What would run, under which keys; what is kept of earlier runs, or why that does not serve."""
    problems, found = _planned(parts, work)
    told = _steps(found, parts.runtime.store) if found is not None else {}
    return {"ok": found is not None, "problems": list(map(as_json, problems)), "nodes": told}


@routes.post("/estimate")
def estimate(work: Work, parts: Parts) -> dict[str, Any]:
    """What a run would cost, node by node: shapes, FLOPs, memory, time. Made in a process of its own."""
    workflow = parts.checked(work.workflow, work.inputs)
    parts.plan(workflow, work.inputs, work.outputs)
    request = {"workflow": work.workflow, "inputs": work.inputs, "outputs": work.outputs}
    answer = parts.estimates.ask(request, parts.settings.limits.aside_seconds)
    if "problems" in answer:
        raise InvalidWorkflow([Problem(*found) for found in answer["problems"]])
    return answer["estimate"]


@routes.post("/export")
def export(work: Export, parts: Parts) -> dict[str, str]:
    """A workflow as text for elsewhere: a file, a script, a line for a shell."""
    workflow = parts.checked(work.workflow, work.inputs)
    file = json.dumps(json.loads(workflow.to_json()), indent=1, ensure_ascii=False)
    if work.form == "json":
        return {"text": file}
    if work.form == "python":
        return {"text": _python(file, work.inputs)}
    body = json.dumps({"workflow": json.loads(workflow.to_json()), "inputs": work.inputs})
    return {"text": _curl(body, f"http://{parts.settings.host}:{parts.settings.port}", token=parts.sessions.needed)}


def _planned(parts: State, work: Work) -> tuple[list[Problem], Plan | None]:
    try:
        workflow = parts.checked(work.workflow, work.inputs)
        return [], parts.plan(workflow, work.inputs, work.outputs)
    except InvalidWorkflow as invalid:
        return list(invalid.problems), None


def _steps(plan: Plan, store: Store | None) -> dict[str, dict[str, str]]:
    """Of each step its key, where its result is kept, and why it runs or need not."""
    kept = {row.key for row in store.rows()} if store is not None else set[str]()
    needed = set(plan.outputs.values())
    told: dict[str, dict[str, str]] = {}
    for step in reversed(plan.steps):
        asked = (step.effect and not step.lazy) or any(slot in needed for _, slot in step.outputs)
        cached = "store" if step.stored and step.key in kept else ""
        if asked and not cached:
            needed.update(slot for _, slot in step.arguments)
        why = "" if cached else (_why(step, store) if asked else "what needs it is kept")
        told[step.path] = {"key": step.key, "cached": cached, "why": why}
    return dict(reversed(told.items()))


def _why(step: Step, store: Store | None) -> str:
    """Why a step runs, as a clause."""
    if step.effect:
        return "it writes files, so it always runs"
    if not step.stored:
        return "what it makes is never kept"
    before = store.newest(step.path) if store is not None else None
    parts: dict[str, str] = before.more.get("parts", {}) if before is not None else {}
    now = named_parts(*step.parts)
    if parts and (step.loop is not None or parts.get("node") == now["node"]):
        return first_difference(parts, now)
    return "nothing of it is kept: it never ran, or was quicker to make than to keep"


def _python(file: str, inputs: Mapping[str, Any]) -> str:
    given = "".join(f"    {name!r}: {value!r},\n" for name, value in inputs.items())
    return (
        "import json\n\nfrom kineograph import default_runtime\n\n"
        f"workflow = json.loads({file!r})\ninputs = {{\n{given}}}\n\n"
        'result = default_runtime().run(workflow, inputs, out="out")\nprint(dict(result.outputs))\n'
    )


def _curl(body: str, url: str, *, token: bool) -> str:
    quoted = "'" + body.replace("'", "'\\''") + "'"
    known = '-H "Authorization: Bearer $KINEOGRAPH_TOKEN"' if token else f"-H 'Origin: {url}'"
    return f"curl {url}/api/jobs {known} -H 'Content-Type: application/json' --data-raw {quoted}\n"
