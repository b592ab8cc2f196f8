"""What strangers' files and hurried hands do to the command line: a sentence, the right code, no rubbish left."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kineograph.graph_runtime.errors import NodeFailed
from kineograph.graph_runtime.paths import check_name, inside
from kineograph.nodes.networks import components
from kineograph.nodes.networks.weights import save_weights

ROOT = Path(__file__).parent.parent
TEXT_TO_VIDEO = ROOT / "workflows" / "text_to_video.json"
PACK = """
import time
from kineograph.graph_runtime.node import RunContext, node
print("a pack that prints")

@node
def nap(run: RunContext, seconds: float = 0.05) -> int:
    for at in range(1000):
        run.progress(at, 1000)
        time.sleep(seconds)
    return 1

@node
def one() -> int:
    return 1
"""


@pytest.fixture
def flow(tmp_path):
    """Write a workflow, or the text of one."""

    def write(content):
        path = tmp_path / "flow.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


@pytest.fixture
def changed(flow):
    """The first workflow with one thing changed."""

    def write(change):
        raw = json.loads(TEXT_TO_VIDEO.read_text())
        change(raw)
        return flow(raw)

    return write


@pytest.fixture
def packs(tmp_path):
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "toy.py").write_text(PACK)
    return tmp_path / "packs"


def toy(node):
    return {"format": 1, "nodes": {"a": {"type": f"toy/{node}@1"}}, "outputs": {"a": "a"}}


def process(*arguments, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, "-m", "kineograph", *map(str, arguments)], text=True, **pipes)


# --- paths


@pytest.mark.parametrize(
    "name", ["", "/x", "../x", "a/../../x", "a\\b", "C:x", "x:stream", "a\0b", "a\nb", "nul", "COM1.mp4", "x" * 300]
)
def test_a_name_that_leaves_the_folder_or_is_none_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"output folder|no name"):
        check_name(name)
    with pytest.raises(ValueError, match=r"output folder|no name"):
        inside(tmp_path, name)


def test_names_are_taken_and_links_are_followed(tmp_path):
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (root / "alias").symlink_to(root / "in")
    (root / "away").symlink_to(tmp_path)
    (root / "dangling.mp4").symlink_to(tmp_path / "none.mp4")
    for name in ("a.mp4", "console.mp4", "deep/..a/b c.mp4", "\u00fc.mp4"):
        assert inside(root, name) == root / name
    assert inside(root, "alias/x") == root / "in/x"
    for name in ("away/x", "dangling.mp4", "."):
        with pytest.raises(ValueError, match="leaves the output folder"):
            inside(root, name)


@pytest.mark.parametrize("path", ["../x.mp4", "/tmp/x.mp4", "x.html", ".bashrc", ""])
def test_a_path_is_refused_before_anything_runs(cli, changed, path):
    file = changed(lambda raw: raw["nodes"]["file"]["params"].update(path=path))
    code, out, err = cli("check", file)
    assert (code, out) == (2, "")
    assert err.startswith("file.path: '")
    assert len(err.splitlines()) == 1


def test_a_computed_path_is_checked_when_it_arrives():
    from kineograph.graph_runtime.node import node_type
    from kineograph.nodes.save import save_video

    assert "path" in node_type(save_video).bounded


@pytest.mark.parametrize("out", ["/dev/null/x", "x" * 300, "a\0b"])
def test_an_output_folder_that_cannot_be_is_found_before_the_run(cli, flow, packs, out):
    code, text, err = cli("run", flow(toy("one")), "--packs", packs, "--out", out)
    assert (code, text) == (2, "")
    assert err.splitlines()[-1].startswith("--out: ")
    assert "[Errno" not in err


def test_an_invalid_workflow_makes_no_folder(cli, flow, tmp_path):
    assert cli("run", flow(toy("none")), "--out", tmp_path / "new")[0] == 2
    assert not (tmp_path / "new").exists()


# --- text


def test_half_a_letter_is_no_text(cli, flow):
    for text in (r'"\ud800"', r'"\ude00\ud83d"'):
        code, _, err = cli("check", flow('{"nodes": {}, "about": ' + text + "}"))
        assert (code, "half of a letter" in err) == (2, True)
    code, _, err = cli("check", flow(r'{"nodes": {}, "about": "\ud83d\ude00"}'))
    assert "Nothing to run" in err


def test_half_a_letter_given_from_python_is_refused_too(runtime_of_all):
    (problem,) = runtime_of_all.problems(TEXT_TO_VIDEO, {"prompt": "a\ud800"})
    assert problem.place == "inputs.prompt"


@pytest.fixture
def runtime_of_all():
    from kineograph import default_runtime

    return default_runtime()


def test_a_mark_at_the_beginning_of_a_file_is_passed_over(cli, flow):
    assert cli("check", flow("\ufeff" + TEXT_TO_VIDEO.read_text()))[0] == 0


# --- hurried hands


def test_the_file_may_stand_behind_the_values(cli):
    assert cli("check", "--set", "seed=3", TEXT_TO_VIDEO)[0] == 0
    assert cli("check", "--set", "prompt=a", "red", TEXT_TO_VIDEO)[2].startswith(
        "--set: 'red' is not NAME=VALUE. Quote"
    )
    code, _, err = cli("check", "--set", "seed=3")
    assert (code, err) == (2, "No FILE is given: kineograph check FILE ...\n")


def test_check_tells_what_can_be_set(cli):
    out = cli("check", TEXT_TO_VIDEO)[1]
    assert "  prompt: str = 'a red circle moves right'  what shall be seen\n" in out


def test_a_pack_cannot_print_among_the_events(cli, flow, packs):
    code, out, err = cli("run", flow(toy("one")), "--packs", packs, "--json")
    assert (code, "a pack that prints" in err) == (0, True)
    assert [json.loads(line)["event"] for line in out.splitlines()][-1] == "RunFinished"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_asked_to_end_stops_like_ctrl_c(flow, packs, number):
    running = process("run", flow(toy("nap")), "--packs", packs)
    for line in running.stdout:
        if '"NodeProgress"' in line:
            break
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Stopped at a." in err


def test_a_closed_standard_output_is_missed_by_nobody(flow, packs):
    for command, code in ((["check", flow(toy("one"))], 0), (["run", flow(toy("one"))], 0)):
        shell = f'exec "{sys.executable}" -m kineograph "$@" >&-'
        call = ["sh", "-c", shell, "sh", *map(str, command), "--packs", str(packs)]
        done = subprocess.run(call, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (code, "a pack that prints\n")


# --- weights


def test_weights_that_find_no_room_are_a_sentence_and_leave_nothing(tmp_path):
    path = tmp_path / "dit.safetensors"
    path.write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=r"dit\.safetensors was not written: .*File too large.*Nothing is left"):
            save_weights(path, {"w": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [(path.name, "before")]


@pytest.mark.parametrize(
    "config",
    ["[]", "{", "[" * 100_000, '{"width": "a"}', '{"width": 1000000000}', '{"heads": 0}', '{"heads": true}',
     '{"heads": NaN}', '{"patch": [0, 1, 1]}', '{"patch": "a"}', '{"patch": [1]}', '{"colour": {"a": 1}}',
     '{"width": 16384, "heads": 4}', '{"depth": 2000}'],
)  # fmt: skip
def test_a_configuration_that_lies_is_refused_before_it_takes_memory(tmp_path, config):
    path = tmp_path / "dit.safetensors"
    save_file({"w": torch.zeros(1)}, path, metadata={"kind": "dit", "config": config})
    with pytest.raises(ValueError, match=r"^dit\.safetensors|^A dit has no size called colour"):
        components.load(path, "dit")


# --- sentences


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "No such file or directory: a.txt"),
        (OSError("It was not written."), "It was not written."),
        (KeyError("a"), "KeyError: 'a'"),
        (ValueError(), "ValueError"),
    ],
)
def test_what_a_node_raised_is_said_without_numbers(cause, sentence):
    assert str(NodeFailed("a", "x@1", cause)) == f"a (x@1) failed: {sentence}"
