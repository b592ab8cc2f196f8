"""The command line: exit codes, every problem at once, JSON lines in a pipe, and never a traceback unless asked."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import ANY

import pytest

import kineograph.nodes
from kineograph.__main__ import main
from kineograph.cli import console
from kineograph.graph_runtime import events

PACK = '''
import time
from typing import Annotated
from pydantic import Field
from kineograph.graph_runtime.node import RunContext, node
from kineograph.graph_runtime.sockets import Stream

@node
def add(a: int, b: Annotated[int, Field(ge=0, le=100)] = 1) -> int:
    """Add two numbers (Peano et al. 1889). Nothing is lost.

    Args:
        a: the first.
        b: the second.
    """
    return a + b

@node(effect=True)
def write(text: str, run: RunContext, name: str = "note.txt") -> None:
    """Write a text."""
    print("a node that prints")
    path = run.output_path(name)
    path.write_text(text)
    run.wrote(path)

@node
def show(scale: float, loud: bool, text: str) -> str:
    """All types of input."""
    return f"{text} {scale!r} {loud!r}"

@node
def fail(a: int) -> int:
    """Fail."""
    raise ValueError(f"{a} is too many;\\nuse fewer.")

@node
def count(n: int) -> Stream[int]:
    """The numbers below n."""
    return Stream(n, lambda index: index)

@node
def nap(item: int, run: RunContext) -> int:
    """A short sleep."""
    time.sleep(0.02)
    run.metric("loss", item, float("nan") if item == 0 else 1.0 / item)
    return item
'''
PLAIN = """
import signal, sys
import kineograph.nodes
kineograph.nodes.MODULES = ()
from kineograph.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""
BODY = {"nodes": {"nap": {"type": "toy/nap@1", "links": {"item": "$item"}}}, "outputs": {"x": "nap"}}
NAPS = {"type": "loop@1", "each": "n", "collect": ["x"], "body": BODY}
HEAVY = ("torch", "numpy", "av", "transformers", "diffusers")


@pytest.fixture(autouse=True)
def no_builtins(monkeypatch):
    monkeypatch.setattr(kineograph.nodes, "MODULES", ())


@pytest.fixture
def packs(tmp_path):
    folder = tmp_path / "packs"
    folder.mkdir()
    (folder / "toy.py").write_text(PACK)
    return str(folder)


@pytest.fixture
def flow(tmp_path):
    def write(nodes, name="flow.json", **rest):
        path = tmp_path / name
        path.write_text(json.dumps({"format": 1, "nodes": nodes} | rest))
        return path

    return write


def start(*arguments, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, "-c", PLAIN, *map(str, arguments)], text=True, **pipes)


def naps(flow, n):
    return flow({"n": {"type": "toy/count@1", "params": {"n": n}}, "train": NAPS}, outputs={"x": "train.x"})


def show_and_write(flow):
    nodes = {
        "show": {"type": "toy/show@1", "links": {"scale": "$scale", "loud": "$loud", "text": "$text"}},
        "add": {"type": "toy/add@1", "params": {"a": 1}, "links": {"b": "$b"}},
        "write": {"type": "toy/write@1", "links": {"text": "show"}},
    }
    inputs = {"scale": {"type": "float", "default": 1.5}, "loud": {"type": "bool", "default": False}}
    inputs |= {"text": {"type": "str"}, "b": {"type": "int", "default": 2}}
    return flow(nodes, inputs=inputs, outputs={"sum": "add"})


def test_a_run_writes_its_files_and_reports_each_event_as_a_line(cli, flow, packs, tmp_path):
    out = tmp_path / "out"
    code, text, err = cli("run", show_and_write(flow), "--set", "text=a=b", "loud=true", "--set", "scale=2",
                          "--out", out, "--packs", packs)  # fmt: skip
    assert (code, err) == (0, "a node that prints\n")
    assert (out / "note.txt").read_text() == "a=b 2.0 True"
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[0] == {"event": "RunStarted", "total": 3, "cached": 0}
    assert lines[-1]["event"] == "RunFinished"
    assert {"event": "FileWritten", "path": "write", "file": str(out / "note.txt")} in lines


def test_check_says_ok_and_counts_nodes_in_loops(cli, flow, packs):
    path = naps(flow, 3)
    assert cli("check", path, "--packs", packs) == (0, f"{path}: ok, 3 nodes\n", "")


