"""Ways to compute attention against the ground truth; the one that is named is taken, recorded, or refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import Tensor

from kineograph import default_runtime, numerics
from kineograph.graph_runtime.errors import InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.events import RunsAgain
from kineograph.nodes.networks.attention import backends, choice, selftest
from kineograph.nodes.networks.attention.backends import BACKENDS, SDPA, Backend, Case
from kineograph.nodes.networks.attention.segments import Segments

FLOAT, BFLOAT = torch.float32, torch.bfloat16
PROCESSOR = Case("cpu", FLOAT, 16)


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch):
    monkeypatch.delenv(numerics.ATTENTION, raising=False)
    for known in (choice.named, choice.best, selftest.fault, backends._block_diagonal):
        known.cache_clear()


def slow(q_SHD: Tensor, k_UHD: Tensor, v_UHD: Tensor, seen_SU: Tensor) -> Tensor:
    """The oracle: one softmax under a mask over the whole sequence."""
    scores = torch.einsum("shd,uhd->hsu", q_SHD, k_UHD) / q_SHD.shape[-1] ** 0.5
    return torch.einsum("hsu,uhd->shd", scores.masked_fill(~seen_SU, float("-inf")).softmax(-1), v_UHD)


def clips_of(lengths: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(lengths)), lengths)


def slow_varlen(q, k, v, q_starts, k_starts, longest_q, longest_k):
    """What the documentation of torch says of its kernel."""
    assert q_starts.dtype == k_starts.dtype == torch.int32
    assert (q_starts.diff().max(), k_starts.diff().max()) == (longest_q, longest_k)
    return slow(q, k, v, clips_of(q_starts.diff().long())[:, None] == clips_of(k_starts.diff().long()))


class SlowMask:
    """What xformers' documentation says of its ``BlockDiagonalMask``."""

    @classmethod
    def from_seqlens(cls, q_seqlen, kv_seqlen, *, device):
        mask = cls()
        mask.q_lengths, mask.k_lengths = (torch.tensor(each, device=device) for each in (q_seqlen, kv_seqlen))
        return mask

    def materialize(self, shape):
        seen = clips_of(self.q_lengths)[:, None] == clips_of(self.k_lengths)
        assert seen.shape == shape
        return torch.zeros(shape).masked_fill_(~seen, float("-inf"))


def slow_memory_efficient(q, k, v, attn_bias):
    """Of one row of tokens, (1, tokens, heads, features): scaled, and a softmax under the mask."""
    seen = attn_bias.materialize((q.shape[1], k.shape[1])).isfinite()
    return slow(q[0], k[0], v[0], seen)[None]


@pytest.fixture(params=["standing in", "installed"])
def xformers(request, monkeypatch):
    """xformers with a slow kernel, as its own have no processor: with a mask that stands in, and with its own."""
    mask = SlowMask
    if request.param == "installed":
        mask = pytest.importorskip("xformers.ops.fmha.attn_bias").BlockDiagonalMask
    names = ("xformers", "xformers.ops", "xformers.ops.fmha", "xformers.ops.fmha.attn_bias")
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["xformers.ops"].memory_efficient_attention = slow_memory_efficient
    sys.modules["xformers.ops.fmha.attn_bias"].BlockDiagonalMask = mask


def test_every_way_with_a_processor_gives_what_sdpa_gives_and_none_is_taken_by_itself() -> None:
    there = [name for name, backend in BACKENDS.items() if not backend.lacks(PROCESSOR)]
    assert there == ["sdpa", "flex"]
    for dtype, allowed in ((FLOAT, 1e-6), (BFLOAT, 1e-2)):
        case = PROCESSOR._replace(dtype=dtype)
        assert selftest.difference(BACKENDS["flex"], case) < allowed
        assert choice.best(case) is SDPA


@pytest.mark.parametrize("grad", [False, True])
def test_what_varlen_is_given_means_the_same(monkeypatch: pytest.MonkeyPatch, grad: bool) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", slow_varlen)
    assert selftest.difference(BACKENDS["varlen"], PROCESSOR._replace(grad=grad)) < 1e-6


@pytest.mark.parametrize("grad", [False, True])
def test_what_xformers_is_given_means_the_same(xformers, grad: bool) -> None:
    assert selftest.difference(BACKENDS["xformers"], PROCESSOR._replace(grad=grad)) < 1e-6


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda out, own: [x * 1.01 for x in out], "0.01 off"),
        (lambda out, own: [torch.full_like(x, float("nan")) for x in out], "inf off"),
        (lambda out, own: own.own_clip_forgotten, "off from SDPA's"),
    ],
)
def test_a_way_that_gives_something_else_is_refused(monkeypatch, wrong, told) -> None:
    class Unmasked:
        """Everybody sees the padding too."""

        def __init__(self, qs, ks, vs, segments):
            seen = [torch.ones_like(mask) for mask in segments.seen_BM]
            self.own_clip_forgotten = SDPA.run(qs, ks, vs, Segments(segments.clips, seen))

    def run(qs, ks, vs, segments):
        return wrong(SDPA.run(qs, ks, vs, segments), Unmasked(qs, ks, vs, segments))

    monkeypatch.setitem(BACKENDS, "flex", replace(BACKENDS["flex"], run=run))
    with pytest.raises(ValueError, match=rf"'flex' was asked for, but its self-test gave values that are .*{told}"):
        choice.named("flex", PROCESSOR)


