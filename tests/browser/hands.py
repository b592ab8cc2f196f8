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


def quick(**inputs: object) -> dict[str, Any]:
    """Text to video, as small as it gets."""
    return template("text_to_video", steps=2, frames=5, height=32, width=32, **inputs)


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
    page.wait_for_selector("dialog[open]", state="detached")


def select(page: Page, name: str) -> None:
    """Choose a node by its name, as Ctrl+F does."""
    page.keyboard.press("Control+f")
    page.wait_for_selector("dialog[open] [role=combobox]")
    page.keyboard.type(name)
    page.locator("[role=option]", has=page.locator(f".mono:text-is('{name}')")).click()
    page.wait_for_selector("dialog[open]", state="detached")


def command(page: Page, title: str) -> None:
    """A command by its name, from the palette."""
    choose(page, "Control+k", title)


def run(page: Page, state: str = "done", seconds: float = 90) -> str:
    """Press Run and wait for the end; the run's number."""
    before = page.locator(".card").count()
    page.keyboard.press("Control+Enter")
    until(page, "n => document.querySelectorAll('.card').length > n", before)
    card = page.locator(".card").first
    card.locator(f"xpath=self::*[contains(@class, '{state}')]").wait_for(timeout=seconds * 1000)
    return (card.get_attribute("aria-label") or "").split()[1].rstrip(",")


def wire(page: Page, name: str, text: str) -> None:
    """Wire a node by keyboard alone."""
    select(page, name)
    choose(page, "w", text)