def test_check_says_what_is_left_out(cli, flow, packs):
    nodes = {
        "a": {"type": "toy/add@1", "params": {"a": 1}, "mode": "mute"},
        "b": {"type": "toy/add@1", "params": {"a": 1}},
    }
    path = flow(nodes, outputs={"y": "a", "z": "b"})
    told = "Left out: y, it needs a, which is muted"
    assert cli("check", path, "--packs", packs) == (0, f"{path}: ok, 2 nodes\n{told}\n", "")


def test_where_a_default_does_not_do_all_that_can_be_set_is_said(cli, flow, packs):
    inputs = {"b": {"type": "int", "default": 101, "about": "at most 100"}}
    path = flow({"x": {"type": "toy/add@1", "params": {"a": 1}, "links": {"b": "$b"}}}, inputs=inputs)
    for command in ("check", "plan"):
        code, out, err = cli(command, path, "--packs", packs)
        assert (code, out) == (2, "")
        problem, *rest = err.splitlines()
        assert problem.startswith("x.b: $b = 101")
        assert problem.endswith(" Give another: --set b=...")
        assert rest == ["Its inputs:", "  b: int = 101  at most 100"]
    assert "Its inputs" not in cli("check", path, "--set", "b=102", "--packs", packs)[2]


def test_all_problems_come_at_once_each_on_its_line(cli, flow, packs):
    given = ["scale=inf", "loud=maybe", "b=101", "colour=red", "nonsense"]
    for command in ("check", "run"):
        code, out, err = cli(command, show_and_write(flow), "--set", *given, "--packs", packs)
        assert (code, out) == (2, "")
        places = [line.split(": ")[0] for line in err.splitlines()]
        assert sorted(places) == ["--set", "add.b", "inputs.colour", "inputs.loud", "inputs.scale", "inputs.text"]


@pytest.mark.parametrize("value", ["b=1.5", "b=1_0", "b=", "b=" + "9" * 5000, "b=9223372036854775809", "scale=nan",
                                   "scale=1e999", "scale=0x1", "loud=1", "text=\udcff"])  # fmt: skip
def test_a_value_that_does_not_convert_is_a_sentence(cli, flow, packs, value):
    code, _, err = cli("check", show_and_write(flow), "--set", "text=x", value, "--packs", packs)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert err.startswith(f"inputs.{value.partition('=')[0]}: ")
    assert len(err) < 200


