"""Reading workflow files: strict, and every refusal is a sentence with its place."""

from __future__ import annotations

import json
import time

import pytest

from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.workflow import MAX_BYTES, load_workflow, parse_json, parse_workflow

FORMS = "node, node.port or $input."


def refusal(call, *arguments) -> str:
    with pytest.raises(InvalidWorkflow) as refused:
        call(*arguments)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "f: not JSON: Expecting property name enclosed in double quotes at line 1, column 2."),
        ("", "f: not JSON: Expecting value at line 1, column 1."),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "f: the key 'c' stands twice in one object."),
        ("[NaN]", "f: NaN is not a finite number."),
        ("[-Infinity]", "f: -Infinity is not a finite number."),
        ("[1e999]", "f: 1e999 is not a finite number."),
        ("[9223372036854775808]", "f: 9223372036854775808 is past 64 bits."),
        ("9" * 10_000, "f: " + "9" * 24 + " is past 64 bits."),
        ("[" * 65 + "]" * 65, "f: nested deeper than 64 levels."),
        ("[" * 200_000 + "]" * 200_000, "f: nested deeper than 64 levels."),
    ],
    ids=["json", "empty", "twice", "nan", "infinity", "overflow", "65 bits", "huge", "deep", "deeper"],
)
def test_strict_json(text, message):
    assert refusal(parse_json, text, "f") == message


def test_what_strict_json_takes():
    value = {"a": [1, -(2**63), 2**63 - 1, 1e308, None, True, "\u00e9"]}
    assert parse_json(json.dumps(value), "f") == value
    assert parse_json("[" * 64 + "]" * 64, "f")


def test_files_that_are_none(tmp_path):
    (tmp_path / "latin").write_bytes(b'{"about": "\xe9"}')
    (tmp_path / "large").write_bytes(b" " * (MAX_BYTES + 1))
    assert refusal(load_workflow, tmp_path / "none") == f"There is no file {tmp_path / 'none'}."
    assert "is a folder" in refusal(load_workflow, tmp_path)
    assert "is not UTF-8" in refusal(load_workflow, tmp_path / "latin")
    assert "more than 16,777,216 bytes" in refusal(load_workflow, tmp_path / "large")
    assert "is no path" in refusal(load_workflow, "a\0b")
    assert "cannot be read" in refusal(load_workflow, tmp_path / "latin" / "x")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "A workflow is a JSON object, this is a list."),
        ({"format": 1}, "nodes: The field 'nodes' is missing."),
        ({"nodes": {}, "format": 2}, "format: Format 2 is unknown, this version reads format 1."),
        ({"nodes": {"a": 1}}, "a: An object is needed here."),
        ({"nodes": {"a": {"type": "x@1", "colour": {}}}}, "a.colour: There is no field 'colour' here."),
        ({"nodes": {"node": {"params": {}}}}, "node.type: The field 'type' is missing."),
        ({"nodes": {"a": {"type": "x@1", "links": {"x": ""}}}}, "a.links.x: '' is no link: write " + FORMS),
        ({"nodes": {"a": {"type": "x@1", "links": {"x": ".b"}}}}, "a.links.x: '.b' is no link: write " + FORMS),
        ({"nodes": {"l": {"type": "loop@1", "each": "a", "body": {"nodes": {"b": {"type": 1}}, "outputs": {"x": 1}}}}},
         "l/b.type: A string is needed here.\nl/outputs.x: A string is needed here."),
        ({"nodes": {"l": {"type": "loop@1", "each": "a"}}}, "l.body: The field 'body' is missing."),
    ],
)  # fmt: skip
def test_a_wrong_form_has_its_place(raw, message):
    assert refusal(parse_workflow, raw) == message


@pytest.mark.parametrize("name", ["", "1a", "a b", "a/b", "a.b", "$a", "a" * 129, "a\n"])
def test_names_are_plain(name):
    assert "A name is letters, digits" in refusal(parse_workflow, {"nodes": {name: {"type": "x@1"}}})


def test_a_dict_can_be_too_deep():
    raw = {}
    for _ in range(100_000):
        raw = {"ui": raw}
    assert "deeper than 64 levels" in refusal(parse_workflow, raw)


def test_written_and_read_again_it_is_the_same(graph, spec, loop):
    nodes = {"n": spec("count@1", n=1), "l": loop("n", {"a": spec("add@1", {"a": "$item"})}, {"a": "a"}, collect=["a"])}
    workflow = parse_workflow(graph(nodes, {"x": {"type": "int"}}, y="l") | {"about": "\u00e9", "ui": {"zoom": 1}})
    assert parse_workflow(parse_json(workflow.to_json(), "again")) == workflow


def test_a_doubled_key_among_many_is_found_at_once():
    text = "{" + ",".join(f'"k{at}": 0' for at in range(200_000)) + ', "k199999": 0}'
    began = time.perf_counter()
    assert refusal(parse_json, text, "f") == "f: the key 'k199999' stands twice in one object."
    assert time.perf_counter() - began < 10  # seconds; counting each key anew took minutes


def test_many_mistakes_below_a_long_name_cost_no_memory():
    wrong = {"type": "x"} | {f"f{at}": 0 for at in range(20_000)}
    assert refusal(parse_workflow, {"nodes": {"a" * 20_000: wrong}}) == "The names in the workflow are too long."
    assert refusal(parse_workflow, {"nodes": {"a": wrong}}) == (
        "20,000 things are wrong with its form. Is it a workflow?"
    )
