"""``kineograph import``: a workflow of ComfyUI becomes one of ours. Says what is other, and what cannot be had."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineograph.cli.console import one_line
from kineograph.cli.values import with_set
from kineograph.files import write_whole
from kineograph.graph_runtime.errors import InvalidWorkflow, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kineograph.graph_runtime.runtime import Runtime
    from kineograph.interop.comfyui.importing import Imported

MAX_BYTES = 16 * 2**20


def add_command(
    commands: Any, parents: list[argparse.ArgumentParser], runtime: Callable[[argparse.Namespace], Runtime]
) -> None:
    """``kineograph import``."""
    usage = "kineograph import FILE [--to FILE] [--model NAME] [--partial] [--packs DIR ...] [--comfy-packs DIR ...]"
    command = commands.add_parser("import", help="make a workflow of one of ComfyUI's", usage=usage, parents=parents)
    source = "ComfyUI's JSON (saved, or exported for its API), or a PNG, WebP or MP4 that it made"
    command.add_argument("file", metavar="FILE", help=source)
    command.add_argument("--to", metavar="FILE", help="where the workflow is written (default: standard output)")
    command.add_argument("--model", metavar="NAME", help="the model to use: flipbook, or a model's folder")
    partial = "write the workflow also where something in it could not be had"
    command.add_argument("--partial", action="store_true", help=partial)
    command.set_defaults(command=lambda options: _import(options, runtime(options)))


def _import(options: argparse.Namespace, runtime: Runtime) -> int:
    imported = _read(Path(options.file), options.model, runtime)
    for remark in imported.remarks:
        print(one_line(f"note: {remark}"), file=sys.stderr)
    if imported.problems and not options.partial:
        hint = "Nothing was written. With --partial, the rest is; what could not be had stands in it by its name."
        raise InvalidWorkflow([*imported.problems, Problem("", hint)])
    for problem in imported.problems or _to_name(imported, runtime):
        print(one_line(f"to do: {problem}"), file=sys.stderr)
    text = json.dumps(imported.workflow, ensure_ascii=False, indent=2)
    if options.to is None:
        print(text)
        return 0
    try:
        write_whole(Path(options.to), f"{text}\n".encode())
    except (ValueError, OSError) as error:
        raise InvalidWorkflow([Problem("--to", str(error))]) from None
    print(one_line(f"{options.to}: {len(imported.workflow['nodes'])} nodes"), file=sys.stderr)
    return 0


def _to_name(imported: Imported, runtime: Runtime) -> Iterator[Problem]:
    """Files and models that are not there yet, each with the --set that names another."""
    from kineograph.graph_runtime.workflow import parse_workflow

    specs = parse_workflow(imported.workflow).inputs
    return (with_set(problem, specs, {}) for problem in runtime.problems(imported.workflow))


def _read(path: Path, model: str | None, runtime: Runtime) -> Imported:
    from kineograph.interop.comfyui.embedded import embedded_texts
    from kineograph.interop.comfyui.importing import import_workflow
    from kineograph.nodes.media.provenance import may_carry

    texts = embedded_texts(path) if may_carry(path) else [_text(path)]
    failure = InvalidWorkflow([])
    for text in texts:
        try:
            return import_workflow(text, model=model, registry=runtime.registry, name=str(path))
        except InvalidWorkflow as invalid:  # older files hold NaN in one of their two texts
            failure = invalid
    raise failure


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidWorkflow([Problem("", f"{path} cannot be read: {error.strerror}.")]) from None
    if len(content) > MAX_BYTES:
        raise InvalidWorkflow([Problem("", f"{path} has more than {MAX_BYTES:,} bytes, no workflow has.")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidWorkflow([Problem("", f"{path} is not UTF-8 text, so it is no workflow.")]) from None
