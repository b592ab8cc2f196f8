"""What a run would cost: against the bytes and FLOPs of real runs, closed forms, and runs that must not happen."""

from __future__ import annotations

import json
import struct
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from kineograph import default_runtime
from kineograph.graph_runtime.costs import Estimate
from kineograph.graph_runtime.machine import spare_memory
from kineograph.graph_runtime.node import RunContext, node, node_type
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.runtime import Runtime
from kineograph.graph_runtime.sockets import Stream, socket
from kineograph.graph_runtime.store import Store
from kineograph.graph_runtime.timings import Record, Took, Work, expected, recorded
from kineograph.nodes.model import outlined_model
from kineograph.nodes.networks.components import outline
from kineograph.trial import FORMULAS, Ledger, trial

WORKFLOWS = Path(__file__).parent.parent / "workflows"
TEXT_TO_VIDEO = WORKFLOWS / "text_to_video.json"


# --- toy nodes whose numbers nobody knows before a run


@socket(family="latent")
@dataclass(frozen=True)
class Block:
    """A matrix of n rows and 64 columns."""

    x: Tensor


@node(estimate=lambda rows: Block(torch.empty(rows, 64, device="meta")))
def drawn(rows: int = 1) -> Block:
    """A block."""
    return Block(torch.rand(rows, 64))


@node
def product(a: Block, b: Block) -> Block:
    """a bᵀ b: it has a large matrix in between."""
    return Block((a.x @ b.x.T) @ b.x)


@node
def below(a: Block, b: Block) -> Block:
    """Both blocks in one."""
    return Block(torch.cat([a.x, b.x]))


