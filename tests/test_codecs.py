"""Every value of ours on disk and back: the same bits, the same future; and a second process that loads no weights."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kineograph import default_runtime
from kineograph.graph_runtime.codecs import CannotKeep, encode
from kineograph.graph_runtime.events import NodeStarted
from kineograph.graph_runtime.objects import Content, read
from kineograph.graph_runtime.sockets import Stream
from kineograph.graph_runtime.store import Store
from kineograph.nodes import block_cache, codecs, guidance, model, sample, solvers, text, video, world
from kineograph.nodes.media import write_video
from kineograph.nodes.sockets import SigmaStep, Video
from kineograph.nodes.train import adversarial, data, encoded, loss, mixed, noise, optimizer, recipe, streams
from kineograph.nodes.train.clips import clip_folder
from kineograph.nodes.train.sockets import TrainState

ROOT = Path(__file__).parent.parent
assert codecs  # imported so that the codecs are known
VAE = model.new_vae(channels=4, seed=1)
DIT = model.start_dit(channels=4, width=32, depth=1, heads=2, seed=2)
ENCODER = model.new_text_encoder(width=192, seed=3)
BATCH = world.world_clips(batches=1, formats=["5x16x16:3"], seed=4)[0]


def clean():
    return video.vae_encode(VAE, BATCH.video)


def some_loss(state: TrainState):
    pair = noise.add_noise(noise.draw_levels(clean(), noise.uniform_levels(), step=3), step=3)
    captions = data.encode_captions(ENCODER, BATCH)
    predicted = sample.dit_velocity(optimizer.dit_in_training(state), sample.patchify(pair.noisy), captions)
    return loss.flow_loss(sample.unpatchify(predicted), pair.target)


def trained(state: TrainState, steps: int) -> TrainState:
    for _ in range(steps):
        with torch.enable_grad():
            found = optimizer.gradients(some_loss(state), state)
        run = None  # asked only where a step fails
        state = optimizer.apply_gradients(state, found, run, lr=1e-2)
    return state


VALUES = {
    "DiT": lambda: DIT,
    "VAE": lambda: VAE,
    "TextEncoder": lambda: ENCODER,
    "CaptionReader": lambda: loss.caption_reader(ENCODER),
    "Clips": lambda: BATCH,
    "Latent": clean,
    "Patches": lambda: sample.patchify(clean()),
    "TextEmbedding": lambda: text.encode_text(ENCODER, "a red circle"),
    "Posterior": lambda: loss.vae_posterior(VAE, BATCH.video),
    "Sigmas": lambda: sample.shifted_sigmas(5),
    "SolverHistory": lambda: solvers.unipc_step(clean(), clean(), SigmaStep(0.8, 0.6), solvers.begin_history()).history,
    "BlockCache": lambda: (
        block_cache.cached_velocity(
            *(DIT, sample.patchify(clean()), text.encode_text(ENCODER), SigmaStep(0.8, 0.6), block_cache.begin_cache())
        ).cache
    ),
    "GuidanceMomentum": guidance.begin_momentum,
    "Loss": lambda: some_loss(optimizer.begin_training(DIT)),
    "Gradients": lambda: optimizer.gradients(with_history(), STATE),
    "Weights": lambda: optimizer.begin_average(optimizer.begin_training(VAE)),
    "Levels": noise.uniform_levels,
    "Discriminator": lambda: adversarial.new_discriminator(width=4, depth=1),
    "Optimizer": recipe.muon,
    "TrainState of Muon": lambda: trained(optimizer.begin_training(DIT, recipe.muon()), 2),
    "a new TrainState": lambda: optimizer.begin_training(VAE),
    "TrainState": lambda: trained(optimizer.begin_training(DIT), 2),
}
STATE = optimizer.begin_training(DIT)


def with_history():
    with torch.enable_grad():
        return some_loss(STATE)


def there_and_back(value, folder: Path):
    content = Content(value)
    path = content.write(folder)
    assert path.stat().st_size == content.nbytes
    return read(lambda _: path, content.digest)


@pytest.mark.parametrize("name", VALUES)
@torch.no_grad()
def test_every_socket_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    value = VALUES[name]()
    back = there_and_back(value, tmp_path)
    assert type(back) is type(value)
    assert Content(back).digest == Content(value).digest
    tensors, buffers = encode(value)[1], encode(back)[1]
    assert [bytes(each.data) for each in tensors] == [bytes(each.data) for each in buffers]


@torch.no_grad()
def test_a_state_that_comes_back_goes_on_like_the_one_that_stayed(tmp_path: Path) -> None:
    state = trained(optimizer.begin_training(DIT), 2)
    before = torch.random.get_rng_state()
    back = there_and_back(state, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    for first, second in zip(*(each.model.network.parameters() for each in (state, back)), strict=True):
        assert (first.requires_grad, first.stride()) == (second.requires_grad, second.stride())
    for each in (state, back):
        trained(each, 3)
    weights, again = (each.model.network.state_dict() for each in (state, back))
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    moments = [
        [part for each in value.optimizer.state_dict()["state"].values() for part in each.values()]
        for value in (state, back)
    ]
    assert all(torch.equal(one, other) for one, other in zip(*moments, strict=True) if isinstance(one, Tensor))


def test_networks_with_flags_of_their_own_and_those_that_are_refused(tmp_path: Path) -> None:
    network = copy.deepcopy(DIT.network).to(torch.bfloat16)
    network.blocks[0].train()
    network.token_out.requires_grad_(True)
    back = there_and_back(network, tmp_path)
    assert {parameter.dtype for parameter in back.parameters()} == {torch.bfloat16}
    assert [module.training for module in back.modules()] == [module.training for module in network.modules()]
    assert [p.requires_grad for p in back.parameters()] == [p.requires_grad for p in network.parameters()]
    network.token_in.weight = network.token_out.weight
    for refused, words in ((network, "tied"), (torch.nn.Linear(2, 2), "class Linear")):
        with pytest.raises(CannotKeep, match=words):
            encode(refused)


ONE = video.vae_encode(VAE, Video(BATCH.video.frames[:1], 8.0))
TEXTS = Stream.of([text.encode_text(ENCODER, caption) for caption in BATCH.captions])
COUNTS = {
    "encoded_batches": lambda n, _: encoded.encoded_batches(Stream.of([ONE] * 3), TEXTS, n, clips=2, seed=4).latents,
    "clip_batches": lambda n, folder: streams.clip_batches(clip_folder(str(folder), Run()), n, clips=2, seed=4, skip=1),
    "mixed_clips": lambda n, _: mixed.mixed_clips(VAE, n, longest=5, smallest=16, largest=32, seed=4, skip=1),
    "world_clips": lambda n, _: world.world_clips(n, formats=["5x16x16:2", "1x16x16:3"], seed=4, skip=1),
}


def test_streams_whose_length_is_a_count_begin_alike_whatever_it_is(tmp_path: Path) -> None:
    for at in range(3):
        write_video(tmp_path / f"{at}.mp4", BATCH.video.frames[at], fps=8.0)
        (tmp_path / f"{at}.txt").write_text(BATCH.captions[at])
    assert {kind.name for kind in default_runtime().registry if kind.counts} == set(COUNTS)
    for make in COUNTS.values():
        short, long = make(3, tmp_path), make(7, tmp_path)
        assert (len(short), len(long)) == (3, 7)
        assert [Content(items(short[at])).digest for at in range(3)] == [
            Content(items(long[at])).digest for at in range(3)
        ]


class Run:
    """A run that nobody watches."""

    def progress(self, done: int, total: int) -> None: ...


def items(value):
    return Stream.of(list(value)) if isinstance(value, Stream) else value


AGAIN = """
import json, sys
from kineograph.__main__ import main
code = main(["run", *sys.argv[1:]])
loaded = [name for name in ("components", "dit", "vae", "text") if f"kineograph.nodes.networks.{name}" in sys.modules]
print(json.dumps({"code": code, "loaded": loaded}))
"""


def test_a_second_process_makes_the_same_file_and_loads_no_weights(tmp_path: Path) -> None:
    workflow = ROOT / "workflows" / "text_to_video.json"
    events: list = []
    with_store = default_runtime(store=Store(tmp_path / "store"))
    inputs = {"steps": 3, "frames": 5}
    with_store.run(workflow, inputs, out=tmp_path / "a", listen=events.append)
    with_store.store.close()
    assert "denoise" in [event.path for event in events if isinstance(event, NodeStarted)]
    arguments = ["--set", "steps=3", "frames=5", "--out", tmp_path / "b", "--store", tmp_path / "store"]
    call = [sys.executable, "-c", AGAIN, workflow, *arguments]
    done = subprocess.run([*map(str, call)], capture_output=True, text=True, check=True)
    *lines, last = map(json.loads, done.stdout.splitlines())
    assert last == {"code": 0, "loaded": []}
    assert [line["path"] for line in lines if line["event"] == "NodeStarted"] == ["file"]
    assert (tmp_path / "a" / "video.mp4").read_bytes() == (tmp_path / "b" / "video.mp4").read_bytes()
