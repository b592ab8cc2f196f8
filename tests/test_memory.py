"""Runs within a budget: the same bits as without one, weights really gone and read again, never more than the budget.

What memory holds is counted twice: by the device's own ledger, and by one that sees every tensor that torch touches.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from kineograph import default_runtime
from kineograph.graph_runtime import execute as execution
from kineograph.graph_runtime.costs import kept_share
from kineograph.graph_runtime.errors import Cancelled, InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.events import Event, MemoryShort, NodeProgress, NodeResumed, NodeStarted
from kineograph.graph_runtime.executors.local import LocalExecutor
from kineograph.graph_runtime.executors.units import WorkUnit
from kineograph.graph_runtime.memory.device import Device
from kineograph.graph_runtime.node import node, node_type
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.resume import KeepEvery
from kineograph.graph_runtime.runtime import Runtime
from kineograph.graph_runtime.sockets import Stream, socket
from kineograph.graph_runtime.store import Store
from kineograph.nodes.networks.components import outline
from kineograph.nodes.networks.resident import Part, attach
from kineograph.nodes.networks.weights import save_weights
from kineograph.trial import Ledger

WORKFLOWS = Path(__file__).parent.parent / "workflows"
TEXT_TO_VIDEO = WORKFLOWS / "text_to_video.json"
SMALL = {"steps": 2, "frames": 9}


@contextmanager
def watched() -> Iterator[Ledger]:
    """Count the bytes of all tensors while a plan is executed; a mapped file is not memory."""
    ledger, execute, bring = Ledger(), execution.execute, Part.bring

    def executing(*arguments: Any) -> Any:
        with ledger:
            return execute(*arguments)

    def bringing(part: Part, device: str) -> None:
        with _disable_current_modes():
            bring(part, device)
        weights = (part._resident._held(name) for name in part.names)
        ledger.hold([weight for weight in weights if weight is not None])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "execute", executing)
        patch.setattr(Part, "bring", bringing)
        yield ledger


@pytest.fixture
def counted() -> Iterator[Ledger]:
    """The bytes of all tensors while a plan is executed."""
    with watched() as ledger:
        yield ledger


def device_of(runtime: Runtime) -> Device:
    assert runtime._lent is not None
    return runtime._lent.device


# --- the embedded model


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Tensor:
    """The frames of text_to_video without a budget."""
    made = default_runtime().run(TEXT_TO_VIDEO, SMALL, out=tmp_path_factory.mktemp("plain"))
    return made.outputs["video"].frames


@pytest.mark.parametrize("budget", [45_000_000, 20_000_000, 14_000_000])
def test_a_video_is_made_bit_for_bit_within_a_budget_smaller_than_its_weights(budget, plain, counted, tmp_path) -> None:
    runtime = default_runtime()
    residence = runtime.estimate(TEXT_TO_VIDEO, SMALL, memory=budget).residence
    assert residence is not None
    made = runtime.run(TEXT_TO_VIDEO, SMALL, out=tmp_path, memory=budget)
    assert torch.equal(made.outputs["video"].frames, plain)
    device = device_of(runtime)
    assert max(counted.peak, device.peak) <= budget - residence.kept
    assert device.moved == residence.moved >= residence.weights
    if budget < residence.weights:  # some went, and were read again
        assert device.moved > residence.weights
        assert device.uploads > 17


def test_in_the_least_budget_memory_is_used_to_the_byte(counted, tmp_path) -> None:
    runtime = default_runtime()
    found = runtime.estimate(TEXT_TO_VIDEO, SMALL, memory=10**9).residence
    assert found is not None
    runtime.run(TEXT_TO_VIDEO, SMALL, out=tmp_path, memory=found.least)
    assert counted.peak == device_of(runtime).peak == found.needs


def test_what_cannot_fit_is_said_before_anything_runs_with_the_number_that_suffices(tmp_path) -> None:
    heard: list[Event] = []
    runtime = default_runtime()
    found = runtime.estimate(TEXT_TO_VIDEO, SMALL, memory=10**9).residence
    assert found is not None
    with pytest.raises(InvalidWorkflow, match=r"denoise/guided: It needs \d+\.\d MB at once, .* Give it \d+\.\d MB"):
        runtime.run(TEXT_TO_VIDEO, SMALL, out=tmp_path, memory=found.least - 100, listen=heard.append)
    assert heard == []
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_finds_weights_where_the_first_left_them(tmp_path) -> None:
    runtime = default_runtime()
    uploads: list[int] = []
    for seed in (1, 2):
        runtime.run(TEXT_TO_VIDEO, {**SMALL, "seed": seed}, out=tmp_path, memory=60_000_000)
        uploads.append(device_of(runtime).uploads)
    assert uploads == [17, 17]
    first = runtime.run(TEXT_TO_VIDEO, SMALL, out=tmp_path).outputs["video"].frames
    assert torch.equal(first, default_runtime().run(TEXT_TO_VIDEO, SMALL, out=tmp_path).outputs["video"].frames)


@pytest.mark.parametrize("all_kept", [False, True])
def test_a_run_that_was_stopped_goes_on_within_its_budget(all_kept, plain, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Store, "worth", lambda *_: all_kept)
    cancel, heard = threading.Event(), list[Event]()

    def stop(event: Event) -> None:
        if isinstance(event, NodeProgress) and event.path == "denoise":
            cancel.set()

    how: dict[str, Any] = {"out": tmp_path, "memory": 14_000_000, "keep_every": KeepEvery(passes=1)}
    runtime = default_runtime(store=Store(tmp_path / "store"))
    with pytest.raises(Cancelled):
        runtime.run(TEXT_TO_VIDEO, SMALL, listen=stop, cancel=cancel, **how)
    made = default_runtime(store=Store(tmp_path / "store")).run(TEXT_TO_VIDEO, SMALL, listen=heard.append, **how)
    assert any(isinstance(event, NodeResumed) for event in heard)
    assert torch.equal(made.outputs["video"].frames, plain)


def test_the_command_line_plans_and_runs_within_a_budget(cli, tmp_path) -> None:
    small = ["--set", "steps=1", "frames=1", "--no-store"]
    code, out, _ = cli("plan", TEXT_TO_VIDEO, "--memory", "30MB", *small)
    assert code == 0
    assert "It fits --memory 30" in out
    assert "are moved" in out
    residence = json.loads(cli("plan", TEXT_TO_VIDEO, "--memory", "30MB", *small, "--json")[1])["residence"]
    assert residence["moved"] >= residence["weights"] > 30_000_000
    assert cli("run", TEXT_TO_VIDEO, "--memory", "30MB", *small, "--out", tmp_path)[0] == 0
    assert (tmp_path / "video.mp4").exists()
    code, out, _ = cli("plan", TEXT_TO_VIDEO, "--memory", "5MB", *small)
    assert "DOES NOT FIT --memory 5" in out
    code, _, err = cli("run", TEXT_TO_VIDEO, "--memory", "5MB", *small, "--out", tmp_path)
    assert code == 2
    assert "Give it" in err
    assert cli("run", TEXT_TO_VIDEO, "--memory", "0")[0] == 2


def test_a_unit_carries_its_budget_to_where_it_runs(tmp_path) -> None:
    raw = json.loads(TEXT_TO_VIDEO.read_text())
    unit = WorkUnit(raw, SMALL, out=str(tmp_path), memory=5_000_000)
    assert WorkUnit.from_json(unit.to_json()) == unit
    with LocalExecutor(default_runtime) as executor, pytest.raises(InvalidWorkflow, match="a budget of 5"):
        executor.submit(unit).result()


# --- blocks of a network


def test_a_copy_of_a_network_has_weights_of_its_own(tmp_path) -> None:
    network = outline(WORKFLOWS.parent / "nodes/pretrained/flipbook/dit.safetensors", "dit")
    parts = network.resident.parts
    assert sum(part.nbytes for part in parts) == sum(weight.nbytes for weight in network.state_dict().values())
    assert [part.name for part in parts] == [f"blocks.{number}" for number in range(6)] + [""]
    for part in parts:
        part.bring("cpu")
    twin = copy.deepcopy(network)
    assert twin.resident is None
    for part in parts:
        part.drop()
    assert {weight.device.type for weight in network.parameters()} == {"meta"}
    assert {weight.device.type for weight in twin.parameters()} == {"cpu"}


def test_a_file_that_is_not_what_it_was_or_is_anothers_is_refused(tmp_path) -> None:
    path = write(tmp_path, 3)
    with torch.device("meta"):
        network, other = Network(3), Network(4)
    attach(network, path)
    with pytest.raises(ValueError, match=r"blocks.3.weight: missing"):
        attach(other, path)
    write(tmp_path, 3, seed=1)
    with pytest.raises(ValueError, match="was changed while a run reads from it"):
        network.resident.parts[0].bring("cpu")


# --- toy networks in files, and nodes that read them in every way

WIDTH = 16
BLOCK = WIDTH * WIDTH * 4


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.weight)


class Network(nn.Module):
    resident: Any = None

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.into = nn.Parameter(torch.randn(WIDTH, WIDTH) / 4)
        self.blocks = nn.ModuleList(Layer() for _ in range(depth))

    def forward(self, x: Tensor, skip: int = -1) -> Tensor:
        x = x @ self.into
        for number, block in enumerate(self.blocks):
            x = x if number == skip else block(x)
        return x @ self.into


def write(folder: Path, depth: int, seed: int = 0) -> Path:
    path = folder / f"{depth}.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_weights(path, {name: weight.half() for name, weight in Network(depth).state_dict().items()})
    return path


@socket(family="model")
@dataclass(frozen=True)
class Toy:
    """A network of a few layers."""

    network: Any


@socket(family="latent")
@dataclass(frozen=True)
class Rows:
    """A matrix."""

    x: Tensor


def outlined(path: str, depth: int) -> Toy:
    with torch.device("meta"):
        network = Network(depth).requires_grad_(False)
    attach(network, Path(path))
    return Toy(network)


@node(fingerprint=lambda path: Path(path).name, estimate=outlined)
def loaded(path: str, depth: int) -> Toy:
    """A network from a file."""
    made = outlined(path, depth)
    for part in made.network.resident.parts:
        part.bring("cpu")
    made.network.resident = None
    return made


@node
def drawn(rows: int = 4, seed: int = 0) -> Rows:
    """Random rows."""
    return Rows(torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed)))


@node
def through(toy: Toy, x: Rows) -> Rows:
    """Through the network."""
    return Rows(toy.network(x.x))


@node
def through_some(toy: Toy, x: Rows, skip: int = 0) -> Rows:
    """Through all blocks but one."""
    return Rows(toy.network(x.x, skip))


@node
def through_backwards(toy: Toy, x: Rows) -> Rows:
    """Through the blocks from the last to the first, whose weights are read from outside."""
    found = x.x
    for block in reversed(toy.network.blocks):
        found = torch.tanh(found @ block.weight)
    return Rows(found)


@node
def through_as_asked(toy: Toy, x: Rows) -> Rows:
    """Through the network, as its own numbers say."""
    made = toy.network(x.x)
    return Rows(made if made.sum() > 0 else -made)


@node
def name_of(toy: Toy, x: Rows) -> Rows:
    """Reads of the network only how deep it is."""
    return Rows(x.x * len(toy.network.blocks))


@node
def blended(a: Rows, b: Rows) -> Rows:
    """The mean of two."""
    return Rows((a.x + b.x) / 2)


@node
def numbers(count: int = 2) -> Stream[int]:
    """0, 1, 2, ..."""
    return Stream.of(list(range(count)))


@node
def positive(x: Rows) -> bool:
    """Whether the sum is."""
    return bool(x.x.sum() > 0)


@node
async def later(toy: Toy, x: Rows) -> Rows:
    """As through, as a coroutine."""
    return Rows(toy.network(x.x))


@node
def slope(toy: Toy, x: Rows) -> Rows:
    """The gradient of the sum of what the network makes."""
    with torch.enable_grad():
        asked = x.x.detach().requires_grad_()
        return Rows(torch.autograd.grad(toy.network(asked).sum(), asked)[0])


@node(differentiates=("made", "x"))
def slope_of(made: Rows, x: Rows) -> Rows:
    """The gradient of the sum of one for the other."""
    return Rows(torch.autograd.grad(made.x, x.x, torch.ones_like(made.x))[0])


@node
def asking(x: Rows) -> Rows:
    """Rows that gradients are taken for."""
    return Rows(x.x.clone().requires_grad_())


@node(smaller={"tile": 2})
def in_tiles(x: Rows, tile: int = 64) -> Rows:
    """Rows times themselves, a tile of rows at a time."""
    return Rows(torch.cat([(part[:, :, None] * part[:, None, :]).sum(1) for part in x.x.split(tile)]))


@node(smaller={"tile": 2})
def short(x: Rows, tile: int = 64, least: int = 2) -> Rows:
    """Memory runs out, unless the tile is small."""
    TRIED.append(tile)
    if tile > least:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:128] err == 0. DefaultCPUAllocator: can't allocate memory")
    return x


@node(donates=("x",))
def short_in_place(x: Rows) -> Rows:
    """Memory runs out after something was overwritten."""
    TRIED.append(0)
    raise MemoryError


TRIED: list[int] = []
TOYS = (loaded, drawn, through, through_some, through_backwards, name_of, blended, numbers, positive, later, slope)
TOYS += (through_as_asked, slope_of, asking, in_tiles, short, short_in_place)


def toys() -> Runtime:
    registry = Registry()
    for function in TOYS:
        registry.add(node_type(function))
    return Runtime(registry)


def workflow(nodes: dict[str, Any], **outputs: str) -> dict[str, Any]:
    return {"format": 1, "nodes": nodes, "outputs": outputs}


def spec(type_id: str, /, links: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
    return {"type": f"{type_id}@1", "params": params, "links": links or {}}


def loop(nodes: dict[str, Any], output: str, x: str, **links: str) -> dict[str, Any]:
    body = {"nodes": nodes, "outputs": {"x": output}}
    return {"type": "loop@1", "each": "numbers", "carry": {"x": x}, "links": links, "body": body}


def run_within(raw: dict[str, Any], more: Callable[[int], int] = lambda least: least) -> tuple[Any, Device]:
    """Run with a budget, and see that nothing exceeds it."""
    runtime = toys()
    found = runtime.estimate(raw, memory=10**9).residence
    assert found is not None
    assert not found.unknown
    budget = more(found.least)
    with watched() as ledger:
        outcome = runtime.run(raw, memory=budget)
    assert device_of(runtime).peak <= budget - kept_share(budget)
    assert ledger.peak <= device_of(runtime).peak + kept_share(budget)
    return outcome.outputs, device_of(runtime)


READERS = ("through", "through_some", "through_backwards", "name_of", "later", "slope")


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Nodes that read networks and each other, some of them in a loop."""
    count = draw(st.integers(1, 3))
    nodes: dict[str, Any] = {f"net{each}": {"depth": draw(st.integers(1, 4))} for each in range(count)}
    nodes["x0"] = spec("drawn", rows=draw(st.integers(1, 40)), seed=draw(st.integers(0, 3)))
    nodes["numbers"] = spec("numbers", count=draw(st.integers(1, 4)))
    for number in range(1, draw(st.integers(2, 6))):
        kind = draw(st.sampled_from([*READERS, "loop", "blended"]))
        x = f"x{draw(st.integers(0, number - 1))}"
        net = f"net{draw(st.integers(0, count - 1))}"
        if kind == "loop":
            inner = draw(st.sampled_from(READERS))
            last = draw(st.sampled_from(READERS))
            body = {"one": spec(inner, {"toy": "$toy", "x": "$x"}), "two": spec(last, {"toy": "$other", "x": "one"})}
            nodes[f"x{number}"] = loop(body, "two", x, toy=net, other=f"net{draw(st.integers(0, count - 1))}")
        elif kind == "blended":
            nodes[f"x{number}"] = spec("blended", {"a": x, "b": f"x{draw(st.integers(0, number - 1))}"})
            if len({*nodes[f"x{number}"]["links"].values()}) == 1 and not draw(st.booleans()):
                nodes[f"x{number}"] = spec("through", {"toy": net, "x": x})
        else:
            nodes[f"x{number}"] = spec(kind, {"toy": net, "x": x})
    return nodes


