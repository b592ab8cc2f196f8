"""Many WebSockets on one server, some of which never read: its memory, and how late the others hear of things.

    python benchmarks/clients.py --clients 200 --slow 20

A job without torch tells 20,000 numbers to plot and as many steps of progress as fast as it can.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin

from kineograph.client import Client

PACK = '''
import time
from kineograph.graph_runtime.node import RunContext, node

@node
def flood(run: RunContext, steps: int, pause: float) -> int:
    """Tell much."""
    for step in range(steps):
        run.progress(step + 1, steps)
        run.metric("loss", step, 1.0 / (step + 1))
        time.sleep(pause)
    return steps
'''


def main() -> None:
    """Measure, and print a line for each moment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--slow", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "packs").mkdir()
        (Path(folder) / "packs" / "load.py").write_text(PACK)
        line = ["serve", "--port", "0", "--data", f"{folder}/data", "--packs", f"{folder}/packs", "--no-store"]
        started = [sys.executable, "-m", "kineograph", *line]
        with subprocess.Popen(started, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            try:
                asyncio.run(measure(url, server.pid, options))
            finally:
                server.terminate()


async def measure(url: str, pid: int, options: argparse.Namespace) -> None:
    """Open the sockets, flood them, watch."""
    with Client(url) as client:
        address = client.url.replace("http", "ws") + "/api/events"
        show("no clients", pid)
        many = [await connect(address, origin=Origin(client.url), max_queue=2) for _ in range(options.clients)]
        for socket in many:
            await socket.send("{}")
            await socket.recv()
        show(f"{len(many)} clients", pid)
        readers = [asyncio.create_task(follow(socket)) for socket in many[options.slow :]]
        for steps, pause, what in ((options.steps, 0.0, "as fast as it can"), (500, 0.02, "50 a second")):
            nodes = {"a": {"type": "load/flood@1", "params": {"steps": steps, "pause": pause}}}
            began = time.monotonic()
            job = await asyncio.to_thread(client.submit, {"nodes": nodes, "outputs": {"x": "a"}})
            peak = 0
            while (await asyncio.to_thread(client.job, job["id"]))["ended"] is None:
                peak = max(peak, memory(pid))
                await asyncio.sleep(0.2)
            seconds = time.monotonic() - began
            show(f"{steps:,} steps {what}: {seconds:.1f} s, at most {peak / 1e6:.0f} MB", pid)
            await asyncio.sleep(1.0)
        heard = [task.result() if task.done() else None for task in readers]
        for task in readers:
            task.cancel()
        lost = sum(each is not None for each in heard)
        late = sorted(delay for socket_delays in DELAYS.values() for delay in socket_delays[-400:])
        print(f"of {len(readers)} readers {lost} were let go; in the slow flood they heard after a median of "
              f"{1000 * median(late):.0f} ms, 99 % within {1000 * late[int(0.99 * len(late))]:.0f} ms")  # fmt: skip
        await asyncio.sleep(21)
        show("after those that never read were let go", pid)
        print(next(line for line in client.metrics().splitlines() if line.startswith("kineograph_slow_clients_total")))


DELAYS: dict[int, list[float]] = {}


async def follow(socket: ClientConnection) -> str:
    """Read until the server closes; how late each event came is kept."""
    delays = DELAYS.setdefault(id(socket), [])
    try:
        async for heard in socket:
            if isinstance(heard, str):
                delays.append(time.time() - json.loads(heard)["at"])
    except OSError:
        pass
    return "closed"


def show(what: str, pid: int) -> None:
    """One line: resident memory, CPU seconds and open files of the server."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    print(f"{memory(pid) / 1e6:6.0f} MB  {cpu:6.1f} s CPU  {files:4} files  {what}", flush=True)


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
