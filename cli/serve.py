"""``kineograph serve``: the queue, the workers and the server as one command. Knows no route and no node."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineograph import COMFYUI, default_runtime, safe_runtime
from kineograph.cli import attention, isolation, storage, web_build
from kineograph.cli.console import one_line
from kineograph.files import data_folder
from kineograph.graph_runtime.errors import InvalidWorkflow, Problem

if TYPE_CHECKING:
    from kineograph.graph_runtime.runtime import Runtime
    from kineograph.server.settings import Settings

PORT = 8188
TOKEN = "KINEOGRAPH_TOKEN"  # noqa: S105  the name of a variable
PACKAGE = Path(__file__).parent.parent
BACKLOG = 512
CONNECTIONS = 900
"""A process may usually have 1,024 files open."""
SECONDS_TO_STOP = 5
SECONDS_BETWEEN_PREVIEWS = 0.5


def add_command(commands: Any, parents: Sequence[argparse.ArgumentParser]) -> None:
    """``kineograph serve``."""
    usage = (
        "kineograph serve [--host HOST] [--port N] [--data DIR] [--auth token] [--allow-host NAME ...] [--open]\n"
        "       [--packs DIR ...] [--comfy-packs DIR ...] [--safe-mode] [--devices N] [--store DIR | --no-store]\n"
        "       [--store-limit SIZE] [--keep-every N|TIME] [--memory SIZE] [--attention NAME]\n"
        "       [--limit TIME] [--node-limit TIME] [--log-level LEVEL] [--debug]"
    )
    serve = commands.add_parser("serve", help="open the editor, run a queue of jobs", usage=usage, parents=parents)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: only this machine)")
    serve.add_argument("--port", type=_port, default=PORT, metavar="N", help=f"default: {PORT}; 0 takes a free one")
    about = f"folder of jobs, outputs, uploads, models, drafts (default: {data_folder()})"
    serve.add_argument("--data", metavar="DIR", default=None, help=about)
    about = f"who asks must know a token: that of ${TOKEN}, or a new one that is printed"
    serve.add_argument("--auth", choices=("token",), help=about)
    about = "further names under which it may be asked for, behind a proxy for example"
    serve.add_argument("--allow-host", nargs="+", action="extend", default=[], metavar="NAME", help=about)
    serve.add_argument("--open", action="store_true", help="open a browser")
    serve.add_argument("--safe-mode", action="store_true", help="load no packs, also none that are installed")
    serve.add_argument("--devices", type=_count, default=0, metavar="N", help="workers (default: one for each GPU)")
    serve.add_argument("--log-level", choices=("debug", "info", "warning"), default="info", help="default: info")
    storage.add_arguments(serve)
    storage.add_memory(serve)
    attention.add_argument(serve)
    isolation.add_limits(serve)
    serve.set_defaults(command=_serve, name="serve")


def _serve(options: argparse.Namespace) -> int:
    problems = [*_host_problems(options), *_pack_problems(options)]
    if problems:
        raise InvalidWorkflow(problems)
    attention.take(options)
    options.packs = [str(Path(folder).absolute()) for folder in options.packs]
    options.packs += [f"{COMFYUI}{Path(folder).absolute()}" for folder in options.comfy_packs]
    options.store = None if options.store is None else str(Path(options.store).absolute())
    data = Path(options.data or data_folder()).absolute()
    with _listening(options) as listener, redirect_stdout(sys.stderr):
        _work_in(data)
        made = safe_runtime() if options.safe_mode else default_runtime(options.packs)
        refused = [f"{name} could not be loaded: {reason}" for name, reason in made.registry.refused.items()]
        for remark in (*refused, *made.registry.remarks):
            print(one_line(remark), file=sys.stderr)
        with storage.opened_store(options) as made.store:
            return _run(options, made, data, listener)


def _run(options: argparse.Namespace, runtime: Runtime, data: Path, listener: socket.socket) -> int:
    from uvicorn import Config, Server

    from kineograph.graph_runtime.jobs.dispatch import Dispatcher
    from kineograph.graph_runtime.jobs.queue import FolderInUse, Jobs
    from kineograph.interop.comfyui.routes import comfyui_routers, content_types
    from kineograph.server.app import create_app

    _log(options.log_level)
    devices = _devices(options.devices)
    settings = _settings(options, runtime, data, listener.getsockname()[1])
    try:
        jobs = Jobs(data)
    except (FolderInUse, ValueError) as taken:
        raise InvalidWorkflow([Problem("--data", str(taken))]) from None
    dispatcher = Dispatcher(
        jobs,
        devices,
        store=settings.store,
        store_bytes=options.store_limit,
        keep_every=options.keep_every,
        limit=options.limit,
        node_limit=options.node_limit,
        memory=options.memory or 0,
        previews=SECONDS_BETWEEN_PREVIEWS,
        packs=settings.packs,
        factory=settings.factory,
    )
    config = Config(
        create_app(
            runtime,
            jobs,
            dispatcher,
            settings,
            routers=comfyui_routers(),
            content_types=content_types(settings.limits.upload_bytes),
        ),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="websockets-sansio",
        ws_max_size=settings.limits.socket_message,
        ws_per_message_deflate=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=SECONDS_TO_STOP,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    dispatcher.start()
    try:
        _say(options, settings)
        Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises the signal again that it stopped at
        pass
    finally:
        dispatcher.close()
        jobs.close()
    return 0


def _settings(options: argparse.Namespace, runtime: Runtime, data: Path, port: int) -> Settings:
    from kineograph.server.settings import Settings

    return Settings(
        data=data,
        host=options.host,
        port=port,
        hosts=tuple(name.lower() for name in options.allow_host),
        token=_token() if options.auth else "",
        factory="kineograph:safe_runtime" if options.safe_mode else "kineograph:default_runtime",
        packs=tuple(options.packs),
        store=str(runtime.store.folder.absolute()) if runtime.store is not None else "",
        templates=PACKAGE / "workflows",
        models=PACKAGE / "nodes" / "pretrained",
        editor=web_build.built() or PACKAGE / "web" / "dist",
        safe_mode=options.safe_mode,
    )


def _devices(wanted: int) -> tuple[str, ...]:
    """What workers compute on: a GPU each, or the processor."""
    from kineograph.server.machine import gpus

    there = gpus()
    if wanted > max(1, there):
        found = f"{there} GPUs were found" if there else "No GPU was found, and one worker uses the whole processor"
        raise InvalidWorkflow([Problem("--devices", f"{found}.", f"Leave it out, or say --devices {max(1, there)}.")])
    return tuple(f"cuda:{at}" for at in range(wanted or there)) or ("",)


def _token() -> str:
    """The token of the environment, which no child needs to see, or a new one."""
    return os.environ.pop(TOKEN, "") or secrets.token_urlsafe(24)


def _say(options: argparse.Namespace, settings: Settings) -> None:
    """Where to click, on standard output, then open it if that was asked for."""
    name = f"[{options.host}]" if ":" in options.host else options.host
    shown = "127.0.0.1" if name in ("0.0.0.0", "[::]") else name  # noqa: S104  it is compared, not bound
    url = f"http://{shown}:{settings.port}/" + (f"#token={settings.token}" if settings.token else "")
    print(f"Kineograph is at {url}", file=sys.__stdout__, flush=True)
    print(one_line(f"Jobs, outputs and uploads are kept in {settings.data}. Ctrl+C ends it."), file=sys.stderr)
    if options.open:
        import webbrowser

        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _log(level: str) -> None:
    """Sane lines on standard error: of our own from the level on, of libraries only warnings."""
    from kineograph.server.errors import without_values

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("kineograph").setLevel(level.upper())
    if level != "debug":
        logging.getLogger("uvicorn.error").addFilter(without_values)


def _host_problems(options: argparse.Namespace) -> Iterator[Problem]:
    if options.auth or _is_loopback(options.host):
        return
    message = f"{options.host} can be reached from other machines, and whoever reaches it may run nodes."
    yield Problem("--host", message, "Add --auth token.")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _pack_problems(options: argparse.Namespace) -> Iterator[Problem]:
    if options.safe_mode and (options.packs or options.comfy_packs):
        yield Problem("--safe-mode", "It loads no packs, and --packs names some.", "Leave out one of both.")


@contextmanager
def _listening(options: argparse.Namespace) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server((options.host, options.port), family=family, backlog=BACKLOG)
    except OSError as error:
        hint = "Choose another --port, or end what is there." if options.port else ""
        why = f"Nothing can listen at {options.host}, port {options.port}: {error.strerror or error}."
        raise InvalidWorkflow([Problem("--port", why, hint)]) from None
    with listener:
        # asyncio sets it only where it binds by itself; without it every answer waits 40 ms for an acknowledgement
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _work_in(data: Path) -> None:
    """Make the folder for its owner alone, and work in it: a path in a workflow begins there."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        data.chmod(0o700)
        _link_examples(data / "examples")
        os.chdir(data)
    except OSError as error:
        why = f"The folder {data} cannot be used: {error.strerror}."
        raise InvalidWorkflow([Problem("--data", why)]) from None


def _link_examples(target: Path) -> None:
    """The clips of our workflows, where a workflow may name them: a link, or a copy where there are no links."""
    import shutil

    source = PACKAGE / "workflows" / "clips"
    if target.is_symlink():
        target.unlink()
    if target.exists() or not source.is_dir():
        return
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 64")
    return int(text)
