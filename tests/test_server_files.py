"""Files and the server: which ones a workflow may name, what is taken, how they are sent."""

from __future__ import annotations

import io
import json
import shutil
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from served import ROOT, serving

from kineograph.server import uploads
from kineograph.server.aside import Aside
from kineograph.server.errors import Refused
from kineograph.server.media_types import sniffed

CLIPS = ROOT / "workflows" / "clips"
BYTES = {"Content-Type": "application/octet-stream"}
NOWHERE = (
    """
/etc/passwd|../jobs.sqlite|uploads/../../x.mp4|uploads/../jobs.sqlite|uploads\\..\\x.mp4|~/x.mp4|~root/x.mp4|C:/x.mp4
C:\\x.mp4|uploads/a:b.mp4|uploads/con.mp4|uploads/\0.mp4|./jobs.sqlite|jobs.sqlite|drafts.sqlite|file:///etc/passwd
http://169.254.169.254/x.mp4|https://[::1]/x.mp4|http://0x7f.1/x.mp4|concat:uploads/a,b|//host/x.mp4|UPLOADS/x.mp4
outputs/../uploads/../../x|uploads/link/secret.mp4|uploads/out.mp4|workflows/x.json| uploads/x.mp4
""".strip("\n")
    .replace("\n", "|")
    .split("|")
)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "outside").mkdir()
    shutil.copy(CLIPS / "red_circle.mp4", folder / "outside" / "secret.mp4")
    with serving(folder) as found:
        (found.data / "uploads" / "link").symlink_to(folder / "outside")
        (found.data / "uploads" / "out.mp4").symlink_to(folder / "outside" / "secret.mp4")
        yield found


def upload(served, name, content):
    return served.client.post("/api/uploads", params={"name": name}, content=content, headers=BYTES)


def refused(served, workflow, inputs=None):
    """The places at which a workflow is refused, by every route that takes one."""
    body = {"workflow": workflow, "inputs": inputs or {}}
    found = served.client.post("/api/check", json=body).json()
    for path in ("/api/jobs", "/api/estimate", "/api/export"):
        answer = served.client.post(path, json=body)
        assert (answer.status_code == 422) == any("may read" in p["message"] for p in found["problems"]), path
    return [problem["place"] for problem in found["problems"] if "may read" in problem["message"]]


def flow(path, kind="load_video@1", port="path"):
    return {"nodes": {"clip": {"type": kind, "params": {port: path}}}, "outputs": {"clip": "clip"}}


# 8, 11: paths in workflows


@pytest.mark.parametrize("path", NOWHERE)
def test_a_workflow_names_no_file_elsewhere(served, path):
    assert refused(served, flow(path)) == ["clip.path"]


