"""Files that carry the workflow that made them: it comes back from each kind, and no damage ends in a traceback."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kineograph.nodes import media
from kineograph.nodes.media import animation
from kineograph.nodes.media.provenance import ProvenanceError, may_carry, read_provenance

WORKFLOW = '{"prompt": "赤い円が右へ動く — \\"a \\\\ red\\" circle; it\'s\\n = # 🎞", "seed": 0}'


def clip(frames: int = 9) -> Tensor:
    """(T, 3, 64, 64): noise."""
    return torch.rand((frames, 3, 64, 64), generator=torch.Generator().manual_seed(0))


def write(path: Path, text: str | None) -> Path:
    """A video or picture that carries a text."""
    if path.suffix == ".mp4":
        media.write_video(path, clip(1), 8, provenance=text)
    elif path.suffix == ".png":
        media.write_image(path, clip(1)[0], provenance=text)
    else:
        animation.write_webp(path, clip(2), 8, provenance=text)
    return path


@pytest.fixture(scope="module", params=[".mp4", ".png", ".webp"])
def written(tmp_path_factory: pytest.TempPathFactory, request) -> Path:
    return write(tmp_path_factory.mktemp("provenance") / f"clip{request.param}", WORKFLOW)


def test_what_was_written_is_read_again(written, tmp_path):
    assert read_provenance(written) == WORKFLOW
    assert may_carry(written)
    assert not may_carry(tmp_path)
    assert not may_carry(tmp_path / "none.png")
    renamed = tmp_path / "renamed.json"
    renamed.write_bytes(written.read_bytes())
    assert may_carry(renamed)
    assert read_provenance(renamed) == WORKFLOW


def test_other_programs_agree_and_show_the_pixels(written):
    import av
    from PIL import Image

    if written.suffix == ".mp4":
        with av.open(str(written)) as container:
            assert container.metadata["kineograph"] == container.metadata["comment"] == WORKFLOW
        return
    with Image.open(written) as picture:
        picture.load()
        assert picture.size == (64, 64)
        if written.suffix == ".png":
            assert picture.text == {"kineograph": WORKFLOW}


def test_provenance_survives_a_copy_that_keeps_only_the_comment(tmp_path):
    import av

    copy = tmp_path / "copy.mp4"
    with (
        av.open(str(write(tmp_path / "clip.mp4", WORKFLOW))) as source,
        av.open(str(copy), "w") as target,
    ):
        target.metadata.update(source.metadata)
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert read_provenance(copy) == WORKFLOW


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("text", [WORKFLOW, "plain"])
def test_a_png_that_another_program_saved_again_keeps_it(tmp_path, text, packed):
    """Letters that Latin-1 has become tEXt or zTXt, others iTXt."""
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("other", "x" * 100)
    info.add_text("kineograph", text, zip=packed)
    with Image.open(write(tmp_path / "x.png", None)) as picture:
        picture.save(tmp_path / "again.png", pnginfo=info)
    assert read_provenance(tmp_path / "again.png") == text


@pytest.mark.parametrize("ending", [".mp4", ".png", ".webp"])
def test_a_long_provenance_fits_and_a_longer_one_is_refused(tmp_path, ending):
    text = "é" * 1_000_000
    assert read_provenance(write(tmp_path / f"long{ending}", text)) == text
    with pytest.raises(ValueError, match=r"16,000,002 bytes; at most 16,000,000"):
        write(tmp_path / f"longer{ending}", "é" * 8_000_001)
    assert not (tmp_path / f"longer{ending}").exists()


@pytest.mark.parametrize("ending", [".mp4", ".png", ".webp"])
def test_too_much_provenance_in_a_file_is_refused(tmp_path, monkeypatch, ending):
    path = write(tmp_path / f"clip{ending}", "x" * 2000)
    monkeypatch.setattr("kineograph.nodes.media.mp4.PROVENANCE_LIMIT", 1980)
    monkeypatch.setattr("kineograph.nodes.media.chunks.PROVENANCE_LIMIT", 1980)
    with pytest.raises(ProvenanceError, match=r"2,0\d\d bytes of text; at most 1,980"):
        read_provenance(path)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_a_text_that_is_packed_a_thousandfold_is_not_unpacked(tmp_path, kind):
    """A bomb: 20 MB of zeros in 20 KB."""
    bomb = zlib.compress(bytes(20_000_000), 9)
    head = b"kineograph\0" + (b"\0" if kind == b"zTXt" else b"\1\0\0\0")
    png = write(tmp_path / "x.png", None).read_bytes()
    (tmp_path / "bomb.png").write_bytes(png[:33] + chunk(kind, head + bomb) + png[33:])
    with pytest.raises(ProvenanceError, match=r"bomb\.png carries more than 16,000,000 bytes of text, packed"):
        read_provenance(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (chunk(b"iTXt", b"kineograph\0\1\0\0\0" + b"no zlib"), "cannot be unpacked"),
        (chunk(b"iTXt", b"kineograph\0\0\0\0\0\xff\xfe"), "no UTF-8"),
        (chunk(b"iTXt", b"kineograph\0") + chunk(b"tEXt", b"k"), ""),
        (chunk(b"tEXt", b"kineograph"), "carries no workflow"),
        (chunk(b"abCD", b"") * 100_001, "more than 100,000 chunks"),
        (b"\xff\xff\xff\xffiTXt", "claims 4,294,967,295 bytes"),
    ],
    ids=["no zlib", "no UTF-8", "empty", "no zero", "many", "huge"],
)
def test_a_png_that_lies_is_a_sentence(tmp_path, text, sentence):
    png = write(tmp_path / "x.png", None).read_bytes()
    (tmp_path / "lie.png").write_bytes(png[:33] + text + png[33:])
    if not sentence:
        assert read_provenance(tmp_path / "lie.png") == ""
        return
    with pytest.raises(ProvenanceError, match=rf"lie\.png .*{sentence}"):
        read_provenance(tmp_path / "lie.png")


@pytest.mark.parametrize("ending", [".mp4", ".png", ".webp"])
def test_no_provenance(tmp_path, ending):
    with pytest.raises(ProvenanceError, match=rf"clip\{ending} carries no workflow"):
        read_provenance(write(tmp_path / f"clip{ending}", None))
    with pytest.raises(ProvenanceError, match="is no file"):
        read_provenance(tmp_path / f"none{ending}")


def test_every_truncation_is_noticed(written, tmp_path):
    data = written.read_bytes()
    cut = tmp_path / f"cut{written.suffix}"
    for length in [*range(40), *range(40, len(data), 97), len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(ProvenanceError, match=rf"cut\{written.suffix}"):
            read_provenance(cut)


def test_damage_never_ends_in_another_error(written, tmp_path):
    data = written.read_bytes()
    generator = torch.Generator().manual_seed(1)
    header = data.index({".mp4": b"mdat", ".png": b"IDAT", ".webp": b"ANMF"}[written.suffix])
    path = tmp_path / f"x{written.suffix}"
    for _ in range(300):
        damaged = bytearray(data)
        for place, value in torch.randint(0, 1 << 20, (4, 2), generator=generator).tolist():
            damaged[place % header] = value % 256
        path.write_bytes(damaged)
        try:
            read_provenance(path)
        except ProvenanceError as error:
            assert path.name in str(error)  # noqa: PT017 - most damage is harmless, some is not


def test_provenance_loads_no_decoder(written):
    code = (
        "import sys; from kineograph.nodes.media.provenance import read_provenance; read_provenance(sys.argv[1]);"
        "sys.exit(bool({'av', 'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, written], check=False, capture_output=True).returncode == 0


# The command line


def flow(ending: str) -> dict:
    """A workflow that draws a clip and writes it as a kind of file."""
    saves = {".png": "save_image@1", ".sheet.png": "save_contact_sheet@1", ".webp": "save_animation@1"}
    nodes = {
        "clips": {
            "type": "world_clips@1",
            "params": {"batches": 1, "formats": ["5x16x16:1"]},
            "links": {"seed": "$seed"},
        },
        "batch": {"type": "stream_item@1", "links": {"stream": "clips"}},
        "video": {"type": "clip_video@1", "links": {"clips": "batch"}},
        "file": {"type": saves[ending], "params": {"path": f"x{ending}"}, "links": {"video": "video"}},
    }
    return {"format": 1, "inputs": {"seed": {"type": "int", "default": 1}}, "nodes": nodes}


@pytest.mark.parametrize("ending", [".png", ".sheet.png", ".webp"])
def test_a_picture_runs_again_and_makes_the_same_bytes(tmp_path, cli, ending):
    (tmp_path / "flow.json").write_text(json.dumps(flow(ending)))
    assert cli("run", tmp_path / "flow.json", "--out", tmp_path / "a", "--set", "seed=7")[0] == 0
    first = tmp_path / "a" / f"x{ending}"
    assert "seed: int = 7" in cli("check", first)[1]
    assert cli("run", first, "--out", tmp_path / "b")[0] == 0
    assert (tmp_path / "b" / first.name).read_bytes() == first.read_bytes()


def test_a_picture_without_a_workflow_is_a_sentence(tmp_path, cli):
    for name, content, sentence in (
        ("plain.png", write(tmp_path / "x.png", None).read_bytes(), "carries no workflow"),
        ("bad.png", write(tmp_path / "y.png", "{").read_bytes(), "the workflow in "),
        ("text.png", b"{}", "is no PNG: it begins with b'{}'"),
        ("text.webp", b"", "is no WebP: it begins with b''"),
    ):
        (tmp_path / name).write_bytes(content)
        code, out, err = cli("run", tmp_path / name)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert sentence in err
