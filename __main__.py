"""The command line: run, check, plan and describe. Knows no node; everything goes through ``Runtime``.

Exit codes: 0, 1 a node failed, 2 invalid (a line for every problem), 130 stopped by a signal, 141 a pipe was closed.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineograph import COMFYUI, __version__, default_runtime
from kineograph.cli import attention, importing, isolation, jobs, planning, processes, serve, storage, submit
from kineograph.cli.console import finished_by_signal, one_line, stopped_by_signals, watching
from kineograph.cli.logs import KINDS as LOGS
from kineograph.cli.logs import keeping
from kineograph.cli.sweep import Sweep, read_sweep
from kineograph.cli.sweep import add_arguments as add_sweep
from kineograph.cli.values import GIVE, read_inputs, with_set
from kineograph.graph_runtime.errors import Cancelled, InvalidWorkflow, NodeFailed, Problem, said

if TYPE_CHECKING:
    from kineograph.graph_runtime.events import Event, Listener
    from kineograph.graph_runtime.runtime import Runtime
    from kineograph.graph_runtime.workflow import LoopSpec, NodeSpec, Workflow

OK, FAILED, INVALID, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code.
    """
    _ready_streams()
    try:
        options = _parser().parse_args((sys.argv[1:] if argv is None else argv) or ["--help"])
    except SystemExit as done:  # --help, or an argument that does not fit: argparse has said so
        return int(done.code or 0)
    try:
        code = int(options.command(options))
        sys.stdout.flush()
        return code
    except InvalidWorkflow as invalid:
        if processes.started().first:  # the others found the same
            for problem in invalid.problems:
                _say(str(problem))
        return INVALID
    except NodeFailed as failure:
        _failed(failure, options.debug)
        return FAILED
    except (Cancelled, KeyboardInterrupt) as stopped:
        if processes.started().first:
            _say(str(stopped) or "Stopped at once.")
        return INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return PIPE_CLOSED
    except Exception as error:  # noqa: BLE001  the last resort: a bug still ends in a sentence
        return _bug(error, options.debug)


