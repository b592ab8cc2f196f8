"""ComfyUI's clients over HTTP: what they post runs, what they ask is answered in their shapes, one guard for all."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import WebSocketDisconnect
from fastapi.testclient import TestClient
from served import ROOT, URL, serving

from kineograph import COMFYUI
from kineograph.interop.comfyui import records, sockets
from kineograph.interop.comfyui.messages import Messages
from kineograph.interop.comfyui.routes import comfyui_routers, content_types

PACKS = f"{COMFYUI}{Path(__file__).parent / 'comfyui_packs'}"
WS = "ws://127.0.0.1:8188"
PATIENCE = 90.0


@contextmanager
def clients(folder: Path, *, run: bool = True, token: str = "") -> Iterator[TestClient]:
    """A server with ComfyUI's routes and a pack, and a client that is a page of it."""
    routes = {"routers": comfyui_routers(), "content_types": content_types(10**7)}
    with serving(folder, run=run, token=token, packs=(PACKS,), app=routes, previews=0.1) as served:
        yield served.client


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with clients(tmp_path_factory.mktemp("running")) as client:
        yield client


@pytest.fixture
def waiting(tmp_path):
    with clients(tmp_path, run=False) as client:
        yield client


def jobs_of(client):
    return client.app.state.parts.jobs


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def sum_of(a=1, b=2):
    """A prompt for nodes of a pack."""
    return {"1": node("Add", a=a, b=b), "2": node("Add", a=["1", 0], b=1), "9": node("Show", value=["2", 0])}


