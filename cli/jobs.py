"""``kineograph jobs``: a server's queue and history; one job followed, cancelled or fetched. Runs nothing here."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kineograph.cli.console import duration, one_line
from kineograph.cli.submit import add_server, asking, wait

if TYPE_CHECKING:
    from kineograph.client import Client

SHOWN, LOOKED_AT = 20, 500
"""Jobs that are listed, and the newest among which one is found by its number."""


def add_command(commands: Any) -> None:
    """``kineograph jobs``."""
    usage = "kineograph jobs [JOB [--cancel | --wait | --out DIR]] [--server URL] [--json] [--debug]"
    jobs = commands.add_parser("jobs", help="list a server's jobs; follow, cancel or fetch one", usage=usage)
    jobs.add_argument("job", nargs="?", metavar="JOB", help="its number or id")
    act = jobs.add_mutually_exclusive_group()
    act.add_argument("--cancel", action="store_true", help="stop it; what it reached is kept")
    act.add_argument("--wait", action="store_true", help="show its progress, and bring its files here")
    act.add_argument("--out", metavar="DIR", help="the same, and bring its files to this folder")
    add_server(jobs)
    jobs.set_defaults(command=_jobs)


def _jobs(options: argparse.Namespace) -> int:
    with asking(options) as client:
        if options.job is None:
            found = client.jobs(limit=SHOWN)
            print(json.dumps(found["jobs"]) if options.json else "\n".join(_table(found)))
            return 0
        job = _find(client, options.job)
        if options.wait or options.out is not None:
            wait(options, client, job["id"], options.out or ".")
            return 0
        if options.cancel:
            job = client.cancel(job["id"])
        print(json.dumps(job) if options.json else "\n".join(_page(job)))
    return 0


def _find(client: Client, name: str) -> dict[str, Any]:
    """The job of this number or id."""
    listed = client.jobs(limit=LOOKED_AT)["jobs"]
    job = next((job["id"] for job in listed if name == str(job["number"])), name)
    return client.job(job)


def _table(found: dict[str, Any]) -> Iterator[str]:
    yield f"{'job':>6}  {'state':<10}  {'time':>8}  {'id':<16}  title"
    for job in found["jobs"]:
        time = "" if job["seconds"] is None else duration(job["seconds"])
        row = f"{job['number']:>6}  {_state(job):<10}  {time:>8}  {job['id']:<16}  "
        yield (row + one_line(job["title"])).rstrip()
    if found["total"] > len(found["jobs"]):
        yield f"... and {found['total'] - len(found['jobs']):,} older ones"


def _state(job: dict[str, Any]) -> str:
    return "stopping" if job["cancelling"] and job["state"] == "running" else job["state"]


def _page(job: dict[str, Any]) -> Iterator[str]:
    """A job's state, how far it is, what it gave and why it failed."""
    yield one_line(f"Job {job['number']}, {_state(job)}: {job['title']}")
    if (at := job["progress"]) and job["state"] == "running":
        yield "  " + one_line(f"{at['path']}: {at['done']} of {at['total']}" if at["total"] else at["path"])
    for name, value in job["values"].items():
        yield "  " + one_line(f"{name} = {value!r}")
    for output in job["outputs"]:
        yield "  " + one_line(f"wrote {output['name']}")
    if job["error"]:
        yield "  " + one_line(job["error"]["message"])
    if job["outputs"]:
        yield f"kineograph jobs {job['number']} --out DIR brings its files here."
