"""Pictures while a run goes on: a strip for videos and latents, at the pace asked for, never a reason to fail."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from kineograph import default_runtime
from kineograph.graph_runtime.events import NodePreview, event_json, event_of
from kineograph.graph_runtime.executors.units import WorkUnit
from kineograph.graph_runtime.executors.worker import WorkerExecutor
from kineograph.graph_runtime.previews import Previews
from kineograph.graph_runtime.sockets import socket
from kineograph.nodes.model import load_vae
from kineograph.nodes.networks.preview import latent_colours
from kineograph.nodes.previews import FRAMES, HEIGHT, latent_strip, video_strip
from kineograph.nodes.sockets import Video
from kineograph.nodes.video import vae_decode, vae_encode
from kineograph.nodes.world import world_batch, world_prompts

TEXT_TO_VIDEO = Path(__file__).parent.parent / "workflows" / "text_to_video.json"


def picture(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def few_steps() -> dict:
    workflow = json.loads(TEXT_TO_VIDEO.read_text(encoding="utf-8"))
    del workflow["nodes"]["file"]
    return workflow


def test_a_strip_shows_frames_from_the_first_to_the_last() -> None:
    frames = torch.linspace(0, 1, 20).view(1, 20, 1, 1, 1).expand(2, 20, 3, 16, 24)
    strip = picture(video_strip(Video(frames, 8.0)))
    assert strip.size == (FRAMES * (24 * 4 + 1) - 1, 16 * 4)
    shades = [strip.getpixel((at * 97 + 48, 32))[0] for at in range(FRAMES)]
    assert shades == sorted(shades)
    assert (shades[0], shades[-1]) == (0, 255)
    assert picture(video_strip(Video(torch.rand(1, 1, 3, 480, 832), 8.0))).height == HEIGHT


def test_a_latent_shows_the_colours_of_what_it_decodes_to() -> None:
    vae = load_vae()
    clip = world_batch(clips=8, prompts=world_prompts()).video
    latent = vae_encode(vae, clip)
    decoded = vae_decode(vae, latent).frames[:, 0]
    small = torch.nn.functional.avg_pool2d(decoded, 8)
    shown = torch.stack([latent_colours(x, latent.spec.colours)[0] for x in latent.x])
    assert (shown - small).abs().mean() < 0.08  # of 1; a grey picture is off by more than twice as much
    assert (small - small.mean((0, 2, 3), keepdim=True)).abs().mean() > 0.16
    assert picture(latent_strip(latent)).height == 72


def test_a_denoising_loop_shows_its_latent_and_the_video_at_the_end() -> None:
    events = []
    default_runtime().run(few_steps(), {"steps": 3, "frames": 5}, listen=events.append, previews=1e-9)
    shown = [event for event in events if isinstance(event, NodePreview)]
    assert [(event.path, event.port, event.done) for event in shown if event.path == "denoise"] == [
        ("denoise", "latent", 1),
        ("denoise", "latent", 2),
        ("denoise", "latent", 3),
        ("denoise", "latent", 0),
    ]
    assert shown[-1].path == "video"
    for event in shown:
        assert picture(base64.b64decode(event.png)).format == "PNG"
        assert event_of(event_json(event)) == event


def test_nothing_is_drawn_unless_asked_for_and_not_more_often_than_that() -> None:
    events = []
    runtime = default_runtime()
    runtime.run(few_steps(), {"steps": 3, "frames": 5}, listen=events.append)
    assert not [event for event in events if isinstance(event, NodePreview)]
    runtime.run(few_steps(), {"steps": 4, "frames": 5}, listen=events.append, previews=3600.0)
    assert [event.done for event in events if isinstance(event, NodePreview) and event.path == "denoise"] == [1]


def fails(value: object) -> bytes:
    raise MemoryError


@socket(family="box", preview=f"{__name__}:fails")
class Ugly: ...


def test_what_cannot_be_drawn_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kineograph.graph_runtime.previews.resolve_name", lambda name: fails)
    heard = []
    Previews(seconds=0.1).show("a", "", Ugly(), heard.append)
    Previews(seconds=0.1).show("a", "", 3, heard.append)
    assert heard == []


def test_pictures_come_from_a_worker_too(tmp_path: Path) -> None:
    shown = []
    unit = WorkUnit(few_steps(), {"steps": 2, "frames": 1}, out=str(tmp_path), previews=0.001, deliver=False)
    with WorkerExecutor() as executor:
        executor.submit(unit, shown.append).result()
    assert {event.path for event in shown if isinstance(event, NodePreview)} >= {"noise", "denoise", "video"}
