"""Every problem of a workflow has its place, a sentence and the way out."""

from __future__ import annotations

import pytest


@pytest.fixture
def problems(runtime, graph):
    def found(nodes, inputs=None, given=None, **outputs):
        return [str(problem) for problem in runtime.problems(graph(nodes, inputs, **outputs), given)]

    return found


def test_an_unknown_node_and_the_nearest(problems, spec):
    (problem,) = problems({"a": spec("shouts@1", text="x")}, y="a")
    assert problem.startswith("a: There is no node 'shouts@1'. Did you mean shout@1")


def test_links_to_an_unknown_node_are_not_judged(problems, spec):
    assert len(problems({"a": spec("nothing@1"), "b": spec("add@1", {"a": "a.x"})}, y="b")) == 1


def test_unknown_ports(problems, spec):
    nodes = {"a": spec("add@1", {"aa": "$x"}, bb=1), "p": spec("divmod10@1", x=1), "q": spec("add@1", {"a": "p"})}
    nodes["r"] = spec("add@1", {"a": "p.lower"})
    assert problems(nodes, {"x": {"type": "int", "default": 1}}, y="a", z="nowhere", w="w.x") == [
        "a.bb: add@1 has no input 'bb'. Did you mean b?",
        "a.aa: add@1 has no input 'aa'. Did you mean a?",
        "q.a: p names no output of p. Use p.low, p.high.",
        "r.a: p.lower names no output of p. Use p.low, p.high.",
        "outputs.z: There is no node 'nowhere' to link to. Known: a, p, q, r.",
        "outputs.w: There is no node 'w' to link to. Known: a, p, q, r.",
    ]


def test_a_wrong_link_and_what_would_fit(problems, spec):
    nodes = {"s": spec("shout@1", text="x"), "n": spec("add@1")}
    nodes |= {"a": spec("add@1", {"a": "s"}), "b": spec("size@1", {"box": "n"})}
    assert problems(nodes, y="a", z="b") == [
        "a.a: s does not fit: it is a str, an int is needed. In this graph n would fit.",
        "b.box: n does not fit: it is an int, a Box is needed. Made by box@1, peek@1, push@1, push_beside@1.",
    ]


def test_a_stream_needs_a_loop(problems, spec):
    nodes = {"n": spec("count@1", n=3), "a": spec("add@1", {"a": "n"})}
    assert "it is a Stream[int]: run a loop over it, each pass gets one int" in problems(nodes, y="a")[0]


def test_a_missing_input(problems, spec):
    assert problems({"a": spec("count@1"), "b": spec("size@1")}, y="a", z="b") == [
        "a.n: count@1 needs n (int). Type it in under params.",
        "b.box: size@1 needs box (Box). Made by box@1, peek@1, push@1, push_beside@1.",
    ]


def test_typed_in_and_linked(problems, spec):
    nodes = {"a": spec("add@1"), "b": spec("add@1", {"a": "a"}, a=1)}
    assert problems(nodes, y="b") == ["b.a: It is both typed in and linked. Remove it from params or from links."]


def test_out_of_bounds_typed_in_through_an_input_and_into_a_body(problems, spec, loop):
    inputs = {"by": {"type": "float", "default": 11.0}}
    sentence = "11.0 is not a float >= 0 and <= 10."
    body = {"c": spec("scale@1", {"by": "$amount"}, x=1.0)}
    nodes = {
        "a": spec("scale@1", x=1.0, by=11.0),
        "b": spec("scale@1", {"by": "$by"}, x=1.0),
        "n": spec("count@1", n=2),
    }
    nodes["l"] = loop("n", body, {"c": "c"}, collect=["c"], links={"amount": "$by"})
    assert [text.replace(".0.0", ".0") for text in problems(nodes, inputs, y="a", z="b", w="l")] == [
        f"a.by: {sentence}",
        f"b.by: $by = {sentence}",
        f"l/c.by: $amount = {sentence}",
    ]
    assert len(problems(nodes, inputs, {"by": 2.0}, y="a", z="b", w="l")) == 1


def test_inputs(problems, spec):
    inputs = {"n": {"type": "int"}, "s": {"type": "str", "default": 1}, "v": {"type": "Video"}}
    assert problems({"a": spec("add@1", {"a": "$m"})}, inputs, {"nn": 3}, y="a") == [
        "inputs.nn: The workflow has no such input. Did you mean n?",
        "inputs.n: No value is given and there is no default. Add --set n=...",
        "inputs.s: 1 is not a str.",
        "inputs.v: 'Video' cannot be typed in. Use one of int, float, str, bool.",
        "a.a: There is no $m here. Known: $n, $s, $v.",
    ]


