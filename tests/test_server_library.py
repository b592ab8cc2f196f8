"""What there is to begin from, what is on the canvas, the pages for browsers: workflows, models, drafts, exports."""

from __future__ import annotations

import contextlib
import io
import json
import re

import pytest
from served import ADD, ROOT, serving

from kineograph.server.settings import Limits

INDEX = '<!doctype html><script type="module" src="/assets/app-1a2b.js"></script>'


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "dist" / "assets").mkdir(parents=True)
    (folder / "dist" / "index.html").write_text(INDEX)
    (folder / "dist" / "assets" / "app-1a2b.js").write_text("let x")
    (folder / "secret.txt").write_text("secret")
    (folder / "dist" / "assets" / "out.txt").symlink_to(folder / "secret.txt")
    limits = Limits(drafts=3, revisions=4, draft_bytes=2000)
    with serving(folder, run=True, editor=folder / "dist", limits=limits) as found:
        yield found


# what is described is what the command line says


def test_nodes_are_what_the_command_line_says(served, cli):
    answer = served.client.get("/api/nodes")
    described = answer.json()
    packs = served.data.parent / "packs"
    assert described["nodes"] == json.loads(cli("nodes", "--json", "--packs", packs)[1])
    same = served.client.get("/api/nodes", headers={"If-None-Match": answer.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


def test_an_editor_finds_all_it_needs_to_draw_a_node(served):
    described = served.client.get("/api/nodes").json()
    types = {kind["name"]: kind for kind in described["types"]}
    families = {"model", "text", "latent", "frames", "codec", "schedule", "training", "audio", "value", "any"}
    shapes = {"square", "circle", "diamond", "triangle", "ring"}
    assert all(kind["family"] in families and kind["shape"] in shapes for kind in types.values())
    for node in described["nodes"]:
        for port in (*node["inputs"], *node["outputs"]):
            assert port["type"] in types, (node["id"], port)
            assert port["type"] in described["fits"][port["type"]]
    nodes = {node["id"]: node for node in described["nodes"]}
    assert [nodes[name]["control"] for name in ("loop@1", "branch@1", "toy/add@1")] == ["loop", "branch", ""]
    ports = {port["name"]: port for port in nodes["save_animation@1"]["inputs"]}
    assert ports["path"]["output_endings"] == [".webp", ".gif"]
    assert (ports["quality"]["minimum"], ports["quality"]["maximum"], ports["quality"]["step"]) == (0, 100, 1)
    assert ports["video"]["literal"] is False
    resize = {port["name"]: port for port in nodes["resize_video@1"]["inputs"]}
    assert resize["how"]["choices"] == ["crop", "pad", "stretch"]
    assert [port["multiline"] for port in nodes["encode_text@1"]["inputs"]] == [False, True]
    load = {port["name"]: port for port in nodes["load_video@1"]["inputs"]}
    assert ".mp4" in load["path"]["file_endings"]
    assert types["Stream[SigmaStep]"]["list"] is True
    assert "float" in described["fits"]["int"]
    assert "int" not in described["fits"]["float"]


# workflows


def test_every_template_is_listed_and_runs_here(served):
    listed = {found["name"]: found for found in served.client.get("/api/workflows").json()["workflows"]}
    assert set(listed) == {path.stem for path in (ROOT / "workflows").glob("*.json")}
    assert not any(found["user"] for found in listed.values())
    for name in listed:
        workflow = served.client.get(f"/api/workflows/{name}").json()["workflow"]
        problems = served.client.post("/api/check", json={"workflow": workflow}).json()["problems"]
        assert not problems or name in ("caption", "finetune", "text_to_video_lora"), (
            problems
        )  # these need files of the user


def test_workflows_of_the_user(served):
    assert served.client.put("/api/workflows/my flow", json={"workflow": ADD}).json()["user"] is True
    assert served.client.get("/api/workflows/my flow").json()["workflow"]["nodes"] == ADD["nodes"]
    assert served.client.put("/api/workflows/bad", json={"workflow": {"nodez": {}}}).status_code == 422
    assert served.client.delete("/api/workflows/my flow").status_code == 204
    assert served.client.delete("/api/workflows/my flow").status_code == 404
    assert served.client.delete("/api/workflows/text_to_video").status_code == 404
    assert served.client.get("/api/workflows/text_to_video").status_code == 200


def test_models(served):
    (served.data / "models" / "mine").mkdir()
    (served.data / "models" / "mine" / "dit.safetensors").write_bytes(b"12345")
    (served.data / "models" / "empty").mkdir()
    found = {model["name"]: model for model in served.client.get("/api/models").json()}
    assert set(found) == {"flipbook", "models/mine"}
    assert found["models/mine"] == {"name": "models/mine", "nbytes": 5, "files": ["dit.safetensors"]}


# drafts


def test_two_tabs_and_one_draft(served):
    def put(base, document):
        return served.client.put("/api/drafts/one", json={"document": document, "base": base, "title": "t"})

    assert put(None, {"half": ["a", None]}).json() == {"revision": 1}
    assert put(1, {"half": 2}).json() == {"revision": 2}
    slower = put(1, {"half": 3})
    assert (slower.status_code, slower.json()["revision"], slower.json()["document"]) == (409, 2, {"half": 2})
    assert put(None, 4).status_code == 409
    for base in range(2, 8):
        assert put(base, base).status_code == 200
    kept = served.client.get("/api/drafts/one/revisions").json()["revisions"]
    assert [each["revision"] for each in kept] == [8, 7, 6, 5]
    assert served.client.get("/api/drafts/one/revisions/6").json()["document"] == 5
    assert served.client.get("/api/drafts/one/revisions/2").status_code == 404
    assert served.client.get("/api/drafts/one").json()["revision"] == 8
    assert [each["id"] for each in served.client.get("/api/drafts").json()["drafts"]] == ["one"]
    assert put(8, "x" * 3000).status_code == 413
    assert served.client.delete("/api/drafts/one").status_code == 204
    gone = put(8, 1)
    assert (gone.status_code, gone.json()["revision"]) == (409, None)
    more = [served.client.put(f"/api/drafts/{at}", json={"document": at}) for at in range(4)]
    assert [answer.status_code for answer in more] == [200, 200, 200, 422]


# exports


def test_what_is_exported_does_the_same_elsewhere(served, monkeypatch, tmp_path):
    def export(form):
        return served.client.post("/api/export", json={"workflow": ADD, "as": form}).json()["text"]

    assert json.loads(export("json"))["nodes"] == ADD["nodes"]
    curl = export("curl")
    assert "Origin: http://127.0.0.1:8188" in curl
    assert json.loads(curl.partition("--data-raw '")[2].rstrip("'\n"))["workflow"]["nodes"] == ADD["nodes"]
    monkeypatch.chdir(tmp_path)
    words = {"nodes": {"a": {"type": "read_size@1", "params": {"size": "17x64x32"}}}, "outputs": {"height": "a.height"}}
    script = served.client.post("/api/export", json={"workflow": words, "as": "python"}).json()["text"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        run_script(script)
    assert "height" in said.getvalue()


def run_script(script):
    code = compile(script, "script", "exec")
    exec(code, {})


# pages and numbers


def test_the_editor_is_sent_and_nothing_beside_it(served):
    page = served.client.get("/")
    assert page.text == INDEX
    assert "script-src 'self'" in page.headers["content-security-policy"]
    script = served.client.get("/assets/app-1a2b.js")
    assert (script.text, "immutable" in script.headers["cache-control"]) == ("let x", True)
    for name in ("assets/out.txt", "assets/../index.html", "assets/%2e%2e/x.txt", "assets/..%2f..%2fx.txt", "x.txt"):
        path = f"/{name}"
        assert served.client.get(path).status_code == 404, path


def test_the_page_of_the_api_names_every_route(served):
    page = served.client.get("/api/docs").text
    paths = served.client.get("/openapi.json").json()["paths"]
    assert len(paths) > 30
    assert not [path for path in paths if f"<code>{path}</code>" not in page]
    assert "Put a job into the queue" in page


def test_without_an_editor_a_page_says_how(tmp_path):
    with serving(tmp_path, editor=None) as bare:
        assert "npm" in bare.client.get("/").text


def test_numbers_for_prometheus(served):
    served.client.get("/api/jobs/aa")
    text = served.client.get("/metrics").text
    assert re.search(r'kineograph_requests_total\{method="GET",route="[^"]*/jobs/\{job\}",status="404"\} 1', text)
    assert 'kineograph_jobs{state="queued"}' in text
    assert "aa" not in re.findall(r'route="([^"]*)"', text)


# jobs


def test_a_job_from_queue_to_history(served):
    served.client.post("/api/queue/pause")
    first, second = (served.submit(ADD, title=title, tags=["t"])["id"] for title in ("first", "second"))
    front = served.submit(ADD, title="front", front=True)["id"]

    def order():
        return [job["id"] for job in served.client.get("/api/jobs?state=queued&order=queue").json()["jobs"]]

    assert order() == [front, first, second]
    assert served.client.post(f"/api/jobs/{second}/move", json={"before": first}).status_code == 200
    assert order() == [front, second, first]
    assert served.client.post(f"/api/jobs/{first}/cancel").json()["state"] == "cancelled"
    assert served.client.patch(f"/api/jobs/{front}", json={"starred": True, "title": "new"}).json()["starred"] is True
    found = served.client.get("/api/jobs?starred=true").json()
    assert [job["title"] for job in found["jobs"]] == ["new"]
    assert found["paused"] is True
    assert served.client.post("/api/queue/cancel-all").json() == {"cancelled": 2}
    again = served.client.post(f"/api/jobs/{first}/retry").json()
    assert (again["state"], again["title"]) == ("queued", "first")
    served.client.post("/api/queue/resume")
    assert served.client.delete(f"/api/jobs/{first}").status_code == 204
    assert served.client.get(f"/api/jobs/{first}").status_code == 404
    page = served.client.get("/api/jobs?limit=1").json()
    assert page["next"]
    assert len(served.client.get("/api/jobs", params={"limit": 1, "cursor": page["next"]}).json()["jobs"]) == 1
    assert served.client.get("/api/jobs?cursor=nonsense").status_code == 422
    assert served.client.get("/api/jobs?state=lost").status_code == 422


def test_a_workflow_that_cannot_run_is_no_job(served):
    workflow = {"nodes": {"a": {"type": "toy/add@1", "params": {"a": 3.9, "x": 1}}}}
    answer = served.client.post("/api/jobs", json={"workflow": workflow})
    assert answer.status_code == 422
    assert {problem["place"] for problem in answer.json()["error"]["problems"]} >= {"a.a", "a.b", "a.x"}
    assert served.client.post("/api/jobs", json={"workflow": ADD, "inputs": {"no": 1}}).status_code == 422
    assert served.client.post("/api/jobs", json={"workflow": ADD, "outputs": ["no"]}).status_code == 422
    assert served.client.post("/api/jobs", json={"workflow": ADD, "unknown": 1}).status_code == 422