@pytest.mark.parametrize(
    ("kind", "port"),
    [("clip_folder@1", "folder"), ("clip_shards@1", "path"), ("clip_table@1", "folder"), ("load_features@1", "file"),
     ("load_language_model@1", "folder"), ("start_dit@1", "start"), ("load_vae@1", "name"), ("load_model@1", "name")],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/etc", "../x", "uploads/link", "~", "~root", "jobs.sqlite", "packs/toy.py"])
def test_nor_a_folder(served, kind, port, path):
    workflow = flow(path, kind, port) | {"outputs": {}}
    found = served.client.post("/api/check", json={"workflow": workflow}).json()
    assert f"clip.{port}" in [problem["place"] for problem in found["problems"] if "may read" in problem["message"]]


def test_what_lies_in_the_folders_may_be_named(served):
    assert upload(served, "mine.mp4", (CLIPS / "red_circle.mp4").read_bytes()).status_code == 201
    for path in ("uploads/mine.mp4", "examples/red_circle.mp4"):
        assert refused(served, flow(path)) == []
    model = {"nodes": {"m": {"type": "load_model@1", "params": {"name": "flipbook"}}}, "outputs": {"x": "m.dit"}}
    assert refused(served, model) == []


def test_models_may_be_links_and_lead_no_further(served, tmp_path):
    (tmp_path / "wan").mkdir()
    (tmp_path / "wan" / "out").symlink_to("/etc")
    (served.data / "models" / "linked").symlink_to(tmp_path / "wan")
    roots = served.app.state.parts.roots
    assert not roots.problem("models/linked")
    assert not roots.problem("models/linked/dit.safetensors")
    assert "may read" in roots.problem("models/linked/out/passwd")
    assert "may read" in roots.problem("models/../jobs.sqlite")


def test_a_path_is_looked_at_wherever_it_comes_from(served):
    clip = {"type": "load_video@1", "links": {"path": "$clip"}}
    by_input = {"inputs": {"clip": {"type": "str", "default": "uploads/mine.mp4"}}, "nodes": {"clip": clip}}
    by_input["outputs"] = {"x": "clip"}
    assert refused(served, by_input, {"clip": "/etc/x.mp4"}) == ["clip.path"]
    by_input["inputs"]["clip"]["default"] = "/etc/x.mp4"
    assert refused(served, by_input) == ["clip.path"]

    definition = {"inputs": {"clip": {"type": "str"}}, "nodes": {"inner": clip}, "outputs": {}}
    definition["outputs"] = {"video": {"type": "Video", "link": "inner"}}
    by_definition = {"definitions": {"read@1": definition}, "outputs": {"x": "a"}}
    by_definition["nodes"] = {"a": {"type": "#read@1", "params": {"clip": "/etc/x.mp4"}}}
    assert refused(served, by_definition) == ["a/inner.path"]
    definition["inputs"]["clip"]["default"] = "/etc/y.mp4"
    by_definition["nodes"] = {"a": {"type": "#read@1"}}
    assert refused(served, by_definition) == ["a/inner.path"]

    steps = {"type": "shifted_sigmas@1", "params": {"steps": 2, "shift": 3.0}}
    body = {"nodes": {"read": clip}, "outputs": {"video": "read"}}
    loop = {"type": "loop@1", "each": "steps", "links": {"clip": "$clip"}, "collect": ["video"], "body": body}
    by_loop = {"inputs": by_input["inputs"], "nodes": {"steps": steps, "loop": loop}, "outputs": {"x": "loop.video"}}
    assert refused(served, by_loop) == ["loop/read.path"]


def test_what_a_node_makes_names_no_file(served):
    words = {"type": "numbered_path@1", "params": {"path": "/etc/x.mp4", "number": 1}}
    workflow = flow("uploads/mine.mp4")
    workflow["nodes"] = {"words": words, "clip": {"type": "load_video@1", "links": {"path": "words"}}}
    found = served.client.post("/api/check", json={"workflow": workflow}).json()
    assert "clip.path" in [problem["place"] for problem in found["problems"] if "typed in" in problem["message"]]


def test_definitions_that_name_themselves_end(served):
    circle = {"nodes": {"again": {"type": "#a@1"}}, "outputs": {}}
    answer = served.client.post(
        "/api/check", json={"workflow": {"definitions": {"a@1": circle}, "nodes": {"n": {"type": "#a@1"}}}}
    )
    assert not answer.json()["ok"]


@pytest.mark.parametrize("path", [*NOWHERE, "a" * 300, "%2e%2e%2fjobs.sqlite", "..%5cjobs.sqlite"])
def test_no_path_is_an_id_or_a_name(served, path):
    for place in (
        "files/{}",
        "files/{}/strip",
        "files/{}/workflow",
        "workflows/{}",
        "drafts/{}",
        "jobs/{}",
        "uploads/{}",
    ):
        verb = "DELETE" if place.startswith("uploads") else "GET"
        answer = served.client.request(verb, "/api/" + place.format(quote(path, safe="")))
        assert answer.status_code in (404, 405, 422), place


# 9: what is sent


@pytest.fixture(scope="module")
def wrote(tmp_path_factory):
    """What jobs wrote: a page, a drawing and a picture that is none."""
    with serving(tmp_path_factory.mktemp("wrote"), run=True) as served:
        script = "<script>alert(1)</script>"
        nodes = {
            name: {"type": "toy/save_words@1", "params": {"path": f"{name}.{name}", "text": script}}
            for name in ("html", "svg", "txt", "png")
        }
        job = served.submit({"nodes": nodes})["id"]
        for _ in range(600):
            found = served.client.get(f"/api/jobs/{job}").json()
            if found["ended"]:
                break
            time.sleep(0.1)
        assert found["state"] == "done", found["error"]
        yield served, {output["name"]: output["id"] for output in found["outputs"]}


def test_only_pictures_and_videos_are_shown(wrote):
    served, ids = wrote
    for name, file in ids.items():
        answer = served.client.get(f"/api/files/{file}")
        assert answer.headers["content-disposition"].startswith("attachment"), name
        assert answer.headers["content-type"].partition(";")[0] in ("application/octet-stream", "text/plain"), name
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert len(ids) == 4


def test_a_link_that_replaces_an_output_leads_nowhere(wrote):
    served, ids = wrote
    path = served.jobs.file(ids["txt.txt"]).path
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert served.client.get(f"/api/files/{ids['txt.txt']}").status_code == 404


def test_ranges_and_tags(served):
    content = (CLIPS / "red_circle.mp4").read_bytes()
    file = upload(served, "ranged.mp4", content).json()["id"]
    whole = served.client.get(f"/api/files/{file}")
    assert whole.content == content
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["content-disposition"].startswith("inline")
    part = served.client.get(f"/api/files/{file}", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    assert served.client.get(f"/api/files/{file}", headers={"Range": "bytes=-5"}).content == content[-5:]
    assert served.client.get(f"/api/files/{file}", headers={"Range": "bytes=999999-"}).status_code == 416
    many = "bytes=" + ",".join(f"{at}-{at}" for at in range(5000))
    assert served.client.get(f"/api/files/{file}", headers={"Range": many[:60_000]}).content == content
    tag = whole.headers["etag"]
    assert served.client.get(f"/api/files/{file}", headers={"If-None-Match": tag}).status_code == 304


def test_strips_and_frames(served):
    import av

    file = upload(served, "strip.mp4", (CLIPS / "red_circle.mp4").read_bytes()).json()["id"]
    answer = served.client.get(f"/api/files/{file}/strip", params={"count": 6, "height": 32})
    with av.open(io.BytesIO(answer.content)) as picture:
        frame = next(picture.decode(video=0))
    assert (frame.width, frame.height) == (6 * 32, 32)
    same = served.client.get(f"/api/files/{file}/strip", headers={"If-None-Match": answer.headers["etag"]})
    assert same.status_code == 304
    last = served.client.get(f"/api/files/{file}/frame", params={"n": -1})
    assert last.content == served.client.get(f"/api/files/{file}/frame", params={"n": 16}).content
    assert last.content != served.client.get(f"/api/files/{file}/frame").content
    answer = served.client.get(f"/api/files/{file}/frame", params={"n": 17})
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, "strip.mp4 has no frame 17: it has 17.")


# uploads


NO_MEDIA = [
    b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    b"<!doctype html><script>alert(1)</script>",
    b"<?xml version='1.0'?>",
    b"#EXTM3U\n#EXTINF:1,\nhttp://169.254.169.254/",
    b"PK\3\4" + b"\0" * 40,
    b"\x80\x04\x95" + b"\0" * 40,
    b"GIF89a" + b"\0" * 40,
    b"\x89PNG",
    b"",
]
BAD_NAMES = ["../x.mp4", "a/b.mp4", "a\\b.mp4", ".hidden.mp4", "con.mp4", "a\0.mp4", "a\r\nb.mp4", "~a.mp4"]


@pytest.mark.parametrize("content", NO_MEDIA)
@pytest.mark.parametrize("name", ["a.png", "a.svg", "a.html", "a.mp4"])
def test_only_pictures_and_videos_are_taken(served, content, name):
    answer = upload(served, name, content)
    assert answer.status_code == 415
    assert not list((served.data / "uploads").glob("*.part"))


def test_a_damaged_or_lying_file_is_refused_in_a_sentence(served):
    png = b"\x89PNG\r\n\x1a\n" + b"<script>alert(1)</script>" * 20
    size = struct.pack(">II5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", size), (b"IDAT", zlib.compress(bytes(10_000))), (b"IEND", b""))
    )
    for content in (png, bomb, (CLIPS / "red_circle.mp4").read_bytes()[:3000]):
        answer = upload(served, "bad.png", content)
        assert answer.status_code == 422
        assert answer.json()["error"]["message"]
    assert not [path for path in (served.data / "uploads").iterdir() if path.name.startswith(("bad", "."))]