def test_a_way_that_raises_is_refused_with_what_it_said(monkeypatch) -> None:
    def run(*_):
        raise NotImplementedError("No operator found\nfor this and that")

    monkeypatch.setitem(BACKENDS, "flex", replace(BACKENDS["flex"], run=run))
    with pytest.raises(ValueError, match=r"its self-test failed: NotImplementedError: No operator found\. Leave"):
        choice.named("flex", PROCESSOR)


@pytest.mark.parametrize(
    ("name", "case", "told"),
    [
        ("varlen", PROCESSOR, "needs a CUDA device"),
        ("xformers", PROCESSOR, "is not installed: pip install 'kineograph\\[xformers\\]'|on a CUDA device alone"),
        ("flex", PROCESSOR._replace(grad=True), "no backward pass on a processor"),
        ("flex", PROCESSOR._replace(dtype=torch.float64), "float32, float16 or bfloat16, and not in float64"),
    ],
)
def test_what_cannot_be_here_is_refused_with_the_reason(name: str, case: Case, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        choice.named(name, case)


@pytest.mark.parametrize("capability", [(7, 5), (9, 0)])
def test_a_gpu_takes_the_first_way_that_is_there_and_right(monkeypatch, caplog, capability) -> None:
    """Without a GPU: what is known of one is put in, and the self-tests' verdicts are."""
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: capability)
    monkeypatch.setattr(backends, "find_spec", lambda _: object())
    monkeypatch.setattr(choice, "fault", lambda backend, case: "")
    half, full = Case("cuda:0", BFLOAT, 128), Case("cuda:0", FLOAT, 128)
    assert choice.best(half).name == ("varlen" if capability >= (8, 0) else "xformers")
    assert choice.best(full).name == "xformers"
    assert choice.chosen(half, packed=False) is SDPA
    monkeypatch.setattr(
        choice, "fault", lambda backend, case: "its self-test failed" if backend.name == "varlen" else ""
    )
    choice.best.cache_clear()
    assert choice.best(half).name == "xformers"
    assert ("'varlen' is there, but its self-test failed" in caplog.text) == (capability >= (8, 0))


def test_under_autocast_all_compute_in_its_type() -> None:
    with torch.autocast("cpu", BFLOAT):
        assert Case.of(torch.zeros(1, 8)) == Case("cpu", BFLOAT, 8)
        given = selftest.given(selftest.TINY, PROCESSOR)
        for backend in (SDPA, BACKENDS["flex"]):
            assert {part.dtype for part in backend.run(*given)} == {BFLOAT}


# the runtime

SIZES = {"frames": 5, "height": 32, "width": 32, "steps": 2}
WORKFLOW = "workflows/text_to_video.json"


def test_a_way_that_was_named_is_part_of_the_keys_of_tensors(monkeypatch) -> None:
    runtime = default_runtime(installed=False)

    def keys(name: str) -> list[str]:
        monkeypatch.setenv(numerics.ATTENTION, name)
        return [step.key for step in runtime.plan(WORKFLOW, SIZES).steps]

    plain = keys("")
    assert keys("auto") == keys("sdpa") == plain
    assert len({tuple(each) for each in (plain, keys("flex"), keys("varlen"), keys("xformers"))}) == 4
    with pytest.raises(InvalidWorkflow, match=r"\$KINEOGRAPH_ATTENTION: 'flash' is no way to compute attention"):
        keys("flash")


def test_a_run_takes_the_way_that_was_named_and_makes_nearly_the_same(monkeypatch) -> None:
    def latents(name: str) -> Tensor:
        monkeypatch.setenv(numerics.ATTENTION, name)
        outcome = default_runtime(installed=False).run(WORKFLOW, SIZES, outputs=["denoise"])
        return outcome.outputs["denoise"].x

    plain, flex = latents("auto"), latents("flex")
    assert choice.last_taken() is BACKENDS["flex"]
    assert not torch.equal(plain, flex)
    assert torch.allclose(plain, flex, atol=2e-2)
    with pytest.raises(NodeFailed, match=r"denoise/guided .*'varlen' was asked for, but it needs a CUDA device"):
        latents("varlen")


def test_numbers_that_are_none_name_the_node_and_sdpa_takes_over(monkeypatch) -> None:
    calls = []

    def broken(qs, ks, vs, segments):
        calls.append(1)
        return [x * float("nan") for x in SDPA.run(qs, ks, vs, segments)]

    monkeypatch.setattr(choice, "fault", lambda backend, case: "")  # it is right when it is tried, and wrong later
    monkeypatch.setitem(BACKENDS, "flex", Backend("flex", lambda _: "", broken, "flex"))
    heard = []

    def latents(name: str) -> Tensor:
        monkeypatch.setenv(numerics.ATTENTION, name)
        runtime = default_runtime(installed=False)
        return runtime.run(WORKFLOW, SIZES, outputs=["denoise"], listen=heard.append).outputs["denoise"].x

    plain = latents("sdpa")
    assert not [event for event in heard if isinstance(event, RunsAgain)]
    assert torch.equal(latents("flex"), plain)
    again = [event for event in heard if isinstance(event, RunsAgain)]
    assert calls
    assert {event.path for event in again} == {"denoise/guided"}
    assert "are nan or infinite; it runs again with attention by SDPA, not by flex" in again[0].reason
