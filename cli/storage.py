"""The store as the command line sees it: where it lies, sizes and times as people write them, ``kineograph cache``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineograph.cli.console import duration, one_line, size
from kineograph.files import cache_folder
from kineograph.graph_runtime.errors import InvalidWorkflow, Problem

if TYPE_CHECKING:
    from kineograph.graph_runtime.resume import KeepEvery
    from kineograph.graph_runtime.store import Kept, Store

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
DEFAULT_LIMIT = "20GB"
SHOWN = 20


def add_arguments(run: argparse.ArgumentParser) -> None:
    """The arguments of ``run`` that say what is kept."""
    add_place(run)
    limit = f"most that the store may hold (default: {DEFAULT_LIMIT})"
    run.add_argument("--store-limit", type=read_size, default=DEFAULT_LIMIT, metavar="SIZE", help=limit)
    every = "keep a loop's state every so many passes, or every 60s, 10m, 1h (default: 60s)"
    run.add_argument("--keep-every", type=_keep_every, default="60s", metavar="N|TIME", help=every)


def add_place(command: argparse.ArgumentParser) -> None:
    """The arguments of a command that say which store is used."""
    where = command.add_mutually_exclusive_group()
    where.add_argument("--store", metavar="DIR", help=f"folder that results are kept in (default: {cache_folder()})")
    where.add_argument("--no-store", action="store_true", help="keep nothing, and use nothing that was kept")


def add_memory(command: argparse.ArgumentParser) -> None:
    """The argument of a command that says how much memory a run may take."""
    about = "budget for weights, values and what is computed, like 2GB: weights come and go to keep within it"
    command.add_argument("--memory", type=_budget, metavar="SIZE", help=about)


def memory_problems(options: argparse.Namespace, count: int) -> list[Problem]:
    """Why no budget can be kept: torchrun started so many processes, which share out their weights."""
    if count == 1 or options.memory is None:
        return []
    return [Problem("--memory", f"torchrun started {count} processes, a budget is kept by one.", "Leave it out.")]


def add_command(commands: Any) -> None:
    """``kineograph cache``."""
    usage = "kineograph cache [show | prune --to SIZE] [--store DIR]"
    cache = commands.add_parser("cache", help="show or prune what is kept of earlier runs", usage=usage)
    cache.add_argument("action", nargs="?", choices=("show", "prune"), default="show", help="show is the default")
    cache.add_argument(
        "--to", type=read_size, metavar="SIZE", help="for prune: keep so much, like 5GB; 0 keeps nothing"
    )
    cache.add_argument("--store", metavar="DIR", help=f"the folder (default: {cache_folder()})")
    cache.add_argument("--debug", action="store_true", help="show tracebacks")
    cache.set_defaults(command=_cache, store_limit=read_size(DEFAULT_LIMIT), no_store=False)


@contextmanager
def opened_store(options: argparse.Namespace) -> Iterator[Store | None]:
    """The store that the arguments ask for; None for none, and (with a note) where the default folder cannot be used.

    Raises:
        InvalidWorkflow: a folder that was named cannot be used.
    """
    from kineograph.graph_runtime.store import Store, StoreFault

    store = None
    try:
        if not options.no_store:
            store = Store(options.store or cache_folder(), options.store_limit)
    except StoreFault as fault:
        if options.store:
            raise InvalidWorkflow([Problem("--store", f"It cannot be used: {fault}.", "Name another.")]) from None
        print(one_line(f"Nothing is kept: {fault}. Name another folder with --store."), file=sys.stderr)
    try:
        yield store
    finally:
        if store is not None:
            store.close()


@contextmanager
def found_store(options: argparse.Namespace) -> Iterator[Store | None]:
    """The store that the arguments name, where there is one: none is made."""
    from kineograph.graph_runtime.store import MARK

    if options.no_store or not (Path(options.store or cache_folder()) / MARK).exists():
        yield None
        return
    options.store_limit = read_size(DEFAULT_LIMIT)
    with opened_store(options) as store:
        yield store


def read_size(text: str) -> int:
    """Bytes, written like 500MB or 20GB."""
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([KMGT]?B?)", text.strip().upper())
    if found is None or found[2] not in UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 500MB or 20GB")
    return int(float(found[1]) * UNITS[found[2]])


def _budget(text: str) -> int:
    if not (size := read_size(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no room at all")
    return size


def _keep_every(text: str) -> KeepEvery:
    from kineograph.graph_runtime.resume import KeepEvery

    try:
        return KeepEvery.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _cache(options: argparse.Namespace) -> int:
    if options.action == "prune" and options.to is None:
        raise InvalidWorkflow([Problem("--to", "How much shall stay?", "Write --to 5GB, or --to 0 for nothing.")])
    if not Path(folder := options.store or cache_folder()).exists():
        if options.store:
            raise InvalidWorkflow([Problem("--store", f"There is no folder {folder}: no run kept anything in it.")])
        print(one_line(f"{folder}: no run kept anything yet"))
        return 0
    with opened_store(options) as store:
        if store is None:
            return 1
        if options.action == "prune":
            before = store.used()
            count = store.prune(options.to)
            print(f"{count} results went, {size(before - store.used())}")
        _show(store)
    return 0


def _show(store: Store) -> None:
    rows = sorted(store.rows(), key=lambda kept: -kept.nbytes)
    print(f"{one_line(str(store.folder))}: {len(rows)} results, {size(store.used())}")
    if rows:
        print(f"{'size':>10}  {'took':>8}  what")
    for kept in rows[:SHOWN]:
        print(_line(kept))
    if len(rows) > SHOWN:
        print(f"... and {len(rows) - SHOWN} smaller ones")


def _line(kept: Kept) -> str:
    what = f"state after {kept.done:,} passes" if kept.loop else "result"
    what = one_line(f"{what} of {kept.more.get('path', '?')}")
    return f"{size(kept.nbytes):>10}  {duration(kept.seconds):>8}  {what}"
