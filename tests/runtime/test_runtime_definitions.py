"""Named graphs as node types: the same keys and results as written out flat, and faults told with both names."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kineograph.graph_runtime.errors import InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.runtime import Runtime
from kineograph.graph_runtime.workflow import load_workflow


def define(nodes, outputs, **inputs):
    """A definition of ints."""
    made = {name: {"type": "int", "link": link} for name, link in outputs.items()}
    return {"inputs": inputs, "nodes": nodes, "outputs": made}


INT = {"type": "int"}
TWICE = define({"sum": {"type": "add@1", "links": {"a": "$x", "b": "$x"}}}, {"y": "sum"}, x=INT)


@pytest.fixture
def defined(graph):
    def make(definitions, nodes, inputs=None, **outputs):
        return graph(nodes, inputs, **outputs) | {"definitions": definitions}

    return make


@pytest.fixture
def problems(runtime, defined):
    def found(definitions, nodes, inputs=None, **outputs):
        return [str(problem) for problem in runtime.problems(defined(definitions, nodes, inputs, **outputs))]

    return found


def keys(runtime, workflow):
    plan = runtime.plan(workflow)
    return {name: plan.keys[slot] for name, slot in plan.outputs.items()}


def test_a_node_of_a_definition_is_its_graph(runtime, defined, spec):
    nodes = {"a": spec("add@1", a=2), "t": spec("#twice@1", {"x": "a"}), "u": spec("#twice@1", {"x": "t.y"})}
    workflow = defined({"twice@1": TWICE}, nodes, y="u", z="t")
    assert runtime.run(workflow).outputs == {"y": 8, "z": 4}
    assert [step.path for step in runtime.plan(workflow).steps] == ["a", "t/sum", "u/sum"]
    text = load_workflow(workflow).to_json()
    assert load_workflow(json.loads(text)) == load_workflow(workflow)


def test_what_is_typed_in_left_at_its_default_or_linked_to_an_input_gives_the_keys_of_the_flat_graph(
    runtime, defined, graph, spec
):
    scaled = {
        "inputs": {"x": {"type": "float"}, "by": {"type": "float", "default": 2}},
        "nodes": {"s": spec("scale@1", {"x": "$x", "by": "$by"})},
        "outputs": {"y": {"type": "float", "link": "s"}},
    }
    inputs = {"f": {"type": "float", "default": 3}}
    for given_inputs, flat in (
        (spec("#s@1", x=1), spec("scale@1", x=1, by=2)),
        (spec("#s@1", {"by": "$f"}, x=1), spec("scale@1", {"by": "$f"}, x=1)),
    ):
        as_one = defined({"s@1": scaled}, {"n": given_inputs}, inputs, y="n")
        assert keys(runtime, as_one) == keys(runtime, graph({"n": flat}, inputs, y="n"))


def test_in_a_loops_body_and_with_a_loop_inside(runtime, defined, graph, spec, loop):
    add = spec("add@1", {"a": "$acc", "b": "$by"})
    many = loop("$numbers", {"s": add}, {"acc": "s"}, carry={"acc": "$start"}, links={"by": "$by"})
    definition = define({"l": many}, {"y": "l.acc"}, numbers={"type": "Stream[int]"}, start=INT, by=INT)
    body = {"inner": spec("#many@1", {"numbers": "$numbers", "by": "$acc"}, start=5)}
    nodes = {"one": spec("add@1", a=1), "n": spec("count@1", n=3)}
    nodes["l"] = loop("n", body, {"acc": "inner"}, carry={"acc": "one"}, links={"numbers": "n"})
    workflow = defined({"many@1": definition}, nodes, y="l")
    assert runtime.run(workflow).outputs == {"y": 5 + 3 * (5 + 3 * (5 + 3 * 1))}

    inner = many | {"carry": {"acc": "five"}, "links": {"by": "$acc"}}
    body = {"five": spec("add@1", a=5), "inner": inner}
    nodes["l"] = loop("n", body, {"acc": "inner"}, carry={"acc": "one"}, links={"numbers": "n"})
    assert runtime.run(graph(nodes, y="l")).outputs == {"y": 5 + 3 * (5 + 3 * (5 + 3 * 1))}


def test_an_effect_inside_runs(runtime, defined, spec, calls, tmp_path):
    definition = define({"w": spec("write@1", {"x": "$x"})}, {}, x=INT)
    runtime.run(defined({"keep@1": definition}, {"k": spec("#keep@1", x=3)}), out=tmp_path)
    assert (tmp_path / "x.txt").read_text().startswith("3\n")


def test_a_fault_at_run_time_names_both(runtime, defined, spec):
    definition = define({"f": spec("fail@1", {"x": "$x"})}, {"y": "f"}, x=INT)
    with pytest.raises(NodeFailed, match=r"^here/f \(fail@1 in #broken@1\) failed: x is 4$"):
        runtime.run(defined({"broken@1": definition}, {"here": spec("#broken@1", x=4)}, y="here"))


def test_a_fault_in_a_definition_is_told_once_and_one_of_its_use_there(problems, spec):
    scaled = define({"s": spec("scale@1", {"by": "$by"}), "t": spec("total@1")}, {"y": "s"}, by=INT)
    nodes = {"m": spec("#scaled@1", by=3), "n": spec("#scaled@1", by=30)}
    assert problems({"scaled@1": scaled}, nodes, y="m") == [
        "#scaled@1/s.x: scale@1 needs x (float). Type it in under params.",
        "#scaled@1/t.numbers: total@1 needs numbers (Stream[int]). Made by count@1.",
        "#scaled@1/outputs.y: It does not fit: it is a float, an int is needed.",
        "n/s.by: $by = 30 is not a float >= 0 and <= 10. It is part of #scaled@1.",
    ]


def test_a_definitions_ports_are_ports(problems, spec):
    nodes = {
        "a": spec("#twice@1", x="word"),
        "b": spec("#twice@1"),
        "c": spec("#twice@1", {"x": "s"}, z=1),
        "s": spec("shout@1", {"text": "b"}),
        "d": spec("#twise@1", x=1),
    }
    assert problems({"twice@1": TWICE}, nodes, y="a.z") == [
        "a.x: 'word' is not an int.",
        "b.x: #twice@1 needs x (int). Type it in under params.",
        "s.text: b does not fit: it is an int, a str is needed. Type it in under params.",
        "c.z: #twice@1 has no input 'z'. Known: x.",
        "c.x: s does not fit: it is a str, an int is needed. In this graph a, b would fit.",
        "d: There is no node '#twise@1'. Did you mean #twice@1?",
        "outputs.y: a.z names no output of a. Use a.y.",
    ]


def test_a_value_that_comes_out_of_a_definition_is_judged_where_it_arrives(problems, spec):
    same = define({}, {"y": "$x"}, x=INT)
    nodes = {"n": spec("#same@1", x=30), "s": spec("scale@1", {"by": "n"}, x=1)}
    assert problems({"same@1": same}, nodes, y="s") == ["s.by: 30 is not a float >= 0 and <= 10."]


def test_types_of_ports_are_known_types(problems, spec):
    bad = {
        "inputs": {"a": {"type": "Bux"}, "b": {"type": "int", "default": 1.5}, "c": {"type": "Stream[Box]"}},
        "nodes": {},
        "outputs": {"y": {"type": "stream", "link": "$a"}},
    }
    assert problems({"bad@1": bad}, {"n": spec("add@1")}, y="n") == [
        "#bad@1/inputs.a: There is no type 'Bux'. Did you mean Box?",
        "#bad@1/inputs.b: 1.5 is not an int.",
        "#bad@1/outputs.y: There is no type 'stream'. Did you mean str?",
    ]


def test_a_definition_cannot_contain_itself(problems, spec, loop):
    one = define({"n": spec("#b@1", {"x": "$x"})}, {"y": "n"}, x=INT)
    nodes = {"l": loop("n", {"n": spec("#a@1", {"x": "$x"})}, {"y": "n"}, carry={"x": "$x"}), "n": spec("count@1", n=1)}
    (problem,) = problems({"a@1": one, "b@1": define(nodes, {"y": "l"}, x=INT)}, {"n": spec("#a@1", x=1)}, y="n")
    assert "A definition cannot contain itself: #" in problem
    assert "#a@1 -> #b@1 -> #a@1" in problem or "#b@1 -> #a@1 -> #b@1" in problem


def test_definitions_that_grow_too_large_or_deep_are_refused_at_once(problems, spec):
    def doubling(depth):
        made = {"d0@1": TWICE}
        for at in range(1, depth):
            inner = {side: spec(f"#d{at - 1}@1", {"x": "$x"}) for side in "ab"}
            made[f"d{at}@1"] = define(inner, {"y": "a"}, x=INT)
        return made

    started = time.perf_counter()
    (problem,) = problems(doubling(60), {"n": spec("#d59@1", x=1)}, y="n")
    assert problem == f"{2**59:,} nodes, a workflow has at most 20,000."
    chain = {f"d{at}@1": define({"n": spec(f"#d{at - 1}@1", {"x": "$x"})}, {"y": "n"}, x=INT) for at in range(1, 300)}
    (problem,) = problems(chain | {"d0@1": TWICE}, {"n": spec("#d299@1", x=1)}, y="n")
    assert problem == "Its graphs are nested 301 deep, at most 64 are read."
    assert time.perf_counter() - started < 5


def test_the_form_of_a_definition_has_places_too(defined, spec):
    bad = {"inputs": {}, "nodes": {"n": spec("add@1", {"a": "x.y.z"})}, "outputs": {"y": "n"}}
    with pytest.raises(InvalidWorkflow) as refused:
        load_workflow(defined({"bad@1": bad, "nameless": TWICE}, {"a": spec("add@1")}, y="a"))
    assert sorted(map(str, refused.value.problems)) == [
        "#bad@1/n.links.a: 'x.y.z' is no link: write node, node.port or $input.",
        "#bad@1/outputs.y: An object is needed here.",
        "definitions.nameless: 'nameless' names no definition: write its name and version, like denoise_step@1.",
    ]


def test_a_missing_file_inside_a_definition_names_both(problems, spec, tmp_path):
    gone = str(tmp_path / "gone.txt")
    definition = {
        "inputs": {"path": {"type": "str"}},
        "nodes": {"r": spec("read@1", {"path": "$path"})},
        "outputs": {"y": {"type": "str", "link": "r"}},
    }
    (problem,) = problems({"file@1": definition}, {"n": spec("#file@1", path=gone)}, y="n")
    assert problem == f"n/r: No such file or directory: {gone}. It is part of #file@1."


def draw_graph(data, uses, inputs, length):
    """Random nodes: adders and definitions, each reading inputs, literals and nodes before it."""
    nodes, sources = {}, [f"${name}" for name in inputs]
    for at in range(length):
        kind = data.draw(st.sampled_from(["add@1", *uses]))
        params, links = {}, {}
        for port in "ab" if kind == "add@1" else "xz":
            if sources and data.draw(st.booleans()):
                links[port] = data.draw(st.sampled_from(sources))
            elif port != "z" or data.draw(st.booleans()):
                params[port] = data.draw(st.integers(-3, 3))
        nodes[f"n{at}"] = {"type": kind, "params": params, "links": links}
        sources += [f"n{at}"] if kind == "add@1" else [f"n{at}.made", f"n{at}.same"]
    return nodes, sources


def write_out(definitions, nodes, prefix, env, flat):
    """The plain way: returns what a link of this graph is, a literal or the name of a flat node."""

    def follow(link):
        if link.startswith("$"):
            return env[link[1:]]
        name, _, port = link.partition(".")
        return made[name] if not port else follow_inside[name](inner_outputs[name][port]["link"])

    made, follow_inside, inner_outputs = {}, {}, {}
    for name, spec in nodes.items():
        given = dict(spec["params"]) | {port: follow(link) for port, link in spec["links"].items()}
        if spec["type"] == "add@1":
            params = {port: value for port, value in given.items() if isinstance(value, int)}
            links = {port: value for port, value in given.items() if isinstance(value, str)}
            made[name] = f"{prefix}{name}"
            flat[made[name]] = {"type": "add@1", "params": params, "links": links}
        else:
            inner = definitions[spec["type"][1:]]
            inner_outputs[name] = inner["outputs"]
            env_inside = {"z": 7} | given
            follow_inside[name] = write_out(definitions, inner["nodes"], f"{prefix}{name}_", env_inside, flat)
    return follow


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_graph_with_definitions_has_the_keys_and_values_of_the_same_written_out(registry, data):
    definitions: dict = {}
    for at in range(data.draw(st.integers(1, 3))):
        nodes, sources = draw_graph(
            data, [f"#{name}" for name in definitions], ["x", "z"], data.draw(st.integers(1, 3))
        )
        outputs = {"made": data.draw(st.sampled_from(sources)), "same": data.draw(st.sampled_from(["$x", "$z"]))}
        definitions[f"d{at}@1"] = define(nodes, outputs, x=INT, z={"type": "int", "default": 7})
    nodes, sources = draw_graph(data, [f"#{name}" for name in definitions], ["u"], 4)
    flat: dict = {}
    follow = write_out(definitions, nodes, "", {"u": "$u"}, flat)
    wanted = {f"o{at}": link for at, link in enumerate(sources) if isinstance(follow(link), str)}
    inputs = {"u": {"type": "int", "default": 2}}
    common = {"format": 1, "inputs": inputs}
    whole = common | {"definitions": definitions, "nodes": nodes, "outputs": wanted}
    written = common | {"nodes": flat, "outputs": {name: follow(link) for name, link in wanted.items()}}
    runtime = Runtime(registry)
    plan, flat_plan = runtime.plan(whole), runtime.plan(written)
    assert {name: plan.keys[slot] for name, slot in plan.outputs.items()} == {
        name: flat_plan.keys[slot] for name, slot in flat_plan.outputs.items()
    }
    assert {step.key for step in plan.steps} == {step.key for step in flat_plan.steps}
    first = runtime.run(written)
    again = runtime.run(whole)
    assert (again.outputs, again.ran) == (first.outputs, 0)


def test_definitions_of_many_inputs_in_many_places_are_refused(registry):
    inputs = {f"i{at}": {"type": "int", "default": 1} for at in range(600)}
    nodes = {f"n{at}": {"type": "#d@1"} for at in range(600)}
    raw = {"format": 1, "definitions": {"d@1": define({}, {"one": "$i0"}, **inputs)}, "nodes": nodes}
    problems = Runtime(registry).problems(raw)
    assert [str(each) for each in problems] == [
        "Its definitions, written out, have 360,000 inputs, at most 200,000 are read."
    ]