@pytest.mark.parametrize("name", [*BAD_NAMES, "a" * 119 + ".mp4"])
def test_a_name_is_only_a_name(served, name):
    answer = upload(served, name, (CLIPS / "red_circle.mp4").read_bytes())
    assert answer.status_code == 422


def test_a_long_name_in_another_script_is_refused_or_fits(served):
    clip = (CLIPS / "red_circle.mp4").read_bytes()
    assert upload(served, "\u3042" * 84 + "xy", clip).status_code == 422
    assert upload(served, "\u3042" * 66, clip).json()["path"] == "uploads/" + "\u3042" * 66 + ".mp4"


def test_a_file_that_goes_while_files_are_listed_is_only_missing(served, monkeypatch):
    for name, clip in (("one.mp4", "red_circle_down.mp4"), ("two.mp4", "blue_square_right.mp4")):
        assert upload(served, name, (CLIPS / clip).read_bytes()).status_code == 201
    looked = uploads.media_type

    def slow(path):
        if path.name == "one.mp4":
            path.unlink()
        return looked(path)

    monkeypatch.setattr(uploads, "media_type", slow)
    shown = [each["path"] for each in served.client.get("/api/uploads").json()["uploads"]]
    assert "uploads/two.mp4" in shown
    assert "uploads/one.mp4" not in shown