@pytest.mark.parametrize("value", ["b=-0", "b=+7", "scale=-.5e-3", "scale=3", "loud=FALSE", "text=", "text=-x"])
def test_values_that_convert(cli, flow, packs, value):
    assert cli("check", show_and_write(flow), "--set", "text=x", value, "--packs", packs)[0] == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{nope", "not JSON"),
        ("[" * 100_000, "deeper"),
        ('{"nodes": ' + "[" * 80 + "]" * 80 + "}", "deeper"),
        ('{"nodes": {"a": {"type": "b@1", "params": {"x": NaN}}}}', "finite"),
        ('{"nodes": {}, "nodes": {}}', "twice"),
        ("3", "JSON object"),
        ('{"nodes": {}, "\x1b[2Jno": 1}', "not JSON"),
        ('{"nodes": {}, "\\u001b[2J\\nno": 1}', "no field"),
        (b"\xff\xfe", "UTF-8"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "damaged"),
        (b"\0\0\0\x0cftypisom", "cut off"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_workflow_ends_in_a_sentence(cli, tmp_path, content, words):
    path = tmp_path / "bad.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in ("run", "check"):
        code, out, err = cli(command, path)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert words in err
        assert "\x1b" not in err


def test_a_missing_file_a_folder_and_a_wrong_out(cli, flow, packs, tmp_path):
    assert cli("run", tmp_path / "none.mp4") == (2, "", f"There is no file {tmp_path / 'none.mp4'}.\n")
    assert "is a folder" in cli("check", tmp_path)[2]
    assert cli("check", "x" * 5000)[0] == 2
    path = naps(flow, 1)
    code, _, err = cli("run", path, "--packs", packs, "--out", path)
    assert (code, err) == (2, f"--out: {path} is not a folder.\n")


def test_a_failing_node_is_exit_1_and_its_traceback_waits_for_debug(cli, flow, packs, capsys):
    path = flow({"f": {"type": "toy/fail@1", "params": {"a": 3}}}, outputs={"x": "f"})
    code, out, err = cli("run", path, "--packs", packs)
    assert (code, err) == (1, "f (toy/fail@1) failed: 3 is too many; use fewer.\n")
    assert json.loads(out.splitlines()[-1])["event"] == "NodeFailure"
    assert main(["run", str(path), "--packs", packs, "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "Its input a: 3\n" in err


def test_a_bug_in_a_pack_is_said_with_its_line(cli, flow, tmp_path):
    (tmp_path / "packs").mkdir()
    node = "from kineograph.graph_runtime.node import node\n\n@node\ndef {}(a: str) -> int:\n    return {}\n"
    (tmp_path / "packs/bad.py").write_text(node.format("fail", "{}[a]"))
    path = flow({"f": {"type": "bad/fail@1", "params": {"a": "x"}}}, outputs={"x": "f"})
    sentence = "f (bad/fail@1) failed: KeyError: 'x' (bad.py, line 5; --debug shows all).\n"
    assert cli("run", path, "--packs", tmp_path / "packs") == (1, ANY, sentence)
    (tmp_path / "packs/bad.py").write_text('x = float("much")\n')
    _, _, err = cli("check", path, "--packs", tmp_path / "packs")
    assert err.endswith(
        "bad.py does not load: ValueError: could not convert string to float: 'much' (bad.py, line 1)\n"
    )


def test_a_bug_is_a_sentence_that_points_at_debug(cli, monkeypatch, capsys):
    monkeypatch.setattr("kineograph.__main__.default_runtime", lambda packs: 1 // 0)
    code, _, err = cli("nodes")
    assert code == 1
    assert "ZeroDivisionError" in err
    assert "--debug" in err
    assert main(["nodes", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_loops_report_progress_and_numbers_json_cannot_hold_are_null(cli, flow, packs):
    code, out, _ = cli("run", naps(flow, 2), "--packs", packs, "--json")
    lines = [json.loads(line, parse_constant=pytest.fail) for line in out.splitlines()]
    assert code == 0
    assert [line["value"] for line in lines if line["event"] == "Metric"] == [None, 1.0]
    assert [line["done"] for line in lines if line["event"] == "NodeProgress"][-1] == 2


def test_nodes_lists_and_describes(cli, packs):
    code, out, _ = cli("nodes", "--packs", packs)
    assert code == 0
    assert re.search(r"^toy/add@1 +Add two numbers \(Peano et al\. 1889\)\.$", out, re.MULTILINE)
    assert "loop@1" in out
    page = cli("nodes", "toy/add@1", "--packs", packs)[1]
    assert cli("nodes", "--packs", packs, "toy/add@1")[1] == page
    assert "b: int, >= 0, <= 100, default 1" in page
    assert "Nothing is lost." in page
    assert "the second." in page
    about = json.loads(cli("nodes", "toy/add@1", "--json", "--packs", packs)[1])
    assert [port["name"] for port in about["inputs"]] == ["a", "b"]
    assert about["outputs"] == [{"name": "output", "type": "int", "doc": ""}]
    listed = [about["id"] for about in json.loads(cli("nodes", "--json", "--packs", packs)[1])]
    assert len([name for name in listed if not name.startswith("comfyui/")]) == 8
    assert cli("nodes", "loop@1")[0] == 0


def test_an_unknown_node_gets_the_nearest_name(cli, packs):
    code, _, err = cli("nodes", "toy/ad@1", "--packs", packs)
    assert code == 2
    assert "toy/add@1" in err


@pytest.mark.parametrize("code", ["import nothing_of_that_name", "raise SystemExit(0)", "def broken(:"])
def test_packs_that_do_not_load_are_all_named(cli, tmp_path, packs, code):
    (Path(packs) / "bad.py").write_text(code)
    where = tmp_path / "none"
    status, _, err = cli("nodes", "--packs", packs, where)
    assert status == 2
    assert f"There is no folder {where}." in err
    assert len(err.splitlines()) == 2


def test_a_taken_name_is_a_sentence(cli, tmp_path, packs):
    code, _, err = cli("nodes", "--packs", packs, packs)
    assert code == 2
    assert "toy/add@1 is there already" in err


def test_arguments_that_do_not_fit(cli):
    assert cli("--help")[0] == 0
    for arguments in (["walk"], ["run"], ["run", "x", "--threads", "0"], ["check", "x", "--no"]):
        assert cli(*arguments)[0] == 2


def test_help_nodes_and_check_load_nothing_heavy():
    root = Path(kineograph.nodes.__file__).parents[1]
    script = "import sys; from kineograph.__main__ import main; code = main(sys.argv[2:]); "
    script += "assert code == 0, code; print([name for name in sys.argv[1].split() if name in sys.modules])"
    light = " ".join((*HEAVY, "rich"))
    for heavy, arguments in (
        (f"{light} networkx pydantic", ["--help"]),
        (light, ["nodes"]),
        (light, ["check", root / "workflows" / "train_vae.json"]),
    ):
        call = [sys.executable, "-c", script, heavy, *map(str, arguments)]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == "[]"


def test_ctrl_c_stops_after_the_step_with_130_and_a_sentence(flow, packs):
    process = start("run", naps(flow, 10_000), "--packs", packs)
    for line in process.stdout:
        if '"NodeProgress"' in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert console.STOPPING in err
    assert "Stopped at train" in err
    assert "Traceback" not in err


def test_a_reader_that_leaves_stops_the_run(flow, packs):
    process = start("run", naps(flow, 10_000), "--packs", packs)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=10) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_standard_output_is_a_sentence(flow, packs):
    with open("/dev/full", "w") as full:
        process = start("run", naps(flow, 10_000), "--packs", packs, stdout=full)
        err = process.communicate(timeout=10)[1]
    assert process.returncode == 1
    assert "No space left" in err
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_terminal_shows_lines_files_and_seconds(flow, packs, tmp_path):
    ours, theirs = os.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    arguments = ("run", show_and_write(flow), "--set", "text=[red]x", "--out", tmp_path / "o", "--packs", packs)
    process = start(*arguments, stdout=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # the other end was closed
        pass
    os.close(ours)
    assert process.communicate(timeout=10)[1] == ""
    assert process.returncode == 0
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode())
    for words in (
        "done    show",
        f"wrote   {tmp_path / 'o' / 'note.txt'}",
        "3 nodes ran, 0 cached",
        "a node that prints",
    ):
        assert words in plain


def test_bars_show_the_latest_metric_and_the_time_left_on_the_loop():
    from rich.console import Console
    from rich.progress import Progress

    progress = Progress(console=Console(file=io.StringIO()), auto_refresh=False)
    bars = console.Bars(progress)
    bars.show(events.NodeStarted("train", "loop@1"))
    bars.show(events.NodeProgress("train", 2, 10, 125.0))
    bars.show(events.Metric("train/record", "loss", 2, 0.12345))
    (task,) = progress.tasks
    assert (task.completed, task.total) == (2, 10)
    assert task.fields == {"count": "2/10", "left": "2:05 left", "metric": "loss 0.1235"}
    bars.show(events.NodeFinished("train", "loop@1", 1.0, 0))
    assert progress.tasks == []


def test_the_terminal_tells_notes_short_outputs_and_the_page_of_a_sweep():
    from rich.console import Console
    from rich.progress import Progress

    progress = Progress(console=Console(file=io.StringIO(), width=200), auto_refresh=False)
    bars = console.Bars(progress)
    bars.show(events.NodeNote("report", "3 of 5 clips are left out"))
    bars.show(events.RunFinished(2, 0, 1.0, {"words": "a cat", "score": 0.5}))
    bars.show(events.SweepFinished(4, 1, "tries/sweep.html"))
    assert progress.console.file.getvalue().splitlines() == [
        "note    report: 3 of 5 clips are left out",
        "output  words = 'a cat'",
        "output  score = 0.5",
        "        2 nodes ran, 0 cached, 1.00 s",
        "wrote   tries/sweep.html, which shows all 4 runs",
    ]


def test_nothing_typed_shows_the_help_and_no_bytes_are_a_number(cli):
    code, out, err = cli()
    assert (code, out.startswith("usage: kineograph"), err) == (0, True, "")
    assert console.size(0) == "0 B"


def test_a_view_that_breaks_stops_the_run_without_disturbing_the_node():
    class Broken:
        def show(self, event):
            raise BrokenPipeError

    cancel = threading.Event()
    watch = console.Watch(Broken(), cancel)
    watch(events.RunStarted(1, 0))
    assert cancel.is_set()
    assert isinstance(watch.lost, BrokenPipeError)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no such signal")
def test_a_signal_asks_the_loop_to_finish():
    finish, before = threading.Event(), signal.getsignal(signal.SIGUSR1)
    with console.finished_by_signal(finish):
        signal.raise_signal(signal.SIGUSR1)
        assert finish.is_set()
    assert signal.getsignal(signal.SIGUSR1) == before
