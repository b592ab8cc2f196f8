"""Names the sub-packages for setuptools; everything else stands in pyproject.toml.

A wheel holds the editor: it is built if Node.js is there, and else there is no wheel. An editable install needs none.

The root of the repository is the package ``kineograph``. setuptools can find packages but cannot put a name in front of
them, so that happens here, and a new folder below one of the rooms needs no line anywhere.
"""

import runpy
from pathlib import Path

from setuptools import find_namespace_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.sdist import sdist

ROOMS = ("cli", "graph_runtime", "server", "nodes", "interop", "trial")  # not tests, benchmarks, docs, web


def packages() -> list[str]:
    """Every folder below a room that holds Python files, as ``kineograph.room.folder``."""
    names = ["kineograph"]
    for room in filter(lambda name: Path(name).is_dir(), ROOMS):
        below = [f"{room}.{name}" for name in find_namespace_packages(room)]
        with_code = [name for name in below if any(Path(*name.split(".")).glob("*.py"))]
        names += [f"kineograph.{name}" for name in (room, *with_code)]
    return names


def build_editor() -> None:
    """Put the built editor into ``web/dist``, or end with what to do."""
    web_build = runpy.run_path("cli/web_build.py")
    if web_build["built"](Path()) is None:
        raise SystemExit(f"A wheel holds the editor, and it is not built. {web_build['HOW']}")


class Wheel(bdist_wheel):
    """A wheel with the editor."""

    def run(self) -> None:
        """Build the editor, then the wheel."""
        build_editor()
        super().run()


class Sources(sdist):
    """A source archive with the built editor: wheels are made of it where there is no Node.js."""

    def run(self) -> None:
        """Build the editor, then the archive."""
        build_editor()
        super().run()


commands = {"bdist_wheel": Wheel, "sdist": Sources}
setup(packages=packages(), cmdclass=commands, script_name="setup.py")  # so named, this file stays out of the wheel
