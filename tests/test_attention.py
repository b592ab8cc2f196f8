"""Ways to compute attention against the ground truth; the one that is named is taken, recorded, or refused."""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from kineograph import default_runtime, numerics
from kineograph.__main__ import main
from kineograph.graph_runtime.errors import InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.events import RunsAgain
from kineograph.nodes.networks.adapters.attention import dispatch
from kineograph.nodes.networks.adapters.common import AdaptedDiT
from kineograph.nodes.networks.adapters.ltx import LTXDiT
from kineograph.nodes.networks.adapters.wan import WanDiT
from kineograph.nodes.networks.attention import backends, choice, selftest
from kineograph.nodes.networks.attention.backends import BACKENDS, SDPA, Backend, Case
from kineograph.nodes.networks.attention.segments import Segments
from kineograph.nodes.networks.dit import Batch
from kineograph.nodes.networks.finite import NotFinite, check_finite

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
    assert choice.best(full) is SDPA
    assert choice.named("xformers", full).name == "xformers"
    assert choice.chosen(half, packed=False) is SDPA
    monkeypatch.setattr(
        choice, "fault", lambda backend, case: "its self-test failed" if backend.name == "varlen" else ""
    )
    choice.best.cache_clear()
    assert choice.best(half).name == "xformers"
    assert ("'varlen' is there, but its self-test failed" in caplog.text) == (capability >= (8, 0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", [FLOAT, BFLOAT, torch.float16])
@pytest.mark.parametrize("name", BACKENDS)
def test_on_a_gpu_every_way_gives_what_sdpa_gives(name: str, dtype: torch.dtype, grad: bool) -> None:
    case = Case("cuda:0", dtype, 64, grad)
    if why := BACKENDS[name].lacks(case):
        pytest.skip(why)
    assert selftest.fault(BACKENDS[name], case) == ""


def test_under_autocast_all_compute_in_its_type() -> None:
    with torch.autocast("cpu", BFLOAT):
        assert Case.of(torch.zeros(1, 8)) == Case("cpu", BFLOAT, 8)
        given = selftest.given(selftest.TINY, PROCESSOR)
        for backend in (SDPA, BACKENDS["flex"]):
            assert {part.dtype for part in backend.run(*given)} == {BFLOAT}


# the runtime

SIZES = {"frames": 5, "height": 32, "width": 32, "steps": 2}
WORKFLOW = str(Path(__file__).parent.parent / "workflows" / "text_to_video.json")


def test_a_way_that_was_named_is_part_of_the_keys_of_tensors(monkeypatch) -> None:
    runtime = default_runtime(installed=False)

    def keys(name: str) -> list[str]:
        monkeypatch.setenv(numerics.ATTENTION, name)
        return [step.key for step in runtime.plan(WORKFLOW, SIZES).steps]

    plain = keys("")
    assert keys("auto") == keys("sdpa") == plain
    assert len({tuple(each) for each in (plain, keys("flex"), keys("varlen"), keys("xformers"))}) == 4
    monkeypatch.setenv("DIFFUSERS_ATTN_BACKEND", "flex")  # of its networks, not of ours
    assert keys("auto") not in (plain, keys("flex"))
    assert keys("sdpa") == plain
    with pytest.raises(InvalidWorkflow, match=r"\$KINEOGRAPH_ATTENTION: 'flash' is no way to compute attention"):
        keys("flash")


def test_a_run_takes_the_way_that_was_named_and_makes_nearly_the_same(monkeypatch) -> None:
    plain, flex = latents("auto", monkeypatch), latents("flex", monkeypatch)
    assert choice.last_taken() is BACKENDS["flex"]
    assert not torch.equal(plain, flex)
    assert torch.allclose(plain, flex, atol=2e-2)
    with pytest.raises(NodeFailed, match=r"denoise/guided .*'varlen' was asked for, but it needs a CUDA device"):
        latents("varlen", monkeypatch)


def latents(name: str, monkeypatch, listen=None, runtime=None) -> Tensor:
    monkeypatch.setenv(numerics.ATTENTION, name)
    runtime = runtime or default_runtime(installed=False)
    return runtime.run(WORKFLOW, SIZES, outputs=["denoise"], listen=listen).outputs["denoise"].x


@pytest.fixture
def broken_later(monkeypatch):
    """A way that passes its self-test, and gives nan later."""

    def broken(qs, ks, vs, segments):
        return [x * float("nan") for x in SDPA.run(qs, ks, vs, segments)]

    monkeypatch.setattr(choice, "fault", lambda backend, case: "")
    monkeypatch.setitem(BACKENDS, "flex", Backend("flex", lambda _: "", broken, "flex"))


def test_numbers_that_are_none_name_the_node_and_sdpa_takes_over(monkeypatch, broken_later) -> None:
    heard = []
    plain = latents("sdpa", monkeypatch, heard.append)
    assert not [event for event in heard if isinstance(event, RunsAgain)]
    assert torch.equal(latents("flex", monkeypatch, heard.append), plain)
    again = [event for event in heard if isinstance(event, RunsAgain)]
    assert [event.path for event in again] == ["denoise/guided"] * SIZES["steps"]  # the next node tries it again
    assert "are nan or infinite; it runs again with attention by SDPA, not by flex" in again[0].reason


@pytest.mark.parametrize("name", ["auto", "flex"])
def test_weights_that_are_no_numbers_end_with_the_node(monkeypatch, broken_later, name: str) -> None:
    def spoiled(layer, given, out):
        return out / 0.0

    monkeypatch.setenv(numerics.ATTENTION, name)
    runtime = default_runtime(installed=False)
    dit = runtime.run(WORKFLOW, SIZES, outputs=["model"]).outputs["model.dit"]
    dit.network.token_out.register_forward_hook(spoiled)
    heard = []
    with pytest.raises(
        NodeFailed, match=r"^denoise/guided \(guided_velocity@1\) failed: .* numbers .* nan or infinite\. "
    ):
        latents(name, monkeypatch, heard.append, runtime)
    assert sum(isinstance(event, RunsAgain) for event in heard) == (name == "flex")


def test_large_numbers_are_numbers() -> None:
    with torch.no_grad():
        check_finite([torch.full((2, 8), 3e38)])
        with pytest.raises(NotFinite, match="3 of the 16 numbers"):
            check_finite([torch.ones(8), torch.tensor([1.0] * 5 + [float("inf"), -float("inf"), float("nan")])])


def test_the_command_line_names_it_for_all_processes(monkeypatch, capsys) -> None:
    monkeypatch.setenv(numerics.ATTENTION, "sdpa")  # and so is put back at the end
    asked = ["plan", WORKFLOW, "--set", "frames=5", "steps=2", "--no-store"]
    assert main([*asked, "--attention", "flex"]) == 0
    assert os.environ[numerics.ATTENTION] == "flex"
    if not torch.cuda.is_available():
        assert main([*asked, "--attention", "varlen"]) == 2
        told = capsys.readouterr().err
        assert "--attention: varlen computes on a CUDA device alone" in told
        assert "name sdpa or flex" in told
    monkeypatch.setattr("kineograph.cli.attention.find_spec", lambda _: None)
    assert main([*asked, "--attention", "xformers"]) == 2
    assert "pip install 'kineograph[xformers]'" in capsys.readouterr().err
    monkeypatch.setenv(numerics.ATTENTION, "flash")
    assert main(asked) == 2
    assert "$KINEOGRAPH_ATTENTION: 'flash' is no way" in capsys.readouterr().err


def test_the_command_line_shows_what_there_is(monkeypatch, capsys) -> None:
    monkeypatch.setattr(selftest, "TIMED", selftest.TINY)
    assert main(["attention", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    there = [(row["attention"], row["there"]) for row in rows if (row["device"], row["type"]) == ("cpu", "float32")]
    assert there == [("sdpa", True), ("varlen", False), ("xformers", False), ("flex", True)]
    assert all(row["why"] for row in rows if not row["there"])
    assert {row["attention"] for row in rows if row["taken"] and row["device"] == "cpu"} == {"sdpa"}
    assert main(["attention"]) == 0
    assert "not here: it needs a CUDA device" in capsys.readouterr().out


# networks of diffusers


def batch(adapted: AdaptedDiT, text_width: int) -> Batch:
    generator, grid, width = torch.Generator().manual_seed(0), (3, 4, 4), adapted.config.channels
    tokens = torch.randn(1, 48, width * math.prod(adapted.config.patch), generator=generator)
    text, mask = torch.randn(1, 5, text_width, generator=generator), torch.tensor([[True] * 4 + [False]])
    return Batch(tokens, torch.full((1, 1), 0.5), torch.zeros(1, 48, 3), text, mask, grid=grid, cell=(0.5, 8.0, 8.0))


@torch.no_grad()
@pytest.mark.parametrize("family", ["wan", "ltx"])
def test_a_network_of_diffusers_takes_the_way_that_was_named(monkeypatch, family: str) -> None:
    tiny_families = pytest.importorskip("tiny_families", reason="needs pip install 'kineograph[models]'")
    network = getattr(tiny_families, f"{family}_pipeline")().transformer
    adapted, width = (WanDiT(network), 32) if family == "wan" else (LTXDiT(network), network.config.caption_channels)

    def said(name: str) -> Tensor:
        monkeypatch.setenv(numerics.ATTENTION, name)
        (found,) = adapted([batch(adapted, width)])
        assert choice.last_taken().name == (name or "sdpa")
        return found

    plain, flex = said(""), said("flex")
    assert not torch.equal(plain, flex)
    assert torch.allclose(plain, flex, atol=1e-5)
    assert torch.equal(said("sdpa"), plain)
    assert torch.equal(said(""), plain)
    with pytest.raises(ValueError, match="'varlen' was asked for, but it needs a CUDA device"):
        said("varlen")


@torch.no_grad()
def test_a_network_that_asks_no_dispatcher_refuses_another_way(monkeypatch) -> None:
    tiny_families = pytest.importorskip("tiny_families", reason="needs pip install 'kineograph[models]'")
    network = tiny_families.cogvideox_pipeline().transformer
    monkeypatch.setenv(numerics.ATTENTION, "sdpa")
    dispatch(network, torch.zeros(1))
    monkeypatch.setenv(numerics.ATTENTION, "flex")
    with pytest.raises(
        ValueError, match="'flex' was asked for, but a CogVideoXTransformer3DModel takes none but torch"
    ):
        dispatch(network, torch.zeros(1))
