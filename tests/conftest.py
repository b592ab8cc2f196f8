"""What all tests share: nothing is kept in the home of the person who runs them."""

from __future__ import annotations

import itertools
import os
import signal

import pytest

from kineograph.__main__ import main

NUMBERS = itertools.count()


def pytest_configure() -> None:
    """A shell that starts the tests in the background has them ignore Ctrl+C; the commands they start must hear it."""
    for name in ("SIGINT", "SIGHUP"):
        heard = getattr(signal, name, None)
        if heard is not None and signal.getsignal(heard) is signal.SIG_IGN:
            signal.signal(heard, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory):
    """A store of its own for every command line that a test runs."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.getbasetemp() / f"cache-{next(NUMBERS)}")
    yield
    os.environ.pop("XDG_CACHE_HOME")
    if before is not None:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="module")
def no_gradients():
    """For files that run networks and train none."""
    import torch

    with torch.no_grad():
        yield


@pytest.fixture
def cli(capsys, monkeypatch):
    """Run one command line: its exit code, standard output and standard error, where no traceback may be."""
    monkeypatch.chdir(".")  # and back, where a command works in a folder of its own

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return call
