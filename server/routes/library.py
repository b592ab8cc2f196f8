"""What there is to begin from: models on the disk, workflows that come with the program, workflows of the user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from fastapi import Path as InPath

from kineograph.files import write_whole
from kineograph.graph_runtime.describe import title
from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.workflow import load_workflow, parse_workflow
from kineograph.server.errors import Refused
from kineograph.server.state import Parts, State
from kineograph.server.strict import Body, router

routes = router("library")
Name = Annotated[str, InPath(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _-]{0,79}$")]
WEIGHTS = ".safetensors"
MOST = 2000
"""Files of a model, and workflows, that are listed."""
_CLIPS = "workflows/clips"
"""How templates name the folder of their clips where they are run from the program's folder."""


class Saved(Body):
    """A workflow to keep; it need not be able to run, but its form must be right."""

    workflow: dict[str, Any]


@routes.get("/models")
def models(parts: Parts) -> list[dict[str, Any]]:
    """Folders with weights: those that come with the program, and those below ``models/``."""
    roots = ((parts.settings.models, ""), (parts.settings.data / "models", "models/"))
    found = (
        _model(path, prefix)
        for root, prefix in roots
        if root is not None and root.is_dir()
        for path in sorted(root.iterdir())
        if not path.name.startswith((".", "_"))
    )
    return [model for model in found if model is not None]


@routes.get("/workflows")
def workflows(parts: Parts) -> dict[str, Any]:
    """All workflows, those of the user first."""
    user = [_listed(path, user=True) for path in _files(_folder(parts))]
    taken = {found["name"] for found in user}
    templates = [_listed(path, user=False) for path in _files(parts.settings.templates)]
    return {"workflows": user + [found for found in templates if found["name"] not in taken]}


@routes.get("/workflows/{name}")
def workflow(name: Name, parts: Parts) -> dict[str, Any]:
    """A workflow by its name."""
    own = _folder(parts) / f"{name}.json"
    if own.is_file():
        return {"name": name, "user": True, "workflow": _read(own)}
    if parts.settings.templates is not None and (template := parts.settings.templates / f"{name}.json").is_file():
        return {"name": name, "user": False, "workflow": _with_examples(_read(template))}
    raise Refused(404, "There is no workflow of that name.")


@routes.put("/workflows/{name}")
def save(name: Name, saved: Saved, parts: Parts) -> dict[str, Any]:
    """Keep a workflow under a name."""
    parse_workflow(saved.workflow)
    path = _folder(parts) / f"{name}.json"
    if not path.exists() and len(_files(_folder(parts))) >= MOST:
        raise Refused(422, f"There are {MOST} workflows; delete one first.")
    write_whole(path, json.dumps(saved.workflow, indent=1, ensure_ascii=False).encode())
    return _listed(path, user=True)


@routes.delete("/workflows/{name}", status_code=204)
def delete(name: Name, parts: Parts) -> None:
    """Delete a workflow of the user."""
    try:
        (_folder(parts) / f"{name}.json").unlink()
    except FileNotFoundError:
        raise Refused(404, "There is no workflow of yours of that name.") from None


def _folder(parts: State) -> Path:
    return parts.settings.data / "workflows"


def _files(folder: Path | None) -> list[Path]:
    return sorted(folder.glob("*.json"))[:MOST] if folder is not None else []


def _listed(path: Path, *, user: bool) -> dict[str, Any]:
    try:
        about = load_workflow(path).about
    except InvalidWorkflow:  # somebody wrote into the folder; it is listed, and its page says what is wrong
        about = ""
    return {
        "name": path.stem,
        "title": title(path.stem),
        "about": about,
        "user": user,
        "modified": path.stat().st_mtime,
    }


def _read(path: Path) -> dict[str, Any]:
    return json.loads(load_workflow(path).to_json())


def _with_examples(value: Any) -> Any:
    """A template whose clips are named as the server has them."""
    if isinstance(value, dict):
        return {name: _with_examples(part) for name, part in value.items()}
    if isinstance(value, list):
        return list(map(_with_examples, value))
    if isinstance(value, str) and (value == _CLIPS or value.startswith(f"{_CLIPS}/")):
        return f"examples{value.removeprefix(_CLIPS)}"
    return value


def _model(folder: Path, prefix: str) -> dict[str, Any] | None:
    if folder.is_file() and folder.suffix == WEIGHTS:
        return {"name": f"{prefix}{folder.name}", "nbytes": folder.stat().st_size, "files": [folder.name]}
    if not folder.is_dir():
        return None
    files = [path for path in sorted(folder.rglob("*"))[:MOST] if path.is_file()]
    if not any(path.suffix == WEIGHTS for path in files):
        return None
    names = [path.relative_to(folder).as_posix() for path in files]
    return {"name": f"{prefix}{folder.name}", "nbytes": sum(path.stat().st_size for path in files), "files": names}
