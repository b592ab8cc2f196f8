"""What the editor costs the browser's main thread with a document of 2,000 nodes: the figures of docs/editor.md.

    python benchmarks/editor.py [--nodes 2000] [--profile pan_near_1]

Starts ``kineograph serve`` and Chromium. A frame is one move of the mouse or step of the wheel, handed over once the
page has taken the last; its cost is the CPU time of the page's main thread as the kernel counts it (Linux). Chromium's
own TaskDuration counts waiting for other processes too, also in the time domain threadTicks: twice as much on a busy
machine.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import log2
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "browser"))  # the hands and the server of the browser tests

from hands import drop_workflow, large  # noqa: E402  # pyright: ignore[reportMissingImports]  it is no package
from playwright.sync_api import Page, sync_playwright  # noqa: E402
from real import FLAGS, Served, chromium, opened  # noqa: E402  # pyright: ignore[reportMissingImports]

MIDDLE = (800, 400)
STEPS = 40
SETTLED_MS = 600
"""Longer than the canvas waits before it paints anew or draws nodes again."""
VIEW = "new DOMMatrix(document.querySelector('.react-flow__viewport').style.transform).a"


class Watched:
    """The page with its main thread's CPU counted."""

    def __init__(self, page: Page, profiled: str) -> None:
        self.page, self.profiled = page, profiled
        self.client = page.context.new_cdp_session(page)
        browser = page.context.browser
        assert browser is not None
        processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
        self.pages = [each["id"] for each in processes if each["type"] == "renderer"]  # a spare one too, which idles

    def cpu_ms(self) -> float:
        """CPU milliseconds of the main thread so far."""
        threads = [Path(f"/proc/{page}/task/{page}/schedstat").read_text() for page in self.pages]
        return sum(int(thread.split()[0]) for thread in threads) / 1e6

    def elements(self) -> int:
        """Elements in the page."""
        return self.page.evaluate("document.querySelectorAll('*').length")

    def move(self, dx: float, dy: float, steps: int) -> None:
        """Pan by dragging the empty canvas."""
        x, y = MIDDLE
        self.page.mouse.move(x, y)
        self.page.mouse.down(button="middle")
        for step in range(1, steps + 1):
            self.page.mouse.move(x + dx * step, y + dy * step)
        self.page.mouse.up(button="middle")

    def wheel(self, by: float, steps: int) -> None:
        """Zoom at the middle; ``by`` above 0 is nearer."""
        self.page.mouse.move(*MIDDLE)
        for _ in range(steps):
            self.page.mouse.wheel(0, -by)

    def zoom_to(self, zoom: float) -> None:
        """Come to about a zoom, and rest there."""
        while not zoom / 1.05 < (now := self.page.evaluate(VIEW)) < zoom * 1.05:
            self.wheel(max(-100.0, min(100.0, 500 * log2(zoom / now))), 1)  # d3-zoom: 2^(-0.002 * delta)
        self.page.wait_for_timeout(SETTLED_MS)

    def cost(self, name: str, act: Callable[[], Any], frames: int) -> float:
        """Main-thread CPU of an act, milliseconds a frame, what follows when the hand rests in it."""
        with self.profile(name == self.profiled):
            before = self.cpu_ms()
            act()
            self.page.wait_for_timeout(SETTLED_MS)
            spent = (self.cpu_ms() - before) / frames
        print(f"{name.replace('_', ' '):28} {spent:7.2f} ms a frame   zoom {self.page.evaluate(VIEW):.2f}", flush=True)
        return spent

    @contextmanager
    def profile(self, wanted: bool) -> Iterator[None]:
        """Print where the time went, by function, if that is wanted."""
        if not wanted:
            yield
            return
        self.client.send("Profiler.enable")
        self.client.send("Profiler.setSamplingInterval", {"interval": 200})
        self.client.send("Profiler.start")
        yield
        taken = self.client.send("Profiler.stop")["profile"]
        _print_profile(taken)


def _print_profile(taken: dict[str, Any], lines: int = 40) -> None:
    """Self time by function, the longest first, in milliseconds."""
    names = {node["id"]: node["callFrame"] for node in taken["nodes"]}
    spent: Counter[str] = Counter()
    for node, microseconds in zip(taken["samples"], taken["timeDeltas"], strict=True):
        frame = names[node]
        where = f"{frame['url'].rsplit('/', 1)[-1]}:{frame['lineNumber'] + 1}:{frame['columnNumber'] + 1}"
        spent[f"{frame['functionName'] or '(anonymous)'} {where}"] += microseconds
    for name, microseconds in spent.most_common(lines):
        print(f"    {microseconds / 1000:8.1f} ms  {name}")


def main() -> None:
    """Measure, and print a line for each figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=2000)
    parser.add_argument(
        "--profile", default="", metavar="NAME", help="print where the CPU of one line goes, as pan_near_1"
    )
    options = parser.parse_args()
    scripts = sorted((ROOT / "web" / "dist").rglob("*.js"))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        served = Served(Path(folder) / "data")
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            context = browser.new_context(viewport={"width": 1600, "height": 1000}, color_scheme="dark")
            asked: list[str] = []
            context.on("request", lambda request: asked.append(request.url))
            page = opened(context, served.url)
            measure(Watched(page, options.profile), options.nodes)
            for script in scripts:
                used = any(script.name in url for url in asked)
                size = len(gzip.compress(script.read_bytes(), 9)) / 1000
                print(f"{script.name:28} {size:7.1f} kB gzipped{'' if used else ', when it is opened'}")
        finally:
            browser.close()
            served.stop()


def measure(watched: Watched, count: int) -> None:
    """Open the document, then move about in it."""
    page = watched.page
    before = watched.cpu_ms()
    drop_workflow(page, large(count), "large")
    page.wait_for_selector("canvas.far")
    page.wait_for_timeout(1500)
    print(f"{'load':28} {watched.cpu_ms() - before:7.0f} ms, {watched.elements()} elements")
    for zoom in (1.0, 0.65):
        watched.zoom_to(zoom)
        there = f"pan_near_{zoom:g}"
        watched.cost(there, lambda: watched.move(-8, -5, STEPS), STEPS)
        print(f"{'':28} {watched.elements()} elements")
    steps = STEPS // 2
    watched.zoom_to(0.8)
    watched.cost("zoom_near", lambda: (watched.wheel(25, steps), watched.wheel(-25, steps)), 2 * steps)
    watched.zoom_to(1.0)
    watched.cost("near_to_far", lambda: watched.wheel(-50, steps), steps)
    watched.cost("far_to_near", lambda: watched.wheel(50, steps), steps)
    watched.cost("near_far_near", lambda: (watched.wheel(-50, steps), watched.wheel(50, steps)), 2 * steps)
    watched.zoom_to(0.2)
    watched.cost("pan_far", lambda: watched.move(-8, -5, STEPS), STEPS)
    watched.cost("zoom_far", lambda: (watched.wheel(-25, steps), watched.wheel(25, steps)), 2 * steps)


if __name__ == "__main__":
    main()