@given(graphs(), st.integers(0, 12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_graph_gives_the_same_bits_within_any_budget_in_which_its_largest_step_fits(tmp_path, nodes, more) -> None:
    for name, about in nodes.items():
        if name.startswith("net") and "depth" in about:
            path = tmp_path / f"{about['depth']}.safetensors"
            write(tmp_path, about["depth"]) if not path.exists() else None
            nodes[name] = spec("loaded", path=str(path), depth=about["depth"])
    last = max((name for name in nodes if name.startswith("x")), key=lambda name: int(name[1:]))
    raw = workflow(nodes, first="x1", last=last) if "x1" in nodes else workflow(nodes, last=last)
    note(json.dumps(raw, indent=1))
    plain = toys().run(raw).outputs
    found, device = run_within(raw, lambda least: least + more * BLOCK)
    assert all(torch.equal(found[name].x, plain[name].x) for name in plain)
    assert device.moved % BLOCK == 0


def nets(folder: Path, **depths: int) -> dict[str, Any]:
    return {name: spec("loaded", path=str(write(folder, depth)), depth=depth) for name, depth in depths.items()} | {
        "x": spec("drawn", rows=3),
        "numbers": spec("numbers", count=3),
    }


def test_a_node_that_asks_a_network_only_for_its_sizes_brings_no_weight(tmp_path) -> None:
    nodes = nets(tmp_path, net=3) | {"y": spec("name_of", {"toy": "net", "x": "x"})}
    assert run_within(workflow(nodes, y="y"))[1].moved == 0


def test_blocks_that_are_skipped_are_not_brought(tmp_path) -> None:
    nodes = nets(tmp_path, net=4) | {"y": spec("through_some", {"toy": "net", "x": "x"}, skip=1)}
    assert run_within(workflow(nodes, y="y"))[1].moved == (1 + 3) * BLOCK


def test_blocks_read_one_by_one_need_room_for_one_and_those_read_from_outside_for_all(tmp_path) -> None:
    needs: dict[str, int] = {}
    for kind in ("through", "through_backwards"):
        raw = workflow(nets(tmp_path, net=4) | {"y": spec(kind, {"toy": "net", "x": "x"})}, y="y")
        found = toys().estimate(raw, memory=10**9).residence
        assert found is not None
        needs[kind] = found.needs_weights
    assert needs == {"through": 2 * BLOCK, "through_backwards": 4 * BLOCK}


def test_what_gradients_are_taken_through_stays_until_they_are(tmp_path) -> None:
    nodes = nets(tmp_path, net=3, other=2) | {
        "asked": spec("asking", {"x": "x"}),
        "made": spec("through", {"toy": "net", "x": "asked"}),
        "beside": spec("through", {"toy": "other", "x": "x"}),
        "slope": spec("slope_of", {"made": "made", "x": "asked"}),
        "both": spec("blended", {"a": "slope", "b": "beside"}),
    }
    raw = workflow(nodes, both="both")
    found, _ = run_within(raw)
    assert torch.equal(found["both"].x, toys().run(raw).outputs["both"].x)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_branch_that_only_the_run_decides_keeps_within_the_budget(tmp_path, seed) -> None:
    nodes = nets(tmp_path, net=3, other=2) | {
        "x": spec("drawn", rows=3, seed=seed),
        "when": spec("positive", {"x": "x"}),
        "one": spec("through", {"toy": "net", "x": "x"}),
        "two": spec("through", {"toy": "other", "x": "x"}),
        "y": {"type": "branch@1", "links": {"when": "when", "then": "one", "else": "two"}},
        "z": spec("through", {"toy": "net", "x": "y"}),
    }
    raw = workflow(nodes, z="z")
    runtime = toys()
    budget = runtime.estimate(raw, memory=10**9).residence.least
    made = runtime.run(raw, memory=budget).outputs["z"].x
    assert torch.equal(made, toys().run(raw).outputs["z"].x)
    assert device_of(runtime).peak <= budget


def test_what_no_trial_can_try_is_brought_whole_or_where_it_is_too_large_block_by_block(tmp_path) -> None:
    nodes = nets(tmp_path, net=4) | {"y": spec("through_as_asked", {"toy": "net", "x": "x"})}
    raw = workflow(nodes, y="y")
    plain = toys().run(raw).outputs["y"].x
    moved: list[int] = []
    for budget in (20 * BLOCK, 4 * BLOCK):
        runtime = toys()
        assert runtime.estimate(raw, memory=budget).residence.unknown == ("y",)
        assert torch.equal(runtime.run(raw, memory=budget).outputs["y"].x, plain)
        assert device_of(runtime).peak <= budget
        moved.append(device_of(runtime).moved)
    assert moved == [5 * BLOCK, 5 * BLOCK]


def test_a_network_that_leaves_a_run_has_all_of_its_weights(tmp_path) -> None:
    nodes = nets(tmp_path, net=3) | {"y": spec("through", {"toy": "net", "x": "x"})}
    found, device = run_within(workflow(nodes, y="y", net="net"), lambda least: 2 * least)
    assert torch.equal(found["net"].network(drawn(3).x), found["y"].x)
    assert device.used() == 0


def test_values_are_gone_after_their_last_reader_and_only_a_share_is_kept_for_later(tmp_path) -> None:
    nodes: dict[str, Any] = {"x0": spec("drawn", rows=1000)}
    for number in range(1, 8):
        nodes[f"x{number}"] = spec("blended", {"a": f"x{number - 1}", "b": f"x{number - 1}"})
    one = 1000 * WIDTH * 4
    runtime = toys()
    found = runtime.estimate(workflow(nodes, y="x7"), memory=10**9).residence
    assert found is not None
    assert found.needs == 3 * one  # what is read, the sum, and its half
    run_within(workflow(nodes, y="x7"))


# --- when memory runs out all the same


def test_memory_that_runs_out_is_tried_again_with_the_smaller_setting() -> None:
    heard: list[Event] = []
    TRIED.clear()
    raw = workflow({"x": spec("drawn"), "y": spec("short", {"x": "x"})}, y="y")
    assert toys().run(raw, listen=heard.append).outputs["y"].x.shape == (4, WIDTH)
    assert TRIED == [64, 2]
    short_of = [event for event in heard if isinstance(event, MemoryShort)]
    assert short_of == [MemoryShort("y", "memory ran out; it runs again with tile = 2")]


def test_memory_that_runs_out_twice_ends_with_what_it_holds(tmp_path) -> None:
    TRIED.clear()
    nodes = nets(tmp_path, net=3) | {
        "y": spec("through", {"toy": "net", "x": "x"}),
        "z": spec("short", {"x": "y"}, least=1),
    }
    with pytest.raises(
        NodeFailed, match=r"z \(short@1\) failed: MemoryError: memory ran out twice, the second time with "
    ):
        toys().run(workflow(nodes, z="z"))
    with pytest.raises(NodeFailed, match=r"with tile = 2. Of \d.* 0.0 MB set aside to compute with; .* smaller size"):
        toys().run(workflow(nodes, z="z"), memory=1_000_000)
    assert TRIED == [64, 2, 64, 64, 2]  # once in the trial


def test_what_overwrites_is_not_tried_again() -> None:
    TRIED.clear()
    with pytest.raises(NodeFailed, match="MemoryError"):
        toys().run(workflow({"x": spec("drawn"), "y": spec("short_in_place", {"x": "x"})}, y="y"))
    assert TRIED == [0]


def test_a_step_that_fits_only_in_its_smaller_setting_is_planned_so() -> None:
    raw = workflow({"x": spec("drawn", rows=64), "y": spec("in_tiles", {"x": "x"})}, y="y")
    whole = 64 * WIDTH * WIDTH * 4
    runtime = toys()
    residence = runtime.estimate(raw, memory=whole).residence
    assert residence is not None
    assert residence.fits
    assert residence.smaller == ("y",)
    with watched() as ledger:
        made = runtime.run(raw, memory=whole)
    assert ledger.peak < whole
    torch.testing.assert_close(made.outputs["y"].x, toys().run(raw).outputs["y"].x)


def test_a_smaller_setting_must_fit_the_ports() -> None:
    with pytest.raises(TypeError, match="smaller names tiles, which is no input of it"):
        node(smaller={"tiles": 1})(lambda: None)
    with pytest.raises(ValueError, match="'two' is not an int"):

        @node(smaller={"tile": "two"})
        def bad(tile: int = 4) -> int:
            return tile


def test_without_a_budget_nothing_is_lent_and_nothing_listens(tmp_path) -> None:
    nodes = nets(tmp_path, net=3) | {"y": spec("through", {"toy": "net", "x": "x"})}
    heard: list[Event] = []
    runtime = toys()
    runtime.run(workflow(nodes, y="y"), listen=heard.append)
    assert runtime._lent is None
    assert [event.path for event in heard if isinstance(event, NodeStarted)] == ["net", "x", "y"]
    assert not nn.modules.module._global_forward_pre_hooks
