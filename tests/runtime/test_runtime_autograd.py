"""Only what leads to a differentiated input is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from kineograph.graph_runtime.node import node, node_type
from kineograph.graph_runtime.registry import Registry
from kineograph.graph_runtime.runtime import Runtime
from kineograph.graph_runtime.sockets import Stream, socket

SEEN: dict[str, bool] = {}


@socket(family="tensor")
@dataclass
class Tensor:
    x: Any


@node
def weight(value: float = 2.0) -> Tensor:
    return Tensor(torch.tensor(value, requires_grad=True))


@node
def times(w: Tensor, by: float, name: str = "") -> Tensor:
    SEEN[name] = torch.is_grad_enabled()
    return Tensor(w.x * by)


@node(differentiates=("loss",))
def slope(loss: Tensor, of: Tensor, factor: float = 1.0) -> float:
    return factor * float(torch.autograd.grad(loss.x, of.x)[0])


@node
def below(n: int) -> Stream[int]:
    return Stream(n, lambda index: index)


@pytest.fixture
def tensors():
    SEEN.clear()
    registry = Registry()
    for function in (weight, times, slope, below):
        registry.add(node_type(function))
    return Runtime(registry)


def nodes(spec, factor=1.0):
    return {
        "w": spec("weight@1"),
        "loss": spec("times@1", {"w": "w"}, by=3.0, name="loss"),
        "beside": spec("times@1", {"w": "w"}, by=5.0, name="beside"),
        "g": spec("slope@1", {"loss": "loss", "of": "w"}, factor=factor),
    }


@pytest.mark.parametrize("before", [True, False])
def test_only_ancestors_are_recorded_and_the_mode_is_restored(tensors, graph, spec, before):
    with torch.set_grad_enabled(before):
        outputs = tensors.run(graph(nodes(spec), g="g", b="beside")).outputs
        assert torch.is_grad_enabled() is before
    assert outputs["g"] == 3.0
    assert SEEN == {"loss": True, "beside": False}
    assert not outputs["b"].x.requires_grad


def test_a_history_is_not_taken_from_the_cache(tensors, graph, spec):
    assert tensors.run(graph(nodes(spec), b="loss")).outputs["b"].x.requires_grad is False
    assert tensors.run(graph(nodes(spec), g="g")).outputs["g"] == 3.0
    assert tensors.run(graph(nodes(spec, factor=2.0), g="g")).outputs["g"] == 6.0
    assert tensors.run(graph(nodes(spec, factor=2.0), g="g")).ran == 0


def test_history_is_recorded_anew_in_each_pass(tensors, graph, spec, loop):
    body = nodes(spec)
    body["w"] = spec("weight@1", {"value": "$acc"})
    body["loss"]["links"]["w"] = "w"
    graph_nodes = {"n": spec("below@1", n=3), "l": loop("n", nodes(spec), {"g": "g"}, collect=["g"])}
    assert list(tensors.run(graph(graph_nodes, g="l")).outputs["g"]) == [3.0] * 3
    assert SEEN["loss"] is True


def test_the_mode_is_restored_after_a_failure(tensors, graph, spec):
    broken = nodes(spec)
    broken["g"]["links"]["of"] = "beside"
    with pytest.raises(Exception, match="g"):
        tensors.run(graph(broken, g="g"))
    assert torch.is_grad_enabled()