def test_two_files_of_one_name_both_stay(served):
    one, other = (CLIPS / "red_circle.mp4").read_bytes(), (CLIPS / "red_circle_down.mp4").read_bytes()
    assert [upload(served, "same.mp4", content).json()["path"] for content in (one, other, one, other)] == [
        "uploads/same.mp4", "uploads/same-2.mp4", "uploads/same.mp4", "uploads/same-2.mp4"
    ]  # fmt: skip
    picture = upload(served, "picture.mp4", (CLIPS / "blue_square.png").read_bytes()).json()
    assert picture["path"] == "uploads/picture.mp4.png"
    assert (picture["width"], picture["height"], picture["frames"], picture["media_type"]) == (256, 256, 1, "image/png")
    assert served.client.delete(f"/api/uploads/{picture['id']}").status_code == 204
    assert served.client.get(f"/api/files/{picture['id']}").status_code == 404
    example = next(
        each for each in served.client.get("/api/uploads").json()["uploads"] if each["path"].startswith("examples/")
    )
    assert served.client.delete(f"/api/uploads/{example['id']}").status_code == 403


def test_an_upload_that_is_too_large_is_refused(tmp_path):
    from kineograph.server.settings import Limits

    with serving(tmp_path, limits=Limits(upload_bytes=10_000, uploads_bytes=15_000)) as served:
        small, large = (CLIPS / "blue_square_right.mp4").read_bytes(), (CLIPS / "red_circle.mp4").read_bytes()
        assert upload(served, "large.mp4", large).status_code == 413
        assert [upload(served, f"{at}.mp4", small).status_code for at in range(4)] == [201, 201, 201, 413]


# 23: what a file carries


def test_what_a_file_carries_is_shown_and_never_run(served):
    from kineograph.nodes.media.chunks import with_png_text

    png = (CLIPS / "blue_square.png").read_bytes()
    jobs = served.client.get("/api/jobs").json()["total"]
    workflow = {"nodes": {"a": {"type": "toy/add@1", "params": {"a": 1, "b": 2}}}, "outputs": {"x": "a"}}
    sent = upload(served, "carries.png", with_png_text(png, json.dumps(workflow))).json()
    assert sent["workflow"] == workflow
    assert served.client.get(f"/api/files/{sent['id']}/workflow").json() == {"workflow": workflow}
    for text in ("[1]", "not json", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 1000):
        sent = upload(served, "carries.png", with_png_text(png, text)).json()
        assert sent["workflow"] is None
    assert served.client.get(f"/api/files/{sent['id']}/workflow").status_code == 404
    assert served.client.get("/api/jobs").json()["total"] == jobs


# 15: in a process that may be killed


def hang(_requests, _replies, seconds):
    time.sleep(seconds)


def crash(_requests, _replies):
    import os

    os._exit(9)


def eat(requests, replies):
    for _ in requests:
        try:
            bytearray(1 << 30)
            answer = "fine"
        except MemoryError:
            answer = "no memory"
        replies.write(json.dumps({"answer": answer}) + "\n")
        replies.flush()


def test_a_helper_that_hangs_or_crashes_is_ended_and_started_again():
    hanging = Aside(f"{__name__}:hang", [30], nbytes=4 << 30)
    began = time.monotonic()
    with pytest.raises(Refused, match="too long"):
        hanging.ask({}, 1.0)
    assert time.monotonic() - began < 5
    assert hanging._process is None
    crashing = Aside(f"{__name__}:crash", [], nbytes=4 << 30)
    with pytest.raises(Refused, match="crashed"):
        crashing.ask({}, 20.0)
    with ThreadPoolExecutor(40) as threads:
        asked = [threads.submit(hanging.ask, {}, 0.2) for _ in range(40)]
    errors = [str(each.exception()) for each in asked]
    assert sum("Too many" in error for error in errors) >= 20
    assert all("Too many" in error or "too long" in error for error in errors)
    hanging.close()
    eating = Aside(f"{__name__}:eat", [], nbytes=512 << 20)
    assert eating.ask({}, 20.0) == {"answer": "no memory"}
    eating.close()
    with pytest.raises(Refused, match="stop"):
        eating.ask({}, 1.0)


def test_types_by_first_bytes():
    assert sniffed(b"") == sniffed(b"<html>") == sniffed(b"RIFF....WAVE") == ""
    assert sniffed(b"\x1a\x45\xdf\xa3" + b"\0" * 8 + b"webm") == "video/webm"