def _bug(error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    advice = "" if debug else " Run again with --debug for the traceback."
    sentence = f"Something unexpected happened: {type(error).__name__}: {error}.{advice}"
    _say(processes.sentence(sentence, error))
    if isinstance(error, OSError):
        _forget_output()
    return FAILED


# --- the arguments


def _parser() -> argparse.ArgumentParser:
    example = 'for example: kineograph run workflows/text_to_video.json --set prompt="a red circle moves right"'
    about = "Video generation as graphs of typed nodes."
    parser = argparse.ArgumentParser("kineograph", description=about, epilog=example)
    parser.add_argument("--version", action="version", version=f"kineograph {__version__}")
    names = "run | check | plan | nodes | cache | attention | import | serve | submit | jobs"
    commands = parser.add_subparsers(required=True, metavar=names)

    common = argparse.ArgumentParser(add_help=False)
    packs = "folders of packs; their code is executed"
    common.add_argument("--packs", nargs="+", action="extend", default=[], metavar="DIR", help=packs)
    theirs = "folders of packs written for ComfyUI; their code is executed"
    common.add_argument("--comfy-packs", nargs="+", action="extend", default=[], metavar="DIR", help=theirs)
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    filed = argparse.ArgumentParser(add_help=False)
    workflow = "a workflow (JSON), or an MP4, PNG or WebP that carries one"
    filed.add_argument("file", metavar="FILE", nargs="?", help=workflow)  # required: see _file
    values = "values for the workflow's inputs"
    filed.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=values)

    usage = (
        "kineograph run FILE [--set NAME=VALUE ...] [--sweep NAME=VALUES ...] [--yes] [--only NAME ...] [--out DIR]\n"
        "       [--packs DIR ...] [--comfy-packs DIR ...] [--log KIND ...] [--json] [--threads N] [--debug]\n"
        "       [--store DIR | --no-store] [--store-limit SIZE] [--keep-every N|TIME] [--memory SIZE]\n"
        "       [--attention NAME] [--isolated] [--limit TIME] [--node-limit TIME]"
    )
    run = commands.add_parser("run", help="run a workflow", usage=usage, parents=[filed, common])
    add_sweep(run)
    chosen = "outputs or nodes (by place, as denoise or sampler/step) to run, with what they need and no other effects"
    run.add_argument("--only", nargs="+", action="extend", default=None, metavar="NAME", help=chosen)
    run.add_argument("--out", default=".", metavar="DIR", help="folder that files are written below (default: here)")
    kinds = f"keep metrics below --out, as {', '.join(LOGS)}"
    run.add_argument("--log", nargs="+", action="extend", default=[], choices=LOGS, metavar="KIND", help=kinds)
    run.add_argument("--json", action="store_true", help="one JSON object per event and line, as in a pipe")
    run.add_argument("--threads", type=_positive, metavar="N", help="threads that tensors are computed with")
    storage.add_arguments(run)
    storage.add_memory(run)
    attention.add_argument(run)
    isolation.add_arguments(run)
    run.set_defaults(command=_run, name="run")
    storage.add_command(commands)
    attention.add_command(commands)

    usage = "kineograph check FILE [--set NAME=VALUE ...] [--packs DIR ...] [--debug]"
    check = commands.add_parser("check", help="list all that is wrong", usage=usage, parents=[filed, common])
    check.set_defaults(command=_check, name="check", sweep=[], only=None)

    planning.add_command(commands, [filed, common], _look)
    importing.add_command(commands, [common], _runtime)
    serve.add_command(commands, [common])
    submit.add_command(commands, [filed], lambda options: _load(_file(options)))
    jobs.add_command(commands)

    usage = "kineograph nodes [ID] [--packs DIR ...] [--json] [--debug]"
    nodes = commands.add_parser("nodes", help="list the nodes, or describe one", usage=usage, parents=[common])
    nodes.add_argument("id", nargs="?", metavar="ID", help="a node, as name@version")
    nodes.add_argument("--json", action="store_true", help="as JSON")
    nodes.set_defaults(command=_nodes)
    return parser


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 99999")
    return int(text)


# --- run and check


def _run(options: argparse.Namespace) -> int:
    if options.threads:
        _limit_threads(options.threads)
    attention.take(options)
    runtime, runs, problems = _prepare(options)
    here = processes.started()
    problems += isolation.problems(options, here.count)
    problems += storage.memory_problems(options, here.count)
    problems += _out_problems(Path(options.out), make=not problems and here.first)
    if problems:
        raise InvalidWorkflow(problems)
    asked = threading.Event()  # to stop: by a signal, or because nothing can be shown any more
    finish = threading.Event()  # the loop that runs; several processes would have to agree on the pass
    cancel = asked if here.count == 1 else threading.Event()
    with (
        processes.together(here),
        processes.own_folder(here, Path(options.out)) as out,
        storage.opened_store(options) as store,
        stopped_by_signals(asked),
        finished_by_signal(finish) if here.count == 1 else nullcontext(),
        watching(options.json, asked) if here.first else processes.unseen(asked) as watch,
    ):
        runtime.store = processes.shared(store, here, asked, cancel)
        how: dict[str, Any] = {"cancel": cancel, "keep_every": options.keep_every, "memory": options.memory}
        how["finish"] = finish
        logs = partial(_logs, options.log if here.first else ())
        well = True
        try:
            if isolation.wanted(options):
                with logs(out) as keep:
                    isolation.run(options, runs.workflow, runs.inputs, out, store, _both(keep, watch), asked, finish)
            elif options.sweep:
                well = runs.run(runtime, out, watch, logs, partial(_failed, debug=options.debug), **how)
            else:
                runs.run_once(runtime, out, watch, logs, **how)
        except Cancelled:
            if watch.lost is None:
                raise
    if watch.lost is not None:
        raise watch.lost
    return OK if well else FAILED


