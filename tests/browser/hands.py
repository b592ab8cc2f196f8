"""What a person does in the editor, for its tests: drop a file, press keys, wait for a run. Judges nothing."""

import json
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

DROP = """([name, bytes]) => {
  const file = new File([new Uint8Array(bytes)], name);
  const transfer = new DataTransfer();
  transfer.items.add(file);
  const drop = {dataTransfer: transfer, bubbles: true, cancelable: true, clientX: 700, clientY: 300};
  document.querySelector('.app').dispatchEvent(new DragEvent('drop', drop));
}"""
ROOT = Path(__file__).parents[2]


def until(page: Page, expression: str, argument: object = None, seconds: float = 90) -> None:
    """Wait for a truth in the page. (Playwright's own waiting needs eval, which the page's CSP forbids.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, f"never true: {expression}"
        page.wait_for_timeout(40)


def document(page: Page) -> dict[str, Any]:
    """The workflow of the tab that is shown."""
    return page.evaluate("window.__doc()")


def drop(page: Page, name: str, content: bytes) -> None:
    """Let a file go over the canvas."""
    page.evaluate(DROP, [name, list(content)])


def drop_workflow(page: Page, workflow: dict[str, Any], name: str = "dropped") -> None:
    """Let a workflow go over the canvas, and wait until it is the one that is shown."""
    drop(page, f"{name}.json", json.dumps(workflow).encode())
    page.wait_for_selector(f"[role=tab]:has-text('{name}')")
    until(page, "n => Object.keys(window.__doc().nodes).length === n", len(workflow["nodes"]))


def template(name: str, **inputs: object) -> dict[str, Any]:
    """A workflow of the repository with other defaults."""
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    for key, value in inputs.items():
        workflow["inputs"][key]["default"] = value
    return workflow


def drop_loose_node(page: Page, name: str, **places: list[int]) -> None:
    """Noise, decoded, and beside them a node, roll, that could lie between; video and roll lie where it is said."""
    full = template("text_to_video")["nodes"]
    nodes = {
        "model": full["model"] | {"links": {}},
        "noise": full["noise"] | {"links": {"vae": "model.vae"}},
        "video": full["video"] | {"links": {"vae": "model.vae", "latent": "noise"}},
        "roll": {"type": "roll_latent@1"},
    }
    positions = {"model": [0, 0], "noise": [320, 60]} | places
    drop_workflow(page, {"format": 1, "nodes": nodes, "ui": {"positions": positions}}, name)


def quick(**inputs: object) -> dict[str, Any]:
    """Text to video, as small as it gets."""
    return template("text_to_video", steps=2, frames=5, height=32, width=32, **inputs)


def large(count: int = 2000) -> dict[str, Any]:
    """Short chains from a model to a file, ``count`` nodes in rows of fifty, wired and placed."""
    kinds = ("load_model@1", "encode_text@1", "latent_noise@1", "vae_decode@1", "save_video@1")
    nodes: dict[str, Any] = {f"n{i}": {"type": kinds[i % 5]} for i in range(count)}
    for i in range(0, count, 5):
        nodes[f"n{i + 1}"]["links"] = {"encoder": f"n{i}.text_encoder"}
        nodes[f"n{i + 2}"]["links"] = {"vae": f"n{i}.vae"}
        nodes[f"n{i + 3}"]["links"] = {"vae": f"n{i}.vae", "latent": f"n{i + 2}"}
        nodes[f"n{i + 4}"]["links"] = {"video": f"n{i + 3}"}
    places = {f"n{i}": [(i % 50) * 300, (i // 50) * 420] for i in range(count)}
    return {"format": 1, "nodes": nodes, "ui": {"positions": places}}


def curves() -> dict[str, Any]:
    """A loop that reports a number in each of eight passes, as training does."""
    record = {
        "type": "record_number@1",
        "params": {"every": 1, "name": "loss"},
        "links": {"value": "$index", "step": "$index"},
    }
    loop = {"type": "loop@1", "each": "sigmas", "body": {"nodes": {"record": record}, "outputs": {}}}
    sigmas = {"type": "shifted_sigmas@1", "params": {"steps": 8}}
    return {"format": 1, "nodes": {"sigmas": sigmas, "train": loop}, "outputs": {}}


def trains(steps: int) -> dict[str, Any]:
    """A quick clip, then a loop that reports a number and writes the clip in each pass, as training does samples."""
    workflow = quick(seed=4)
    written = workflow["nodes"].pop("file")
    body = {
        "record": {
            "type": "record_number@1",
            "params": {"every": 1, "name": "loss"},
            "links": {"value": "$index", "step": "$index"},
        },
        "path": {"type": "numbered_path@1", "params": {"path": "samples/clip.mp4"}, "links": {"step": "$index"}},
        "file": {"type": written["type"], "links": {"video": "$video", "path": "path"}},
    }
    workflow["nodes"]["passes"] = {"type": "shifted_sigmas@1", "params": {"steps": steps}}
    loop = {"type": "loop@1", "each": "passes", "links": {"video": "video"}, "body": {"nodes": body, "outputs": {}}}
    return workflow | {"nodes": workflow["nodes"] | {"train": loop}, "outputs": {}}


def key(page: Page, *keys: str) -> None:
    """Press keys one after another, wherever the focus is."""
    for one in keys:
        page.keyboard.press(one)


def choose(page: Page, keys: str, text: str) -> None:
    """Open a list by its key, type what is wanted, take the first."""
    page.keyboard.press(keys)
    page.wait_for_selector("dialog[open] [role=combobox]")
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    closed(page)


def closed(page: Page) -> None:
    """Wait until the list is gone and what was chosen, which waits for that, has been done."""
    page.wait_for_selector("dialog[open]", state="detached")
    page.evaluate("() => new Promise(done => setTimeout(done))")


def select(page: Page, name: str) -> None:
    """Choose a node by its name, as Ctrl+F does."""
    page.keyboard.press("Control+f")
    page.wait_for_selector("dialog[open] [role=combobox]")
    page.keyboard.type(name)
    page.locator("[role=option]", has=page.locator(f".mono:text-is('{name}')")).click()
    closed(page)


def command(page: Page, title: str) -> None:
    """A command by its name, from the palette."""
    choose(page, "Control+k", title)


def newest(page: Page) -> int:
    """The number of the server's newest run, which the page may not have been told of; 0 before the first."""
    jobs = page.request.get(f"{page.url}api/jobs?limit=1").json()["jobs"]
    return jobs[0]["number"] if jobs else 0


def run(page: Page, state: str = "done", seconds: float = 90, by: str = "") -> str:
    """Press Run (or call a command by its name) and wait for the end; the run's number."""
    before = newest(page)
    command(page, by) if by else key(page, "Control+Enter")
    while (number := newest(page)) == before:
        page.wait_for_timeout(20)
    page.locator(f".card.{state}[aria-label^='Run {number},']").wait_for(timeout=seconds * 1000)
    return str(number)


def wire(page: Page, name: str, text: str) -> None:
    """Wire a node by keyboard alone."""
    select(page, name)
    choose(page, "w", text)