def test_cycles(problems, spec, loop):
    nodes = {
        "a": spec("add@1", {"a": "c"}),
        "b": spec("add@1", {"a": "a"}),
        "c": spec("add@1", {"a": "b"}),
        "self": spec("add@1", {"a": "self"}),
        "n": spec("count@1", n=1),
        "l": loop("n", {"x": spec("add@1", {"a": "y"}), "y": spec("add@1", {"a": "x"})}, {"x": "x"}, collect=["x"]),
    }
    hint = "To repeat something, use a loop@1 and carry the value."
    assert problems(nodes, y="b", z="l") == [
        f"a: A cycle: a -> b -> c -> a wait for each other. {hint}",
        f"self: A cycle: self -> self wait for each other. {hint}",
        f"l/x: A cycle: x -> y -> x wait for each other. {hint}",
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"each": "zero"}, "l.each: A loop runs over a Stream, zero is an int."),
        ({"carry": {"acc": "zero", "item": "zero"}}, "l.item: The name 'item' is taken in this loop."),
        ({"links": {"each": "zero"}}, "l.each: The name 'each' is taken in this loop."),
        ({"links": {"acc": "zero"}}, "l.acc: The name 'acc' is taken in this loop."),
        ({"collect": ["acc"]}, "l.acc: Two outputs of this loop would be called 'acc'."),
        ({"collect": ["s", "s"]}, "l.s: Two outputs of this loop would be called 's'."),
        ({"collect": ["sum"]}, "l.sum: The body has no output 'sum'."),
        ({"until": "s"}, "l.until: s is an int, a bool is needed."),
        ({"until": "end"}, "l.end: The body has no output 'end'."),
        ({"carry": {"acc": "zero", "b": "zero"}}, "l.b: The body has no output 'b' to carry on."),
        (
            {"carry": {"acc": "zero", "t": "zero"}},
            "l/outputs.t: It cannot be carried on: it is a str,",
        ),
        ({"links": {"far": "nowhere"}}, "l.far: There is no node 'nowhere' to link to."),
    ],
)
def test_loops(problems, spec, loop, more, message):
    body = {"sum": spec("add@1", {"a": "$acc", "b": "$item"}), "text": spec("shout@1", text="a")}
    arguments = {"each": "n", "carry": {"acc": "zero"}} | more
    nodes = {"zero": spec("add@1"), "n": spec("count@1", n=2)}
    nodes["l"] = loop(nodes=body, outputs={"acc": "sum", "s": "sum", "t": "text"}, **arguments)
    assert any(text.startswith(message) for text in problems(nodes, y="l.acc"))


def test_a_body_sees_only_its_own_names(problems, spec, loop):
    nodes = {"zero": spec("add@1"), "n": spec("count@1", n=2)}
    nodes["l"] = loop("n", {"a": spec("add@1", {"a": "zero", "b": "$zero"})}, {"a": "a"}, collect=["a"])
    assert problems(nodes, y="l") == [
        "l/a.a: There is no node 'zero' to link to. Known: a. A value goes under params.",
        "l/a.b: There is no $zero here. Known: $index, $item.",
    ]


def test_nothing_to_run(problems, spec):
    assert problems({"a": spec("add@1")})[0].startswith("Nothing to run: no outputs")
    assert problems({"w": spec("write@1", x=1)}) == []


def test_missing_files_are_told_together_with_everything_else(problems, spec, loop, tmp_path):
    gone = str(tmp_path / "gone.txt")
    inputs = {"path": {"type": "str", "default": gone}, "none": {"type": "str"}}
    nodes = {
        "a": spec("read@1", path=gone),
        "b": spec("read@1", {"path": "$path"}),
        "c": spec("read@1", {"path": "$none"}),
        "d": spec("read@1", path=3),
        "s": spec("shout@1", text="x"),
        "e": spec("read@1", {"path": "s"}),
        "n": spec("count@1", n=1),
        "l": loop("n", {"f": spec("read@1", {"path": "$path"})}, {"f": "f"}, collect=["f"], links={"path": "$path"}),
    }
    assert problems(nodes, inputs, y="a") == [
        "inputs.none: No value is given and there is no default. Add --set none=...",
        "d.path: 3 is not a str.",
        f"a: No such file or directory: {gone}",
        f"b: No such file or directory: {gone}",
        "e.path: It names a file, so its value must be known before the run. Type it in.",
        f"l/f: No such file or directory: {gone}",
    ]
