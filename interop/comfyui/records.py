"""Jobs as ComfyUI's clients know them: entries of the queue, of the history, and of ``/jobs``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, cast

from kineograph.graph_runtime.jobs.records import JobInfo, Logged, OutputFile
from kineograph.interop.comfyui.messages import Messages
from kineograph.interop.comfyui.pack_nodes import UI_FILE

ORIGIN = "comfyui"
"""Where a job keeps what it was posted as."""
STATUS = {
    "queued": "pending",
    "running": "in_progress",
    "done": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
_MOVES = ("image/webp", "image/gif")


def posted(job: JobInfo) -> dict[str, Any]:
    """What a job was posted as; of one that came another way, nothing."""
    return cast(dict[str, Any], (job.origin or {}).get(ORIGIN) or {})


def events(jobs: Any, job: str) -> Iterator[Logged]:
    """All that is kept of what happened to a job, the oldest first."""
    after = 0
    while page := jobs.events(job, after):
        yield from page
        after = page[-1].seq


def owner(job: JobInfo, path: str) -> str:
    """The id of the posted node that a place of a run belongs to; the place itself in a job that was not posted so."""
    return owner_of(posted(job).get("owners") or {}, path)


def owner_of(owners: dict[str, str], path: str) -> str:
    """As ``owner``, for what is known of a job's nodes."""
    name = path.partition("/")[0]
    return owners.get(name, name)


def queue_entry(job: JobInfo) -> list[Any]:
    """A job as an entry of ``/queue``: number, id, prompt, what came with it, and the nodes that leave something."""
    about = posted(job)
    return [job.number, job.id, about.get("prompt", {}), about.get("extra_data", {}), about.get("targets", [])]


def history_entry(job: JobInfo, messages: Iterable[list[Any]]) -> dict[str, Any]:
    """A job as an entry of ``/history``."""
    good = job.state == "done"
    return {
        "prompt": queue_entry(job),
        "outputs": outputs(job),
        "status": {"status_str": "success" if good else "error", "completed": good, "messages": list(messages)},
        "meta": {},
    }


def outputs(job: JobInfo) -> dict[str, Any]:
    """What the nodes of a job left, by their ids."""
    found: dict[str, Any] = {}
    for file in job.outputs:
        node = owner(job, file.node)
        for kind, values in shown(file).items():
            found.setdefault(node, {}).setdefault(kind, []).extend(values)
    return found


def shown(file: OutputFile) -> dict[str, list[Any]]:
    """What a file of a run is to a client: a picture or video to be viewed, or what a node said in it."""
    if file.name.startswith(UI_FILE.partition("{")[0]) and file.name.endswith(".json"):
        return said(file)
    folder, _, name = file.name.rpartition("/")
    view = {"filename": name, "subfolder": f"{file.job}/{folder}".rstrip("/"), "type": "output"}
    moves = file.media_type.startswith("video/") or file.media_type in _MOVES
    if file.media_type.startswith(("image/", "video/")):
        return {"images": [view]} | ({"animated": [True]} if moves else {})
    return {"files": [view]}


def said(file: OutputFile) -> dict[str, list[Any]]:
    """What a node of a pack showed (its ``ui``)."""
    try:
        found = json.loads(file.path.read_bytes()[: 1 << 20])
    except (OSError, ValueError):
        return {}
    return (
        {str(name): value for name, value in found.items() if isinstance(value, list)}
        if isinstance(found, dict)
        else {}
    )


def job_entry(job: JobInfo, *, whole: bool = False) -> dict[str, Any]:
    """A job as ``/jobs`` lists it."""
    left = outputs(job)
    views = [
        view | {"nodeId": node, "mediaType": "video" if "animated" in kinds else "images"}
        for node, kinds in left.items()
        for view in kinds.get("images", [])
    ]
    texts = [
        {"nodeId": node, "mediaType": "text", "content": str(text)}
        for node, kinds in left.items()
        for text in kinds.get("text", [])
    ]
    found: dict[str, Any] = {
        "id": job.id,
        "status": STATUS[job.state],
        "priority": job.number,
        "create_time": _milliseconds(job.created),
        "execution_start_time": _milliseconds(job.started),
        "execution_end_time": _milliseconds(job.ended),
        "execution_error": execution_error(job) if job.state == "failed" else None,
        "outputs_count": len(views) + len(texts),
        "preview_output": next(iter([*views, *texts]), None),
        "workflow_id": None,
    }
    if whole:
        about = posted(job)
        found |= {
            "outputs": left,
            "workflow": {"prompt": about.get("prompt", {}), "extra_data": about.get("extra_data", {})},
        }
    return found


def execution_error(job: JobInfo) -> dict[str, Any]:
    """What failed: the node, its class, the sentence, the traceback and what it was given."""
    error = job.error or {}
    return Messages(job.id, posted(job)).error(error, _milliseconds(job.ended) or 0)


def _milliseconds(at: float | None) -> int | None:
    return None if at is None else int(at * 1000)
