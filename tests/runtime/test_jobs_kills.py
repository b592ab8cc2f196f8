"""kill -9 of the queue's process and of its workers at random moments: nothing accepted is lost, nothing ends twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks/kills.py"
WRONG = ("lost", "not done", "changed after its end", "ended twice", "not whole")


def test_six_kills_lose_nothing():
    asked = [sys.executable, SCRIPT, "--kills", "6", "--jobs", "10", "--seed", "2"]
    told = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True, timeout=240).stdout)
    assert {name: told[name] for name in WRONG if told[name]} == {}
    assert told["accepted"] == 10
    assert min(told["kills"].values()) >= 2
    assert told["attempts"] > 10  # some were begun again
