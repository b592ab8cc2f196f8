"""Keys, overwrites, recorded history, lifetimes: all before anything runs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kineograph.graph_runtime import plan
from kineograph.graph_runtime.errors import InvalidWorkflow
from kineograph.graph_runtime.keys import canonical, digest
from kineograph.graph_runtime.node import node, node_type


def keys(runtime, workflow, **inputs):
    plan = runtime.plan(workflow, inputs)
    return {name: plan.keys[slot] for name, slot in plan.outputs.items()}


def message(runtime, workflow):
    return "\n".join(map(str, runtime.problems(workflow)))


BASE = {
    "a": {"type": "add@1", "params": {"a": 1, "b": 2}},
    "b": {"type": "scale@1", "links": {"x": "a"}, "params": {"by": 2.0}},
}


def test_titles_positions_names_and_order_are_part_of_no_key(runtime, graph):
    renamed = {"z": {**BASE["b"], "links": {"x": "y"}, "title": "here"}, "y": {**BASE["a"], "title": "there"}}
    other = graph(renamed, y="z") | {"about": "new", "ui": {"positions": {"y": [1, 2]}}}
    assert keys(runtime, graph(BASE, y="b")) == keys(runtime, other)


def test_a_default_is_the_same_as_its_value_typed_in(runtime, graph, spec):
    left, written = spec("scale@1", x=1.0), spec("scale@1", x=1, by=1)
    assert keys(runtime, graph({"s": left}, y="s")) == keys(runtime, graph({"s": written}, y="s"))


def test_an_input_is_the_same_as_its_value_typed_in(runtime, graph, spec):
    linked = graph({"s": spec("scale@1", {"x": "$x"})}, {"x": {"type": "float", "default": 3}}, y="s")
    assert keys(runtime, linked) == keys(runtime, graph({"s": spec("scale@1", x=3.0)}, y="s"))
    assert keys(runtime, linked, x=4.0) != keys(runtime, linked)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_literal_is_part_of_the_keys_below_it_and_of_no_other(runtime, data):
    n = data.draw(st.integers(2, 10))
    links = [
        {"a": f"n{data.draw(st.integers(0, at - 1))}"} if at and data.draw(st.booleans()) else {} for at in range(n)
    ]
    nodes = {f"n{at}": {"type": "add@1", "params": {"b": at}, "links": links[at]} for at in range(n)}
    changed = data.draw(st.integers(0, n - 1))
    below = {changed}
    for at in range(n):
        if links[at] and int(links[at]["a"][1:]) in below:
            below.add(at)
    new = dict(data.draw(st.permutations(list(nodes.items()))))
    new[f"n{changed}"] = {**nodes[f"n{changed}"], "params": {"b": 100}}
    outputs = {f"n{at}": f"n{at}" for at in range(n)}
    before = keys(runtime, {"format": 1, "nodes": nodes, "outputs": outputs})
    after = keys(runtime, {"format": 1, "nodes": new, "outputs": outputs})
    assert {int(name[1:]) for name in outputs if before[name] != after[name]} == below


def test_a_loops_key_depends_on_its_body_and_its_wiring(runtime, graph, spec, loop):
    def key(b=1, until=None, effect=False):
        body = {"s": spec("add@1", {"a": "$acc", "b": "$item"}), "t": spec("add@1", {"a": "s"}, b=b)}
        body |= {"stop": spec("above@1", {"x": "s"})} | ({"w": spec("write@1", x=1)} if effect else {})
        more = {"until": until} if until else {}
        nodes = {"zero": spec("add@1"), "n": spec("count@1", n=2)}
        nodes["l"] = loop("n", body, {"acc": "t", "stop": "stop"}, carry={"acc": "zero"}, **more)
        return keys(runtime, graph(nodes, y="l"))["y"]

    assert len({key(), key(b=2), key(until="stop"), key(effect=True)}) == 4
    assert key() == key()


def test_a_file_that_a_literal_names_is_part_of_the_key(runtime, graph, spec, tmp_path):
    path = tmp_path / "a.txt"
    workflow = graph({"r": spec("read@1", path=str(path))}, y="r")
    assert "No such file" in message(runtime, workflow)
    path.write_text("one")
    first = keys(runtime, workflow)
    path.write_text("two")
    assert keys(runtime, workflow) != first
    linked = graph({"s": spec("shout@1", text="a"), "r": spec("read@1", {"path": "s"})}, y="r")
    assert "r.path: It names a file" in message(runtime, linked)


def test_the_code_is_part_of_the_key_and_its_docstring_is_not():
    def digest_of(source: str) -> str:
        space = {"node": node}
        exec(f"@node\ndef f(n: int) -> list[str]:\n{source}", space)
        return node_type(space["f"]).code_digest

    plain = digest_of("    return ['x' for _ in range(n)]")
    assert plain == digest_of("\n\n    return ['x' for _ in range(n)]")
    assert plain != digest_of("    return ['y' for _ in range(n)]")
    assert digest_of("    'One.'\n    return ['x']") == digest_of("    'Two.'\n    return ['x']")


@given(st.lists(st.text()), st.lists(st.text()))
def test_no_two_lists_of_parts_digest_alike(one, other):
    assert (digest(*one) == digest(*other)) == (one == other)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_different_literals_have_different_texts(one, other):
    assert repr(one) == repr(other) or canonical(one) != canonical(other) or one == other
    if canonical(one) == canonical(other):
        assert one == other


def paths(runtime, workflow):
    return [step.path for step in runtime.plan(workflow).steps]


def test_a_reader_comes_before_the_overwrite(runtime, graph, spec):
    nodes = {
        "b": spec("box@1"),
        "p": spec("push@1", {"box": "b"}),
        "v": spec("peek@1", {"box": "b"}),
        "s": spec("size@1", {"box": "v"}),
    }
    for order in itertools.permutations(nodes):
        workflow = graph({name: nodes[name] for name in order}, y="p", s="s")
        found = paths(runtime, workflow)
        assert found.index("s") < found.index("p")
        assert runtime.run(workflow).outputs["s"] == 1


def test_reading_what_was_overwritten_is_a_problem(runtime, graph, spec):
    nodes = {"b": spec("box@1"), "p": spec("push@1", {"box": "b"}), "t": spec("both@1", {"a": "b", "b": "p"})}
    assert message(runtime, graph(nodes, y="t")) == (
        "t: It reads a value that p has overwritten (its input box). Read the output of p instead."
    )


def test_two_cannot_overwrite_one_value(runtime, graph, spec):
    nodes = {"b": spec("box@1"), "p": spec("push@1", {"box": "b"}), "v": spec("peek@1", {"box": "b"})}
    nodes["q"] = spec("push@1", {"box": "v"}, x=2)
    assert "has overwritten" in message(runtime, graph(nodes, y="p", z="q"))


def test_one_node_cannot_overwrite_what_it_also_reads(runtime, graph, spec):
    nodes = {"b": spec("box@1"), "p": spec("push_beside@1", {"box": "b", "other": "b"})}
    assert "p: Its input other is the value that its input box overwrites." in message(runtime, graph(nodes, y="p"))


def test_overwriting_in_turn_is_fine(runtime, graph, spec):
    nodes = {"b": spec("box@1"), "p": spec("push@1", {"box": "b"}), "q": spec("push@1", {"box": "p"}, x=2)}
    nodes["s"] = spec("size@1", {"box": "p"})
    assert runtime.run(graph(nodes, y="q", s="s")).outputs["s"] == 2


def test_an_overwritten_value_cannot_leave_the_graph(runtime, graph, spec):
    nodes = {"b": spec("box@1"), "v": spec("peek@1", {"box": "b"}), "p": spec("push@1", {"box": "b"})}
    assert "also the output 'y'" in message(runtime, graph(nodes, y="v", z="p"))


def test_no_order_serves_two_crossed_overwrites(runtime, graph, spec):
    nodes = {"a": spec("box@1"), "b": spec("box@1", x=1)}
    nodes["p"] = spec("push_beside@1", {"box": "a", "other": "b"})
    nodes["q"] = spec("push_beside@1", {"box": "b", "other": "a"})
    assert "No order lets everyone read before p, q overwrite." in message(runtime, graph(nodes, y="p", z="q"))


def looped(spec, loop, body, outputs, **more):
    nodes = {"b": spec("box@1"), "n": spec("count@1", n=3), "l": loop("n", body, outputs, **more)}
    return nodes


def test_a_link_cannot_be_overwritten_but_a_carry_can(runtime, graph, spec, loop):
    body = {"p": spec("push@1", {"box": "$b"}), "s": spec("size@1", {"box": "p"})}
    nodes = looped(spec, loop, body, {"s": "s"}, links={"b": "b"}, collect=["s"])
    assert "l.b: $b is overwritten in the body" in message(runtime, graph(nodes, y="l"))
    nodes = looped(spec, loop, body, {"b": "p", "s": "s"}, carry={"b": "b"}, collect=["s"])
    assert list(runtime.run(graph(nodes, y="l.s")).outputs["y"]) == [2, 3, 4]
    nodes["t"] = spec("both@1", {"a": "b", "b": "l.b"})
    assert "t: It reads a value that l has overwritten (its input b)." in message(runtime, graph(nodes, y="t"))


def test_what_the_next_pass_overwrites_cannot_be_collected(runtime, graph, spec, loop):
    body = {"p": spec("push@1", {"box": "$b"})}
    nodes = looped(spec, loop, body, {"b": "p", "all": "p"}, carry={"b": "b"}, collect=["all"])
    assert "l.all: all is collected, but the next pass overwrites it." in message(runtime, graph(nodes, y="l.all"))


def test_carries_that_change_places_are_overwritten_both(runtime, graph, spec, loop):
    body = {"p": spec("push@1", {"box": "$a"})}
    nodes = looped(spec, loop, body, {"a": "$b", "b": "p"}, carry={"a": "b", "b": "c"})
    nodes |= {"c": spec("box@1", x=1), "t": spec("both@1", {"a": "c", "b": "l.a"})}
    assert "t: It reads a value that l has overwritten (its input b)." in message(runtime, graph(nodes, y="t"))


def test_a_view_leaves_a_loop_as_a_view(runtime, graph, spec, loop):
    nodes = looped(spec, loop, {}, {"same": "$b"}, links={"b": "b"}, collect=["same"])
    nodes |= {"p": spec("push@1", {"box": "b"})}
    assert "also the output 'y'" in message(runtime, graph(nodes, y="l.same", z="p"))


def test_unknown_outputs_are_named(runtime, graph, spec):
    workflow = graph({"a": spec("add@1")}, total="a")
    with pytest.raises(InvalidWorkflow, match=r"no such output or node\. Did you mean total\?"):
        runtime.plan(workflow, outputs=["totel"])


def test_a_long_text_that_very_many_nodes_read_is_refused(runtime, graph, spec, monkeypatch):
    monkeypatch.setattr(plan, "MAX_LETTERS", 10_000)
    nodes = {f"n{at}": spec("add@1", a=10**17, b=1) for at in range(600)}
    assert keys(runtime, graph(dict(list(nodes.items())[:300]), y="n0"))
    with pytest.raises(InvalidWorkflow, match="The nodes read more than 10,000 letters that are typed in"):
        runtime.plan(graph(nodes, **{f"y{at}": f"n{at}" for at in range(600)}))
