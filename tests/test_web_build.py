"""The editor's files: where they are found, what is said where they are not, and what the lock file may name."""

import json

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
    assert "Install Node.js" in capsys.readouterr().err


def test_the_lock_file_names_no_registry():
    lock = json.loads((web_build.PACKAGE / "web" / "package-lock.json").read_text(encoding="utf-8"))
    assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]
