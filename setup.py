"""Names the sub-packages for setuptools; everything else stands in pyproject.toml.

The root of the repository is the package ``kineograph``. setuptools can find packages but cannot put a name in front of
them, so that happens here, and a new folder below one of the rooms needs no line anywhere.
"""

from pathlib import Path

from setuptools import find_namespace_packages, setup

ROOMS = ("cli", "graph_runtime", "server", "nodes", "interop")  # not tests, benchmarks, docs, web


def packages() -> list[str]:
    """Every folder below a room that holds Python files, as ``kineograph.room.folder``."""
    names = ["kineograph"]
    for room in filter(lambda name: Path(name).is_dir(), ROOMS):
        below = [f"{room}.{name}" for name in find_namespace_packages(room)]
        with_code = [name for name in below if any(Path(*name.split(".")).glob("*.py"))]
        names += [f"kineograph.{name}" for name in (room, *with_code)]
    return names


setup(packages=packages(), script_name="setup.py")  # so named, this file stays out of the wheel
