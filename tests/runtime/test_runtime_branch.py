"""A branch runs the side it takes and nothing else: in graphs, bodies, loops that go on, stores, over overwrites."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kineograph.graph_runtime.cache import MemoryCache
from kineograph.graph_runtime.errors import InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.events import BranchTaken, NodeCached, NodeResumed, NodeStarted
from kineograph.graph_runtime.node import node, node_type
from kineograph.graph_runtime.resume import KeepEvery
from kineograph.graph_runtime.runtime import Runtime
from kineograph.graph_runtime.store import Store

RAN: list[int] = []
BLOWS: list[int] = []


@node
def mix(a: int = 0, b: int = 0, at: int = 0) -> int:
    """A number that every input changes."""
    RAN.append(at)
    return (3 * a + 7 * b + at) % 1000


@node(effect=True)
def stamp(x: int, at: int = 0) -> int:
    """x; the world is changed."""
    RAN.append(at)
    return x


@node
def fuse(x: int) -> int:
    """x, unless a fuse blows there."""
    if x in BLOWS:
        raise ValueError("blown")
    return x


@pytest.fixture
def mixing(registry):
    for function in (mix, stamp, fuse):
        registry.add(node_type(function))
    RAN.clear()
    return registry


@pytest.fixture
def branch():
    def make(when, then, other, **more):
        links = {"when": when, "then": then, "else": other}
        params = {name: value for name, value in links.items() if not isinstance(value, str)}
        return {
            "type": "branch@1",
            "params": params,
            "links": {k: v for k, v in links.items() if k not in params},
        } | more

    return make


@pytest.fixture
def problems(runtime, graph):
    def found(nodes, inputs=None, **outputs):
        return [str(problem) for problem in runtime.problems(graph(nodes, inputs, **outputs))]

    return found


def chosen(spec, branch, x, limit=5):
    """Two sides of two nodes each; the condition is computed."""
    return {
        "x": spec("add@1", a=x),
        "big": spec("above@1", {"x": "x"}, limit=limit),
        "a": spec("add@1", {"a": "x"}, b=100),
        "a2": spec("scale@1", {"x": "a"}, by=2),
        "b": spec("add@1", {"a": "x"}, b=200),
        "b2": spec("fail@1", {"x": "b"}),
        "y": branch("big", "a2", "b2"),
    }


def paths(events):
    return [event.path for event in events if isinstance(event, NodeStarted)]


def test_only_the_side_that_is_taken_runs(runtime, graph, spec, branch):
    events = []
    outcome = runtime.run(graph(chosen(spec, branch, 9), y="y"), listen=events.append)
    assert (outcome.outputs, outcome.ran) == ({"y": 218.0}, 5)
    assert paths(events) == ["x", "big", "y", "a", "a2"]
    assert [event.side for event in events if isinstance(event, BranchTaken)] == ["then"]
    again = runtime.run(graph(chosen(spec, branch, 9), y="y"), listen=events.append)
    assert (again.outputs, again.ran) == ({"y": 218.0}, 1)
    nodes = chosen(spec, branch, 1)
    nodes["b2"] = spec("scale@1", {"x": "b"}, by=1)
    events.clear()
    assert runtime.run(graph(nodes, y="y"), listen=events.append).outputs == {"y": 201.0}
    assert paths(events) == ["x", "big", "y", "b", "b2"]


def test_what_both_sides_or_several_branches_need_runs_once(runtime, graph, spec, branch, calls):
    nodes = chosen(spec, branch, 9)
    nodes["b"]["links"]["a"] = "a"
    nodes["z"] = branch("big", "a", "b")
    assert runtime.run(graph(nodes, y="y", z="z")).outputs == {"y": 218.0, "z": 109}
    assert sorted(calls) == ["add", "add", "scale"]


def test_branches_nest_and_conditions_may_be_branches(runtime, graph, spec, branch):
    nodes = chosen(spec, branch, 9)
    nodes["small"] = spec("above@1", {"x": "x"}, limit=50)
    nodes["whole"] = branch("small", "b2", "a")
    nodes["both"] = branch("big", "small", "big")
    nodes["y"] = branch("big", "whole", "b2")
    nodes["z"] = branch("both", "b2", "y")
    events = []
    assert runtime.run(graph(nodes, y="z"), listen=events.append).outputs == {"y": 109}
    assert paths(events) == ["x", "big", "both", "small", "z", "y", "whole", "a"]


def test_a_condition_that_is_known_leaves_no_branch(runtime, graph, spec, branch):
    nodes = chosen(spec, branch, 9)
    nodes["y"] = branch("$big", "a2", "b2")
    del nodes["big"]
    workflow = graph(nodes, {"big": {"type": "bool", "default": True}}, y="y")
    assert [step.path for step in runtime.plan(workflow).steps] == ["x", "a", "a2"]
    assert [step.path for step in runtime.plan(workflow, {"big": False}).steps] == ["x", "b", "b2"]
    plain = {name: nodes[name] for name in ("x", "a", "a2")}
    assert runtime.run(workflow).outputs == runtime.run(graph(plain, y="a2")).outputs
    assert runtime.run(workflow).cached == 1


def test_sides_may_be_typed_in(runtime, graph, spec, branch):
    nodes = chosen(spec, branch, 9) | {"y": branch("big", 0.5, 2)}
    nodes["z"] = spec("scale@1", {"by": "y"}, x=10)
    nodes["known"] = branch(False, 0.5, 2)
    nodes["k"] = spec("scale@1", {"by": "known"}, x=10)
    assert runtime.run(graph(nodes, z="z", k="k", y="known")).outputs == {"z": 5.0, "k": 20.0, "y": 2}
    nodes["known"]["params"]["else"] = 20
    message = "k.by: 20 is not a float >= 0 and <= 10."
    assert [str(problem) for problem in runtime.problems(graph(nodes, k="k"))] == [message]


def test_a_key_of_its_own(runtime, graph, spec, branch):
    def key(**changed):
        nodes = chosen(spec, branch, 9) | changed
        plan = runtime.plan(graph(nodes, y="y"))
        return plan.keys[plan.outputs["y"]]

    others = [key(y=branch("big", "b2", "a2")), key(y=branch("big", "a2", "a")), key(x=spec("add@1", a=8)), key()]
    assert len(set(others)) == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"when": "x"}, "y.when: It is an int, a bool is needed. Type it in under params."),
        ({"then": "s"}, "y: then is a str and else an int, so nothing can be wired to it. Make them alike."),
        ({"then": [1]}, "y.then: Only a number, a text, true or false can be typed in here. Link it to a node."),
        ({"then": 2**70}, "y.then: an integer has at most 64 bits."),
        ({"then": None}, "y.then: branch@1 needs then."),
        ({"other": 1}, "y.other: branch@1 has no input 'other'. Did you mean then?"),
        ({"when": "nowhere"}, "y.when: There is no node 'nowhere' to link to. Known: a, big, s, x, y."),
    ],
)
def test_what_does_not_fit_is_told(problems, spec, changed, message):
    links = {"when": "big", "then": "a", "else": "x"} | changed
    typed = {name: value for name, value in links.items() if not isinstance(value, str) and value is not None}
    y = {"type": "branch@1", "params": typed, "links": {k: v for k, v in links.items() if isinstance(v, str)}}
    nodes = {"x": spec("add@1"), "a": spec("add@1", a=1), "s": spec("shout@1", text="a"), "y": y}
    nodes["big"] = spec("above@1", {"x": "x"})
    assert problems(nodes, y="y") == [message]


def test_an_effect_waits_only_if_a_branch_may_ask_for_it(mixing, graph, spec, branch):
    nodes = {"x": spec("mix@1", at=9), "big": spec("above@1", {"x": "x"}, limit=5)}
    nodes |= {"e": spec("stamp@1", {"x": "x"}, at=1), "f": spec("stamp@1", {"x": "x"}, at=2)}
    nodes |= {"g": spec("stamp@1", {"x": "x"}, at=3), "y": branch("big", "e", "f")}
    runtime = Runtime(mixing)
    for _ in range(2):
        RAN.clear()
        assert runtime.run(graph(nodes, y="y")).outputs == {"y": 9}
        assert sorted(at for at in RAN if at != 9) == [1, 3]


def test_in_a_loops_body_each_pass_chooses_anew(runtime, graph, spec, loop, branch, calls):
    body = {
        "big": spec("above@1", {"x": "$item"}, limit=2),
        "fixed": spec("scale@1", x=2.0),
        "once": spec("scale@1", {"x": "fixed"}, by=3),
        "each": spec("add@1", {"a": "$item"}, b=100),
        "y": branch("big", "once", "each"),
    }
    nodes = {"n": spec("count@1", n=5), "l": loop("n", body, {"y": "y"}, collect=["y"])}
    assert list(runtime.run(graph(nodes, y="l")).outputs["y"]) == [100, 101, 102, 6.0, 6.0]
    assert sorted(calls) == ["add"] * 3 + ["scale"] * 2


def test_a_loop_on_a_side_that_is_not_taken_does_not_run(runtime, graph, spec, loop, branch, calls, tmp_path):
    body = {"w": spec("write@1", {"x": "$item"}), "s": spec("add@1", {"a": "$acc"}, b=1)}
    nodes = {"zero": spec("add@1"), "n": spec("count@1", n=4)}
    nodes["train"] = loop("n", body, {"acc": "s"}, carry={"acc": "zero"})
    nodes["more"] = spec("above@1", {"x": "zero"}, limit=3)
    nodes["model"] = branch("more", "train", "zero")
    nodes["w"] = spec("write@1", {"x": "model"}, path="model.txt")
    runtime.run(graph(nodes), out=tmp_path)
    assert calls.count("write") == 1
    nodes["more"]["params"]["limit"] = -1
    calls.clear()
    runtime.run(graph(nodes), out=tmp_path)
    assert calls.count("write") == 5


def test_a_loop_with_a_branch_goes_on_where_it_was_cut_off(mixing, graph, spec, loop, branch, tmp_path):
    body = {
        "big": spec("above@1", {"x": "$item"}, limit=3),
        "other": spec("fuse@1", {"x": "$item"}),
        "side": branch("big", "other", "$acc"),
        "s": spec("add@1", {"a": "$acc", "b": "side"}),
    }
    nodes = {"one": spec("add@1", a=1), "n": spec("count@1", n=6)}
    nodes["l"] = loop("n", body, {"acc": "s"}, carry={"acc": "one"})
    expected = Runtime(mixing).run(graph(nodes, y="l")).outputs
    assert expected == {"y": 16 + 4 + 5}
    store = Store(tmp_path / "store", least_seconds=0.0)
    again = Runtime(mixing, MemoryCache(), store)

    BLOWS.append(5)
    with pytest.raises(NodeFailed):
        again.run(graph(nodes, y="l"), keep_every=KeepEvery(passes=2))
    BLOWS.clear()
    events = []
    fresh = Runtime(mixing, MemoryCache(), store)
    assert fresh.run(graph(nodes, y="l"), listen=events.append).outputs == expected
    assert [event.done for event in events if isinstance(event, NodeResumed)] == [5]
    store.close()


def test_a_side_comes_from_the_store(registry, graph, spec, branch, tmp_path):
    store = Store(tmp_path, least_seconds=0.0)
    workflow = graph(chosen(spec, branch, 9), y="y")
    Runtime(registry, MemoryCache(), store).run(workflow)
    events = []
    outcome = Runtime(registry, MemoryCache(), store).run(workflow, listen=events.append)
    assert (outcome.outputs, outcome.ran) == ({"y": 218.0}, 1)
    assert [event.path for event in events if isinstance(event, NodeCached)] == ["big", "a2"]
    store.close()


def test_a_state_is_overwritten_only_where_that_side_is_taken(runtime, graph, spec, loop, branch):
    """A step that is thrown away leaves the state as it was: as a training skips what is not finite."""
    body = {
        "good": spec("above@1", {"x": "$item"}, limit=1),
        "p": spec("push@1", {"box": "$b", "x": "$item"}),
        "b": branch("good", "p", "$b"),
        "size": spec("size@1", {"box": "b"}),
    }
    nodes = {"b": spec("box@1"), "n": spec("count@1", n=4)}
    nodes["l"] = loop("n", body, {"b": "b", "size": "size"}, carry={"b": "b"}, collect=["size"])
    outputs = runtime.run(graph(nodes, b="l.b", sizes="l.size")).outputs
    assert (outputs["b"].items, list(outputs["sizes"])) == ([0, 2, 3], [1, 1, 2, 3])
    top = {"b": spec("box@1"), "x": spec("add@1", a=3), "good": spec("above@1", {"x": "x"}, limit=1)}
    top |= {"p": spec("push@1", {"box": "b"}), "y": branch("good", "p", "b")}
    assert runtime.run(graph(top, y="y")).outputs["y"].items == [0, 1]
    top["x"]["params"]["a"] = 0
    assert runtime.run(graph(top, y="y")).outputs["y"].items == [0]


def test_a_late_reader_of_what_is_overwritten_is_refused_or_asked_first(runtime, graph, spec, branch):
    nodes = {"b": spec("box@1"), "p": spec("push@1", {"box": "b"}), "s": spec("size@1", {"box": "b"})}
    nodes |= {"x": spec("add@1", a=1), "w": spec("above@1", {"x": "x"}), "y": branch("w", "s", 0)}
    found = [step.path for step in runtime.plan(graph(nodes, z="p", y="y")).steps]
    assert found.index("y") < found.index("p")
    assert runtime.run(graph(nodes, z="p", y="y")).outputs["y"] == 1
    nodes |= {"late": spec("size@1", {"box": "p"}), "w": spec("above@1", {"x": "late"})}
    with pytest.raises(InvalidWorkflow, match="No order lets everyone read before p overwrite"):
        runtime.plan(graph(nodes, z="p", y="y"))


def test_what_only_one_side_used_is_let_go_of(runtime, graph, spec, branch):
    nodes = chosen(spec, branch, 9)
    plan = runtime.plan(graph(nodes, y="y"))
    slots = {step.path: step.outputs[0][1] for step in plan.steps}
    frees = {step.path: set(step.frees) for step in plan.steps}
    assert slots["a"] in frees["a2"]
    assert {slots["x"], slots["a2"]} <= frees["y"]


# Against plain Python


class Plain:
    """The same graph, asked for lazily."""

    def __init__(self, nodes, item=0, acc=0):
        self.nodes, self.known, self.ran, self.inputs = nodes, {}, set(), {"$item": item, "$acc": acc}

    def value(self, link):
        if isinstance(link, int):
            return link
        if link in self.inputs:
            return self.inputs[link]
        if link not in self.known:
            spec = self.nodes[link]
            read = {**spec["params"], **spec["links"]}
            if spec["type"] == "branch@1":
                self.known[link] = self.value(read["then" if self.value(read["when"]) else "else"])
            elif spec["type"] == "above@1":
                self.known[link] = self.value(read["x"]) > read["limit"]
            elif spec["type"] == "stamp@1":
                self.ran.add(read["at"])
                self.known[link] = self.value(read["x"])
            else:
                self.ran.add(read["at"])
                a, b = self.value(read.get("a", 0)), self.value(read.get("b", 0))
                self.known[link] = (3 * a + 7 * b + read["at"]) % 1000
        return self.known[link]


def draw(data, inputs=(), effects=True):
    """Random nodes and branches, and the names that hold numbers."""
    nodes, numbers, conditions = {}, list(inputs), []
    for at in range(data.draw(st.integers(3, 14))):
        name = f"n{at}"
        kind = data.draw(st.sampled_from(["mix", "mix", "above", "branch", *(["stamp"] if effects else [])]))
        source = st.sampled_from(numbers) if numbers else None
        if kind == "above" and numbers:
            links = {"x": data.draw(source)}
            nodes[name] = {"type": "above@1", "params": {"limit": data.draw(st.integers(0, 999))}, "links": links}
            conditions.append(name)
            continue
        if kind == "branch" and conditions:
            links = {
                "when": data.draw(st.sampled_from(conditions)),
                "then": data.draw(source),
                "else": data.draw(source),
            }
            nodes[name] = {"type": "branch@1", "params": {}, "links": links}
        elif kind == "stamp" and numbers:
            nodes[name] = {"type": "stamp@1", "params": {"at": at}, "links": {"x": data.draw(source)}}
        else:
            links = {port: data.draw(source) for port in "ab" if numbers and data.draw(st.booleans())}
            nodes[name] = {"type": "mix@1", "params": {"at": at}, "links": links}
        numbers.append(name)
    return dict(data.draw(st.permutations(list(nodes.items())))), [name for name in numbers if name in nodes] or list(
        inputs
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_graph_equals_its_taken_sides_and_runs_nothing_else(mixing, data):
    nodes, numbers = draw(data, effects=False)
    wanted = data.draw(st.lists(st.sampled_from(numbers), min_size=1, max_size=3, unique=True))
    workflow = {"format": 1, "nodes": nodes, "outputs": {name: name for name in wanted}}
    plain = Plain(nodes)
    expected = {name: plain.value(name) for name in wanted}
    runtime = Runtime(mixing)
    RAN.clear()
    assert runtime.run(workflow).outputs == expected
    assert sorted(RAN) == sorted(plain.ran)
    RAN.clear()
    assert runtime.run(workflow).outputs == expected
    assert RAN == []
    for key in data.draw(
        st.lists(st.sampled_from(sorted(runtime.cache._entries)), max_size=8) if plain.ran else st.just([])
    ):
        runtime.cache._entries.pop(key, None)
    assert runtime.run(workflow).outputs == expected
    assert set(RAN) <= plain.ran


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_effects_happen_at_most_once_and_where_needed(mixing, data):
    nodes, numbers = draw(data)
    wanted = data.draw(st.sampled_from(numbers))
    workflow = {"format": 1, "nodes": nodes, "outputs": {"y": wanted}}
    runtime = Runtime(mixing)
    for _ in range(2):
        plain = Plain(nodes)
        RAN.clear()
        assert runtime.run(workflow).outputs == {"y": plain.value(wanted)}
        stamped = [at for at in RAN if nodes[f"n{at}"]["type"] == "stamp@1"]
        assert len(stamped) == len(set(stamped))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_body_equals_plain_python_pass_by_pass(mixing, data):
    nodes, numbers = draw(data, inputs=("$item", "$acc"), effects=data.draw(st.booleans()))
    last, seen = data.draw(st.sampled_from(numbers)), data.draw(st.sampled_from(numbers))
    loop = {"type": "loop@1", "each": "n", "carry": {"acc": "start"}, "collect": ["seen"]}
    loop |= {"body": {"nodes": nodes, "outputs": {"acc": last, "seen": seen}}}
    around = {"n": {"type": "count@1", "params": {"n": 4}}, "start": {"type": "add@1", "params": {"a": 500}}, "l": loop}
    acc, collected = 500, []
    for item in range(4):
        plain = Plain(nodes, item, acc)
        acc = plain.value(last)
        collected.append(plain.value(seen))
    outputs = Runtime(mixing).run({"format": 1, "nodes": around, "outputs": {"a": "l.acc", "s": "l.seen"}}).outputs
    assert (outputs["a"], list(outputs["s"])) == (acc, collected)


def boxes(nodes, name, known):
    """What a box or a size would be if every push copied."""
    if name not in known:
        spec = nodes[name]
        read = {**spec["params"], **spec["links"]}
        if spec["type"] == "box@1":
            known[name] = [read["x"]]
        elif spec["type"] == "push@1":
            known[name] = [*boxes(nodes, read["box"], known), read["x"]]
        elif spec["type"] == "peek@1":
            known[name] = boxes(nodes, read["box"], known)
        elif spec["type"] == "size@1":
            known[name] = len(boxes(nodes, read["box"], known))
        elif spec["type"] == "above@1":
            known[name] = boxes(nodes, read["x"], known) > read["limit"]
        else:
            known[name] = boxes(nodes, read["then" if boxes(nodes, read["when"], known) else "else"], known)
    return known[name]


def draw_boxes(data):
    """Two boxes, a condition that holds and one that does not, and what is done with them."""
    nodes = {name: {"type": "box@1", "params": {"x": at}, "links": {}} for at, name in enumerate(("a", "b", "other"))}
    nodes["one"] = {"type": "size@1", "params": {}, "links": {"box": "other"}}
    for name, limit in (("yes", 0), ("no", 5)):
        nodes[name] = {"type": "above@1", "params": {"limit": limit}, "links": {"x": "one"}}
    held, sizes, conditions = ["a", "b"], ["one"], ["yes", "no"]
    for at in range(data.draw(st.integers(3, 9))):
        name = f"n{at}"
        kind = data.draw(st.sampled_from(["push", "push", "peek", "size", "size", "above", "branch", "branch", "pick"]))
        if kind == "above":
            links = {"x": data.draw(st.sampled_from(sizes))}
            nodes[name] = {"type": "above@1", "params": {"limit": data.draw(st.integers(0, 2))}, "links": links}
            conditions.append(name)
        elif kind in ("branch", "pick"):
            among = held if kind == "branch" else sizes
            links = {"when": data.draw(st.sampled_from(conditions))}
            links |= {side: data.draw(st.sampled_from(among)) for side in ("then", "else")}
            nodes[name] = {"type": "branch@1", "params": {}, "links": links}
            among.append(name)
        else:
            params = {"x": at} if kind == "push" else {}
            nodes[name] = {"type": f"{kind}@1", "params": params, "links": {"box": data.draw(st.sampled_from(held))}}
            (sizes if kind == "size" else held).append(name)
    return dict(data.draw(st.permutations(list(nodes.items())))), [
        name for name in nodes if name[0] == "n" and name != "no"
    ]


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_overwritten_nobody_sees_it_or_it_is_refused(registry, data):
    runtime = Runtime(registry)
    nodes, names = draw_boxes(data)
    names = [name for name in names if nodes[name]["type"] != "above@1"] or ["a"]
    wanted = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
    workflow = {"format": 1, "nodes": nodes, "outputs": {name: name for name in wanted}}
    try:
        runtime.plan(workflow)
    except InvalidWorkflow:
        return
    for _ in range(3):
        known: dict = {}
        outputs = runtime.run(workflow).outputs
        for name in wanted:
            made = outputs[name]
            assert (made if isinstance(made, int) else made.items) == boxes(nodes, name, known)
        for key in (
            data.draw(st.lists(st.sampled_from(sorted(runtime.cache._entries)), max_size=6))
            if len(runtime.cache)
            else ()
        ):
            runtime.cache._entries.pop(key, None)