@node(views=("a",))
def upper(a: Block) -> Block:
    """A view of the first half of its rows."""
    return Block(a.x[: max(1, len(a.x) // 2)])


@node
def numbers(count: int = 3) -> Stream[int]:
    """0, 1, 2, ..."""
    return Stream.of(list(range(count)))


@node
def floats(count: int = 3) -> Stream[float]:
    """0.0, 1.0, 2.0, ..."""
    return Stream.of([float(number) for number in range(count)])


@node
def rows_at(a: Block, number: int = 0) -> Block:
    """A copy of so many rows and one more."""
    return Block(a.x[: number + 1].clone())


@node
def mean(a: Block) -> float:
    """A number that only a real run has."""
    return a.x.mean().item()


@node
def scaled(a: Block, by: float = 1.0) -> Block:
    """The block times a number."""
    return Block(a.x * by)


@node
def is_odd(number: int = 0) -> bool:
    """What is known before a run."""
    return number % 2 == 1


@node
def is_bright(a: Block) -> bool:
    """What only a run can say."""
    return bool(a.x.mean() > 0.5)


@node
def slowly(a: Block, by: float = 1.0) -> Block:
    """The block times a number, worth keeping on disk."""
    time.sleep(0.01)
    return Block(a.x * by)


@node(fingerprint=lambda path: path)
def opened(path: str = "x") -> Block:
    """It reads a file and does not say of which size."""
    raise AssertionError(path)


@node(effect=True)
def written(a: Block, run: RunContext) -> None:
    """It leaves a file."""
    run.output_path("written").write_text(str(a.x.sum()))


TOYS = (
    drawn,
    product,
    below,
    upper,
    numbers,
    floats,
    rows_at,
    mean,
    scaled,
    is_odd,
    is_bright,
    slowly,
    opened,
    written,
)


def toys(store: Store | None = None) -> Runtime:
    registry = Registry()
    for function in TOYS:
        kind = node_type(function)
        assert kind is not None
        registry.add(kind)
    return Runtime(registry, store=store)


def workflow(nodes: dict, outputs: dict) -> dict:
    return {"format": 1, "nodes": nodes, "outputs": outputs}


def truth(runtime: Runtime, source, inputs=None, **how) -> Ledger:
    """The bytes and FLOPs of a real run."""
    with Ledger() as ledger:
        runtime.run(source, inputs, **how)
    return ledger


def row(found: Estimate, path: str):
    return next(each for each in found.nodes if each.path == path)


# --- equal to real runs


@st.composite
def graphs(draw):
    """A graph of toy nodes, each reading some before it, with a loop at the end of some."""
    nodes = {"n0": {"type": "drawn@1", "params": {"rows": draw(st.integers(1, 200))}}}
    for at in range(1, draw(st.integers(2, 8))):
        before = st.integers(0, at - 1).map(lambda number: f"n{number}")
        kind = draw(st.sampled_from(["drawn", "product", "below", "upper", "scaled"]))
        if kind == "drawn":
            nodes[f"n{at}"] = {"type": "drawn@1", "params": {"rows": draw(st.integers(1, 200))}}
        elif kind in ("product", "below"):
            nodes[f"n{at}"] = {"type": f"{kind}@1", "links": {"a": draw(before), "b": draw(before)}}
        else:
            nodes[f"n{at}"] = {"type": f"{kind}@1", "links": {"a": draw(before)}}
    outputs = {"made": f"n{at}"}
    if draw(st.booleans()):
        nodes |= loop(f"n{at}", draw(st.sampled_from(["numbers", "floats"])), draw(st.integers(0, 7)))
        outputs = {"made": "loop.a", "all": "loop.gathered"}
    return workflow(nodes, outputs)


def loop(start: str, stream: str, count: int, step: str = "product") -> dict:
    body = {
        "made": {"type": f"{step}@1", "links": {"a": "$a", "b": "$b"}},
        "copy": {"type": "scaled@1", "links": {"a": "$b"} | ({"by": "$item"} if stream == "floats" else {})},
    }
    return {
        "items": {"type": f"{stream}@1", "params": {"count": count}},
        "loop": {
            "type": "loop@1",
            "each": "items",
            "carry": {"a": start},
            "links": {"b": start},
            "collect": ["gathered"],
            "body": {"nodes": body, "outputs": {"a": "made", "gathered": "copy"}},
        },
    }


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_of_any_graph_peak_and_flops_are_those_of_the_run(source) -> None:
    found, true = toys().estimate(source), truth(toys(), source)
    assert found.unknown == []
    assert (found.peak_bytes, found.flops) == (true.peak, true.flops)


@pytest.mark.parametrize("count", [1, 2, 3, 20, 100])
@pytest.mark.parametrize("stream", ["numbers", "floats"])
def test_passes_that_are_alike_are_counted_and_not_walked(stream, count) -> None:
    source = workflow(
        {"start": {"type": "drawn@1", "params": {"rows": 30}}, **loop("start", stream, count)},
        {"made": "loop.a", "all": "loop.gathered"},
    )
    found, true = toys().estimate(source), truth(toys(), source)
    assert (found.peak_bytes, found.flops) == (true.peak, true.flops)
    assert row(found, "loop/made").passes == count
    made = row(found, "loop").output_bytes
    copies = count if stream == "floats" else 1  # a copy that needs no item is made once
    assert made == (copies + 1) * 30 * 64 * 4


def test_a_carry_that_grows_is_walked_to_its_end() -> None:
    nodes = {"start": {"type": "drawn@1", "params": {"rows": 30}}, **loop("start", "floats", 20, "below")}
    source = workflow(nodes, {"made": "loop.a"})
    found, true = toys().estimate(source), truth(toys(), source)
    assert found.peak_bytes == true.peak
    assert row(found, "loop").shapes["a"] == {"x": (21 * 30, 64)}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("in_a_loop", [False, True])
def test_of_a_branch_the_side_that_is_taken_is_walked_or_both_where_nobody_knows(known, in_a_loop) -> None:
    odd, bright = {"type": "is_odd@1", "params": {"number": 3}}, {"type": "is_bright@1", "links": {"a": "$b"}}
    nodes = {
        "when": odd if known else bright,
        "small": {"type": "drawn@1", "params": {"rows": 10}},
        "large": {"type": "product@1", "links": {"a": "$b", "b": "$b"}},
        "one": {"type": "branch@1", "links": {"when": "when", "then": "small", "else": "large"}},
    }
    start = {"start": {"type": "drawn@1", "params": {"rows": 50}}, "items": {"type": "floats@1"}}
    if in_a_loop:
        body = {"nodes": nodes, "outputs": {"a": "one"}}
        loop = {"type": "loop@1", "each": "items", "carry": {"a": "start"}, "links": {"b": "start"}, "body": body}
        source = workflow({**start, "loop": loop}, {"made": "loop.a"})
    else:
        source = json.loads(json.dumps(workflow({**start, **nodes}, {"made": "one"})).replace("$b", "start"))
    found = toys().estimate(source)
    assert {each.path.rpartition("/")[2] for each in found.nodes} >= {"small", "one"}
    if known:
        true = truth(toys(), source)
        assert (found.peak_bytes, found.flops) == (true.peak, true.flops)
        assert "large" not in {each.path.rpartition("/")[2] for each in found.nodes}
    else:
        assert found.flops == 2 * 2 * 50 * 50 * 64  # in a loop too: it is the same in every pass
        assert next(each for each in found.nodes if each.path.endswith("one")).note.startswith("both sides")


def test_of_many_passes_that_differ_it_says_that_it_saw_some() -> None:
    nodes = {
        "start": {"type": "drawn@1", "params": {"rows": 300}},
        "items": {"type": "numbers@1", "params": {"count": 99}},
    }
    body = {
        "nodes": {"some": {"type": "rows_at@1", "links": {"a": "$b", "number": "$item"}}},
        "outputs": {"all": "some"},
    }
    nodes["loop"] = {
        "type": "loop@1", "each": "items", "carry": {}, "links": {"b": "start"}, "collect": ["all"], "body": body,
    }  # fmt: skip
    found = toys().estimate(workflow(nodes, {"made": "loop.all"}))
    assert row(found, "loop").note == "from 3 of 99 passes, which are not alike"


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("text_to_video", {"steps": 3, "frames": 9}),
        ("extend_forward", {"steps": 2}),
        ("image_to_video", {"steps": 2, "frames": 9}),
        ("train_dit_batches", {"steps": 1}),
    ],
)
def test_peak_and_flops_are_those_of_a_real_run(name, inputs, tmp_path) -> None:
    runtime = default_runtime()
    found = runtime.estimate(WORKFLOWS / f"{name}.json", inputs)
    true = truth(runtime, WORKFLOWS / f"{name}.json", inputs, out=tmp_path)
    assert found.flops == true.flops
    assert found.peak_bytes == pytest.approx(true.peak, rel=0.01)


def test_flops_are_those_of_torchs_own_counter() -> None:
    with FlopCounterMode(display=False, custom_mapping={}) as counter, Ledger() as ledger:
        convolved = torch.nn.Conv3d(4, 8, 3)(torch.rand(1, 4, 5, 6, 7, requires_grad=True))
        (convolved.flatten(1) @ torch.rand(convolved.numel(), 3, requires_grad=True)).sum().backward()
    assert ledger.flops == counter.get_total_flops() > 0


def test_attention_on_a_processor_is_counted_as_its_two_products() -> None:
    q, k, v = (torch.rand(2, 3, length, 16) for length in (10, 20, 20))
    with Ledger() as ledger:
        torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert ledger.flops == 2 * 2 * (2 * 3) * 10 * 20 * 16
    assert torch.ops.aten._scaled_dot_product_flash_attention_for_cpu in FORMULAS


def test_a_dit_that_no_memory_could_hold_is_estimated() -> None:
    nodes = {"dit": {"type": "start_dit@1", "params": {"width": 16384, "depth": 100, "heads": 128}}}
    found = default_runtime().estimate(workflow(nodes, {"dit": "dit"}))
    weights = 100 * (3 + 2 + 1 + 4 + 4) * 16384**2  # matrices of a block: qkv, text_kv, out, up, down
    assert found.peak_bytes == pytest.approx(4 * weights, rel=0.01)
    assert found.fits is False


# --- nothing is read, run or written


def test_of_a_weights_file_the_header_is_read_alone(tmp_path) -> None:
    small = outlined_model("flipbook").dit.network
    config = replace(small.config, width=16384, depth=64, heads=128)
    with torch.device("meta"):
        network = type(small)(config)
    path, end = tmp_path / "dit.safetensors", 0
    header: Any = {"__metadata__": {"kind": "dit", "config": json.dumps(config.to_json())}}
    for name, weight in network.state_dict().items():
        header[name] = {"dtype": "F16", "shape": list(weight.shape), "data_offsets": [end, end + 2 * weight.numel()]}
        end += 2 * weight.numel()
    assert end > 400e9
    header = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with path.open("r+b") as file:
        file.truncate(8 + len(header) + end)  # a hole that takes an hour to read
    made = outline(path, "dit")
    assert {parameter.device.type for parameter in made.parameters()} == {"meta"}
    assert made.config.depth == 64


def test_effects_do_not_happen_and_files_are_not_opened(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    nodes = {
        "file": {"type": "opened@1", "params": {"path": "a"}},
        "more": {"type": "scaled@1", "links": {"a": "file"}},
        "drawn": {"type": "drawn@1"},
        "number": {"type": "mean@1", "links": {"a": "drawn"}},
        "scaled": {"type": "scaled@1", "links": {"a": "drawn", "by": "number"}},
        "leave": {"type": "written@1", "links": {"a": "drawn"}},
    }
    store = Store(tmp_path / "store")
    before = set(tmp_path.rglob("*"))
    found = toys(store).estimate(workflow(nodes, {"more": "more", "scaled": "scaled"}))
    assert {path: row(found, path).unknown for path in found.unknown} == {
        "file": "it reads files",
        "more": "it needs file",
        "number": "what it does depends on numbers that only a real run has",
        "scaled": "it needs number",
        "leave": "it has an effect, so it is not tried",
    }
    assert store.rows() == []
    assert set(tmp_path.rglob("*")) == before
    store.close()


def test_known_numbers_are_real_and_others_are_not() -> None:
    with trial() as (tried, _):
        weight = tried.settle(torch.empty(3, device="meta"))
        known = torch.arange(3)
        assert known.sum().item() == 3
        assert torch.equal(torch.zeros_like(weight), torch.zeros(3))
        assert weight[known > 0].shape == (2,)
        into = torch.zeros(3)
        into[1:] = weight[1:]
        assert tried.is_unknown(into)
        assert tried.is_unknown(into.view(1, 3) + 1)
        assert not tried.is_unknown(known + 1)


# --- what is kept


def test_what_is_kept_does_not_run_and_what_changed_is_named(tmp_path) -> None:
    store = Store(tmp_path, least_seconds=0.0)
    runtime = toys(store)

    def source(rows: int, by: float) -> dict:
        return workflow(
            {
                "drawn": {"type": "drawn@1", "params": {"rows": rows}},
                "first": {"type": "slowly@1", "links": {"a": "drawn"}},
                "scaled": {"type": "slowly@1", "links": {"a": "first"}, "params": {"by": by}},
            },
            {"made": "scaled"},
        )

    assert row(toys(store).estimate(source(20, 2.0)), "scaled").changed == ""
    runtime.run(source(20, 2.0))
    again = toys(store).estimate(source(20, 2.0))
    assert [(each.path, each.cached) for each in again.nodes] == [("scaled", True)]
    assert row(again, "scaled").shapes["output"] == {"x": (20, 64)}
    assert row(toys(store).estimate(source(20, 3.0)), "scaled").changed == "by was 2, is 3"
    assert row(toys(store).estimate(source(20, 3.0)), "first").cached
    assert row(toys(store).estimate(source(21, 2.0)), "scaled").changed == "its input a is another than the one kept"
    store.close()


# --- seconds


def test_seconds_are_those_of_the_last_run_in_proportion_to_the_work(tmp_path) -> None:
    def source(rows: int, count: int) -> dict:
        nodes = {"start": {"type": "drawn@1", "params": {"rows": rows}}, **loop("start", "floats", count)}
        return workflow(nodes, {"made": "loop.a"})

    store = Store(tmp_path, least_seconds=1e9)
    assert toys(store).estimate(source(100, 10)).nodes[0].seconds is None
    toys(store).run(source(100, 10))
    took = recorded(tmp_path)[0].nodes["loop"]
    assert took.passes == 10
    assert row(toys(store).estimate(source(100, 10)), "loop").seconds == pytest.approx(took.seconds)
    assert row(toys(store).estimate(source(100, 20)), "loop").seconds == pytest.approx(2 * took.seconds)
    assert row(toys(store).estimate(source(200, 10)), "loop").seconds == pytest.approx(4 * took.seconds)
    (tmp_path / "timings.json").write_text("[{")
    assert toys(store).estimate(source(100, 10)).seconds == 0
    store.close()


def test_a_loop_that_was_resumed_is_judged_by_the_passes_that_it_ran() -> None:
    work = {"loop": Work("loop@1 a@1", 100.0, 10)}
    took = {"loop": Took("loop@1", 3.0, 5)}
    assert expected(work, [Record("text", took)], lambda _: work) == {"loop": 6.0}


def test_memory_to_spare_is_a_number_of_bytes() -> None:
    spare = spare_memory()
    assert spare is None or spare > 2**20


# --- the command line


def test_plan_prints_a_table_or_json_and_leaves_nothing(cli, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("plan", TEXT_TO_VIDEO, "--set", "frames=9", "steps=4")
    assert (code, err) == (0, "")
    lines = {line.strip().split("  ")[0]: line for line in out.splitlines()}
    assert "1 x 192 x 8" in lines["patches x 4"]
    assert "6,324,360 weights" in lines["model"]
    assert "Not counted: file." in out
    code, out, _ = cli("plan", TEXT_TO_VIDEO, "--set", "frames=9", "steps=4", "--json")
    found = json.loads(out)
    assert code == 0
    assert [each["passes"] for each in found["nodes"] if each["path"] == "denoise/guided"] == [4]
    assert found["peak_bytes"] > 0
    assert list(tmp_path.iterdir()) == []


def test_plan_lists_all_that_is_wrong(cli, tmp_path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(workflow({"a": {"type": "nothing@1"}}, {"a": "a"})))
    code, out, err = cli("plan", path)
    assert (code, out) == (2, "")
    assert "nothing@1" in err
