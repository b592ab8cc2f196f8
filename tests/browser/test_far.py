"""The far view in a real browser: nothing is an element there, and still it is chosen, framed and dragged."""

import pytest
from hands import document, drop_loose_node, drop_workflow, key, until
from playwright.sync_api import Page

AT = """id => { const [x, y] = window.__doc().ui.positions[id];
  const v = document.querySelector('.react-flow__viewport'), m = new DOMMatrix(v.style.transform);
  const r = document.querySelector('.react-flow').getBoundingClientRect();
  return [r.left + m.e + (x + 60) * m.a, r.top + m.f + (y + 20) * m.a]; }"""
CHOSEN = "[...window.__selection()].sort().join()"


@pytest.fixture
def far(page) -> Page:
    """Two hundred nodes, twenty in a row: more than fits near."""
    places = {f"n{i}": [(i % 20) * 300, (i // 20) * 300] for i in range(200)}
    nodes = {name: {"type": "load_model@1"} for name in places}
    drop_workflow(page, {"format": 1, "nodes": nodes, "ui": {"positions": places}}, "many")
    page.wait_for_selector("canvas.far")
    until(page, "document.querySelector('.react-flow__viewport').style.transform.includes('scale(0.1')")
    return page


def drag(page: Page, start: list[float], end: list[float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def test_click_and_shift_click_choose(far):
    far.mouse.click(*far.evaluate(AT, "n63"))
    assert far.evaluate(CHOSEN) == "n63"
    far.keyboard.down("Shift")
    far.mouse.click(*far.evaluate(AT, "n64"))
    assert far.evaluate(CHOSEN) == "n63,n64"
    far.mouse.click(*far.evaluate(AT, "n63"))
    far.keyboard.up("Shift")
    assert far.evaluate(CHOSEN) == "n64"


def test_a_frame_chooses_and_all_of_it_is_dragged(far):
    first, last = far.evaluate(AT, "n63"), far.evaluate(AT, "n85")
    far.keyboard.down("Shift")
    drag(far, [first[0] - 20, first[1] - 10], [last[0] + 40, last[1] + 25])
    far.keyboard.up("Shift")
    assert far.evaluate(CHOSEN) == "n63,n64,n65,n83,n84,n85"
    before = document(far)["ui"]["positions"]
    drag(far, first, [first[0] + 50, first[1] + 30])
    after = document(far)["ui"]["positions"]
    moved = {name: (after[name][0] - x, after[name][1] - y) for name, (x, y) in before.items() if after[name] != [x, y]}
    assert set(moved) == {"n63", "n64", "n65", "n83", "n84", "n85"}
    assert len(set(moved.values())) == 1, "all by the same"
    assert all(dx > 200 and dy > 100 for dx, dy in moved.values())
    assert far.evaluate(CHOSEN) == "n63,n64,n65,n83,n84,n85", "a drag chooses nothing else"
    far.locator(".canvas").focus()
    key(far, "Control+z")
    assert document(far)["ui"]["positions"] == before, "one step"


def test_beside_the_boxes_it_pans(far):
    view = "document.querySelector('.react-flow__viewport').style.transform"
    x, y = far.evaluate(AT, "n63")
    before, places = far.evaluate(view), document(far)["ui"]["positions"]
    drag(far, [x, y + 34], [x + 50, y + 84])
    assert far.evaluate(view) != before
    assert document(far)["ui"]["positions"] == places


def test_a_node_dropped_on_a_wire_lies_in_it(page):
    drop_loose_node(page, "wide", video=[5000, 60], roll=[2000, 1800])
    page.locator(".canvas").focus()
    key(page, ".")
    page.wait_for_selector("canvas.far")
    x, y = page.evaluate(AT, "roll")
    noise, video = page.evaluate(AT, "noise"), page.evaluate(AT, "video")
    drag(page, [x, y], [(noise[0] + video[0]) / 2, noise[1]])
    until(page, "window.__doc().nodes.video.links.latent === 'roll'")
    assert document(page)["nodes"]["roll"]["links"]["latent"] == "noise"
    key(page, "Control+z")
    assert document(page)["ui"]["positions"]["roll"] == [2000, 1800], "one step"
