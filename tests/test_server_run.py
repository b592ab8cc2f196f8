"""A server as a process of its own: started, asked, killed; what people do with it from a shell and from Python."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from served import ADD, ROOT, TOY

from kineograph.cli.serve import _listening
from kineograph.client import Client, ServerRefused
from kineograph.graph_runtime.errors import Cancelled, InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.events import FileWritten, NodeFinished, NodeProgress, RunFinished

TEXT_TO_VIDEO = ROOT / "workflows" / "text_to_video.json"
SMALL = {"steps": 2, "frames": 5, "height": 32, "width": 32}


@contextmanager
def server(folder, *options, packs=True):
    """``kineograph serve``: its process and its address."""
    (folder / "packs").mkdir(exist_ok=True)
    (folder / "packs" / "toy.py").write_text(TOY)
    line = [
        sys.executable,
        "-m",
        "kineograph",
        "serve",
        "--port",
        "0",
        "--data",
        folder / "data",
        "--store",
        folder / "store",
    ]
    line += ["--packs", folder / "packs"] if packs else []
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*map(str, line), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        said = process.stdout.readline()
        assert said.startswith("Kineograph is at http://"), process.stderr.read()
        yield process, said.split()[-1]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with server(tmp_path_factory.mktemp("running")) as (_, url), Client(url) as client:
        yield client


def test_a_prompt_becomes_a_video_on_a_server(running, tmp_path):
    events = []
    result = running.run(TEXT_TO_VIDEO, SMALL, out=tmp_path, listen=events.append, title="small")
    kinds = {type(event) for event in events}
    assert {NodeProgress, NodeFinished, FileWritten, RunFinished} <= kinds
    assert [path.name for path in result.files] == ["video.mp4"]
    content = result.files[0].read_bytes()
    assert content[4:8] == b"ftyp"
    output = result.job["outputs"][0]
    part = httpx.get(f"{running.url}/api/files/{output['id']}", headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content, part.headers["content-type"]) == (206, b"ftyp", "video/mp4")
    carried = httpx.get(f"{running.url}/api/files/{output['id']}/workflow").json()["workflow"]
    assert carried["inputs"]["steps"]["default"] == 2
    again = running.run(carried, out=tmp_path)
    assert again.cached > 0
    assert again.files[0].read_bytes() == content


def test_a_file_that_lies_here_is_sent(running, tmp_path):
    workflow = {
        "inputs": {"clip": {"type": "str", "default": str(ROOT / "workflows" / "clips" / "red_circle.mp4")}},
        "nodes": {
            "clip": {"type": "load_video@1", "links": {"path": "$clip"}, "params": {"frames": 1}},
            "file": {"type": "save_image@1", "links": {"video": "clip"}},
        },
    }
    result = running.run(workflow, out=tmp_path)
    assert result.files[0].read_bytes().startswith(b"\x89PNG")
    assert result.job["workflow"]["inputs"]["clip"]["default"] == "uploads/red_circle.mp4"


def test_what_a_runtime_says_a_client_says(running):
    assert running.problems(ADD) == []
    assert [problem.place for problem in running.problems({"nodes": {"a": {"type": "toy/ad@1"}}})] == ["a"]
    assert running.plan(ADD)["sum"]["key"]
    with pytest.raises(InvalidWorkflow, match=r"toy/add@1"):
        running.plan({"nodes": {"a": {"type": "toy/ad@1"}}, "outputs": {"x": "a"}})
    assert running.estimate(ADD)["nodes"][0]["path"] == "sum"
    assert {"toy/add@1", "loop@1"} <= {about["id"] for about in running.describe()["nodes"]}
    assert running.run(ADD).outputs == {"sum": 3}
    with pytest.raises(NodeFailed, match="on purpose"):
        running.run({"nodes": {"a": {"type": "toy/fails@1", "params": {"why": "on purpose"}}}, "outputs": {"x": "a"}})
    with pytest.raises(ServerRefused, match="no such job"):
        running.job("aa")


def test_a_job_that_ends_while_it_is_asked_about_is_not_waited_for(running, monkeypatch):
    job = running.submit(ADD)["id"]
    running.wait(job)
    asked = running.job
    monkeypatch.setattr(running, "job", lambda job: asked(job) | {"state": "running"})  # as it was a moment ago
    for looks, _ in enumerate(running.events(job)):
        assert looks < 20, "it waits for an end that it was told"


def test_a_run_that_takes_too_long_is_ended_and_the_queue_goes_on(tmp_path):
    slow = {"nodes": {"a": {"type": "toy/slow@1", "params": {"steps": 1, "seconds": 600}}}, "outputs": {"x": "a"}}
    with server(tmp_path, "--limit", "2s") as (_, url), Client(url) as client:
        with pytest.raises(NodeFailed, match="longer than the 2s"):
            client.run(slow)
        assert client.run(ADD).outputs == {"sum": 3}


def test_submit_shows_progress_as_run_does(running, cli, tmp_path):
    file = tmp_path / "add.json"
    file.write_text(json.dumps(ADD | {"format": 1}))
    code, out, _ = cli("submit", file, "--server", running.url)
    assert code == 0
    assert out.startswith("Job ")
    code, out, err = cli("submit", file, "--server", running.url, "--wait", "--out", tmp_path)
    assert code == 0, err
    assert [json.loads(line)["event"] for line in out.splitlines()][-1] == "RunFinished"
    file.write_text(json.dumps({"format": 1, "nodes": {"a": {"type": "no@1"}}}))
    code, _, err = cli("submit", file, "--server", running.url)
    assert (code, "no@1" in err) == (2, True)
    code, _, err = cli("submit", file, "--server", "http://127.0.0.1:9")
    assert (code, "does not answer" in err) == (2, True)
    code, _, err = cli("submit", file, "--server", "here")
    assert (code, "'here' is no address of a server; one is like http://127.0.0.1:8188." in err) == (2, True)


def test_a_job_that_was_submitted_is_listed_fetched_and_cancelled_by_its_number(running, cli, tmp_path):
    clip = {"type": "load_video@1", "links": {"path": "$clip"}, "params": {"frames": 1}}
    picture = {"type": "save_image@1", "links": {"video": "clip"}, "params": {"path": "a/picture.png"}}
    file = tmp_path / "picture.json"
    inputs = {"clip": {"type": "str", "default": str(ROOT / "workflows" / "clips" / "red_circle.mp4")}}
    file.write_text(
        json.dumps({"format": 1, "about": "a picture", "inputs": inputs, "nodes": {"clip": clip, "file": picture}})
    )
    server = ("--server", running.url)
    code, out, err = cli("submit", file, "--set", "clip=none.mp4", *server)
    assert (code, "There is no file 'none.mp4' here that could be sent." in err) == (2, True)
    _, out, _ = cli("submit", file, *server)
    number = out.split()[1]
    code, out, _ = cli("jobs", number, "--out", tmp_path / "results", *server)
    written = [event["file"] for event in map(json.loads, out.splitlines()) if event["event"] == "FileWritten"]
    assert (code, written) == (0, [str(tmp_path / "results" / "a" / "picture.png")])
    assert Path(written[0]).read_bytes().startswith(b"\x89PNG")
    code, out, _ = cli("jobs", *server)
    assert re.search(rf"^ +{number}  done  .* a picture$", out, re.MULTILINE)
    assert "wrote a/picture.png" in cli("jobs", number, *server)[1]
    slow = {"nodes": {"a": {"type": "toy/slow@1", "params": {"steps": 200}}}, "outputs": {"x": "a"}}
    job = running.submit(slow)
    assert cli("jobs", job["number"], "--cancel", *server)[0] == 0
    with pytest.raises(Cancelled):
        running.wait(job["id"])
    assert running.job(job["id"])["state"] == "cancelled"
    assert cli("jobs", "99999", *server)[::2] == (2, "--server: There is no such job.\n")


def test_a_killed_server_loses_nothing(tmp_path):
    slow = {"nodes": {"a": {"type": "toy/slow@1", "params": {"steps": 40}}}, "outputs": {"x": "a"}}
    with server(tmp_path) as (process, url), Client(url) as client:
        ids = [client.submit(slow, title=f"job {at}")["id"] for at in range(3)]
        time.sleep(1.0)
        process.kill()
        process.wait()
    with server(tmp_path) as (_, url), Client(url) as client:
        assert [job["id"] for job in client.jobs(order="oldest")["jobs"]] == ids
        for job in ids[1:]:
            client.cancel(job)
        assert client.wait(ids[0]).outputs == {"x": 40}


def test_a_client_waits_while_the_server_is_killed_and_started_again(tmp_path):
    slow = {"nodes": {"a": {"type": "toy/slow@1", "params": {"steps": 40}}}, "outputs": {"x": "a"}}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with ThreadPoolExecutor(1) as thread, Client(f"http://127.0.0.1:{port}") as client:
        with server(tmp_path, "--port", port) as (process, _):
            waiting = thread.submit(client.run, slow)
            time.sleep(1.5)
            process.kill()
            process.wait()
        with server(tmp_path, "--port", port):
            assert waiting.result(60).outputs == {"x": 40}


# 1, 5, 18


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_other_machines_need_a_token(cli, tmp_path, host):
    code, _, err = cli("serve", "--host", host, "--data", tmp_path / "data")
    assert code == 2
    assert "--auth token" in err
    assert not (tmp_path / "data").exists()


def test_a_token_is_printed_once_and_asked_for(tmp_path):
    with server(tmp_path, "--host", "0.0.0.0", "--auth", "token") as (process, url):
        address, _, token = url.partition("#token=")
        assert len(token) >= 32
        assert httpx.get(f"{address}api/system").status_code == 401
        with Client(address, token) as client:
            assert client.run(ADD).outputs == {"sum": 3}
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0
    assert token not in err
    assert "Traceback" not in err


def test_what_cannot_be_is_said_in_a_sentence(cli, tmp_path, running):
    port = running.url.rpartition(":")[2]
    code, _, err = cli("serve", "--port", port, "--data", tmp_path)
    assert (code, "Address already in use" in err) == (2, True)
    code, _, err = cli("serve", "--safe-mode", "--packs", tmp_path, "--data", tmp_path)
    assert (code, "--safe-mode" in err) == (2, True)
    code, _, err = cli("serve", "--devices", "64", "--data", tmp_path / "x", "--port", "0")
    assert (code, "--devices" in err) == (2, True)


def test_answers_do_not_wait_for_acknowledgements():
    with _listening(Namespace(host="127.0.0.1", port=0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_safe_mode_loads_no_packs(tmp_path):
    with server(tmp_path, "--safe-mode", packs=False) as (_, url):
        about = httpx.get(f"{url}api/system").json()
        assert about["safe_mode"] is True
        assert {pack["name"] for pack in about["packs"]} <= {"comfyui"}  # our own, for their files


def test_a_budget_of_the_server_holds_for_its_jobs(tmp_path):
    with server(tmp_path, "--memory", "1MB") as (_, url), Client(url) as client, pytest.raises(NodeFailed) as failed:
        client.run(TEXT_TO_VIDEO, SMALL, out=tmp_path)
    assert str(failed.value).startswith("denoise/guided: It needs ")
    with server(tmp_path, "--memory", "30MB") as (_, url), Client(url) as client:
        assert [path.name for path in client.run(TEXT_TO_VIDEO, SMALL, out=tmp_path).files] == ["video.mp4"]
