"""Weights files: what is written comes back, and every hostile file of the security list is refused with a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kineograph.nodes.networks import weights
from kineograph.nodes.networks.weights import fill, load_weights, save_weights


def entry(begin: int = 0, end: int = 16, shape: list[Any] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [4] if shape is None else shape, "data_offsets": [begin, end]}


def write(path: Path, header: object, data: bytes = b"\0" * 16, length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def raw(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_round_trip_with_metadata_and_dtypes(tmp_path: Path) -> None:
    state = {
        "a.weight": torch.randn(3, 4).T,
        "half": torch.randn(5).half(),
        "bf16": torch.randn(2, 2).bfloat16(),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
        "flags": torch.tensor([True, False]),
    }
    path = tmp_path / "deep" / "model.safetensors"
    save_weights(path, state, {"workflow": '{"format": 1}'})
    loaded, metadata = load_weights(path)
    assert metadata == {"workflow": '{"format": 1}'} and loaded.keys() == state.keys()
    assert all(
        torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype for name, tensor in state.items()
    )
    assert [each.name for each in path.parent.iterdir()] == ["model.safetensors"]


def test_tied_weights_are_written_twice(tmp_path: Path) -> None:
    shared = torch.randn(4)
    save_weights(tmp_path / "m.safetensors", {"a": shared, "b": shared})
    assert torch.equal(load_weights(tmp_path / "m.safetensors")[0]["b"], shared)


def test_a_failed_save_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    save_weights(path, {"a": torch.ones(2)})

    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(OSError, match="disk full"):
        save_weights(path, {"a": torch.zeros(2)})
    assert torch.equal(load_weights(path)[0]["a"], torch.ones(2)) and len(list(tmp_path.iterdir())) == 1


def test_names_that_could_not_be_loaded_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no name of a weight"):
        save_weights(tmp_path / "m.safetensors", {"../../etc/x": torch.ones(1)})
    assert not list(tmp_path.iterdir())


MANY = {f"t{i}": entry(0, 0, [0]) for i in range(weights.TENSORS + 1)}

LIES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty": (lambda p: write(p, b"", b"", 0), "no safetensors file"),
    "pickle": (lambda p: raw(p, b"\x80\x02}q\0."), "no safetensors file"),
    "zip": (lambda p: raw(p, b"PK\x03\x04" + b"\0" * 60), "no safetensors file|is not JSON"),
    "length beyond the file": (lambda p: write(p, {}, length=10_000), "no safetensors file"),
    "length of 2^63": (lambda p: write(p, {}, length=2**63), "no safetensors file"),
    "header above the limit": (
        lambda p: write(p, b'{"__metadata__":{"a":"' + b" " * weights.HEADER_BYTES + b'"}}'),
        "above the limit",
    ),
    "not JSON": (lambda p: write(p, b"{nope}"), "not JSON"),
    "not UTF-8": (lambda p: write(p, b'{"\xff\xfe":1}'), "not JSON"),
    "a list": (lambda p: write(p, []), "no JSON object"),
    "deep": (lambda p: write(p, b"[" * 100_000), "not JSON"),
    "duplicate names": (lambda p: write(p, b'{"a":{},"a":{}}'), "unique"),
    "metadata not strings": (lambda p: write(p, {"__metadata__": {"a": {"b": "c"}}, "w": entry()}), "metadata"),
    "too many tensors": (lambda p: write(p, MANY, b""), "50001 tensors"),
    "too many dimensions": (lambda p: write(p, {"w": entry(shape=[1] * 8 + [4])}), "at most 8"),
    "negative size": (lambda p: write(p, {"w": entry(shape=[-4])}), "at most 8 sizes"),
    "size as text": (lambda p: write(p, {"w": entry(shape=["4"])}), "at most 8 sizes"),
    "size as bool": (lambda p: write(p, {"w": entry(shape=[True, 4])}), "at most 8 sizes"),
    "sizes that overflow": (lambda p: write(p, {"w": entry(shape=[2**62, 2**62])}), "needs"),
    "size beyond 64 bits": (lambda p: write(p, {"w": entry(shape=[2**64])}), "at most 8 sizes"),
    "shape that lies": (lambda p: write(p, {"w": entry(shape=[5])}), "needs 20 bytes"),
    "unknown dtype": (lambda p: write(p, {"w": entry(dtype="Q8")}), "dtype 'Q8'"),
    "entry without offsets": (lambda p: write(p, {"w": {"dtype": "F32", "shape": [4]}}), "not made of"),
    "entry with more": (lambda p: write(p, {"w": entry() | {"code": "x"}}), "not made of"),
    "reversed offsets": (lambda p: write(p, {"w": entry(16, 0)}), "needs 16 bytes"),
    "three offsets": (lambda p: write(p, {"w": entry() | {"data_offsets": [0, 8, 16]}}), "begin and an end"),
    "overlap": (lambda p: write(p, {"a": entry(), "b": entry()}), "overlap"),
    "hole": (lambda p: write(p, {"a": entry(), "b": entry(20, 36)}, b"\0" * 36), "hole"),
    "trailing bytes": (lambda p: write(p, {"w": entry()}, b"\0" * 20), "take 16 bytes, but 20"),
    "truncated": (lambda p: write(p, {"w": entry()}, b"\0" * 12), "take 16 bytes, but 12"),
    "path as name": (lambda p: write(p, {"../../etc/x": entry()}), "no name"),
    "absolute name": (lambda p: write(p, {"/etc/x": entry()}), "no name"),
    "NUL in a name": (lambda p: write(p, {"a\0b": entry()}), "no name"),
    "newline after a name": (lambda p: write(p, {"a\n": entry()}), "no name"),
    "markup as name": (lambda p: write(p, {"<img onerror=x>": entry()}), "no name"),
    "long name": (lambda p: write(p, {"a" * 513: entry()}), "no name"),
}


@pytest.mark.parametrize("lie", LIES)
def test_hostile_files_are_refused_with_a_sentence(lie: str, tmp_path: Path) -> None:
    make, sentence = LIES[lie]
    with pytest.raises(ValueError, match=sentence) as refusal:
        load_weights(make(tmp_path / "hostile.safetensors"))
    text = str(refusal.value)
    assert text.startswith("The weights file 'hostile.safetensors' is refused: ") and text.endswith(".")
    assert len(text) < 300 and str(tmp_path) not in text


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        load_weights(tmp_path / "none.safetensors")


def test_fill_lists_everything_that_differs_and_changes_nothing() -> None:
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    with pytest.raises(ValueError, match="3 weights differ") as refusal:
        fill(module, {"weight": torch.zeros(3, 4), "extra": torch.zeros(1)}, "model.safetensors")
    text = str(refusal.value)
    assert all(part in text for part in ("bias: missing", "extra: unexpected", "weight: (3, 4) instead of (3, 2)"))
    assert torch.equal(module.weight, before)


def test_of_many_weights_that_differ_the_first_of_each_kind_are_named() -> None:
    module = nn.Sequential(*(nn.Linear(2, 3) for _ in range(10)))
    state = {f"x.{number:03}": torch.zeros(1) for number in range(700)} | {"0.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"720 weights differ: 0\.bias: missing; 1\.weight: missing") as refusal:
        fill(module, state, "model.safetensors")
    text = str(refusal.value)
    assert text.count(": missing") == text.count(": unexpected") == 8
    assert "; and 11 more missing; x.000: unexpected; " in text
    assert text.endswith("; x.007: unexpected; and 692 more unexpected; 0.weight: (1,) instead of (3, 2)")


def test_fill_takes_half_precision_files(tmp_path: Path) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    save_weights(tmp_path / "m.safetensors", {name: value.half() for name, value in source.state_dict().items()})
    fill(target, load_weights(tmp_path / "m.safetensors")[0], "m.safetensors")
    assert target.weight.dtype == torch.float32 and torch.allclose(target.weight, source.weight, atol=1e-3)
