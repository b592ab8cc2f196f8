"""The editor's files: where they are found, what is said where they are not, and what the lock file may name."""

import json
import os

import pytest

from kineograph.cli import web_build


def test_nothing_is_built_where_there_are_no_sources(tmp_path):
    assert web_build.dist(tmp_path) is None
    assert web_build.built(tmp_path) is None
    assert "npm" in web_build.how() or "Node.js" in web_build.how()


def test_a_built_editor_is_found(tmp_path):
    (tmp_path / "web" / "dist").mkdir(parents=True)
    (tmp_path / "web" / "dist" / "index.html").write_text("<!doctype html>")
    assert web_build.built(tmp_path) == tmp_path / "web" / "dist"


def test_no_npm_is_said_and_ends_with_127(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(web_build, "find_npm", lambda: None)
    assert web_build.npm_run(["ci"], tmp_path) == 127
    assert "install Node.js" in capsys.readouterr().err


def test_the_lock_file_names_no_registry():
    lock = json.loads((web_build.PACKAGE / "web" / "package-lock.json").read_text(encoding="utf-8"))
    assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with a source and a build of it, and what npm was asked for: a build writes, as vite does."""
    web = tmp_path / "web"
    (web / "src").mkdir(parents=True)
    (web / "dist").mkdir()
    for name in ("package.json", "package-lock.json", "index.html", "src/app.ts", "dist/index.html"):
        (web / name).write_text("")
    asked = []

    def npm(arguments, root=tmp_path):
        asked.append(" ".join(arguments))
        (web / "dist" / "index.html").write_text("new")
        return 0

    monkeypatch.setattr(web_build, "npm_run", npm)
    monkeypatch.setattr(web_build, "find_npm", lambda: (["npm"], ""))
    return tmp_path, asked


def touched(root, name: str, later: float) -> None:
    """A file changed so many seconds after the build."""
    built = (root / "web" / "dist" / "index.html").stat().st_mtime
    os.utime(root / "web" / name, (built + later, built + later))


def test_a_fresh_build_is_served_as_it_is(checkout):
    root, asked = checkout
    for name in ("package-lock.json", "index.html", "src/app.ts"):
        touched(root, name, -5)
    assert web_build.built(root) == root / "web" / "dist"
    assert asked == []


@pytest.mark.parametrize("name", ["src/app.ts", "package-lock.json", "index.html"])
def test_a_stale_build_is_made_again(checkout, name):
    root, asked = checkout
    touched(root, name, 5)
    assert web_build.built(root) == root / "web" / "dist"
    assert asked == ["ci", "run build"]


def test_what_is_installed_is_not_installed_again(checkout):
    root, asked = checkout
    (root / "web" / "node_modules").mkdir()
    (root / "web" / "node_modules" / ".package-lock.json").write_text("")
    touched(root, "package-lock.json", -5)
    touched(root, "src/app.ts", 5)
    web_build.built(root)
    assert asked == ["run build"]


def test_a_stale_build_without_npm_is_served_and_said(checkout, monkeypatch, capsys):
    root, asked = checkout
    monkeypatch.setattr(web_build, "find_npm", lambda: None)
    touched(root, "src/app.ts", 5)
    assert web_build.built(root) == root / "web" / "dist"
    assert asked == []
    assert "older than its sources" in capsys.readouterr().err