def _both(one: Listener, other: Listener) -> Listener:
    def listen(event: Event) -> None:
        one(event)
        other(event)

    return listen


def _failed(failure: NodeFailed, debug: bool) -> None:
    if debug:
        traceback.print_exception(failure.__cause__ or failure)
        for port, value in failure.inputs.items():
            _say(f"Its input {port}: {value}")
    _say(processes.sentence(failure, failure.__cause__))


@contextmanager
def _logs(kinds: Sequence[str], out: Path) -> Iterator[Listener]:
    with ExitStack() as stack:
        try:
            keep = stack.enter_context(keeping(kinds, out, _say))
        except ValueError as error:
            raise InvalidWorkflow([Problem("--log", str(error))]) from None
        yield keep


def _out_problems(out: Path, make: bool) -> list[Problem]:
    """Why no file can be written below a folder, which is made on the way: not found out after an hour of training."""
    try:
        if out.exists() and not out.is_dir():
            return [Problem("--out", f"{out} is not a folder.")]
        if make:
            out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        return [Problem("--out", f"The folder cannot be made: {said(error)}.")]
    return []


def _check(options: argparse.Namespace) -> int:
    runtime, runs, problems = _look(options)
    if problems:
        raise InvalidWorkflow(problems)
    workflow = runs.workflow
    count = _count(workflow.nodes.values())
    print(f"{one_line(options.file)}: ok, {count} node{'' if count == 1 else 's'}")
    for what, needs in runtime.plan(workflow, runs.inputs).left_out.items():
        print(one_line(f"Left out: {what.removeprefix('outputs.')}, it needs {needs}"))
    for line in _inputs(workflow):
        print(line)
    return OK


def _inputs(workflow: Workflow) -> Iterator[str]:
    """A line for each input that can be --set, below a heading."""
    if workflow.inputs:
        yield "Its inputs:"
    for name, spec in workflow.inputs.items():
        default = "" if spec.default is None else f" = {spec.default!r}"
        yield "  " + one_line(f"{name}: {spec.type}{default}  {spec.about}")


def _look(options: argparse.Namespace) -> tuple[Runtime, Sweep, list[Problem]]:
    """As ``_prepare``, for who looks before a run: where a default does not do, all that can be --set is said too."""
    runtime, runs, problems = _prepare(options)
    if not any(problem.hint.startswith(GIVE) for problem in problems):
        return runtime, runs, problems
    for problem in problems:
        _say(str(problem))
    for line in _inputs(runs.workflow):
        with suppress(OSError):  # nobody is left to tell
            print(line, file=sys.stderr)
    raise InvalidWorkflow([])


def _prepare(options: argparse.Namespace) -> tuple[Runtime, Sweep, list[Problem]]:
    """The runtime, the workflow with what it shall be run with, and all that is wrong with them."""
    file = _file(options)
    runtime = _runtime(options)
    workflow = _load(file)
    inputs, problems = read_inputs(options.set, workflow.inputs)
    runs, wrong = read_sweep(options, workflow, inputs)
    problems += wrong
    bad = {problem.place for problem in problems}
    given = {**inputs, **runs.runs[0].values}
    problems += [with_set(found, workflow.inputs, given) for found in runs.plan(runtime) if found.place not in bad]
    return runtime, runs, problems


def _runtime(options: argparse.Namespace) -> Runtime:
    options.packs += [f"{COMFYUI}{folder}" for folder in options.comfy_packs]
    options.comfy_packs = []
    with redirect_stdout(sys.stderr):  # a pack may print when it is imported; standard output is for events
        runtime = default_runtime(options.packs)
    for name, reason in runtime.registry.refused.items():
        _say(f"{name} could not be loaded: {reason}")
    for remark in runtime.registry.remarks:
        _say(remark)
    return runtime


