"""Drafts: what is on the canvas, kept with every change."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from pydantic import Field

from kineograph.server.errors import Refused
from kineograph.server.state import Parts
from kineograph.server.strict import Body, router

routes = router("drafts")
DraftId = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$")]
Revision = Annotated[int, Path(ge=1, lt=2**31)]


class Draft(Body):
    """What stands on the canvas, and the revision it began from: null for a new draft."""

    document: Any
    title: Annotated[str, Field(max_length=200)] = ""
    base: Annotated[int, Field(ge=1, lt=2**31)] | None = None


@routes.get("/drafts")
def listed(parts: Parts) -> dict[str, Any]:
    """All drafts, the newest first."""
    return {"drafts": parts.drafts.list()}


@routes.get("/drafts/{draft}")
def one(draft: DraftId, parts: Parts) -> dict[str, Any]:
    """A draft as it is now."""
    return parts.drafts.get(draft)


@routes.put("/drafts/{draft}")
def put(draft: DraftId, new: Draft, parts: Parts) -> dict[str, int]:
    """Write a new revision; 409 with the newest one, where another tab was faster."""
    return {"revision": parts.drafts.put(draft, new.title, new.document, new.base)}


@routes.delete("/drafts/{draft}", status_code=204)
def delete(draft: DraftId, parts: Parts) -> None:
    """Delete a draft and all its revisions."""
    parts.drafts.delete(draft)


@routes.get("/drafts/{draft}/revisions")
def revisions(draft: DraftId, parts: Parts) -> dict[str, Any]:
    """The revisions that are kept, the newest first."""
    found = parts.drafts.revisions(draft)
    if not found:
        raise Refused(404, "There is no such draft.")
    return {"revisions": found}


@routes.get("/drafts/{draft}/revisions/{revision}")
def revision(draft: DraftId, revision: Revision, parts: Parts) -> dict[str, Any]:
    """A draft as it was."""
    return parts.drafts.get(draft, revision)
