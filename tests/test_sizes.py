"""Videos of several sizes in one run: each must be what it is alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kineograph import default_runtime
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes import model, sample, sizes, text
from kineograph.nodes.sockets import SigmaStep

WORKFLOWS = Path(__file__).parent.parent / "workflows"


@torch.no_grad()
def test_videos_packed_together_are_what_they_are_alone() -> None:
    flipbook = model.load_model("flipbook")
    words, none = (text.encode_text(flipbook.text_encoder, said) for said in ("a red circle moves right", ""))
    noises = sizes.latent_noises(flipbook.vae, ["9x32x32", "1x40x24", "16x24x48"], seed=3)
    assert [noise.time for noise in noises] == ["line", "line", "groups"]
    tokens, at = [sample.patchify(noise) for noise in noises], SigmaStep(0.8, 0.7)
    together = sizes.packed_guided_velocity(flipbook.dit, Stream.of(tokens), words, none, at, 4.0)
    for alone, packed in zip(tokens, together, strict=True):
        expected = sample.guided_velocity(flipbook.dit, alone, words, none, at, 4.0)
        torch.testing.assert_close(packed.tokens, expected.tokens, atol=1e-5, rtol=1e-5)


def test_the_noise_of_a_size_does_not_depend_on_the_others() -> None:
    vae = model.load_vae("flipbook")
    first = sizes.latent_noises(vae, ["9x32x32", "1x40x24"])[0]
    assert torch.equal(first.x, sizes.latent_noises(vae, ["9x32x32"])[0].x)
    assert not torch.equal(first.x, sizes.latent_noises(vae, ["1x32x32", "9x32x32"])[1].x)


def test_sizes_that_are_none_are_all_told() -> None:
    with pytest.raises(ValueError, match=r"'9x32', 'large': each is frames x height x width"):
        sizes.latent_noises(model.load_vae("flipbook"), ["9x32", "1x32x32", "large"])


def test_the_workflow_writes_a_file_for_each_size(tmp_path: Path) -> None:
    videos = default_runtime().run(WORKFLOWS / "many_sizes.json", {"steps": 1}, out=tmp_path).outputs["videos"]
    shapes = [tuple(video.frames.shape[i] for i in (1, 3, 4)) for video in videos]
    assert shapes == [(17, 64, 64), (17, 48, 80), (17, 80, 48), (9, 64, 64), (1, 64, 64)]
    assert len(list(tmp_path.glob("size-*.mp4"))) == 5
