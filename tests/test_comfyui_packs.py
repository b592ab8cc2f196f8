"""Node packs written for ComfyUI run as nodes of ours: values cross, lists map, caches hold, refusals are sentences."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from kineograph import COMFYUI, default_runtime
from kineograph.graph_runtime.errors import InvalidWorkflow, NodeFailed
from kineograph.graph_runtime.events import FileWritten, NodeStarted
from kineograph.interop.comfyui.importing import import_workflow
from kineograph.nodes.model import new_vae
from kineograph.nodes.sockets import Video
from kineograph.nodes.world import world_clips

PACKS = Path(__file__).parent / "comfyui_packs"
RUNTIME = default_runtime([f"{COMFYUI}{PACKS}"])
CALLS = sys.modules["kineograph_comfyui_packs.toys"].CALLS


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def node(kind, **given):
    links = {name: value[1:] for name, value in given.items() if isinstance(value, str) and value.startswith("@")}
    params = {name: value for name, value in given.items() if name not in links}
    return {"type": kind if "@" in kind else f"toys/{kind}@1", "params": params, "links": links}


def graph(nodes, **outputs):
    return {"format": 1, "nodes": nodes, "outputs": outputs}


def ran(workflow, runtime=RUNTIME, **how):
    events = []
    outcome = runtime.run(workflow, listen=events.append, **how)
    return outcome.outputs, [event.path for event in events if isinstance(event, NodeStarted)]


def picture(**more):
    return {
        "clips": node("world_clips@1", batches=1, formats=["5x16x16:1"], seed=1),
        "batch": node("stream_item@1", stream="@clips"),
        "video": node("clip_video@1", clips="@batch"),
        **more,
    }


def test_its_schema_becomes_ports():
    kind = RUNTIME.registry.get("toys/Grain@1")
    ports = {name: (port.type.name, port.bounds, port.required) for name, port in kind.inputs.items()}
    assert ports == {
        "image": ("Video", "", True),
        "amount": ("float", ">= 0.0, <= 1.0", False),
        "mode": ("str", "one of add, multiply", False),
        "seed": ("int", ">= 0", False),
        "mask": ("Mask", "", False),
        "note_text": ("str", "", False),
    }
    assert kind.inputs["amount"].doc == "how much"
    assert {name: port.type.name for name, port in kind.outputs.items()} == {"image": "Video", "grain": "Mask"}
    assert kind.doc == "Grain on every frame."
    assert (kind.title, RUNTIME.registry.get("toys/Show@1").effect) == ("Film grain", True)


def test_images_and_masks_cross_and_what_was_given_keeps_its_bits():
    nodes = picture(grain=node("Grain", image="@video", amount=0.2, seed=3), again=node("Grain", image="@grain.image"))
    outputs, _ = ran(graph(nodes, before="video", after="grain.image", mask="grain.grain", again="again.image"))
    clean = world_clips(1, ["5x16x16:1"], seed=1)[0].video
    assert torch.equal(outputs["before"].frames, clean.frames)
    noise = 0.2 * torch.randn(5, 16, 16, 3, generator=torch.Generator().manual_seed(3))
    expected = (clean.frames[0].permute(0, 2, 3, 1) + noise).clamp(0, 1)
    assert torch.equal(outputs["after"].frames[0].permute(0, 2, 3, 1), expected)
    assert outputs["after"].fps == clean.fps
    assert outputs["mask"].values.shape == (5, 16, 16)
    assert CALLS[0] == ("Grain", "grain", ["again", "batch", "clips", "grain", "video"], (5, 16, 16, 3))


def test_latents_keep_what_their_dict_does_not_hold():
    nodes = {
        "vae": node("new_vae@1", channels=4, seed=1),
        "noise": node("latent_noise@1", vae="@vae", frames=5, height=16, width=16),
        "double": node("DoubleLatent", samples="@noise"),
        "video": node("vae_decode@1", vae="@vae", latent="@double"),
    }
    outputs, _ = ran(graph(nodes, one="noise", two="double", video="video"))
    assert torch.equal(outputs["two"].x, 2 * outputs["one"].x)
    assert (outputs["two"].spec, outputs["two"].fps) == (outputs["one"].spec, outputs["one"].fps)
    assert outputs["video"].frames.shape == (1, 5, 3, 16, 16)


def test_a_batch_of_clips_is_refused_with_a_sentence():
    nodes = picture(grain=node("Grain", image="@video"))
    nodes["clips"]["params"]["formats"] = ["5x16x16:2"]
    with pytest.raises(NodeFailed, match="takes one clip, this is a batch of 2"):
        ran(graph(nodes, after="grain.image"))


def test_problems_have_their_place_before_anything_runs():
    nodes = {"add": node("Add", a=True, b=11, c=1), "grain": node("Grain", image="@add", amount=2.0, mode="x")}
    places = {problem.place for problem in RUNTIME.problems(graph(nodes, out="grain.image"))}
    assert places == {"add.a", "add.b", "add.c", "grain.image", "grain.amount", "grain.mode"}
    assert not CALLS


def test_the_same_again_runs_nothing_and_a_change_runs_what_hangs_on_it():
    runtime = default_runtime([f"{COMFYUI}{PACKS}"])

    def workflow(b):
        nodes = {"one": node("Add", a=1, b=2), "two": node("Add", a="@one", b=b), "three": node("Add", a="@two", b=1)}
        return graph(nodes, out="three")

    assert ran(workflow(3), runtime)[0] == {"out": 7}
    assert ran(workflow(3), runtime) == ({"out": 7}, [])
    assert ran(workflow(4), runtime) == ({"out": 8}, ["two", "three"])
    assert ran(workflow(3), runtime) == ({"out": 7}, [])  # A, B, A


def test_a_node_says_when_it_must_run_again(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    nodes = {"file": node("ReadsFile", path=str(tmp_path / "a.txt")), "new": node("AlwaysNew")}
    workflow = graph(nodes, text="file", new="new")
    assert set(ran(workflow)[1]) == {"file", "new"}
    assert ran(workflow)[1] == ["new"]
    (tmp_path / "a.txt").write_text("two")
    outputs, paths = ran(workflow)
    assert (outputs["text"], set(paths)) == ("two", {"file", "new"})


def test_its_own_validation_refuses_with_a_sentence(tmp_path):
    nodes = {"file": node("ReadsFile", path=str(tmp_path / "none")), "sleep": node("Sleep", seconds=61.0)}
    problems = RUNTIME.problems(graph(nodes, text="file", n="sleep"))
    assert [(problem.place, problem.message) for problem in problems] == [
        ("file", f"There is no file {tmp_path / 'none'}."),
        ("sleep", "Nobody sleeps so long."),
    ]


def test_coroutines_run_beside_each_other():
    nodes = {f"n{at}": node("Sleep", value=at, seconds=0.4) for at in range(4)}
    began = time.perf_counter()
    outputs, _ = ran(graph(nodes, **{f"o{at}": f"n{at}" for at in range(4)}))
    assert outputs == {f"o{at}": at for at in range(4)}
    assert time.perf_counter() - began < 1.2


def test_what_it_shows_is_kept_as_a_file_and_shown_again(tmp_path):
    workflow = graph({"show": node("Show", value="@add"), "add": node("Add", a=2, b=3)})
    for _ in range(2):
        events = []
        RUNTIME.run(workflow, out=tmp_path, listen=events.append)
        (written,) = [Path(event.file) for event in events if isinstance(event, FileWritten)]
        assert json.loads(written.read_text()) == {"text": ["5"]}


def prompt(**nodes):
    return {name: {"class_type": kind, "inputs": given} for name, (kind, given) in nodes.items()}


def imported(raw):
    found = import_workflow(raw, registry=RUNTIME.registry)
    assert found.problems == []
    assert RUNTIME.problems(found.workflow) == []
    return found.workflow


def shown(raw, tmp_path):
    RUNTIME.run(imported(raw), out=tmp_path)
    return [call[1] for call in CALLS if call[0] == "Show"]


def test_a_single_item_node_runs_once_for_each_item_of_a_list(tmp_path):
    raw = prompt(
        n=("Numbers", {"count": 4}),
        add=("Add", {"a": ["n", 0], "b": 5}),
        more=("Add", {"a": ["add", 0], "b": 1}),
        all=("Total", {"items": ["more", 0]}),
        show=("Show", {"value": ["all", 0]}),
    )
    assert shown(raw, tmp_path) == [6 + 7 + 8 + 9]
    assert CALLS.count(("Total", (6, 7, 8, 9))) == 1


def test_a_shorter_list_repeats_its_last_item(tmp_path):
    raw = prompt(
        two=("Numbers", {"count": 2}),
        four=("Numbers", {"count": 4}),
        add=("Add", {"a": ["four", 0], "b": ["two", 0]}),
        show=("Show", {"value": ["add", 0]}),
    )
    assert shown(raw, tmp_path) == [0, 2, 3, 4]


def test_a_list_node_gets_a_single_value_as_a_list_of_one(tmp_path):
    raw = prompt(
        add=("Add", {"a": 1, "b": 1}), all=("Total", {"items": ["add", 0]}), show=("Show", {"value": ["all", 0]})
    )
    assert shown(raw, tmp_path) == [2]
    assert ("Total", (2,)) in CALLS


def test_an_empty_list_runs_nothing(tmp_path):
    raw = prompt(n=("Numbers", {"count": 0}), show=("Show", {"value": ["n", 0]}))
    assert shown(raw, tmp_path) == []


def test_a_returned_graph_runs_and_gives_its_values():
    outputs, _ = ran(
        graph(
            picture(twice=node("Twice", image="@video", number=4)),
            i="twice.image",
            n="twice.int",
            s="twice.string",
        )
    )
    assert (outputs["n"], outputs["s"]) == (5, "plain")
    assert torch.equal(outputs["i"].frames, world_clips(1, ["5x16x16:1"], seed=1)[0].video.frames)


def test_a_graph_in_a_graph_without_end_is_a_sentence():
    with pytest.raises(NodeFailed, match="more than 30 deep; use a loop@1"):
        ran(graph({"e": node("Endless")}, out="e"))


def test_a_failing_node_says_which_and_why_and_the_next_run_works():
    workflow = graph({"add": node("Add", a=40), "bad": node("Fails", value="@add")}, out="bad")
    with pytest.raises(NodeFailed, match=r"bad \(toys/Fails@1\) failed: RuntimeError: 40 was one too many"):
        ran(workflow)
    assert ran(graph({"add": node("Add", a=40)}, out="add")) == ({"out": 40}, [])


def test_a_lazy_input_is_computed_only_when_its_node_asks():
    sides = {"a": node("Add", a=1, b=2), "b": node("Fails", value=1)}
    outputs, paths = ran(graph({**sides, "choose": node("Choose", first=True, a="@a", b="@b")}, out="choose"))
    assert outputs == {"out": 3}
    assert set(paths) == {"a", "choose"}
    with pytest.raises(NodeFailed, match="one too many"):
        ran(graph({**sides, "choose": node("Choose", first=False, a="@a", b="@b")}, out="choose"))


def test_a_lazy_input_is_computed_once_also_where_others_read_it_and_in_loops():
    nodes = {
        "slow": node("Sleep", value=5, seconds=0.05),
        "a": node("Add", a="@slow", b=2),
        "one": node("Choose", first=True, a="@a", b="@bad"),
        "two": node("Choose", first=True, a="@a", b="@bad"),
        "bad": node("Fails", value=1),
        "both": node("Add", a="@one", b=1),
    }
    outputs, paths = ran(graph(nodes, one="one", two="two", both="both"))
    assert outputs == {"one": 7, "two": 7, "both": 8}
    assert sorted(paths) == sorted({"slow", "a", "one", "both"})  # two is one's twin
    inside = {
        "bad": node("Fails", value="@$index"),
        "good": node("Add", a="@$index", b=3),
        "choose": node("Choose", first=True, a="@good", b="@bad"),
    }
    body = {"nodes": inside, "outputs": {"n": "choose"}}
    loop = {"type": "loop@1", "each": "numbers", "collect": ["n"], "body": body}
    outputs, _ = ran(graph({"numbers": node("repeat@1", times=3), "loop": loop}, n="loop"))
    assert list(outputs["n"]) == [3, 4, 5]


# loading


def test_a_class_that_cannot_be_had_is_said_and_the_others_load(cli):
    assert RUNTIME.registry.refused == {
        "toys/NeedsTheEngine@1": "Its hidden input prompt is DYNPROMPT, which only ComfyUI's own runtime has.",
        "toys/NoFunction@1": "It has no FUNCTION that names a method of it.",
    }
    (problem,) = RUNTIME.problems(graph({"x": node("NeedsTheEngine")}))
    assert "DYNPROMPT" in problem.hint
    code, out, err = cli("nodes", "--comfy-packs", PACKS)
    assert code == 0
    assert "toys/Grain@1" in out
    assert "toys/NoFunction@1 could not be loaded: It has no FUNCTION" in err


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import comfy.samplers", "imports parts of ComfyUI itself, which are not here: bad.py:1 comfy.samplers"),
        ("def f():\n    from folder_paths import x", "bad.py:2 folder_paths"),
        ("import no_such_library_of_anybody", "ModuleNotFoundError"),
        ("x = 1", "has no NODE_CLASS_MAPPINGS"),
        ("raise SystemExit", "SystemExit"),
        ("def broken(", "SyntaxError"),
    ],
)
def test_a_pack_that_cannot_be_had_is_refused_with_its_reason(code, said, tmp_path):
    (tmp_path / "bad.py").write_text(code)
    with pytest.raises(InvalidWorkflow) as refused:
        default_runtime([f"{COMFYUI}{tmp_path}"])
    assert said in str(refused.value)


def test_an_import_that_is_tried_is_no_reason(tmp_path):
    (tmp_path / "good.py").write_text(
        "try:\n    import comfy\nexcept ImportError:\n    comfy = None\nNODE_CLASS_MAPPINGS = {}"
    )
    default_runtime([f"{COMFYUI}{tmp_path}"])


def test_a_pack_folder_that_is_not_there_is_a_problem(cli):
    code, _, err = cli("nodes", "--comfy-packs", "nowhere")
    assert code == 2
    assert err == "--comfy-packs: There is no folder nowhere.\n"


def test_a_vae_is_used_by_its_public_methods():
    from kineograph.interop.comfyui.values import Codec, images_of

    vae, video = new_vae(channels=4, seed=1), world_clips(1, ["5x16x16:1"], seed=1)[0].video
    samples = Codec(vae).encode(images_of(video))
    assert samples.shape == (1, 4, 2, 2, 2)
    assert Codec(vae).decode(samples).shape == (5, 16, 16, 3)
    assert isinstance(video, Video)
