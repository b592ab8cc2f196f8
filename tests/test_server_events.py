"""Events over WebSockets: in order, nothing twice, nothing missed, bounded for who does not read."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from served import ADD, EVENTS, URL, serving
from starlette.websockets import WebSocketDisconnect
from test_server_run import server
from websockets.sync.client import connect

from kineograph.client import Client
from kineograph.graph_runtime.jobs.records import Logged
from kineograph.server.hub import Client as Waiting
from kineograph.server.hub import Hub
from kineograph.server.routes.events import _serve
from kineograph.server.settings import Limits

FLOOD = {"nodes": {"a": {"type": "toy/slow@1", "params": {"steps": 10_000, "seconds": 0.0}}}, "outputs": {"x": "a"}}
PICTURE = {"event": "NodePreview", "path": "loop", "port": "latent", "done": 3, "png": "iVBORw0K"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served"), run=True) as found:
        yield found


def until(socket, kind, job=None):
    """All that is heard up to an event of a kind."""
    heard = []
    while not heard or heard[-1]["event"]["event"] != kind or (job and heard[-1]["job"] != job):
        heard.append(socket.receive_json())
    return heard


def test_events_come_in_order_and_nothing_is_missed_after_a_break(served):
    with served.client.websocket_connect(EVENTS) as socket:
        socket.send_json({})
        begin = socket.receive_json()
        assert begin["event"] == {"event": "Resync"}
        job = served.submit(ADD)["id"]
        whole = until(socket, "JobEnded", job)
    seqs = [each["seq"] for each in whole]
    assert seqs == sorted(set(seqs))
    assert min(seqs) > begin["seq"]
    kinds = [each["event"]["event"] for each in whole if each["job"] == job]
    assert kinds[0] == "JobQueued"
    assert {"JobStarted", "RunStarted", "NodeStarted", "NodeFinished", "RunFinished"} <= set(kinds)
    for cut in (0, len(whole) // 2, len(whole) - 2):
        with served.client.websocket_connect(EVENTS) as socket:
            socket.send_json({"after": whole[cut]["seq"]})
            assert until(socket, "JobEnded", job) == whole[cut + 1 :]


def test_who_was_away_too_long_looks_anew(served):
    newest = served.jobs.event_log.last
    for after in (0, newest + 10**9):
        with served.client.websocket_connect(EVENTS) as socket:
            socket.send_json({"after": after})
            assert socket.receive_json()["event"] == {"event": "Resync"}


def test_a_client_hears_of_its_own_jobs_alone(served):
    with served.client.websocket_connect(EVENTS) as socket:
        socket.send_json({"jobs": []})
        socket.receive_json()
        served.submit(ADD)
        mine = served.submit(ADD)["id"]
        socket.send_json({"jobs": [mine]})
        served.client.get("/api/system")
        served.client.post("/api/queue/pause")
        served.client.patch(f"/api/jobs/{mine}", json={"title": "new"})
        served.client.post("/api/queue/resume")
        heard = until(socket, "JobChanged", mine)
    assert {each["job"] for each in heard} <= {"", mine}


def test_a_preview_is_a_frame_of_bytes(served):
    with served.client.websocket_connect(EVENTS) as socket:
        socket.send_json({})
        socket.receive_json()
        served.jobs.event_log.tell("aa", 0, PICTURE)
        frame = socket.receive_bytes()
    size = int.from_bytes(frame[:4], "big")
    header = {"job": "aa", "path": "loop", "port": "latent", "media_type": "image/png", "index": 3}
    assert json.loads(frame[4 : 4 + size]) == header
    assert frame[4 + size :] == b"\x89PNG\r\n"


@pytest.mark.parametrize(
    "hello", ["{", '{"after": NaN}', '{"after": -1}', '{"after": "1"}', '{"x": 1}', '{"jobs": "a"}', "[]", b"\0"]
)
def test_what_is_no_hello_ends_the_talk(served, hello):
    with served.client.websocket_connect(EVENTS) as socket:
        socket.send_bytes(hello) if isinstance(hello, bytes) else socket.send_text(hello)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.code == 1008


def test_too_long_and_too_many_messages_end_the_talk(served):
    with served.client.websocket_connect(EVENTS) as socket:
        socket.send_text('{"token": "' + "x" * (1 << 17) + '"}')
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.code == 1009
    with served.client.websocket_connect(EVENTS) as socket:
        for _ in range(50):
            socket.send_json({"jobs": []})
        with pytest.raises(WebSocketDisconnect) as closed:
            [socket.receive_json() for _ in range(100)]
    assert closed.value.code == 1008


# the queue for one client


def test_only_the_newest_progress_waits_and_there_is_an_end_to_it():
    async def main():
        client = Waiting(None, items=10, nbytes=1000)
        for seq in range(1000):
            client.put(seq, ("NodeProgress", "job", "loop"), f"{seq:03}")
        assert await client.take() == (999, "999")
        for seq in range(10):
            client.put(seq, seq, "x")
        assert not client.gone.is_set()
        client.put(10, 10, "x")
        assert (client.gone.is_set(), client.why) == (True, "too slow")
        large = Waiting(None, items=10, nbytes=1000)
        large.put(1, 1, b"x" * 1001)
        assert large.gone.is_set()

    asyncio.run(main())


def test_events_that_the_loop_does_not_reach_become_a_resync():
    class Count:
        def inc(self, amount=1):
            pass

    async def main():
        hub, client = Hub(Count()), Waiting(None, items=60_000, nbytes=1 << 30)
        hub.start()
        hub.clients.add(client)
        for seq in range(50_000):
            hub.hear(Logged(seq, "job", 0.0, {"event": "NodeStarted", "path": str(seq), "node_type": "a@1"}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert json.loads((await client.take())[1])["event"] == {"event": "Resync"}

    asyncio.run(main())


def test_who_does_not_read_costs_nothing(tmp_path):
    """Eight clients that read and four that never do: the eight hear the last of 10,000 numbers and the end."""
    with server(tmp_path) as (_, url), Client(url) as client, ExitStack() as stack:
        address, before = client.url.replace("http", "ws") + "/api/events", memory(client)
        sockets = [
            stack.enter_context(connect(address, origin=client.url, max_queue=4, close_timeout=0.1)) for _ in range(12)
        ]
        for socket in sockets:
            socket.send("{}")
            socket.recv()
        job = client.submit(FLOOD)["id"]
        with ThreadPoolExecutor(8) as threads:
            steps = list(threads.map(last_step, sockets[:8]))
        assert steps == [9_999] * 8
        assert client.job(job)["state"] == "done"
        assert memory(client) - before < 48 << 20


def last_step(socket):
    """The step of the last number to plot before the job ends."""
    step = -1
    while (event := json.loads(socket.recv())["event"])["event"] != "JobEnded":
        step = event.get("step", step)
    return step


def test_who_does_not_read_is_let_go(tmp_path):
    """A socket that takes nothing, with a server that waits a tenth of a second for it."""

    class Stuck:
        """A WebSocket whose other side does not read."""

        closed = 0

        async def send_text(self, _):
            await asyncio.sleep(60)

        async def receive(self):
            await asyncio.sleep(60)

        async def close(self, code, why):
            self.closed = (code, why)

    async def main(parts):
        socket, client = Stuck(), Waiting(None, 10, 1000)
        await asyncio.wait_for(_serve(socket, parts, client, None), 5)
        return socket.closed

    with serving(tmp_path, limits=Limits(socket_seconds=0.1)) as served:
        assert asyncio.run(main(served.app.state.parts)) == (1013, "too slow")
        assert "kineograph_slow_clients_total 1.0" in served.client.get("/metrics").text


def memory(client):
    return client.system()["memory"]["server"]


def test_a_client_hears_all_that_is_kept_of_a_long_job(served):
    job = served.submit(ADD)
    for at in range(6000):
        served.jobs.event_log.tell(job["id"], job["number"], {"event": "NodeStarted", "path": f"n{at}"})
    client = Client(URL)
    client._http = served.client  # the same server, without a port
    told = [f"n{at}" for at in range(6000)]
    known = set(told)
    kept = [each["event"].get("path") for each in client._kept(job["id"], 0)]
    assert [path for path in kept if path in known] == told
