"""The checklist of security, one test for each line that a request can try."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import ADD, EVENTS, URL, serving
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from kineograph.server.errors import without_values

TOKEN = "correct horse battery staple"
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
OTHERS = (
    "null", "http://attacker.example", "http://127.0.0.1:9999", "https://127.0.0.1:8188.attacker.example", "garbage",
          "http://127.0.0.1:8188@attacker.example", "file://", "http://127.0.0.1:8188/", "http://[::1", "")  # fmt: skip
SIMPLE = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served")) as found:
        yield found


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("secret"), token=TOKEN, client={"headers": {}}) as found:
        yield found


def denied(served, headers):
    """The status with which a WebSocket is refused."""
    with pytest.raises(WebSocketDenialResponse) as refused, served.client.websocket_connect(EVENTS, headers=headers):
        pass
    return refused.value.status_code


def code(answer):
    return answer.json()["error"]["code"]


# 2: Host


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "127.0.0.1.nip.io",
        "127.0.0.1.nip.io:8188",
        "",
        "a b",
        "127.0.0.1:99999",
        "192.168.1.7",
        "[::1",
    ],
)
def test_a_name_that_is_not_ours_is_refused(served, host):
    answer = served.client.get("/api/system", headers={"Host": host})
    assert (answer.status_code, code(answer)) == (421, "wrong_host")
    assert denied(served, {"Host": host}) == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8188", "localhost:8188", "LOCALHOST", "[::1]:8188"])
def test_our_own_names_are_answered(served, host):
    assert served.client.get("/api/system", headers={"Host": host}).status_code == 200


def test_behind_a_token_an_address_is_answered_and_a_name_is_not(secret):
    known = {"Authorization": f"Bearer {TOKEN}"}
    assert secret.client.get("/api/system", headers=known | {"Host": "192.168.1.7:8188"}).status_code == 200
    assert secret.client.get("/api/system", headers=known | {"Host": "attacker.example"}).status_code == 421


# 3: Origin


@pytest.mark.parametrize("verb", UNSAFE)
@pytest.mark.parametrize("origin", OTHERS)
def test_another_site_changes_nothing(served, verb, origin):
    answer = served.client.request(verb, "/api/jobs/aa", json={}, headers={"Origin": origin})
    assert (answer.status_code, code(answer)) == (403, "forbidden")


@pytest.mark.parametrize("verb", UNSAFE)
def test_who_says_no_origin_needs_the_token(secret, verb):
    served = secret
    answer = served.client.request(verb, "/api/jobs/aa", json={})
    assert answer.status_code == 403
    known = {"Authorization": f"Bearer {TOKEN}"}
    assert served.client.request(verb, "/api/jobs/aa", json={}, headers=known).status_code in (404, 405)


def test_without_a_token_an_origin_must_be_said(tmp_path):
    with serving(tmp_path, client={"headers": {}}) as served:
        assert served.client.post("/api/queue/pause").status_code == 403
        assert served.client.post("/api/queue/pause", headers={"Origin": URL}).status_code == 204
        assert denied(served, {}) == 403


@pytest.mark.parametrize("origin", OTHERS)
def test_no_socket_for_another_site(served, origin):
    assert denied(served, {"Origin": origin}) == 403


def test_what_another_site_embeds_is_refused(served):
    fetched = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert served.client.get("/api/system", headers=fetched).status_code == 403
    assert served.client.get("/api/docs", headers=fetched | {"Sec-Fetch-Mode": "navigate"}).status_code == 200


# 4: content types


@pytest.mark.parametrize("kind", SIMPLE)
@pytest.mark.parametrize("path", ["/api/check", "/api/jobs", "/api/queue/pause", "/api/uploads?name=a.png"])
def test_what_a_form_can_send_is_refused(served, kind, path):
    answer = served.client.post(path, content=json.dumps({"workflow": ADD}), headers={"Content-Type": kind})
    assert (answer.status_code, code(answer)) == (415, "wrong_content_type")


def test_a_body_without_a_type_is_refused(served):
    assert served.client.post("/api/check", content=b"{}").status_code == 415


# 5: token


def test_nothing_without_the_token(secret):
    for path in ("/api/system", "/api/nodes", "/api/jobs", "/metrics", "/openapi.json", "/api/docs", "/api/files/aa"):
        assert secret.client.get(path).status_code == 401, path
        assert secret.client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401, path
        assert secret.client.get(path, headers={"Cookie": "kineograph=wrong"}).status_code == 401, path
        assert secret.client.get(f"{path}?token={TOKEN}").status_code == 401, path
    assert "token" in secret.client.get("/").text


def test_a_session_begins_and_ends(secret):
    sign_in = {"Origin": URL}
    assert secret.client.post("/api/session", json={"token": "wrong"}, headers=sign_in).status_code == 401
    answer = secret.client.post("/api/session", json={"token": TOKEN}, headers=sign_in)
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 204
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    kept = {"Cookie": cookie.partition(";")[0]}
    secret.client.cookies.clear()
    assert secret.client.get("/api/system", headers=kept).status_code == 200
    with secret.client.websocket_connect(EVENTS, headers=kept | sign_in) as socket:
        socket.send_json({})
        assert socket.receive_json()["event"] == {"event": "Resync"}
        assert secret.client.delete("/api/session", headers=kept | sign_in).status_code == 204
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()
    assert secret.client.get("/api/system", headers=kept).status_code == 401


def test_a_socket_shows_the_token_first(secret):
    page = {"Origin": URL}
    with secret.client.websocket_connect(EVENTS, headers=page) as socket:
        socket.send_json({"token": TOKEN})
        assert socket.receive_json()["event"] == {"event": "Resync"}
    for hello in ({"token": "wrong"}, {}):
        with secret.client.websocket_connect(EVENTS, headers=page) as socket:
            socket.send_json(hello)
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_json()
            assert closed.value.code == 1008


# 6: limits


def test_forty_megabytes_are_refused_before_they_are_read(served):
    body = b'{"workflow": {"nodes": {}}, "pad": "' + b"x" * (40 << 20) + b'"}'
    began = time.process_time()
    answer = served.client.post("/api/check", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, code(answer)) == (413, "too_large")
    assert time.process_time() - began < 1.0

    def pieces():
        for _ in range(40):
            yield b" " * (1 << 20)

    answer = served.client.post("/api/check", content=pieces(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize("depth", [65, 100_000])
def test_deep_json_is_refused(served, depth):
    body = '{"workflow": ' + "[" * depth + "]" * depth + "}"
    answer = served.client.post("/api/check", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, code(answer)) == (400, "invalid_json")


def test_more_than_twenty_thousand_nodes_are_refused(served):
    add = ADD["nodes"]["sum"]
    raw = {"nodes": {f"n{at}": add for at in range(20_001)}, "outputs": {"sum": "n1"}}
    answer = served.client.post("/api/check", json={"workflow": raw})
    assert not answer.json()["ok"]
    assert "20,000" in answer.text


# 7: strict JSON


@pytest.mark.parametrize(
    "text",
    ['{"workflow": NaN}', '{"workflow": {"nodes": {"a": {"params": {"p": Infinity}}}}}', '{"workflow": 1e999}',
     '{"workflow": {}, "workflow": {}}', '{"workflow": {"nodes": {}, "x": 99999999999999999999}}', "[" * 10,
     '{"workflow"', "\xff", '"\\ud800"', ""],
)  # fmt: skip
def test_what_is_no_strict_json_is_refused(served, text):
    answer = served.client.post(
        "/api/check", content=text.encode("latin-1"), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 415, 422)
    assert answer.json()["error"]["message"]


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(JSONS)
def test_no_json_breaks_the_server(served, body):
    for path in ("/api/check", "/api/jobs", "/api/drafts/x"):
        verb = "PUT" if "drafts" in path else "POST"
        text = json.dumps(body)
        answer = served.client.request(verb, path, content=text, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(nodes=st.dictionaries(st.from_regex(r"[a-z]{1,3}", fullmatch=True), st.fixed_dictionaries({
    "type": st.sampled_from(["toy/add@1", "load_video@1", "loop@1", "branch@1", "#d@1", "nothing@1"]),
    "params": st.dictionaries(st.sampled_from(["a", "b", "path", "when"]), JSONS, max_size=3),
    "links": st.dictionaries(st.sampled_from(["a", "b", "path"]), st.sampled_from(["$x", "a", "b.c"]), max_size=2),
}), max_size=5))  # fmt: skip
def test_no_workflow_breaks_the_server(served, nodes):
    body = json.dumps({"workflow": {"nodes": nodes, "outputs": {"x": "a"}}}, allow_nan=True)
    for path in ("/api/check", "/api/plan", "/api/jobs"):
        answer = served.client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code < 500
        assert answer.status_code != 201 or answer.json()["state"] == "queued"


# 10, 17, 18, 19, 21


def test_the_page_runs_no_script_that_stands_in_it(served):
    policy = served.client.get("/").headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    for page in ("/", "/api/docs"):
        found = served.client.get(page)
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|https?://(?!127)", found.text)


def test_no_route_installs_or_changes_settings(served):
    paths = served.client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if re.search(r"pack|install|setting|config|restart|update", path)]
    for path in ("/api/packs", "/api/packs/install", "/api/settings", "/api/system"):
        assert served.client.post(path, json={"url": "git"}).status_code in (404, 405)
    assert {"name": "toy", "nodes": 4} in served.client.get("/api/system").json()["packs"]


def test_what_it_keeps_is_for_its_owner_alone(served):
    for name in ("workflows", "uploads", "models", "outputs"):
        assert (served.data / name).stat().st_mode & 0o077 == 0, name
    for path in ("/jobs.sqlite", "/assets/../jobs.sqlite", "/assets/..%2fjobs.sqlite", "/data/jobs.sqlite"):
        assert served.client.get(path).status_code == 404


def test_names_reach_no_attribute(served):
    raw = {
        "nodes": {"a": {"type": "toy/add@1", "params": {"__class__": 1, "a": 1, "b": 1}}},
        "outputs": {"x": "a.__class__"},
    }
    answer = served.client.post("/api/check", json={"workflow": raw})
    assert len(answer.json()["problems"]) == 2


def test_the_log_holds_no_paths_tokens_or_prompts(secret, caplog):
    caplog.set_level(logging.INFO)
    known = {"Authorization": f"Bearer {TOKEN}"}
    raw = {"inputs": {"prompt": {"type": "str"}}, **ADD}
    secret.client.post("/api/jobs", json={"workflow": raw, "inputs": {"prompt": "my private words"}}, headers=known)
    secret.client.post("/api/check", json={"workflow": raw, "inputs": {"other": "my private words"}}, headers=known)
    secret.client.get("/api/files/privatename", headers=known)
    secret.client.get("/api/workflows/private name", headers=known)
    secret.client.get("/api/workflows/line%0d%0aINFO forged", headers=known)
    secret.client.get(f"/api/system?token={TOKEN}")
    said = "\n".join(record.getMessage() for record in caplog.records if record.name != "httpx2")
    assert "404" in said
    assert "forged" not in said
    for word in ("private", TOKEN, str(secret.data), "/home", "/tmp"):
        assert word not in said, word


def test_what_broke_is_logged_without_values(caplog):
    log = logging.getLogger("a server")
    log.addFilter(without_values)
    try:
        Path("/private/words").read_text()
    except OSError:
        log.exception("Exception in ASGI application\n")
    assert re.fullmatch(
        r"Exception in ASGI application: FileNotFoundError in \w+, line \d+", caplog.records[-1].getMessage()
    )
    assert "private" not in caplog.text


def test_methods_that_somebody_makes_up_are_counted_as_one(served):
    for name in ("MADEUP", "ALSOMADEUP"):
        served.client.request(name, "/api/jobs")
    numbers = served.client.get("/metrics").text
    assert 'method="other"' in numbers
    assert "MADEUP" not in numbers


def test_a_body_of_very_many_fields_is_refused_in_one_sentence(served):
    answer = served.client.post("/api/check", json={f"f{at}": 0 for at in range(1000)})
    assert (answer.status_code, answer.json()["error"]["problems"]) == (422, [])


def test_the_server_loads_no_torch():
    import subprocess

    code = "import sys, kineograph.cli.serve, kineograph.server.app, kineograph.interop.comfyui.routes; "
    code += "from kineograph import default_runtime; "
    code += "default_runtime().describe(); "
    code += "print({'torch', 'av', 'numpy', 'networkx', 'kineograph.nodes.networks'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