def _file(options: argparse.Namespace) -> str:
    """FILE, also where it stands behind the values of another option, which takes all that follow."""
    if options.file is None:
        behind: list[list[str]] = [
            given
            for given in (options.set, options.packs, options.sweep, options.only)
            if given and Path(given[-1]).is_file()
        ]
        if not behind:
            raise InvalidWorkflow([Problem("", f"No FILE is given: kineograph {options.name} FILE ...")])
        options.file = behind[0].pop()
    return options.file


def _load(file: str) -> Workflow:
    """The workflow of a JSON file, or the one that a video or picture carries."""
    from kineograph.graph_runtime.workflow import load_workflow, parse_json, parse_workflow
    from kineograph.nodes.media.provenance import ProvenanceError, may_carry, read_provenance

    if not may_carry(file):
        return load_workflow(file)
    try:
        text = read_provenance(file)
    except ProvenanceError as error:
        raise InvalidWorkflow([Problem("", str(error))]) from None
    except OSError as error:
        raise InvalidWorkflow([Problem("", f"{file} cannot be read: {error.strerror}.")]) from None
    return parse_workflow(parse_json(text, f"the workflow in {file}"))


def _count(specs: Any) -> int:
    nodes: list[NodeSpec | LoopSpec] = list(specs)
    return len(nodes) + sum(_count(body.nodes.values()) for node in nodes if (body := getattr(node, "body", None)))


def _limit_threads(count: int) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read when torch is loaded, which may never be needed
        os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


# --- nodes


def _nodes(options: argparse.Namespace) -> int:
    import json

    from kineograph.graph_runtime.describe import describe_control, describe_node

    if options.id is None and options.packs and "@" in options.packs[-1] and not Path(options.packs[-1]).exists():
        options.id = options.packs.pop()  # --packs takes all that follows
    registry = _runtime(options).registry
    described = {about["id"]: about for about in (*map(describe_node, registry), *describe_control())}
    if options.id is None:
        print(json.dumps(list(described.values()), default=str) if options.json else _table(described))
        return OK
    wanted = described.get(options.id)
    if wanted is None:
        raise InvalidWorkflow([Problem("", f"There is no node {options.id!r}.", registry.unknown(options.id))])
    print(json.dumps(wanted, default=str) if options.json else _page(wanted))
    return OK


def _table(described: dict[str, dict[str, Any]]) -> str:
    width = max(map(len, described))
    return "\n".join(f"{name:{width}}  {_first_sentence(about['doc'])}".rstrip() for name, about in described.items())


def _first_sentence(doc: str) -> str:
    paragraph = one_line(_plain(doc).partition("\n\n")[0])
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph, maxsplit=1)[0]  # "et al. 2024" goes on


def _plain(doc: str) -> str:
    """A docstring as a terminal shows it, without the marks around code."""
    return doc.replace("``", "")


def _page(about: dict[str, Any]) -> str:
    lines = [about["id"], "", _plain(about["doc"]) or "(It has no description.)"]
    if about["effect"]:
        lines += ["", "It changes the world outside, so it runs whenever it is reached."]
    if about["inputs"]:
        lines += ["", "Inputs:"]
    for port in about["inputs"]:
        default = "required" if port["required"] else f"default {port['default']!r}"
        lines.append(f"  {port['name']}: {', '.join(filter(None, (port['type'], port['bounds'], default)))}")
        lines += [f"      {_plain(port['doc'])}"] if port["doc"] else []
    if about["outputs"]:
        lines += ["", "Outputs:", *(f"  {port['name']}: {port['type']}" for port in about["outputs"])]
    return "\n".join(lines)


# --- streams


def _say(sentence: str) -> None:
    with suppress(OSError):  # nobody is left to tell
        print(one_line(sentence), file=sys.stderr)


def _ready_streams() -> None:
    """Whoever closed a stream misses nothing; letters that the terminal's encoding lacks are written as escapes."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  the process ends with it
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """Send what is still buffered nowhere, or the interpreter stumbles over it when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
