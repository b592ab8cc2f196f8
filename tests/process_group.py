"""A program for tests: forks the processes of runs of the command line, as torchrun would start them.

Importing torch takes longer than the runs, so one process imports it and forks. In: JSON on stdin, a list of runs,
each {"processes": n, "arguments": [...], "kill_at": metrics after which process 1 is killed, or null, "program": a
file whose ``main`` stands for the command line, or empty}. Out: JSON on stdout, for each run the exit codes, the lines
of process 0, and what all of them said.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import sys
import tempfile

import torch
import torch.distributed.fsdp  # imports seconds' worth of modules
import torch.distributed.tensor

from kineograph.__main__ import main


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run(processes: int, arguments: list[str], kill_at: int | None = None, program: str = "") -> dict:
    """One run, each process a fork."""
    entry = runpy.run_path(program)["main"] if program else main
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
    with tempfile.TemporaryFile() as said:
        reading, writing = os.pipe()
        pids = []
        for rank in range(processes):
            pid = os.fork()
            if pid == 0:
                os.close(reading)
                os.dup2(said.fileno(), 2)
                os.dup2(writing if rank == 0 else 2, 1)
                os.close(writing)
                os.environ.update(environment | {"RANK": str(rank)} if processes > 1 else {})
                os._exit(entry(arguments))
            pids.append(pid)
        os.close(writing)
        lines, told = [], 0
        with open(reading) as seen:
            for line in seen:
                lines.append(json.loads(line))
                told += lines[-1].get("event") == "Metric"
                if told == kill_at:
                    os.kill(pids[1], signal.SIGKILL)
                    kill_at = None
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        said.seek(0)
        words = said.read().decode()
    return {"codes": codes, "lines": lines, "said": words}


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1)])  # imports more of them
    json.dump([run(**each) for each in json.load(sys.stdin)], sys.stdout)