def text_to_video(steps=2):
    """A prompt of ComfyUI's own nodes."""
    wires = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    given = {"seed": 7, "steps": steps, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    return {
        "4": node("CheckpointLoaderSimple", ckpt_name="flipbook.safetensors"),
        "5": node("EmptyHunyuanLatentVideo", width=32, height=32, length=5, batch_size=1),
        "6": node("CLIPTextEncode", text="a red circle moves right", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="", clip=["4", 1]),
        "3": node("KSampler", **given, **wires),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("CreateVideo", images=["8", 0], fps=8.0),
        "11": node("SaveVideo", filename_prefix="video/ComfyUI", format="auto", codec="auto", video=["9", 0]),
    }


def posted(client, prompt, **more):
    answer = client.post("/prompt", json={"prompt": prompt, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["prompt_id"]


def finished(client, job):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := client.get(f"/history/{job}").json():
            return found[job]
        time.sleep(0.1)
    raise AssertionError(f"{job} did not end: {client.get(f'/jobs/{job}').json()}")


def heard(socket, until="execution_success"):
    """Text messages and binary ones, up to one of a type and the end that follows."""
    texts, binary = [], []
    while True:
        message = socket.receive()
        if message.get("bytes") is not None:
            binary.append(message["bytes"])
            continue
        texts.append(json.loads(message["text"]))
        last = texts[-1]
        if (
            last["type"] == "executing"
            and last["data"]["node"] is None
            and any(each["type"] == until for each in texts)
        ):
            return texts, binary


# running


def test_a_prompt_of_a_pack_runs_and_shows_its_text(running):
    job = posted(running, sum_of(3, 4))
    entry = finished(running, job)
    assert entry["outputs"] == {"9": {"text": ["8"]}}
    assert entry["status"]["status_str"] == "success"
    assert [name for name, _ in entry["status"]["messages"]] == [
        "execution_start",
        "execution_cached",
        "execution_success",
    ]
    assert entry["prompt"][1:3] == [job, sum_of(3, 4)]
    again = finished(running, posted(running, sum_of(3, 4)))
    assert again["outputs"] == entry["outputs"]
    assert again["status"]["messages"][1][1]["nodes"] == ["2"]


def test_a_text_to_video_graph_of_its_own_nodes_leaves_a_video(running):
    with running.websocket_connect(f"{WS}/ws?clientId=me") as socket:
        socket.send_text(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
        job = posted(running, text_to_video(), client_id="me")
        texts, binary = heard(socket)
    kinds = [each["type"] for each in texts]
    assert texts[0]["type"] == "status"
    assert texts[0]["data"]["sid"] == "me"
    order = [
        kinds.index(kind)
        for kind in ("execution_start", "execution_cached", "executing", "executed", "execution_success")
    ]
    assert order == sorted(order)
    mine = [each["data"] for each in texts if each["type"] not in ("status", "feature_flags")]
    assert {data["prompt_id"] for data in mine} == {job}
    ran = [each["data"]["node"] for each in texts if each["type"] == "executing"]
    assert set(ran) <= {"3", "4", "5", "6", "7", "8", "11", None}
    assert {"3", "4", "6", "11"} <= set(ran)
    assert any(each["type"] == "progress" and each["data"]["node"] == "3" for each in texts)
    (left,) = [each["data"] for each in texts if each["type"] == "executed"]
    view = {"filename": "ComfyUI.mp4", "subfolder": f"{job}/video", "type": "output"}
    assert left["node"] == "11"
    assert left["output"] == {"images": [view], "animated": [True]}
    head = struct.unpack(">II", binary[0][:8])
    about = json.loads(binary[0][8 : 8 + head[1]])
    assert (head[0], about["prompt_id"], about["image_type"]) == (4, job, "image/png")
    assert binary[0][8 + head[1] :].startswith(b"\x89PNG")
    video = running.get("/view", params=view, headers={"Range": "bytes=0-15"})
    assert (video.status_code, video.content[4:8]) == (206, b"ftyp")
    assert running.get("/view", params=view | {"subfolder": "other"}).status_code == 404
    entry = running.get(f"/jobs/{job}").json()
    assert (entry["status"], entry["outputs_count"], entry["preview_output"]["filename"]) == (
        "completed",
        1,
        "ComfyUI.mp4",
    )


def test_nodes_of_ours_and_a_loop_are_posted_in_its_shape(running):
    body = {
        "nodes": {
            "patches": node("patchify@1", latent=["$latent", 0]),
            "level": node("step_level@1", step=["$item", 0]),
            "told": node(
                "dit_velocity@1", dit=["$dit", 0], patches=["patches", 0], text=["$text", 0], sigma=["level", 0]
            ),
            "velocity": node("unpatchify@1", patches=["told", 0]),
            "step": node("euler_step@1", latent=["$latent", 0], velocity=["velocity", 0], step=["$item", 0]),
        },
        "outputs": {"latent": ["step", 0]},
    }
    links = {"dit": ["1", 0], "text": ["2", 0]}
    prompt = {
        "1": node("load_model@1", name="flipbook"),
        "2": node("encode_text@1", encoder=["1", 2], prompt="a red circle"),
        "3": node("latent_noise@1", vae=["1", 1], frames=1, height=32, width=32),
        "4": node("shifted_sigmas@1", steps=2),
        "5": node("loop@1", each=["4", 0], carry={"latent": ["3", 0]}, links=links, body=body),
        "6": node("vae_decode@1", vae=["1", 1], latent=["5", 0]),
        "7": node("save_image@1", video=["6", 0], path="picture.png"),
    }
    entry = finished(running, posted(running, prompt))
    assert entry["outputs"]["7"]["images"][0]["filename"] == "picture.png"


def test_a_failing_node_reports_its_id_class_message_and_inputs(running):
    with running.websocket_connect(f"{WS}/ws?clientId=it") as socket:
        job = posted(running, {"1": node("Fails", value=41), "9": node("Show", value=["1", 0])}, client_id="it")
        texts, _ = heard(socket, "execution_error")
    (error,) = [each["data"] for each in texts if each["type"] == "execution_error"]
    assert (error["node_id"], error["node_type"], error["prompt_id"]) == ("1", "Fails", job)
    assert "41 was one too many" in error["exception_message"]
    assert finished(running, job)["status"]["status_str"] == "error"
    assert finished(running, posted(running, sum_of(5, 5)))["outputs"] == {"9": {"text": ["11"]}}


def test_each_client_sees_its_own_runs_alone(running):
    with running.websocket_connect(f"{WS}/ws?clientId=a") as mine, running.websocket_connect(f"{WS}/ws") as nobody:
        other = posted(running, sum_of(6, 1), client_id="b")
        finished(running, other)
        job = posted(running, sum_of(6, 2), client_id="a")
        texts, _ = heard(mine)
        assert {each["data"]["prompt_id"] for each in texts if "prompt_id" in each["data"]} == {job}
        assert json.loads(nobody.receive_text())["type"] == "status"


def test_a_client_that_comes_back_hears_what_it_missed(running):
    prompt = {"1": node("Sleep", value=3, seconds=3.0), "9": node("Show", value=["1", 0])}
    job = posted(running, prompt, client_id="back")
    until = time.monotonic() + PATIENCE
    while running.get("/queue").json()["queue_running"] == [] and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3)
    with running.websocket_connect(f"{WS}/ws?clientId=back") as socket:
        texts, _ = heard(socket)
    assert next(each["type"] for each in texts if each["type"].startswith("exec")) == "execution_start"
    assert {"type": "executing", "data": {"prompt_id": job, "node": "1", "display_node": "1"}} in texts


def test_what_happens_while_a_client_is_told_what_it_missed_comes_after_it(running, monkeypatch):
    looked = sockets.missed

    def slow(jobs, sid):
        found = looked(jobs, sid)
        if sid == "late":
            finished(running, posted(running, sum_of(61, 1), client_id="late"))
        return found

    monkeypatch.setattr(sockets, "missed", slow)
    with running.websocket_connect(f"{WS}/ws?clientId=late") as socket:
        texts, _ = heard(socket)
    kinds = [each["type"] for each in texts]
    assert kinds.index("execution_start") < kinds.index("execution_success")


def test_one_event_that_cannot_be_told_does_not_silence_the_others(running, monkeypatch):
    told = Messages.of

    def odd(self, event, at):
        if event["event"] == "NodeFinished":
            raise KeyError("odd")
        return told(self, event, at)

    with running.websocket_connect(f"{WS}/ws?clientId=odd") as socket:
        monkeypatch.setattr(Messages, "of", odd)
        posted(running, sum_of(62, 1), client_id="odd")
        heard(socket)


def test_a_client_that_does_not_read_is_let_go(monkeypatch):
    async def filled():
        client = sockets.Client("a")
        client.caught_up({})
        for _ in range(40):
            client.say("progress_state", {"nodes": "x" * (1 << 20)})
            if client.gone.is_set():
                return client.waiting.qsize()
        return None

    assert (asyncio.run(filled()) or 99) < 20


def test_all_events_of_a_job_are_looked_at(waiting):
    job = jobs_of(waiting).submit({}, {})
    for at in range(2500):
        jobs_of(waiting).event_log.tell(job.id, job.number, {"event": "NodeStarted", "path": f"n{at}"})
    assert len(list(records.events(jobs_of(waiting), job.id))) == 2501


def test_a_subset_runs_what_it_needs_alone(running):
    prompt = sum_of(7, 1) | {"8": node("Show", value=["1", 0])}
    entry = finished(running, posted(running, prompt, partial_execution_targets=["8"]))
    assert entry["outputs"] == {"8": {"text": ["8"]}}
    for targets in ([], ["77"], "8"):
        answer = running.post("/prompt", json={"prompt": prompt, "partial_execution_targets": targets})
        assert answer.status_code == 400


def test_interrupt_stops_what_runs_and_what_waits_goes_on(running):
    slow = posted(running, {"1": node("Sleep", value=1, seconds=50.0), "9": node("Show", value=["1", 0])})
    after = posted(running, sum_of(8, 1))
    until = time.monotonic() + PATIENCE
    while slow not in [entry[1] for entry in running.get("/queue").json()["queue_running"]]:
        assert time.monotonic() < until
        time.sleep(0.05)
    began = time.monotonic()
    assert running.post("/interrupt", json={}).status_code == 200
    assert finished(running, slow)["status"]["messages"][-1][0] == "execution_interrupted"
    assert time.monotonic() - began < 10
    assert finished(running, after)["status"]["completed"]


# refused


@pytest.mark.parametrize(
    ("change", "owner", "kind", "port"),
    [
        ({"1": node("Add", a="x", b=2)}, "1", "invalid_input_type", "a"),
        ({"1": node("Add", a=3.9, b=2)}, "1", "invalid_input_type", "a"),
        ({"1": node("Add", a=1, b=11)}, "1", "value_out_of_bounds", "b"),
        ({"1": node("Nobody", a=1)}, "1", "missing_node_type", ""),
        ({"1": node("Add", a=1, b=2, c=3)}, "1", "unknown_input", ""),
        ({"2": node("Add", a=["2", 0])}, "2", "dependency_cycle", ""),
        ({"2": node("Grain")}, "2", "required_input_missing", "image"),
        ({"2": node("Grain", image=["1", 0])}, "2", "return_type_mismatch", "image"),
        ({"1": node("ReadsFile", path="none")}, "1", "custom_validation_failed", ""),
        ({"1": node("load_image@1", path="/etc/passwd")}, "1", "invalid_input_type", "path"),
    ],
)
def test_what_is_wrong_stands_at_its_node_and_input(waiting, change, owner, kind, port):
    answer = waiting.post("/prompt", json={"prompt": sum_of() | change})
    assert answer.status_code == 400
    found = answer.json()["node_errors"][owner]
    assert found["class_type"] == (sum_of() | change)[owner]["class_type"]
    assert kind in [error["type"] for error in found["errors"]]
    assert any(error["extra_info"].get("input_name", "") == port for error in found["errors"])
    assert found["dependent_outputs"] == ["9"]
    assert waiting.get("/queue").json() == {"queue_running": [], "queue_pending": []}


@pytest.mark.parametrize(
    "body",
    ["", "[]", "3", "{}", '{"prompt": 3}', '{"prompt": {}}', '{"prompt": {"1": {}}}', '{"a": NaN}', '{"a":1,"a":2}'],
)
def test_a_body_that_is_none_is_refused_in_its_shape(waiting, body):
    answer = waiting.post("/prompt", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"type", "message", "details", "extra_info"}


def test_the_guard_is_that_of_the_server(waiting):
    body = {"prompt": sum_of()}
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        assert waiting.post("/prompt", json=body, headers=headers).status_code in (403, 421)
    assert waiting.post("/prompt", content=json.dumps(body), headers={"Content-Type": "text/plain"}).status_code == 415
    with pytest.raises(WebSocketDisconnect), waiting.websocket_connect(f"{WS}/ws", headers={"Origin": "null"}):
        pass
    assert waiting.get("/userdata/%2e%2e/settings.json").status_code in (400, 404)
    assert (
        waiting.get("/view", params={"filename": "jobs.sqlite", "subfolder": "..", "type": "output"}).status_code == 404
    )


# the queue, the history, the rest


def test_a_sign_out_ends_its_sockets_and_a_program_shows_the_token(tmp_path):
    with clients(tmp_path, run=False, token="secret words") as client:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"{WS}/ws", headers={"Origin": URL}):
            pass
        known = {"Authorization": "Bearer secret words"}
        with client.websocket_connect(f"{WS}/ws", headers=known) as socket:
            assert socket.receive_json()["type"] == "status"
        client.post("/api/session", json={"token": "secret words"})
        with client.websocket_connect(f"{WS}/ws", headers={"Origin": URL}) as socket:
            assert socket.receive_json()["type"] == "status"
            assert client.delete("/api/session").status_code == 204
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_json()
            assert closed.value.code == 1008


def test_the_queue_is_ordered_deleted_and_cleared(waiting):
    first, second = posted(waiting, sum_of(1)), posted(waiting, sum_of(2))
    front = posted(waiting, sum_of(3), front=True)

    def queue():
        return [entry[1] for entry in waiting.get("/queue").json()["queue_pending"]]

    assert queue() == [front, first, second]
    assert waiting.get("/prompt").json() == {"exec_info": {"queue_remaining": 3}}
    waiting.post("/queue", json={"delete": [first]})
    assert queue() == [front, second]
    waiting.post("/api/queue", json={"clear": True})
    assert queue() == []


def test_the_history_is_paged_and_forgotten(waiting):
    made = [posted(waiting, sum_of(at)) for at in range(4)]
    for job in made:
        jobs_of(waiting).cancel(job)
    newest = made[::-1]
    pages = [({}, newest), ({"max_items": 2}, newest[:2]), ({"max_items": 2, "offset": 3}, newest[3:])]
    pages += [({"offset": 4}, []), ({"max_items": 1, "offset": -1}, newest[3:]), ({"max_items": 0}, [])]
    for asked, expected in pages:
        assert list(waiting.get("/history", params=asked).json()) == expected, asked
    waiting.post("/history", json={"delete": [made[0]]})
    assert list(waiting.get("/api/history").json()) == newest[:3]
    waiting.post("/history", json={"clear": True})
    assert waiting.get("/history").json() == {}


def test_jobs_are_filtered_sorted_and_paged(waiting):
    made = [posted(waiting, sum_of(at)) for at in range(3)]
    jobs_of(waiting).cancel(made[0])

    def jobs(**asked):
        answer = waiting.get("/jobs", params=asked).json()
        return [job["id"] for job in answer["jobs"]], answer["pagination"]["total"], answer["pagination"]["has_more"]

    assert jobs() == (made[::-1], 3, False)
    assert jobs(sort_order="asc", limit=2) == (made[:2], 3, True)
    assert jobs(status="pending", offset=1) == ([made[1]], 2, False)
    assert jobs(status="cancelled", sort_by="execution_duration")[0] == [made[0]]
    assert waiting.get("/jobs?status=nonsense").status_code == 400
    assert waiting.get("/jobs/ffff").status_code == 404


def test_object_info_describes_packs_and_nodes_of_ours(waiting):
    found = waiting.get("/object_info").json()
    grain = found["Grain"]
    assert grain["input"]["required"]["amount"][1]["tooltip"] == "how much"
    assert (grain["output"], grain["output_name"], grain["display_name"]) == (
        ["IMAGE", "MASK"],
        ["image", "grain"],
        "Film grain",
    )
    step = found["euler_step@1"]
    assert step["input"]["required"]["latent"] == ["Latent", {"tooltip": "values at the step's sigma."}]
    noise = found["latent_noise@1"]["input"]["optional"]["frames"]
    assert (noise[0], noise[1]["default"], noise[1]["min"]) == ("INT", 17, 1)
    assert (found["Numbers"]["output_is_list"], found["Show"]["output_node"]) == ([True], True)
    assert waiting.get("/object_info/Grain").json() == {"Grain": grain}
    assert waiting.get("/api/object_info/nobody").json() == {}


def test_what_its_page_asks_at_its_start_is_answered(waiting):
    for path in ("features", "users", "system_stats", "settings", "userdata", "i18n", "extensions", "global_subgraphs"):
        for prefix in ("", "/api"):
            assert waiting.get(f"{prefix}/{path}").status_code == 200, path
    assert waiting.post("/free", json={"unload_models": True}).status_code == 200


def test_settings_and_files_of_the_user_are_kept(waiting):
    waiting.post("/settings", json={"Comfy.Locale": "de"})
    waiting.post("/settings/Comfy.Other", json=[1, 2])
    assert waiting.get("/settings").json() == {"Comfy.Locale": "de", "Comfy.Other": [1, 2]}
    assert waiting.get("/settings/Comfy.Locale").json() == "de"
    waiting.post("/userdata/workflows%2Fmine.json", json={"nodes": []})
    assert waiting.get("/userdata?dir=workflows").json() == ["mine.json"]
    kept = waiting.get("/userdata/workflows%2Fmine.json")
    assert (kept.json(), kept.headers["content-disposition"]) == ({"nodes": []}, "attachment")
    assert waiting.post("/userdata/workflows%2Fmine.json?overwrite=false", json=1).status_code == 409
    assert waiting.delete("/userdata/workflows%2Fmine.json").status_code == 204
    for name in ("..%2Fsettings.json", "a%2F..%2F..%2Fb", "CON", "a%5Cb"):
        assert waiting.post(f"/userdata/{name}", json=1).status_code in (400, 404), name


def test_settings_that_are_changed_at_once_are_all_kept(waiting):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda at: waiting.post(f"/settings/s{at}", json=at), range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert waiting.get("/settings").json() == {f"s{at}": at for at in range(40)}


def test_no_name_of_a_users_file_breaks_the_server(waiting):
    assert waiting.post("/userdata/a", json={}).status_code == 200
    assert waiting.post("/userdata/a/b", json={}).status_code == 409
    long = "d/" * 2500 + "x"
    assert [waiting.request(verb, f"/userdata/{long}", json={}).status_code for verb in ("POST", "GET", "DELETE")] == [
        400, 400, 400
    ]  # fmt: skip


def test_a_queue_is_cleared_while_others_take_jobs_out_of_it(waiting, monkeypatch):
    jobs = [posted(waiting, sum_of(at)) for at in range(4)]
    remove = jobs_of(waiting).delete

    def raced(job):
        if job == jobs[2]:
            remove(job)
        remove(job)

    monkeypatch.setattr(jobs_of(waiting), "delete", raced)
    assert waiting.post("/queue", json={"clear": True}).status_code == 200
    assert waiting.get("/queue").json() == {"queue_running": [], "queue_pending": []}


def test_uploads_are_numbered_overwritten_and_checked(waiting):
    def upload(content, **form):
        return waiting.post("/upload/image", files={"image": ("a.png", content, "image/png")}, data=form)

    red, blue = (ROOT / "workflows" / "clips" / "blue_square.png").read_bytes(), _other_picture()
    assert upload(red).json() == {"name": "a.png", "subfolder": "", "type": "input"}
    assert upload(red).json()["name"] == "a.png"
    assert upload(blue).json()["name"] == "a-2.png"
    assert upload(blue, overwrite="true").json()["name"] == "a.png"
    seen = waiting.get("/view?filename=a.png&type=input")
    assert (seen.status_code, seen.content) == (200, blue)
    assert upload(b"<svg onload='x'/>").status_code == 415
    assert upload(red, subfolder="../x").status_code == 400
    assert waiting.post("/upload/image", json={}).status_code == 415


def _other_picture():
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8), "blue").save(file, "PNG")
    return file.getvalue()
