"""``kineograph submit``: a workflow for a server's queue, and its progress as ``run`` shows it. Runs nothing here."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kineograph.cli.console import one_line, stopped_by_signals, watching
from kineograph.cli.serve import PORT, TOKEN
from kineograph.cli.values import read_inputs
from kineograph.graph_runtime.errors import InvalidWorkflow, Problem

if TYPE_CHECKING:
    from kineograph.client import Client
    from kineograph.graph_runtime.workflow import Workflow


def add_command(
    commands: Any, parents: Sequence[argparse.ArgumentParser], load: Callable[[argparse.Namespace], Workflow]
) -> None:
    """``kineograph submit``."""
    usage = (
        "kineograph submit FILE [--server URL] [--set NAME=VALUE ...] [--only NAME ...] [--title TEXT] [--front]\n"
        "       [--wait] [--out DIR] [--json] [--debug]"
    )
    submit = commands.add_parser("submit", help="put a workflow into a server's queue", usage=usage, parents=parents)
    submit.add_argument(
        "--only", nargs="+", action="extend", default=None, metavar="NAME", help="outputs or nodes to run"
    )
    submit.add_argument("--title", default="", metavar="TEXT", help="what people find it by")
    submit.add_argument("--front", action="store_true", help="before all that waits")
    submit.add_argument("--wait", action="store_true", help="show its progress, and bring its files here")
    submit.add_argument("--out", default=".", metavar="DIR", help="folder that files are brought to (default: here)")
    add_server(submit)
    submit.set_defaults(command=lambda options: _submit(options, load), name="submit", sweep=[], packs=[])


def add_server(command: argparse.ArgumentParser) -> None:
    """The arguments of a command that asks a server."""
    here = f"http://127.0.0.1:{PORT}"
    about = f"its address (default: {here}); its token stands in ${TOKEN}"
    command.add_argument("--server", default=here, metavar="URL", help=about)
    command.add_argument("--json", action="store_true", help="JSON, as in a pipe: an object per event and line")
    command.add_argument("--debug", action="store_true", help="show tracebacks")


@contextmanager
def asking(options: argparse.Namespace) -> Iterator[Client]:
    """A client of the server that the arguments name; where that says no, it is a problem of them."""
    from kineograph.client import Client, ServerRefused

    try:
        with Client(options.server, os.environ.get(TOKEN, "")) as client:
            yield client
    except ServerRefused as refused:
        raise InvalidWorkflow([Problem("--server", str(refused))]) from None


def _submit(options: argparse.Namespace, load: Callable[[argparse.Namespace], Workflow]) -> int:
    workflow = load(options)
    inputs, problems = read_inputs(options.set, workflow.inputs)
    if problems:
        raise InvalidWorkflow(problems)
    with asking(options) as client:
        job = client.submit(workflow, inputs, outputs=options.only, title=options.title, front=options.front)
        said = f"Job {job['number']} waits at {client.url}: {job['id']}"
        if not options.wait:
            print(one_line(said))
            print(
                f"kineograph jobs {job['number']} --wait shows its progress and brings its files here.", file=sys.stderr
            )
            return 0
        print(one_line(said), file=sys.stderr)
        wait(options, client, job["id"], options.out)
    return 0


def wait(options: argparse.Namespace, client: Client, job: str, out: str) -> None:
    """Show the job and bring its files to ``out``, until it ends; the first Ctrl+C stops it there."""
    asked = threading.Event()
    with stopped_by_signals(asked), watching(options.json, asked) as watch:
        client.wait(job, out=out, listen=watch, cancel=asked)
    if watch.lost is not None:
        raise watch.lost
